"""An entry and what it commits to, shown to fit; or that the latter is gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from ledger.consent import Event
from ledger.errors import IntegrityError
from ledger.log import canonical
from ledger.log.entry import act_entry, event_body, event_entry
from ledger.store import alike
from ledger.store.documents import event_of


class Opened(NamedTuple):
    """An entry and what it commits to. tag and body are None for an act."""

    position: int
    entry: bytes
    tag: bytes | None
    body: bytes | None
    salt: bytes
    canonical: bytes

    @property
    def is_event(self) -> bool:
        return self.tag is not None

    def document(self) -> dict[str, Any]:
        return event_document(self.canonical) if self.is_event else canonical.decode(self.canonical)

    def event(self) -> Event:
        """Raises IntegrityError, or VerificationError, for what is none."""
        return stored_event(self.canonical)


def event_document(data: bytes) -> dict[str, Any]:
    """`canonical.decode` of an event. Raises VerificationError."""
    said = alike.read(data)
    return canonical.decode(data) if said is None else said.document()


def stored_event(data: bytes) -> Event:
    """`event_of` of that document. Raises IntegrityError, or VerificationError."""
    said = alike.read(data)
    return event_of(canonical.decode(data)) if said is None else said.event()


@dataclass(frozen=True, slots=True)
class Erased:
    """The entry of an event whose opening is gone, as an act of the log at position `act` names it."""

    position: int
    entry: bytes
    tag: bytes
    act: int


def checked(
    position: int, entry: bytes, tag: bytes | None, body: bytes | None, salt: bytes | None, stored: bytes | None
) -> Opened:
    """An opening that fits its entry. Raises IntegrityError."""
    if salt is None or stored is None:
        raise IntegrityError(f"entry {position} has no opening, and no erasure names it")
    try:
        if tag is None:
            good = body is None and act_entry(salt, stored) == entry
        else:
            good = event_body(salt, stored) == body and event_entry(tag, body) == entry
    except (ValueError, TypeError) as error:
        raise IntegrityError(f"entry {position} is malformed: {error}") from error
    if not good:
        raise IntegrityError(f"the opening of entry {position} is not what the entry commits to")
    return Opened(position, entry, tag, body, salt, stored)
