"""Single acts that are recorded together: each becomes what it would have become alone."""

from __future__ import annotations

import multiprocessing
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import ledger
from ledger import ConsentLedgerError, Event, IntegrityError, Ledger, times, together, turns
from ledger.errors import EventConflict, InvalidEvent
from ledger.store import anchor_file, database
from ledger.store.append import Transaction

pytestmark = pytest.mark.skipif(not turns.AVAILABLE, reason="queues are Linux's")
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Ledger]:
    path = tmp_path.joinpath(*["a folder whose path is longer than the address of a socket"] * 3)
    with ledger.create(path) as made:
        made.declare_purpose("train-ai", title="T", description="D")
        yield made


def yes(subject: str, **fields: Any) -> Event:
    when = datetime(2026, 1, 1, tzinfo=UTC)
    return Event(**{"state": "given", "subject_id": subject, "purposes": ["train-ai"], "occurred_at": when, **fields})


@contextmanager
def locked(book: Ledger) -> Iterator[None]:
    """Meanwhile somebody who knows of no queue holds the database's lock."""
    with closing(sqlite3.connect(book.folder.path / "ledger.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def at_once(book: Ledger, *acts: Callable[[], Any]) -> list[Future[Any]]:
    """All of them wait for the one that has the turn, which comes first."""
    with ThreadPoolExecutor(len(acts)) as pool:
        with locked(book):
            found = []
            for act in acts:
                found.append(pool.submit(act))
                time.sleep(0.1)
        return found


def checkpoints(book: Ledger) -> int:
    with closing(sqlite3.connect(book.folder.path / "ledger.db")) as connection:
        return int(connection.execute("SELECT count(*) FROM checkpoints").fetchone()[0])


def test_each_becomes_what_it_would_have_become_alone(book: Ledger) -> None:
    book.record(yes("old", event_id="e0"))
    before = checkpoints(book)
    other = book.acting_for("api:crm")
    found = at_once(
        book,
        lambda: book.record(yes("ann")),
        lambda: other.record(yes("bob", event_id="e1")),
        lambda: book.withdraw("cem"),
        lambda: book.record(yes("old", event_id="e0")),
        lambda: book.record(yes("dan", event_id="e0")),
        lambda: book.record(yes("eve", purposes=["undeclared"])),
        lambda: book.record(yes("Bob")),
        lambda: book.record(Event(state="refused", subject_id="ann", purposes=["train-ai"])),
    )
    assert checkpoints(book) == before + 1, "one transaction, one signature"
    ann, bob, cem, old, dan, eve, other_bob, ann_no = found
    assert ann.result().warnings and not ann.result().repeated
    assert bob.result().event.recorded_by == "api:crm"
    assert cem.result().event.occurred_at == cem.result().event.recorded_at
    assert old.result().repeated
    with pytest.raises(EventConflict, match="e0"):
        dan.result()
    with pytest.raises(InvalidEvent, match="not declared") as refused:
        eve.result()
    assert "train-ai@1" in (refused.value.hint or "")
    assert "'bob'" in other_bob.result().warnings[0]
    assert not ann_no.result().warnings and not ann_no.result().decisions[0]["allowed"]
    told = [one.result() for one in (ann, bob, cem, other_bob, ann_no)]
    for one in told:
        assert book.receipt(one.event.event_id) == one.receipt
        (book.folder.path.parent / "r.json").write_bytes(one.receipt)
        ledger.verify(book.folder.path.parent / "r.json", trust=book.folder.path / "trust")
        assert (one.position, one.event) in book.events_of([one.event.subject_id])
    assert book.fsck().events == 1 + len(told)
    assert (book.folder.path / "head").read_text() == book.checkpoint()


def test_a_yes_given_after_the_transaction_began_is_not_told_to_be_dated_ahead(
    book: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who stamps it themselves, as `consent record` does, comes along only where the transaction began later."""
    whole = Transaction.events
    late: list[Future[Any]] = []

    def meanwhile(self: Transaction, events: Any, recorded_by: str) -> Any:
        if not late:
            late.append(pool.submit(lambda: book.record(yes("late", occurred_at=times.now()))))
            time.sleep(0.3)
        return whole(self, events, recorded_by)

    monkeypatch.setattr(Transaction, "events", meanwhile)
    with ThreadPoolExecutor(1) as pool:
        first = book.record(yes("first", occurred_at=times.now()))
        second = late[0].result()
    assert second.position == first.position + 1
    assert second.event.occurred_at is not None and second.event.recorded_at is not None
    assert second.event.occurred_at <= second.event.recorded_at


def test_who_comes_while_others_are_recorded_goes_with_the_next(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them with the id of an act that the transaction before has recorded."""
    before, whole = checkpoints(book), Transaction.events
    late: list[Future[Any]] = []

    def meanwhile(self: Transaction, events: Any, recorded_by: str) -> Any:
        some = list(whole(self, events, recorded_by))
        if not late:
            for act in (lambda: book.record(yes("late")), lambda: book.record(yes("ann", event_id="e1"))):
                late.append(pool.submit(act))
                time.sleep(0.2)
        return some

    monkeypatch.setattr(Transaction, "events", meanwhile)
    with ThreadPoolExecutor(4) as pool:
        first = at_once(book, lambda: book.record(yes("ann", event_id="e1")), lambda: book.record(yes("bob")))
        told = [one.result() for one in (*first, *late)]
    assert checkpoints(book) == before + 2
    assert [one.event.subject_id for one in told] == ["ann", "bob", "late", "ann"]
    assert [one.repeated for one in told] == [False, False, False, True] and told[0].position == told[3].position
    assert [book.receipt(one.event.event_id) for one in told] == [one.receipt for one in told]
    assert book.fsck().events == 3


@pytest.mark.parametrize("while_recording", [False, True])
def test_a_no_is_not_dated_before_it_was_said(book: Ledger, monkeypatch: pytest.MonkeyPatch, while_recording: bool) -> None:
    """Somebody says yes, then no, after the transaction began that takes the no along; the yes is recorded after it."""
    monkeypatch.setattr(together, "_came_along", 2)
    monkeypatch.setattr(together, "_LATE_SECONDS", 1)
    said: list[Any] = []
    place, name = (Transaction, "events") if while_recording else (turns.Turn, "comes")
    whole = getattr(place, name)

    def meanwhile(self: Any, *given: Any) -> Any:
        if not said:
            time.sleep(0.01)
            said.append(times.now())
            time.sleep(0.01)
            said.append(pool.submit(book.withdraw, "ann"))
            time.sleep(0.2)
        return whole(self, *given)

    monkeypatch.setattr(place, name, meanwhile)
    with ThreadPoolExecutor(1) as pool:
        book.record(yes("first"))
        no = said[1].result().event
    late = book.record(yes("ann", occurred_at=said[0]))
    assert no.occurred_at > said[0]
    assert [(one["allowed"], one["reason"]) for one in late.decisions] == [(False, "withdrawn")]


def test_as_many_are_waited_for_as_came_along_before(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "_came_along", 1)
    monkeypatch.setattr(together, "_LATE_SECONDS", 20)
    before = checkpoints(book)
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(book.withdraw, "ann")
        time.sleep(0.3)
        assert not one.done()
        pool.submit(book.withdraw, "bob").result()
        assert one.result().receipt
    assert checkpoints(book) == before + 1 and together._came_along == 1
    monkeypatch.setattr(together, "_LATE_SECONDS", 0.1)
    book.withdraw("ann")
    assert together._came_along == 0, "nobody came, and nobody is waited for again"


def test_a_yes_of_this_very_moment_comes_along(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    before = checkpoints(book)
    monkeypatch.setattr(together, "_came_along", 1)
    monkeypatch.setattr(together, "_LATE_SECONDS", 20)
    began = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(book.withdraw, "ann")
        time.sleep(0.3)
        two = pool.submit(lambda: book.record(yes("bob", occurred_at=times.now())))
        assert two.result().decisions[0]["allowed"] and one.result().position < two.result().position
    assert time.monotonic() - began < 20 and checkpoints(book) == before + 1


def test_a_yes_that_is_dated_ahead_is_refused_to_its_sender_alone(book: Ledger) -> None:
    ahead = datetime.now(UTC) + timedelta(minutes=1)
    found = at_once(book, lambda: book.record(yes("ann")), lambda: book.record(yes("bob", occurred_at=ahead)))
    assert found[0].result().decisions[0]["allowed"]
    with pytest.raises(InvalidEvent, match="ahead"):
        found[1].result()
    assert [event.subject_id for _, event in book.events()] == ["ann"]


def test_a_connection_that_was_kept_is_of_the_database_that_is_there(book: Ledger, tmp_path: Path) -> None:
    """A backup was put back while a process held its connection: what it records is not written to a file that nobody finds."""
    book.record(yes("ann"))
    path = book.folder.path / "ledger.db"
    (tmp_path / "backup.db").write_bytes(path.read_bytes())
    with database.held(book._engine):
        book.withdraw("ann")
        for name in ("ledger.db-wal", "ledger.db-shm"):
            (book.folder.path / name).unlink()
        (tmp_path / "backup.db").replace(path)
        for use in (lambda: book.withdraw("bob"), lambda: book.look("train-ai")):
            with pytest.raises(IntegrityError, match="rolled back"):
                use()


def test_an_act_that_breaks_the_transaction_takes_no_other_along(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Transaction.events

    def broken(self: Transaction, events: Any, recorded_by: str) -> Any:
        some = list(events)
        if any(event.subject_id == "bad" for event in some):
            raise RuntimeError("what nobody foresaw")
        return whole(self, some, recorded_by)

    monkeypatch.setattr(Transaction, "events", broken)
    found = at_once(book, *(lambda n=n: book.record(yes(n)) for n in ("a", "bad", "b", "c")))
    assert [f.exception() is None for f in found] == [True, False, True, True]
    assert [found[n].result().repeated for n in (0, 2, 3)] == [False] * 3
    assert sorted(event.subject_id for _, event in book.events()) == ["a", "b", "c"]
    assert book.fsck().events == 3


def test_who_is_not_answered_finds_out(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The act is in the log, and whoever put it there died before saying so."""
    monkeypatch.setattr(turns.Waiting, "answer", lambda self, said: self.close())
    found = at_once(
        book,
        lambda: book.record(yes("a")),
        lambda: book.record(yes("b")),
        lambda: book.withdraw("c"),
        lambda: book.record(yes("d", event_id="mine")),
    )
    assert [f.result().repeated for f in found] == [False, False, False, True]
    assert sorted(event.subject_id for _, event in book.events()) == ["a", "b", "c", "d"]
    assert [book.receipt(f.result().event.event_id) for f in found] == [f.result().receipt for f in found]
    assert book.fsck().events == 4


def test_all_are_told_that_the_head_could_not_be_written(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConsentLedgerError("cannot write head: no space left on device")

    monkeypatch.setattr(anchor_file, "write", fail)
    found = at_once(book, *(lambda n=n: book.record(yes(n)) for n in "abc"))
    for one in found:
        with pytest.raises(ConsentLedgerError, match="it was recorded, but the head could not be written"):
            one.result()
    monkeypatch.undo()
    assert book.fsck().events == 3


def test_a_queue_that_nobody_serves_holds_nobody_up(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has the turn was stopped, say: after a while the database's own lock is all that counts."""
    monkeypatch.setattr(together, "QUEUE_SECONDS", 0.2)
    name, secret = together._queue(book.folder, book.folder.log_key())
    turn = turns.ask(name, secret, b"", 1, 1)
    assert isinstance(turn, turns.Turn)
    assert book.record(yes("ann")).position
    for one in turn.waiting():
        assert not one.take(), "whoever gave up must not be recorded again"
        one.close()
    turn.pass_on()
    assert book.fsck().events == 1


def test_what_is_handed_over_is_checked_again(book: Ledger) -> None:
    """By somebody who has the key, and sends what no `Event` would be."""
    name, secret = together._queue(book.folder, book.folder.log_key())
    good = together.Act(yes("ann", event_id="e"), "user:x", False).message()
    assert together.Act.of_message(good).event == yes("ann", event_id="e")
    strange = [b"", b"[]", b"[1,2,3]", b"{}", b"\xff", b'[{"state":"given"},"x",false]', b"[" * 90_000]
    strange += [good.replace(b"given", b"yes"), good.replace(b'"e"', b"5"), good.replace(b'"event_id": "e", ', b"")]
    strange += [good.replace(b'"user:x"', b"7"), good.replace(b"subject_id", b"recorded_at"), good.replace(b"false", b"1")]
    with ThreadPoolExecutor(len(strange) + 1) as pool:
        with locked(book):
            mine = pool.submit(book.record, yes("bob"))
            time.sleep(0.2)
            asked = [pool.submit(turns.ask, name, secret, message, 0.3, 5) for message in strange]
            time.sleep(0.2)
        assert mine.result().position
        for one in asked:
            found = one.result()
            assert not isinstance(found, bytes)
            if found is not None:
                found.pass_on()
    assert [event.subject_id for _, event in book.events()] == ["bob"]


def _work(path: Path, name: str, seconds: float, place: Path) -> None:
    with ledger.open(path) as book:
        ends, n = time.monotonic() + seconds, 0
        with (place / name).open("ab", buffering=0) as told:
            while time.monotonic() < ends:
                n += 1
                told.write(book.record(yes(f"{name}-{n}", event_id=f"{name}-{n}")).receipt)


def test_nothing_acknowledged_is_lost_where_processes_are_killed(book: Ledger, tmp_path: Path) -> None:
    """Eight record as fast as they can, and one after the other is killed, whoever has the turn then."""
    place = tmp_path / "told"
    place.mkdir()
    chance = random.Random()
    processes = [SPAWN.Process(target=_work, args=(book.folder.path, f"p{n}", 5, place)) for n in range(8)]
    for process in processes:
        process.start()
    ends = time.monotonic() + 60
    while not all((place / f"p{n}").exists() and (place / f"p{n}").stat().st_size for n in range(8)):
        assert time.monotonic() < ends
        time.sleep(0.05)
    for process in processes[:5]:
        time.sleep(chance.uniform(0.05, 0.4))
        process.kill()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [-9] * 5 + [0] * 3
    there = [event.event_id for _, event in book.events()]
    assert len(there) == len(set(there)) == ledger.fsck(book.folder.path).events
    told = [line + b"\n" for n in range(8) for line in (place / f"p{n}").read_bytes().split(b"\n")[:-1]]
    receipt = tmp_path / "r.json"
    for line in told[:: max(1, len(told) // 100)]:
        receipt.write_bytes(line)
        ledger.verify(receipt, trust=book.folder.path / "trust")
    counts = [sum(1 for line in told if b'"event_id":"p%d-' % n in line) for n in range(8)]
    for n in range(8):
        mine = {event_id for event_id in there if str(event_id).startswith(f"p{n}-")}
        acknowledged = {f"p{n}-{m + 1}" for m in range(counts[n])}
        assert acknowledged <= mine and len(mine - acknowledged) <= (1 if n < 5 else 0)
    assert checkpoints(book) < len(there), "some were recorded together"
