"""A rewritten shard is its source without the dropped rows: any type, the same schema to the byte, the same values to the bit."""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.shards.rewrite import ShardFile
from ledger.shards.thrift import I32, STRUCT
from tests.shards.rewriting import (
    DAY,
    GROUP,
    INTS,
    KEEP,
    LATE,
    PAIR,
    PAIRS,
    ROWS,
    WORDS,
    categories,
    chunks_of,
    filtered,
    patch,
    python,
    require_same,
    shard_of,
    some,
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
        keys = shard.read_keys(0, ["t"]).column("t")
    assert keys.to_pylist() == moments.slice(0, GROUP).cast(pa.timestamp("ms"), safe=False).to_pylist()


def test_int96_keeps_its_nanoseconds_and_nonsense(tmp_path: Path) -> None:
    source = int96_shard(tmp_path / "in.parquet", pa.array(range(1, ROWS + 1), pa.timestamp("ns")))
    filtered(source, tmp_path / "out.parquet")
    require_same(source, tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet")["t"].cast(pa.int64()).to_pylist() == list(np.nonzero(KEEP)[0] + 1)


def test_annotations_that_no_reader_here_knows_are_kept(tmp_path: Path) -> None:
    source = shard_of(tmp_path / "in.parquet", pa.table({"v": some([b"\0\xff", b"x"], pa.binary())}), store_schema=False)

    def variant(fields: Any) -> None:
        fields[2][1].values[1][10] = STRUCT, {99: (STRUCT, {1: (I32, 5)})}

    patch(source, variant)
    filtered(source, tmp_path / "out.parquet")
    require_same(source, tmp_path / "out.parquet")
    assert not chunks_of(tmp_path / "out.parquet")[0].is_stats_set


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
