"""The two quick ways between events and their canonical bytes are the plain ones: byte for byte, and refusal for refusal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.consent import NO, STATES, YES, Event
from ledger.errors import IntegrityError, InvalidEvent, VerificationError
from ledger.log import canonical
from ledger.store.documents import EVENT_FIELDS, event_bytes, event_document, event_of, read_event

# Quotes, escapes, controls, what JavaScript escapes and JSON does not, and both sides of the first plane.
ODD = st.text(st.sampled_from('a"\\/\x01\x1f\x7f\t\n\u2028\ue000\uffff\U00010000é%{}'), min_size=1, max_size=6)
TEXTS = ODD | st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=20)
MOMENTS = st.datetimes(timezones=st.just(UTC))
DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)
RECORDED = {"event_id": TEXTS, "recorded_at": MOMENTS, "recorded_by": TEXTS}


def _maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


@st.composite
def events(draw: st.DrawFn, recorded: bool = False) -> Event:
    fields: dict[str, Any] = {"state": draw(st.sampled_from(STATES)), "subject_id": draw(TEXTS)}
    fields["purposes"] = draw(st.lists(TEXTS.filter(lambda text: text != "*"), min_size=1, max_size=3))
    fields[draw(st.sampled_from(("category", "content_id")))] = draw(_maybe(TEXTS))
    for name in ("channel", "notice", "jurisdiction", "reason"):
        fields[name] = draw(_maybe(TEXTS))
    for name in ("evidence_sha256", "notice_sha256"):
        fields[name] = draw(_maybe(DIGESTS))
    for name, strategy in RECORDED.items():
        fields[name] = draw(strategy if recorded else _maybe(strategy))
    fields["occurred_at"] = draw(MOMENTS if fields["state"] in YES else _maybe(MOMENTS))
    if fields["state"] in YES:
        fields["expires_at"] = draw(_maybe(MOMENTS.filter(lambda at: at > fields["occurred_at"])))
        fields["content_since"] = draw(_maybe(MOMENTS))
        if fields["channel"] == "one-click":
            fields["channel"] = None
    else:
        fields["actor"] = draw(st.sampled_from(("subject", "guardian", "controller", "authority")))
    return Event(**fields)


@settings(deadline=None, max_examples=300)
@given(events())
def test_an_event_is_written_as_rfc8785_does(event: Event) -> None:
    document = event_document(event)
    assert event_bytes(event) == rfc8785.dumps(document) == canonical.encode(document)


@settings(deadline=None, max_examples=100)
@given(events(), events())
def test_what_two_acts_share_is_not_taken_from_one_for_the_other(one: Event, other: Event) -> None:
    # Each field of one in the other in turn: the texts that are kept for many acts must never be those of another.
    for name in EVENT_FIELDS - {"state", "purposes"}:
        mixed = other.filled_in(**{name: getattr(one, name)})
        assert event_bytes(mixed) == rfc8785.dumps(event_document(mixed))


@settings(deadline=None, max_examples=200)
@given(events(recorded=True))
def test_an_event_is_read_back_from_its_bytes(event: Event) -> None:
    data = event_bytes(event)
    assert read_event(data) == (canonical.decode(data), event)


def _plainly(data: bytes) -> tuple[dict[str, Any], Event]:
    document = canonical.decode(data)
    return document, event_of(document)


def _outcome(read: Any, data: bytes) -> object:
    try:
        return read(data)
    except (VerificationError, IntegrityError, KeyError, TypeError) as error:
        return type(error), str(error)


WHOLE = canonical.encode(
    {
        "actor": "subject",
        "channel": "import",
        "content_id": "p1",
        "event_id": "e1",
        "occurred_at": "2026-01-01T00:00:00.000000Z",
        "purposes": ["search@1", "train-ai@1"],
        "recorded_at": "2026-01-02T00:00:00.000000Z",
        "recorded_by": "import:x",
        "state": "given",
        "subject_id": "u1",
    }
)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damaged_bytes_are_refused_as_before_or_are_the_same_event(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(WHOLE) - 1))
    new = data.draw(st.binary(max_size=2) | st.sampled_from([b'"', b"\\u0041", b" ", b",", b'"a":1,', b"{", b"[["]))
    damaged = WHOLE[:place] + new + WHOLE[place + data.draw(st.integers(0, 2)) :]
    assert _outcome(read_event, damaged) == _outcome(_plainly, damaged)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"channel":"import",', b'"channel":"import","channel":"import",'),
        (b'"channel":"import",', b'"channel":null,'),
        (b'"channel":"import",', b'"channel":"\\u0069mport",'),
        (b'"channel":"import",', b'"category":"c","channel":"import",'),
        (b'"channel":"import",', b'"channel":"import","colour":"red",'),
        (b'"search@1","train-ai@1"', b'"train-ai@1","search@1"'),
        (b'"search@1","train-ai@1"', b'"search@1","search@1"'),
        (b'["search@1","train-ai@1"]', b'"search@1"'),
        (b'["search@1","train-ai@1"]', b"[" + b'"a",' * (1 << 19) + b'"b"]'),
        (b'["search@1","train-ai@1"]', b"[" * 100_000),
        (b"00.000000Z", b"00Z"),
        (b"00.000000Z", b"00.000000+00:00"),
        (b'"event_id":"e1",', b""),
        (b'"recorded_at":"2026-01-02T00:00:00.000000Z",', b""),
        (b'"recorded_by":"import:x",', b""),
        (b'"given"', b'"Given"'),
        (b'"u1"', b'"\xed\xa0\x80"'),
        (b'"u1"', b'"\\ud800"'),
        (b'"u1"', b"1"),
        (b"{", b"\xef\xbb\xbf{"),
    ],
)
def test_bytes_that_are_no_event_are_refused_as_before(old: bytes, new: bytes) -> None:
    changed = WHOLE.replace(old, new)
    assert changed != WHOLE
    outcome = _outcome(read_event, changed)
    assert isinstance(outcome, tuple) and isinstance(outcome[0], type), "it was taken"
    assert outcome == _outcome(_plainly, changed)


def test_texts_and_moments_of_subclasses_are_held_as_plain_ones() -> None:
    class Text(str):
        def __str__(self) -> str:
            return "another"

    class Moment(datetime):
        pass

    at = Moment(2026, 1, 1, tzinfo=UTC)
    event = Event(state=Text("given"), subject_id=Text("u"), purposes=[Text("p")], occurred_at=at, channel=Text("c"))
    assert {type(v) for v in (event.state, event.subject_id, *event.purposes, event.channel)} == {str}
    assert type(event.occurred_at) is datetime
    assert event_bytes(event) == rfc8785.dumps(event_document(event))


@pytest.mark.parametrize("state", NO)
@pytest.mark.parametrize("name", ["subject_id", "content_id", "event_id"])
def test_an_id_is_measured_in_bytes(state: str, name: str) -> None:
    fields: dict[str, Any] = {"state": state, "subject_id": "u", "purposes": ["p"]}
    for fits in ("a" * 512, "é" * 256, "\U00010000" * 128):
        assert getattr(Event(**{**fields, name: fits}), name) == fits
        with pytest.raises(InvalidEvent, match=f"{name} is longer than 512 bytes"):
            Event(**{**fields, name: fits + "a"})
