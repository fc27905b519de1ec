"""Shards as other engines write them: a key column `s`, a row number, and every kind of payload that the engine has.

Each writer takes the path and the keys, and returns how that engine reads such a file back: its rows as plain values.
"""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import arro3.io
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

Rows = list[Any]
Reads = Callable[[Path], Rows]
LATE = datetime.datetime(9999, 12, 31, 23, 59, 59, 999999)


def by_duckdb(path: Path, keys: list[str], *, codec: str = "zstd") -> Reads:
    duckdb.sql(
        f"""
        copy (select s, i::integer as row, (['sad','ok','happy'])[i % 3 + 1]::enum('sad','ok','happy','never') as mood,
              i::utinyint as u8, i::uhugeint as huge, i::decimal(4,1) as d4, i::decimal(18,3) as d18, i::decimal(38,5) as d38,
              interval (i) day as span,
              time '12:00:00' + interval (i) second as t, timestamptz '2024-01-01 00:00:00+02' + interval (i) hour as tz,
              uuid() as uid, [i, null, i + 1] as l, [[i::varchar], []] as ll, {{'a': i, 'b': {{'c': [i::varchar]}}}} as st,
              map {{'k' || i: [i]}} as m, case when i % 3 = 0 then null else 'x' || i end as n,
              i::varchar::blob as raw, '101'::bit as bits, {{'field': i, 'of': ['x']}}::variant as v,
              timestamp_ns '2024-01-01 00:00:00.123456789' as ns, i::float as f, null as nothing
              from (select unnest(?) as s, unnest(range(?)) as i))
        to '{path}' (format parquet, row_group_size 16, compression {codec})
        """,
        params=[keys, len(keys)],
    )
    return lambda file: duckdb.sql(f"select columns(*)::varchar from '{file}' order by row::int").fetchall()


def by_polars(path: Path, keys: list[str]) -> Reads:
    number = range(len(keys))
    pl.DataFrame(
        {
            "s": pl.Series(keys, dtype=pl.Categorical),
            "row": pl.Series(number, dtype=pl.UInt16),
            "enum": pl.Series([["a", "b"][n % 2] for n in number], dtype=pl.Enum(["b", "a", "never"])),
            "enums": pl.Series([[["a", None, "b"][n % 3]] for n in number], dtype=pl.List(pl.Enum(["b", "a", "never"]))),
            "array": pl.Series([[n, n + 1] for n in number], dtype=pl.Array(pl.Int8, 2)),
            "decimal": pl.Series([f"{n}.5" for n in number]).cast(pl.Decimal(20, 2)),
            "duration": pl.Series([datetime.timedelta(days=n) for n in number]),
            "time": pl.Series([datetime.time(n % 24, 1, 2, 3) for n in number]),
            "when": pl.Series([LATE] * len(keys), dtype=pl.Datetime("us")),
            "struct": [{"x": [str(n)], "y": None} for n in number],
            "wide": pl.Series([n - 5 for n in number], dtype=pl.Int128),
            "null": pl.Series([None] * len(keys), dtype=pl.Null),
            "binary": [f"{n}".encode() for n in number],
        }
    ).write_parquet(path, row_group_size=16, statistics="full")
    return lambda file: pl.read_parquet(file).rows()


def by_pandas(path: Path, keys: list[str]) -> Reads:
    number = range(len(keys))
    frame = pd.DataFrame(
        {
            "s": pd.Categorical(keys, categories=[*sorted(set(keys)), "never"], ordered=True),
            "row": pd.array(list(number), dtype="Int32"),
            "text": pd.array([None if n % 4 == 0 else f"t{n}" for n in number], dtype="string"),
            "when": pd.to_datetime([f"2024-01-{n % 28 + 1:02}" for n in number]).tz_localize("Europe/Berlin"),
            "period": pd.period_range("2024-01", periods=len(keys), freq="M"),
            "interval": pd.arrays.IntervalArray.from_breaks(np.arange(len(keys) + 1)),
            "float16": np.arange(len(keys), dtype=np.float16),
        },
        index=pd.MultiIndex.from_arrays([[f"i{n}" for n in number], list(number)], names=["a", "b"]),
    )
    frame.to_parquet(path, row_group_size=16)
    return lambda file: list(pd.read_parquet(file).reset_index().itertuples(index=False, name=None))


def by_parquet_rs(path: Path, keys: list[str], *, arrow_schema: bool = False) -> Reads:
    number = range(len(keys))
    table = pa.table(
        {
            "s": pa.array(keys, pa.string_view()),
            "row": pa.array(number, pa.uint32()),
            "lists": pa.array([[[n], None, []] for n in number], pa.list_(pa.large_list(pa.int16()))),
            "map": pa.array([[(f"k{n}", {"x": n})] for n in number], pa.map_(pa.string(), pa.struct([("x", pa.float32())]))),
            "half": pa.array(np.arange(len(keys), dtype=np.float16)),
            "decimal": pa.array(number).cast(pa.decimal256(50, 0)),
            "moment": pa.array([n * 10**9 for n in number], pa.timestamp("ns", "UTC")),
            "dictionary": pa.array([f"d{n % 3}" for n in number]).dictionary_encode(),
        }
    )
    arro3.io.write_parquet(
        table,
        path,
        skip_arrow_metadata=not arrow_schema,
        max_row_group_size=16,
        compression="zstd(3)",
        writer_version="parquet_2_0",
        bloom_filter_enabled=True,
    )
    return lambda file: pa.table(arro3.io.read_parquet(file).read_all()).to_pylist()


SPARK_ROW = """
    s, row, cast(row as byte) as i8, cast(row as decimal(9,2)) as d9, cast(row as decimal(38,10)) as d38, cast(row as float) as f,
    timestamp'9999-12-31 23:59:59.999999' as late, timestamp'0001-01-01 00:00:00' as early,
    timestamp_ntz'2024-02-29 12:00:00' as ntz, date'9999-12-31' as day, interval '3' day as span, interval '2' month as months,
    binary(s) as raw,
    if(row % 3 = 0, null, array(row, null)) as l, array(array(cast(row as string)), array()) as ll, map(s, array(row)) as m,
    named_struct('a', row, 'b', named_struct('c', array(s))) as st, array(named_struct('x', row)) as ls
"""


def by_spark(path: Path, keys: list[str], spark: Any, *, legacy: bool = False, variant: bool = False) -> Reads:
    settings = {
        "spark.sql.parquet.outputTimestampType": "INT96" if legacy else "TIMESTAMP_MICROS",
        "spark.sql.parquet.writeLegacyFormat": str(legacy).lower(),
        "spark.sql.parquet.int96RebaseModeInWrite": "CORRECTED",
    }
    for name, value in settings.items():
        spark.conf.set(name, value)
    made = spark.createDataFrame(list(zip(keys, range(len(keys)), strict=True)), "s string, row int").coalesce(1)
    columns = SPARK_ROW + (""", parse_json(concat('{"field": ', row, ', "of": [1, "x"]}')) as v""" if variant else "")
    if legacy:
        columns = columns.replace("timestamp_ntz'2024-02-29 12:00:00' as ntz,", "")
    writer = made.selectExpr(f"inline(array(struct({columns})))").coalesce(1).write
    for name, value in {"parquet.bloom.filter.enabled": "true", "parquet.block.row.count.limit": "16"}.items():
        writer = writer.option(name, value)
    folder = path.with_suffix(".spark")
    writer.parquet(str(folder))
    shutil.move(next(folder.glob("part-*.parquet")), path)
    shutil.rmtree(folder)

    def read(file: Path) -> Rows:
        frame = spark.read.parquet(str(file)).orderBy("row")
        shown = [f"to_json({name})" if name == "v" else f"cast({name} as string)" for name in frame.columns]
        return [tuple(row) for row in frame.selectExpr(*shown).collect()]

    return read
