"""Random answers and rows, with the reason that the reference gives each row: what every engine is held to."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from ledger import times
from ledger.consent import ALL_PURPOSES, NO, YES, Event, Purpose, Row, decide
from ledger.filter import ConsentFilter
from ledger.folding import compile_rows
from ledger.shards.columns import Columns
from ledger.snapshot import Header, freeze

SUBJECTS = ["ann", "bob", "Ann", "dé", "12", "u" * 30]
CATEGORIES = ["post", "photo", "caption"]
CONTENTS = ["1", "01", "c3"]
SCHEMA = pa.schema(
    [
        ("n", pa.int64()),
        ("subject", pa.string()),
        ("others", pa.list_(pa.string())),
        ("category", pa.string()),
        ("content", pa.string()),
        ("created", pa.timestamp("us", "UTC")),
        ("text", pa.string()),
    ]
)
COLUMNS = Columns(subject=["others", "subject"], category="category", content="content", created="created")


@dataclass(frozen=True)
class Drawn:
    """consent: a filter over a snapshot's file. table: rows of SCHEMA. reasons: what the reference says of each."""

    consent: ConsentFilter
    table: Any
    reasons: list[str]

    @property
    def counts(self) -> dict[str, int]:
        return {reason: self.reasons.count(reason) for reason in set(self.reasons)}

    @property
    def kept(self) -> list[int]:
        """Column n of the rows that may be used."""
        return [n for n, reason in enumerate(self.reasons) if reason == "allowed"]


def draw(seed: int, folder: Path, rows: int = 400, columns: Columns = COLUMNS) -> Drawn:
    """columns: other names for the same keys."""
    rng = random.Random(seed)
    began = times.now() - timedelta(hours=24)
    history = sorted((_event(rng, began) for _ in range(60)), key=lambda e: e.recorded_at or began)
    listed = CATEGORIES[:2] if seed % 2 else []
    purpose = Purpose(token="ai", version=2, title="t", description="d", categories=listed, accepts=(1, 2))
    as_of = began + timedelta(hours=21)
    decided_at = as_of + timedelta(hours=rng.randint(0, 3))
    header = Header("log.example", "ai", tuple(listed), "checkpoint", as_of, as_of, {})
    snapshot, data = freeze(header, compile_rows(enumerate(map(_document, history)), "ai", purpose.accepts, as_of))
    path = folder / f"{seed}.parquet"
    path.write_bytes(data)
    drawn = [_row(rng, n, began) for n in range(rows)]
    reasons = [
        decide(
            Row([*(r["others"] or [None]), r["subject"]], r["category"], r["content"], r["created"]),
            history,
            purpose,
            as_of,
            decided_at,
        )
        for r in drawn
    ]
    return Drawn(
        ConsentFilter(replace(snapshot, path=path), columns, decided_at), pa.Table.from_pylist(drawn, schema=SCHEMA), reasons
    )


def _event(rng: random.Random, began: datetime) -> Event:
    recorded = rng.randint(0, 20)
    at = {n: began + timedelta(hours=n) for n in range(40)}
    scope = rng.choice([0, 0, 1, 2])
    fields: dict[str, Any] = {
        "subject_id": rng.choice(SUBJECTS),
        "recorded_at": at[recorded],
        "recorded_by": "user:x",
        "event_id": "e",
        "category": rng.choice(CATEGORIES) if scope == 1 else None,
        "content_id": rng.choice(CONTENTS) if scope == 2 else None,
        "purposes": rng.sample(["ai@1", "ai@2", "ai@3", "other@1"], 2),
    }
    if rng.random() < 0.7:
        acted = rng.randint(0, recorded)
        expires = rng.choice([None, None, at[rng.randint(acted + 1, 25)]])
        since = rng.choice([None, None, at[rng.randint(0, 20)]])
        return Event(state=rng.choice(YES), occurred_at=at[acted], expires_at=expires, content_since=since, **fields)
    fields["purposes"] = rng.choice([fields["purposes"], [ALL_PURPOSES]])
    return Event(state=rng.choice(NO), occurred_at=rng.choice([None, at[rng.randint(0, 25)]]), **fields)


def _row(rng: random.Random, n: int, began: datetime) -> dict[str, Any]:
    subjects = [*SUBJECTS * 4, "stranger", None, ""]
    return {
        "n": n,
        "subject": rng.choice(subjects),
        "others": rng.choice([*[[rng.choice(subjects) for _ in range(rng.randint(1, 2))] for _ in range(8)], None, []]),
        "category": rng.choice([*CATEGORIES * 3, None, "", "unlisted"]),
        "content": rng.choice([*CONTENTS * 3, None, "", "new"]),
        "created": rng.choice([None, *[began + timedelta(hours=rng.randint(0, 20)) for _ in range(6)]]),
        "text": f"text of row {n}",
    }


def _document(event: Event) -> dict[str, Any]:
    fields = {
        "state": event.state,
        "subject_id": event.subject_id,
        "purposes": list(event.purposes),
        "category": event.category,
        "content_id": event.content_id,
        "recorded_by": event.recorded_by,
        **{
            name: getattr(event, name) and times.text(getattr(event, name))
            for name in ("occurred_at", "recorded_at", "expires_at", "content_since")
        },
    }
    return {name: value for name, value in fields.items() if value is not None}
