"""Ray Data keeps what the reference keeps, with one copy of the answers a host and the schema of what is empty."""

from __future__ import annotations

import pickle
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import ledger
from ledger import times
from ledger.errors import SnapshotError
from tests.integrations.drawn import draw
from tests.integrations.told import run
from tests.shards.world import World

CANARY = "CANARY-of-a-dropped-row"


def of(world: World, **options: Any) -> ledger.ConsentFilter:
    return ledger.ConsentFilter(options.pop("snapshot", world.snapshot), ledger.Columns(**{"subject": "s", **options}))


def blocks(ds: Any) -> list[Any]:
    import ray

    return ray.get(ds.to_arrow_refs())


def test_rows_and_reasons_are_those_of_the_reference(ray: Any, tmp_path: Path) -> None:
    from ledger.integrations.ray import consent_filter, counts

    for seed in (0, 5):
        drawn = draw(seed, tmp_path)
        ds = ray.data.from_arrow([drawn.table.slice(k, 80) for k in range(0, 400, 80)])
        kept = consent_filter(ds, drawn.consent, concurrency=2)
        assert sorted(row["n"] for row in kept.iter_rows()) == drawn.kept
        assert counts(ds, drawn.consent, batch_size=33) == drawn.counts
        assert counts(kept, drawn.consent) == {"allowed": len(drawn.kept)}


def test_written_shards_pass_an_audit(ray: Any, world: World, tmp_path: Path) -> None:
    from ledger.integrations.ray import KeepConsented, Shared

    world.shard("in/a.parquet", "yes", "no")
    world.shard("in/b.parquet", "stranger", "no")
    ds = ray.data.read_parquet(str(tmp_path / "in"))
    shared = Shared(of(world))
    ds.map_batches(KeepConsented, fn_constructor_args=[shared], batch_format="pyarrow").write_parquet(str(tmp_path / "out"))
    audit = of(world).audit_shards([tmp_path / "out"])
    assert audit.compliant and pq.read_table(tmp_path / "out")["s"].to_pylist() == ["yes"]


def test_what_loses_all_rows_keeps_its_schema_and_nothing_else(ray: Any, world: World) -> None:
    from ledger.integrations.ray import consent_filter, counts

    text = pa.array(["no", CANARY, CANARY])
    table = pa.table(
        {
            "s": text,
            "code": text.dictionary_encode(),
            "list": pa.array([[CANARY]] * 3, pa.list_(pa.string())),
            "n": pa.array([1, 2, 3], pa.int8()),
            "t": pa.array([1, 2, 3], pa.timestamp("ms", "UTC")),
        }
    )
    ds = ray.data.from_arrow([table, table])
    kept = consent_filter(ds, of(world)).materialize()
    assert kept.count() == 0
    assert kept.schema().base_schema == table.schema
    assert [block.schema for block in blocks(kept)] == [table.schema] * 2
    assert CANARY.encode() not in pickle.dumps(blocks(kept))
    assert counts(kept, of(world)) == {}
    assert counts(ds, of(world)) == {"no_record": 4, "withdrawn": 2}


def test_no_value_of_a_dropped_row_stays_in_a_block(ray: Any, world: World) -> None:
    from ledger.integrations.ray import consent_filter

    words = ["fine", CANARY, "also fine"]
    table = pa.table({"s": ["yes", "no", "later"], "code": pa.array(words).dictionary_encode(), "list": [[w] for w in words]})
    kept = consent_filter(ray.data.from_arrow(table), of(world)).materialize()
    assert [row["code"] for row in kept.take_all()] == ["fine", "also fine"]
    assert CANARY.encode() not in pickle.dumps(blocks(kept))


def test_tensors_come_through(ray: Any, world: World) -> None:
    from ledger.integrations.ray import consent_filter

    def shaped(batch: Any) -> Any:
        ragged = np.empty(3, object)
        ragged[:] = [np.full((n + 1, 2), n) for n in range(3)]
        return {"s": batch["s"], "same": np.arange(12).reshape(3, 2, 2), "ragged": ragged}

    ds = ray.data.from_arrow(pa.table({"s": ["no", "yes", "later"]})).map_batches(shaped, batch_format="numpy").materialize()
    kept = consent_filter(ds, of(world)).materialize()
    assert kept.schema() == ds.schema()
    rows = {row["s"]: row for row in kept.take_all()}
    assert rows["yes"]["same"].tolist() == [[4, 5], [6, 7]] and rows["later"]["ragged"].tolist() == [[2, 2]] * 3


def test_the_answers_lie_once_in_the_memory_of_a_host(ray: Any, tmp_path: Path) -> None:
    """A worker maps them from Ray's store, read-only; it builds no index and reads no snapshot."""
    from ledger.integrations.ray import KeepConsented, Shared

    class Look(KeepConsented):
        def __call__(self, batch: Any) -> Any:
            answers = self._shared.get()[1]
            parts = [vars(answers.index), vars(answers.index.subjects), answers.index.unknown_item, vars(answers._ids)]
            arrays = [value for part in parts for value in part.values() if isinstance(value, np.ndarray)]
            assert len(arrays) > 12
            owned = sum(a.nbytes for a in arrays if a.flags.owndata or a.flags.writeable)
            buffers = [] if (text := answers._ids._text) is None else text.buffers()
            owned += sum(b.size for b in buffers if b is not None and b.is_mutable)
            from ledger.shards import answers as here

            kept = super().__call__(batch)
            return pa.table({"owned": [owned], "built": [len(here._built)], "kept": [kept.num_rows]})

    drawn = draw(0, tmp_path)
    shared = Shared(drawn.consent)
    assert drawn.consent.snapshot.path is not None
    drawn.consent.snapshot.path.unlink()
    ds = ray.data.from_arrow([drawn.table, drawn.table])
    looked = ds.map_batches(Look, fn_constructor_args=[shared], batch_format="pyarrow", concurrency=2).take_all()
    assert looked == [{"owned": 0, "built": 0, "kept": len(drawn.kept)}] * 2


@pytest.mark.parametrize("column", [[True, False], [1.0, 2.0], [None, None]])
def test_columns_that_are_no_keys_stop_the_work(column: list[Any], ray: Any, world: World) -> None:
    from ledger.integrations.ray import consent_filter

    with pytest.raises(Exception, match="cannot be a key"):
        consent_filter(ray.data.from_arrow(pa.table({"s": column})), of(world)).materialize()


def test_batches_of_another_format_stop_the_work(ray: Any, world: World) -> None:
    from ledger.integrations.ray import CountReasons, KeepConsented, Shared

    shared = Shared(of(world))
    for work in (KeepConsented, CountReasons):
        with pytest.raises(ledger.UsageError, match="Arrow"):
            work(shared)({"s": np.array(["yes"])})


def test_freshness_is_judged_when_the_work_runs(ray: Any, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from ledger.integrations.ray import KeepConsented, Shared, consent_filter

    ds = ray.data.from_arrow(pa.table({"s": ["yes"]}))
    old = of(world, snapshot=replace(world.snapshot, max_age=timedelta(0)))
    with pytest.raises(SnapshotError, match="old"):
        consent_filter(ds, old)
    work = KeepConsented(Shared(of(world)))
    assert work(pa.table({"s": ["yes"]})).num_rows == 1
    monkeypatch.setattr("ledger.times.now", lambda: world.snapshot.header.as_of + timedelta(hours=25))
    with pytest.raises(SnapshotError, match="old"):
        work(pa.table({"s": ["yes"]}))


def test_the_answers_of_another_filter_are_refused(world: World) -> None:
    """A yes of the answers before a withdrawal, or of another purpose, is none of this filter's."""
    first, rows = of(world), pa.table({"s": ["later"]})
    assert first.decide(rows, pickle.loads(pickle.dumps(first.answers))).reason.to_pylist() == ["allowed"]
    world.book.withdraw("later", purposes=["ai"])
    world.yes("short", expires_at=times.now() + timedelta(seconds=60))
    second = of(world, snapshot=world.freeze("ai", "second"))
    assert second.decide(rows).reason.to_pylist() == ["withdrawn"]
    third = replace(second, decided_at=second.decided_at + timedelta(seconds=61))  # a yes has run out since
    for one, other in (second, first), (second, of(world, snapshot=world.freeze("other"))), (second, third), (third, second):
        with pytest.raises(ledger.UsageError, match="another filter's"):
            one(rows, other.answers)
    assert replace(second, decided_at=second.decided_at + timedelta(seconds=1))(rows, second.answers).num_rows == 0


def test_the_lines_of_the_documents_do_what_they_say(ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = run("Ray Data", tmp_path, monkeypatch)
    assert told["reasons"] == {"allowed": 1, "withdrawn": 1, "no_record": 1}
    assert pq.read_table(tmp_path / "train")["post_id"].to_pylist() == ["1"]
    assert told["consent"].audit_shards(["train"]).compliant
