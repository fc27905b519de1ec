"""A rewritten shard keeps its layout: codecs, names, row groups, and the forms of old writers."""

from __future__ import annotations

import decimal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ledger.errors import ShardError
from ledger.shards.rewrite import ShardFile
from ledger.shards.thrift import BINARY, I32, LIST, STRUCT, Items
from tests.shards.rewriting import (
    KEEP,
    PAIR,
    PAIRS,
    ROWS,
    WORDS,
    categories,
    chunk,
    chunks_of,
    filtered,
    patch,
    require_same,
    shard_of,
    some,
)

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
    chunks = chunks_of(tmp_path / "out.parquet")
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
    unsigned, text, number = chunks_of(tmp_path / "out.parquet")
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
    assert chunks_of(tmp_path / "out.parquet")[0].has_offset_index
    assert chunks_of(tmp_path / "out.parquet")[0].has_column_index
    assert duckdb.sql(f"select count(*) from '{tmp_path / 'out.parquet'}'").fetchall() == [(KEEP.sum(),)]


def test_same_input_and_mask_same_bytes(tmp_path: Path) -> None:
    table = pa.table({"t": WORDS[:20] * 2, "l": some([PAIRS, [], [None]], pa.list_(PAIR)), "d": categories(False)})
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
