"""A small history and its answers, and what rows get by them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from ledger import times
from ledger.folding import compile_rows
from ledger.shards import decide as deciding
from ledger.shards.answers import Answers
from ledger.shards.columns import Columns

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def act(state: str, subject: str, n: int, **fields: Any) -> dict[str, Any]:
    at = times.text(T0 + timedelta(days=n))
    return {
        "state": state,
        "subject_id": subject,
        "purposes": ["ai@1"],
        "occurred_at": at,
        "recorded_at": at,
        "recorded_by": "user:x",
        **fields,
    }


HISTORY = [
    act("given", "yes", 0),
    act("given", "yes2", 0),
    act("given", "1", 0),
    act("given", "-1", 0),
    act("given", str(2**64 - 1), 0),
    act("given", str(-(2**63)), 0),
    act("given", "9" * 38, 0),
    act("given", "\u00e9", 0),
    act("given", "no", 0),
    act("withdrawn", "no", 1),
    act("given", "item", 0),
    act("withdrawn", "item", 1, content_id="c"),
    act("given", "kind", 0),
    act("withdrawn", "kind", 1, category="photo"),
    act("given", "new", 0, content_since=times.text(T0)),
    act("given", "new70", 0, content_since="1970-01-01T00:00:00.000000Z"),
]

ANSWERS = Answers(compile_rows(enumerate(HISTORY), "ai", (1,), T0 + timedelta(days=9)), T0 + timedelta(days=9))


def reasons(table: Any, categories: tuple[str, ...] = (), **columns: Any) -> list[str]:
    mapped = Columns(**columns)
    mapped.check(table.schema, categories)
    decisions = deciding.decide(mapped.read(table), ANSWERS, categories)
    assert len(decisions.keep) == table.num_rows and decisions.keep.null_count == 0
    return decisions.reason.to_pylist()  # type: ignore[no-any-return]


def of(subjects: Any, **columns: Any) -> list[str]:
    return reasons(pa.table({"s": subjects}), subject="s", **columns)
