"""Pages of events: each event exactly once, whatever is appended meanwhile, in bounded memory."""

from __future__ import annotations

import sqlite3
import tracemalloc
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import ledger
from ledger import cursor, schemas, times
from tests.conftest import yes
from tests.store.small_ledger import forge

FAR = datetime(2999, 1, 1, tzinfo=UTC)


def no(subject: str, **fields: Any) -> ledger.Event:
    return ledger.Event(state="withdrawn", subject_id=subject, **{"purposes": ["train-ai"], **fields})


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
def test_pages_hold_each_event_once_while_events_and_other_acts_are_appended(book: ledger.Ledger, limit: int) -> None:
    after, seen = 0, []
    for number in range(12):
        book.record_all(yes(f"{number} {i}", event_id=f"{number}-{i}") for i in range(number % 4))
        if number % 3 == 0:
            book.add_notice(b"text", notice_id=f"n{number}", language="en")
        page = book.page(after, limit=limit)
        jsonschema.validate(page.document(), schemas.load("events"))
        assert len(page.events) <= limit
        assert page.next >= after
        seen += page.events
        after = page.next
    while (page := book.page(after, limit=limit)).events:
        seen += page.events
        after = page.next
    assert [(position, e.event_id) for position, e in seen] == [(position, e.event_id) for position, e in book.events()]
    assert len(seen) == 18
    assert after == page.next == book.status().size


def test_reading_begins_where_it_is_told(book: ledger.Ledger) -> None:
    book.record_all(yes(f"u{i}") for i in range(5))
    positions = [position for position, _ in book.events()]
    for after in range(positions[-1] + 2):
        assert [position for position, _ in book.events(after)] == [p for p in positions if p >= after]
        assert [position for position, _ in book.page(after).events] == [p for p in positions if p >= after]


def test_it_reads_over_the_edges_of_what_is_read_at_once(book: ledger.Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    book.record_all(yes(f"u{i}") for i in range(10))
    whole = list(book.events())
    for at_once in (1, 3, 13):
        monkeypatch.setattr(cursor, "_AT_ONCE", at_once)
        assert list(book.events()) == whole
        assert list(book.events(5)) == [(p, e) for p, e in whole if p >= 5]


def test_a_cursor_of_another_ledger_is_refused(book: ledger.Ledger) -> None:
    """Taken as read, it would hide what is recorded next."""
    size = book.status().size
    assert book.page(size).next == size
    for after in (size + 1, -1, 2**62):
        with pytest.raises(ledger.UsageError, match="entries") as refused:
            book.page(after)
        assert "another ledger" in (refused.value.hint or "")
        with pytest.raises(ledger.UsageError):
            list(book.events(after))


def test_an_empty_page_is_refused(book: ledger.Ledger) -> None:
    for limit in (0, -1):
        with pytest.raises(ledger.UsageError, match="never move on"):
            book.page(limit=limit)


def test_memory_is_bounded(book: ledger.Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cursor, "_AT_ONCE", 64)
    book.record_all(yes(f"u{i}", reason="x" * 4000) for i in range(1500))
    tracemalloc.start()
    try:
        count = sum(1 for _ in book.events())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 1500
    assert peak < 3_000_000, "6 MB of events were read"


def test_reading_from_late_on_does_not_read_the_log_from_its_beginning(book: ledger.Ledger) -> None:
    """Whatever stands before the cursor is not even looked at: broken, it is fsck's to find."""
    book.record_all(yes(f"u{i}") for i in range(5))
    (first, _), *rest = book.events()
    with closing(sqlite3.connect(book.folder.path / "ledger.db")) as connection, connection:
        connection.execute("UPDATE openings SET salt = zeroblob(32) WHERE position = ?", (first,))
    assert list(book.events(first + 1)) == rest
    with pytest.raises(ledger.IntegrityError):
        list(book.events(first))


@pytest.mark.parametrize("before", [0, 3, 300])
@pytest.mark.parametrize("behind", [0, 2, 300])
def test_a_no_rewritten_into_a_yes_does_not_have_the_signed_root(book: ledger.Ledger, before: int, behind: int) -> None:
    """Whoever has the database can make an entry that fits, but not sign it."""
    book.record_all(yes(f"a{i}") for i in range(before))
    position = book.record(no("bob", occurred_at=datetime(2026, 1, 1, tzinfo=UTC))).position
    book.record_all(yes(f"b{i}") for i in range(behind))
    assert book.page(position, limit=1).events[0][1].state == "withdrawn"
    forge(book, position, b'"withdrawn"', b'"given"')
    for after in (0, position):
        with pytest.raises(ledger.IntegrityError, match="head has signed"):
            book.page(after)
    assert len(book.page(position + 1).events) == behind


def test_a_gap_is_an_integrity_failure(book: ledger.Ledger) -> None:
    book.record_all(yes(f"u{i}") for i in range(5))
    with closing(sqlite3.connect(book.folder.path / "ledger.db")) as connection, connection:
        connection.execute("DELETE FROM entries WHERE position = 5")
    with pytest.raises(ledger.IntegrityError, match="lacks position 5"):
        book.page()


def expiring(book: ledger.Ledger, days: int = 30) -> list[str]:
    return [e.subject_id for _, e in book.page(expiring=timedelta(days=days)).events]


def test_of_yeses_that_run_out_only_those_that_count_are_listed(book: ledger.Ledger) -> None:
    soon, later, gone = (times.now() + timedelta(days=n) for n in (10, 90, -10))
    book.record_all(
        [
            yes("soon", expires_at=soon),
            yes("later", expires_at=later),
            yes("gone", expires_at=gone),
            yes("endless"),
            yes("renewed", expires_at=soon),
            yes("renewed", state="renewed", occurred_at=datetime(2026, 1, 2, tzinfo=UTC), expires_at=later),
            yes("late", occurred_at=datetime(2026, 1, 2, tzinfo=UTC), expires_at=later),
            yes("late", expires_at=soon, event_id="given earlier, recorded later"),
            yes("withdrawn", expires_at=soon),
            no("withdrawn", purposes=["*"]),
            yes("item", expires_at=soon),
            no("item", content_id="p1"),
            yes("one item", content_id="p1", expires_at=soon),
            yes("closed item", content_id="p1", expires_at=soon),
            no("closed item"),
            yes("category", category="post", expires_at=soon),
            yes("from now on", content_since=FAR - timedelta(days=1), expires_at=soon),
        ]
    )
    assert expiring(book) == ["soon", "item", "one item", "category", "from now on"]
    assert expiring(book, 100) == ["soon", "later", "renewed", "late", "item", "one item", "category", "from now on"]
    assert expiring(book, 9) == []
    assert expiring(book, 999_999) == expiring(book, 100), "a span beyond the calendar"
    book.declare_purpose("train-ai", title="T", description="Another version")
    assert expiring(book) == [], "a yes to another version is in force for nothing"


def test_a_purpose_that_lists_categories_hides_no_yes_to_everything(tmp_path: Path) -> None:
    with ledger.create(tmp_path / "l") as book:
        book.declare_purpose("train-ai", title="T", description="D", categories=["post"])
        book.record(yes("ann", expires_at=times.now() + timedelta(days=3)))
        assert expiring(book) == ["ann"]


def test_one_of_several_purposes_is_enough(book: ledger.Ledger) -> None:
    book.declare_purpose("search", title="T", description="D")
    book.record(yes("ann", purposes=["search", "train-ai"], expires_at=times.now() + timedelta(days=3)))
    book.withdraw("ann", purposes=["search"])
    assert expiring(book) == ["ann"]
    book.withdraw("ann", purposes=["train-ai"])
    assert expiring(book) == []


def test_the_limit_counts_what_is_listed_and_the_cursor_what_was_read(book: ledger.Ledger) -> None:
    soon = times.now() + timedelta(days=3)
    book.record_all(yes(f"u{i}", expires_at=soon if i % 3 == 0 else None) for i in range(10))
    after, seen = 0, []
    while (page := book.page(after, limit=2, expiring=timedelta(days=30))).events:
        seen += [e.subject_id for _, e in page.events]
        after = page.next
    assert seen == ["u0", "u3", "u6", "u9"]
