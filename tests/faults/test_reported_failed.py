"""Each durable write by its name, reported failed: once it was not carried out, and once it was.

The ledger stands two entries before a tile's edge. What is told must be true, whichever it was; the same command again does what
is left to do; then the log goes on over the edge, and everything is checked: the ledger whole, its tiles derived again, and the
receipt of everything that was acknowledged, before and after.

What a database server and an object store report wrongly is in test_reported_failed_elsewhere.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

import ledger
from tests.conftest import yes
from tests.faults import operations
from tests.faults.harness import Call, Ended, Fault, Host, chance, host
from tests.faults.operations import EDGE, AddRunKey, Append, Filter, Import, ImportWithRejects, NewLinkKey, Operation
from tests.faults.test_writes import World

IN_TEST = 10


class AppendOfOne(Append):
    people = EDGE - 5


class AppendWithFurtherAnchor(AppendOfOne):
    def prepare(self, where: Path) -> None:
        super().prepare(where)
        (where / "far").mkdir()
        folder = where / "consent-ledger"
        (where / "far" / "head").write_bytes((folder / "head").read_bytes())
        with (folder / "ledger.toml").open("a", encoding="utf-8") as config:
            config.write('anchors = ["../far/head"]\n')


class ImportAtTheEdge(Import):
    people = EDGE - 5


@dataclass(frozen=True)
class Durable:
    """A write of an operation: the `last`-but-so-many whose call and path fit. not_stored, stored: what must become of it."""

    name: str
    operation: type[Operation]
    call: str
    path: str
    not_stored: str
    stored: str
    last: int = 1

    def among(self, calls: list[Call]) -> Call:
        return [c for c in calls if re.fullmatch(self.call, c.name) and re.fullmatch(self.path, c.path)][-self.last]


WAL, DATABASE, HEAD = r"consent-ledger/ledger\.db-wal", r"consent-ledger/ledger\.db", r"consent-ledger/\.\.head\.spare\..*"
DURABLE = (
    Durable("the rows of an act", AppendOfOne, "pwrite64", WAL, "failed, not stored", "failed, not stored"),
    Durable("the commit of an act", AppendOfOne, "fdatasync", WAL, "failed, not stored", "failed, not stored", last=2),
    Durable("the log of commits, before its pages move", AppendOfOne, "fdatasync", WAL, "done, stored", "done, stored"),
    Durable("a page of the database", AppendOfOne, "pwrite64", DATABASE, "done, stored", "done, stored"),
    Durable("the database", AppendOfOne, "fdatasync", DATABASE, "done, stored", "done, stored"),
    Durable("the anchor's bytes", AppendOfOne, "fsync", HEAD, "failed, stored", "failed, stored"),
    Durable("the anchor's name", AppendOfOne, "rename", "consent-ledger/head", "failed, stored", "failed, stored"),
    Durable("a further anchor", AppendWithFurtherAnchor, "rename", ".*far/head", "failed, stored", "failed, stored"),
    Durable("the commit of an import", ImportAtTheEdge, "fdatasync", WAL, "failed, not stored", "failed, not stored", last=2),
    Durable("the rejected rows", ImportWithRejects, "link", "bad.csv", "failed, not stored", "failed, not stored"),
    Durable("the reasons of rejected rows", ImportWithRejects, "link", "bad.csv.why", "failed, not stored", "failed, not stored"),
    Durable(
        "the snapshots' folder",
        Filter,
        "mkdir",
        "consent-ledger/snapshots",
        "failed, old shard, a statement",
        "done, new shard, a statement",
    ),
    Durable(
        "a snapshot's name",
        Filter,
        "rename",
        r".*/snapshots/.*\.parquet",
        "failed, old shard, a statement",
        "failed, old shard, a statement",
    ),
    Durable(
        "a snapshot's receipt",
        Filter,
        "rename",
        r".*/snapshots/.*\.receipt",
        "failed, old shard, a statement",
        "failed, old shard, a statement",
    ),
    Durable(
        "an earlier statement, withdrawn",
        Filter,
        "unlink",
        r"train\.intoto\.jsonl",
        "failed, old shard, a statement",
        "failed, old shard, no statement",
    ),
    Durable(
        "a shard's bytes",
        Filter,
        "fsync",
        r"train/\.a\.parquet\..*",
        "failed, old shard, no statement",
        "failed, old shard, no statement",
    ),
    Durable(
        "a shard's name",
        Filter,
        "rename",
        r"train/a\.parquet",
        "failed, old shard, no statement",
        "failed, new shard, no statement",
    ),
    Durable("a shard's folder", Filter, "fsync", "train", "failed, new shard, no statement", "failed, new shard, no statement"),
    Durable(
        "a line of the journal",
        Filter,
        "write",
        r"train\.journal\.jsonl",
        "failed, new shard, no statement",
        "failed, new shard, no statement",
    ),
    Durable(
        "the journal",
        Filter,
        "fsync",
        r"train\.journal\.jsonl",
        "failed, new shard, no statement",
        "failed, new shard, no statement",
    ),
    Durable(
        "the act of the statement",
        Filter,
        "fdatasync",
        WAL,
        "failed, new shard, no statement",
        "failed, new shard, no statement",
        last=2,
    ),
    Durable(
        "the statement's name",
        Filter,
        "rename",
        r"train\.intoto\.jsonl",
        "failed, new shard, no statement",
        "failed, new shard, a statement",
    ),
    Durable("the statement's folder", Filter, "fsync", r"\.", "failed, new shard, a statement", "failed, new shard, a statement"),
    Durable(
        "a new private key",
        AddRunKey,
        "fsync",
        r"\.spark\.key\..*",
        "failed, not admitted, not listed",
        "failed, not admitted, not listed",
    ),
    Durable(
        "the name of a new private key",
        AddRunKey,
        "link",
        r"spark\.key",
        "failed, not admitted, not listed",
        "failed, not admitted, not listed",
    ),
    Durable(
        "the folder of a new private key",
        AddRunKey,
        "fsync",
        r"\.",
        "failed, not admitted, not listed",
        "failed, not admitted, not listed",
    ),
    Durable(
        "the trust file", AddRunKey, "rename", "consent-ledger/trust", "failed, admitted, not listed", "failed, admitted, listed"
    ),
    Durable(
        "a private file in place of another",
        NewLinkKey,
        "rename",
        r"consent-ledger/link\.key",
        "failed, 1 keys",
        "failed, 2 keys",
    ),
)


@pytest.fixture(scope="module")
def shimmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with host(tmp_path_factory.mktemp("aside")) as running:
        yield running


def test_some(shimmed: Host, tmp_path: Path) -> None:
    _pairs(shimmed, tmp_path, chance().sample(DURABLE, IN_TEST))


@pytest.mark.soak
def test_all(shimmed: Host, tmp_path: Path) -> None:
    _pairs(shimmed, tmp_path, list(DURABLE))


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.soak), 6])
def test_what_was_not_recorded_does_not_come_back_when_power_is_lost(shimmed: Host, tmp_path: Path, step: int) -> None:
    """While another process has the database open, SQLite's log stays, and all that failed writes have left in it; its index
    does not outlive a crash. The disk as it then is: every file but the index."""
    operation = AppendOfOne()
    world, lost = World(operation, shimmed, tmp_path), tmp_path / "lost"

    def run(fault: Fault | None = None, at: int = 0) -> Ended:
        with closing(sqlite3.connect(world.renew() / "consent-ledger" / "ledger.db")) as other:
            other.execute("BEGIN")
            other.execute("SELECT * FROM head").fetchall()
            ended = shimmed.run(world.where, *operation.line(world.where), fault=fault, at=at)
            shutil.rmtree(lost, ignore_errors=True)
            shutil.copytree(world.where, lost, ignore=lambda folder, found: [name for name in found if name.endswith("-shm")])
        return ended

    calls = [call for call in run().calls if re.fullmatch(WAL, call.path)]
    assert {"pwrite64", "fdatasync"} <= {call.name for call in calls}
    operation.judge(lost, Ended(0, "", []))
    # The last two are the COMMIT's.
    for call in {*calls[chance().randrange(step) :: step], *calls[-2:]}:
        for fault in (Fault.EIO, Fault.BUT_STORED):
            ended = run(fault, call.number)
            try:
                ended.must_be_honest()
                if "not known" not in ended.told:
                    operation.judge(lost, ended)
            except Exception as error:
                raise AssertionError(f"{call} {fault}: {ended.told}\n{error!r}") from error


def _pairs(host: Host, folder: Path, some: list[Durable]) -> None:
    worlds: dict[type[Operation], tuple[World, Operation, list[Call]]] = {}
    wrong = []
    for durable in some:
        if durable.operation not in worlds:
            operation = durable.operation()
            place = folder / durable.operation.__name__
            place.mkdir()
            world = World(operation, host, place)
            undisturbed = host.run(world.renew(), *operation.line(world.where))
            assert undisturbed.code == operation.done, undisturbed
            operation.learn(world.where)
            worlds[durable.operation] = world, operation, undisturbed.calls
        world, operation, calls = worlds[durable.operation]
        for fault, expected in ((Fault.EIO, durable.not_stored), (Fault.BUT_STORED, durable.stored)):
            ended = host.run(world.renew(), *operation.line(world.where), fault=fault, at=durable.among(calls).number)
            try:
                outcome = _what_became(operation, host, world.where, ended)
                print(f"{durable.name}, {fault.name}: {outcome}")
                assert outcome == expected
            except Exception as error:
                wrong.append(f"{durable.name} {fault.name}: {ended.told}\n{error!r}")
    assert not wrong, "\n\n".join(wrong)


def _what_became(operation: Operation, host: Host, where: Path, ended: Ended) -> str:
    ended.must_be_honest()
    outcome = operation.judge(where, ended)
    again = host.run(where, *operation.line(where))
    assert again.code == operation.done, again
    operation.settle(where, again)
    _go_on(where)
    return f"{'done' if ended.code == operation.done == 0 else 'failed'}, {outcome}"


def _go_on(where: Path) -> None:
    folder = where / "consent-ledger"
    before = ledger.fsck(folder).size
    assert before >= EDGE - 2
    known = [event_id for event_id in operations.events_of(where) if event_id is not None]
    receipts = where / "receipts"
    receipts.mkdir()
    with ledger.open(folder) as book:
        for n in range(4):
            recorded = book.record(yes(f"later{n}", event_id=f"later{n}"))
            (receipts / f"later{n}.json").write_bytes(recorded.receipt)
        # The first and the last that were acknowledged before, and so by another checkpoint.
        for event_id in {known[0], known[-1]}:
            (receipts / f"{event_id}.json").write_bytes(book.receipt(event_id))
    whole = ledger.fsck(folder)
    assert whole.size == before + 4 > EDGE
    ledger.verify(*sorted(receipts.iterdir()), trust=folder / "trust")
    assert (folder / "head").read_text(encoding="utf-8").split("\n")[1] == str(whole.size)
