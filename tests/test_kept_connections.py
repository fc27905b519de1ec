"""Connections of SQLite that stay open for a moment: of the files that have the names, and of one process."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

import ledger
from ledger import Ledger
from ledger.errors import ConsentLedgerError
from ledger.store import database
from ledger.store.folder import Folder

CARL = "import sys, ledger; ledger.open(sys.argv[1]).withdraw('carl', purposes=['train-ai'])"


def test_a_child_that_is_forked_between_two_transactions_holds_no_connection_of_its_parent(
    book: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would believe that it holds locks, and write past a third process: whose acknowledged no would be gone."""
    between, go = threading.Event(), threading.Event()
    real = Folder.write_anchors

    def slow(self: Folder, note: str) -> None:
        if threading.current_thread().name == "ann":
            between.set()
            go.wait()
        real(self, note)

    monkeypatch.setattr(Folder, "write_anchors", slow)
    ann = threading.Thread(target=lambda: book.withdraw("ann", purposes=["train-ai"]), name="ann")
    ann.start()
    between.wait()
    begun, ended = os.pipe(), os.pipe()
    if (child := os.fork()) == 0:
        try:
            with database.writing(book._engine) as (connection, transaction):
                os.write(begun[1], b"x")
                os.read(ended[0], 1)
                connection.exec_driver_sql("UPDATE openings SET act = act")
                transaction.commit()
        finally:
            os._exit(0)
    os.read(begun[0], 1)
    go.set()
    ann.join()
    time.sleep(2 * database.LINGER_SECONDS)
    try:
        # The child is writing: whoever else wants to waits for it, and is not let past.
        third = subprocess.Popen([sys.executable, "-c", CARL, str(book.folder.path)])
        time.sleep(1)
        assert third.poll() is None
    finally:
        os.write(ended[1], b"x")
        os.waitpid(child, 0)
    assert third.wait() == 0
    with ledger.open(book.folder.path) as again:
        assert [len(again.show(name)["events"]) for name in ("ann", "carl")] == [1, 1]
        again.fsck()


def test_who_writes_after_the_file_was_shrunk_waits_as_long_as_ever(book: Ledger) -> None:
    with database.held(book._engine):
        database.shrink(book._engine, wait=False)
        with closing(sqlite3.connect(book.folder.path / "ledger.db", isolation_level=None, check_same_thread=False)) as other:
            other.execute("BEGIN IMMEDIATE")
            ends = threading.Timer(0.5, other.execute, ["ROLLBACK"])
            ends.start()
            book.withdraw("ann", purposes=["train-ai"])
            ends.join()


@pytest.mark.parametrize("ending", ["-wal", "-shm"])
def test_a_kept_connection_is_dropped_where_a_file_of_the_journal_was_removed(book: Ledger, ending: str) -> None:
    """Never silently: either the act is there for everybody, or nobody is told that it is."""
    with database.held(book._engine):
        book.withdraw("ann", purposes=["train-ai"])
        path = book.folder.path / "ledger.db"
        path.with_name(path.name + ending).unlink()
        try:
            book.withdraw("bob", purposes=["train-ai"])
        except ConsentLedgerError:
            return
        with ledger.open(book.folder.path) as other:
            assert other.show("bob")["events"]
