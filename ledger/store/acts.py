"""Rows as acts: the columns of an import, what each may hold, and the id of an act that brings none.

An act without an event_id gets one from its content, and where it is undated from the file's digest too: the same file
again is all repeats, the same undated no in tomorrow's file is a new act. So it is in the same bytes sent again once the
person has said yes since: a list of who is out today may read as one of last week.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from ledger import times
from ledger.consent import Event
from ledger.errors import InvalidEvent, UsageError
from ledger.log import canonical
from ledger.store.documents import event_bytes, event_document

REQUIRED = ("state", "subject_id", "purposes")
COLUMNS = (
    "event_id",
    *REQUIRED,
    "category",
    "content_id",
    "occurred_at",
    "expires_at",
    "content_since",
    "channel",
    "actor",
    "notice",
    "evidence_sha256",
    "jurisdiction",
    "reason",
)
TIMES = ("occurred_at", "expires_at", "content_since")
DERIVED = "import:"


def check_columns(names: Iterable[str]) -> None:
    """Raises UsageError unless these are columns of acts, each once, and none that is required is missing."""
    names = list(names)
    unknown = [name for name in names if name not in COLUMNS]
    missing = [name for name in REQUIRED if name not in names]
    hint = "columns: " + ", ".join(COLUMNS)
    if unknown:
        raise UsageError(f"column {unknown[0]!r:.80} is unknown", hint=hint)
    if missing:
        raise UsageError(f"column {missing[0]!r} is missing", hint=hint)
    if len(set(names)) != len(names):
        raise UsageError("a column stands in the file twice", hint="columns: " + ", ".join(COLUMNS))


def act_of(values: dict[str, Any], file_sha256: str) -> Event:
    """values: by the columns above; absent ones are None or not there. Raises InvalidEvent."""
    fields = {name: value for name, value in values.items() if value is not None}
    for name in REQUIRED:
        if name not in fields:
            raise InvalidEvent(f"{name} is empty")
    if not isinstance(fields["purposes"], list):
        raise InvalidEvent("purposes must be a list that names at least one purpose")
    for name in TIMES:
        if isinstance(fields.get(name), str):
            try:
                fields[name] = times.read(fields[name])
            except (ValueError, OverflowError) as error:
                raise InvalidEvent(f"{name}: {error!s:.200}") from None
    event = Event(**fields)
    if event.event_id is not None:
        return event
    if event.occurred_at is None:
        content = canonical.encode({**event_document(event), "file_sha256": file_sha256})
    else:
        content = event_bytes(event)
    # In place of a copy: it was made here, and nobody else has it yet.
    object.__setattr__(event, "event_id", DERIVED + hashlib.sha256(content).hexdigest())
    return event


def derived_undated(acts: Iterable[object]) -> list[str]:
    """The ids of undated acts that come from their file's bytes: the same bytes again may be the same acts, or new ones."""
    undated = (a.event_id for a in acts if isinstance(a, Event) and a.occurred_at is None)
    return [event_id for event_id in undated if event_id is not None and event_id.startswith(DERIVED)]
