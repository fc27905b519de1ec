"""Many events at once are folded as they are one by one, and a log that two processes go over is what one goes over."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_ledger import no, yes
from test_event_bytes import MOMENTS, events

import ledger
from ledger import cores, folding, times
from ledger.consent import Event
from ledger.errors import IntegrityError
from ledger.store import alike, beside, second
from ledger.store.documents import event_bytes, event_document

T0 = datetime(2026, 1, 1, tzinfo=UTC)


@settings(deadline=None, max_examples=100)
@given(st.lists(events(recorded=True), min_size=1, max_size=8), st.data())
def test_events_of_known_forms_are_folded_as_one_by_one(some: list[Event], data: st.DataObject) -> None:
    some += [
        data.draw(st.sampled_from(some)).filled_in(subject_id=f"u{n % 3}", event_id=f"e{n}", recorded_at=data.draw(MOMENTS))
        for n in range(8)
    ]
    purposes = sorted({purpose for event in some for purpose in event.purposes})
    token, as_of = folding.split_purpose(data.draw(st.sampled_from(purposes)))[0], data.draw(MOMENTS)
    at_once, one_by_one = (folding.Acts(token, (1,), as_of) for _ in range(2))
    read = {position: alike.read(event_bytes(event)) for position, event in enumerate(some)}
    plain = {position: said for position, said in read.items() if said is not None}
    for position, event in enumerate(some):
        one_by_one.add(position, event_document(event))
        if position not in plain:
            at_once.add(position, event_document(event))
    if plain:
        at_once.add_alike(list(plain), list(plain.values()))
    found, expected = (acts.table().sort_by("position") for acts in (at_once, one_by_one))
    assert found.equals(expected)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random history: late events, withdrawals, ends, items, categories, two purposes, people erased, ids that need escapes."""
    seed = int.from_bytes(os.urandom(8))
    print("seed", seed)
    chance = random.Random(seed)
    path = tmp_path_factory.mktemp("history") / "ledger"
    with ledger.create(path) as book:
        book.declare_purpose("train-ai", title="T", description="D", categories=["post", "photo"])
        for version in range(3):
            for _ in range(4):
                book.record_all(_event(chance, version) for _ in range(chance.randrange(40, 160)))
                book.record(_event(chance, version))
            book.erase(f"gone{version}")
            book.record(no(f"gone{version}"))
            book.declare_purpose(
                "train-ai", title="T", description=f"D{version}", categories=["post"], compatible=bool(version % 2)
            )
            book.declare_purpose("search", title="S", description=f"D{version}")
        book.record_all(no(f"u{number}") for number in range(0, 60, 7))
    with closing(sqlite3.connect(path / "ledger.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


def _event(chance: random.Random, version: int) -> Event:
    subject = chance.choice([f"u{chance.randrange(60)}"] * 9 + [f"gone{version}", "ö\n1", '"q"', "Ü"])
    at = T0 + timedelta(seconds=chance.randrange(10_000_000), microseconds=chance.randrange(5))
    scope: dict[str, Any] = chance.choice(
        [{}, {"category": "post"}, {"content_id": f"c{chance.randrange(5)}"}, {"content_id": "c\\"}]
    )
    if chance.random() < 0.3:
        return no(subject, occurred_at=chance.choice([None, at]), **scope)
    terms = chance.choice([{}, {"expires_at": at + timedelta(days=9)}, {"content_since": at - timedelta(days=9)}])
    return yes(subject, occurred_at=at, purposes=["train-ai"], **scope, **terms)


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """A second process whenever there is a log to divide; and whether each answered."""
    monkeypatch.setattr(second, "WORTHWHILE", 1)
    monkeypatch.setattr(cores, "count", lambda: 2)
    answers, answer = list[bool](), second.Second.answer

    def told(self: second.Second) -> bytes | None:
        found = answer(self)
        answers.append(found is not None)
        return found

    monkeypatch.setattr(second.Second, "answer", told)
    yield answers


def test_two_processes_find_what_one_finds(history: Path, answered: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    now = times.now()
    monkeypatch.setattr(times, "now", lambda: now)
    with ledger.open(history) as book:
        both = [book.look("train-ai"), book.look("train-ai", as_of=T0 + timedelta(days=40)), book.look("search")]
        report = book.fsck()
        assert answered == [True] * 4
        monkeypatch.setattr(second, "WORTHWHILE", 1 << 60)
        alone = [book.look("train-ai"), book.look("train-ai", as_of=T0 + timedelta(days=40)), book.look("search")]
        assert book.fsck() == report and report.erased
    assert answered == [True] * 4
    assert both[0].rows().num_rows > 60 and both[0].rows() != both[1].rows()
    for one, other in zip(both, alone, strict=True):
        assert (one.sha256, one.salts) == (other.sha256, other.salts)
        assert one.rows().equals(other.rows())


def _changes(position: int) -> dict[str, str]:
    row = f"WHERE position = {position}"
    return {
        "salt": f"UPDATE openings SET salt = zeroblob(32) {row}",
        "canonical": f"UPDATE openings SET canonical = replace(CAST(canonical AS TEXT), 'T', 'U') {row}",
        "opening gone": f"DELETE FROM openings {row}",
        "entry": f"UPDATE entries SET entry = zeroblob(32) {row}",
        "entry gone": f"DELETE FROM entries {row}",
        "tag": f"UPDATE entries SET tag = zeroblob(32) {row}",
    }


@pytest.mark.parametrize(
    ("share", "what"), [(0.2, "canonical"), (0.8, "canonical"), (0.8, "opening gone"), (0.8, "entry gone"), (0.8, "tag")]
)
def test_a_change_in_either_half_is_found_and_told_as_by_one(
    history: Path, tmp_path: Path, answered: list[bool], monkeypatch: pytest.MonkeyPatch, share: float, what: str
) -> None:
    path = shutil.copytree(history, tmp_path / "ledger")
    with closing(sqlite3.connect(path / "ledger.db")) as connection, connection:
        (size,) = connection.execute("SELECT count(*) FROM entries").fetchone()
        query = "SELECT position FROM openings WHERE position >= ? AND event_id IS NOT NULL LIMIT 1"
        (position,) = connection.execute(query, (int(size * share),)).fetchone()
        assert connection.execute(_changes(position)[what]).rowcount == 1
    with ledger.open(path) as book:
        for work in (book.fsck, lambda: book.look("train-ai")):
            monkeypatch.setattr(second, "WORTHWHILE", 1)
            both = _refusal(work)
            monkeypatch.setattr(second, "WORTHWHILE", 1 << 60)
            assert _refusal(work) == both
    assert answered == ([False] * 2 if share > 0.5 else [])  # what is wrong in the first half is told at once


def _refusal(work: Callable[[], object]) -> str:
    with pytest.raises(IntegrityError) as caught:
        work()
    return str(caught.value)


@pytest.mark.parametrize("column", ["event_id", "subject_id", "lookalike", "state", "category", "content_id"])
def test_fsck_finds_an_index_that_was_changed_in_the_second_half(
    history: Path, tmp_path: Path, answered: list[bool], column: str
) -> None:
    path = shutil.copytree(history, tmp_path / "ledger")
    with closing(sqlite3.connect(path / "ledger.db")) as connection, connection:
        last = "(SELECT max(position) FROM openings WHERE event_id IS NOT NULL)"
        connection.execute(f"UPDATE openings SET {column} = 'x' WHERE position = {last}")
    with ledger.open(path) as book, pytest.raises(IntegrityError, match=f"column {column}"):
        book.fsck()


@pytest.mark.parametrize("level", [0, 1])
def test_tiles_that_the_second_process_begins_with_are_those_of_the_entries(
    history: Path, tmp_path: Path, answered: list[bool], level: int
) -> None:
    """It takes them as they are stored: who goes over the entries before compares."""
    path = shutil.copytree(history, tmp_path / "ledger")
    with ledger.open(path) as book, closing(sqlite3.connect(path / "ledger.db")) as connection:
        with connection:
            (hashes,) = connection.execute("SELECT hashes FROM tiles WHERE level = ? AND number = 0", (level,)).fetchone()
            changed = bytes([hashes[0] ^ 1]) + hashes[1:]
            connection.execute("UPDATE tiles SET hashes = ? WHERE level = ? AND number = 0", (changed, level))
        with pytest.raises(IntegrityError):
            book.fsck()
        if level:  # no node of a larger tree is read from the tile below
            with pytest.raises(IntegrityError):
                book.look("train-ai")


def test_without_an_answer_one_goes_over_all(history: Path, answered: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    with ledger.open(history) as book:
        rows = book.look("train-ai").rows()
        monkeypatch.setattr(beside, "_RUN", "import sys; sys.stdout.write('{{'); sys.exit(3)")
        assert book.look("train-ai").rows().equals(rows)
        book.fsck()
        monkeypatch.setattr(cores, "python", lambda: "/nowhere/python")
        assert book.look("train-ai").rows().equals(rows)
    assert answered == [True, False, False]


@pytest.mark.parametrize("given", ["garbage", "nothing", "cut", "more", "printed", "unbuffered", "a path that is no text"])
def test_an_answer_that_is_not_whole_is_not_taken(
    history: Path, answered: list[bool], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str
) -> None:
    """Exit code 0 says nothing: other code of the installation runs in that process too."""
    now, run = times.now(), beside._RUN
    monkeypatch.setattr(times, "now", lambda: now)
    writes = "import json, os, sys; w = json.loads(sys.stdin.buffer.readline())['answer']; os.write(w, {!r}) # {{}}"
    with ledger.open(history) as book:
        frozen, report = book.look("train-ai"), book.fsck()
        if given in ("garbage", "nothing"):
            monkeypatch.setattr(beside, "_RUN", writes.format(b"garbage" * 9 if given == "garbage" else b""))
        elif given in ("cut", "more"):
            wrong = "body.getbuffer()[:-1]" if given == "cut" else "body.getvalue() + b'x'"
            source = (
                Path(second.__file__).read_text(encoding="utf-8").replace("out.write(body.getbuffer())", f"out.write({wrong})")
            )
            (tmp_path / "other.py").write_text(source, encoding="utf-8")
            monkeypatch.syspath_prepend(tmp_path)
            monkeypatch.setattr(beside, "_RUN", run.replace("from {} import", "'{}'; from other import"))
        elif given == "printed":
            (tmp_path / "sitecustomize.py").write_text("print('a line')", encoding="utf-8")
            monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        elif given == "unbuffered":
            monkeypatch.setenv("PYTHONUNBUFFERED", "1")
        else:
            monkeypatch.setattr("sys.path", [*sys.path, tmp_path])
        assert (book.look("train-ai").sha256, book.fsck()) == (frozen.sha256, report)
    fits = given in ("printed", "unbuffered", "a path that is no text")
    assert answered == [True, True, fits, fits]


@pytest.mark.parametrize("what", ["erasures", "before"])
def test_an_answer_of_another_moment_is_not_taken(
    history: Path, answered: list[bool], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The second process reads a moment later: somebody may have been erased meanwhile."""
    now = times.now()
    monkeypatch.setattr(times, "now", lambda: now)
    with ledger.open(history) as book:
        frozen, report, answer = book.look("train-ai"), book.fsck(), second.Second.answer

        def other(self: second.Second) -> bytes:
            found = answer(self)
            assert found is not None
            head, line, rest = found.partition(b"\n")
            fields = json.loads(head)
            if not line:  # of fsck
                fields["events"] += 1
            if what == "before":
                fields["before"] = fields["before"][:-1]
            elif line:
                fields["erasures"].append(7)
            else:
                fields["erasures"]["acts"].append(7)
            return json.dumps(fields).encode() + line + rest[:8] + bytes(len(rest[8:40])) + rest[40:]

        monkeypatch.setattr(second.Second, "answer", other)
        assert book.look("train-ai").salts == frozen.salts
        assert book.fsck() == report
    assert answered == [True] * 4
