"""Many processes record, withdraw and import, and some verify, at once, until a goal is reached; a time limit makes a failure of
what hangs.

    python -m tests.soak.hammer [--database URL] [--writers 16] [--readers 4] [--acts 2000] [--seconds 120]

All readers go by one checkpoint, which only grows: each head that one of them sees continues it. One process publishes the
log as files, and one watches those.

Ends with an error unless the goal was reached in time, nobody failed, the log has neither fork nor gap, every two heads that were
seen are of one log, and every receipt that was handed out verifies and speaks of an event that the log holds at that place.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from ledger.cli import run

import ledger
from ledger import Event
from ledger.errors import LedgerBusy
from ledger.log import merkle
from ledger.store.database import reading
from ledger.store.history import History

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.soak.hammer", "ledger.book", "ledger.statements.verify", "psycopg", "duckdb"])
AT_ONCE = 500
"""Receipts that one call of verify compares with each other."""


@dataclass(frozen=True)
class Report:
    """busy: how often a writer gave up waiting and tried again. heads: different ones that readers saw."""

    acknowledged: int
    busy: int
    verified: int
    heads: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.acknowledged} acknowledged in {self.seconds:.1f} s, {self.busy} times busy, "
            f"{self.verified} verified meanwhile, {self.heads} heads seen"
        )


@dataclass(frozen=True)
class _Work:
    """What all processes share. path: the ledger's folder. place: where they leave things for each other."""

    path: Path
    place: Path
    wanted: int
    count: Any
    busy: Any
    verified: Any

    @property
    def receipts(self) -> Path:
        return self.place / "receipts"

    @property
    def ended(self) -> bool:
        return bool(self.count.value >= self.wanted)

    def leave(self, name: str, content: bytes) -> None:
        hidden = self.place / f"{name}.{os.getpid()}.hidden"
        hidden.write_bytes(content)
        hidden.rename(self.place / name)


def _write(work: _Work, name: str, seed: int) -> None:
    chance, mine = random.Random(seed), 0
    with ledger.open(work.path) as book:
        while not work.ended:
            mine += 1
            try:
                acknowledged = chance.choices((_record, _withdraw, _import), (4, 4, 1))[0](book, work, f"{name}-{mine}", mine)
            except LedgerBusy:  # of many waiting writers SQLite may pass one over for long: nothing was recorded
                with work.busy.get_lock():
                    work.busy.value += 1
                continue
            # From here on it is acknowledged, whatever happens.
            for event_id, receipt in acknowledged.items():
                work.leave(f"receipts/{event_id}.json", receipt)
            with work.count.get_lock():
                work.count.value += len(acknowledged)


def _record(book: ledger.Ledger, work: _Work, name: str, number: int) -> dict[str, bytes]:
    state, when = ("given", "renewed", "refused")[number % 3], datetime(2026, 1, 1, tzinfo=UTC)
    subject = f"{name.partition('-')[0]}-{number % 7}"
    event = Event(state=state, subject_id=subject, purposes=("train-ai",), event_id=name, occurred_at=when)
    return {name: book.record(event).receipt}


def _withdraw(book: ledger.Ledger, work: _Work, name: str, number: int) -> dict[str, bytes]:
    subject = f"{name.partition('-')[0]}-{number % 7}"
    recorded = book.withdraw(subject)
    assert not any(decision["allowed"] for decision in recorded.decisions), f"{subject} said no a moment ago"
    return {str(recorded.event.event_id): recorded.receipt}


def _import(book: ledger.Ledger, work: _Work, name: str, number: int) -> dict[str, bytes]:
    ids = [f"{name}-{row}" for row in range(5)]
    lines = ["event_id,state,subject_id,purposes,occurred_at"]
    lines += [f"{event_id},given,{event_id},train-ai,2026-01-01T00:00:00Z" for event_id in ids]
    file = work.place / f"{name}.csv"
    file.write_text("\n".join([*lines, ""]), encoding="utf-8")
    report = book.import_file(file)
    file.unlink()
    assert (report.new, report.repeated) == (5, 0)
    return {event_id: book.receipt(event_id) for event_id in ids}


def _read(work: _Work, seed: int) -> None:
    """What one has seen is continued by what any sees later; what was handed out verifies, and its event is there."""
    chance = random.Random(seed)
    heads = set()
    with ledger.open(work.path) as book:
        while not work.ended:
            seen = (work.place / "checkpoint").read_text(encoding="utf-8")
            book.check(seen)
            head = book.checkpoint()
            assert _size(head) >= _size(seen)
            heads.add(head)
            with work.verified.get_lock():  # so that it only grows
                if _size(head) > _size((work.place / "checkpoint").read_text(encoding="utf-8")):
                    work.leave("checkpoint", head.encode())
            if handed_out := sorted(work.receipts.glob("*.json")):
                one = chance.choice(handed_out)
                ledger.verify(one, trust=work.path / "trust")
                event = json.loads(one.read_bytes())["event"]
                assert event["event_id"] in [found.event_id for _, found in book.events_of([event["subject_id"]])]
                assert event["event_id"] in [found["event_id"] for found in book.show(event["subject_id"])["events"]]
                with work.verified.get_lock():
                    work.verified.value += 1
            book.look("train-ai")
    (work.place / f"heads-{seed}.json").write_text(json.dumps(sorted(heads)), encoding="utf-8")


def _publish(work: _Work) -> None:
    """`consent log publish`, again and again."""
    while not work.ended:
        _publish_once(work)


def _publish_once(work: _Work) -> None:
    assert run(["--ledger", str(work.path), "log", "publish", str(work.place / "published")]) == 0


def _monitor(work: _Work) -> None:
    """`consent log monitor`: whatever stands there continues what stood there."""
    while not work.ended:
        if (work.place / "published" / "checkpoint").exists():
            _monitor_once(work)


def _monitor_once(work: _Work) -> None:
    trusted = ("--trust", str(work.path / "trust"), "--state", str(work.place / "monitor.json"))
    assert run(["log", "monitor", str(work.place / "published"), *trusted]) == 0


def _size(note: str) -> int:
    return int(note.split("\n")[1])


def hammer(path: Path, *, database: str | None, writers: int, readers: int, acts: int, seconds: float) -> Report:
    """path: a new folder. Raises AssertionError and the ledger's errors."""
    place = path.with_name(path.name + "-hammer")
    (place / "receipts").mkdir(parents=True)
    with ledger.create(path, database=database) as book:
        book.declare_purpose("train-ai", title="T", description="D")
        (place / "checkpoint").write_text(book.checkpoint(), encoding="utf-8")
        shared = _Work(path, place, acts, *(_SERVER.Value("q", 0) for _ in range(3)))
        work = [_SERVER.Process(target=_write, args=(shared, f"w{n}", n)) for n in range(writers)]
        work += [_SERVER.Process(target=_read, args=(shared, n)) for n in range(readers)]
        work += [_SERVER.Process(target=each, args=(shared,)) for each in (_publish, _monitor)]
        began = time.monotonic()
        # A reader that takes its time: nobody waits for it, and it sees one moment.
        with reading(book._engine) as connection:
            slow = History(connection, book.origin, book.folder.log_trust())
            before = slow.head()
            try:
                for process in work:
                    process.start()
                for process in work:
                    process.join(max(0.0, began + seconds - time.monotonic()))
                took = time.monotonic() - began
                codes = [process.exitcode for process in work]
            finally:
                for process in work:
                    if process.is_alive():
                        process.kill()
                        process.join()
            assert codes == [0] * len(work), f"{shared.count.value} of {acts} in {took:.0f} s; exit codes {codes}"
            assert slow.head() == before, "a transaction saw two moments"
        heads = _check(book, shared)
        return Report(shared.count.value, shared.busy.value, shared.verified.value, heads, took)


def _check(book: ledger.Ledger, work: _Work) -> int:
    whole = ledger.fsck(work.path)
    events = [event.event_id for _, event in book.events()]
    files = sorted(work.receipts.glob("*.json"))
    assert sorted(file.stem for file in files) == sorted(map(str, events)), "acknowledged and not there, or the other way round"
    assert len(files) == work.count.value == whole.events
    for first in range(0, len(files), AT_ONCE):
        ledger.verify(*files[first : first + AT_ONCE], trust=work.path / "trust")
    for file in files:
        assert json.loads(file.read_bytes())["event"]["event_id"] == file.stem
    assert (work.path / "head").read_text(encoding="utf-8") == book.checkpoint()
    # Once more: writers were at work still when the others ended.
    _publish_once(work)
    _monitor_once(work)
    assert _size((work.place / "published" / "checkpoint").read_text(encoding="utf-8")) == whole.size
    return _check_heads(book, work)


def _check_heads(book: ledger.Ledger, work: _Work) -> int:
    """One of each size, and each continues the one before: so any two are of one log."""
    seen = {note for file in work.place.glob("heads-*.json") for note in json.loads(file.read_bytes())} | {book.checkpoint()}

    def check(history: History) -> None:
        heads = sorted((history.open(note) for note in seen), key=lambda head: head.size)
        for older, newer in pairwise(heads):
            assert older.size < newer.size, "two heads of one size"
            proof = merkle.consistency_proof(older.size, newer.size, history.node)
            merkle.verify_consistency(older.size, older.root, newer.size, newer.root, proof)

    book.read(check)
    return len(seen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", metavar="URL")
    for name, default in (("writers", 16), ("readers", 4), ("acts", 2000), ("seconds", 120)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = hammer(Path(folder) / "ledger", **vars(options))
    print(report)


if __name__ == "__main__":
    main()
