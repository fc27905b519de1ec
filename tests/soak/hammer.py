"""Many processes append and some verify, at once, until a goal is reached; a time limit makes a failure of what hangs.

    python -m tests.soak.hammer [--database URL] [--writers 16] [--readers 4] [--goal 2000] [--seconds 120]

Ends with an error unless the goal was reached in time, nobody failed, the log has neither fork nor gap, and every receipt that
was handed out verifies and speaks of an event that the log holds at that place.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ledger
from ledger import Event
from ledger.errors import LedgerBusy
from ledger.store.database import reading
from ledger.store.history import History

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.soak.hammer", "ledger.book", "ledger.statements.verify", "psycopg", "duckdb"])
AT_ONCE = 500
"""Receipts that one call of verify compares with each other."""


@dataclass(frozen=True)
class Report:
    """busy: how often a writer gave up waiting and tried again."""

    acknowledged: int
    busy: int
    verified: int
    seconds: float


def _write(path: Path, receipts: Path, name: str, count: Any, busy: Any, goal: int) -> None:
    with ledger.open(path) as book:
        mine = 0
        while count.value < goal:
            event = Event(state="withdrawn", subject_id=f"{name}-{mine % 7}", purposes=("*",), event_id=f"{name}-{mine}")
            try:
                recorded = book.record(event)
            except LedgerBusy:  # of many waiting writers SQLite may pass one over for long: nothing was recorded
                with busy.get_lock():
                    busy.value += 1
                continue
            # From here on it is acknowledged, whatever happens.
            hidden = receipts / f".{name}-{mine}"
            hidden.write_bytes(recorded.receipt)
            hidden.rename(receipts / f"{name}-{mine}.json")
            mine += 1
            with count.get_lock():
                count.value += 1


def _read(path: Path, receipts: Path, seed: int, count: Any, verified: Any, goal: int) -> None:
    """What was seen once is continued by what is seen later; what was handed out verifies, and its event is there."""
    chance = random.Random(seed)
    with ledger.open(path) as book:
        seen = book.checkpoint()
        while count.value < goal:
            book.check(seen)
            seen = book.checkpoint()
            if handed_out := sorted(receipts.glob("*.json")):
                one = chance.choice(handed_out)
                ledger.verify(one, trust=path / "trust")
                event = json.loads(one.read_bytes())["event"]
                assert event["event_id"] in [found.event_id for _, found in book.events_of([event["subject_id"]])]
                with verified.get_lock():
                    verified.value += 1
            book.look("train-ai")


def hammer(path: Path, *, database: str | None, writers: int, readers: int, goal: int, seconds: float) -> Report:
    """path: a new folder. Raises AssertionError and the ledger's errors."""
    receipts = path.with_name(path.name + "-receipts")
    receipts.mkdir()
    with ledger.create(path, database=database) as book:
        book.declare_purpose("train-ai", title="T", description="D")
        count, busy, verified = (_SERVER.Value("q", 0) for _ in range(3))
        work = [_SERVER.Process(target=_write, args=(path, receipts, f"w{n}", count, busy, goal)) for n in range(writers)]
        work += [_SERVER.Process(target=_read, args=(path, receipts, n, count, verified, goal)) for n in range(readers)]
        began = time.monotonic()
        # A reader that takes its time: nobody waits for it, and it sees one moment.
        with reading(book._engine) as connection:
            slow = History(connection, book.origin, book.trust)
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
            assert codes == [0] * len(work), f"{count.value} of {goal} in {took:.0f} s; exit codes {codes}"
            assert slow.head() == before, "a transaction saw two moments"
        _check(book, path, receipts, count.value)
        return Report(count.value, busy.value, verified.value, took)


def _check(book: ledger.Ledger, path: Path, receipts: Path, acknowledged: int) -> None:
    whole = ledger.fsck(path)
    events = {event.event_id: position for position, event in book.events()}
    files = sorted(receipts.glob("*.json"))
    assert {file.stem for file in files} == set(events), "acknowledged and not in the log, or the other way round"
    assert len(files) == acknowledged == whole.events
    assert sorted(events.values()) == list(range(whole.acts, whole.size)), "a gap"
    for first in range(0, len(files), AT_ONCE):
        ledger.verify(*files[first : first + AT_ONCE], trust=path / "trust")
    for file in files:
        assert json.loads(file.read_bytes())["event"]["event_id"] == file.stem
    assert (path / "head").read_text(encoding="utf-8") == book.checkpoint()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", metavar="URL")
    for name, default in (("writers", 16), ("readers", 4), ("goal", 2000), ("seconds", 120)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = hammer(Path(folder) / "ledger", **vars(options))
    print(
        f"{report.acknowledged} acknowledged in {report.seconds:.1f} s, "
        f"{report.busy} times busy, {report.verified} verified meanwhile"
    )


if __name__ == "__main__":
    main()
