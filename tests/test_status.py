"""How a ledger stands: counts, sources, and which noes a logged run has answered. Real runs over real shards."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import ledger
from ledger import schemas, times
from tests.conftest import yes
from tests.store.small_ledger import Clock, forge, statement

POSTS = ledger.Columns(subject="user_id")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def run(book: ledger.Ledger, shard: Callable[..., Path], tmp_path: Path) -> Callable[..., None]:
    """A logged run over a shard."""
    path = shard("raw/a.parquet", user_id=["ann", "bob"])

    def work(snapshot: ledger.Snapshot | None = None, *, purpose: str = "train-ai", admit: bool = True) -> None:
        consent = ledger.ConsentFilter(snapshot or book.snapshot(purpose), POSTS)
        consent.filter_shards([path], tmp_path / "out", key=book.run_key(), admit=book.admit if admit else None)

    return work


def no(subject: str = "bob", **fields: Any) -> ledger.Event:
    return ledger.Event(subject_id=subject, **{"state": "withdrawn", "purposes": ["train-ai"], **fields})


def standing(book: ledger.Ledger) -> ledger.Status:
    found = book.status()
    jsonschema.validate(found.document(found.exceeded(max_unanswered=timedelta(0))), schemas.load("status"))
    return found


def waiting(book: ledger.Ledger, token: str = "train-ai") -> int | None:
    oldest = standing(book).unanswered[token]
    return None if oldest is None else oldest.position


def test_a_new_ledger_has_nothing_but_its_keys(tmp_path: Path) -> None:
    with ledger.create(tmp_path / "l") as book:
        found = standing(book)
        assert (found.size, found.events, found.said, found.sources, found.unanswered) == (2, 0, {}, [], {})
        assert found.anchors == [(tmp_path / "l" / "head", 2)]
        assert found.root.hex() == book.fsck().document()["root"]


def test_events_are_counted_by_purpose_and_state(book: ledger.Ledger) -> None:
    book.declare_purpose("search", title="S", description="D")
    book.record_all(
        [
            yes("ann", purposes=["train-ai", "search"]),
            yes("bob", state="renewed"),
            no("bob"),
            no("cem", purposes=["*"]),
            no("dee", purposes=["*"], state="refused"),
        ]
    )
    found = standing(book)
    assert found.events == 5
    assert found.said == {
        "*": {"refused": 1, "withdrawn": 1},
        "search@1": {"given": 1},
        "train-ai@1": {"given": 1, "renewed": 1, "withdrawn": 1},
    }
    assert found.recorded_at == max(e.recorded_at for _, e in book.events() if e.recorded_at)


def test_a_no_waits_until_a_logged_run_was_decided_by_answers_in_which_it_counts(
    book: ledger.Ledger, run: Callable[..., None]
) -> None:
    book.record(yes("ann"))
    run()
    assert waiting(book) is None
    before = book.snapshot("train-ai")
    first = book.record(no()).position
    book.record(no("cem"))
    assert waiting(book) == first
    run(before)
    assert waiting(book) == first, "a run by older answers did not heed it"
    run(admit=False)
    assert waiting(book) == first, "a run that nobody can prove answers nothing"
    book.snapshot("train-ai")
    assert waiting(book) == first, "nor does a snapshot that no run used"
    run()
    assert waiting(book) is None
    assert standing(book).runs == {"train-ai": 3}
    last = book.record(no("dee")).position
    assert waiting(book) == last


def test_a_run_as_of_an_earlier_moment_does_not_answer_a_later_no(
    book: ledger.Ledger, run: Callable[..., None], clock: Clock
) -> None:
    """Its snapshot's prefix holds the no, but the no did not count in it."""
    earlier = clock.set(clock.now)
    clock.move(hours=1)
    position = book.record(no()).position
    run(book.snapshot("train-ai", as_of=earlier))
    assert waiting(book) == position
    clock.move(seconds=1)
    run(book.snapshot("train-ai"))
    assert waiting(book) is None


def test_of_two_runs_neither_of_which_covers_more_both_count(book: ledger.Ledger, run: Callable[..., None], clock: Clock) -> None:
    start = clock.set(clock.now)
    book.record(no("old", occurred_at=start - timedelta(hours=9)))
    small = book.status().size
    clock.move(hours=2)
    book.record(no("new"))
    run(book.snapshot("train-ai", tree_size=small, as_of=start + timedelta(hours=1)))
    assert waiting(book) == small
    clock.move(seconds=1)  # each act of one moment moves the log's clock a little ahead of one that stands still
    run(book.snapshot("train-ai", as_of=start - timedelta(hours=8)))
    assert waiting(book) == small, "more entries, but an earlier moment"
    clock.move(hours=1)
    run()
    assert waiting(book) is None


def test_a_run_answers_for_its_own_purpose_alone(book: ledger.Ledger, run: Callable[..., None]) -> None:
    book.declare_purpose("search", title="S", description="D")
    everything = book.record(no(purposes=["*"])).position
    assert (waiting(book), waiting(book, "search")) == (everything, everything)
    run()
    assert (waiting(book), waiting(book, "search")) == (None, everything)
    one = book.record(no("cem", purposes=["search"])).position
    run(purpose="search")
    assert (waiting(book), waiting(book, "search")) == (None, None)
    assert one > everything
    book.declare_purpose("train-ai", title="T", description="Another version")
    assert waiting(book) is None, "whatever the version"


def test_limits(book: ledger.Ledger, clock: Clock, tmp_path: Path) -> None:
    clock.set(clock.now)
    assert standing(book).exceeded() == []
    (said,) = standing(book).exceeded(max_source_age=timedelta(days=999))
    assert said == "no import source has ever completed", "silence is no"
    acts = tmp_path / "acts.csv"
    acts.write_text("state,subject_id,purposes\nrefused,bob,train-ai\n", encoding="utf-8")
    book.import_file(acts, source="crm")
    clock.move(hours=3)
    book.import_file(acts, source="web")
    clock.move(hours=2)
    found = standing(book)
    assert [(s.name, s.imports, s.counts["new"], s.counts["repeated"]) for s in found.sources] == [
        ("crm", 1, 1, 0),
        ("web", 1, 0, 1),
    ]
    assert found.exceeded(max_source_age=timedelta(hours=5)) == []
    assert [s.split(" last")[0] for s in found.exceeded(max_source_age=timedelta(hours=4))] == ["import source 'crm'"]
    assert len(found.exceeded(max_source_age=timedelta(hours=1))) == 2
    assert found.exceeded(max_unanswered=timedelta(hours=5)) == []
    (said,) = found.exceeded(max_unanswered=timedelta(hours=4))
    assert said == "the no of entry 3 has waited 5:00:00 for a run of train-ai, and the limit is 4:00:00"


def test_the_age_of_a_no_counts_from_its_recording(book: ledger.Ledger, clock: Clock) -> None:
    """When the ledger learned of it: a clock that a person's word sets would be none."""
    clock.set(clock.now)
    book.record(no(occurred_at=datetime(2020, 1, 1, tzinfo=UTC)))
    clock.move(hours=1)
    assert standing(book).exceeded(max_unanswered=timedelta(hours=1)) == []
    assert standing(book).exceeded(max_unanswered=timedelta(minutes=59)) != []


def test_an_act_hidden_from_the_index_or_put_into_it_is_an_integrity_failure(
    book: ledger.Ledger, run: Callable[..., None]
) -> None:
    book.record(no())
    run()
    (logged,) = book.status().runs.values()
    assert logged == 1
    made = book.status().size - 1
    for position, true, false in ((made, "statement_made", "key_added"), (0, "key_added", "statement_made")):
        for act in (false, true):
            with closing(sqlite3.connect(book.folder.path / "ledger.db")) as connection, connection:
                connection.execute("UPDATE openings SET act = ? WHERE position = ?", (act, position))
            if act == false:
                with pytest.raises(ledger.IntegrityError, match="other acts than"):
                    book.status()
    assert book.status().unanswered == {"train-ai": None}


def test_what_status_shows_was_hashed(book: ledger.Ledger) -> None:
    book.record(no())
    with closing(sqlite3.connect(book.folder.path / "ledger.db")) as connection, connection:
        connection.execute("UPDATE openings SET canonical = replace(canonical, 'withdrawn', 'given') WHERE act IS NULL")
    with pytest.raises(ledger.IntegrityError):
        book.status()


def test_a_no_rewritten_into_a_yes_does_not_have_the_signed_root(book: ledger.Ledger) -> None:
    position = book.record(no(occurred_at=datetime(2026, 1, 1, tzinfo=UTC))).position
    forge(book, position, b'"withdrawn"', b'"given"')
    with pytest.raises(ledger.IntegrityError, match="root that the head has signed"):
        book.status()


def test_progress_tells_entries_read_and_in_all(book: ledger.Ledger) -> None:
    calls: list[tuple[int, int]] = []
    book.status(on_progress=lambda done, total: calls.append((done, total)))
    assert calls == [(0, 3)]


# Which statements are logged at all


def test_a_statement_is_logged_with_the_snapshot_that_it_names(book: ledger.Ledger) -> None:
    frozen = book.snapshot("train-ai")
    receipt = book.admit(statement(book, frozen))
    assert f'"snapshot_sha256":"{frozen.sha256}"'.encode() in receipt


def test_a_statement_over_a_snapshot_that_the_log_did_not_compile_is_refused(book: ledger.Ledger) -> None:
    """Otherwise the log would say that a run heeded noes that it never saw."""
    size = book.status().size
    with pytest.raises(ledger.VerificationError, match="compiled no snapshot"):
        book.admit(statement(book))
    frozen = book.snapshot("train-ai")
    with pytest.raises(ledger.VerificationError, match="compiled no snapshot"):
        book.admit(statement(book, frozen, purpose="search@1"))
    with pytest.raises(ledger.VerificationError, match="compiled no snapshot"):
        book.admit(statement(book, frozen, origin="other"))
    assert book.status().size == size + 1


def test_a_statement_that_no_trusted_run_key_signed_is_refused(book: ledger.Ledger, tmp_path: Path) -> None:
    with ledger.create(tmp_path / "other") as other:
        stranger = statement(other)
    for envelope in (stranger, b"statement", b"{}", b""):
        with pytest.raises(ledger.VerificationError):
            book.admit(envelope)


def test_now_is_never_before_what_was_recorded(book: ledger.Ledger, clock: Clock) -> None:
    clock.set(clock.now)
    book.record(no())
    clock.move(days=-1)
    found = standing(book)
    assert found.now >= found.recorded_at
    assert found.document([])["unanswered"][0]["oldest"]["age_seconds"] >= 0
    assert times.text(found.recorded_at) == found.document([])["head"]["recorded_at"]
