"""Random histories of many people, rows that meet them, and what the reference says of each row."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from ledger import times
from ledger.consent import ALL_PURPOSES, NO, YES, Event, Purpose, Row, decide
from ledger.folding import compile_rows
from ledger.snapshot import Header, Snapshot, freeze

T0 = datetime(2026, 1, 1, tzinfo=UTC)
CATEGORIES = ["post", "photo", "caption"]
ITEMS = ["1", "01", "c3", "é"]
LONG = timedelta(days=36_500)


def day(n: int) -> datetime:
    return T0 + timedelta(days=n)


def people(count: int) -> list[str]:
    """Ids that differ by as little as can be."""
    forms = ("p{}", "P{}", "p{} ", "\u00e9{}", "e\u0301{}", "{}")
    return [form.format(number) for number in range(count) for form in forms]


def history(draw: random.Random, subjects: list[str]) -> list[Event]:
    """In log order; a few acts of each subject."""
    events = [_event(draw, subject) for subject in subjects for _ in range(draw.choice([0, 1, 1, 2, 3, 5, 8]))]
    return sorted(events, key=lambda e: e.recorded_at or T0)


def _event(draw: random.Random, subject: str) -> Event:
    yes, scope, recorded = draw.random() < 0.65, draw.choice([0, 0, 1, 2]), draw.randrange(20)
    fields: dict[str, Any] = {}
    tokens = draw.choice([["ai@1"], ["ai@2"], ["ai@2"], ["ai@3", "ai@1"], ["other@1"]])
    if yes:
        acted = draw.randint(0, recorded)
        fields = {
            "occurred_at": day(acted),
            "expires_at": draw.choice([None, None, day(draw.randint(acted + 1, 30))]),
            "content_since": draw.choice([None, None, day(draw.randrange(20))]),
        }
    else:
        fields["occurred_at"] = draw.choice([None, day(draw.randrange(25))])
        tokens = draw.choice([tokens, [ALL_PURPOSES]])
    return Event(
        state=draw.choice(YES if yes else NO),
        subject_id=subject,
        purposes=tokens,
        recorded_at=day(recorded),
        recorded_by="user:x",
        event_id="e",
        category=draw.choice(CATEGORIES) if scope == 1 else None,
        content_id=draw.choice(ITEMS) if scope == 2 else None,
        **fields,
    )


def document(event: Event) -> dict[str, Any]:
    """The canonical fields that a snapshot reads."""
    fields = {name: getattr(event, name) for name in ("state", "subject_id", "category", "content_id", "recorded_by")}
    moments = {name: getattr(event, name) for name in ("occurred_at", "recorded_at", "expires_at", "content_since")}
    fields |= {name: moment and times.text(moment) for name, moment in moments.items()}
    return {"purposes": list(event.purposes), **{name: value for name, value in fields.items() if value is not None}}


def rows(draw: random.Random, subjects: list[str], count: int) -> Any:
    """A table with the columns n, subject, others (a list), category, content, created."""
    ids = [None, "", "stranger", *subjects]

    def one_of(values: list[str]) -> list[str | None]:
        return [draw.choice([None, "", "new", *values * 3]) for _ in range(count)]

    def person() -> str | None:
        return draw.choice(ids if draw.random() < 0.2 else subjects)

    def some() -> list[str | None] | None:
        length = draw.choice([None, 0, 1, 1, 2, 3])
        return None if length is None else [person() for _ in range(length)]

    return pa.table(
        {
            "n": pa.array(range(count), pa.int64()),
            "subject": pa.array([person() for _ in range(count)], pa.string()),
            "others": pa.array([some() for _ in range(count)], pa.list_(pa.string())),
            "category": pa.array(one_of(CATEGORIES), pa.string()),
            "content": pa.array(one_of(ITEMS), pa.string()),
            "created": pa.array([draw.choice([None, day(draw.randrange(20))]) for _ in range(count)], pa.timestamp("us", "UTC")),
        }
    )


def reference(
    table: Any, names: list[str], mapped: set[str], events: list[Event], purpose: Purpose, as_of: datetime, decided_at: datetime
) -> list[str]:
    """The reason of each row by `ledger.consent.decide`."""
    of: dict[str, list[Event]] = {}
    for event in events:
        of.setdefault(event.subject_id, []).append(event)
    reasons = []
    for r in table.to_pylist():
        subjects = [s for name in names for s in ([r["subject"]] if name == "subject" else r["others"] or [None])]
        row = Row(subjects, *(r[name] if name in mapped else None for name in ("category", "content", "created")))
        theirs = [event for subject in dict.fromkeys(subjects) for event in of.get(subject, [])]
        reasons.append(decide(row, theirs, purpose, as_of, decided_at))
    return reasons


def snapshot_of(path: Path, rows: Any, as_of: datetime, categories: tuple[str, ...] = ()) -> Snapshot:
    """As `load_snapshot` hands it out, but for the receipt."""
    frozen, data = freeze(Header("test", "ai@2", categories, "-", as_of, as_of, {}), rows)
    path.write_bytes(data)
    return Snapshot(frozen.header, frozen.sha256, path, frozen.file_sha256, max_age=LONG)


def compiled(path: Path, events: list[Event], purpose: Purpose, as_of: datetime) -> Snapshot:
    answers = compile_rows(enumerate(map(document, events)), "ai", purpose.accepts, as_of)
    return snapshot_of(path, answers, as_of, tuple(purpose.categories))
