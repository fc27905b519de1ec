"""The anchor's file is whole at any moment, whatever it is written over."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ledger import ConsentLedgerError
from ledger.store.anchor_file import read, write


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_two_files_take_turns(tmp_path: Path) -> None:
    head = tmp_path / "head"
    inodes = []
    for number in range(6):
        write(head, b"note %d" % number, alone=True)
        assert head.read_bytes() == read(head) == b"note %d" % number
        inodes.append(head.stat().st_ino)
    assert _names(tmp_path) == {"head", ".head.spare"}
    assert inodes[1:5:2] == inodes[3::2] and inodes[2::2] == [inodes[2]] * 2 and inodes[2] != inodes[3]


def test_what_is_longer_or_shorter_gets_a_file_of_its_own(tmp_path: Path) -> None:
    head = tmp_path / "head"
    for size in (9, 9, 9, 10, 10, 8, 511, 511, 511, 513, 513, 513, 7, 0, 0):
        data = os.urandom(size)
        write(head, data, alone=True)
        assert read(head) == data
    assert _names(tmp_path) == {"head", ".head.spare"}


@pytest.mark.parametrize("what", ["the anchor itself", "another's", "a link", "a pipe", "a folder"])
def test_nothing_else_is_written_over(tmp_path: Path, what: str) -> None:
    head, spare, victim = tmp_path / "head", tmp_path / ".head.spare", tmp_path / "victim"
    head.write_bytes(b"note 1")
    victim.write_bytes(b"victim")
    if what == "the anchor itself":
        spare.hardlink_to(head)
    elif what == "another's":
        spare.hardlink_to(victim)
    elif what == "a link":
        spare.symlink_to(victim)
    elif what == "a pipe":
        os.mkfifo(spare)
    else:
        spare.mkdir()
    with head.open("rb") as before:
        if what == "a folder":
            with pytest.raises(ConsentLedgerError, match="cannot write"):
                write(head, b"note 2", alone=True)
            assert head.read_bytes() == b"note 1"
        else:
            write(head, b"note 2", alone=True)
            assert head.read_bytes() == b"note 2"
        assert before.read() == b"note 1"
    assert victim.read_bytes() == b"victim"


def test_what_was_broken_off_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after any of the steps: the anchor is whole, and what comes next is written."""
    head = tmp_path / "head"
    for number in range(4):
        write(head, b"note %d" % number, alone=True)

    class Killed(BaseException):
        pass

    real: dict[str, Callable[..., Any]] = {"link": os.link, "pwrite": os.pwrite, "fdatasync": os.fdatasync}
    replace = Path.replace
    steps = 0

    def dying(left: int) -> None:
        def step(work: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*arguments: Any, **named: Any) -> Any:
                nonlocal left, steps
                steps += 1
                if left == 0:
                    raise Killed
                left -= 1
                return work(*arguments, **named)

            return counted

        for name, work in real.items():
            monkeypatch.setattr(os, name, step(work))
        monkeypatch.setattr(Path, "replace", step(replace))

    for left in range(5):
        dying(left)
        with pytest.raises(Killed):
            write(head, b"note 5", alone=True)
        monkeypatch.undo()
        assert head.read_bytes() in (b"note 3", b"note 4", b"note 5", b"note 6")
        for data in (b"note 4", b"note 6", b"note 3"):
            write(head, data, alone=True)
            assert read(head) == data
            assert _names(tmp_path) == {"head", ".head.spare"}
    assert steps


def test_without_second_names_and_where_others_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = tmp_path / "head"

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    for number in range(3):
        write(head, b"note %d" % number, alone=True)
        assert read(head) == b"note %d" % number and _names(tmp_path) == {"head"}
    monkeypatch.undo()
    for number in range(3):
        write(head, b"note %d" % number, alone=False)
        assert read(head) == b"note %d" % number and _names(tmp_path) == {"head"}


def test_a_second_name_that_was_made_and_said_not_to_be_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = tmp_path / "head"
    link = os.link

    def made_but_failed(*arguments: Any, **named: Any) -> None:
        link(*arguments, **named)
        raise OSError(5, "Input/output error")

    write(head, b"note 1", alone=True)
    monkeypatch.setattr(os, "link", made_but_failed)
    for data in (b"note 2", b"note 3"):
        write(head, data, alone=True)
        assert read(head) == data and _names(tmp_path) == {"head"}


def test_who_reads_what_is_written_over_reads_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is opened, then replaced, then written over, while its reader stands still."""
    head = tmp_path / "head"
    write(head, b"a" * 200, alone=True)
    write(head, b"b" * 200, alone=True)
    real, done = os.pread, list[int]()

    def slow(descriptor: int, size: int, offset: int) -> bytes:
        if not done:
            done.append(1)
            write(head, b"c" * 200, alone=True)
            write(head, b"d" * 100 + b"e" * 100, alone=True)
            return b"b" * 100 + b"e" * 100
        return real(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", slow)
    assert read(head) == b"d" * 100 + b"e" * 100


def test_readers_see_whole_notes_alone(tmp_path: Path) -> None:
    head = tmp_path / "head"
    write(head, b"0" * 300, alone=True)
    going, seen = threading.Event(), set[bytes]()

    def look() -> None:
        while not going.is_set():
            seen.add(read(head))

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(300):
        write(head, b"%d" % (number % 10) * 300, alone=True)
    going.set()
    reader.join()
    assert all(len(note) == 300 and len(set(note)) == 1 for note in seen)
