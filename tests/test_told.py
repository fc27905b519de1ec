"""What who sent an act works out for themselves is what the ledger says."""

from __future__ import annotations

import json
import marshal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import ledger
from ledger import Event, Ledger, person, receipts, together, told
from ledger.errors import ConsentLedgerError, IntegrityError, VerificationError
from ledger.store import sqlite
from ledger.told import Found

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TOLD: dict[str, Any] = {"repeated": False, "warnings": [], "now": NOW, "purposes": "[]"}


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Ledger]:
    with ledger.create(tmp_path / "ledger") as made:
        made.declare_purpose("train-ai", title="T", description="D")
        made.declare_purpose("train-ai", title="Té", description="D", compatible=True)
        made.declare_purpose("search", title="S", description="“D”", categories=["posts", "photos"])
        yield made


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> list[Found]:
    """As if each act had been recorded by another process. What was handed over."""
    whole, passed, over = Found.recorded, list[Found](), list[Found]()

    def recorded(self: Found) -> person.Recorded:
        if over:
            return whole(self)
        over.append(self)
        message = together._answer(self)
        if isinstance(said := marshal.loads(message), tuple):
            passed.append(Found.of_message(said))
            assert passed[-1].message() == message
        told_there = together._read_answer(message)
        over.clear()
        assert told_there == whole(self)
        return told_there

    monkeypatch.setattr(Found, "recorded", recorded)
    return passed


def acts(subject: str) -> list[Event]:
    def act(state: str, days: int, **fields: Any) -> Event:
        fields = {"purposes": ["train-ai"], "occurred_at": NOW + timedelta(days=days), **fields}
        return Event(state=state, subject_id=subject, **fields)

    return [
        act("given", 0, purposes=["train-ai", "search"]),
        act("refused", 1, content_id="p“1”"),
        act("given", 2, content_id="p“1”", expires_at=NOW + timedelta(days=3)),
        act("withdrawn", 3, category="photos", purposes=["search"]),
        act("given", 4, reason='ünd so\n"weiter"\u2028', content_since=NOW),
        act("objected", 5, purposes=["*"]),
    ]


@pytest.mark.parametrize("subject", ["ann", 'Ånn \\ " \u2028 😀'])
def test_each_is_told_what_the_ledger_says(book: Ledger, handed: list[Found], subject: str) -> None:
    reasons = set[str]()
    for act in acts(subject):
        found = book.record(act)
        events = [event for _, event in book.events_of([subject])]
        assert found.event == events[-1]
        assert list(found.decisions) == book.read(person.decisions, subject, events, None)
        assert found.receipt == book.receipt(found.event.event_id or "")
        reasons |= {decision["reason"] for decision in found.decisions}
    assert len(handed) == len(acts(subject)) and len(reasons) > 3


def test_of_whom_too_much_is_known_is_told_it_whole(book: Ledger, handed: list[Found]) -> None:
    for number in range(20):
        found = book.record(Event(state="refused", subject_id="ann", purposes=["*"], reason="x" * 4000, content_id=f"p{number}"))
    assert 10 < len(handed) < 20
    events = [event for _, event in book.events_of(["ann"])]
    assert found.event == events[-1] and list(found.decisions) == book.read(person.decisions, "ann", events, None)
    assert found.receipt == book.receipt(found.event.event_id or "")


def _change(book: Ledger, statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(book.folder.path / "ledger.db")) as connection, connection:
        connection.execute(statement, values)


@pytest.mark.parametrize(
    ("subject", "change"),
    [
        ("ann", "UPDATE openings SET subject_id = 'ann' WHERE subject_id = 'bob'"),
        ("bob", "UPDATE openings SET canonical = CAST(replace(canonical, 'bob', 'ann') AS BLOB) WHERE subject_id = 'bob'"),
    ],
)
def test_another_persons_act_is_nobodys(book: Ledger, subject: str, change: str) -> None:
    """Put under somebody's id it would be told, and decided by, as theirs."""
    book.record(Event(state="given", subject_id="bob", purposes=["train-ai"], occurred_at=NOW))
    with closing(sqlite3.connect(book.folder.path / "ledger.db")) as connection, connection:
        assert connection.execute(change).rowcount == 1
    with pytest.raises(IntegrityError, match="it was recorded, but could not be read back"):
        book.withdraw(subject)


def test_one_that_is_not_among_the_persons_acts_is_not_told(book: Ledger) -> None:
    book.withdraw("ann")
    with pytest.raises(IntegrityError, match="subject_id"):
        book.read(lambda history: Found.of(history, history.opened_of(["ann"])["ann"], 0))


def test_a_stored_act_that_is_no_text_is_found_out_by_its_reader(book: Ledger) -> None:
    book.withdraw("ann")
    found = book.read(lambda history: Found.of(history, theirs := history.opened_of(["ann"])["ann"], theirs[0].position, **TOLD))
    strange = replace(found, acts=[*found.acts, b"\xff\x80{"])
    assert Found.of_message(marshal.loads(strange.message())) == strange
    with pytest.raises(VerificationError):
        together._read_answer(together._answer(strange))


def test_purposes_are_read_as_they_were_written(book: Ledger) -> None:
    purposes = book.purposes()
    assert told._read_purposes(told.purposes_text(purposes)) == purposes


def test_lists_of_any_length_are_looked_up_by_few_statements(book: Ledger) -> None:
    ids = [str(book.withdraw(f"p{number}").event.event_id) for number in range(9)]
    before = sqlite._compiled.cache_info().currsize
    for count in range(10):
        wanted = ids[:count]
        found = book.read(lambda history, wanted=wanted: history.events(wanted))
        assert [event.event_id for _, event in found] == wanted
    strangers = [f"s{number}" for number in range(300)]
    for among in (ids + strangers, strangers[:70] + ids, strangers):
        found = book.read(lambda history, among=among: history.events(among))
        assert len(found) == len(set(among) & set(ids))
    assert sqlite._compiled.cache_info().currsize - before <= 7
    with pytest.raises(ConsentLedgerError):
        book.receipt("s1")


def test_an_act_that_is_not_canonical_has_no_receipt(book: Ledger) -> None:
    book.withdraw("ann")
    (opened,) = book.read(lambda history: history.opened_of(["ann"])["ann"])
    assert json.loads(book.read(receipts.of_event, opened))["event"] == json.loads(opened.canonical)
    spaced = opened._replace(canonical=opened.canonical.replace(b'":"', b'": "', 1))
    with pytest.raises(VerificationError, match="canonical"):
        book.read(receipts.of_event, spaced)
