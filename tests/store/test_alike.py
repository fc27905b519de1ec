"""Events that are read by what many say alike are those that are read whole: the same document, and refused where that is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_event_bytes import MOMENTS, TEXTS, WHOLE, events

from ledger.consent import Event
from ledger.errors import ConsentLedgerError
from ledger.log import canonical
from ledger.store import alike
from ledger.store.documents import event_bytes, event_of, read_event

LEARNT = canonical.decode(WHOLE)
PLAIN = st.text(st.characters(min_codepoint=32, exclude_categories=("Cs",), exclude_characters='"\\'), min_size=1, max_size=128)


def _meet(data: bytes, *, again: bool) -> None:
    """again: so often that what follows is read by this event's form alone."""
    alike._again = alike._last = None
    for _ in range(4 if again else 1):
        assert alike.read(data) is not None
    assert (alike._again is not None) is again


def _same_or_none(data: bytes) -> alike.Said | None:
    """What is read, after a look that it is what reading it whole gives."""
    said = alike.read(data)
    if said is not None:
        document, event = read_event(data)
        assert said.document() == document == canonical.decode(data)
        assert said.event() == event
        assert list(said.document()) == list(document), "in the same order"
        assert (said.subject_id, said.event_id, said.content_id) == (event.subject_id, event.event_id, event.content_id)
        assert (said.form.document["state"], said.form.document.get("category")) == (event.state, event.category)
        assert said.form.document["recorded_at"] == document["recorded_at"]
    return said


@settings(deadline=None, max_examples=200)
@given(events(recorded=True), st.data())
def test_of_a_form_that_was_met_any_other_is_read_as_it_would_be_whole(event: Event, data: st.DataObject) -> None:
    for _ in range(data.draw(st.sampled_from([1, 4]))):
        _same_or_none(event_bytes(event))
    others = {name: data.draw(st.none() | TEXTS | PLAIN) for name in ("subject_id", "event_id", "content_id")}
    other = event.filled_in(**others | {"subject_id": others["subject_id"] or "u"}, occurred_at=data.draw(st.none() | MOMENTS))
    written = event_bytes(other)
    said = _same_or_none(written)
    try:
        event_of(canonical.decode(written))
    except ConsentLedgerError:
        assert said is None, "it is no event"


@settings(deadline=None, max_examples=200)
@given(PLAIN, PLAIN, st.none() | PLAIN, MOMENTS, st.booleans())
def test_what_is_plain_is_read_by_its_form(
    subject_id: str, event_id: str, content_id: str | None, moment: Any, again: bool
) -> None:
    _meet(WHOLE, again=again)
    event = event_of(LEARNT).filled_in(subject_id=subject_id, event_id=event_id, content_id=content_id, occurred_at=moment)
    assert _same_or_none(event_bytes(event)) is not None


@settings(deadline=None, max_examples=500)
@given(st.data())
def test_bytes_that_were_damaged_are_never_read_as_something_else(data: st.DataObject) -> None:
    _meet(WHOLE, again=data.draw(st.booleans()))
    place = data.draw(st.integers(0, len(WHOLE) - 1))
    new = data.draw(
        st.binary(max_size=2) | st.sampled_from([b'"', b"\\u0041", b" ", b",", b'"a":1,', b"{", b"]", b"\x00", b"\xff"])
    )
    damaged = WHOLE[:place] + new + WHOLE[place + data.draw(st.integers(0, 2)) :]
    try:
        read_event(damaged)
    except (ConsentLedgerError, KeyError, TypeError):
        assert alike.read(damaged) is None
    else:
        _same_or_none(damaged)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"u1"', b'""'),
        (b'"u1"', b'"' + b"u" * 513 + b'"'),
        (b'"u1"', '"{}"'.format("ü" * 257).encode()),
        (b'"u1"', b'"u\x001"'),
        (b'"u1"', b'"u\\u00001"'),
        (b'"u1"', b'"\xed\xa0\x80"'),
        (b'"p1"', b'""'),
        (b'"e1"', b'""'),
        (b'"content_id":"p1"', b'"category":"a","content_id":"p1"'),
        (b'"2026-01-01T00:00:00.000000Z"', b'"2026-02-30T00:00:00.000000Z"'),
        (b'"2026-01-01T00:00:00.000000Z"', b'"2026-01-01T24:00:00.000000Z"'),
        (b'"2026-01-01T00:00:00.000000Z"', b'"0000-01-01T00:00:00.000000Z"'),
        (b'"2026-01-01T00:00:00.000000Z"', '"202٦-01-01T00:00:00.000000Z"'.encode()),
        (b'"occurred_at":"2026-01-01T00:00:00.000000Z",', b""),
        (b'"occurred_at"', b'"occurred_at":"2026-01-01T00:00:00.000000Z","occurred_at"'),
    ],
)
def test_no_event_is_read_because_another_of_its_form_is_one(old: bytes, new: bytes, again: bool) -> None:
    _meet(WHOLE, again=again)
    damaged = WHOLE.replace(old, new)
    assert damaged != WHOLE and alike.read(damaged) is None
    with pytest.raises((ConsentLedgerError, KeyError, TypeError)):
        read_event(damaged)


@pytest.mark.parametrize("again", [False, True])
def test_a_yes_that_ends_before_it_was_given_is_none(again: bool) -> None:
    ending = WHOLE.replace(b'"occurred_at"', b'"expires_at":"2026-06-01T00:00:00.000000Z","occurred_at"')
    _meet(ending, again=again)
    for later in (b"2026-06-01T00:00:00.000000Z", b"2026-07-01T00:00:00.000000Z"):
        late = ending.replace(b'"occurred_at":"2026-01-01T00:00:00.000000Z"', b'"occurred_at":"' + later + b'"')
        assert alike.read(late) is None
