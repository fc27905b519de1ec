"""What a rewritten shard does not have from its source, and the rest of the table in docs/parquet.md."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ledger.errors import ShardError
from ledger.shards.rewrite import ShardFile, require_carriable
from ledger.shards.table import keep
from ledger.shards.thrift import BINARY, LIST, STRUCT, Items
from tests.shards.rewriting import KEEP, ROWS, WORDS, chunk, filtered, patch, require_same, shard_of
from tests.shards.world import World

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "parquet.md"


def test_every_row_of_the_page_names_a_test_that_is_there() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ") and "---" not in line]
    named = [re.search(r"`(test_\w+)\.(test_\w+)` \|$", row) for row in rows if not row.endswith("| test |")]
    assert len(named) > 40
    for found, row in zip(named, [row for row in rows if not row.endswith("| test |")], strict=True):
        assert found, row
        tree = ast.parse((HERE / f"{found[1]}.py").read_text(encoding="utf-8"))
        assert found[2] in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, row


def test_what_describes_the_old_pages_is_dropped(tmp_path: Path) -> None:
    table = pa.table({"n": pa.array(range(ROWS), pa.int64()), "t": WORDS[:20] * 2})
    source = shard_of(
        tmp_path / "in.parquet",
        table,
        sorting_columns=[pq.SortingColumn(0)],
        data_page_version="2.0",
        use_dictionary=False,
        column_encoding={"n": "DELTA_BINARY_PACKED", "t": "DELTA_BYTE_ARRAY"},
        version="1.0",
    )

    def more(fields: Any) -> None:
        fields[6] = BINARY, b"someone's writer CANARY"
        for group in range(3):
            chunk(fields, group, 0)[8] = LIST, Items(STRUCT, [{1: (BINARY, b"k"), 2: (BINARY, b"CANARY")}])

    patch(source, more)
    assert pq.read_metadata(source).row_group(0).sorting_columns
    filtered(source, tmp_path / "out.parquet")
    require_same(source, tmp_path / "out.parquet")
    out = pq.read_metadata(tmp_path / "out.parquet")
    assert not out.row_group(0).sorting_columns
    assert out.created_by.startswith("parquet-cpp-arrow")
    assert not {"DELTA_BINARY_PACKED", "DELTA_BYTE_ARRAY"} & set(out.row_group(0).column(0).encodings)
    assert b"CANARY" in source.read_bytes()
    assert b"CANARY" not in (tmp_path / "out.parquet").read_bytes()


def test_the_first_row_groups_codec_is_kept_where_they_differ(tmp_path: Path) -> None:
    table = pa.table({"t": WORDS[:20] * 2})
    parts = [
        shard_of(tmp_path / f"{codec}.parquet", table, compression=codec, row_group_size=ROWS).read_bytes()
        for codec in ("gzip", "zstd")
    ]
    # The second file's pages behind the first's, and its row group in the first's footer.
    bodies = [part[4 : -8 - int.from_bytes(part[-8:-4], "little")] for part in parts]
    source = tmp_path / "in.parquet"
    source.write_bytes(b"PAR1" + bodies[0] + bodies[1] + parts[0][4 + len(bodies[0]) :])
    groups: list[Any] = []
    patch(tmp_path / "zstd.parquet", lambda fields: groups.extend(fields[4][1].values))

    def join(fields: Any) -> None:
        column = groups[0][1][1].values[0][3][1]
        for offset in (9, 11):
            if offset in column:
                column[offset] = column[offset][0], column[offset][1] + len(bodies[0])
        fields[4][1].values.append(groups[0])
        fields[3] = fields[3][0], 2 * ROWS

    patch(source, join)
    both = np.concatenate([KEEP, KEEP])
    with ShardFile(source) as shard:
        assert shard.footer.codecs == ((2, 6),)
    filtered(source, tmp_path / "out.parquet", both)
    with ShardFile(tmp_path / "out.parquet") as shard:
        assert shard.footer.codecs == ((2,),)
    assert pq.read_table(tmp_path / "out.parquet").equals(pq.read_table(source).filter(pa.array(both)))


def test_a_shard_without_statistics_or_row_groups(tmp_path: Path) -> None:
    source = shard_of(tmp_path / "in.parquet", pa.table({"t": WORDS[:20] * 2}), write_statistics=False)
    filtered(source, tmp_path / "out.parquet")
    require_same(source, tmp_path / "out.parquet")
    with pq.ParquetWriter(tmp_path / "none.parquet", pa.schema([("t", pa.string())])):
        pass
    assert pq.read_metadata(tmp_path / "none.parquet").num_row_groups == 0
    assert filtered(tmp_path / "none.parquet", tmp_path / "out.parquet", np.array([], bool)) == 0
    require_same(tmp_path / "none.parquet", tmp_path / "out.parquet", np.array([], bool))


def test_a_row_group_that_is_too_long_is_refused(tmp_path: Path) -> None:
    source = shard_of(tmp_path / "in.parquet", pa.table({"t": WORDS[:20] * 2}), row_group_size=ROWS)

    def longer(fields: Any) -> None:
        fields[3] = fields[3][0], 70_000_000
        fields[4][1].values[0][3] = fields[4][1].values[0][3][0], 70_000_000

    patch(source, longer)
    with ShardFile(source) as shard, pytest.raises(ShardError, match="row group of 70,000,000 rows"):
        require_carriable(shard)


def test_run_ends_are_not_written_to_parquet_and_are_refused_in_memory(tmp_path: Path) -> None:
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([1, 2], pa.int32()), pa.array(["a", "CANARY"]))
    with pytest.raises(pa.ArrowNotImplementedError):
        pq.write_table(pa.table({"x": runs}), tmp_path / "x.parquet")
    with pytest.raises(ShardError, match=r"'x' is run_end_encoded"):
        keep(pa.table({"x": runs}), pa.array([True, False]))


def test_an_arrow_schema_that_cannot_be_read_is_warned_of(world: World) -> None:
    source = world.root / "in" / "a.parquet"
    source.parent.mkdir()
    pl.DataFrame({"s": ["yes", "no"], "wide": pl.Series([1, 2], dtype=pl.Int128)}).write_parquet(source)
    (warning,) = world.run(source).record.warnings
    assert "'ARROW:schema'" in warning
    assert not world.run(source, output="again", drop_metadata=["ARROW:schema"]).record.warnings
    with pytest.raises(ShardError, match="Arrow schema cannot be read") as refused:
        world.run(source, output="never", drop_metadata=["note"])
    assert "ARROW:schema" in str(refused.value.hint)
    assert not (world.root / "never").exists()
