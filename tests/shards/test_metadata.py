"""Metadata that may hold values of dropped rows: warned of, and left out where that is asked for, wherever it stands."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import arro3.io
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import ledger
from ledger.consent import Event
from ledger.errors import UsageError
from tests.conftest import Outcome
from tests.shards import engines
from tests.shards.world import World

KEYS = ["yes", "no", "later", "no"]


def unpacked(path: Path) -> bytes:
    """The file, and its Arrow schema out of base64."""
    metadata = pq.read_metadata(path).metadata or {}
    return path.read_bytes() + base64.b64decode(metadata.get(b"ARROW:schema", b""))


def by_polars(path: Path) -> None:
    kind = pl.Enum(["kept", "CANARY"])
    pl.DataFrame(
        {"s": KEYS, "e": pl.Series(["kept", "CANARY"] * 2, dtype=kind), "l": [[v] for v in ["kept", "CANARY"] * 2]}
    ).cast({"l": pl.List(kind)}).write_parquet(path)


def by_pandas(path: Path) -> None:
    frame = pd.DataFrame({"s": KEYS})
    frame.attrs = {"best": "CANARY"}
    frame.to_parquet(path)


def by_parquet_rs(path: Path) -> None:
    labels = {"info": {"features": {"a": {"names": ["CANARY"], "_type": "ClassLabel"}}}}
    table = pa.table({"s": KEYS}).replace_schema_metadata({"huggingface": json.dumps(labels)})
    arro3.io.write_parquet(table, path)


def by_geo(path: Path) -> None:
    geo = {"columns": {"g": {"bbox": ["CANARY"]}}}
    pq.write_table(pa.table({"s": KEYS}).replace_schema_metadata({"geo": json.dumps(geo), "kept": "yes"}), path)


CARRIERS: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "Polars enums": (by_polars, ["_PL_ENUM_VALUES2"]),
    "pandas attributes": (by_pandas, ["PANDAS_ATTRS", "pandas"]),
    "class labels, in the Arrow schema alone": (by_parquet_rs, ["huggingface"]),
    "boxes": (by_geo, ["geo"]),
}


@pytest.mark.parametrize("name", CARRIERS)
def test_what_a_warning_names_can_be_dropped_and_is_gone(world: World, name: str) -> None:
    write, keys = CARRIERS[name]
    source = world.root / "in" / "a.parquet"
    source.parent.mkdir()
    write(source)
    kept = world.run(source, output="kept")
    assert b"CANARY" in unpacked(world.root / "kept" / "a.parquet"), "the publisher's metadata is kept unless told"
    named = [re.search(r"--drop-metadata (\S+) removes", warning) for warning in kept.record.warnings]
    assert [found[1] for found in named if found] == keys
    run = world.run(source, output="out", drop_metadata=keys)
    assert not run.record.warnings
    assert run.record.dropped_metadata == tuple(keys)
    out = world.root / "out" / "a.parquet"
    assert b"CANARY" not in unpacked(out)
    assert pq.read_table(out).column("s").to_pylist() == ["yes", "later"]
    assert run.statement is not None
    signed = json.loads(base64.b64decode(json.loads(run.statement.read_bytes().splitlines()[0])["payload"]))
    assert signed["predicate"]["dropped_metadata"] == keys
    ledger.verify(world.root / "out", trust=world.root / "ledger" / "trust")


def test_the_arrow_schema_itself_can_be_dropped(world: World) -> None:
    source = world.root / "in" / "a.parquet"
    source.parent.mkdir()
    by_polars(source)
    run = world.run(source, drop_metadata=["ARROW:schema"])
    assert not run.record.warnings
    assert not pq.read_metadata(world.root / "out" / "a.parquet").metadata


def test_other_metadata_and_types_stay(world: World) -> None:
    source = world.root / "in" / "a.parquet"
    source.parent.mkdir()
    deep = pa.field("x", pa.dictionary(pa.int8(), pa.string()), metadata={"secret": "CANARY", "note": "b"})
    kinds = [
        pa.list_(deep),
        pa.large_list(deep),
        pa.list_(deep, 1),
        pa.struct([deep]),
        pa.map_(pa.field("key", pa.string(), nullable=False), deep),
        pa.list_view(pa.field("x", pa.string(), metadata={"secret": "CANARY", "note": "b"})),
    ]
    fields = [pa.field(f"c{number}", kind, metadata={"note": "a", "secret": "CANARY"}) for number, kind in enumerate(kinds)]
    schema = pa.schema([pa.field("s", pa.string()), *fields], metadata={"secret": "CANARY", "publisher": "p"})
    pq.write_table(pa.table([pa.array(KEYS), *[pa.nulls(4, kind) for kind in kinds]], schema=schema), source)
    world.run(source, drop_metadata=["secret"])
    out = world.root / "out" / "a.parquet"
    assert b"CANARY" not in unpacked(out)
    before, after = pq.read_schema(source), pq.read_schema(out)
    assert after.equals(before)
    assert after.metadata == {b"publisher": b"p"}
    for field in after:
        if field.name != "s":
            assert field.metadata is not None and field.metadata[b"note"] == b"a"
    assert after.field("c0").type.value_field.metadata == {b"note": b"b"}


def test_a_finished_shard_is_done_again_where_other_metadata_is_dropped(world: World) -> None:
    source = world.root / "in" / "a.parquet"
    source.parent.mkdir()
    by_geo(source)
    out = world.root / "out" / "a.parquet"
    for drop, there in (((), {b"geo", b"kept"}), (["geo"], {b"kept"}), (["geo", "kept"], set()), ((), {b"geo", b"kept"})):
        world.run(source, drop_metadata=drop)
        assert set(pq.read_metadata(out).metadata or ()) - {b"ARROW:schema"} == there


def test_a_key_that_no_shard_has_is_told(world: World) -> None:
    (warning,) = world.run(world.shard("in/a.parquet", "yes"), drop_metadata=["gleo"]).record.warnings
    assert "'gleo'" in warning


@pytest.mark.parametrize("key", ["", "x" * 4097, "ARROW:extension:metadata"])
def test_what_cannot_be_dropped_is_refused_before_anything_is_written(world: World, key: str) -> None:
    with pytest.raises(UsageError):
        world.run(world.shard("in/a.parquet", "yes"), drop_metadata=[key])
    assert not (world.root / "out").exists()


def test_the_fields_of_a_shredded_variant_are_warned_of(world: World) -> None:
    """Their names stand in the schema, where the writer put them after looking at the values."""
    source = world.root / "in" / "a.parquet"
    source.parent.mkdir()
    engines.by_duckdb(source, KEYS)
    (warning,) = world.run(source).record.warnings
    assert "column 'v' is a shredded variant" in warning


def test_the_command_drops_metadata(book: Any, tmp_path: Path, consent: Callable[..., Outcome]) -> None:
    book.record(Event(state="given", subject_id="yes", purposes=["train-ai"], occurred_at=ledger.times.now()))
    by_geo(tmp_path / "a.parquet")
    line = ("filter", "a.parquet", "-o", "out", "--purpose", "train-ai", "--subject", "s")
    first = consent(*line)
    assert first.code == 0
    assert "--drop-metadata geo" in first.err
    second = consent(*line, "--drop-metadata", "geo")
    assert (second.code, "warning" in second.err) == (0, False)
    assert set(pq.read_metadata(tmp_path / "out" / "a.parquet").metadata) == {b"ARROW:schema", b"kept"}
