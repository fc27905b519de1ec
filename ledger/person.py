"""What a person is told: what became of an act, the decisions that now hold, and whether their id is a known one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ledger.consent import ALLOWED, Event, Purpose, Row, Scope, decide, lookalike
from ledger.store.documents import event_document
from ledger.store.history import History


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What became of an act, and what now holds. receipt: its own proof, which verifies alone."""

    event: Event
    position: int
    repeated: bool
    warnings: Sequence[str]
    decisions: Sequence[dict[str, Any]]
    receipt: bytes

    def document(self) -> dict[str, Any]:
        """The JSON of `consent record` and `withdraw`."""
        return {
            "event": event_document(self.event),
            "position": self.position,
            "repeated": self.repeated,
            "warnings": list(self.warnings),
            "decisions": list(self.decisions),
        }


def warnings(history: History, subject_id: str) -> list[str]:
    return warnings_of(history, [subject_id])[0]


def warnings_of(history: History, subject_ids: Sequence[str]) -> list[list[str]]:
    """Of each whose act is being recorded, in order, as if the ones before were recorded already."""
    seen = set(history.seen(set(subject_ids)))
    keys = {subject_id: lookalike(subject_id) for subject_id in subject_ids}
    new = {keys[subject_id] for subject_id in subject_ids if subject_id not in seen}
    first = history.first_lookalikes(new) if new else {}
    found: list[list[str]] = []
    for subject_id in subject_ids:
        known = first.setdefault(keys[subject_id], subject_id)
        if subject_id in seen:
            found.append([])
        elif known == subject_id:
            found.append([f"the ledger has not seen the subject {subject_id!r:.120} before"])
        else:
            how = "only in case, space or normalisation"
            found.append([f"the ledger knows {known!r:.120}, which differs from {subject_id!r:.120} {how}"])
        seen.add(subject_id)
    return found


def decisions(history: History, subject_id: str, events: Sequence[Event], content_id: str | None) -> list[dict[str, Any]]:
    """For each purpose's current version: everything (each category that it lists), and each scope that an event names."""
    now, current = history.now(), current_purposes(history.purposes())
    return [decision for purpose in current for decision in of_purpose(purpose, subject_id, events, content_id, now)]


def current_purposes(declared: Mapping[str, Sequence[tuple[datetime, Purpose]]]) -> list[Purpose]:
    """The last version of each."""
    return [versions[-1][1] for _, versions in sorted(declared.items())]


def of_purpose(
    purpose: Purpose, subject_id: str, events: Sequence[Event], content_id: str | None, now: datetime
) -> list[dict[str, Any]]:
    """The same for one version of a purpose, as these events decide at that moment, of content created then."""
    token, found = purpose.token, []
    named = {e.category for e in events if e.scope is Scope.CATEGORY and e.names(token)}
    categories: list[str | None] = [*sorted(set(purpose.categories) | {c for c in named if c})]
    if not purpose.categories:
        categories.insert(0, None)
    items = sorted({e.content_id for e in events if e.content_id and e.names(token)} | ({content_id} if content_id else set()))
    for category in categories:
        for item in [None, *items]:
            # Without an item the answer is that for content that no item-level act speaks of.
            about = events if item is not None else [e for e in events if e.scope is not Scope.CONTENT]
            about = about if category is not None else [e for e in about if e.scope is not Scope.CATEGORY]
            reason = decide(Row([subject_id], category, item, now), about, purpose, now)
            found.append(
                {
                    "purpose": purpose.reference,
                    "category": category,
                    "content_id": item,
                    "allowed": reason == ALLOWED,
                    "reason": reason,
                }
            )
    return found
