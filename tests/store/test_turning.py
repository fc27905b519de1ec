"""Whoever goes from no to yes by a file is found, also where only those are looked at who may: as by looking at all."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from test_short import _write

from ledger import Ledger, cores, times
from ledger.consent import YES, Event
from ledger.store import ahead, database, imports, reversals, turning
from ledger.store.history import History
from ledger.store.turning import Turning

T0 = datetime(2024, 1, 1, tzinfo=UTC)
STATES = ("given", "given", "renewed", "withdrawn", "refused")
PURPOSES = (["train-ai"], ["search"], ["search", "train-ai"], ["*"])
SCOPES: tuple[dict[str, str], ...] = ({}, {}, {"content_id": "p"}, {"category": "p"}, {"content_id": "q"})


@pytest.fixture
def book(book: Ledger) -> Ledger:
    book.declare_purpose("search", title="Search", description="Search")
    return book


def some(chance: random.Random, count: int, people: int) -> list[dict[str, Any]]:
    """Acts on few days, so that many say yes and no on the same."""
    made = []
    for _ in range(count):
        state = chance.choice(STATES)
        at = T0 + timedelta(days=chance.randrange(9))
        act = {"state": state, "subject_id": f"u{chance.randrange(people)}", "occurred_at": at, **chance.choice(SCOPES)}
        act["purposes"] = chance.choice(PURPOSES[:3] if state in YES else PURPOSES)
        if state in YES and chance.random() < 0.2:
            act["expires_at"] = at + timedelta(days=3)
        made.append(act)
    return made


def of(documents: list[dict[str, Any]]) -> list[int] | None:
    with Turning() as found:
        for first in range(0, len(documents), 7):
            part = documents[first : first + 7]
            found.add(
                [sha256(d["subject_id"].encode()).digest() for d in part],
                [d["state"] in YES for d in part],
                [(d.get("category"), d.get("content_id")) for d in part],
                [d["occurred_at"] for d in part],
            )
        return found.rows()


@pytest.mark.parametrize("at_once", [8, 1 << 21])
@pytest.mark.parametrize("seed", range(5))
def test_they_are_those_that_are_found_by_looking_at_all(
    book: Ledger, seed: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From wherever in the log the new acts begin. On both databases."""
    monkeypatch.setattr(turning, "_AT_ONCE", at_once)
    monkeypatch.setattr(turning, "_IN_MEMORY", 100)
    chance = random.Random(seed)
    book.record_all(Event(**act, channel="api") for act in some(chance, 120, 25))
    found = 0
    with database.reading(book._engine) as connection:
        history = History(connection, book.folder.origin, book.folder.log_trust())
        size = history.head()[1].size
        opened = list(history.opened(size))
        start = next(o.position for o in opened if o.is_event)  # type: ignore[union-attr]
        for first in (start, start + 1, start + 40, start + 100):
            rows = of([o.document() for o in opened[first:]])  # type: ignore[union-attr]
            assert rows is not None
            now = times.text(times.now())
            quick = list(reversals.reversals(connection, first, now, [first + row for row in rows]))
            whole = list(reversals.reversals(connection, first, now))
            assert sorted(quick, key=str) == sorted(whole, key=str)
            found += len(whole)
    assert found


def test_who_says_no_last_or_only_elsewhere_is_not_looked_at() -> None:
    def said(who: str, *acts: tuple[str, int, str | None]) -> list[dict[str, Any]]:
        return [
            {"subject_id": who, "state": state, "occurred_at": times.text(T0 + timedelta(days=day)), "content_id": item}
            for state, day, item in acts
        ]

    acts = [
        *said("leaves", ("given", 1, None), ("withdrawn", 2, None)),
        *said("ties", ("withdrawn", 2, None), ("given", 2, None)),
        *said("elsewhere", ("withdrawn", 1, "p"), ("given", 2, "q"), ("given", 2, None)),
        *said("yes", ("given", 1, None), ("renewed", 2, None)),
        *said("no", ("withdrawn", 1, None), ("refused", 2, None)),
    ]
    assert of(acts) == []
    comes = said("comes", ("given", 2, "p"), ("withdrawn", 1, None))
    back = said("back", ("withdrawn", 1, "p"), ("given", 3, "p"), ("withdrawn", 4, "p"))
    found = of([*acts, *comes, *back])
    assert found is not None
    assert {[*acts, *comes, *back][row]["subject_id"] for row in found} == {"comes", "back"}
    assert len(found) == 2
    assert of([]) == []


def test_where_there_are_very_many_all_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turning, "_MOST", 3)
    acts = [
        {"subject_id": f"u{n}", "state": state, "occurred_at": times.text(T0 + timedelta(days=day))}
        for n in range(4)
        for day, state in enumerate(("withdrawn", "given"))
    ]
    assert of(acts) is None
    assert len(of(acts[2:]) or ()) == 3


@pytest.mark.parametrize("seed", range(3))
def test_an_import_comes_to_the_same(book: Ledger, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the second process, which tells them; after noes of before, and of some rows that are looked at one by one."""
    monkeypatch.setattr(ahead, "WORTHWHILE", 1)
    monkeypatch.setattr(cores, "count", lambda: 2)
    told: list[int | None] = []
    counted: list[int] = []

    def by_both(connection: Any, first: int, at: str, positions: list[int] | None = None) -> Iterator[reversals.Reversal]:
        whole = sorted(reversals.reversals(connection, first, at), key=str)
        assert sorted(reversals.reversals(connection, first, at, positions), key=str) == whole
        told.append(None if positions is None else len(positions))
        counted.append(len(whole))
        return iter(whole)

    monkeypatch.setattr(imports, "reversals", by_both)
    chance = random.Random(seed)
    for number, people in enumerate((90, 60, 60)):
        acts = some(chance, 200, people)
        for act in acts:  # of few forms, each of which several have
            act["state"] = "given" if act["state"] in YES else "withdrawn"
            act["occurred_at"] = times.text(act["occurred_at"])
            act.pop("expires_at", None)
        acts += [{**act, "subject_id": f"u{chance.randrange(people)}"} for act in acts]
        for row, act in enumerate(acts):
            act["event_id"] = f"e{number}-{row}"
        if number == 2:
            acts[5]["subject_id"] = 'a "name"' + "x" * 200  # which is looked at as a whole
        file = tmp_path / f"{number}.ndjson"
        _write(file, acts)
        assert book.import_file(file).new == len(acts)
    assert told[0] and told[1] and told[2] is None and all(counted)
    book.fsck()
