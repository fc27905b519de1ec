"""Shards of other engines, end to end: filtered by a real ledger, read back by the engine that wrote them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ledger.shards.footer import TYPES
from ledger.shards.rewrite import ShardFile
from tests.shards import engines
from tests.shards.engines import Reads
from tests.shards.rewriting import require_same
from tests.shards.world import World

ROWS = 40
KEYS = [("no", "yes", "stranger", "later")[row % 4] for row in range(ROWS)]
KEPT = np.array([key in ("yes", "later") for key in KEYS])

WRITERS: dict[str, Callable[..., Reads]] = {
    "DuckDB": engines.by_duckdb,
    "DuckDB, lz4": lambda path, keys: engines.by_duckdb(path, keys, codec="lz4"),
    "Polars": engines.by_polars,
    "pandas": engines.by_pandas,
    "parquet-rs": engines.by_parquet_rs,
    "parquet-rs, Arrow schema": lambda path, keys: engines.by_parquet_rs(path, keys, arrow_schema=True),
}
SPARKS: dict[str, dict[str, bool]] = {
    "Spark": {},
    "Spark, legacy lists and INT96": {"legacy": True},
    "Spark, variant": {"variant": True},
}


def require_filtered(world: World, write: Callable[..., Reads], **options: Any) -> Path:
    source = world.root / "in" / "a.parquet"
    source.parent.mkdir()
    read = write(source, KEYS, **options)
    run = world.run(source)
    assert run.record.rows_kept == KEPT.sum()
    out = world.root / "out" / "a.parquet"
    require_same(source, out, KEPT)
    before, after = read(source), read(out)
    assert len(before) == ROWS
    assert list(map(repr, after)) == [repr(row) for row, kept in zip(before, KEPT, strict=True) if kept]
    return out


@pytest.mark.parametrize("engine", WRITERS)
def test_shards_of_other_engines(world: World, engine: str) -> None:
    require_filtered(world, WRITERS[engine])


@pytest.mark.parametrize("form", SPARKS)
def test_shards_of_spark(world: World, spark: Any, form: str) -> None:
    out = require_filtered(world, engines.by_spark, spark=spark, **SPARKS[form])
    if "legacy" in SPARKS[form]:
        with ShardFile(out) as shard:
            leaves = {leaf.names: TYPES[leaf.type] for leaf in shard.footer.leaves}
        assert leaves[(b"late",)] == "INT96"
        assert leaves[(b"l", b"bag", b"array")] == "INT32"
