"""Rows of an in-memory table kept without keeping the dropped ones' values in dictionaries."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ledger.errors import ShardError

Bools = npt.NDArray[np.bool_]


def keep(table: Any, mask: Any) -> Any:
    """The rows where mask (BooleanArray, no nulls) is True; same schema, dictionaries reduced to the entries still used.

    `Table.filter` alone would carry every dictionary entry along, those of dropped rows too. Raises as `require_separable`.
    """
    require_separable(table.schema)
    kept = table.filter(mask)
    columns = [_compact(column) if pa.types.is_dictionary(column.type) else column for column in kept.columns]
    return pa.Table.from_arrays(columns, schema=table.schema)


def require_separable(schema: Any) -> None:
    """Raises ShardError for a dictionary nested in another type: its rows cannot be had without the others' values."""
    for field in schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if _shares_values(kind):
            raise ShardError(
                f"column {field.name!r} is {field.type}, whose filtered values would still carry those of dropped rows",
                hint="cast it to its plain value type before filtering in memory, or filter the shard's file",
            )


def mask_of(allowed: Bools) -> Any:
    """A BooleanArray. Not by `pa.array`, which imports pandas where it is installed: a tenth of the time of a short reading."""
    return pa.BooleanArray.from_buffers(pa.bool_(), len(allowed), [None, pa.py_buffer(np.packbits(allowed, bitorder="little"))])


def _compact(column: Any) -> Any:
    return pa.chunked_array([_compact_chunk(chunk) for chunk in column.chunks], column.type)


def _compact_chunk(chunk: Any) -> Any:
    # Used entries keep their order: an ordered category stays ordered.
    used = np.sort(pc.unique(chunk.indices.drop_null()).to_numpy(zero_copy_only=False))
    place = np.zeros(len(chunk.dictionary), np.int64)
    place[used] = np.arange(len(used))
    indices = pa.array(place).take(chunk.indices).cast(chunk.type.index_type)
    return pa.DictionaryArray.from_arrays(indices, chunk.dictionary.take(pa.array(used, pa.int64())), ordered=chunk.type.ordered)


_SHARING = (
    pa.types.is_dictionary,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
    pa.types.is_string_view,
    pa.types.is_binary_view,
    pa.types.is_run_end_encoded,
)


def _shares_values(kind: Any) -> bool:
    """Whether arrays of this type point into values that a filter leaves whole."""
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if any(shares(kind) for shares in _SHARING):
        return True
    return any(_shares_values(kind.field(i).type) for i in range(kind.num_fields))
