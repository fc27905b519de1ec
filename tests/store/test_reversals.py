"""Who goes from no to yes: by purpose, by scope, by when they acted, and never more people than were allowed for."""

from __future__ import annotations

import itertools
import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from small_ledger import no, yes

from ledger import ImportRejected, Ledger
from ledger.store import imports

PURPOSES = ("train-ai", "search")


@pytest.fixture
def book(book: Ledger) -> Ledger:
    book.declare_purpose("search", title="Search", description="Search")
    return book


def at(day: int) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=day)


def act(state: str, day: int | None, who: str = "ann", **fields: Any) -> dict[str, Any]:
    moment = {} if day is None else {"occurred_at": at(day).isoformat()}
    return {"state": state, "subject_id": who, "purposes": ["train-ai"], **moment, **fields}


def run(book: Ledger, *acts: dict[str, Any], **options: Any) -> imports.ImportReport:
    path: Path = book.folder.path.parent / "acts.ndjson"
    path.write_text("".join(json.dumps(a) + "\n" for a in acts))
    return book.import_file(path, **options)


def count(book: Ledger, *acts: dict[str, Any]) -> int:
    return run(book, *acts, dry_run=True).reversals


def test_a_no_for_one_purpose_and_a_yes_for_another_is_none(book: Ledger) -> None:
    book.record(no("ann", occurred_at=at(1)))
    assert count(book, act("given", 2, purposes=["search"])) == 0
    assert count(book, act("given", 2, purposes=["search", "train-ai"])) == 1
    assert count(book, act("given", 2, purposes=["train-ai@1"])) == 1


def test_a_no_on_all_purposes_is_one_for_each(book: Ledger) -> None:
    book.record(no("ann", occurred_at=at(1), purposes=["*"]))
    assert count(book, act("given", 2, purposes=["search"])) == 1
    assert count(book, act("given", 2), act("given", 2, purposes=["search"])) == 1, "people are counted, not acts"


def test_another_version_of_the_purpose_is_the_same_purpose(book: Ledger) -> None:
    book.record(no("ann", occurred_at=at(1)))
    book.declare_purpose("train-ai", title="Again", description="Again")
    assert count(book, act("given", 2, purposes=["train-ai@2"])) == 1


def test_scopes_are_told_apart(book: Ledger) -> None:
    book.record(no("ann", occurred_at=at(1)))
    book.record(no("bob", occurred_at=at(1), content_id="p"))
    book.record(no("cem", occurred_at=at(1), category="p"))
    assert count(book, act("given", 2, "bob"), act("given", 2, "cem", content_id="p")) == 0
    assert count(book, act("given", 2, "bob", content_id="p"), act("given", 2, "cem", category="p")) == 2


def test_a_no_to_everything_is_one_to_each_item_and_category(book: Ledger) -> None:
    for person in ("ann", "bob", "cem", "dan"):
        book.record(no(person, occurred_at=at(1)))
    book.record(yes("cem", occurred_at=at(2)))
    book.record(yes("dan", occurred_at=at(2), content_id="p"))
    assert count(book, act("given", 3, content_id="p")) == 1
    assert count(book, act("given", 3, "bob", category="p")) == 1
    assert count(book, act("given", 3, "cem", content_id="p")) == 0, "a yes to everything stood already"
    assert count(book, act("given", 3, "dan", content_id="p")) == 0, "so did one to this item"
    assert count(book, act("given", 3, "dan", content_id="q")) == 1


def test_it_is_when_people_acted_that_counts(book: Ledger) -> None:
    book.record(no("ann", occurred_at=at(5)))
    assert count(book, act("given", 4)) == 0, "the no is later"
    assert count(book, act("given", 5)) == 0, "a tie is a no"
    assert count(book, act("given", 6)) == 1
    book.record(no("bob"))
    assert count(book, act("given", 6, "bob")) == 0, "an undated no counts from its recording"


def test_whoever_stood_at_yes_already_is_not_counted(book: Ledger) -> None:
    book.record(no("ann", occurred_at=at(1)))
    book.record(yes("ann", occurred_at=at(2)))
    assert count(book, act("renewed", 3)) == 0
    book.record(yes("ann", occurred_at=at(4), expires_at=at(5)))
    assert count(book, act("renewed", 6)) == 1, "their yes had run out, and the no stood again"


def test_the_order_in_the_file_does_not_matter(book: Ledger) -> None:
    book.record(no("dee", occurred_at=at(1)))
    acts = [
        act("refused", 1, "ann"),
        act("given", 2, "ann"),  # a reversal within the file
        act("given", 2, "bob"),
        act("refused", 3, "bob"),  # ends at no
        act("given", 2, "dee"),
        act("refused", 3, "dee"),  # ends at no, as before
    ]
    for order in itertools.islice(itertools.permutations(acts), 0, None, 37):
        assert count(book, *order) == 1


def test_more_than_allowed_and_nothing_is_recorded(book: Ledger) -> None:
    for who in ("ann", "bob", "cem"):
        book.record(no(who, occurred_at=at(1)))
    before = book.checkpoint()
    acts = [act("refused", 1, "x"), *(act("given", 2, who) for who in ("ann", "bob", "cem", "x", "dee"))]
    with pytest.raises(ImportRejected, match="would take 4 people from no to yes, and at most 3 may") as error:
        run(book, *acts, max_reversals=3)
    assert error.value.exit_code == 1
    assert [line.split(":")[0] for line in error.value.bad_lines] == ["line 2", "line 3", "line 4", "line 5"]
    assert "'ann' goes from no (entry 4) to yes" in error.value.bad_lines[0]
    assert "'x' goes from no (this file too) to yes" in error.value.bad_lines[3]
    assert book.checkpoint() == before
    with pytest.raises(ImportRejected):
        run(book, *acts, max_reversals=0, dry_run=True)
    assert run(book, *acts, max_reversals=4).reversals == 4
    assert run(book, *acts, max_reversals=0).reversals == 0, "repeats change nobody's mind"


def test_a_person_with_many_acts_and_many_people(book: Ledger) -> None:
    people = [f"u{i}" for i in range(1200)]
    book.record_all(no(who, occurred_at=at(1)) for who in people)
    items = [act("given", 2, "u7", content_id=f"p{i}") for i in range(3000)]
    with pytest.raises(ImportRejected, match="1200 people") as error:
        run(book, *items, *(act("given", 2, who) for who in people), max_reversals=1199)
    assert len(error.value.bad_lines) == 20


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_was_recorded_before_is_not_gone_over(book: Ledger) -> None:
    """A few acts into a large ledger take the time of a few: SQLite begins with these."""
    plans: list[list[str]] = []

    def planned(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if "DISTINCT" in statement:
            with closing(connection.connection.cursor()) as other:
                plans.append([row[3] for row in other.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)])

    sa.event.listen(sa.Engine, "before_cursor_execute", planned)
    try:
        run(book, act("given", 1))
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", planned)
    (plan,) = plans
    assert "SEARCH openings USING INTEGER PRIMARY KEY (rowid>?)" in plan
    assert not any(step.startswith("SCAN openings") for step in plan)
