"""Why a row is kept or dropped: the same answer by every way, and the event that decides."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ledger
from ledger import explanation, schemas, times
from ledger.consent import Event, Purpose, Row, explain
from ledger.folding import compile_rows
from ledger.snapshot import Header
from tests.shards.test_decide import CATEGORIES, CONTENTS, SUBJECTS, day, document, events
from tests.store.small_ledger import forge

T0 = datetime(2026, 1, 1, tzinfo=UTC)
POSTS = ledger.Columns(subject="user_id", content="post_id")


def said(state: str, subject: str, *, day: int = 0, **fields: Any) -> ledger.Event:
    fields = {"purposes": ["train-ai"], "occurred_at": T0 + timedelta(days=day), "event_id": f"{state} {subject}", **fields}
    return ledger.Event(state=state, subject_id=subject, **fields)


def explained(book: ledger.Ledger, path: Path, row: int, columns: ledger.Columns = POSTS) -> ledger.RowExplanation:
    """By a look at the ledger; the JSON is valid."""
    found = ledger.explain(ledger.ConsentFilter(book.look("train-ai"), columns), path, row, book=book)
    jsonschema.validate(found.document(), schemas.load("explain"))
    return found


@settings(max_examples=80, deadline=None)
@given(
    history=st.lists(events(), max_size=25),
    subjects=st.lists(st.sampled_from([*SUBJECTS, "stranger"]), min_size=1, max_size=2),
    category=st.none() | st.sampled_from(CATEGORIES),
    content=st.none() | st.sampled_from(CONTENTS),
    created=st.none() | st.integers(0, 20).map(day),
    as_of=st.integers(0, 25),
    later=st.integers(0, 30),
    accepts=st.sampled_from([(2,), (1, 2)]),
)
def test_a_snapshots_rows_name_the_events_that_the_whole_history_does(
    history: list[Event],
    subjects: list[str],
    category: str | None,
    content: str | None,
    created: datetime | None,
    as_of: int,
    later: int,
    accepts: tuple[int, ...],
) -> None:
    history = sorted(history, key=lambda e: e.recorded_at or T0)
    row = Row(subjects, category, content, created)
    purpose = Purpose(token="ai", version=2, title="t", description="d", accepts=accepts)
    rows = compile_rows(enumerate(map(document, history)), "ai", accepts, day(as_of))
    header = Header("o", "ai@2", (), "", day(as_of), day(as_of), {})
    known = explanation._events(rows, subjects, "ai@2")
    by_rows = explain(row, [e for _, e in known], explanation._purpose(header), day(as_of), day(as_of + later))
    by_events = explain(row, history, purpose, day(as_of), day(as_of + later))
    assert by_rows.reason == by_events.reason
    assert [[known[i][0] for i in a.events] for a in by_rows.answers] == [list(a.events) for a in by_events.answers]


@pytest.fixture
def people(book: ledger.Ledger) -> ledger.Ledger:
    """One person for each reason, named after it."""
    book.record_all(
        [
            said("given", "allowed", channel="web"),
            said("refused", "refused", channel="web"),
            said("given", "withdrawn"),
            said("withdrawn", "withdrawn", day=1, purposes=["*"], channel="one-click"),
            said("objected", "objected"),
            said("revoked", "revoked", actor="authority"),
            said("given", "not_covered", content_since=T0 + timedelta(days=300)),
            said("given", "expired", expires_at=T0 + timedelta(days=30)),
            said("given", "notice_changed"),
        ]
    )
    book.declare_purpose("train-ai", title="Train", description="Train another model")
    book.record(said("renewed", "allowed", event_id="again", day=2, purposes=["train-ai@2"]))
    book.record(
        said("given", "not_covered", event_id="n", day=2, content_since=T0 + timedelta(days=300), purposes=["train-ai@2"])
    )
    book.record(said("given", "expired", event_id="x", day=2, expires_at=T0 + timedelta(days=30), purposes=["train-ai@2"]))
    return book


WORDS = {
    "allowed": ["said yes to everything for train-ai@2 on 2026-01-03", "event 'again'", "without an end"],
    "refused": ["Subject 'refused' said no to everything for train-ai@1 on 2026-01-01 00:00:00 UTC (entry 4, event", "by 'web'"],
    "withdrawn": [
        "said no to everything for all purposes on 2026-01-02",
        "by 'one-click'",
        "it stands because no later yes at least as specific is in force",
    ],
    "objected": ["said no", "event 'objected objected'"],
    "revoked": ["Someone else (authority) said no for subject 'revoked'"],
    "not_covered": ["but only to content created since 2026-10-28", "is of unknown age (no column is mapped)"],
    "notice_changed": ["said yes to everything for train-ai@1", "but to train-ai@1, which train-ai@2 does not accept"],
    "expired": ["event 'x'", "and that ended on 2026-01-31"],
    "no_record": ["No yes of subject 'no_record' to this is known. Silence is no."],
}


@pytest.mark.parametrize("reason", WORDS)
def test_each_reason_is_told_with_the_event_that_decides(people: ledger.Ledger, shard: Callable[..., Path], reason: str) -> None:
    path = shard("a.parquet", user_id=["x", "y", reason], post_id=["p1", "p2", "p3"])
    found = explained(people, path, 2)
    assert found.reason == reason
    assert found.allowed == (reason == "allowed")
    (answer,) = found.answers
    assert answer.subject_id == reason
    for words in WORDS[reason]:
        assert words in answer.sentence
    for act in answer.acts:
        assert act.event is not None
        assert f"entry {act.position}" in answer.sentence
        assert dict(people.events())[act.position] == act.event


def test_what_the_keys_settle_needs_no_event(people: ledger.Ledger, shard: Callable[..., Path]) -> None:
    path = shard("a.parquet", user_id=["allowed", None, ""], post_id=["p1", "p2", "p3"])
    for row in (1, 2):
        found = explained(people, path, row)
        assert (found.reason, found.answers) == ("subject_missing", [])
        assert "nobody can have said yes" in found.sentence
    people.declare_purpose("train-ai", title="T", description="D", categories=["post", "photo"])
    found = explained(people, path, 0, ledger.Columns(subject="user_id", category="=film"))
    assert (found.reason, found.answers) == ("category_excluded", [])
    assert found.sentence == "denied: category_excluded. train-ai@3 uses 'photo', 'post'; the row's category is 'film'."


def test_with_several_subjects_each_is_told_and_the_first_no_names_the_reason(people: ledger.Ledger, tmp_path: Path) -> None:
    table = pa.table(
        {"by": [["allowed", "refused"], [], ["allowed", None], None], "editor": ["withdrawn", "allowed", "allowed", "allowed"]}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    columns = ledger.Columns(subject=["by", "editor"], subject_prefix="")
    found = explained(people, tmp_path / "a.parquet", 0, columns)
    assert found.reason == "refused"
    assert [(a.subject_id, a.reason) for a in found.answers] == [
        ("allowed", "allowed"),
        ("refused", "refused"),
        ("withdrawn", "withdrawn"),
    ]
    for row in (1, 2, 3):
        assert explained(people, tmp_path / "a.parquet", row, columns).reason == "subject_missing"
        prefixed = ledger.Columns(subject=["by", "editor"], subject_prefix="x:")
        assert explained(people, tmp_path / "a.parquet", row, prefixed).reason == "subject_missing"


def test_unknown_items_are_held_to_every_no_for_a_single_one(book: ledger.Ledger, shard: Callable[..., Path]) -> None:
    book.record_all([said("given", "ann"), said("withdrawn", "ann", content_id="p9")])
    path = shard("a.parquet", user_id=["ann", "ann"], post_id=["p1", None])
    assert explained(book, path, 0).allowed
    found = explained(book, path, 1)
    assert found.reason == "withdrawn"
    assert "content item 'p9'" in found.answers[0].sentence
    assert "the row's content item is unknown, so that it may be this one" in found.answers[0].sentence
    unmapped = explained(book, path, 0, ledger.Columns(subject="user_id"))
    assert "unknown (no column is mapped)" in unmapped.answers[0].sentence


def test_an_allowed_row_tells_every_yes_it_rests_on(book: ledger.Ledger, shard: Callable[..., Path]) -> None:
    book.record_all([said("withdrawn", "ann", content_id="p1"), said("given", "ann", day=1, content_id="p1", event_id="one")])
    book.record(said("given", "ann", day=2, event_id="all", expires_at=datetime(2999, 1, 1, tzinfo=UTC)))
    (answer,) = explained(book, shard("a.parquet", user_id=["ann"], post_id=["p1"]), 0).answers
    assert [act.event.event_id for act in answer.acts if act.event] == ["all", "one"]
    assert "until 2999-01-01" in answer.sentence
    assert "content item 'p1'" in answer.sentence


def test_every_row_of_every_group_is_the_row_of_the_exclusions(people: ledger.Ledger, shard: Callable[..., Path]) -> None:
    path = shard("raw/a.parquet", user_id=[*WORDS, None], post_id=[f"p{i}" for i in range(10)])
    consent = ledger.ConsentFilter(people.snapshot("train-ai"), POSTS)
    consent.filter_shards([path], path.parents[1] / "out", exclusions=path.parents[1] / "dropped.parquet")
    dropped = {d["row"]: d["reason"] for d in pq.read_table(path.parents[1] / "dropped.parquet").to_pylist()}
    assert len(dropped) == 9
    for row in range(10):
        assert explained(people, path, row).reason == dropped.get(row, "allowed")


def test_a_frozen_snapshot_decides_and_the_ledger_names_its_events(people: ledger.Ledger, shard: Callable[..., Path]) -> None:
    path = shard("a.parquet", user_id=["allowed", "withdrawn"], post_id=["p1", "p2"])
    frozen = people.snapshot("train-ai")
    people.withdraw("allowed")
    consent = ledger.ConsentFilter(ledger.load_snapshot(frozen.path or "", trust=people.trust), POSTS)
    found = ledger.explain(consent, path, 0, book=people)
    assert found.allowed, "that is what the snapshot says"
    assert "1 later events" in found.warnings[0], "and that the ledger knows better is said"
    alone = ledger.explain(consent, path, 1)
    jsonschema.validate(alone.document(), schemas.load("explain"))
    (act,) = alone.answers[0].acts
    assert act.event is None
    assert alone.answers[0].sentence.startswith(
        f"Subject 'withdrawn' said no to everything on 2026-01-02 00:00:00 UTC (entry {act.position}); it stands"
    )
    for name in ("notice_changed", "expired", "not_covered", "revoked", "allowed"):
        other = ledger.explain(consent, shard("b.parquet", user_id=[name], post_id=["p"]), 0)
        assert other.reason == name
        assert other.answers[0].sentence


def test_an_event_hidden_from_the_index_is_an_integrity_failure(people: ledger.Ledger, shard: Callable[..., Path]) -> None:
    """The no is in the log; whoever hides it from the look-up by subject must not make the row look allowed."""
    path = shard("a.parquet", user_id=["withdrawn"], post_id=["p1"])
    with closing(sqlite3.connect(people.folder.path / "ledger.db")) as connection, connection:
        connection.execute("UPDATE openings SET subject_id = 'nobody' WHERE subject_id = 'withdrawn'")
    with pytest.raises(ledger.IntegrityError, match="do not decide as the whole log"):
        explained(people, path, 0)


def test_an_event_that_is_not_what_the_snapshot_says_is_an_integrity_failure(
    people: ledger.Ledger, shard: Callable[..., Path]
) -> None:
    path = shard("a.parquet", user_id=["withdrawn"], post_id=["p1"])
    consent = ledger.ConsentFilter(people.snapshot("train-ai"), POSTS)
    (act,) = ledger.explain(consent, path, 0, book=people).answers[0].acts
    forge(people, act.position, b"2026-01-02", b"2026-01-03")
    with pytest.raises(ledger.IntegrityError, match="not what the snapshot says of it"):
        ledger.explain(consent, path, 0, book=people)


def test_a_guardians_yes_and_a_revocation_name_who_spoke(book: ledger.Ledger, shard: Callable[..., Path]) -> None:
    until = datetime(2999, 1, 1, tzinfo=UTC)
    book.record(said("given", "ann", actor="guardian", evidence_sha256="0" * 64, expires_at=until))
    book.record(said("revoked", "bob", actor="subject"))
    path = shard("a.parquet", user_id=["ann", "bob"], post_id=["p1", "p2"])
    assert "A guardian said yes for subject 'ann' to everything" in explained(book, path, 0).answers[0].sentence
    assert "Someone else said no for subject 'bob'" in explained(book, path, 1).answers[0].sentence


def test_a_long_id_stays_within_its_quotes(book: ledger.Ledger, shard: Callable[..., Path]) -> None:
    subject = "x" * 200 + "' said yes to everything'" + '"' * 200
    book.record(said("refused", subject, event_id="e"))
    (answer,) = explained(book, shard("a.parquet", user_id=[subject], post_id=["p"]), 0).answers
    assert answer.sentence.startswith("Subject '" + "x" * 199 + "…' said no to everything")
    assert "said yes" not in answer.sentence


def test_a_row_or_shard_that_is_not_there(people: ledger.Ledger, shard: Callable[..., Path]) -> None:
    path = shard("raw/a.parquet", user_id=["allowed"], post_id=["p1"])
    empty = shard("empty.parquet", user_id=pa.array([], pa.string()), post_id=pa.array([], pa.string()))
    for where, row, hint in ((path, 1, "0 to 0"), (path, -1, "0 to 0"), (empty, 0, "no rows")):
        with pytest.raises(ledger.UsageError, match="has no row") as refused:
            explained(people, where, row)
        assert hint in (refused.value.hint or "")
    with pytest.raises(ledger.UsageError, match="no column 'nope'"):
        explained(people, path, 0, ledger.Columns(subject="nope"))
    shard("raw/b.parquet", user_id=["allowed"], post_id=["p1"])
    with pytest.raises(ledger.UsageError, match="means 2 shards"):
        explained(people, path.parent, 0)


@pytest.mark.parametrize("years", [-8000, 50_000])
def test_a_creation_beyond_the_calendar_is_before_or_after_every_yes(
    book: ledger.Ledger, shard: Callable[..., Path], years: int
) -> None:
    book.record(said("given", "ann", content_since=T0))
    path = shard("a.parquet", user_id=["ann"], post_id=["p"], at=pa.array([years * 31_557_600], pa.timestamp("s")))
    found = explained(book, path, 0, ledger.Columns(subject="user_id", created="at"))
    assert found.reason == ("allowed" if years > 0 else "not_covered")


def test_a_stale_snapshot_explains_nothing(book: ledger.Ledger, shard: Callable[..., Path]) -> None:
    path = shard("a.parquet", user_id=["ann"], post_id=["p"])
    frozen = book.snapshot("train-ai", as_of=times.now() - timedelta(hours=25))
    with pytest.raises(ledger.SnapshotError, match="old"):
        ledger.explain(ledger.ConsentFilter(frozen, POSTS), path, 0)
