"""What is published is the log that was signed, whole, whenever it was broken off; and nothing of anybody."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ledger
from ledger import publishing
from ledger.errors import ConsentLedgerError, IntegrityError, UsageError
from ledger.log.merkle import leaf_hash
from ledger.log.tiles import entries_path, tile_path
from tests.conftest import Outcome, yes
from tests.witness import Witness

Files = dict[str, bytes]


def contents(folder: Path) -> Files:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def grow(book: ledger.Ledger, size: int) -> None:
    """To so many entries, in one transaction."""
    there = int(book.checkpoint().split("\n")[1])
    book.record_all(yes(f"person-{number}") for number in range(there, size))


def entries(book: ledger.Ledger) -> list[bytes]:
    with sqlite3.connect(book.folder.path / "ledger.db") as database:
        found = [row[0] for row in database.execute("select entry from entries order by position")]
    database.close()
    return found


def expected(book: ledger.Ledger) -> Files:
    """By the other log's code, of the same entries."""
    from tests.other_log import OtherLog

    other = OtherLog()
    other.entries = entries(book)
    return {**other.files(), "checkpoint": book.checkpoint().encode()}


def watched(book: ledger.Ledger, folder: Path) -> int:
    """The size that the monitor verifies there."""
    trust = book.folder.path / "trust"
    return ledger.monitor_log(folder, trust=trust, state=book.folder.path.parent / "seen").checkpoint.size


def test_the_files_are_those_of_the_standard_as_the_log_grows(book: ledger.Ledger, tmp_path: Path) -> None:
    folder = tmp_path / "www" / "log"
    for size in (5, 200, 256, 257, 300, 511, 512, 900):
        grow(book, size)
        before = contents(folder)
        published = ledger.publish_log(book, folder)
        now = contents(folder)
        assert expected(book).items() <= now.items()
        assert before.keys() <= now.keys(), "partial ones stay for those who have an older checkpoint"
        assert {name: now[name] for name in before if name != "checkpoint"} == {
            name: data for name, data in before.items() if name != "checkpoint"
        }
        changed = [name for name in now if before.get(name) != now[name]]
        assert (published.size, published.written, published.beyond) == (size, len(changed), 0)
        assert watched(book, folder) == size
        assert ledger.publish_log(book, folder).written == 0


@pytest.mark.soak
def test_three_levels(book: ledger.Ledger, tmp_path: Path) -> None:
    grow(book, 65_536 + 300)
    ledger.publish_log(book, tmp_path / "log")
    assert contents(tmp_path / "log") == expected(book)
    grow(book, 65_536 + 600)
    assert ledger.publish_log(book, tmp_path / "log").written == 6
    assert watched(book, tmp_path / "log") == 65_536 + 600


def test_nothing_of_anybody_is_published(book: ledger.Ledger, tmp_path: Path) -> None:
    book.record(yes("ann-of-arc@example.org", event_id="event-ann-1", content_id="post-of-ann", reason="because-ann"))
    grow(book, 300)
    ledger.publish_log(book, tmp_path / "log")
    data = b"".join([name.encode() + content for name, content in sorted(contents(tmp_path / "log").items())])
    assert all(leaf_hash(entry) in data and entry in data for entry in entries(book))
    with sqlite3.connect(book.folder.path / "ledger.db") as database:
        openings = database.execute("select salt, canonical, event_id, subject_id, content_id from openings").fetchall()
        tags = database.execute("select tag, body from entries where tag is not null").fetchall()
    database.close()
    secrets = [part.encode() if isinstance(part, str) else part for row in (*openings, *tags) for part in row if part]
    assert len(secrets) > 1000
    assert [secret for secret in secrets if secret in data] == []
    for word in (b"ann", b"post", b"given", b"train-ai", b"person"):
        assert word not in data.replace(book.origin.encode(), b""), word


# Broken off


class Killed(BaseException):
    pass


def failing_at(monkeypatch: pytest.MonkeyPatch, number: int, error: BaseException) -> None:
    """The number-th write-side call of the publisher fails."""
    calls = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == number:
                raise error
            return real(*arguments, **options)

        return call

    for name in ("fsync",):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    for name in ("replace", "mkdir"):
        monkeypatch.setattr(Path, name, counted(getattr(Path, name)))


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), Killed()])
def test_broken_off_at_any_call_and_run_again(book: ledger.Ledger, tmp_path: Path, error: BaseException) -> None:
    grow(book, 200)
    ledger.publish_log(book, tmp_path / "old")
    grow(book, 600)
    ledger.publish_log(book, tmp_path / "whole")
    broken = 0
    for number in range(1, 200):
        folder = tmp_path / "log"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "old", folder)
        with pytest.MonkeyPatch.context() as patched:
            failing_at(patched, number, error)
            try:
                ledger.publish_log(book, folder)
            except (ConsentLedgerError, Killed):
                broken += 1
            else:
                break
        assert watched_fresh(book, folder, tmp_path / f"seen-{number}") in (200, 600), "what is there is whole at any moment"
        ledger.publish_log(book, folder)
        assert contents(folder) == {**contents(tmp_path / "old"), **contents(tmp_path / "whole")}
    assert broken > 20


def watched_fresh(book: ledger.Ledger, folder: Path, state: Path) -> int:
    return ledger.monitor_log(folder, trust=book.folder.path / "trust", state=state).checkpoint.size


@pytest.mark.parametrize("number", [1, 4, 9, 14])
def test_killed_and_run_again(book: ledger.Ledger, tmp_path: Path, number: int) -> None:
    grow(book, 600)
    program = (
        "import os, sys, ledger\n"
        "real, calls = os.fsync, 0\n"
        "def fsync(descriptor):\n"
        "    global calls\n"
        "    calls += 1\n"
        f"    if calls == {number}: os.kill(os.getpid(), 9)\n"
        "    real(descriptor)\n"
        "os.fsync = fsync\n"
        "ledger.publish_log(ledger.open(sys.argv[1]), sys.argv[2])\n"
    )
    folder = tmp_path / "log"
    killed = subprocess.run([sys.executable, "-c", program, book.folder.path, folder], timeout=60, check=False)
    assert killed.returncode == -9 and not (folder / "checkpoint").exists()
    ledger.publish_log(book, folder)
    assert contents(folder) == expected(book), "and nothing hidden is left"


def test_what_is_missing_is_written_again(book: ledger.Ledger, tmp_path: Path) -> None:
    grow(book, 1100)
    folder = tmp_path / "log"
    ledger.publish_log(book, folder)
    whole = contents(folder)
    for name in (entries_path(0), tile_path(0, 1), entries_path(2), tile_path(0, 3), tile_path(1, 0, 4), entries_path(4, 76)):
        (folder / name).unlink()
    assert ledger.publish_log(book, folder).written == 6
    assert contents(folder) == whole


# What is there


def test_a_checkpoint_that_the_ledger_does_not_extend(book: ledger.Ledger, tmp_path: Path) -> None:
    shutil.copytree(book.folder.path, tmp_path / "fork")
    grow(book, 30)
    ledger.publish_log(book, tmp_path / "log")
    before = contents(tmp_path / "log")
    with ledger.open(tmp_path / "fork") as fork:
        with pytest.raises(IntegrityError, match="that has 30 entries, the ledger"):
            ledger.publish_log(fork, tmp_path / "log")
        for size in (30, 400):
            grow(fork, size)
            with pytest.raises(IntegrityError, match="the ledger does not continue the log that is published"):
                ledger.publish_log(fork, tmp_path / "log")
    assert contents(tmp_path / "log") == before


@pytest.mark.parametrize("checkpoint", [b"", b"a page\n", b"\xff", "another"])
def test_something_else_is_left_alone(book: ledger.Ledger, tmp_path: Path, checkpoint: bytes | str) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    if checkpoint == "another":
        with ledger.create(tmp_path / "another") as another:
            ledger.publish_log(another, folder)
    else:
        (folder / "checkpoint").write_bytes(bytes(checkpoint, "ascii") if isinstance(checkpoint, str) else checkpoint)
    before = contents(folder)
    with pytest.raises(IntegrityError, match="checkpoint"):
        ledger.publish_log(book, folder)
    assert contents(folder) == before


def test_a_folder_of_other_things_is_refused(book: ledger.Ledger, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/index.html").write_text("hello")
    with pytest.raises(UsageError, match=r"holds 'index.html' and no log"):
        ledger.publish_log(book, tmp_path / "site")
    with pytest.raises(UsageError, match="and no log"):
        ledger.publish_log(book, book.folder.path)
    ledger.publish_log(book, tmp_path / "log")
    (tmp_path / "log/index.html").write_text("hello")
    grow(book, 20)
    ledger.publish_log(book, tmp_path / "log")


@pytest.mark.parametrize("name", [entries_path(0), tile_path(0, 0), tile_path(1, 0, 2), entries_path(2, 88)])
def test_no_file_is_written_over(book: ledger.Ledger, tmp_path: Path, name: str) -> None:
    grow(book, 600)
    folder = tmp_path / "log"
    ledger.publish_log(book, folder)
    path = folder / name
    honest = path.read_bytes()
    path.write_bytes(honest[:-1])
    with pytest.raises(IntegrityError, match="is not what this log has there"):
        ledger.publish_log(book, folder)
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_bytes(honest)
    with pytest.raises(IntegrityError, match="is not what this log has there"):
        ledger.publish_log(book, folder)
    path.unlink()
    (folder / "checkpoint").unlink()  # as if broken off: what was written before counts only by its content
    path.write_bytes(bytes(len(honest)))
    with pytest.raises(IntegrityError, match="is not what this log has there"):
        ledger.publish_log(book, folder)
    path.unlink()
    ledger.publish_log(book, folder)
    assert path.read_bytes() == honest


def test_nothing_is_written_through_a_link(book: ledger.Ledger, tmp_path: Path) -> None:
    grow(book, 300)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "log").mkdir()
    (tmp_path / "log/tile").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match="is a symbolic link"):
        ledger.publish_log(book, tmp_path / "log")
    assert contents(tmp_path / "elsewhere") == {}


def test_what_the_database_has_is_hashed_before_it_is_published(book: ledger.Ledger, tmp_path: Path) -> None:
    grow(book, 600)
    for change, match in (
        ("update entries set entry = zeroblob(32) where position = 3", "entries 0 to 255 are not what was signed"),
        ("update entries set entry = zeroblob(32) where position = 599", "have not the root that was signed"),
        ("update entries set entry = 'text' where position = 300", "lacks position 300"),
        ("update entries set position = 9000 where position = 300", "lacks position 300"),
        ("update entries set position = 9000 where position = 599", "ends at 599"),
        ("update tiles set hashes = zeroblob(64) where level = 1", "do not have the root|not the root"),
    ):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(book.folder.path, copy)
        with sqlite3.connect(copy / "ledger.db") as database:
            database.execute(change)
        database.close()
        folder = tmp_path / "log"
        shutil.rmtree(folder, ignore_errors=True)
        changed = ledger.Ledger(book.folder.__class__.open(copy))
        with pytest.raises(IntegrityError, match=match):
            ledger.publish_log(changed, folder)
        changed.close()
        assert not (folder / "checkpoint").exists()
        assert contents(folder).items() <= expected(book).items(), "nothing false was published"


def test_two_at_once_do_not_take_it_back(book: ledger.Ledger, tmp_path: Path) -> None:
    grow(book, 300)
    folder = tmp_path / "log"
    program = "import sys, ledger; ledger.publish_log(ledger.open(sys.argv[1]), sys.argv[2])"
    running = [subprocess.Popen([sys.executable, "-c", program, book.folder.path, folder]) for _ in range(2)]
    grow(book, 700)
    ledger.publish_log(book, folder)
    assert [process.wait(60) for process in running] == [0, 0]
    assert watched(book, folder) == 700
    assert expected(book).items() <= contents(folder).items()


# With cosignatures


@pytest.fixture
def witness(book: ledger.Ledger, tmp_path: Path) -> Iterator[Witness]:
    made = Witness("wendy.example/w", tmp_path / "wendy", {book.origin: book.trust.log[0].public.raw})
    with (book.folder.path / "trust").open("a") as file:
        file.write(f"witness wendy {made.vkey}\nquorum wendy\n")
    yield made
    made.stop()


def test_the_cosigned_checkpoint_is_what_is_published(book: ledger.Ledger, tmp_path: Path, witness: Witness) -> None:
    folder = tmp_path / "log"
    grow(book, 300)
    assert not ledger.publish_log(book, folder).cosigned
    with pytest.raises(IntegrityError, match="not cosigned"):
        watched(book, folder)
    ledger.cosign_log(book, [witness.url])
    published = ledger.publish_log(book, folder)
    assert published.cosigned and (published.size, published.beyond, published.written) == (300, 0, 1)
    assert watched(book, folder) == 300
    grow(book, 600)
    published = ledger.publish_log(book, folder)
    assert published.cosigned and (published.size, published.beyond, published.written) == (300, 300, 0)
    ledger.cosign_log(book, [witness.url])
    assert ledger.publish_log(book, folder).size == 600
    seen = ledger.monitor_log(folder, trust=book.folder.path / "trust", state=tmp_path / "seen")
    assert seen.witnesses == ("wendy",) and seen.document()["witnesses"] == ["wendy"]


def test_cosignatures_are_not_lost_and_the_log_does_not_go_back_for_them(
    book: ledger.Ledger, tmp_path: Path, witness: Witness
) -> None:
    folder, cosigned = tmp_path / "log", book.folder.path / "cosigned"
    grow(book, 300)
    ledger.cosign_log(book, [witness.url])
    ledger.publish_log(book, folder)
    kept = cosigned.read_bytes()
    cosigned.unlink()
    ledger.publish_log(book, folder)
    assert (folder / "checkpoint").read_bytes() == kept, "the same checkpoint with fewer signatures does not replace it"
    grow(book, 310)
    ledger.publish_log(book, folder)
    cosigned.write_bytes(kept)
    published = ledger.publish_log(book, folder)
    assert (published.size, published.cosigned) == (310, False), "what is published never gets older"


def test_a_cosigned_checkpoint_of_another_history(book: ledger.Ledger, tmp_path: Path) -> None:
    shutil.copytree(book.folder.path, tmp_path / "fork")
    with ledger.open(tmp_path / "fork") as fork:
        grow(fork, 20)
        (book.folder.path / "cosigned").write_text(fork.checkpoint())
    grow(book, 30)
    with pytest.raises(IntegrityError, match="does not continue its cosigned checkpoint"):
        ledger.publish_log(book, tmp_path / "log")


def test_the_command(consent: Callable[..., Outcome], tmp_path: Path) -> None:
    assert consent("init").code == 0
    told = consent("log", "publish", "www")
    assert told.code == 0 and "www: checkpoint of 2 entries, 3 files written" in told.err and told.out == ""
    (tmp_path / "www/checkpoint").write_text("something else")
    assert consent("log", "publish", "www").code == 4
    assert consent("log", "publish").code == 2
    assert consent("log", "publish", "consent-ledger").code == 2


def test_the_progress(book: ledger.Ledger, tmp_path: Path) -> None:
    grow(book, 600)
    told: list[tuple[int, int]] = []
    publishing.publish_log(book, tmp_path / "log", on_progress=lambda *some: told.append(some))
    assert told == [(0, 2), (1, 2)]
