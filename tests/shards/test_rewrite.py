"""A rewritten shard is its source without the dropped rows: the same schema to the byte, and no other values, to the bit."""

from __future__ import annotations

import datetime
import decimal
import gc
import io
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.errors import ShardError
from ledger.shards import footer
from ledger.shards.publish import HashingSink
from ledger.shards.rewrite import ShardFile, rewrite
from ledger.shards.thrift import BINARY, I32, LIST, STRUCT, Items, Reader, Writer

ROWS = 40
GROUP = 16  # row groups of 16, 16 and 8 rows
KEEP = np.random.default_rng(5).random(ROWS) < 0.6
KEEP[16:32] = False  # the second row group is emptied
KEEP[0] = True


def filtered(source: Path, target: Path, keep: Any = KEEP, **options: Any) -> int:
    """Rewrites with a mask over the rows of the whole file."""
    with ShardFile(source) as shard, HashingSink(target) as sink:
        starts = np.cumsum([0, *shard.footer.rows])
        kept = rewrite(shard, sink, lambda group: np.asarray(keep[starts[group] : starts[group + 1]], bool), **options)
        sink.publish()
    return kept


def require_same(source: Path, target: Path, keep: Any = KEEP) -> None:
    """The target is what the source would be without the rows that are not kept."""
    with ShardFile(source) as before, ShardFile(target) as after:
        assert after.footer.carried() == before.footer.carried()
        assert after.footer.carried()[2] == before.footer.fields[2]
        starts = np.cumsum([0, *before.footer.rows])
        pieces = [keep[start:end] for start, end in itertools.pairwise(starts)]
        assert after.footer.rows == tuple(int(piece.sum()) for piece in pieces if piece.any())
        if after.footer.rows:
            hadoops = {(5,): (7,)}
            assert after.footer.codecs == tuple(hadoops.get(codec, codec) for codec in before.footer.codecs)
        bits = [before.read_bits(group).filter(pa.array(piece, pa.bool_())) for group, piece in enumerate(pieces) if piece.any()]
        for group, expected in enumerate(bits):
            assert _floats_as_integers(after.read_bits(group)).equals(_floats_as_integers(expected))
        paths = [[chunk.path_in_schema for chunk in _chunks(path)] for path in (source, target)]
        assert paths[1] == paths[0][: len(paths[1])]


def _floats_as_integers(table: pa.Table) -> pa.Table:
    """Top-level floats by their bits: NaN equals nothing."""
    for number, field in enumerate(table.schema):
        if pa.types.is_floating(field.type):
            column = table.column(number).combine_chunks()
            table = table.set_column(number, field.name, column.view(f"int{field.type.bit_width}"))
    return table


def _chunks(path: Path) -> list[Any]:
    metadata = pq.read_metadata(path)
    return [metadata.row_group(0).column(number) for number in range(metadata.num_columns)] if metadata.num_row_groups else []


def some(values: list[Any], kind: Any) -> pa.Array:
    """ROWS values, every fifth of them null."""
    return pa.array([None if row % 5 == 3 else values[row % len(values)] for row in range(ROWS)], kind)


WORDS = [f"word-{number}" for number in range(23)] + ["", "ümläut", "x" * 300]
DAY = datetime.date(2024, 2, 29)
LATE = datetime.datetime(9999, 12, 31, 23, 59, 59, 999999)
INTS = [0, 1, 2, 7, 100, 127]
PAIR = pa.struct([("a", pa.string()), ("b", pa.list_(pa.int16()))])
PAIRS = [{"a": "x", "b": [1, None, 2]}, {"a": None, "b": None}, {"a": "y", "b": []}, None]


def categories(ordered: bool, index: Any = None, value: Any = None) -> pa.Array:
    return pa.DictionaryArray.from_arrays(
        pa.array([None if row % 5 == 3 else row % 4 for row in range(ROWS)], index or pa.int8()),
        pa.array(["z", "never", "a", "m"], value or pa.string()),
        ordered=ordered,
    )


ARRAYS: dict[str, pa.Array] = {
    "string": some(WORDS, pa.string()),
    "large_string": some(WORDS, pa.large_string()),
    "string_view": some(WORDS, pa.string_view()),
    "binary": some([b"\0\xff", b"", b"abc"], pa.binary()),
    "large_binary": some([b"\0\xff", b""], pa.large_binary()),
    "binary_view": some([b"\0\xff", b""], pa.binary_view()),
    "fixed_size_binary": some([b"12345", b"\0" * 5], pa.binary(5)),
    "bool": some([True, False, False], pa.bool_()),
    **{f"{kind}": some(INTS, kind) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())},
    **{f"{kind}": some(INTS, kind) for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())},
    "int64 extremes": some([-(2**63), 2**63 - 1, -1], pa.int64()),
    "uint64 extremes": some([2**64 - 1, 2**63, 0], pa.uint64()),
    "uint32 extremes": some([2**32 - 1, 2**31, 0], pa.uint32()),
    "uint8 extremes": some([255, 128, 0], pa.uint8()),
    "float16": some([np.float16(1.5), np.float16("nan"), np.float16(-0.0)], pa.float16()),
    "float32": some([1.5, float("nan"), -0.0, float("inf")], pa.float32()),
    "float64": some([1.5, float("nan"), -0.0, float("-inf")], pa.float64()),
    "nan payload": pa.array(np.array([0x7FF8DEADBEEF0001] * ROWS, np.uint64)).view(pa.float64()),
    "decimal32": some([decimal.Decimal("1.23"), decimal.Decimal("-1.23")], pa.decimal32(5, 2)),
    "decimal64": some([decimal.Decimal("1.23"), decimal.Decimal("-9.00")], pa.decimal64(15, 2)),
    "decimal128": some([decimal.Decimal("1.23"), decimal.Decimal(-(10**35))], pa.decimal128(38, 2)),
    "decimal256": some([decimal.Decimal("1.23"), decimal.Decimal(-(10**60))], pa.decimal256(70, 2)),
    "date32": some([DAY, datetime.date(1, 1, 1)], pa.date32()),
    "date64": some([DAY], pa.date64()),
    "time32[s]": some([1, 86399], pa.time32("s")),
    "time32[ms]": some([1, 86399999], pa.time32("ms")),
    "time64[us]": some([1, 86399999999], pa.time64("us")),
    "time64[ns]": some([1, 86399999999999], pa.time64("ns")),
    **{f"timestamp[{unit}]": some([0, -1, 2**40], pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")},
    **{f"timestamp[{unit}, tz]": some([0, -1, 2**40], pa.timestamp(unit, "Europe/Berlin")) for unit in ("s", "ms", "us", "ns")},
    "timestamp of the year 9999": some([LATE], pa.timestamp("us")),
    **{f"duration[{unit}]": some([0, -1, 5], pa.duration(unit)) for unit in ("s", "ms", "us", "ns")},
    "null": pa.nulls(ROWS),
    "list": some([["a", None], [], ["b", "c"]], pa.list_(pa.string())),
    "list item": some([[1], []], pa.list_(pa.field("item", pa.int32(), nullable=False))),
    "large_list": some([["a", None], []], pa.large_list(pa.string())),
    "fixed_size_list": some([[1, 2], [3, None]], pa.list_(pa.int32(), 2)),
    "struct": some(PAIRS[:3], PAIR),
    "list of structs": some([PAIRS, [], [None]], pa.list_(PAIR)),
    "list of lists": some([[["a"], [], None], [], [[None]]], pa.list_(pa.list_(pa.string()))),
    "struct of struct": some([{"s": PAIRS[0]}, {"s": None}], pa.struct([("s", PAIR)])),
    "map": some([[("k", 1), ("l", None)], []], pa.map_(pa.string(), pa.int32())),
    "map of lists": some([[("k", ["v", None])], []], pa.map_(pa.string(), pa.list_(pa.string()))),
    "list of maps": some([[[("k", 1)], []], []], pa.list_(pa.map_(pa.string(), pa.int32()))),
    "dictionary": categories(False),
    "dictionary, ordered": categories(True),
    "dictionary of wide index": categories(False, pa.int64()),
    "dictionary of unsigned index": categories(True, pa.uint16()),
    "dictionary of large strings": categories(False, None, pa.large_string()),
    "dictionary of integers": pa.DictionaryArray.from_arrays(pa.array([row % 3 for row in range(ROWS)]), pa.array([30, 10, 20])),
    "struct of dictionary": pa.StructArray.from_arrays([categories(False)], ["d"]),
    "list of dictionaries": pa.ListArray.from_arrays(pa.array(range(ROWS + 1), pa.int32()), categories(False)),
    "extension uuid": pa.ExtensionArray.from_storage(pa.uuid(), some([b"0123456789abcdef", b"\xff" * 16], pa.binary(16))),
    "extension json": pa.ExtensionArray.from_storage(pa.json_(), some(['{"a":1}', "[]"], pa.string())),
    "extension tensor": pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(pa.float32(), (2, 2)), pa.array([[1.0, 2.0, 3.0, 4.0]] * ROWS, pa.list_(pa.float32(), 4))
    ),
    "extension bool8": pa.ExtensionArray.from_storage(pa.bool8(), some([0, 1], pa.int8())),
}


def shard_of(path: Path, table: pa.Table, **options: Any) -> Path:
    pq.write_table(table, path, **({"row_group_size": GROUP} | options))
    return path


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zstd"},
        {"compression": "none", "use_dictionary": False, "data_page_version": "2.0"},
        {
            "compression": "snappy",
            "store_schema": False,
            "use_compliant_nested_type": False,
            "version": "1.0",
            "coerce_timestamps": "us",
            "allow_truncated_timestamps": True,
        },
    ],
    ids=["zstd", "plain", "old"],
)
def test_any_type_keeps_its_schema_and_values(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    array = ARRAYS[name]
    schema = pa.schema(
        [
            pa.field("column", array.type, metadata={"note": "of a field", "PARQUET:field_id": "7"}),
            pa.field("row", pa.int64(), nullable=False),
        ],
        metadata={"publisher": "ü", "pandas": "{}"},
    )
    table = pa.table([array, pa.array(range(ROWS))], schema=schema)
    source, target = shard_of(tmp_path / "in.parquet", table, **options), tmp_path / "out.parquet"
    assert filtered(source, target) == KEEP.sum()
    require_same(source, target)
    before, after = pq.read_table(source), pq.read_table(target)
    assert after.schema.equals(before.schema, check_metadata=True)
    assert after.column("row").to_pylist() == list(np.nonzero(KEEP)[0])
    assert python(after.column(0)) == [value for value, kept in zip(python(before.column(0)), KEEP, strict=True) if kept]


def python(column: Any) -> list[str]:
    """By their repr: NaN equals nothing. Times as integers: Python has no nanoseconds, and no year 30000."""
    kind = column.type
    if pa.types.is_temporal(kind):
        column = column.cast(pa.int32() if kind.bit_width == 32 else pa.int64())
    return [repr(value) for value in column.to_pylist()]


CODECS = ["none", "snappy", "gzip", "brotli", "lz4", "zstd"]


def test_each_column_keeps_its_codec_and_its_dictionary(tmp_path: Path) -> None:
    table = pa.table({f"{codec}.{coded}": WORDS[:20] * 2 for codec in CODECS for coded in (True, False)})
    source = shard_of(
        tmp_path / "in.parquet",
        table,
        compression={name: name.split(".")[0] for name in table.column_names},
        use_dictionary=[name for name in table.column_names if name.endswith("True")],
    )
    filtered(source, tmp_path / "out.parquet")
    require_same(source, tmp_path / "out.parquet")
    chunks = _chunks(tmp_path / "out.parquet")
    assert [chunk.compression for chunk in chunks] == [
        {"none": "UNCOMPRESSED"}.get(codec, codec.upper()) for codec in CODECS for _ in range(2)
    ]
    assert [chunk.has_dictionary_page for chunk in chunks] == [True, False] * len(CODECS)


def test_names_that_repeat_or_hold_dots(tmp_path: Path) -> None:
    table = pa.table(
        [pa.array(range(ROWS)), pa.array(WORDS[:20] * 2), some(PAIRS[:3], PAIR), pa.array(range(ROWS))],
        names=["a", "a.b", "a", ""],
    )
    source = shard_of(tmp_path / "in.parquet", table)
    filtered(source, tmp_path / "out.parquet")
    require_same(source, tmp_path / "out.parquet")
    assert pq.ParquetFile(tmp_path / "out.parquet").read().column(1).to_pylist() == [
        w for w, k in zip(WORDS[:20] * 2, KEEP, strict=True) if k
    ]


def test_keys_are_the_columns_that_were_asked_for(tmp_path: Path) -> None:
    table = pa.table({"a": [{"b": 1}, {"b": 2}], "a.b": ["x", "y"], "k": pa.array(["u", None]).dictionary_encode(), "z": [0, 0]})
    with ShardFile(shard_of(tmp_path / "in.parquet", table, row_group_size=1)) as shard:
        assert shard.schema_arrow.equals(table.schema)
        assert (shard.num_row_groups, shard.num_rows) == (2, 2)
        keys = shard.read_keys(1, ["k", "a.b"])
        assert keys.column_names == ["k", "a.b"]
        assert keys.schema.types == [pa.large_string()] * 2
        assert keys.to_pylist() == [{"k": None, "a.b": "y"}]
        with pytest.raises(ShardError, match="0 columns called 'nope'"):
            shard.read_keys(0, ["nope"])


@pytest.mark.parametrize("kept", ["none", "all", "first", "last"])
def test_row_groups_stay_and_empty_ones_vanish(tmp_path: Path, kept: str) -> None:
    keep = np.full(ROWS, kept == "all")
    if kept in ("first", "last"):
        keep[0 if kept == "first" else -1] = True
    source = shard_of(tmp_path / "in.parquet", pa.table({"a": WORDS[:20] * 2, "n": range(ROWS)}), compression="gzip")
    assert filtered(source, tmp_path / "out.parquet", keep) == keep.sum()
    require_same(source, tmp_path / "out.parquet", keep)
    assert pq.read_table(tmp_path / "out.parquet").equals(pq.read_table(source).filter(pa.array(keep)))


@pytest.mark.parametrize("table", [pa.table({"a": pa.array([], pa.string())}), pa.table({})], ids=["rows", "columns"])
def test_a_shard_without_rows_or_columns(tmp_path: Path, table: pa.Table) -> None:
    source = shard_of(tmp_path / "in.parquet", table)
    assert filtered(source, tmp_path / "out.parquet", np.array([], bool)) == 0
    assert pq.read_table(tmp_path / "out.parquet").schema.equals(table.schema)


def int96_shard(path: Path, moments: Any, **columns: Any) -> Path:
    return shard_of(path, pa.table({"t": moments, **columns}), use_deprecated_int96_timestamps=True)


def test_int96_is_kept_to_the_bit(tmp_path: Path) -> None:
    """In nanoseconds, as pyarrow reads INT96 unless told, the year 9999 becomes another one."""
    moments = some([LATE, datetime.datetime(1, 1, 1), datetime.datetime(2024, 1, 1, 0, 0, 0, 1)], pa.timestamp("us"))
    nested = some([[LATE, None], []], pa.list_(pa.timestamp("us")))
    source = int96_shard(tmp_path / "in.parquet", moments, nested=nested)
    filtered(source, tmp_path / "out.parquet")
    require_same(source, tmp_path / "out.parquet")
    metadata = pq.read_metadata(tmp_path / "out.parquet")
    assert [metadata.schema.column(number).physical_type for number in (0, 1)] == ["INT96", "INT96"]
    assert [metadata.row_group(0).column(number).physical_type for number in (0, 1)] == ["INT96", "INT96"]
    assert not metadata.row_group(0).column(0).is_stats_set
    read = pq.read_table(tmp_path / "out.parquet", coerce_int96_timestamp_unit="us")
    assert read.column("t").to_pylist() == moments.filter(pa.array(KEEP)).to_pylist()
    assert read.column("nested").to_pylist() == nested.filter(pa.array(KEEP)).to_pylist()
    with ShardFile(source) as shard:
        assert shard.read_keys(0, ["t"]).column("t").to_pylist() == moments.to_pylist()[:GROUP]


def test_int96_keeps_its_nanoseconds_and_nonsense(tmp_path: Path) -> None:
    source = int96_shard(tmp_path / "in.parquet", pa.array(range(1, ROWS + 1), pa.timestamp("ns")))
    filtered(source, tmp_path / "out.parquet")
    require_same(source, tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet")["t"].cast(pa.int64()).to_pylist() == list(np.nonzero(KEEP)[0] + 1)


def test_statistics_are_of_kept_rows_and_only_where_they_are_true(tmp_path: Path) -> None:
    table = pa.table(
        {
            "u": pa.array([2**32 - 1 - row for row in range(ROWS)], pa.uint32()),
            "s": [f"{row:03}" for row in range(ROWS)],
            "d": pa.array([decimal.Decimal(row - 20) for row in range(ROWS)], pa.decimal128(30, 0)),
        }
    )
    keep = np.zeros(ROWS, bool)
    keep[[3, 5, 9]] = True
    source = shard_of(tmp_path / "in.parquet", table, row_group_size=ROWS)
    filtered(source, tmp_path / "out.parquet", keep)
    unsigned, text, number = _chunks(tmp_path / "out.parquet")
    assert (unsigned.statistics.min, unsigned.statistics.max) == (2**32 - 10, 2**32 - 4)
    assert (text.statistics.min, text.statistics.max) == ("003", "009")
    assert not number.is_stats_set
    for condition, rows in (("u > 4294967288", 2), ("s < '005'", 1), ("d >= -15", 2)):
        assert duckdb.sql(f"select count(*) from '{tmp_path / 'out.parquet'}' where {condition}").fetchall() == [(rows,)]


def test_other_writers_shards(tmp_path: Path) -> None:
    """DuckDB: enums, unsigned and huge integers, intervals, times with zones, bits, unions of structs."""
    source = tmp_path / "in.parquet"
    duckdb.sql(
        f"""
        copy (select i::varchar as id, (['sad','ok','happy'])[i % 3 + 1]::enum('sad','ok','happy','never') as mood,
              i::utinyint as u8, i::uhugeint as huge, i::decimal(4,1) as d4, i::decimal(18,3) as d18, i::decimal(38,5) as d38,
              interval (i) day as span,
              time '12:00:00' + interval (i) second as t, timestamptz '2024-01-01 00:00:00+02' + interval (i) hour as tz,
              uuid() as uid, [i, null, i + 1] as l, [[i::varchar], []] as ll, {{'a': i, 'b': {{'c': [i::varchar]}}}} as s,
              map {{'k' || i: [i]}} as m, case when i % 3 = 0 then null else 'x' || i end as n,
              i::varchar::blob as raw, '101'::bit as bits,
              timestamp_ns '2024-01-01 00:00:00.123456789' as ns, i::float as f, null as nothing
              from range({ROWS}) r(i)) to '{source}' (format parquet, row_group_size 16, compression zstd)
        """
    )
    filtered(source, tmp_path / "out.parquet")
    require_same(source, tmp_path / "out.parquet")
    rows = [
        duckdb.sql(f"select columns(*)::varchar from '{path}' order by id::int").fetchall()
        for path in (source, tmp_path / "out.parquet")
    ]
    assert rows[1] == [row for row, kept in zip(rows[0], KEEP, strict=True) if kept]


def _footer_of(file: bytes) -> bytes:
    return file[-8 - int.from_bytes(file[-8:-4], "little") : -8]


def patch(path: Path, change: Callable[[Any], None]) -> None:
    """Changes the file's FileMetaData, as a Struct."""
    file = path.read_bytes()
    start = len(file) - 8 - len(_footer_of(file))
    fields = Reader(_footer_of(file)).struct()
    change(fields)
    writer = Writer()
    writer.struct(dict(sorted(fields.items())))
    path.write_bytes(file[:start] + bytes(writer.data) + len(writer.data).to_bytes(4, "little") + b"PAR1")


def chunk(fields: Any, group: int, column: int) -> Any:
    return fields[4][1].values[group][1][1].values[column][3][1]


def element(name: bytes, repetition: int, **more: Any) -> Any:
    numbers = {"type": 1, "length": 2, "children": 5, "converted": 6}
    return dict(
        sorted({3: (I32, repetition), 4: (BINARY, name), **{numbers[key]: (I32, value) for key, value in more.items()}}.items())
    )


ROOT = {4: (BINARY, b"schema"), 5: (I32, 1)}
OLD_LISTS = {
    "repeated leaf": ((pa.int32(), False, False), [ROOT, element(b"l", 2, type=1)]),
    "two levels": ((pa.int32(), False, True), [ROOT, element(b"l", 1, children=1, converted=3), element(b"array", 2, type=1)]),
    "list of tuples": (
        (pa.struct([pa.field("x", pa.int32())]), False, True),
        [ROOT, element(b"l", 1, children=1, converted=3), element(b"l_tuple", 2, children=1), element(b"x", 1, type=1)],
    ),
    "bag": (
        (pa.int32(), True, True),
        [ROOT, element(b"l", 1, children=1, converted=3), element(b"bag", 2, children=1), element(b"array_element", 1, type=1)],
    ),
    "map_key_value": (
        (pa.struct([pa.field("key", pa.int32(), nullable=False), pa.field("value", pa.int32())]), False, True),
        [
            ROOT,
            element(b"l", 1, children=1, converted=2),
            element(b"map", 2, children=2),
            element(b"key", 0, type=1),
            element(b"value", 1, type=1),
        ],
    ),
}


@pytest.mark.parametrize("form", OLD_LISTS)
def test_lists_and_maps_of_old_writers(tmp_path: Path, form: str) -> None:
    """Forms that parquet-format's LogicalTypes.md keeps for reading, and pyarrow does not write: other schemas, same levels."""
    (item, item_null, list_null), elements = OLD_LISTS[form]
    kind = pa.list_(pa.field("element", item, nullable=item_null))
    values: list[Any] = [[], [1], [2, 3]] if item == pa.int32() else [[], [dict.fromkeys((f.name for f in item), 4)]]
    rows = [None if list_null and row % 5 == 3 else values[row % len(values)] for row in range(ROWS)]
    table = pa.table([pa.array(rows, kind)], schema=pa.schema([pa.field("l", kind, nullable=list_null)]))
    source = shard_of(tmp_path / "in.parquet", table, store_schema=False)

    def older(fields: Any) -> None:
        fields[2] = LIST, Items(STRUCT, elements)
        names: list[list[bytes]] = []
        above: list[bytes] = []
        for node in elements[1:]:
            above = above[:-1] if form == "map_key_value" and node[4][1] == b"value" else above
            above = [*above, node[4][1]]
            if 1 in node:
                names.append(above)
        for group in range(3):
            for number, path in enumerate(names):
                chunk(fields, group, number)[3] = LIST, Items(BINARY, path)

    patch(source, older)
    filtered(source, tmp_path / "out.parquet")
    require_same(source, tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").equals(pq.read_table(source).filter(pa.array(KEEP)))


def test_annotations_that_no_reader_here_knows_are_kept(tmp_path: Path) -> None:
    source = shard_of(tmp_path / "in.parquet", pa.table({"v": some([b"\0\xff", b"x"], pa.binary())}), store_schema=False)

    def variant(fields: Any) -> None:
        fields[2][1].values[1][10] = STRUCT, {99: (STRUCT, {1: (I32, 5)})}

    patch(source, variant)
    filtered(source, tmp_path / "out.parquet")
    require_same(source, tmp_path / "out.parquet")
    assert not _chunks(tmp_path / "out.parquet")[0].is_stats_set


def test_a_decimal_that_is_longer_than_it_need_be(tmp_path: Path) -> None:
    source = shard_of(
        tmp_path / "in.parquet", pa.table({"d": some([bytes(15) + b"\x05", b"\xff" * 16], pa.binary(16))}), store_schema=False
    )

    def annotate(fields: Any) -> None:
        fields[2][1].values[1] |= {6: (I32, 5), 7: (I32, 0), 8: (I32, 10)}

    patch(source, annotate)
    filtered(source, tmp_path / "out.parquet")
    require_same(source, tmp_path / "out.parquet")
    assert set(pq.read_table(tmp_path / "out.parquet").column("d").to_pylist()) == {None, decimal.Decimal(5), decimal.Decimal(-1)}


def test_hadoops_lz4_becomes_raw_and_lzo_is_refused(tmp_path: Path) -> None:
    source = shard_of(tmp_path / "in.parquet", pa.table({"a": WORDS[:20] * 2, "b": range(ROWS)}), compression="lz4")

    def codec(number: int) -> Callable[[Any], None]:
        return lambda fields: (
            [chunk(fields, group, column).__setitem__(4, (I32, number)) for group in range(3) for column in (0, 1)] and None
        )

    patch(source, codec(5))
    filtered(source, tmp_path / "out.parquet")
    require_same(source, tmp_path / "out.parquet")
    with ShardFile(tmp_path / "out.parquet") as shard:
        assert shard.footer.codecs == ((7,), (7,))
    for number, name in ((3, "LZO"), (77, "codec 77")):
        patch(source, codec(number))
        with pytest.raises(ShardError, match=rf"column 'a' of type BYTE_ARRAY .STRING. is compressed with {name}"):
            filtered(source, tmp_path / "never.parquet")
    assert not (tmp_path / "never.parquet").exists()


def test_page_indexes_and_checksums(tmp_path: Path) -> None:
    source = shard_of(tmp_path / "in.parquet", pa.table({"a": WORDS[:20] * 2}), write_page_index=True)
    filtered(source, tmp_path / "out.parquet")
    require_same(source, tmp_path / "out.parquet")
    assert _chunks(tmp_path / "out.parquet")[0].has_offset_index
    assert _chunks(tmp_path / "out.parquet")[0].has_column_index
    assert duckdb.sql(f"select count(*) from '{tmp_path / 'out.parquet'}'").fetchall() == [(KEEP.sum(),)]


KINDS = st.recursive(
    st.sampled_from(
        [pa.string(), pa.large_binary(), pa.int8(), pa.uint64(), pa.bool_(), pa.timestamp("ns", "UTC"), pa.binary(3)]
    ),
    lambda inner: st.one_of(
        inner.map(pa.list_),
        inner.map(pa.large_list),
        st.tuples(inner, st.booleans()).map(lambda pair: pa.list_(pa.field("item", pair[0], nullable=pair[1]))),
        st.lists(st.tuples(inner, st.booleans()), min_size=1, max_size=3).map(
            lambda fields: pa.struct([pa.field(f"f{n}", kind, nullable=null) for n, (kind, null) in enumerate(fields)])
        ),
        inner.map(lambda kind: pa.map_(pa.string(), kind)),
    ),
    max_leaves=5,
)


def cells(kind: Any, nullable: bool = True) -> st.SearchStrategy[Any]:
    if pa.types.is_struct(kind):
        cell: Any = st.fixed_dictionaries({f.name: cells(f.type, f.nullable) for f in kind})
    elif pa.types.is_map(kind):
        cell = st.lists(st.tuples(st.text(max_size=3), cells(kind.item_type)), max_size=3)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        cell = st.lists(cells(kind.value_type, kind.value_field.nullable), max_size=3)
    elif pa.types.is_string(kind):
        cell = st.text(max_size=5)
    elif pa.types.is_large_binary(kind):
        cell = st.binary(max_size=5)
    elif pa.types.is_fixed_size_binary(kind):
        cell = st.binary(min_size=3, max_size=3)
    elif pa.types.is_boolean(kind):
        cell = st.booleans()
    elif pa.types.is_timestamp(kind):
        cell = st.integers(-(2**62), 2**62)
    else:
        cell = st.integers(*((-128, 127) if kind == pa.int8() else (0, 2**64 - 1)))
    return st.none() | cell if nullable else cell


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_nesting_keeps_its_schema_and_values(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    kind = data.draw(KINDS)
    values = data.draw(st.lists(cells(kind), min_size=1, max_size=12))
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))))
    folder = tmp_path_factory.mktemp("nesting")
    source = shard_of(folder / "in.parquet", pa.table({"c": pa.array(values, kind)}), row_group_size=5)
    filtered(source, folder / "out.parquet", keep)
    require_same(source, folder / "out.parquet", keep)
    before, after = pq.read_table(source), pq.read_table(folder / "out.parquet")
    assert after.schema.equals(before.schema, check_metadata=True)
    kept = [row for row, wanted in zip(before.column(0), keep, strict=True) if wanted]
    assert list(after.column(0)) == kept


# No byte of a value that occurs only in dropped rows survives.

CANARY = b"CANARY"


def canaries(keep: Any = KEEP) -> list[str]:
    return [f"kept-{row:06}" if kept else f"CANARY-{row:06}" for row, kept in enumerate(keep)]


TEXT = pa.array(canaries())
CATEGORIES = TEXT.dictionary_encode()
HIDDEN = pa.array([not kept or row % 2 == 0 for row, kept in enumerate(KEEP)])  # nulls whose child keeps its value below
CANARIES: dict[str, pa.Array] = {
    "string": TEXT,
    "large_string": TEXT.cast(pa.large_string()),
    "string_view": TEXT.cast(pa.string_view()),
    "binary": TEXT.cast(pa.binary()),
    "fixed_size_binary": pa.array([text.encode().ljust(13) for text in canaries()], pa.binary(13)),
    "int64": pa.array([int.from_bytes(text.encode()[:6] + b"\0\0", "little") for text in canaries()]),
    "decimal": pa.array([decimal.Decimal(int.from_bytes(text.encode(), "big")) for text in canaries()], pa.decimal128(38, 0)),
    "dictionary": CATEGORIES,
    "dictionary, ordered": pa.DictionaryArray.from_arrays(CATEGORIES.indices, CATEGORIES.dictionary, ordered=True),
    "dictionary with unused entries": pa.DictionaryArray.from_arrays(
        pa.array([0] * ROWS), pa.array(["kept", *(text for text in canaries() if "CANARY" in text)])
    ),
    "list": pa.ListArray.from_arrays(pa.array(range(ROWS + 1), pa.int32()), TEXT),
    "struct": pa.StructArray.from_arrays([TEXT, CATEGORIES], ["text", "category"]),
    "struct under nulls": pa.StructArray.from_arrays([TEXT], ["text"], mask=HIDDEN),
    "list of structs of dictionaries": pa.ListArray.from_arrays(
        pa.array(range(ROWS + 1), pa.int32()), pa.StructArray.from_arrays([CATEGORIES], ["category"])
    ),
    "map": pa.MapArray.from_arrays(pa.array(range(ROWS + 1), pa.int32()), TEXT, CATEGORIES),
    "list under nulls": pa.ListArray.from_arrays(pa.array(range(ROWS + 1), pa.int32()), TEXT, mask=HIDDEN),
}


@pytest.mark.parametrize("name", CANARIES)
@pytest.mark.parametrize("coded", [True, False], ids=["dictionary", "plain"])
def test_no_value_of_dropped_rows_alone_survives(tmp_path: Path, name: str, coded: bool) -> None:
    table = pa.table({"c": CANARIES[name], "row": range(ROWS)})
    source = shard_of(
        tmp_path / "in.parquet", table, compression="none", use_dictionary=coded, write_page_index=True, row_group_size=GROUP
    )
    there = CANARY in source.read_bytes()
    # Of hidden values nothing is in the file to begin with, nor of unused entries where pages are plain.
    assert there or "under nulls" in name or (name == "dictionary with unused entries")
    filtered(source, tmp_path / "out.parquet")
    require_same(source, tmp_path / "out.parquet")
    assert CANARY not in (tmp_path / "out.parquet").read_bytes()
    assert CANARY[::-1] not in (tmp_path / "out.parquet").read_bytes()


def test_the_scan_would_see_a_leak(tmp_path: Path) -> None:
    """What pyarrow alone leaves behind: the control of the test above."""
    kept = pa.table({"c": CATEGORIES}).filter(pa.array(KEEP))
    assert CANARY in shard_of(tmp_path / "out.parquet", kept, compression="none").read_bytes()


def test_bloom_filters_and_indexes_of_the_source_do_not_come_along(tmp_path: Path) -> None:
    source = shard_of(
        tmp_path / "in.parquet",
        pa.table({"c": TEXT}),
        compression="none",
        write_page_index=True,
        bloom_filter_options={"c": {"ndv": 100}},
    )
    filtered(source, tmp_path / "out.parquet")
    assert CANARY not in (tmp_path / "out.parquet").read_bytes()
    fields = Reader(_footer_of((tmp_path / "out.parquet").read_bytes())).struct()
    assert 14 not in chunk(fields, 0, 0)


def test_metadata_that_is_to_go_goes(tmp_path: Path) -> None:
    table = pa.table({"c": TEXT}).replace_schema_metadata({"huggingface": "CANARY", "kept": "yes"})
    source = shard_of(tmp_path / "in.parquet", table, compression="none")
    filtered(source, tmp_path / "out.parquet", drop_metadata=["huggingface"])
    assert pq.read_schema(tmp_path / "out.parquet").metadata == {b"kept": b"yes"}
    assert CANARY not in (tmp_path / "out.parquet").read_bytes()


def test_same_input_and_mask_same_bytes(tmp_path: Path) -> None:
    table = pa.table({"t": WORDS[:20] * 2, "l": ARRAYS["list of structs"], "d": ARRAYS["dictionary"]})
    source = shard_of(tmp_path / "in.parquet", table)
    filtered(source, tmp_path / "a.parquet")
    code = """
import sys, numpy as np, pyarrow as pa
from ledger.shards.publish import HashingSink
from ledger.shards.rewrite import ShardFile, rewrite
keep = [c == "1" for c in sys.argv[3]]
with ShardFile(sys.argv[1]) as shard, HashingSink(sys.argv[2]) as sink:
    rewrite(shard, sink, lambda group: pa.array(keep[group * 16:group * 16 + 16]))
    sink.publish()
"""
    run = [sys.executable, "-c", code, source, tmp_path / "b.parquet", "".join(str(int(kept)) for kept in KEEP)]
    subprocess.run(run, cwd=Path(__file__).parents[2], check=True)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


# What goes wrong leaves nothing under the final name.


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return shard_of(tmp_path / "in" / "x.parquet", pa.table({"a": WORDS[:20] * 2, "n": range(ROWS)}), write_page_checksum=True)


def everything(group: int) -> Any:
    return np.ones((16, 16, 8)[group], bool)


def attempt(source: Path, masks: Callable[[int], Any] = everything) -> list[Path]:
    """Rewrites into a folder of its own; what is there after an exception is in its notes."""
    out = source.parent.parent / "out"
    with ShardFile(source) as shard, HashingSink(out / "x.parquet") as sink:
        rewrite(shard, sink, masks)
        sink.publish()
    return list(out.iterdir())


def require_nothing(source: Path) -> None:
    gc.collect()
    assert list((source.parent.parent / "out").iterdir()) == []


def test_an_exception_midway(source: Path) -> None:
    def masks(group: int) -> Any:
        if group == 2:
            raise KeyboardInterrupt
        return everything(group)

    with pytest.raises(KeyboardInterrupt):
        attempt(source, masks)
    require_nothing(source)


def test_a_failed_rewrite_discards_its_sink(source: Path) -> None:
    out = source.parent.parent / "out"
    sink = HashingSink(out / "x.parquet")
    with ShardFile(source) as shard, pytest.raises(ShardError):
        rewrite(shard, sink, lambda group: pa.nulls(16, pa.bool_()))
    assert list(out.iterdir()) == []
    with pytest.raises(ShardError, match="discarded"):
        sink.publish()


@pytest.mark.parametrize(
    "mask",
    [np.ones(15, bool), np.ones(17, bool), np.array([], bool), pa.array([True] * 15 + [None]), pa.nulls(16, pa.bool_())],
    ids=["short", "long", "empty", "a null", "nulls"],
)
def test_a_mask_that_does_not_answer_for_each_row(source: Path, mask: Any) -> None:
    with pytest.raises(ShardError, match="for the 16 rows of row group 0"):
        attempt(source, lambda group: mask)
    require_nothing(source)


def test_numbers_are_no_mask(source: Path) -> None:
    with pytest.raises((TypeError, ShardError)):
        attempt(source, lambda group: np.nonzero(everything(group))[0])
    require_nothing(source)


def test_a_killed_rewrite(source: Path) -> None:
    code = """
import os, signal, sys, numpy as np
from ledger.shards.publish import HashingSink
from ledger.shards.rewrite import ShardFile, rewrite
def masks(group):
    if group == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return np.ones(16, bool)
with ShardFile(sys.argv[1]) as shard, HashingSink(sys.argv[2]) as sink:
    rewrite(shard, sink, masks)
"""
    out = source.parent.parent / "out"
    done = subprocess.run([sys.executable, "-c", code, source, out / "x.parquet"], cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [(path.name[0], path.suffix) for path in out.iterdir()] == [(".", ".tmp")]


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def touch(path: Path) -> None:
    os.utime(path)


def truncate(path: Path) -> None:
    os.truncate(path, 10)


def replace(path: Path) -> None:
    copy = path.with_suffix(".copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)


def overwrite(path: Path) -> None:
    """In place and of the same length, with its time of change put back."""
    status = path.stat()
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("change", [append, touch, truncate, replace, overwrite, Path.unlink])
def test_an_input_that_changes_while_it_is_read(source: Path, change: Callable[[Path], None]) -> None:
    def masks(group: int) -> Any:
        if group == 1:
            change(source)
        return everything(group)

    with pytest.raises(ShardError, match=r"x\.parquet"):
        attempt(source, masks)
    require_nothing(source)


def test_a_page_that_does_not_match_its_checksum(source: Path) -> None:
    whole = bytearray(source.read_bytes())
    numbers = chunk(Reader(_footer_of(whole)).struct(), 1, 1)
    whole[numbers[11][1] + numbers[7][1] - 1] ^= 1  # the last byte of the column's last page
    source.write_bytes(whole)
    with pytest.raises(ShardError, match="cannot be read"):
        attempt(source)
    require_nothing(source)


def test_damage_anywhere_is_an_error_or_seen_as_it_is(source: Path) -> None:
    whole = source.read_bytes()
    table = pq.read_table(source)
    failed = 0
    for at in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        source.write_bytes(damaged)
        try:
            attempt(source)
        except ShardError:
            failed += 1
            continue
        # Pages are under checksums; what got through is in places that hold no values of rows.
        assert (
            pq.ParquetFile(source.parent.parent / "out" / "x.parquet").read().equals(table)
            or at > len(whole) - len(_footer_of(whole)) - 8
        )
    assert failed > len(whole) // 7 // 3


@pytest.mark.parametrize("content", [b"", b"PAR1", b"hello world, this is text", b"PAR1" * 10])
def test_what_is_no_shard(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(ShardError, match=r"x\.parquet"):
        ShardFile(tmp_path / "x.parquet")


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.parquet", tmp_path):
        with pytest.raises(ShardError, match="cannot be read"):
            ShardFile(path)


class Vault(pe.KmsClient):  # type: ignore[misc]
    """Wraps keys in nothing: enough to write an encrypted file."""

    def __init__(self, config: Any) -> None:
        pe.KmsClient.__init__(self)

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
        return key_bytes.hex().encode()

    def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:
        return bytes.fromhex(wrapped_key.decode())


@pytest.mark.parametrize("plaintext_footer", [True, False])
def test_encrypted_shards_are_refused(tmp_path: Path, plaintext_footer: bool) -> None:
    """With a plaintext footer such a file opens, and its unencrypted key columns read."""
    factory = pe.CryptoFactory(lambda config: Vault(config))
    config = pe.EncryptionConfiguration(footer_key="f", column_keys={"k": ["secret"]}, plaintext_footer=plaintext_footer)
    properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), config)
    sink = io.BytesIO()
    table = pa.table({"id": ["a"], "secret": ["b"]})
    with pq.ParquetWriter(sink, table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    (tmp_path / "x.parquet").write_bytes(sink.getvalue())
    with pytest.raises(ShardError, match="encrypted") as refused:
        ShardFile(tmp_path / "x.parquet")
    assert refused.value.hint


def test_the_output_is_opened_again_and_compared(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graft = footer.Footer.graft

    def careless(self: Any, tail: bytes, carried: Any) -> bytes:
        return graft(self, tail, {number: value for number, value in carried.items() if number != 5})

    monkeypatch.setattr(footer.Footer, "graft", careless)
    with pytest.raises(ShardError, match="has not the schema and rows"):
        attempt(source)
    require_nothing(source)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_real_shards(shared: Path, tmp_path: Path, share: float) -> None:
    shards = sorted((shared / "data").rglob("*.parquet"))
    assert shards
    for number, path in enumerate(shards):
        keep = np.random.default_rng(number).random(pq.read_metadata(path).num_rows) < share
        assert filtered(path, tmp_path / "out.parquet", keep) == keep.sum()
        require_same(path, tmp_path / "out.parquet", keep)
        before, after = pq.read_table(path), pq.read_table(tmp_path / "out.parquet")
        assert after.schema.equals(before.schema, check_metadata=True)
        assert after.equals(before.filter(pa.array(keep)))
