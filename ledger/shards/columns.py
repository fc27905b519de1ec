"""Where a shard keeps its keys, and reading them: text stays text, integers become plain decimal text, nothing else is a key.

There are no implicit casts: a column of any other type is an error that names it and says what to do.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ledger import config
from ledger.errors import ShardError, UsageError
from ledger.snapshot import NONE

_UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": -1_000}
_DAY = 86_400_000_000

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of `rows` rows, ready to be decided.

    subjects: one text per (row, subject) pair, without nulls; row_of: the row of each pair, ascending (None: pair i is
    row i). missing: rows whose subject is null, empty, or a list that is empty or holds a null or an empty one.
    category, content: text, null where unknown; None where no column is mapped. created: microseconds, NONE
    where unknown; None where no column is mapped.
    """

    rows: int
    subjects: Any
    row_of: Ints | None
    missing: Bools
    category: Any
    content: Any
    created: Ints | None


@dataclass(frozen=True)
class Columns:
    """Which columns hold the keys. Names may be dotted paths into structs.

    subject: one column or several, of text, integers or lists of them; all of a row's subjects must allow it.
    category: a column, or a constant written `=post`. created: a timestamp, a date, or integers with created_unit
    (`s`, `ms`, `us`, `ns`). The prefixes keep two platforms' ids apart.
    """

    subject: str | Sequence[str]
    content: str | None = None
    category: str | None = None
    created: str | None = None
    created_unit: str | None = None
    subject_prefix: str = ""
    content_prefix: str = ""

    def __post_init__(self) -> None:
        subject = (self.subject,) if isinstance(self.subject, str) else tuple(self.subject)
        if not subject or not all(subject):
            raise UsageError(
                "no subject column is named", hint="name the column that holds the person's id, as in --subject user_id"
            )
        object.__setattr__(self, "subject", subject)
        for name in ("content", "category", "created"):
            if getattr(self, name) == "":  # statements and journals leave out what is empty: it would read as unmapped there
                raise UsageError(
                    f"the name of the {name} column is empty", hint=f"leave --{name} out where there is no such column"
                )
        if self.category == "=":
            raise UsageError("the constant category is empty", hint="write it as in --category =post")
        if self.created_unit is not None and self.created_unit not in _UNITS:
            raise UsageError(f"unit {self.created_unit!r:.20} is unknown", hint="units of integer times: " + ", ".join(_UNITS))

    @classmethod
    def load(cls, path: str | Path, name: str) -> Columns:
        """Those that a consent.toml has as `[columns.NAME]`. Raises UsageError."""
        return cls(**config.load(path).columns_of(name))

    @property
    def constant_category(self) -> str | None:
        return self.category[1:] if self.category is not None and self.category.startswith("=") else None

    def document(self) -> dict[str, Any]:
        """As statements carry it: absent, never null or empty."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items() if value}

    def of_subjects(self) -> Columns:
        """Those of the subjects alone."""
        return Columns(self.subject, subject_prefix=self.subject_prefix)

    def names(self) -> list[str]:
        """The mapped columns, constants left out."""
        named = [*self.subject, self.content, self.created, None if self.constant_category else self.category]
        return [name for name in named if name is not None]

    def check(self, schema: Any, categories: Sequence[str]) -> list[str]:
        """The top-level columns to read from a shard of this Arrow schema.

        categories: those that the purpose lists. Raises UsageError for a column that is missing, named twice, or of
        a type that cannot be a key.
        """
        if categories and self.category is None:
            raise UsageError(
                "the purpose lists categories, and no category column is mapped",
                hint="name it with --category COLUMN, or give all rows one with --category =NAME; listed: "
                + ", ".join(categories),
            )
        for name in self.subject:
            kind = _resolve(schema, name)
            _require_key(name, kind.value_type if _is_list(kind) else kind)
        if self.content is not None:
            _require_key(self.content, _resolve(schema, self.content))
        if self.category is not None and self.constant_category is None:
            _require_key(self.category, _resolve(schema, self.category), integers=False)
        if self.created is not None:
            self._require_time(self.created, _resolve(schema, self.created))
        return sorted({_top_level(schema, name) for name in self.names()})

    def _require_time(self, name: str, kind: Any) -> None:
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            return
        if not pa.types.is_integer(kind):
            raise UsageError(
                f"column {name!r} is {kind}, which is no time", hint="map a timestamp, a date, or integers with their unit"
            )
        if self.created_unit is None:
            raise UsageError(f"column {name!r} holds integers ({kind}): of what unit?", hint="say --created-unit s, ms, us or ns")

    def read(self, table: Any) -> Keys:
        """Keys of a table or record batch that holds the columns of `check`. Raises ShardError for text that is not UTF-8."""
        rows = table.num_rows
        parts = [_subjects(name, _column(table, name), rows) for name in self.subject]
        missing = np.logical_or.reduce([m for _, _, m in parts])
        subjects, row_of, _ = parts[0]
        if len(parts) > 1:
            places = np.concatenate([np.arange(rows) if r is None else r for _, r, _ in parts])
            order = np.argsort(places, kind="stable")
            subjects = pa.concat_arrays([s for s, _, _ in parts]).take(pa.array(order))
            row_of = places[order]
        if constant := self.constant_category:
            category = pa.repeat(pa.scalar(constant, pa.large_string()), rows)
        else:
            category = None if self.category is None else _known(_text(self.category, _column(table, self.category)))
        content = None if self.content is None else _known(_text(self.content, _column(table, self.content)))
        created = None if self.created is None else _micros(_column(table, self.created), self.created_unit)
        return Keys(
            rows,
            _prefixed(self.subject_prefix, subjects),
            row_of,
            missing,
            category,
            None if content is None else _prefixed(self.content_prefix, content),
            created,
        )


def _column(table: Any, path: str) -> Any:
    """The column at a name or a dotted path, as one array, wide."""
    name = _top_level(table.schema, path)
    column = table.column(name)
    children = [] if name == path else path[len(name) + 1 :].split(".")
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    # Widened first: together, chunks may hold more than 2 GiB of text, and the dictionaries of several need not fit one.
    parts = [_wide(functools.reduce(pc.struct_field, children, chunk)) for chunk in chunks or [pa.array([], column.type)]]
    return parts[0] if len(parts) == 1 else pa.concat_arrays(parts)


def _wide(array: Any) -> Any:
    """Text and lists of it without 32-bit offsets, views or dictionaries; anything else as it is."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _wide(array.dictionary).take(array.indices)
    if pa.types.is_string(kind) or pa.types.is_string_view(kind):
        return array.cast(pa.large_string())
    if pa.types.is_binary(kind) or pa.types.is_binary_view(kind):
        return array.cast(pa.large_binary())
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind) or pa.types.is_fixed_size_list(kind):
        # pyarrow's cast takes the views of a slice, or out of order, for lists one after the other.
        known, lengths = _lengths(array)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return pa.LargeListArray.from_arrays(pa.array(offsets), _wide(pc.list_flatten(array)), mask=pa.array(~known))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        item = kind.value_type.value_type if pa.types.is_dictionary(kind.value_type) else kind.value_type
        return array.cast(pa.large_list(pa.field("item", _wide(pa.array([], item)).type)))
    return array


def _top_level(schema: Any, path: str) -> str:
    if path in schema.names:
        return path
    return path.split(".")[0]


def _resolve(schema: Any, path: str) -> Any:
    """The Arrow type at a name or dotted path."""
    name = _top_level(schema, path)
    if schema.names.count(name) > 1:
        raise UsageError(f"column {name!r} stands in the shard {schema.names.count(name)} times: which one is meant is unknown")
    hint = "its columns: " + ", ".join(map(repr, schema.names[:40]))
    if name not in schema.names:
        raise UsageError(f"the shard has no column {path!r}", hint=hint)
    kind = schema.field(name).type
    for child in [] if name == path else path[len(name) + 1 :].split("."):
        if not pa.types.is_struct(kind) or len(kind.get_all_field_indices(child)) != 1:
            raise UsageError(f"the shard has no column {path!r}", hint=hint)
        kind = kind.field(child).type
    return kind


def _is_list(kind: Any) -> bool:
    return any(is_kind(kind) for is_kind in _LISTS)


_LISTS = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
    pa.types.is_fixed_size_list,
)


_TEXT = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
)


def _is_text(kind: Any) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(is_kind(value) for is_kind in _TEXT)


def _is_whole_number(kind: Any) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_integer(value) or (pa.types.is_decimal(value) and value.scale == 0))


def _require_key(name: str, kind: Any, *, integers: bool = True) -> None:
    if _is_text(kind) or (integers and _is_whole_number(kind)):
        return
    raise UsageError(
        f"column {name!r} is {kind}, which cannot be a key",
        hint="keys are text, or integers and decimals of scale 0; write the ids as text, exactly as the ledger knows them",
    )


def _text(name: str, column: Any) -> Any:
    """large_string, nulls kept. Raises ShardError for bytes that are not UTF-8."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_decimal(column.type) or pa.types.is_integer(column.type):
        column = column.cast(pa.string())
    try:
        if pa.types.is_binary_view(column.type):
            column = column.cast(pa.large_binary())
        text = column.cast(pa.large_string())
        text.validate(full=not _is_ascii(text))
    except pa.ArrowInvalid as error:
        raise ShardError(f"column {name!r} holds bytes that are not UTF-8", hint="ids are UTF-8 text") from error
    return text


def _is_ascii(text: Any) -> bool:
    """Whether all of it is, and so is UTF-8 wherever it is cut: a tenth of the time that it takes to look at each value."""
    _, ends, content = text.buffers()
    if content is None or not len(text):
        return False
    ends = np.frombuffer(ends, np.int64)[text.offset : text.offset + len(text) + 1]
    if not 0 <= ends[0] <= ends[-1] <= content.size or (ends[1:] < ends[:-1]).any():
        return False
    return bool(np.frombuffer(content, np.uint8)[ends[0] : ends[-1]].max(initial=0) < 128)


def _known(text: Any) -> Any:
    """An empty value is as unknown as a null."""
    if pc.min(pc.binary_length(text)).as_py() != 0:
        return text
    return pc.if_else(pc.equal(pc.binary_length(text), 0), pa.scalar(None, text.type), text)


def _prefixed(prefix: str, text: Any) -> Any:
    return pc.binary_join_element_wise(pa.scalar(prefix, text.type), text, pa.scalar("", text.type)) if prefix else text


def _lengths(lists: Any) -> tuple[Bools, Ints]:
    """Which lists are there, and how many values each has: none where it is null, whatever lies beneath."""
    known = lists.is_valid().to_numpy(zero_copy_only=False)
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return known, np.where(known, lengths, 0)


def _subjects(name: str, column: Any, rows: int) -> tuple[Any, Ints | None, Bools]:
    row_of = None
    missing = np.zeros(rows, bool)
    if _is_list(column.type):
        # By length and validity: list_parent_indices counts what lies beneath a null list, list_flatten does not.
        _, lengths = _lengths(column)
        row_of = np.repeat(np.arange(rows), lengths)
        missing = lengths == 0
        column = pc.list_flatten(column)
        if len(column) != len(row_of):
            raise ShardError(f"column {name!r} holds {len(column)} values where its lists have {len(row_of)}")
    text = _known(_text(name, column))
    if text.null_count:
        unknown = text.is_null().to_numpy(zero_copy_only=False)
        missing[np.nonzero(unknown)[0] if row_of is None else row_of[unknown]] = True
        text = pc.fill_null(text, "")
    return text, row_of, missing


def _micros(column: Any, unit: str | None) -> Ints:
    """Microseconds since 1970, rounded down, so that nothing looks newer than it is. Out of range is unknown."""
    kind = column.type
    known = column.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_timestamp(kind):
        scale = _UNITS[kind.unit]
    elif pa.types.is_date32(kind):
        scale = _DAY
    elif pa.types.is_date64(kind):
        scale = _UNITS["ms"]
    else:
        assert unit is not None, "checked with the schema"
        scale = _UNITS[unit]
    if pa.types.is_uint64(kind):
        known &= pc.fill_null(pc.less_equal(column, pa.scalar(2**63 - 1, kind)), False).to_numpy(zero_copy_only=False)
        column = pc.if_else(pa.array(known), column, pa.scalar(0, kind))
    if pa.types.is_date32(kind):
        column = column.cast(pa.int32())
    values = pc.fill_null(column.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    if scale < 0:
        micros = values // -scale
    else:
        known &= np.abs(values.astype(np.float64)) < 9.2e18 / scale
        micros = np.where(known, values, 0) * scale
    return np.where(known, micros, NONE)
