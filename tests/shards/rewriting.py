"""What tests of rewriting share: shards made and rewritten, and a comparison that sees every difference."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ledger.shards.publish import HashingSink
from ledger.shards.rewrite import ShardFile, rewrite
from ledger.shards.thrift import LIST, Reader, Writer

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
        assert _paths(after)[1:] == _paths(after)[:1] * (len(after.footer.rows) - 1)
        assert _paths(after)[:1] == _paths(before)[: len(_paths(after)[:1])]


def _paths(shard: ShardFile) -> list[Any]:
    """Of each row group, each column chunk's path and physical type."""
    groups = Reader(shard.footer.fields[4][1]).value(LIST).values
    return [[[part[1] for part in (chunk[3][1][3], chunk[3][1][1])] for chunk in group[1][1].values] for group in groups]


def _floats_as_integers(table: pa.Table) -> pa.Table:
    """Top-level floats by their bits: NaN equals nothing."""
    for number, field in enumerate(table.schema):
        if pa.types.is_floating(field.type):
            column = table.column(number).combine_chunks()
            table = table.set_column(number, field.name, column.view(f"int{field.type.bit_width}"))
    return table


def chunks_of(path: Path) -> list[Any]:
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


def shard_of(path: Path, table: pa.Table, **options: Any) -> Path:
    pq.write_table(table, path, **({"row_group_size": GROUP} | options))
    return path


def python(column: Any) -> list[str]:
    """By their repr: NaN equals nothing. Times as integers: Python has no nanoseconds, and no year 30000."""
    kind = column.type
    if pa.types.is_temporal(kind):
        column = column.cast(pa.int32() if kind.bit_width == 32 else pa.int64())
    return [repr(value) for value in column.to_pylist()]


def footer_of(file: bytes) -> bytes:
    return file[-8 - int.from_bytes(file[-8:-4], "little") : -8]


def patch(path: Path, change: Callable[[Any], None]) -> None:
    """Changes the file's FileMetaData, as a Struct."""
    file = path.read_bytes()
    start = len(file) - 8 - len(footer_of(file))
    fields = Reader(footer_of(file)).struct()
    change(fields)
    writer = Writer()
    writer.struct(dict(sorted(fields.items())))
    path.write_bytes(file[:start] + bytes(writer.data) + len(writer.data).to_bytes(4, "little") + b"PAR1")


def chunk(fields: Any, group: int, column: int) -> Any:
    return fields[4][1].values[group][1][1].values[column][3][1]
