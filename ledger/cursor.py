"""A page of the log's events, and the cursor with which the next one begins.

The cursor is the number of entries that were read: the page after it begins with the entry at that position. As the log only
grows and positions never change, pages that follow one another hold each event exactly once, whatever is appended meanwhile.
What a page shows was hashed against the signed root, without reading what stands before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from ledger.consent import ALLOWED, Event, Row, Scope, explain, split_purpose
from ledger.errors import IntegrityError, UsageError, VerificationError
from ledger.log import merkle
from ledger.store.append import right_edge
from ledger.store.documents import event_document
from ledger.store.history import History
from ledger.store.opened import Opened

_AT_ONCE = 4096
"""Entries, which bounds the memory."""


@dataclass(frozen=True, kw_only=True)
class EventPage:
    """events: (position, event) in log order. next: what to ask for after this page."""

    origin: str
    events: Sequence[tuple[int, Event]]
    next: int

    def document(self) -> dict[str, Any]:
        """The JSON of `consent events` (schemas/events.json)."""
        return {
            "origin": self.origin,
            "events": [{"position": position, **event_document(event)} for position, event in self.events],
            "next": self.next,
        }


def page(read: Callable[..., Any], origin: str, after: int, limit: int, expiring: timedelta | None) -> EventPage:
    """Up to `limit` events. read: runs a function of a `History` in a transaction of its own."""
    if limit < 1:
        raise UsageError(f"a page of {limit} events would never move on")
    found: list[tuple[int, Event]] = []
    following = after
    for position, event in entries(read, after):
        following = position + 1
        if event is not None and (expiring is None or (event.expires_at and read(runs_out, position, event, expiring))):
            found.append((position, event))
            if len(found) == limit:
                break
    return EventPage(origin=origin, events=found, next=following)


def entries(read: Callable[..., Any], after: int) -> Iterator[tuple[int, Event | None]]:
    """(position, event) up to the head of now, without the first `after` entries. event: None for another act of the ledger, and
    for an event that was erased."""
    size: int = read(lambda history: history.head()[1].size)
    if not 0 <= after <= size:
        raise UsageError(
            f"the log has {size} entries, so that nobody has read {after} of it",
            hint="the cursor is of another ledger; begin anew with 0",
        )
    for first in range(after, size, _AT_ONCE):
        # A transaction each: one that lasted as long as its reader likes would keep SQLite from tidying up its journal.
        yield from read(_entries, first, min(first + _AT_ONCE, size))


def _entries(history: History, first: int, end: int) -> list[tuple[int, Event | None]]:
    """Checked against the signed root: the tree of the first entries, which the tiles give, continued with these, is a prefix of
    the head's."""
    found: list[tuple[int, Event | None]] = []
    edge = right_edge(first, history.node)
    for opened in history.opened(end, first):
        edge.append(merkle.leaf_hash(opened.entry))
        event = opened.event() if isinstance(opened, Opened) and opened.is_event else None
        found.append((opened.position, event))
    _, head = history.head()
    try:
        proof = merkle.consistency_proof(end, head.size, history.node)
        merkle.verify_consistency(end, edge.root(), head.size, head.root, proof)
    except VerificationError as error:
        raise IntegrityError(
            f"entries {first} to {end - 1} are not those that the head has signed", hint="run `consent fsck`"
        ) from error
    return found


def runs_out(history: History, position: int, event: Event, within: timedelta) -> bool:
    """Whether a yes is in force now, for the current version of one of its purposes, no no stands against it at its scope, and
    it ends within a span."""
    now = history.now()
    if not event.is_yes or event.expires_at is None or not timedelta(0) < event.expires_at - now <= within:
        return False
    declared = history.purposes()
    # What is finer than the yes decides of other content.
    others = [(p, e) for p, e in history.events_of(event.subject_id) if _reaches(e, event)]
    row = Row([event.subject_id], event.category, event.content_id, datetime.max.replace(tzinfo=UTC))
    for token in {split_purpose(purpose)[0] for purpose in event.purposes}:
        purpose = replace(declared[token][-1][1], categories=())
        found = explain(row, [e for _, e in others], purpose, now)
        if found.reason == ALLOWED and position in {others[i][0] for i in found.answers[0].events}:
            return True
    return False


def _reaches(other: Event, event: Event) -> bool:
    return other.scope is Scope.EVERYTHING or (other.category, other.content_id) == (event.category, event.content_id)
