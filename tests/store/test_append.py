"""The only writer."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from small_ledger import Clock, Sql, no, yes

import ledger
from ledger import Event, InvalidEvent, Ledger
from ledger.errors import ConsentLedgerError
from ledger.log import checkpoint, merkle
from ledger.store.append import append
from ledger.store.database import reading
from ledger.store.history import History


def _size(book: Ledger) -> int:
    return checkpoint.open_checkpoint(book.checkpoint(), book.trust.log).size


def _positions(book: Ledger) -> list[int]:
    return [position for position, _ in book.events()]


def test_an_event_id_again_changes_nothing(book: Ledger) -> None:
    first = book.record(yes(event_id="e1"))
    before = book.checkpoint()
    again = book.record(yes(event_id="e1"))
    assert (first.repeated, again.repeated) == (False, True)
    assert again.position == first.position
    assert again.event == first.event
    assert book.checkpoint() == before
    assert len(_positions(book)) == 1


def test_a_repeat_may_name_the_version_that_was_meant(book: Ledger) -> None:
    book.record(yes(event_id="e1"))
    book.declare_purpose("train-ai", title="Training", description="Other training")
    assert book.record(yes(event_id="e1", purposes=["train-ai@1"])).repeated
    assert book.record(yes(event_id="e1", purposes=["train-ai", "train-ai@1"])).repeated


_OTHER = [
    {"state": "renewed"},
    {"occurred_at": datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)},
    {"subject": "u2"},
    {"content_id": "c"},
    {"category": "k"},
    {"purposes": ["train-ai@2"]},
    {"purposes": ["train-ai@1", "train-ai@2"]},
    {"purposes": ["train-ai", "train-ai@2"]},
    {"purposes": ["search"]},
    {"purposes": ["search", "train-ai"]},
    {"expires_at": datetime(2027, 1, 1, tzinfo=UTC)},
    {"content_since": datetime(2026, 1, 1, tzinfo=UTC)},
    {"channel": "web"},
    {"jurisdiction": "AT"},
    {"reason": "so"},
    {"evidence_sha256": "0" * 64},
    {"notice_sha256": "0" * 64},
    {"notice": "n"},
    {"actor": "guardian", "evidence_sha256": "0" * 64, "expires_at": datetime(2027, 1, 1, tzinfo=UTC)},
]


@pytest.mark.parametrize("other", _OTHER, ids=lambda other: "+".join(other))
def test_an_event_id_with_other_content_is_an_error(book: Ledger, other: dict[str, Any]) -> None:
    book.declare_purpose("search", title="Search", description="Search")
    book.add_notice(b"We ask.", notice_id="n", language="en")
    book.record(yes(event_id="e1"))
    book.declare_purpose("train-ai", title="Training", description="Other training")
    before = book.checkpoint()
    with pytest.raises(InvalidEvent, match="event_id 'e1'"):
        book.record(yes(event_id="e1", **other))
    assert book.checkpoint() == before


def test_two_versions_are_not_repeated_by_one(book: Ledger) -> None:
    book.declare_purpose("train-ai", title="Training", description="Other training")
    book.record(yes(event_id="e1", purposes=["train-ai@1", "train-ai@2"]))
    for purposes in (["train-ai@2"], ["train-ai@1"], ["train-ai"]):
        with pytest.raises(InvalidEvent, match="another purposes"):
            book.record(yes(event_id="e1", purposes=purposes))
    assert book.record(yes(event_id="e1", purposes=["train-ai@2", "train-ai@1"])).repeated


def test_a_repeat_with_a_wrong_digest_of_its_notice_is_an_error(book: Ledger) -> None:
    reference = book.add_notice(b"We ask.", notice_id="n", language="en")
    stored = book.record(yes(event_id="e1", notice="n")).event
    assert stored.notice == reference
    assert book.record(yes(event_id="e1", notice=reference, notice_sha256=stored.notice_sha256)).repeated
    with pytest.raises(InvalidEvent, match="notice_sha256"):
        book.record(yes(event_id="e1", notice=reference, notice_sha256="0" * 64))


def test_a_transaction_has_one_checkpoint(book: Ledger, sql: Sql) -> None:
    size, checkpoints = _size(book), sql("SELECT count(*) FROM checkpoints")[0][0]
    appended = book.record_all(yes(f"u{i}") for i in range(300))
    assert (appended.first, appended.size) == (size, size + 300)
    assert sql("SELECT count(*) FROM checkpoints")[0][0] == checkpoints + 1
    assert sql("SELECT note FROM checkpoints ORDER BY size DESC LIMIT 1") == sql("SELECT note FROM head") == [(appended.note,)]
    assert (book.folder.path / "head").read_text() == appended.note


def test_nothing_added_is_nothing_signed(book: Ledger, sql: Sql) -> None:
    book.record(yes(event_id="e1"))
    before = book.checkpoint(), sql("SELECT count(*) FROM checkpoints")
    appended = book.record_all([yes(event_id="e1")])
    assert appended.first == appended.size
    assert book.record_all([]).note == appended.note == before[0]
    assert (book.checkpoint(), sql("SELECT count(*) FROM checkpoints")) == before


def test_one_bad_event_and_nothing_is_recorded(book: Ledger) -> None:
    before = book.checkpoint()
    with pytest.raises(InvalidEvent, match="event 1"):
        book.record_all([yes("a"), yes("b", purposes=["unknown"]), yes("c")])
    assert book.checkpoint() == before
    assert ledger.fsck(book.folder.path).events == 0


def test_recorded_time_never_runs_backwards(book: Ledger, clock: Clock) -> None:
    recorded = []
    for moment in (clock.now, clock.now - timedelta(days=3), clock.now + timedelta(days=2), clock.now, clock.now):
        clock.set(moment)
        recorded.append(book.record(no()).event.recorded_at)
    assert all(earlier < later for earlier, later in itertools.pairwise(recorded))
    ledger.fsck(book.folder.path)


def test_a_no_counts_at_once_though_the_clock_was_set_back(book: Ledger, clock: Clock) -> None:
    book.record(yes("u1"))
    clock.move(days=2)
    book.record(yes("u2"))
    clock.move(days=-2)
    told = book.record(no("u1"))
    assert [d["allowed"] for d in told.decisions] == [False]
    assert not any(d["allowed"] for d in book.show("u1")["decisions"])
    with contextlib.suppress(
        ledger.SnapshotError
    ):  # answers of a moment that has not come: refused rather than given without the no
        assert _kept(book, "u1") == 0


def _kept(book: Ledger, subject: str) -> int:
    consent = ledger.ConsentFilter(book.look("train-ai"), ledger.Columns(subject="s"))
    return int(consent(pa.table({"s": [subject]})).num_rows)


class _Commit:
    """COMMIT that fails on order: before it is done, or after."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mode: str | None = None
        self.after = lambda: None
        real = sa.engine.RootTransaction.commit

        def commit(transaction: sa.engine.RootTransaction) -> None:
            mode, self.mode = self.mode, None
            if mode == "stored":
                real(transaction)
                self.after()
            if mode:
                raise sa.exc.OperationalError("COMMIT", {}, sqlite3.OperationalError("disk I/O error"))
            real(transaction)

        monkeypatch.setattr(sa.engine.RootTransaction, "commit", commit)


@pytest.fixture
def commit(monkeypatch: pytest.MonkeyPatch) -> _Commit:
    return _Commit(monkeypatch)


def test_a_commit_that_failed_is_reported_and_the_log_goes_on(book: Ledger, commit: _Commit) -> None:
    before = book.checkpoint()
    commit.mode = "lost"
    with pytest.raises(ConsentLedgerError, match="nothing was recorded"):
        book.record(yes(event_id="e1"))
    assert book.checkpoint() == before
    assert not book.record(yes(event_id="e1")).repeated
    assert ledger.fsck(book.folder.path).events == 1


def test_a_commit_that_failed_although_it_stored_is_a_success(book: Ledger, commit: _Commit) -> None:
    commit.mode = "stored"
    assert not book.record(yes(event_id="e1")).repeated
    assert book.record(yes(event_id="e1")).repeated
    assert (book.folder.path / "head").read_text() == book.checkpoint()
    assert ledger.fsck(book.folder.path).events == 1


def test_it_is_a_success_too_where_another_has_appended_since(book: Ledger, commit: _Commit) -> None:
    def other() -> None:
        with ledger.open(book.folder.path) as second:
            second.record(yes("other", event_id="e2"))

    commit.mode, commit.after = "stored", other
    assert not book.record(yes(event_id="e1")).repeated
    assert [e.event_id for _, e in book.events()] == ["e1", "e2"]
    assert (book.folder.path / "head").read_text() == book.checkpoint(), "the anchor went back"
    ledger.fsck(book.folder.path)


def test_an_anchor_never_goes_back(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two writers commit in one order and come to write the anchors in the other."""
    kind = type(book.folder)
    real = kind.write_anchors

    def late(folder: Any, note: str) -> None:
        monkeypatch.setattr(kind, "write_anchors", real)
        with ledger.open(book.folder.path) as second:
            second.record(yes("second"))
        real(folder, note)

    monkeypatch.setattr(kind, "write_anchors", late)
    book.record(yes("first"))
    assert (book.folder.path / "head").read_text() == book.checkpoint()


def test_an_anchor_that_cannot_be_written_is_told_as_recorded(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConsentLedgerError("cannot write head: no space left on device")

    monkeypatch.setattr("ledger.store.anchor_file.write", fail)
    with pytest.raises(ConsentLedgerError, match="was recorded"):
        book.record(yes(event_id="e1"))
    monkeypatch.undo()
    assert book.record(yes(event_id="e1")).repeated


def _fifty(path: Path, who: str) -> None:
    with ledger.open(path) as book:
        for i in range(50):
            book.record(yes(f"{who}{i}", event_id=f"{who}{i}"))


def test_two_processes_append_without_a_fork(book: Ledger, sql: Sql) -> None:
    size = _size(book)
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_fifty, args=(book.folder.path, who)) for who in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert ledger.fsck(book.folder.path).events == 100
    assert _size(book) == size + 100
    assert {e.event_id for _, e in book.events()} == {f"{who}{i}" for who in "ab" for i in range(50)}
    notes = [note for (note,) in sql("SELECT note FROM checkpoints ORDER BY size")]
    for note in notes:
        book.check(note)
    assert (book.folder.path / "head").read_text() == notes[-1]


@pytest.mark.parametrize("steps", [(255, 256, 257, 512), (256, 512, 513), (257, 511, 512, 768)])
def test_the_tree_is_consistent_across_the_edges_of_tiles(book: Ledger, sql: Sql, steps: tuple[int, ...]) -> None:
    start = _size(book)
    old = book.checkpoint()
    for step in steps:
        book.record_all(yes(f"u{i}") for i in range(step - _size(book)))
        assert _size(book) == step
        with reading(book._engine) as connection:
            history = History(connection, book.origin, book.trust)
            first, last = history.open(old), history.head()[1]
            proof = merkle.consistency_proof(first.size, last.size, history.node)
            merkle.verify_consistency(first.size, first.root, last.size, last.root, proof)
            for position in {0, start, step // 2, step - 1}:
                found = history.proof(position)
                covering = history.open(found.checkpoint)
                merkle.verify_inclusion(
                    merkle.leaf_hash(history.at(position).entry), position, covering.size, found.hashes, covering.root
                )
        old = book.checkpoint()
        ledger.fsck(book.folder.path)
    widths = {(level, number): len(hashes) // 32 for level, number, hashes in sql("SELECT level, number, hashes FROM tiles")}
    full, rest = divmod(steps[-1], 256)
    assert widths == {**{(0, i): 256 for i in range(full)}, **({(0, full): rest} if rest else {}), (1, 0): full}


def test_many_single_appends_are_the_tree_of_one_append(book: Ledger) -> None:
    for i in range(6):
        book.record(Event(state="objected", subject_id=f"u{i}", purposes=["*"]))
    with reading(book._engine) as connection:
        history = History(connection, book.origin, book.trust)
        edge = merkle.RightEdge()
        size = history.head()[1].size
        edge.extend(merkle.leaf_hash(o.entry) for o in history.opened(size))
        assert edge.root() == history.head()[1].root


def test_a_plan_that_raises_leaves_nothing(book: Ledger) -> None:
    before = book.checkpoint()

    def plan(tx: Any) -> None:
        tx.event(no(), "user:test")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        append(book._engine, book.folder, plan)
    assert book.checkpoint() == before
    book.record(no())
    assert ledger.fsck(book.folder.path).events == 1
