"""Acts recorded by hand, and what is answered for a person."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
from small_ledger import Clock, Sql, no, yes

from ledger import Event, InvalidEvent, Ledger, UsageError
from ledger.statements.receipt import open_event_receipt


def _allowed(decisions: Any, **scope: str) -> bool:
    (found,) = [d for d in decisions if all(d[name] == scope.get(name) for name in ("category", "content_id"))]
    return bool(found["allowed"])


def test_a_yes_then_a_no(book: Ledger) -> None:
    told = book.record(yes("u1"))
    assert not told.repeated
    assert told.event.purposes == ("train-ai@1",)
    assert told.event.event_id
    assert told.event.recorded_by and told.event.recorded_by.startswith("user:")
    assert _allowed(told.decisions)
    told = book.record(no("u1"))
    assert not _allowed(told.decisions)
    assert told.decisions[0]["reason"] == "refused"
    opened = open_event_receipt(told.receipt, book.trust)
    assert opened.event["event_id"] == told.event.event_id


def test_a_withdrawal_said_again_is_recorded_again(book: Ledger) -> None:
    book.record(yes("u1"))
    first, again = book.withdraw("u1"), book.withdraw("u1")
    assert (first.repeated, again.repeated) == (False, False)
    assert again.position > first.position
    assert not _allowed(again.decisions)


@pytest.mark.parametrize(
    "answer",
    [{}, {"content_id": "c"}, {"category": "post"}, {"state": "renewed"}, {"expires_at": datetime(2126, 1, 1, tzinfo=UTC)}],
    ids=str,
)
def test_a_withdrawal_after_a_yes_answers_it(book: Ledger, clock: Clock, answer: dict[str, Any]) -> None:
    clock.set(clock.now)
    book.withdraw("u1")
    clock.move(minutes=1)
    book.record(yes("u1", occurred_at=clock.now, **answer))
    clock.move(minutes=1)
    told = book.withdraw("u1")
    assert not any(d["allowed"] for d in told.decisions)


def test_a_yes_that_arrives_late_answers_nothing(book: Ledger) -> None:
    book.withdraw("u1")
    told = book.record(yes("u1"))
    assert not _allowed(told.decisions)


def test_an_undated_no_counts_from_its_recording(book: Ledger, clock: Clock) -> None:
    clock.set(clock.now)
    for undated in (no("u1"), no("u2", occurred_at=clock.now + timedelta(days=9))):
        book.record(yes(undated.subject_id, occurred_at=clock.now))
        told = book.record(undated)
        assert told.event.counts_from == told.event.recorded_at
        assert not _allowed(told.decisions)


def test_a_yes_of_the_future_or_undated_is_refused(book: Ledger, clock: Clock) -> None:
    clock.set(clock.now)
    before = book.checkpoint()
    for bad in (
        {"occurred_at": None},
        {"occurred_at": clock.now + timedelta(seconds=1)},
        {"channel": "one-click"},
        {"actor": "controller"},
        {"actor": "guardian"},
        {"purposes": ["*"]},
    ):
        with pytest.raises(InvalidEvent):
            book.record(yes("u1", **bad))
    assert book.checkpoint() == before
    assert book.withdraw("u1", channel="one-click").event.channel == "one-click"


def test_a_subject_never_seen_and_one_that_looks_alike(book: Ledger) -> None:
    (warning,) = book.record(yes("Anna")).warnings
    assert "not seen" in warning
    assert not book.record(no("Anna")).warnings
    for other in ("anna", " Anna", "ANNA\n", "\uff21nna"):
        (warning,) = book.withdraw(other).warnings
        assert "'Anna'" in warning and "only in case" in warning
    assert book.show("anna")["decisions"][0]["reason"] == "withdrawn"
    assert "not seen" in book.record(no("Hanna")).warnings[0]
    assert len(book.show("Anna")["events"]) == 2, "ids are compared exactly"


def test_an_undeclared_purpose_names_those_declared(book: Ledger) -> None:
    for what in (
        lambda: book.record(yes(purposes=["trian-ai"])),
        lambda: book.withdraw("u1", purposes=["trian-ai"]),
        lambda: book.record(no(purposes=["train-ai@2"])),
    ):
        with pytest.raises(InvalidEvent, match="not declared") as refused:
            what()
        assert "train-ai@1" in (refused.value.hint or "")


def test_a_category_that_no_purpose_lists(book: Ledger) -> None:
    book.declare_purpose("search", title="S", description="D", categories=["post", "photo"])
    with pytest.raises(InvalidEvent, match="photos") as refused:
        book.record(no(purposes=["search"], category="photos"))
    assert "photo, post" in (refused.value.hint or "")
    book.record(no(purposes=["search"], category="photo"))


def test_without_a_version_the_one_that_stood_is_meant(book: Ledger, clock: Clock) -> None:
    clock.move(days=10)
    book.declare_purpose("train-ai", title="Training", description="Other training")
    clock.move(days=10)
    stood = {
        clock.now - timedelta(days=400): 1,
        clock.now - timedelta(days=15): 1,
        clock.now - timedelta(days=5): 2,
        clock.now: 2,
    }
    for at, version in stood.items():
        told = book.record(yes(f"u{at}", occurred_at=at))
        assert told.event.purposes == (f"train-ai@{version}",)
        assert _allowed(told.decisions) is (version == 2)
        assert told.decisions[0]["reason"] == ("allowed" if version == 2 else "notice_changed")
    assert book.record(no("u9")).event.purposes == ("train-ai@2",)
    book.declare_purpose("train-ai", compatible=True, title="Training", description="The same")
    assert book.show(f"u{clock.now}")["decisions"][0]["reason"] == "allowed"
    assert [p.reference for p in book.purposes()] == ["train-ai@1", "train-ai@2", "train-ai@3"]
    assert book.purposes()[2].accepts == (2, 3)


def test_a_no_to_any_version_is_a_no_to_all(book: Ledger) -> None:
    book.record(yes("u1"))
    book.declare_purpose("train-ai", compatible=True, title="Training", description="The same")
    assert not _allowed(book.record(no("u1", purposes=["train-ai@1"])).decisions)


def test_notices(book: Ledger, sql: Sql) -> None:
    text = "Dürfen wir?".encode()
    assert book.add_notice(b"May we?", notice_id="ask", language="en") == "ask@1/en"
    assert book.record(yes("u1", notice="ask")).event.notice == "ask@1/en"
    assert book.add_notice(text, notice_id="ask", language="de") == "ask@1/de"
    assert book.add_notice(text, notice_id="ask", language="de") == "ask@2/de"
    assert len(sql("SELECT * FROM notices")) == 2
    event = book.record(yes("u2", notice="ask/de", occurred_at=datetime.now(UTC))).event
    assert (event.notice, event.notice_sha256) == ("ask@2/de", sha256(text).hexdigest())
    assert book.record(yes("u3", notice="ask@1/de", notice_sha256=sha256(text).hexdigest())).event.notice == "ask@1/de"
    for bad in (
        {"notice": "ask"},
        {"notice": "ask/fr"},
        {"notice": "ask@3/de"},
        {"notice": "other"},
        {"notice": "ask/de", "notice_sha256": "0" * 64},
        {"notice_sha256": "0" * 64},
    ):
        with pytest.raises(InvalidEvent, match="notice"):
            book.record(yes("u4", **bad))
    for arguments in ((b"", "ask", "en"), (b"x", "a k", "en"), (b"x", "ask", "e n")):
        with pytest.raises(UsageError):
            book.add_notice(arguments[0], notice_id=arguments[1], language=arguments[2])


def test_show(book: Ledger) -> None:
    assert book.show("nobody") == {
        "subject_id": "nobody",
        "events": [],
        "decisions": [{"purpose": "train-ai@1", "category": None, "content_id": None, "allowed": False, "reason": "no_record"}],
    }
    book.record(yes("u1"))
    book.record(no("u1", content_id="c1"))
    shown = book.show("u1", content_id="c2")
    assert [e["state"] for e in shown["events"]] == ["given", "refused"]
    assert all(e["checkpoint_size"] > e["position"] for e in shown["events"])
    assert {d["content_id"]: d["allowed"] for d in shown["decisions"]} == {None: True, "c1": False, "c2": True}


def test_record_all(book: Ledger) -> None:
    appended = book.record_all([yes("u1", event_id="e1"), yes("u1", event_id="e1"), no("u2")])
    assert appended.size - appended.first == 2
    assert [position for position, _ in book.events()] == [appended.first, appended.first + 1]
    assert [e.subject_id for _, e in book.events(after=appended.first + 1)] == ["u2"]


def test_purposes_that_say_too_little(book: Ledger) -> None:
    before = book.checkpoint()
    for token, fields in (
        ("a b", {}),
        ("ok", {"title": ""}),
        ("ok", {"basis": "interest"}),
        ("ok", {"mood": "good"}),
        ("ok", {"categories": [""]}),
        ("*", {}),
        ("ok", {"recipients": [""]}),
    ):
        with pytest.raises(UsageError):
            book.declare_purpose(token, **{"title": "T", "description": "D", **fields})
    assert book.checkpoint() == before


def test_a_receipt_of_no_event(book: Ledger) -> None:
    with pytest.raises(UsageError, match="no event"):
        book.receipt("e0")


def test_an_index_that_points_at_another_event_is_found(book: Ledger, sql: Sql) -> None:
    book.record(yes("u1", event_id="e1"))
    sql("UPDATE openings SET event_id = 'e2' WHERE event_id = 'e1'")
    from ledger import IntegrityError

    with pytest.raises(IntegrityError, match="event_id"):
        book.receipt("e2")
    with pytest.raises(IntegrityError, match="event_id"):
        book.record(yes("u1", event_id="e2"))
    assert Event(state="refused", subject_id="u1", purposes=["*"]).event_id is None
