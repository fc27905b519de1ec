"""A Parquet file's footer: read as it stands, checked, and carried over to another file byte for byte.

The footer is the Thrift struct FileMetaData of apache/parquet-format, parquet.thrift. What is carried (schema elements, key-value
metadata, column orders) stays the bytes that the file holds, never decoded and encoded again. Everything in it is hostile:
sizes are bounded, and ShardError is what comes out.

Two schemas fit the same data pages when their leaves, one by one, have the same physical type and length and the same optional
and repeated ancestors in the same order: these alone make the definition and repetition levels. Names, required groups and
annotations leave no trace in a page. So a shard can be read by a bare schema (`Footer.bare`) that gives values no meaning
beyond their bits, be written with whatever schema results, and get its own schema back (`graft`) once that condition holds.
INT96 is read as twelve bytes, which is how its pages hold it: no calendar touches it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO, Final

from ledger.errors import ShardError
from ledger.shards import arrow_schema
from ledger.shards.thrift import BINARY, FALSE, I16, I32, I64, LIST, STOP, STRUCT, TRUE, Items, Malformed, Reader, Struct, Writer

_MAGIC: Final = b"PAR1"
_ENCRYPTED_MAGIC: Final = b"PARE"
_TRAILER: Final = 8  # length of the footer, magic
_MAX_FOOTER: Final = 100_000_000  # bytes; pyarrow's own bound
_MAX_SCHEMA_DEPTH: Final = 100
_ENCRYPTED_HINT: Final = "the ledger reads plain Parquet only: decrypt it first"

# FileMetaData
_SCHEMA, _ROWS, _ROW_GROUPS, _KEY_VALUES, _COLUMN_ORDERS, _ENCRYPTION = 2, 3, 4, 5, 7, 8
_CARRIED: Final = (_SCHEMA, _KEY_VALUES, _COLUMN_ORDERS)
# SchemaElement
_TYPE, _LENGTH, _REPETITION, _NAME, _CHILDREN, _CONVERTED, _LOGICAL = 1, 2, 3, 4, 5, 6, 10
# RowGroup
_CHUNKS, _GROUP_ROWS = 1, 3
# ColumnChunk
_FILE_PATH, _METADATA, _OFFSET_INDEX, _CRYPTO, _ENCRYPTED_METADATA = 1, 3, 4, 8, 9
# ColumnMetaData
_CHUNK_TYPE, _ENCODINGS, _PATH, _CODEC, _VALUES, _ENCODING_STATS = 1, 2, 3, 4, 5, 13
# PageEncodingStats, KeyValue
_PAGE_TYPE, _PAGE_ENCODING = 1, 2
_KEY, _VALUE = 1, 2

TYPES: Final = ("BOOLEAN", "INT32", "INT64", "INT96", "FLOAT", "DOUBLE", "BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")
_INT32, _INT64, _INT96, _BYTE_ARRAY, _FIXED = 1, 2, 3, 6, 7
_INT96_BYTES: Final = 12
_REQUIRED, _REPEATED = 0, 2
_DATA_PAGES: Final = (0, 3)
_DICTIONARY_ENCODINGS: Final = (2, 8)
# ConvertedType. Known: UTF8 to BSON; not INTERVAL, which has no order, nor what may come later.
_C_DECIMAL, _C_UINT_32, _C_UINT_64 = 5, 13, 14
_C_UNSIGNED: Final = range(11, 15)
_C_INTEGERS: Final = range(11, 19)
_C_KNOWN: Final = range(21)
# LogicalType. Known: STRING ENUM DECIMAL DATE TIME TIMESTAMP INTEGER UNKNOWN JSON BSON UUID; not FLOAT16, VARIANT, GEOMETRY
# and GEOGRAPHY.
_L_DECIMAL, _L_INTEGER = 5, 10
_L_KNOWN: Final = frozenset((1, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14))
_LOGICAL_TYPES: Final = {
    1: "STRING", 2: "MAP", 3: "LIST", 4: "ENUM", 5: "DECIMAL", 6: "DATE", 7: "TIME", 8: "TIMESTAMP", 10: "INTEGER", 11: "UNKNOWN",
    12: "JSON", 13: "BSON", 14: "UUID", 15: "FLOAT16", 16: "VARIANT", 17: "GEOMETRY", 18: "GEOGRAPHY"}  # fmt: skip
_CONVERTED_TYPES: Final = (
    "UTF8", "MAP", "MAP_KEY_VALUE", "LIST", "ENUM", "DECIMAL", "DATE", "TIME_MILLIS", "TIME_MICROS", "TIMESTAMP_MILLIS",
    "TIMESTAMP_MICROS", "UINT_8", "UINT_16", "UINT_32", "UINT_64", "INT_8", "INT_16", "INT_32", "INT_64", "JSON", "BSON",
    "INTERVAL")  # fmt: skip
_IS_SIGNED: Final = 2  # of IntType
_TYPE_ORDER: Final = 1  # of ColumnOrder

Fields = dict[int, tuple[int, bytes]]
"""Of a struct: number to Thrift type and the value's bytes as they stand."""


@dataclass(frozen=True)
class Leaf:
    """A column of values.

    names: from the top. type: an index in TYPES. length: of a FIXED_LEN_BYTE_ARRAY, else 0. levels: repetition types from the
    top, without the required ones. bits_order: whether the values sort as their bits do (numbers signed or unsigned, strings
    of unsigned bytes), so that statistics are true which were made without knowing what the values mean. meaning: the name
    of its logical type, empty where it has none.
    """

    names: tuple[bytes, ...]
    type: int
    length: int
    levels: tuple[int, ...]
    unsigned: bool
    bits_order: bool
    meaning: str

    @property
    def pages(self) -> tuple[int, int, tuple[int, ...]]:
        """What its pages are made by: equal for two leaves, their pages are exchangeable."""
        if self.type == _INT96:
            return _FIXED, _INT96_BYTES, self.levels
        return self.type, self.length, self.levels

    def __str__(self) -> str:
        meaning = f" ({self.meaning})" if self.meaning else ""
        return f"column {b'.'.join(self.names).decode(errors='backslashreplace')!r} of type {TYPES[self.type]}{meaning}"


@dataclass(frozen=True)
class Footer:
    """What a footer says.

    fields: those of FileMetaData. elements: the schema with its root, depth first. rows: of each row group. codecs: of each
    leaf, as parquet.thrift numbers them, the first row group's first, without repeats; empty where there is no row group.
    encodings: of each leaf, of all row groups. dictionary: of each leaf, whether all its data pages are dictionary coded.
    page_index: whether there is any.
    """

    fields: Fields
    elements: tuple[Struct, ...]
    leaves: tuple[Leaf, ...]
    rows: tuple[int, ...]
    codecs: tuple[tuple[int, ...], ...]
    encodings: tuple[frozenset[int], ...]
    dictionary: tuple[bool, ...]
    page_index: bool
    key_values: tuple[tuple[bytes, bytes], ...]

    @cached_property
    def metadata(self) -> list[tuple[bytes, bytes]]:
        """The key-values, and those in the Arrow schema, unless it has a type unknown here. Raises ShardError for damage."""
        found = list(self.key_values)
        for key, value in self.key_values:
            if key == arrow_schema.KEY:
                with contextlib.suppress(arrow_schema.Unsupported):
                    found += arrow_schema.metadata_of(value)
        return found

    def bare(self, known: Collection[str] = ()) -> bytes:
        """A Parquet file without data whose footer describes this one's pages, as bits alone.

        Each element is named by its number, which is unique and has no dot. Unsigned integers stay unsigned, so that their
        statistics will be; nothing else keeps its meaning, and there is no key-value metadata. known: top-level columns that
        stay as they are described, whatever stands beside them; the others' names are then longer than any of theirs.
        Integers among them are as wide as they are stored: 300 that calls itself an 8-bit integer is not read as 44.
        """
        names = {name.encode() for name in known}
        kept = {number for number, top in enumerate(self._tops) if number and self.elements[top][_NAME][1] in names}
        prefix = b"0" * max(map(len, names), default=0)
        leaves = iter(self.leaves)
        elements, changed = [], []
        for number, element in enumerate(self.elements):
            leaf = next(leaves) if _is_leaf(element) else None
            if number in kept:
                elements.append(element if leaf is None else _as_wide_as_stored(element, leaf))
                changed += [False] * (leaf is not None)
                continue
            bare: Struct = {_NAME: (BINARY, b"%s%d" % (prefix, number))}
            if number:
                bare[_REPETITION] = element[_REPETITION]
            if leaf is None:
                bare[_CHILDREN] = element.get(_CHILDREN, (I32, 0))
            else:
                changed.append(leaf.type == _INT96)
                kind, length, _ = leaf.pages
                bare |= {_TYPE: (I32, kind), _LENGTH: (I32, length)}
                if leaf.unsigned:
                    bare[_CONVERTED] = I32, _C_UINT_32 if kind == _INT32 else _C_UINT_64
            elements.append(dict(sorted(bare.items())))
        fields = self.fields | {_SCHEMA: _encoded(Items(STRUCT, elements))}
        if any(changed):
            groups = _decoded(fields[_ROW_GROUPS])
            for (leaf, chunk), change in zip(self._chunks(groups), itertools.cycle(changed), strict=False):
                if change:
                    chunk[_CHUNK_TYPE] = I32, leaf.pages[0]
            fields[_ROW_GROUPS] = _encoded(groups)
        return _file({number: value for number, value in fields.items() if number not in (_KEY_VALUES, _COLUMN_ORDERS)})

    def groups(self) -> list[Struct]:
        """Its row groups, decoded at each call: they are many times as large as they stand."""
        groups: list[Struct] = _decoded(self.fields[_ROW_GROUPS]).values
        return groups

    def columns(self) -> Iterator[tuple[str, bytes]]:
        """Name of each top-level column, and a Parquet file without rows that has it alone."""
        for number, group in itertools.groupby(range(1, len(self.elements)), self._tops.__getitem__):
            elements = [self.elements[0] | {_CHILDREN: (I32, 1)}, *(self.elements[member] for member in group)]
            schema = {_SCHEMA: _encoded(Items(STRUCT, elements)), _ROW_GROUPS: _encoded(Items(STRUCT, []))}
            yield (
                self.elements[number][_NAME][1].decode(errors="backslashreplace"),
                _file({1: self.fields[1], _ROWS: (I64, bytes(1))} | schema),
            )

    @cached_property
    def _tops(self) -> tuple[int, ...]:
        """Of each element, the top-level one that it is or is beneath."""
        tops, left = [0], 0
        for number, element in enumerate(self.elements[1:], 1):
            tops.append(tops[-1] if left else number)
            left += element.get(_CHILDREN, (I32, 0))[1] - (1 if left else 0)
        return tuple(tops)

    def graft(self, tail: bytes, carried: Fields) -> bytes:
        """What is to stand after the row groups of a file that was read by `bare`: the writer's `tail` with the carried fields.

        Raises ShardError where the written schema does not fit this one's pages.
        """
        body, trailer = tail[:-_TRAILER], tail[-_TRAILER:]
        start = len(body) - int.from_bytes(trailer[:4], "little")
        written = parse(body[start:])
        self.require_fit(written)
        groups = _decoded(written.fields[_ROW_GROUPS])
        for leaf, chunk in self._chunks(groups):
            chunk[_CHUNK_TYPE] = I32, leaf.type
            chunk[_PATH] = LIST, Items(BINARY, list(leaf.names))
        own = {number: value for number, value in written.fields.items() if number not in _CARRIED}
        return body[:start] + _sealed(own | {_ROW_GROUPS: _encoded(groups)} | carried)

    def carried(self, drop_metadata: Collection[str] = ()) -> Fields:
        """The schema, key-values and column orders that an output must have, as bytes; it must have none that is absent here.

        drop_metadata: keys to leave out, also where the Arrow schema repeats them.
        """
        fields = {number: self.fields[number] for number in _CARRIED if number in self.fields}
        dropped = {key.encode() for key in drop_metadata}
        if dropped and _KEY_VALUES in fields:
            entries = _decoded(fields[_KEY_VALUES])
            kept = [entry for entry in entries.values if entry[_KEY][1] not in dropped]
            for entry in kept:
                if entry[_KEY][1] == arrow_schema.KEY and _VALUE in entry:
                    entry[_VALUE] = BINARY, arrow_schema.without_metadata(entry[_VALUE][1], dropped)
            fields[_KEY_VALUES] = _encoded(Items(STRUCT, kept))
        return fields

    def require_fit(self, other: Footer) -> None:
        """Raises ShardError, naming the column, where pages of the other file's leaves are not pages of this one's."""
        for mine, its in itertools.zip_longest(self.leaves, other.leaves):
            if mine is None or its is None or mine.pages != its.pages:
                raise ShardError(f"{mine or 'its schema'} cannot be written as it stands")

    def _chunks(self, groups: Items) -> Iterator[tuple[Leaf, Struct]]:
        for group in groups.values:
            for leaf, chunk in zip(self.leaves, group[_CHUNKS][1].values, strict=True):
                yield leaf, chunk[_METADATA][1]


def read(file: BinaryIO) -> Footer:
    """The footer of an open file. Raises ShardError where it is none, damaged, encrypted or speaks of other files; OSError."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(len(_MAGIC))
    file.seek(max(0, size - _TRAILER))
    trailer = file.read(_TRAILER)
    if _ENCRYPTED_MAGIC in (head, trailer[4:]):
        raise ShardError("it is encrypted", hint=_ENCRYPTED_HINT)
    if head != _MAGIC or trailer[4:] != _MAGIC:
        raise ShardError("it is not a Parquet file, or was cut short")
    length = int.from_bytes(trailer[:4], "little")
    if length > min(size - len(_MAGIC) - _TRAILER, _MAX_FOOTER):
        raise ShardError(f"it is damaged: a footer of {length:,} bytes cannot be")
    file.seek(size - _TRAILER - length)
    return parse(file.read(length))


def parse(data: bytes) -> Footer:
    """What the bytes of a FileMetaData say. Raises ShardError."""
    try:
        return _parse(data)
    except Malformed as error:
        raise ShardError(f"its footer is damaged: {error}") from error


def _parse(data: bytes) -> Footer:
    reader = Reader(data)
    fields: Fields = {}
    chunks = _Chunks()
    values: Struct = {}
    for number, kind in reader.fields():
        if number in fields:
            raise Malformed(f"field {number} occurs twice")
        start = reader.at
        if number == _ROW_GROUPS:
            # One by one, and forgotten at once: decoded, they would be many times as large as they stand.
            of, size = reader.items()
            for _ in range(size):
                if (kind, of) != (LIST, STRUCT):
                    raise Malformed("its row groups are none")
                reader.renew()
                chunks.add(reader.struct())
            reader.renew()
        elif kind > FALSE:
            values[number] = kind, reader.value(kind)
        fields[number] = kind, data[start : reader.at]
    if _ENCRYPTION in fields:
        raise ShardError("it is encrypted", hint=_ENCRYPTED_HINT)
    elements = tuple(_structs(values, _SCHEMA))
    leaves = _leaves(elements, [order.keys() for order in _structs(values, _COLUMN_ORDERS)] if _COLUMN_ORDERS in values else None)
    chunks.check(leaves)
    if _take(values, _ROWS, I16, I32, I64) != sum(chunks.rows):
        raise Malformed("its row groups do not hold as many rows as it says")
    entries = _structs(values, _KEY_VALUES) if _KEY_VALUES in values else []
    return Footer(
        fields=fields,
        elements=elements,
        leaves=leaves,
        rows=tuple(chunks.rows),
        codecs=tuple(tuple(codecs) for codecs in chunks.codecs) or ((),) * len(leaves),
        encodings=tuple(frozenset(encodings) for encodings in chunks.encodings) or (frozenset(),) * len(leaves),
        dictionary=tuple(coded == {True} for coded in chunks.coded) or (False,) * len(leaves),
        page_index=chunks.page_index,
        key_values=tuple((_take(entry, _KEY, BINARY), _take(entry, _VALUE, BINARY, default=b"")) for entry in entries),
    )


class _Chunks:
    """What is to be known of the column chunks, gathered from row group after row group."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.page_index = False
        self.codecs: list[dict[int, None]] = []
        self.encodings: list[set[int]] = []
        self.coded: list[set[bool]] = []
        self._encrypted: set[int] = set()

    def add(self, group: Struct) -> None:
        self.rows.append(_take(group, _GROUP_ROWS, I16, I32, I64))
        chunks = _structs(group, _CHUNKS)
        if len(self.rows) == 1:
            self.codecs, self.encodings, self.coded = [{} for _ in chunks], [set() for _ in chunks], [set() for _ in chunks]
        if len(chunks) != len(self.coded) or self.rows[-1] < 0:
            raise Malformed("its row groups differ in their columns, or count no rows")
        for number, chunk in enumerate(chunks):
            if _CRYPTO in chunk or _ENCRYPTED_METADATA in chunk:
                self._encrypted.add(number)
                continue
            if _FILE_PATH in chunk:
                raise ShardError(
                    "its data lies in other files: it is an index of shards, not one", hint="name the shards themselves"
                )
            self.page_index |= _OFFSET_INDEX in chunk
            metadata = _take(chunk, _METADATA, STRUCT)
            self.codecs[number][_take(metadata, _CODEC, I32)] = None
            self.encodings[number].update(_numbers(metadata, _ENCODINGS))
            if _take(metadata, _VALUES, I64):
                self.coded[number].add(_dictionary_coded(metadata))

    def check(self, leaves: tuple[Leaf, ...]) -> None:
        """Raises where the row groups are not of the schema, or hold what is encrypted."""
        if self.rows and len(self.coded) != len(leaves):
            raise Malformed("its row groups have not the columns of its schema")
        if self._encrypted:
            raise ShardError(f"{leaves[min(self._encrypted)]} is encrypted", hint=_ENCRYPTED_HINT)


def _dictionary_coded(metadata: Struct) -> bool:
    if _ENCODING_STATS in metadata:
        pages = [page for page in _structs(metadata, _ENCODING_STATS) if _take(page, _PAGE_TYPE, I32) in _DATA_PAGES]
        return all(_take(page, _PAGE_ENCODING, I32) in _DICTIONARY_ENCODINGS for page in pages)
    # Without these counts the encodings do not tell the pages' from the dictionary's own: then it is likely.
    return any(encoding in _DICTIONARY_ENCODINGS for encoding in _numbers(metadata, _ENCODINGS))


def _leaves(elements: tuple[Struct, ...], orders: list[Any] | None) -> tuple[Leaf, ...]:
    """The schema's leaves; it is a tree, written depth first, of which each group says how many children follow."""
    leaves: list[Leaf] = []
    # Of each group that is still open, from the root: how many children are to come, its names, its levels.
    open_groups: list[tuple[int, tuple[bytes, ...], tuple[int, ...]]] = []
    for number, element in enumerate(elements):
        name = _take(element, _NAME, BINARY)
        if number == 0:
            open_groups.append((_take(element, _CHILDREN, I32, default=0), (), ()))
        else:
            while open_groups and not open_groups[-1][0]:
                open_groups.pop()
            if not open_groups or len(open_groups) > _MAX_SCHEMA_DEPTH:
                raise Malformed("its schema is no tree, or too deep")
            left, above, levels = open_groups.pop()
            open_groups.append((left - 1, above, levels))
            repetition = _take(element, _REPETITION, I32)
            if not _REQUIRED <= repetition <= _REPEATED:
                raise Malformed(f"there is no repetition {repetition}")
            names = (*above, name)
            levels = levels if repetition == _REQUIRED else (*levels, repetition)
            if _is_leaf(element):
                order = orders is None or (len(leaves) < len(orders) and _TYPE_ORDER in orders[len(leaves)])
                leaves.append(_leaf(element, names, levels, order))
            else:
                children = _take(element, _CHILDREN, I32, default=0)
                if children <= 0:
                    raise ShardError(f"column {names[0].decode(errors='backslashreplace')!r} holds a group without fields")
                open_groups.append((children, names, levels))
    if not elements or any(left for left, _, _ in open_groups):
        raise Malformed("its schema is cut short")
    return tuple(leaves)


def _leaf(element: Struct, names: tuple[bytes, ...], levels: tuple[int, ...], type_order: bool) -> Leaf:
    kind = _take(element, _TYPE, I32)
    length = _take(element, _LENGTH, I32, default=0) if kind == _FIXED else 0
    if not 0 <= kind < len(TYPES) or length < 0:
        raise Malformed(f"there is no type {kind} of length {length}")
    converted = _take(element, _CONVERTED, I32, default=None)
    logical = _take(element, _LOGICAL, STRUCT, default={})
    known = (converted is None or converted in _C_KNOWN) and logical.keys() <= _L_KNOWN
    decimal = converted == _C_DECIMAL or _L_DECIMAL in logical
    signed = _take(_take(logical, _L_INTEGER, STRUCT, default={}), _IS_SIGNED, TRUE, FALSE, default=True)
    return Leaf(
        names=names,
        type=kind,
        length=length,
        levels=levels,
        unsigned=kind in (_INT32, _INT64) and (converted in _C_UNSIGNED or not signed),
        bits_order=type_order and known and kind != _INT96 and not (decimal and kind in (_BYTE_ARRAY, _FIXED)),
        meaning=_meaning(converted, logical),
    )


def _meaning(converted: int | None, logical: Struct) -> str:
    for number in logical:
        return _LOGICAL_TYPES.get(number, f"logical type {number}")
    return "" if converted is None else dict(enumerate(_CONVERTED_TYPES)).get(converted, f"converted type {converted}")


def _as_wide_as_stored(element: Struct, leaf: Leaf) -> Struct:
    """An integer without its bit width; anything else as it is."""
    if _take(element, _CONVERTED, I32, default=None) not in _C_INTEGERS and _L_INTEGER not in element.get(_LOGICAL, (0, {}))[1]:
        return element
    wide = {number: value for number, value in element.items() if number not in (_CONVERTED, _LOGICAL)}
    if leaf.unsigned:
        wide[_CONVERTED] = I32, _C_UINT_32 if leaf.type == _INT32 else _C_UINT_64
    return dict(sorted(wide.items()))


def _is_leaf(element: Struct) -> bool:
    children: int = _take(element, _CHILDREN, I32, default=0)
    if _TYPE in element and children:
        raise Malformed("a column of its schema has both values and children")
    return _TYPE in element


def _take(fields: Struct, number: int, *kinds: int, default: Any = ...) -> Any:
    """The value of a field that is to be of one of these Thrift types. Without a default it must be there."""
    kind, value = fields.get(number, (None, default))
    if value is ... or (kind is not None and kind not in kinds):
        raise Malformed(f"field {number} is absent or of another type")
    return value


def _structs(fields: Struct, number: int) -> list[Struct]:
    items: Items = _take(fields, number, LIST)
    if items.values and items.kind != STRUCT:
        raise Malformed(f"field {number} is no list of structs")
    return items.values


def _numbers(fields: Struct, number: int) -> list[int]:
    items: Items = _take(fields, number, LIST)
    if items.values and items.kind not in (I16, I32, I64):
        raise Malformed(f"field {number} is no list of numbers")
    return items.values


def _decoded(field: tuple[int, bytes]) -> Items:
    items: Items = Reader(field[1]).value(field[0])
    return items


def _encoded(items: Items) -> tuple[int, bytes]:
    writer = Writer()
    writer.value(LIST, items)
    return LIST, bytes(writer.data)


def _file(fields: Fields) -> bytes:
    return _MAGIC + _sealed(fields)


def _sealed(fields: Fields) -> bytes:
    """A whole footer: the struct, its length, the magic."""
    writer = Writer()
    previous = 0
    for number, (kind, value) in sorted(fields.items()):
        writer.field(number, kind, previous)
        writer.data += value
        previous = number
    writer.data.append(STOP)
    return bytes(writer.data) + len(writer.data).to_bytes(4, "little") + _MAGIC
