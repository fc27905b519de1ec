"""The footer: read without loss, bounded, and grafted byte for byte."""

from __future__ import annotations

import base64
import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ledger.errors import ShardError
from ledger.shards import footer
from ledger.shards.carriers import carried_metadata_warnings
from ledger.shards.thrift import (
    BINARY,
    BYTE,
    DOUBLE,
    FALSE,
    I16,
    I32,
    I64,
    LIST,
    MAP,
    MAX_DEPTH,
    SET,
    STRUCT,
    TRUE,
    Items,
    Malformed,
    Pairs,
    Reader,
    Writer,
)

SCALARS: dict[int, st.SearchStrategy[Any]] = {
    BYTE: st.integers(0, 255),
    I16: st.integers(-(2**15), 2**15 - 1),
    I32: st.integers(-(2**31), 2**31 - 1),
    I64: st.integers(-(2**63), 2**63 - 1),
    DOUBLE: st.binary(min_size=8, max_size=8),
    BINARY: st.binary(max_size=200),
}


def values(kind: int, depth: int) -> st.SearchStrategy[Any]:
    if kind in SCALARS:
        return SCALARS[kind]
    if kind in (TRUE, FALSE):
        return st.sampled_from([1, 2])
    if kind == STRUCT:
        return structs(depth - 1)
    inner = st.sampled_from([TRUE, *SCALARS, *([STRUCT, LIST] if depth > 1 else [])])
    if kind == MAP:
        return st.tuples(inner, inner).flatmap(
            lambda kinds: st.lists(st.tuples(values(kinds[0], depth - 1), values(kinds[1], depth - 1)), max_size=4).map(
                lambda pairs: Pairs(*(kinds if pairs else (0, 0)), pairs)
            )
        )
    return inner.flatmap(lambda of: st.lists(values(of, depth - 1), max_size=20).map(lambda items: Items(of, items)))


def structs(depth: int = 3) -> st.SearchStrategy[Any]:
    kinds = [*SCALARS, *([LIST, SET, MAP, STRUCT] if depth > 0 else [])]
    fields = st.one_of(
        st.booleans().map(lambda value: (TRUE if value else FALSE, value)),
        *(st.tuples(st.just(kind), values(kind, depth)) for kind in kinds),
    )
    return st.dictionaries(st.integers(-(2**15), 2**15 - 1), fields, max_size=6)


@settings(max_examples=300, deadline=None)
@given(structs())
def test_what_is_written_is_read_back(fields: Any) -> None:
    writer = Writer()
    writer.struct(fields)
    reader = Reader(bytes(writer.data))
    again = reader.struct()
    assert again == fields
    assert list(again) == list(fields)
    assert reader.at == len(writer.data)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=300))
@example(b"\x1c" * 100_000)
@example(b"\x19\xfc\xff\xff\xff\xff\x0f")
@example(b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\x7f")
@example(b"\x16" + b"\xff" * 20)
def test_any_bytes_are_read_or_malformed(data: bytes) -> None:
    try:
        Reader(data).struct()
    except Malformed:
        return


def test_depth_and_sizes_are_bounded() -> None:
    with pytest.raises(Malformed, match="nested"):
        Reader(b"\x1c" * (MAX_DEPTH + 2) + b"\0" * (MAX_DEPTH + 2)).struct()
    with pytest.raises(Malformed, match="container"):
        Reader(b"\x19\xf3\x80\x89\x7a" + bytes(2_000_000)).struct()
    with pytest.raises(Malformed, match="too large"):
        # Five lists of a million empty lists each: more objects than any footer needs.
        Reader((b"\x19\xf9\xc0\x84\x3d" + b"\x03" * 1_000_000) * 5 + b"\0").struct()
    with pytest.raises(Malformed, match="twice"):
        Reader(b"\x15\x02\x05\x02\x02\x00").struct()


def parquet(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def footer_bytes(file: bytes) -> bytes:
    return file[-8 - int.from_bytes(file[-8:-4], "little") : -8]


def patched(file: bytes, change: Callable[[Any], None]) -> bytes:
    """The file with its FileMetaData, as a Struct, changed."""
    fields = Reader(footer_bytes(file)).struct()
    change(fields)
    writer = Writer()
    writer.struct(dict(sorted(fields.items())))
    return file[: -8 - len(footer_bytes(file))] + bytes(writer.data) + struct.pack("<I", len(writer.data)) + b"PAR1"


TABLE = pa.table(
    {
        "id": pa.array(["a", "b", None]),
        "n": pa.array([1, 2, 3], pa.uint32()),
        "deep": pa.array(
            [[{"x": 1, "y": ["u"]}], None, []], pa.list_(pa.struct([("x", pa.int8()), ("y", pa.list_(pa.string()))]))
        ),
        "d": pa.array([1, 2, 3]).cast(pa.decimal128(30, 2)),
    }
)


def test_leaves_have_their_path_type_and_levels() -> None:
    found = footer.read(io.BytesIO(parquet(TABLE)))
    assert [(b".".join(leaf.names).decode(), footer.TYPES[leaf.type], leaf.length, leaf.levels) for leaf in found.leaves] == [
        ("id", "BYTE_ARRAY", 0, (1,)),
        ("n", "INT32", 0, (1,)),
        ("deep.list.element.x", "INT32", 0, (1, 2, 1, 1)),
        ("deep.list.element.y.list.element", "BYTE_ARRAY", 0, (1, 2, 1, 1, 2, 1)),
        ("d", "FIXED_LEN_BYTE_ARRAY", 13, (1,)),
    ]
    assert [leaf.unsigned for leaf in found.leaves] == [False, True, False, False, False]
    assert [leaf.bits_order for leaf in found.leaves] == [True, True, True, True, False]
    assert str(found.leaves[2]) == "column 'deep.list.element.x' of type INT32 (INTEGER)"
    assert found.rows == (3,)


def test_dictionary_coding_is_told_by_the_pages() -> None:
    wide = [f"{number:0500d}" for number in range(5000)]  # outgrows a dictionary page: the writer falls back to plain ones
    table = pa.table({"few": ["x", "y"] * 2500, "many": wide, "plain": ["x"] * 5000})
    found = footer.read(io.BytesIO(parquet(table, use_dictionary=["few", "many"], compression={"few": "zstd", "many": "gzip"})))
    assert found.dictionary == (True, False, False)
    assert found.codecs == ((6,), (2,), (0,))


def test_the_bare_file_reads_the_same_bits() -> None:
    file = parquet(TABLE)
    bare = pq.ParquetFile(pa.BufferReader(file), metadata=pq.read_metadata(pa.BufferReader(footer.read(io.BytesIO(file)).bare())))
    assert bare.schema_arrow.names == ["1", "2", "3", "10"]
    assert bare.schema_arrow.types[:2] == [pa.binary(), pa.uint32()]
    assert bare.schema_arrow.metadata is None
    assert bare.read().column("1").to_pylist() == [b"a", b"b", None]


def test_what_does_not_fit_is_refused_by_name() -> None:
    one, other = (footer.read(io.BytesIO(parquet(pa.table({"a": pa.array([1], kind)})))) for kind in (pa.int32(), pa.int64()))
    with pytest.raises(ShardError, match=r"column 'a' of type INT32 cannot be written"):
        one.require_fit(other)
    with pytest.raises(ShardError, match="cannot be written"):
        one.require_fit(footer.read(io.BytesIO(parquet(TABLE))))


def write(path: Path, data: bytes) -> io.BufferedReader:
    path.write_bytes(data)
    return path.open("rb")


@pytest.mark.parametrize(
    "data",
    [b"", b"PAR1", b"PAR1PAR1", b"not a parquet file at all", b"PAR1\xff\xff\xff\x7fPAR1", b"PAR1\0\0\0\0PAR1", b"PAR1" * 100],
)
def test_what_is_no_parquet_is_an_error(tmp_path: Path, data: bytes) -> None:
    with write(tmp_path / "x", data) as file, pytest.raises(ShardError):
        footer.read(file)


def test_every_truncation_is_an_error() -> None:
    whole = parquet(TABLE)
    for size in range(len(whole)):
        with pytest.raises(ShardError):
            footer.read(io.BytesIO(whole[:size]))


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_damage_to_a_footer_is_an_error_or_another_footer(data: st.DataObject) -> None:
    raw = bytearray(footer_bytes(WRITTEN))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = footer.parse(bytes(raw))
        found.bare()
        found.carried(["note"])
    except ShardError:
        return


WRITTEN = parquet(TABLE.replace_schema_metadata({"note": "x"}), row_group_size=2)


def test_encryption_is_refused() -> None:
    file = parquet(TABLE)
    with pytest.raises(ShardError, match="encrypted"):
        footer.read(io.BytesIO(b"PARE" + file[4:-4] + b"PARE"))

    def whole(fields: Any) -> None:
        fields[8] = STRUCT, {1: (STRUCT, {})}

    def column(fields: Any) -> None:
        fields[4][1].values[0][1][1].values[1][8] = STRUCT, {1: (STRUCT, {})}

    with pytest.raises(ShardError, match="it is encrypted") as refused:
        footer.read(io.BytesIO(patched(file, whole)))
    assert refused.value.hint
    with pytest.raises(ShardError, match=r"column 'n' of type INT32 \(INTEGER\) is encrypted"):
        footer.read(io.BytesIO(patched(file, column)))


def test_an_index_of_other_files_is_refused() -> None:
    def elsewhere(fields: Any) -> None:
        fields[4][1].values[0][1][1].values[0][1] = BINARY, b"part-0.parquet"

    with pytest.raises(ShardError, match="other files"):
        footer.read(io.BytesIO(patched(parquet(TABLE), elsewhere)))


def _set(number: int, value: Any) -> Callable[[Any], None]:
    return lambda fields: fields.__setitem__(number, value)


@pytest.mark.parametrize(
    "change",
    [
        _set(2, (LIST, Items(STRUCT, []))),
        _set(2, (LIST, Items(I32, [1, 2]))),
        _set(3, (I64, 99)),
        _set(3, (BINARY, b"3")),
        _set(4, (I64, 1)),
        _set(5, (LIST, Items(I32, [1]))),
        lambda fields: fields[2][1].values.pop(),
        lambda fields: fields[2][1].values.append(fields[2][1].values[-1]),
        lambda fields: fields[2][1].values[1].__setitem__(1, (I32, 9)),
        lambda fields: fields[2][1].values[1].__setitem__(3, (I32, 3)),
        lambda fields: fields[2][1].values[1].__setitem__(5, (I32, 2)),
        lambda fields: fields[2][1].values[3].__setitem__(5, (I32, -1)),
        lambda fields: fields[4][1].values[0][1][1].values.pop(),
        lambda fields: fields.pop(2),
        lambda fields: fields.pop(3),
    ],
)
def test_a_footer_that_contradicts_itself_is_refused(change: Callable[[Any], None]) -> None:
    with pytest.raises(ShardError):
        footer.read(io.BytesIO(patched(parquet(TABLE), change)))


def test_metadata_is_dropped_from_the_arrow_schema_as_well() -> None:
    table = TABLE.replace_schema_metadata({"secret": "CANARY", "kept": "yes"})
    found = footer.read(io.BytesIO(parquet(table)))
    assert found.carried()[5] == found.fields[5]
    left = found.carried(["secret"])[5][1]
    entries = {entry[1][1]: entry[2][1] for entry in Reader(left).value(LIST).values}
    assert entries.keys() == {b"kept", b"ARROW:schema"}
    arrow = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(entries[b"ARROW:schema"])))
    assert arrow.equals(TABLE.schema.with_metadata({"kept": "yes"}), check_metadata=True)
    assert Reader(found.carried(["secret", "kept", "ARROW:schema"])[5][1]).value(LIST).values == []


def warnings(metadata: dict[str, str], **options: Any) -> list[str]:
    return carried_metadata_warnings(footer.read(io.BytesIO(parquet(TABLE.replace_schema_metadata(metadata), **options))))


LABELS = {"info": {"features": {"a": {"names": ["alice", "bob"], "_type": "ClassLabel"}}}}


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("huggingface", LABELS, "class labels"),
        ("huggingface", {"info": {"features": {"a": [{"b": LABELS["info"]["features"]["a"]}]}}}, "class labels"),
        ("pandas", {"attributes": {"source": "alice"}, "columns": []}, "attributes"),
        ("PANDAS_ATTRS", {"source": "alice"}, "attributes"),
        ("geo", {"columns": {"geometry": {"bbox": [1, 2, 3, 4]}}}, "bounding boxes"),
        ("org.apache.spark.sql.parquet.row.metadata", {"fields": [{"metadata": {"ml_attr": {"vals": ["alice"]}}}]}, "Spark ML"),
        ("r", "A\n3\nalice", "R data frame"),
        ("parquet.avro.schema", {"type": "enum", "symbols": ["alice"]}, "Avro"),
        ("avro.schema", {"fields": [{"type": {"type": "enum", "symbols": ["alice"]}}]}, "Avro"),
        ("parquet.proto.enum.Name", "alice:1", "Protocol Buffers"),
    ],
)
def test_known_carriers_of_row_values_are_named(key: str, value: Any, what: str) -> None:
    (warning,) = warnings({key: json.dumps(value)})
    assert repr(key) in warning
    assert what in warning


def test_values_of_polars_enums_are_named() -> None:
    field = pa.field("e", pa.string(), metadata={"_PL_ENUM_VALUES": "5;alice3;bob"})
    file = parquet(pa.table({"e": ["bob"]}, schema=pa.schema([field])))
    (warning,) = carried_metadata_warnings(footer.read(io.BytesIO(file)))
    assert "Polars" in warning


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"mine": json.dumps(LABELS)},
        {"huggingface": json.dumps({"info": {"features": {"a": {"dtype": "string", "_type": "Value"}}}})},
        {"huggingface": "{"},
        {"huggingface": "[" * 100_000},
        {"pandas": json.dumps({"attributes": {}, "columns": [{"name": "a"}]})},
        {"geo": "null"},
    ],
)
def test_other_metadata_is_not_warned_of(metadata: dict[str, str]) -> None:
    assert warnings(metadata) == []
