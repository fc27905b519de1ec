"""Which shards went stale, by the index that their run has left: against what an audit of every row finds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from unittest import mock

import jsonschema
import pytest

from ledger import times
from ledger.consent import Event
from ledger.errors import UsageError, VerificationError
from ledger.filter import ConsentFilter
from ledger.shards.columns import Columns
from ledger.shards.rewrite import ShardFile
from ledger.snapshot import Snapshot
from ledger.stale import Stale
from tests.conftest import Outcome
from tests.shards.test_rerun import four
from tests.shards.world import World

S = Columns(subject="s")


def stale(world: World, snapshot: Snapshot, columns: Columns = S) -> Stale:
    with mock.patch.object(ShardFile, "__init__", side_effect=AssertionError("no shard is read")):
        return ConsentFilter(snapshot, columns).stale_shards(world.root / "out", trust=world.book.trust)


def named(found: Stale) -> dict[str, int]:
    return {Path(shard.path).name: shard.rows for shard in found.shards}


def test_a_withdrawal_and_since_when(world: World) -> None:
    raw = four(world)
    run = world.run(raw)
    assert named(stale(world, world.snapshot)) == {}
    at = times.now() - timedelta(days=3)
    for token in ("ai", "other"):
        world.book.record(Event(state="withdrawn", subject_id="later", purposes=[token], occurred_at=at))
    snapshot = world.freeze("ai", "then")
    found = stale(world, snapshot)
    # Three days ago "later" had not said yes yet: that yes came after, and stands.
    assert named(found) == {}
    world.book.withdraw("later", purposes=["ai"])
    snapshot = world.freeze("ai", "third")
    found = stale(world, snapshot)
    assert named(found) == {"b.parquet": 2, "d.parquet": 1} and found.to_redo == 2 and found.of == 4
    said = [event for _, event in world.book.events() if (event.subject_id, event.state) == ("later", "withdrawn")]
    no = said[-1].recorded_at
    assert [shard.since for shard in found.shards] == [no, no]
    assert (found.run_id, found.rows) == (run.record.run_id, 3)
    audit = ConsentFilter(snapshot, S).audit_shards([world.root / "out"])
    assert {Path(s.path).name: s.rows_without_consent for s in audit.shards if s.rows_without_consent} == named(found)
    world.run(raw, snapshot=snapshot)
    assert named(stale(world, snapshot)) == {}
    with pytest.raises(UsageError, match="older than those of the run"):
        stale(world, world.snapshot)


def test_who_is_allowed_now_makes_nothing_stale(world: World) -> None:
    raw = four(world)
    world.run(raw)
    world.yes("x")
    world.yes("yes")
    found = stale(world, world.freeze("ai", "then"))
    assert named(found) == {} and found.to_redo == 4, "a and d, whose yes was renewed, b and c, which would have more rows"


def test_a_yes_that_ran_out(world: World) -> None:
    ends = times.now() + timedelta(seconds=60)
    world.yes("short", expires_at=ends)
    raw = four(world)
    world.shard("in/e.parquet", "short", "short")
    snapshot = world.freeze("ai", "then")
    world.run(raw, snapshot=snapshot)
    assert named(stale(world, snapshot)) == {}
    with mock.patch.object(times, "now", lambda: ends):
        found = stale(world, snapshot)
    assert named(found) == {"e.parquet": 2} and found.shards[0].since == ends


def test_an_erased_person(world: World) -> None:
    raw = four(world)
    run = world.run(raw)
    world.book.erase("later", basis="asked")
    found = stale(world, world.freeze("ai", "then"))
    assert named(found) == {"b.parquet": 2, "d.parquet": 1}
    assert {shard.since for shard in found.shards} == {run.record.decided_at}, "nothing tells any more"


def test_a_shard_that_is_another_file_counts_whole(world: World) -> None:
    world.run(four(world))
    time.sleep(0.02)
    path = world.root / "out" / "d.parquet"
    path.write_bytes(path.read_bytes())
    (shard,) = stale(world, world.snapshot).shards
    assert (Path(shard.path).name, shard.rows, shard.is_known) == ("d.parquet", 2, False)
    path.unlink()
    assert named(stale(world, world.snapshot)) == {"d.parquet": 2}


@pytest.mark.parametrize("what", ["subjects", "answers", "run", "salt"])
def test_no_index_is_never_clean(world: World, what: str) -> None:
    """Whatever of it is missing or edited: an error, or all rows of the shards."""
    world.run(four(world))
    for path in (world.root / "out.index").iterdir():
        if path.name.endswith(what):
            path.write_bytes(bytes(len(path.read_bytes())))
    world.book.withdraw("yes", purposes=["ai"])
    try:
        found = stale(world, world.freeze("ai", "then"))
    except UsageError as error:
        assert "index" in str(error) and "consent audit" in (error.hint or "")
    else:
        assert named(found) == {"a.parquet": 1, "b.parquet": 2, "c.parquet": 0, "d.parquet": 2}


def test_only_what_can_be_compared(world: World) -> None:
    world.run(four(world))
    with pytest.raises(UsageError, match=r"was filtered for ai@1 of .*, and the answers are for other@1"):
        stale(world, world.freeze("other"))
    with pytest.raises(UsageError, match="other columns"):
        stale(world, world.snapshot, Columns(subject="s", content="c"))
    with pytest.raises(VerificationError):
        ConsentFilter(world.snapshot, S).stale_shards(world.root / "out", trust=World(world.root, "else").book.trust)
    (world.root / "out.intoto.jsonl").unlink()
    with pytest.raises(VerificationError):
        stale(world, world.snapshot)


def test_the_command(world: World, consent: Callable[..., Outcome]) -> None:
    world.run(four(world))
    told = ("--ledger", world.root / "ledger", "audit", world.root / "out", "--purpose", "ai", "--stale")
    outcome = consent(*told)
    assert outcome.code == 0 and "no shard is stale; a run would do 0 again" in outcome.err and outcome.out == ""
    world.book.withdraw("later", purposes=["ai"])
    outcome = consent(*told)
    assert outcome.code == 3 and "2 of 4 shards are stale, up to 3 rows" in outcome.err
    assert "b.parquet: up to 2 rows of people whose answer changed, since 20" in outcome.out
    outcome = consent(*told, "--format", "json")
    document = json.loads(outcome.out)
    assert outcome.code == 3 and document["rows"] == 3
    schema = json.loads((Path(__file__).parents[2] / "schemas" / "stale.json").read_text())
    jsonschema.validate(document, schema)
    outcome = consent(*told, world.root / "in")
    assert outcome.code == 2
