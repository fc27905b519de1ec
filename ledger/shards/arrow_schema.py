"""Metadata inside `ARROW:schema`: the entry in which Arrow's writers keep their own schema, base64 of an IPC message.

It repeats the file's key-values (parquet-rs writes them nowhere else), and its fields, at any depth, have metadata of their own.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Collection, Iterator
from typing import Any, Final

import pyarrow as pa

from ledger.errors import ShardError

KEY: Final = b"ARROW:schema"
_HINT: Final = "drop ARROW:schema as well"
_LISTS: Final = (
    (pa.types.is_list, pa.list_),
    (pa.types.is_large_list, pa.large_list),
    (pa.types.is_list_view, pa.list_view),
    (pa.types.is_large_list_view, pa.large_list_view),
)


class Unsupported(ShardError):
    """A schema that is whole, with a type that pyarrow does not have."""


def metadata_of(schema: bytes) -> list[tuple[bytes, bytes]]:
    """Every entry of the schema and of its fields. Raises ShardError where it cannot be read."""
    with _reading():
        arrow = _decoded(schema)
        return [*(arrow.metadata or {}).items(), *(entry for field in arrow for entry in _entries(field))]


def without_metadata(schema: bytes, keys: Collection[bytes]) -> bytes:
    """The same schema without the entries of these keys. Raises ShardError where it cannot be made."""
    with _reading():
        arrow = _decoded(schema)
        fields = [_without(field, keys) for field in arrow]
        made = pa.schema(fields, {key: value for key, value in (arrow.metadata or {}).items() if key not in keys} or None)
        if not made.equals(arrow) or any(key in keys for field in made for key, _ in _entries(field)):
            raise ShardError("its Arrow schema cannot be written without that metadata", hint=_HINT)
        return base64.b64encode(made.serialize())


def _decoded(schema: bytes) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(schema)))


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except pa.ArrowNotImplementedError as error:
        raise Unsupported(f"its Arrow schema cannot be read: {error}", hint=_HINT) from error
    except (ValueError, OSError, pa.ArrowException) as error:
        raise ShardError(f"its Arrow schema cannot be read: {error}", hint=_HINT) from error


def _entries(field: pa.Field) -> Iterator[tuple[bytes, bytes]]:
    yield from (field.metadata or {}).items()
    kind = field.type.storage_type if isinstance(field.type, pa.BaseExtensionType) else field.type
    for number in range(kind.num_fields):
        yield from _entries(kind.field(number))


def _without(field: pa.Field, keys: Collection[bytes]) -> pa.Field:
    kept = {key: value for key, value in (field.metadata or {}).items() if key not in keys}
    return pa.field(field.name, _kind_without(field.type, keys), field.nullable, kept or None)


def _kind_without(kind: Any, keys: Collection[bytes]) -> Any:
    for is_kind, list_of in _LISTS:
        if is_kind(kind):
            return list_of(_without(kind.value_field, keys))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_without(kind.value_field, keys), kind.list_size)
    if pa.types.is_struct(kind):
        return pa.struct([_without(field, keys) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_without(kind.key_field, keys), _without(kind.item_field, keys), kind.keys_sorted)
    return kind
