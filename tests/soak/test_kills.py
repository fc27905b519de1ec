"""SIGKILL at random moments of an append, an import, a snapshot and a filter. CONSENT_LEDGER_KILLS: how many of each.

After each: nothing that was acknowledged is lost, nothing half-written is visible, the ledger is whole, and the same command
again finishes the work without doing again what was done.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import ledger
from ledger import files
from tests.conftest import yes
from tests.warm import Command, Killer, finished

pytestmark = pytest.mark.soak

KILLS = int(os.environ.get("CONSENT_LEDGER_KILLS", "200"))
ROWS = 400
"""Of an import."""


@pytest.fixture
def rng() -> random.Random:
    seed = int.from_bytes(os.urandom(4), "little")
    print(f"seed {seed}")
    return random.Random(seed)


def created(where: Path, people: int = 0) -> Path:
    folder = where / "consent-ledger"
    shutil.rmtree(folder, ignore_errors=True)
    with ledger.create(folder) as book:
        book.declare_purpose("train-ai", title="T", description="D")
        if people:
            book.record_all(yes(f"u{i}") for i in range(people))
    return folder


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*.tmp")]


def test_append(tmp_path: Path, rng: random.Random) -> None:
    folder = created(tmp_path)

    def line(n: int) -> list[str]:
        when = "2026-01-01T00:00:00Z"
        return ["record", "given", f"u{n}", "--purpose", "train-ai", "--event-id", f"e{n}", "--occurred-at", when]

    killer = Killer(rng, tmp_path, line)
    done = {"e-1", "e-2"}
    for n in killer.rounds(KILLS):
        acknowledged = killer.kill(*line(n), "--format", "json")
        ledger.fsck(folder)
        with ledger.open(folder) as book:
            recorded = {event.event_id for _, event in book.events()}
            assert recorded - {f"e{n}"} == done
            if acknowledged is not None:
                assert json.loads(acknowledged)["event"]["event_id"] in recorded
        again = finished(tmp_path, *line(n))
        assert again["repeated"] == (f"e{n}" in recorded)
        done.add(f"e{n}")
        assert hidden(folder) == []
    killer.report("append")


def test_import(tmp_path: Path, rng: random.Random) -> None:
    folder = created(tmp_path)

    def acts(n: int) -> list[str]:
        lines = [f"e{n}-{i},given,u{i},train-ai,2026-01-01T00:00:00Z" for i in range(ROWS)]
        (tmp_path / "acts.csv").write_text(
            "\n".join(["event_id,state,subject_id,purposes,occurred_at", *lines, ""]), encoding="utf-8"
        )
        return ["import", "acts.csv"]

    killer = Killer(rng, tmp_path, acts)
    before = 2 * ROWS
    for n in killer.rounds(KILLS):
        if n % 20 == 19:  # a large ledger would take long to check, and nothing else
            folder, before = created(tmp_path), 0
        acknowledged = killer.kill(*acts(n))
        events = ledger.fsck(folder).events
        assert events == before + ROWS or (events == before and acknowledged is None), "all of the file, or none of it"
        again = finished(tmp_path, "import", "acts.csv")
        assert (again["new"], again["repeated"]) == ((ROWS, 0) if events == before else (0, ROWS))
        before += ROWS
        assert hidden(folder) == []
    killer.report("import")


def test_snapshot(tmp_path: Path, rng: random.Random) -> None:
    folder = created(tmp_path, people=1500)
    line = ["snapshot", "--purpose", "train-ai", "-o", "s.parquet"]

    def loaded() -> ledger.Snapshot:
        return ledger.load_snapshot(tmp_path / "s.parquet", trust=folder / "trust")

    killer = Killer(rng, tmp_path, lambda n: line)
    known = {loaded().sha256}
    for n in killer.rounds(KILLS):
        with ledger.open(folder) as book:
            book.withdraw(f"u{n}")
        acknowledged = killer.kill(*line)
        ledger.fsck(folder)
        found = None
        try:
            found = loaded()
        except (ledger.SnapshotError, ledger.VerificationError):
            assert acknowledged is None, "what is there is refused until the command has run again"
        if found is not None and found.sha256 not in known:
            known.add(found.sha256)
            assert f"u{n}" in found.rows()["subject_id"].to_pylist()
        if acknowledged is not None:
            assert found is not None
            assert found.sha256 in acknowledged
        finished(tmp_path, *line)
        known.add(loaded().sha256)
        assert hidden(tmp_path) == []
    killer.report("snapshot")


SHARDS = 6


def test_filter(tmp_path: Path, rng: random.Random) -> None:
    people = [f"u{i}" for i in range(400)]
    folder = created(tmp_path, people=400)
    (tmp_path / "raw").mkdir()
    for shard in range(SHARDS):
        texts = [f"text {shard} {i}" * 3 for i in range(8000)]
        table = pa.table({"user_id": [people[i % len(people)] for i in range(8000)], "text": texts})
        pq.write_table(table, tmp_path / "raw" / f"{shard}.parquet", row_group_size=2000)
    line = ["filter", "raw", "-o", "train", "--purpose", "train-ai", "--subject", "user_id"]
    train, statement = tmp_path / "train", tmp_path / "train.intoto.jsonl"

    def shards() -> dict[str, tuple[str, tuple[int, int]]]:
        """Name -> digest, and what tells whether the file was written anew."""
        return {
            path.name: (files.sha256_of(path), (path.stat().st_ino, path.stat().st_mtime_ns)) for path in train.glob("*.parquet")
        }

    def fresh() -> None:
        shutil.rmtree(train, ignore_errors=True)
        statement.unlink(missing_ok=True)
        (tmp_path / "train.journal.jsonl").unlink(missing_ok=True)

    def run(n: int) -> list[str]:
        fresh()
        return line

    killer = Killer(rng, tmp_path, run)
    redone = spared = 0
    older = {name: digest for name, (digest, _) in shards().items()}
    for n in killer.rounds(KILLS):
        if n % 3 == 0:
            fresh()
            older = {}
        else:  # other answers, so that every shard is another one
            with ledger.open(folder) as book:
                book.withdraw(people[n % len(people)])
        acknowledged = killer.kill(*line)
        if n % 5 == 0:
            ledger.fsck(folder)
        there = shards()
        if statement.exists():
            ledger.verify(train, trust=folder / "trust")  # whichever run it is of, it speaks of what is there
        else:
            assert acknowledged is None
        begun = _journalled(tmp_path / "train.journal.jsonl")
        made = finished(tmp_path, *line)
        ledger.verify(train, trust=folder / "trust")
        now = shards()
        wanted = {shard["output"]: shard["output_sha256"] for shard in made["shards"]}
        assert {name: digest for name, (digest, _) in now.items()} == wanted
        for name, (digest, identity) in there.items():
            assert digest in (wanted[name], older.get(name)), "whole under its name: the one before, or the one to be"
            if begun.get(name) == (made["answers_sha256"], digest):
                assert now[name][1] == identity, "a shard that was finished is not written again"
                spared += 1
            else:
                redone += 1
        older = wanted
        assert hidden(tmp_path) == []
    killer.report("filter")
    print(f"{spared} finished shards were spared, {redone} that stood there were not of this run, or not journalled yet")
    assert spared


def _journalled(path: Path) -> dict[str, tuple[str, str]]:
    """Name -> (digest of the answers, of the output) of the last whole line about it."""
    found: dict[str, tuple[str, str]] = {}
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            payload: dict[str, Any] = json.loads(json.loads(line)["payload"])
        except ValueError:
            continue  # cut short by a kill
        if "name" not in payload:
            continue  # of all shards together
        found[payload["name"]] = (payload["deciding"]["answers_sha256"], payload["result"]["output_sha256"])
    return found


def test_a_command_beside_those_that_are_killed(tmp_path: Path, rng: random.Random) -> None:
    """Two writers at once, one of which is killed: the other waits for its lock no longer than it lives."""
    folder = created(tmp_path)
    (tmp_path / "b").mkdir()
    for n in range(max(5, KILLS // 10)):
        other = Command(tmp_path, "record", "given", f"a{n}", "--purpose", "train-ai")
        mine = Command(tmp_path / "b", "--ledger", str(folder), "record", "given", f"b{n}", "--purpose", "train-ai")
        if rng.random() < 0.5:
            other.process.join(rng.uniform(0, 0.1))
            other.process.kill()
        mine.finish()
        other.process.join()
        assert ledger.fsck(folder).size
    with ledger.open(folder) as book:
        assert {f"b{n}" for n in range(max(5, KILLS // 10))} <= {event.subject_id for _, event in book.events()}
