"""A person is erased: nothing of them is left, the log holds, and no yes comes back."""

from __future__ import annotations

import base64
import json
import multiprocessing
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from small_ledger import Clock, no, run, statement, yes

import ledger
from ledger import ConsentLedgerError, IntegrityError, InvalidEvent, Ledger, UsageError, times
from ledger.errors import Suppressed
from ledger.log import trust as trust_lines
from ledger.statements.receipt import open_event_receipt
from ledger.store import append, database, erasing, erasure, journal

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
LATER = datetime(2026, 1, 2, tzinfo=UTC)
ODD = "o'dd \"%\\\n\t\u202eü😀; DROP TABLE openings --"


def decision(book: Ledger, subject: str = "u1", **scope: Any) -> str:
    """By the whole log, and by the index: both must say the same."""
    shown = {
        (d["category"], d["content_id"]): d["reason"]
        for d in book.show(subject, **{k: v for k, v in scope.items() if k == "content_id"})["decisions"]
    }
    return str(shown[scope.get("category"), scope.get("content_id")])


def forms(secret: bytes) -> Iterator[bytes]:
    yield secret
    for shift in range(3):  # base64 at each of its three places, without the ends that depend on what stands beside
        for code in (base64.b64encode, base64.urlsafe_b64encode):
            yield code(b"\0" * shift + secret)[4 if shift else 0 : -4]
    yield secret.hex().encode()
    yield secret.hex().upper().encode()


def files_with(folder: Path, secrets: list[bytes]) -> list[tuple[str, bytes]]:
    contents = [(path.name, path.read_bytes()) for path in folder.rglob("*") if path.is_file()]
    wanted = [form for secret in secrets for form in forms(secret)]
    return [(name, form) for name, data in contents for form in wanted if form in data]


def traces(book: Ledger, subject: str) -> list[bytes]:
    """What must be gone of a person: ids and salts."""
    rows = run(book.folder.database, "SELECT salt, event_id, content_id FROM openings WHERE subject_id = ?", subject)
    assert rows
    found = [bytes(row[0]) for row in rows] + [text.encode() for row in rows for text in row[1:] if text is not None]
    return [*found, subject.encode()]


@pytest.mark.parametrize("subject", ["subject-to-be-erased", ODD, "x" * 512])
def test_no_byte_of_the_person_is_left_in_any_file(book: Ledger, subject: str) -> None:
    others = [yes(f"other-{n}", content_id=f"item-{n}") for n in range(120)]
    book.record_all(others[:60])
    book.record_all(yes(subject, content_id=f"erased-item-{n:03}") for n in range(90))
    book.withdraw(subject)
    book.record_all(others[60:])
    book.snapshot("train-ai")
    secrets = traces(book, subject)
    assert files_with(book.folder.path, secrets), "the search finds them while they are there"
    erased = book.erase(subject)
    assert (erased.events, erased.unscrubbed) == (91, None)
    assert files_with(book.folder.path, secrets) == []
    assert not list((book.folder.path / "snapshots").iterdir())
    assert book.fsck().erased == 91
    assert book.look("train-ai").rows().num_rows == 120
    assert book.show(subject)["events"] == []
    assert len(list(book.events())) == 120
    assert (book.folder.path / "erasures").stat().st_mode & 0o777 == 0o600


def test_the_tree_and_the_receipts_of_others_hold(book: Ledger) -> None:
    kept = book.record(yes("u2")).receipt
    mine = book.record(yes("u1"))
    before = book.checkpoint()
    book.erase("u1", basis="Article 17")
    trust = trust_lines.parse(book.trust_text())
    assert open_event_receipt(kept, trust).event["subject_id"] == "u2"
    book.check(before)
    assert open_event_receipt(book.receipt(book.events_of(["u2"])[0][1].event_id or ""), trust).position
    assert open_event_receipt(mine.receipt, trust), "one that was handed out cannot be taken back"
    with pytest.raises(UsageError, match="no event has the id"):
        book.receipt(mine.event.event_id or "")
    act = book.read(lambda history: history.erasure(mine.position + 1))
    assert (act["positions"], act["basis"]) == ([mine.position], "Article 17")
    with pytest.raises(UsageError, match="was erased"):
        book.read(lambda history: history.at(mine.position))


def test_a_person_who_is_not_known_and_one_who_was_erased_before(book: Ledger) -> None:
    book.record(yes("u1"))
    size = book.status().size
    with pytest.raises(UsageError, match="does not know") as refused:
        book.erase("U1 ")
    assert refused.value.hint == "it knows 'u1'" and book.status().size == size
    assert not (book.folder.path / "erasures").exists()
    first = book.erase("u1")
    again = book.erase("u1")
    assert again.already and (again.position, again.events, again.order) == (first.position, 1, first.order)
    assert book.status().size == size + 1


def test_a_yes_of_before_is_held_back_and_one_of_after_counts(book: Ledger) -> None:
    book.record(yes("u1"))
    erased = book.erase("u1")
    with pytest.raises(Suppressed, match="was erased at"):
        book.record(yes("u1"))
    with pytest.raises(InvalidEvent):
        book.record(yes("u1", occurred_at=times.parse(erased.erased_at)))
    with pytest.raises(InvalidEvent, match="event 1: "):
        book.record_all([yes("u2"), yes("u1")])
    assert decision(book) == "no_record"
    book.record(yes("u1", occurred_at=times.now()))
    assert decision(book) == "allowed" and book.look("train-ai").rows().num_rows == 1
    book.fsck()


def test_an_erased_id_brings_no_yes_back_and_a_no_all_the_same(book: Ledger) -> None:
    book.record(yes("u1", event_id="e1"))
    book.erase("u1")
    with pytest.raises(Suppressed, match="act with the id 'e1'"):
        book.record(yes("u1", event_id="e1", occurred_at=times.now()))
    assert not book.record(no("u1", event_id="e1")).repeated
    assert book.record(no("u1", event_id="e1")).repeated
    assert decision(book) == "refused"
    book.erase("u1")
    assert not book.record(no("u1", event_id="e1")).repeated, "the very same no, again and again"
    assert decision(book) == "refused" and book.fsck().erased == 2


FILE = """state,subject_id,purposes,occurred_at,content_id
given,u1,train-ai,2026-01-01T00:00:00Z,
given,u2,train-ai,2026-01-01T00:00:00Z,
refused,u3,train-ai,,
withdrawn,u1,train-ai,2025-01-01T00:00:00Z,c1
given,u3,train-ai,2026-01-01T00:00:00Z,
"""


def test_the_same_file_again_adds_no_yes_and_loses_no_no(book: Ledger, tmp_path: Path) -> None:
    file = tmp_path / "crm.csv"
    file.write_text(FILE)
    assert book.import_file(file).new == 5
    before = {s: decision(book, s) for s in ("u1", "u2", "u3")}
    book.erase("u1")
    book.erase("u3")
    report = book.import_file(file)
    assert (report.new, report.repeated, report.suppressed, report.rejected) == (2, 1, 2, 0)
    assert before["u3"] == "refused" == decision(book, "u3") and decision(book, "u1") == "no_record"
    assert decision(book, "u1", content_id="c1") == "withdrawn"
    again = book.import_file(file, max_reversals=0)
    assert (again.new, again.repeated, again.suppressed) == (0, 3, 2)
    assert book.import_file(file, dry_run=True).suppressed == 2
    book.fsck()
    source = book.status().sources[0]
    assert source.counts["suppressed"] == 4 and source.ever_completed


def test_a_bad_line_beside_a_suppressed_one_is_still_named(book: Ledger, tmp_path: Path) -> None:
    file = tmp_path / "crm.csv"
    file.write_text(FILE)
    book.import_file(file)
    book.erase("u1")
    file.write_text(FILE + "given,u9,no-such-purpose,2026-01-01T00:00:00Z,\n")
    with pytest.raises(ConsentLedgerError, match="line 7"):
        book.import_file(file)
    report = book.import_file(file, rejects=tmp_path / "rejects.csv")
    assert (report.rejected, report.suppressed) == (1, 1)


def test_a_clock_that_ran_ahead_holds_back_more_and_never_less(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    ahead = clock.move(days=400)
    book.record(no("u1"))
    clock.move(days=-400)
    erased = book.erase("u1")
    assert times.parse(erased.erased_at) > ahead
    with pytest.raises(Suppressed):
        book.record(yes("u1", occurred_at=clock.now))
    book.withdraw("u1")
    assert decision(book) == "withdrawn"
    clock.move(days=401)
    book.record(yes("u1", occurred_at=clock.now))
    assert decision(book) == "allowed"
    book.fsck()


def test_a_snapshot_of_before_leaves_the_erased_out_and_says_so(book: Ledger) -> None:
    book.record(yes("u1"))
    book.record(yes("u2"))
    size = book.status().size
    whole = book.snapshot("train-ai", tree_size=size, output=book.folder.path.parent / "before.parquet")
    position = book.erase("u1").position
    after = book.snapshot("train-ai", tree_size=size, output=book.folder.path.parent / "after.parquet")
    assert (whole.header.erasures, after.header.erasures) == ((), (position,))
    assert after.rows()["subject_id"].to_pylist() == ["u2"]
    assert after.path is not None
    again = ledger.load_snapshot(after.path, trust=book.trust, max_age=timedelta(days=9))
    assert again.header.erasures == (position,) and again.sha256 == after.sha256 != whole.sha256
    assert book.look("train-ai").header.erasures == ()


def test_a_snapshot_that_is_compiled_while_somebody_is_erased_is_not_written(book: Ledger) -> None:
    book.record(yes("u1"))
    looked = book.look("train-ai")
    book.erase("u1")
    with pytest.raises(ledger.SnapshotError, match="erased while"):
        book.publish(looked)
    assert not list((book.folder.path / "snapshots").glob("*"))


def test_only_snapshots_of_before_are_removed(book: Ledger) -> None:
    book.record_all([yes("u1"), yes("u2")])
    old = book.snapshot("train-ai")
    elsewhere = book.snapshot("train-ai", output=book.folder.path.parent / "out.parquet")
    folder = book.folder.path / "snapshots"
    (folder / "no-receipt.parquet").write_bytes(b"x")
    (folder / ".train-ai.parquet.0123456789abcdef.tmp").write_bytes(b"u1")
    envelope = statement(book, old)
    book.admit(envelope)
    (book.folder.path / "backups").write_text('{"path": "/b/1", "at": "2026-01-01T00:00:00.000000Z", "size": 4}\nnone\n')
    erased = book.erase("u1")
    fresh = book.snapshot("train-ai")
    assert fresh.path is not None
    book.erase("u2")
    assert not list(folder.iterdir())
    kinds = [one.kind for one in erased.unreached]
    assert kinds.count("snapshot") == 1 and kinds.count("statement") == 1 and kinds.count("backup") == 2
    assert [o.sha256 for o in erased.unreached if o.kind == "snapshot"] == [elsewhere.file_sha256]


# What was tampered with


@pytest.fixture
def erased(book: Ledger) -> tuple[Ledger, dict[str, list[tuple[Any, ...]]]]:
    """A ledger with an erased person, and the rows that were there before."""
    book.record_all([yes("u1"), no("u2"), yes("u3")])
    book.record(no("u1", content_id="c"))
    rows = {"openings": run(book.folder.database, "SELECT * FROM openings WHERE subject_id = 'u1'")}
    book.erase("u1")
    book.record(yes("u1", occurred_at=times.now()))
    return book, rows


def refuse(book: Ledger, *uses: Callable[[], object]) -> None:
    for use in uses:
        with pytest.raises(IntegrityError) as refused:
            use()
        assert refused.value.exit_code == 4


def test_what_was_erased_and_put_back_is_found(erased: tuple[Ledger, Any]) -> None:
    book, rows = erased
    row = rows["openings"][0]
    run(book.folder.database, f"INSERT INTO openings VALUES ({', '.join('?' * len(row))})", *row)
    refuse(book, book.fsck, book.status, lambda: book.look("train-ai"), lambda: book.show("u1"), lambda: book.erase("u1"))


@pytest.mark.parametrize("subject", ["u2", "u3"])
def test_a_missing_opening_that_no_erasure_names_is_found(erased: tuple[Ledger, Any], subject: str) -> None:
    book, _ = erased
    position = book.events_of([subject])[0][0]
    url = book.folder.database
    run(url, "DELETE FROM openings WHERE position = ?", position)
    passes = (book.fsck, book.status, lambda: book.look("train-ai"), lambda: list(book.events()))
    refuse(book, *passes)
    act = run(url, "SELECT position FROM erasures")[0][0]
    run(url, "INSERT INTO tombstones VALUES (?, ?, ?)", position, b"t" * 32, act)
    refuse(book, *passes)
    run(url, "UPDATE tombstones SET act = 0 WHERE position = ?", position)
    refuse(book, *passes)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM erasures",
        "UPDATE erasures SET tag = x'00'",
        "INSERT INTO erasures VALUES (1, x'00')",
        "DELETE FROM tombstones",
        "UPDATE tombstones SET event_tag = x'00'",
        "UPDATE tombstones SET act = act - 1",
        "INSERT INTO tombstones VALUES (0, x'00', 7)",
        "UPDATE openings SET act = 'link_revoked' WHERE act = 'subject_erased'",
    ],
)
def test_the_tables_about_erasures_are_checked(erased: tuple[Ledger, Any], statement: str) -> None:
    book, _ = erased
    book.fsck()
    run(book.folder.database, statement)
    refuse(book, book.fsck)


def test_a_yes_that_an_emptied_table_let_in_is_found(erased: tuple[Ledger, Any]) -> None:
    book, _ = erased
    rows = run(book.folder.database, "SELECT position, tag FROM erasures")
    run(book.folder.database, "DELETE FROM erasures")
    book.record(yes("u1"))
    run(book.folder.database, "INSERT INTO erasures VALUES (?, ?)", *rows[0])
    refuse(book, book.fsck, book.status, lambda: book.look("train-ai"), lambda: book.show("u1"))


def test_a_person_of_whom_an_opening_is_missing_is_not_erased(book: Ledger) -> None:
    book.record(yes("u1"))
    position = book.record(no("u1")).position
    run(book.folder.database, "DELETE FROM openings WHERE position = ?", position)
    refuse(book, lambda: book.erase("u1"))
    assert not (book.folder.path / "erasures").exists()


def test_a_person_whose_index_does_not_fit_is_not_erased(book: Ledger) -> None:
    book.record(yes("u1"))
    position = book.record(no("u1")).position
    run(book.folder.database, "UPDATE openings SET subject_id = 'u2' WHERE position = ?", position)
    refuse(book, lambda: book.erase("u1"))


# Interrupted


class Killed(BaseException):
    pass


def kill(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, *, after: bool) -> None:
    original = getattr(module, name)

    def dying(*arguments: Any, **named: Any) -> Any:
        if after:
            original(*arguments, **named)
        raise Killed

    monkeypatch.setattr(module, name, dying)


STEPS = [
    (journal, "ordered", False),
    (journal, "ordered", True),
    (erasing, "_delete", True),
    (append, "sign_checkpoint", False),
    (append, "_append", True),
    (journal, "acted", False),
    (journal, "acted", True),
    (erasure, "_remove_snapshots", False),
    (erasure, "_remove_snapshots", True),
    (database, "shrink", False),
    (database, "shrink", True),
    (journal, "finished", False),
    (journal, "finished", True),
]


CASES = [(step, "open") for step in STEPS] + [(STEPS[n], way) for n in (0, 1, 3, 4, 7, 10) for way in ("append", "erase")]


@pytest.mark.parametrize(("step", "way"), CASES, ids=lambda s: s if isinstance(s, str) else f"{s[1]}-{s[2]}")
def test_whoever_comes_next_goes_on(book: Ledger, step: tuple[Any, str, bool], way: str) -> None:
    book.record_all([yes("subject-1"), no("subject-1", content_id="item-1"), yes("subject-2")])
    book.snapshot("train-ai")
    secrets = traces(book, "subject-1")
    with pytest.MonkeyPatch.context() as patch:
        module, name, after = step
        kill(patch, module, name, after=after)
        with pytest.raises(Killed):
            book.erase("subject-1")
    ordered = step != STEPS[0]
    ledger.fsck(book.folder.path)
    with ledger.open(book.folder.path, finish=False) as reading:
        size = reading.status().size
        assert reading.status().size == size, "who reads does not go on with it"
    if way == "append":
        book.record(yes("subject-3"))
        if ordered:
            with pytest.raises(Suppressed):
                book.record(yes("subject-1"))
        ledger.open(book.folder.path).close()
    elif way == "open":
        ledger.open(book.folder.path).close()
    if way == "erase" or not ordered:
        assert book.erase("subject-1").events == 2
    assert files_with(book.folder.path, secrets) == []
    assert journal.unfinished(book.folder.path / "erasures") == []
    assert book.fsck().erased == 2
    acts = book.read(lambda history: history.erasures())
    assert len(acts) == 1, "once"
    assert decision(book, "subject-2") == "allowed"


@pytest.mark.parametrize("cut", [1, 7, 60])
def test_a_torn_last_line_was_never_ordered(book: Ledger, cut: int) -> None:
    book.record_all([yes("u1"), yes("u2")])
    book.erase("u1")
    path = book.folder.path / "erasures"
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines(keepends=True)[0][:-cut])
    ledger.open(book.folder.path).close()
    assert [order.done for order in journal.read(path).values()] == [True]
    book.erase("u2")
    assert len(journal.read(path)) == 2 and path.read_bytes().startswith(whole)
    assert book.fsck().erased == 2


@pytest.mark.parametrize(
    "line",
    [
        b"x",
        b"{}",
        b"null",
        b'{"order":"a"}',
        b'{"at":"x","basis":"b","by":"c","order":"o","tag":"00"}',
        b'{"done":"d","order":"o"}',
    ],
)
def test_a_bad_line_is_refused(book: Ledger, line: bytes) -> None:
    path = book.folder.path / "erasures"
    path.write_bytes(line + b"\n")
    for use in (
        lambda: book.record(yes("u1")),
        lambda: ledger.open(book.folder.path),
        lambda: ledger.reapply(path, book.folder.path),
    ):
        with pytest.raises(IntegrityError, match="order journal"):
            use()


def test_while_somebody_reads_the_act_stands_and_the_rest_waits(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.2)
    book.record(yes("subject-1"))
    secrets = traces(book, "subject-1")
    with closing(sqlite3.connect(book.folder.path / "ledger.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM openings").fetchall()
        erased = book.erase("subject-1")
        assert erased.unscrubbed and "lock" in erased.unscrubbed
        assert not erased.document()["scrubbed"]
        assert decision(book, "subject-1") == "no_record" and book.fsck().erased == 1
        ledger.open(book.folder.path).close()
        book.record(yes("subject-2"))
        assert journal.unfinished(book.folder.path / "erasures")
    ledger.open(book.folder.path).close()
    assert not journal.unfinished(book.folder.path / "erasures")
    assert files_with(book.folder.path, secrets) == []


# Backups


def keep(book: Ledger, name: str, whole: bool) -> Callable[[], None]:
    """Back up; what is returned puts it back: the database alone, or the folder with its anchor."""
    folder = book.folder.path
    copy = folder.parent / name
    shutil.copytree(folder, copy)

    def restore() -> None:
        for suffix in ("-wal", "-shm"):
            (folder / f"ledger.db{suffix}").unlink(missing_ok=True)
        shutil.copy(copy / "ledger.db", folder / "ledger.db")
        if (copy / "ledger.db-wal").exists():
            shutil.copy(copy / "ledger.db-wal", folder / "ledger.db-wal")
        if whole:
            shutil.copy(copy / "head", folder / "head")
            (folder / "erasures").unlink(missing_ok=True)
            if (copy / "erasures").exists():
                shutil.copy(copy / "erasures", folder / "erasures")

    return restore


def test_a_database_that_was_put_back_is_mended_to_the_same_bytes(book: Ledger) -> None:
    book.record_all([yes("subject-1"), yes("subject-2"), yes("subject-3")])
    secrets = traces(book, "subject-1") + traces(book, "subject-2")
    restore = keep(book, "backup", whole=False)
    book.erase("subject-1")
    book.erase("subject-2")
    note, head = book.checkpoint(), (book.folder.path / "head").read_bytes()
    restore()
    with pytest.raises(IntegrityError, match="rolled back"):
        ledger.open(book.folder.path)
    assert files_with(book.folder.path, secrets)
    found = ledger.reapply(book.folder.path / "erasures", book.folder.path)
    assert [one.events for one in found] == [1, 1]
    assert book.checkpoint() == note and (book.folder.path / "head").read_bytes() == head
    assert files_with(book.folder.path, secrets) == []
    assert book.fsck().erased == 2
    assert ledger.reapply(book.folder.path / "erasures", book.folder.path) == []
    with pytest.raises(Suppressed):
        book.record(yes("subject-1"))


def test_where_more_than_erasures_is_lost_it_is_refused(book: Ledger) -> None:
    book.record_all([yes("u1"), yes("u2")])
    restore = keep(book, "backup", whole=False)
    book.erase("u1")
    lost = book.record(no("u2")).position
    book.erase("u2")
    restore()
    before = run(book.folder.database, "SELECT position FROM openings ORDER BY position")
    with pytest.raises(IntegrityError, match=f"entries {lost} to {lost + 1} are missing") as refused:
        ledger.reapply(book.folder.path / "erasures", book.folder.path)
    assert refused.value.exit_code == 4 and "newer backup" in str(refused.value.hint)
    assert run(book.folder.database, "SELECT position FROM openings ORDER BY position") == before


def test_a_folder_that_was_put_back_goes_on_as_the_same_log(book: Ledger) -> None:
    book.record(yes("u1"))
    restore = keep(book, "backup", whole=True)
    book.erase("u1")
    note = book.checkpoint()
    shutil.copy(book.folder.path / "erasures", journal_copy := book.folder.path.parent / "kept-erasures")
    restore()
    assert decision(ledger.open(book.folder.path)) == "allowed", "nothing shows that it is old"
    assert len(ledger.reapply(journal_copy, book.folder.path)) == 1
    assert book.checkpoint() == note and book.fsck().erased == 1


def test_what_was_said_since_is_no_part_of_an_order(book: Ledger) -> None:
    """A no that was acknowledged after the backup was put back outlives the erasure; a yes has to be given again."""
    book.record(yes("u1"))
    restore = keep(book, "backup", whole=True)
    book.erase("u1")
    shutil.copy(book.folder.path / "erasures", journal_copy := book.folder.path.parent / "kept-erasures")
    restore()
    book.record(no("u1", content_id="c", event_id="a-no"))
    book.record(yes("u1", occurred_at=times.now()))
    book.record(yes("u2"))
    assert decision(book, content_id="c") == "refused"
    assert len(ledger.reapply(journal_copy, book.folder.path)) == 1
    assert ledger.reapply(journal_copy, book.folder.path) == []
    assert [e.event_id for _, e in book.events_of(["u1"])] == ["a-no"]
    book.record(yes("u1", occurred_at=times.now()))
    assert decision(book, content_id="c") == "refused" and decision(book) == "allowed"
    assert book.fsck().erased == 3


def test_a_new_yes_is_not_what_an_old_order_was_about(book: Ledger) -> None:
    book.record(yes("u1"))
    book.erase("u1")
    book.record(yes("u1", occurred_at=times.now()))
    assert ledger.reapply(book.folder.path / "erasures", book.folder.path) == []
    assert decision(book) == "allowed"


def test_a_journal_with_forged_acts_is_refused(book: Ledger) -> None:
    book.record_all([no("u1"), yes("u1", occurred_at=LATER)])
    restore = keep(book, "backup", whole=False)
    book.erase("u1")
    restore()
    path = book.folder.path / "erasures"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    act = json.loads(lines[1]["canonical"][0])
    act["positions"] = act["positions"][:1]
    lines[1]["canonical"][0] = json.dumps(act, sort_keys=True, separators=(",", ":"))
    path.write_text("".join(json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n" for line in lines))
    with pytest.raises(IntegrityError, match="are missing"):
        ledger.reapply(path, book.folder.path)


# Older ledgers


def downgrade(book: Ledger) -> None:
    for change in (
        "DROP TABLE erasures",
        "DROP TABLE tombstones",
        "DROP TABLE leaves",
        "UPDATE alembic_version SET version_num = '0001'",
    ):
        run(book.folder.database, change)


def test_a_ledger_of_the_first_schema_is_read_and_brought_up_by_the_first_append(book: Ledger, tmp_path: Path) -> None:
    book.record(yes("u1"))
    downgrade(book)
    assert decision(book) == "allowed"
    assert book.fsck().events == 1 and book.status().events == 1 and len(list(book.events())) == 1
    assert book.look("train-ai").rows().num_rows == 1
    version = "SELECT version_num FROM alembic_version"
    assert run(book.folder.database, version) == [("0001",)]
    book.record(yes("u2"))
    assert run(book.folder.database, version) == [(database.REVISION,)]
    book.erase("u1")
    assert book.fsck().erased == 1
    tables = "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite%' ORDER BY name"
    with ledger.create(tmp_path / "new") as new:
        assert run(book.folder.database, tables) == run(new.folder.database, tables)


def test_a_ledger_of_the_first_schema_can_be_copied_and_erased_from(book: Ledger, tmp_path: Path) -> None:
    book.record_all([yes("u1"), yes("u2")])
    downgrade(book)
    ledger.copy(book.folder.path, tmp_path / "copy")
    with ledger.open(tmp_path / "copy") as copy:
        assert copy.erase("u1").events == 1
        assert copy.fsck().erased == 1


def test_a_copy_carries_what_is_erased(book: Ledger, tmp_path: Path) -> None:
    book.record_all([yes("u1"), yes("u2")])
    book.erase("u1")
    whole = ledger.copy(book.folder.path, tmp_path / "copy")
    assert whole.erased == 1
    with ledger.open(tmp_path / "copy") as copy:
        assert copy.fsck() == whole
        with pytest.raises(Suppressed):
            copy.record(yes("u1"))
        assert copy.erase("u1").already


def test_ten_thousand_events(book: Ledger) -> None:
    book.record_all(yes("u1", content_id=f"c{n}", event_id=f"e{n}") for n in range(10_000))
    assert book.erase("u1").events == 10_000
    assert book.fsck().erased == 10_000
    assert list(book.events()) == []


def test_more_events_than_one_act_names(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasing, "_AN_ACT", 3)
    book.record_all(yes("u1", content_id=f"c{n}") for n in range(8))
    restore = keep(book, "backup", whole=False)
    assert book.erase("u1").events == 8
    note = book.checkpoint()
    assert book.fsck().erased == 8 and len(book.read(lambda history: history.erasures())) == 3
    restore()
    assert len(ledger.reapply(book.folder.path / "erasures", book.folder.path)) == 1
    assert book.checkpoint() == note and book.fsck().erased == 8


@pytest.mark.parametrize("steps", [("reapply", "import"), ("import", "reapply"), ("import", "reapply", "import", "reapply")])
def test_who_came_and_was_erased_since_the_backup_does_not_come_back(book: Ledger, tmp_path: Path, steps: Sequence[str]) -> None:
    """What was lost with the database is imported again, before or after the erasure is carried out anew: it stays a no."""
    file = tmp_path / "acts.csv"
    restore = keep(book, "backup", whole=True)
    file.write_text(f"state,subject_id,purposes,occurred_at\ngiven,u1,train-ai,{times.text(times.now())}\n")
    book.import_file(file)
    book.erase("u1")
    shutil.copy(book.folder.path / "erasures", kept := tmp_path / "kept")
    restore()
    for step in steps:
        if step == "import":
            book.import_file(file)
        else:
            ledger.reapply(kept, book.folder.path)
    assert decision(book) == "no_record" and book.fsck().events == 0
    assert ledger.reapply(kept, book.folder.path) == []
    assert decide_by_snapshot(book) == "no_record"
    book.record(no("u1", content_id="c"))
    book.record(yes("u1", occurred_at=times.now()))
    assert decision(book, content_id="c") == "refused" and decision(book) == "allowed"
    assert ledger.reapply(kept, book.folder.path) == []


def decide_by_snapshot(book: Ledger) -> str:
    consent = ledger.ConsentFilter(book.snapshot("train-ai"), ledger.Columns(subject="s"), times.now())
    reasons: list[str] = consent.decide(pa.table({"s": ["u1"]})).reason.to_pylist()
    return reasons[0]


def test_an_erasure_that_held_back_alone_is_put_back_too(book: Ledger, tmp_path: Path) -> None:
    restore = keep(book, "backup", whole=True)
    book.record(yes("u1"))
    book.erase("u1")
    shutil.copy(book.folder.path / "erasures", kept := tmp_path / "kept")
    restore()
    again = keep(book, "another", whole=False)
    assert [one.events for one in ledger.reapply(kept, book.folder.path)] == [0]
    note = book.checkpoint()
    again()
    assert [one.events for one in ledger.reapply(book.folder.path / "erasures", book.folder.path)] == [0]
    assert book.checkpoint() == note and book.fsck().erased == 0
    with pytest.raises(Suppressed):
        book.record(yes("u1"))
    assert book.erase("u1").already


def test_of_two_orders_about_one_person_the_second_may_find_nothing(book: Ledger, tmp_path: Path) -> None:
    book.record(yes("u1"))
    restore = keep(book, "backup", whole=True)
    book.erase("u1")
    book.record(yes("u1", occurred_at=times.now()))
    book.erase("u1")
    shutil.copy(book.folder.path / "erasures", kept := tmp_path / "kept")
    restore()
    book.record(no("u2"))  # so that the log goes on otherwise
    assert [one.events for one in ledger.reapply(kept, book.folder.path)] == [1]
    assert ledger.reapply(kept, book.folder.path) == []
    assert decision(book) == "no_record"


def test_the_journal_of_another_ledger_is_refused(book: Ledger, tmp_path: Path) -> None:
    with ledger.create(tmp_path / "other") as other:
        other.declare_purpose("train-ai", title="T", description="D")
        other.record(yes("u1"))
        other.erase("u1")
    book.record(yes("u1"))
    note = book.checkpoint()
    with pytest.raises(UsageError, match="the order journal of"):
        ledger.reapply(tmp_path / "other" / "erasures", book.folder.path)
    assert book.checkpoint() == note and decision(book) == "allowed"


def _say_no_at_once(folder: Path, ready: Any, told: Any) -> None:
    with ledger.open(folder) as book:
        ready.set()
        for number in range(8):
            try:
                event = book.record(no("u1", content_id=f"c{number}")).event
            except ConsentLedgerError as error:  # erased before it could be read back
                assert "it was recorded" in str(error) and error.exit_code == 1
                told.put((f"c{number}", times.EPOCH))
            else:
                told.put((event.content_id, event.recorded_at))
    told.put(None)


def test_two_processes_erase_and_record_at_once(book: Ledger) -> None:
    """Each no that was acknowledged after the erasure's act is there; a yes of before is not, whichever came first."""
    spawn = multiprocessing.get_context("spawn")
    for _ in range(2):
        book.record(yes("u1", occurred_at=times.now()))
        ready, told = spawn.Event(), spawn.Queue()
        process = spawn.Process(target=_say_no_at_once, args=(book.folder.path, ready, told))
        process.start()
        assert ready.wait(60)
        erased = book.erase("u1")
        said = dict(iter(partial(told.get, timeout=60), None))
        process.join(60)
        assert process.exitcode == 0 and len(said) == 8
        kept = {event.content_id for _, event in book.events_of(["u1"])}
        at = times.parse(erased.erased_at)
        assert {content for content, recorded_at in said.items() if recorded_at > at} <= kept <= said.keys()
        assert decision(book, content_id="other") == "no_record"
        book.fsck()
