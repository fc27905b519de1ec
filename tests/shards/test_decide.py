"""The vectorised rule against the reference, on random histories and rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import times
from ledger.consent import ALL_PURPOSES, NO, REASONS, YES, Event, Purpose, Row, decide, explain
from ledger.folding import compile_rows
from ledger.shards import decide as fast
from ledger.shards.answers import Answers
from ledger.shards.columns import Columns

T0 = datetime(2026, 1, 1, tzinfo=UTC)
SUBJECTS = ["ann", "bob", "Ann", "dé", "u" * 30]
CATEGORIES = ["post", "photo", "caption"]
KEYS_ALONE = ("subject_missing", "category_excluded")
CONTENTS = ["1", "01", "c3", "c4"]


def day(n: int) -> datetime:
    return T0 + timedelta(days=n)


@st.composite
def events(draw: st.DrawFn) -> Event:
    yes = draw(st.booleans())
    scope = draw(st.integers(0, 2))
    recorded = draw(st.integers(0, 20))
    fields: dict[str, Any] = {
        "state": draw(st.sampled_from(YES if yes else NO)),
        "subject_id": draw(st.sampled_from(SUBJECTS)),
        "recorded_at": day(recorded),
        "recorded_by": draw(st.sampled_from(["user:x", "import:crm", "session:1"])),
        "event_id": "e",
        "category": draw(st.sampled_from(CATEGORIES)) if scope == 1 else None,
        "content_id": draw(st.sampled_from(CONTENTS)) if scope == 2 else None,
    }
    tokens = draw(st.lists(st.sampled_from(["ai@1", "ai@2", "ai@3", "other@1"]), min_size=1, max_size=2))
    if yes:
        acted = draw(st.integers(0, recorded))
        fields |= {
            "occurred_at": day(acted),
            "expires_at": draw(st.none() | st.integers(acted + 1, 25).map(day)),
            "content_since": draw(st.none() | st.integers(0, 20).map(day)),
        }
    else:
        fields["occurred_at"] = draw(st.none() | st.integers(0, 25).map(day))
        tokens = draw(st.sampled_from([tokens, [ALL_PURPOSES]]))
    return Event(purposes=tokens, **fields)


def document(event: Event) -> dict[str, Any]:
    """The canonical fields that a snapshot reads."""
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


subject_values = st.none() | st.just("") | st.sampled_from([*SUBJECTS, "stranger", "u" * 600])
rows = st.builds(
    dict,
    subject=subject_values,
    others=st.none() | st.lists(subject_values, max_size=3),
    category=st.none() | st.just("") | st.sampled_from([*CATEGORIES, "unlisted"]),
    content=st.none() | st.just("") | st.sampled_from([*CONTENTS, "new"]),
    created=st.none() | st.integers(0, 20).map(day),
)


histories_and_rows = given(
    history=st.lists(events(), max_size=30),
    drawn=st.lists(rows, min_size=1, max_size=25),
    lists_categories=st.booleans(),
    shape=st.sampled_from(["one", "list", "both"]),
    mapped=st.sets(st.sampled_from(["category", "content", "created"])),
    as_of_day=st.integers(0, 25),
    later=st.integers(0, 30),
    accepts=st.sampled_from([(2,), (1, 2)]),
)


def each_answer_follows_from_its_events(
    row: Row, history: list[Event], purpose: Purpose, as_of: datetime, decided_at: datetime
) -> None:
    found = explain(row, history, purpose, as_of, decided_at)
    assert found.reason == decide(row, history, purpose, as_of, decided_at)
    assert [a.subject_id for a in found.answers] == ([] if found.reason in KEYS_ALONE else row.subjects)
    assert found.reason == next((a.reason for a in found.answers if a.reason != "allowed"), found.reason)
    for answer in found.answers:
        events = [history[i] for i in answer.events]
        alone = Row([answer.subject_id], row.category, row.content_id, row.created)
        assert decide(alone, history, purpose, as_of, decided_at) == answer.reason
        assert decide(alone, events, purpose, as_of, decided_at) == answer.reason, "these events say it without all others"
        assert all(e.subject_id == answer.subject_id for e in events)
        assert [e.is_yes for e in events] == [answer.reason not in NO] * len(events)
        assert bool(events) == (answer.reason != "no_record")
        if answer.reason in NO:
            assert [e.state for e in events] == [answer.reason]
        without = [e for i, e in enumerate(history) if i not in answer.events]
        if answer.reason == "allowed":
            assert decide(alone, without, purpose, as_of, decided_at) != "allowed" or any(
                e.is_yes and e.scope in {d.scope for d in events} for e in without
            ), "without its yeses it is allowed only where an earlier yes at the same scope takes their place"


def fast_path_gives_the_reference_reason(
    history: list[Event],
    drawn: list[dict[str, Any]],
    lists_categories: bool,
    shape: str,
    mapped: set[str],
    as_of_day: int,
    later: int,
    accepts: tuple[int, ...],
) -> None:
    if lists_categories:
        mapped = mapped | {"category"}
    history = sorted(history, key=lambda e: e.recorded_at)  # type: ignore[arg-type,return-value]
    purpose = Purpose(
        token="ai", version=2, title="t", description="d", categories=CATEGORIES[:2] if lists_categories else (), accepts=accepts
    )
    as_of, decided_at = day(as_of_day), day(as_of_day + later)
    table = pa.table(
        {
            "subject": pa.array([r["subject"] for r in drawn], pa.string()),
            "others": pa.array([r["others"] for r in drawn], pa.list_(pa.string())),
            "category": pa.array([r["category"] for r in drawn], pa.string()).dictionary_encode(),
            "content": pa.array([r["content"] for r in drawn], pa.large_string()),
            "created": pa.array([r["created"] for r in drawn], pa.timestamp("ms", "UTC")),
        }
    )
    names = {"one": ["subject"], "list": ["others"], "both": ["others", "subject"]}[shape]
    columns = Columns(subject=names, **{name: name for name in mapped})  # type: ignore[arg-type]

    expected = []
    for r in drawn:
        parts = {"subject": [r["subject"]], "others": r["others"] or [None]}
        row = Row(
            [s for name in names for s in parts[name]],
            *(r[name] if name in mapped else None for name in ("category", "content", "created")),
        )
        expected.append(decide(row, history, purpose, as_of, decided_at))
        each_answer_follows_from_its_events(row, history, purpose, as_of, decided_at)
    answers = Answers(compile_rows(enumerate(map(document, history)), "ai", purpose.accepts, as_of), decided_at)
    columns.check(table.schema, purpose.categories)
    decisions = fast.decide(columns.read(table), answers, purpose.categories)

    assert decisions.reason.to_pylist() == expected
    assert decisions.keep.to_pylist() == [reason == "allowed" for reason in expected]
    assert decisions.keep.null_count == 0
    assert sum(decisions.counts().values()) == len(drawn)
    assert not (decisions.unmapped & (decisions.codes == 0)).any()
    assert ((decisions.basis != 255) == (decisions.codes == 0)).all()
    if mapped == {"category", "content", "created"}:
        assert not decisions.unmapped.any()


@settings(max_examples=400, deadline=None)
@histories_and_rows
def test_the_fast_path_gives_the_reference_reason_for_every_row(**case: Any) -> None:
    fast_path_gives_the_reference_reason(**case)


def test_a_hash_that_collides_never_lends_an_answer(monkeypatch: Any) -> None:
    monkeypatch.setattr("ledger.shards.text_hash.TextHash.__call__", lambda _, text: np.zeros(len(text), np.uint64))
    history = [
        Event(state="given", subject_id=s, purposes=["ai@1"], occurred_at=T0, recorded_at=T0, event_id=s) for s in ("a", "b", "c")
    ]
    history += [
        Event(state="withdrawn", subject_id=s, purposes=["ai@1"], content_id=c, recorded_at=T0 + timedelta(1), event_id=s + c)
        for s in ("a", "b")
        for c in ("1", "2")
    ]
    purpose = Purpose(token="ai", version=1, title="t", description="d")
    answers = Answers(compile_rows(enumerate(map(document, history)), "ai", (1,), day(5)), day(5))
    table = pa.table({"s": ["a", "a", "b", "c", "d", "ab"], "c": ["1", "3", "2", "1", "1", "1"]})
    decisions = fast.decide(Columns(subject="s", content="c").read(table), answers, ())
    assert decisions.reason.to_pylist() == [
        decide(Row([s], None, c), history, purpose, day(5)) for s, c in zip(*(table[n].to_pylist() for n in "sc"), strict=True)
    ]
    assert decisions.reason.to_pylist() == ["withdrawn", "allowed", "withdrawn", "allowed", "no_record", "no_record"]


def test_reasons_are_coded_as_the_reference_orders_them() -> None:
    assert REASONS[0] == "allowed"
    assert len(set(REASONS)) == len(REASONS) == 11
