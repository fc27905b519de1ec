"""Whether the lines of a file are in the log: of an import they are, whatever was filled in, and nothing else is."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ledger import Ledger
from ledger.log import canonical
from ledger.log.entry import event_body, event_entry

CSV = """state,subject_id,purposes,occurred_at,event_id
given,u1,train-ai,2026-01-01T00:00:00Z,
withdrawn,u2,*,,
given,u3,train-ai@1,2026-01-02T00:00:00+01:00,mine
refused,u4,train-ai,2026-01-03T00:00:00Z,
"""


@pytest.fixture
def lines(book: Ledger, tmp_path: Path, consent: Callable[..., Any]) -> Path:
    path = tmp_path / "acts.csv"
    path.write_text(CSV)
    assert consent("import", path, "--source", "crm").code == 0
    return path


def verified(consent: Callable[..., Any], path: Path, *options: str) -> Any:
    return consent("verify", "--import", path, "--ledger", "consent-ledger", *options)


def test_all_lines_are_in_the_log(lines: Path, consent: Callable[..., Any]) -> None:
    found = verified(consent, lines)
    assert found.code == 0 and "all 4 lines are in the log, imported at entry 7 (SHA-256" in found.out
    assert '"verified": true' in verified(consent, lines, "--format", "json").out


def test_a_later_version_of_the_purpose_changes_nothing(book: Ledger, lines: Path, consent: Callable[..., Any]) -> None:
    book.declare_purpose("train-ai", title="Train", description="Another")
    assert verified(consent, lines).code == 0


def test_the_same_undated_no_that_became_an_act_of_its_own(book: Ledger, lines: Path, consent: Callable[..., Any]) -> None:
    from tests.conftest import yes

    book.record(yes("u2"))
    assert consent("import", lines, "--source", "crm").code == 0
    found = verified(consent, lines)
    assert found.code == 0 and "imported at entry 7, 10 " in found.out


def test_other_lines_are_named(lines: Path, consent: Callable[..., Any]) -> None:
    lines.write_text(CSV + "withdrawn,u9,*,2026-01-04T00:00:00Z,\nperhaps,u9,*,,\n")
    found = verified(consent, lines)
    assert found.code == 4 and found.out == ""
    # The undated no is one of its file: in another file it is another act.
    for words in (
        "3 of 6 lines are not in the log",
        "not in it either",
        "line 3: no such act of 'u2'",
        "line 6: no such act of 'u9'",
        "line 7:",
    ):
        assert words in found.err


def test_an_id_that_says_something_else(lines: Path, consent: Callable[..., Any]) -> None:
    lines.write_text(CSV.replace("given,u3,train-ai@1", "refused,u3,train-ai@1"))
    found = verified(consent, lines)
    assert found.code == 4 and "line 4: its event_id is recorded with another state" in found.err


def test_twenty_are_named(lines: Path, consent: Callable[..., Any]) -> None:
    lines.write_text(CSV.splitlines()[0] + "\n" + "".join(f"withdrawn,x{n},*,2026-01-04T00:00:00Z,\n" for n in range(30)))
    found = verified(consent, lines)
    assert "30 of 30 lines" in found.err and found.err.count("no such act of") == 20


def test_a_file_that_is_cut_short(lines: Path, consent: Callable[..., Any]) -> None:
    lines.write_text(CSV[:-10])
    found = verified(consent, lines)
    assert found.code == 2 and "cut short" in found.err


def test_a_table_of_another_s_columns(book: Ledger, tmp_path: Path, consent: Callable[..., Any]) -> None:
    (tmp_path / "consent.toml").write_text(
        '[import.shop]\nsubject_id = "customer"\nstate = { column = "ok", values = { y = "given", n = "refused" } }\n'
        'purposes = "=train-ai"\noccurred_at = "at"\n'
    )
    path = tmp_path / "shop.csv"
    path.write_text("customer,ok,at\nc1,y,2026-01-01T00:00:00Z\nc2,n,2026-01-01T00:00:00Z\n")
    done = consent("import", path, "--source", "shop")
    assert done.code == 0, done.err
    assert verified(consent, path, "--source", "shop").code == 0
    assert verified(consent, path).code == 2


def test_people_who_were_erased_are_counted_apart(book: Ledger, lines: Path, consent: Callable[..., Any]) -> None:
    book.erase("u3")
    found = verified(consent, lines)
    assert found.code == 0 and "all 4 lines are in the log, 1 of them of people who were erased since" in found.out


def test_a_line_of_an_erased_person_that_was_never_recorded(book: Ledger, lines: Path, consent: Callable[..., Any]) -> None:
    book.erase("u3")
    lines.write_text(CSV + "given,u3,train-ai,2026-01-04T00:00:00Z,\nwithdrawn,u3,train-ai,2026-01-04T00:00:00Z,other\n")
    found = verified(consent, lines)
    assert found.code == 4 and "3 of 6 lines are not in the log" in found.err  # with the undated one
    assert "line 6: no such act of 'u3'" in found.err and "line 7: no such act of 'u3'" in found.err


@pytest.mark.parametrize("beyond", [True, False])
def test_what_the_database_holds_and_nobody_has_signed(beyond: bool, lines: Path, consent: Callable[..., Any]) -> None:
    """An opening and an entry that fit each other, put beyond the log's end or in another's place."""
    event = {
        "event_id": "forged",
        "occurred_at": "2026-01-04T00:00:00.000000Z",
        "purposes": ["train-ai@1"],
        "recorded_at": "2026-01-05T00:00:00.000000Z",
        "recorded_by": "import:crm",
        "state": "given",
        "subject_id": "u9",
    }
    stored, salt, tag = canonical.encode(event), b"s" * 32, b"t" * 32
    body = event_body(salt, stored)
    with closing(sqlite3.connect("consent-ledger/ledger.db")) as database, database:
        position = database.execute("SELECT max(position) + 1 FROM entries").fetchone()[0] if beyond else 3
        for table in ("entries", "openings"):
            database.execute(f"DELETE FROM {table} WHERE position = ?", (position,))
        database.execute(
            "INSERT INTO entries (position, entry, tag, body) VALUES (?, ?, ?, ?)", (position, event_entry(tag, body), tag, body)
        )
        columns = {"position": position, "salt": salt, "canonical": stored, "event_id": "forged", "subject_id": "u9"}
        columns |= {"state": "given", "lookalike": "u9"}
        database.execute(
            f"INSERT INTO openings ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", tuple(columns.values())
        )
    lines.write_text(CSV.splitlines()[0] + "\ngiven,u9,train-ai,2026-01-04T00:00:00Z,forged\n")
    found = verified(consent, lines)
    assert found.code == 4, found.out
    assert ("no such act of 'u9'" if beyond else "root that the head has signed") in found.err
