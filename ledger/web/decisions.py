"""Rows that a caller asks about, decided by the reference rule in one transaction: what holds at this moment.

A row that names no subject is `subject_missing`, an unknown category or content item fails closed: see `ledger.consent`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from ledger import times
from ledger.consent import ALLOWED, Event, Purpose, Row, check_id, decide
from ledger.errors import UsageError
from ledger.store.history import History
from ledger.web import asked

MAX_ROWS = 1000
MAX_SUBJECTS = 1000
"""Of a request, each counted once."""
ROW_FIELDS = ("subject_id", "subject_ids", "category", "content_id", "created")


def rows(fields: Mapping[str, Any]) -> tuple[str, list[Row]]:
    """(purpose, rows) of a body. Raises UsageError."""
    asked.known("the body", fields, ("purpose", "rows"))
    purpose, given = asked.text("purpose", fields.get("purpose")), fields.get("rows")
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_ROWS:
        raise UsageError(f"rows must be a list of 1 to {MAX_ROWS} rows")
    found = [_row(f"row {number}", row) for number, row in enumerate(given)]
    if len({subject for row in found for subject in row.subjects}) > MAX_SUBJECTS:
        raise UsageError(f"the rows name more than {MAX_SUBJECTS} subjects", hint="ask in several requests")
    return purpose, found


def _row(what: str, fields: object) -> Row:
    if not isinstance(fields, dict):
        raise UsageError(f"{what} must be an object")
    asked.known(what, fields, ROW_FIELDS)
    if ("subject_id" in fields) == ("subject_ids" in fields):
        raise UsageError(f"{what} must have either subject_id or subject_ids", hint="an empty one is subject_missing")
    if "subject_id" in fields:
        subjects: tuple[str, ...] = (asked.text("subject_id", fields["subject_id"]),)
    else:
        subjects = asked.texts("subject_ids", fields["subject_ids"])
    keys = {name: asked.text(name, fields[name]) for name in ("category", "content_id") if name in fields}
    for name, value in (*(("subject_id", subject) for subject in subjects), *keys.items()):
        if value:  # an empty one is an unknown one
            check_id(name, value)
    created = asked.moment("created", fields["created"]) if "created" in fields else None
    return Row(subjects, keys.get("category") or None, keys.get("content_id") or None, created)


def decided(history: History, token: str, some: Sequence[Row]) -> dict[str, Any]:
    """schemas/decisions.json. token: a purpose, or `token@version` of its current one. Raises UsageError."""
    note, head = history.head()
    now, declared = history.now(), history.purposes()
    purpose = next((versions[-1][1] for versions in declared.values() if token in _names(versions[-1][1])), None)
    if purpose is None:
        current = ", ".join(sorted(versions[-1][1].reference for versions in declared.values())) or "none yet"
        raise UsageError(f"no purpose {token!r:.80} holds now", hint=f"those that do: {current}")
    events: dict[str, list[Event]] = {}
    for subject in {subject for row in some for subject in row.subjects if subject}:
        assert subject is not None
        events[subject] = [event for _, event in history.events_of(subject)]
    reasons = [_reason(row, events, purpose, now) for row in some]
    return {
        "purpose": purpose.reference,
        "as_of": times.text(now),
        "tree_size": head.size,
        "checkpoint": history.signed_once(note),
        "decisions": [{"allowed": reason == ALLOWED, "reason": reason} for reason in reasons],
    }


def _reason(row: Row, events: Mapping[str, Sequence[Event]], purpose: Purpose, now: datetime) -> str:
    """By the rule, which looks through all events that it is given for each subject: so each is judged by their own alone."""
    if not row.subjects or not all(row.subjects):
        return decide(row, (), purpose, now)
    each = (decide(replace(row, subjects=[s]), events[s or ""], purpose, now) for s in dict.fromkeys(row.subjects))
    return next((reason for reason in each if reason != ALLOWED), ALLOWED)


def _names(purpose: Any) -> tuple[str, str]:
    return purpose.token, purpose.reference
