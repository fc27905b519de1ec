"""`consent backup`: a live ledger whole, in a folder that can be put in its place."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

import ledger
from ledger import ConsentLedgerError, IntegrityError, Ledger, UsageError, api_keys
from ledger.log.keys import PrivateKey
from ledger.store import backup as backups
from ledger.store import copying
from ledger.store.folder import load_key
from tests.conftest import Outcome
from tests.store.small_ledger import Sql, yes

ONE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def contents(folder: Path) -> dict[str, bytes]:
    """Of every file but the database, the list of backups, and the head before the last one, which is kept to be written over."""
    others = ("ledger.", "backups", ".head.spare")
    kept = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(others)]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in kept}


@pytest.fixture
def full(book: Ledger) -> Ledger:
    """More than one tile, a notice, a link, an API key, a run key made in the folder, a snapshot, and a replaced log key."""
    book.add_notice(b"Wir bitten.", notice_id="ask", language="de")
    book.record_all(yes(f"u{i}", event_id=f"e{i}") for i in range(600))
    book.withdraw("u1")
    book.links.make("u1", purpose="train-ai", base="https://no.example")
    api_keys.add(book.folder.path, "crm", ["record"])
    key = PrivateKey.generate()
    (book.folder.path / "spark.key").write_bytes(key.to_pem())
    (book.folder.path / "spark.key").chmod(0o600)
    book.keys.add("spark", key.public)
    book.snapshot("train-ai")
    book.keys.rotate()
    return book


def test_it_takes_the_place_of_the_ledger(full: Ledger, tmp_path: Path) -> None:
    head, receipt, before = full.checkpoint(), full.receipt("e7"), contents(full.folder.path)
    del before["snapshots/.train-ai.carried"]  # salts that an erasure would not reach there; the next snapshot does without
    report = ledger.backup(tmp_path / "kept" / "one", full.folder.path)
    copy = tmp_path / "kept" / "one"
    assert report == ledger.fsck(full.folder.path)
    assert contents(copy) == before
    assert {"log.key", "run.key", "tag.key", "link.key", "api.keys", "spark.key", "trust", "head"} <= before.keys()
    assert sum(name.startswith("snapshots/") for name in before) == 2
    assert [path.name for path in copy.parent.iterdir()] == ["one"]
    assert copy.stat().st_mode & 0o777 == 0o700
    for path in copy.rglob("*"):
        if path.name.endswith((".key", ".keys", ".db")):
            assert path.stat().st_mode & 0o777 == 0o600, path
    (line,) = (full.folder.path / "backups").read_text().splitlines()
    assert json.loads(line) == {"path": str(copy), "at": json.loads(line)["at"], "size": report.size}
    assert (copy / "backups").read_text() == line + "\n"
    if full.folder.database.startswith("sqlite"):
        shutil.rmtree(full.folder.path)
    else:
        full.folder.path.rename(tmp_path / "away")
    copy.rename(tmp_path / "ledger")
    with ledger.open(tmp_path / "ledger") as restored:
        assert restored.checkpoint() == head
        assert restored.receipt("e7") == receipt
        assert restored.withdraw("u2").position == report.size
        restored.keys.rotate()
        restored.snapshot("train-ai")
    assert ledger.fsck(tmp_path / "ledger").size == report.size + 4


def test_others_append_meanwhile_and_it_is_of_one_moment(full: Ledger, tmp_path: Path) -> None:
    stop, acknowledged, failed = threading.Event(), list[int](), list[Exception]()

    def write() -> None:
        with ledger.open(full.folder.path) as mine:
            while not stop.is_set():
                try:
                    acknowledged.append(mine.withdraw("u3").position)
                except Exception as error:
                    failed.append(error)

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        for number in range(3):
            known = max(acknowledged, default=0)
            report = ledger.backup(tmp_path / f"b{number}", full.folder.path)
            assert report.size > known  # no act that was acknowledged before is missing
            with ledger.open(tmp_path / f"b{number}") as copy:
                full.check(copy.checkpoint())
                assert copy.trust.open((tmp_path / f"b{number}" / "head").read_text()).size == report.size
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert failed == []
    assert [json.loads(line)["path"] for line in (full.folder.path / "backups").read_text().splitlines()] == [
        str(tmp_path / f"b{number}") for number in range(3)
    ]


@ONE
def test_what_is_not_whole_leaves_no_backup(book: Ledger, sql: Sql, tmp_path: Path) -> None:
    book.record(yes("u1"))
    sql("UPDATE openings SET salt = zeroblob(32) WHERE subject_id = 'u1'")
    with pytest.raises(IntegrityError, match="opening of entry 3"):
        ledger.backup(tmp_path / "b", book.folder.path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ledger"]


@ONE
@pytest.mark.parametrize("step", [(copying, "make_folder"), (copying, "new_database"), (backups, "fsck"), (backups, "_sync")])
def test_what_breaks_off_leaves_no_backup(book: Ledger, tmp_path: Path, step: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = getattr(*step)

    def then(*arguments: object) -> None:
        real(*arguments)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*step, then)
    with pytest.raises(ConsentLedgerError, match="No space left") as failed:
        ledger.backup(tmp_path / "b", book.folder.path)
    assert "free some space" in (failed.value.hint or "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ledger"]
    book.withdraw("u1")  # the lock is free
    monkeypatch.undo()
    ledger.backup(tmp_path / "b", book.folder.path)


def _killed(folder: Path, target: Path) -> None:
    backups._sync = lambda folder: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
    ledger.backup(target, folder)


@ONE
def test_what_a_killed_one_left_goes_with_the_next(book: Ledger, tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_killed, args=(book.folder.path, tmp_path / "b"))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    (left,) = tmp_path.glob(".b.*.tmp")
    assert (left / "log.key").exists()
    with pytest.raises(UsageError, match="no ledger"):
        ledger.open(tmp_path / "b")
    (tmp_path / ".b.0123456789abcdef.tmp").symlink_to(book.folder.path)
    with (book.folder.path / "backups").open("a") as file:
        file.write('{"path": "half')
    ledger.backup(tmp_path / "b", book.folder.path)
    assert [path.is_symlink() for path in tmp_path.glob(".b.*.tmp")] == [True]
    assert (book.folder.path / "log.key").exists()
    lines = (book.folder.path / "backups").read_text().splitlines()
    assert [json.loads(line)["path"] for line in (lines[0], lines[2])] == [str(tmp_path / "b")] * 2
    assert lines[1] == '{"path": "half'


@ONE
def test_an_older_one_put_back_is_caught_by_an_anchor_elsewhere(book: Ledger, tmp_path: Path) -> None:
    book.record(yes("u1"))
    elsewhere = tmp_path / "elsewhere"
    shutil.copy(book.folder.path / "head", elsewhere)
    with (book.folder.path / "ledger.toml").open("a") as file:
        file.write('anchors = ["../elsewhere"]\n')
    with ledger.open(book.folder.path) as mine:
        mine.record(yes("u2"))
        ledger.backup(tmp_path / "b", book.folder.path)
        with ledger.open(tmp_path / "b") as copy:
            copy.show("u1")
        mine.withdraw("u1")
    with pytest.raises(IntegrityError, match="rolled back"):
        ledger.open(tmp_path / "b")
    shutil.rmtree(book.folder.path)
    (tmp_path / "b").rename(book.folder.path)
    with pytest.raises(IntegrityError, match="the anchor elsewhere has signed 6"):
        ledger.open(book.folder.path)


@ONE
def test_what_is_in_the_way_is_refused(book: Ledger, tmp_path: Path, consent: Any) -> None:
    (tmp_path / "b").mkdir()
    with pytest.raises(UsageError, match="is there already"):
        ledger.backup(tmp_path / "b", book.folder.path)
    ledger.copy(book.folder.path, tmp_path / "new")
    with pytest.raises(ConsentLedgerError, match="was moved"):
        ledger.backup(tmp_path / "c", book.folder.path)
    assert not (book.folder.path / "backups").exists()
    outcome: Outcome = consent("--ledger", tmp_path / "new", "backup", tmp_path / "c")
    assert outcome.code == 0, outcome.err
    assert "the copy is whole" in outcome.err
    assert ledger.fsck(tmp_path / "c").size == 3


@ONE
def test_no_passphrase_is_needed(book: Ledger, tmp_path: Path) -> None:
    path = book.folder.path / "log.key"
    path.write_bytes(load_key(path).to_pem(b"secret"))
    ledger.backup(tmp_path / "b", book.folder.path)
    assert PrivateKey.is_protected((tmp_path / "b" / "log.key").read_bytes())
