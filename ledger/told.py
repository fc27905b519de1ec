"""What the sender of an act is told: found by whoever records it, with the writer's lock held, and worked out by the sender.

To read a person's acts, to decide by them and to write a receipt takes as long as to record an act, and needs neither the lock
nor the database.

It is handed over as `marshal` writes it, in a tenth of the time of JSON: under a seal, by which it is of somebody who can sign.
"""

from __future__ import annotations

import json
import marshal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import chain
from typing import Any

from ledger import person, times
from ledger.consent import Purpose
from ledger.errors import IntegrityError
from ledger.log.proof import TlogProof
from ledger.person import Recorded
from ledger.statements.receipt import event_receipt
from ledger.store.documents import purpose_document
from ledger.store.history import OTHER_SUBJECT, History
from ledger.store.opened import Opened, stored_event

FORM = 2
"""Of what marshal writes: later ones look for objects that come again."""


@dataclass(frozen=True, slots=True)
class Found:
    """acts: canonical, all of the person's in log order; `number` is which of them it is. proof: of that one. now: by the log's
    clock. purposes: as `purposes_text` writes those that are decided for."""

    repeated: bool
    warnings: Sequence[str]
    acts: Sequence[bytes]
    number: int
    tag: bytes
    salt: bytes
    proof: TlogProof
    now: datetime
    purposes: str

    @classmethod
    def of(cls, history: History, theirs: Sequence[Opened], position: int, **told: Any) -> Found:
        """theirs: all that the person's acts are, which have the one at this position among them. Raises IntegrityError."""
        number = next((n for n, opened in enumerate(theirs) if opened.position == position), None)
        if number is None:
            raise IntegrityError(OTHER_SUBJECT, hint="run `consent fsck`")
        opened = theirs[number]
        assert opened.tag is not None
        acts = [each.canonical for each in theirs]
        return cls(acts=acts, number=number, tag=opened.tag, salt=opened.salt, proof=history.proof(position), **told)

    def message(self) -> bytes:
        place, hashes, note = self.proof.index, self.proof.hashes, self.proof.checkpoint
        theirs = self.acts, self.number, self.tag, self.salt
        said: Any = self.repeated, self.warnings, *theirs, place, hashes, note, times.micros(self.now), self.purposes
        return marshal.dumps(said, FORM)

    @classmethod
    def of_message(cls, said: Sequence[Any]) -> Found:
        """Of what `message` wrote, as it was read."""
        repeated, warnings, acts, number, tag, salt, place, hashes, note, now, purposes = said
        proof = TlogProof(place, hashes, note)
        return cls(repeated, warnings, acts, number, tag, salt, proof, times.from_micros(now), purposes)

    def recorded(self) -> Recorded:
        """Raises IntegrityError, or VerificationError, for a stored act that is none, or another person's."""
        events = list(map(stored_event, self.acts))
        event = events[self.number]
        if any(each.subject_id != event.subject_id for each in events):
            raise IntegrityError(OTHER_SUBJECT, hint="run `consent fsck`")
        decisions = [
            person.of_purpose(purpose, event.subject_id, events, None, self.now) for purpose in _read_purposes(self.purposes)
        ]
        return Recorded(
            event=event,
            position=self.proof.index,
            repeated=self.repeated,
            warnings=tuple(self.warnings),
            decisions=tuple(chain.from_iterable(decisions)),
            receipt=event_receipt(self.acts[self.number], self.salt, self.tag, self.proof) + b"\n",
        )


def purposes_text(purposes: Iterable[Purpose]) -> str:
    return json.dumps([purpose_document(purpose) for purpose in purposes])


@lru_cache(maxsize=4)
def _read_purposes(text: str) -> list[Purpose]:
    return [Purpose(**document) for document in json.loads(text)]
