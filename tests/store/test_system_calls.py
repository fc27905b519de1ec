"""Every single system call by which one append writes fails, or is the last thing that the process does.

strace makes each of them in turn answer with EIO and with ENOSPC, and kills the process as it enters each. The ledger stands
one entry before a tile's edge. After each: the ledger is whole; what was acknowledged is there; what is said of the outcome
is true; the same command again records the act once, and nothing is left lying about.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

import ledger
from tests.conftest import yes
from tests.warm import Command, finished

LINE = ("record", "given", "ann", "--purpose", "train-ai", "--event-id", "e1", "--occurred-at", "2026-01-01T00:00:00Z")
WRITES = (
    *("write", "pwrite64", "writev", "pwritev", "fsync", "fdatasync", "ftruncate", "fallocate", "openat"),
    *("rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat", "link", "linkat", "chmod", "fchmod"),
)
NEEDS_SPACE = ("write", "pwrite64", "writev", "pwritev", "ftruncate", "fallocate", "openat", "mkdir", "rename")


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A ledger of 255 entries: two keys, a purpose, and acts of other people."""
    folder = tmp_path / "whole" / "consent-ledger"
    with ledger.create(folder) as book:
        book.declare_purpose("train-ai", title="T", description="D")
        book.record_all(yes(f"u{i}") for i in range(252))
    assert ledger.fsck(folder).size == 255
    return folder


def traced(where: Path, *options: str) -> tuple[Command, str]:
    """The append under strace, ended, and what strace wrote."""
    log = where / "trace"
    command = Command(where, *LINE, stopped=True)
    _until(lambda: _state(command.process.pid) == "T")
    strace = subprocess.Popen(
        ["strace", "-f", "-y", "-s", "300", "-o", log, "-e", f"trace=?{',?'.join(WRITES)}", *options, f"-p{command.process.pid}"],
        stderr=subprocess.PIPE,
        text=True,
    )
    _until(lambda: strace.poll() is not None or _traced(command.process.pid))
    os.kill(command.process.pid or 0, signal.SIGCONT)
    command.process.join()
    _, complaint = strace.communicate()
    if "Operation not permitted" in complaint:
        pytest.skip(f"strace may not look at another process here: {complaint.strip()}")
    return command, log.read_text(encoding="utf-8")


def _until(true: object) -> None:
    ends = time.monotonic() + 60
    while not true():  # type: ignore[operator]
        assert time.monotonic() < ends
        time.sleep(0.001)


def _state(process: int | None) -> str:
    return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(") ")[2][0]


def _traced(process: int | None) -> bool:
    return "TracerPid:\t0\n" not in Path(f"/proc/{process}/status").read_text(encoding="utf-8")


@pytest.mark.soak
def test_every_write_of_an_append(whole: Path, tmp_path: Path) -> None:
    _fail_each(whole, tmp_path, 0, 1)


def test_some_writes_of_an_append(whole: Path, tmp_path: Path) -> None:
    """The whole is run by `make soak`; here every eighth, and each time another eighth."""
    start = random.SystemRandom().randrange(8)
    print(f"from write {start}")
    _fail_each(whole, tmp_path, start, 8)


def _fail_each(whole: Path, tmp_path: Path, start: int, step: int) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: apt-get install strace")
    where = tmp_path / "tried"

    def renew() -> Path:
        shutil.rmtree(where, ignore_errors=True)
        shutil.copytree(whole.parent, where)
        return where / "consent-ledger"

    folder = renew()
    command, log = traced(where)
    assert command.process.exitcode == 0, command.told()
    seen: Counter[str] = Counter()
    calls: list[tuple[str, int]] = []
    for line in log.splitlines():
        if match := re.match(r"\d+ +(\w+)\((.*)", line):
            seen[match[1]] += 1
            if folder.name in match[2] and (match[1] != "openat" or "O_CREAT" in match[2]):
                calls.append((match[1], seen[match[1]]))
    assert {"pwrite64", "fdatasync", "write", "fsync", "rename"} <= {name for name, _ in calls}, log
    outcomes: Counter[str] = Counter()
    for name, number in calls[start::step]:
        for fault in ("error=EIO", "error=ENOSPC", "signal=KILL"):
            if fault == "error=ENOSPC" and name not in NEEDS_SPACE:
                continue
            folder = renew()
            command, log = traced(where, "-e", f"inject={name}:{fault}:when={number}")
            outcomes[_judge(folder, command, (name, number, fault, command.told(), log[-2000:]))] += 1
    print(f"{len(calls[start::step])} of {len(calls)} writes of an append: {dict(outcomes)}")
    assert outcomes["killed"] == len(calls[start::step])


def _judge(folder: Path, command: Command, what: object) -> str:
    told, code = command.told(), command.process.exitcode
    assert ledger.fsck(folder).size in (255, 256), what
    with ledger.open(folder) as book:
        stored = any(event.event_id == "e1" for _, event in book.events())
    if code == -signal.SIGKILL:
        assert stored or '"event_id": "e1"' not in told, what
        outcome = "killed"
    elif code == 0:
        assert stored, what
        outcome = "recorded"
    else:
        assert code == 1, what
        assert "Traceback" not in told, what
        assert "unexpected" not in told, what
        assert "hint: " in told, what
        assert stored == ("it was recorded" in told), what
        outcome = "failed, recorded" if stored else "failed, not recorded"
    again = finished(folder.parent, *LINE)
    assert again["repeated"] == stored, what
    assert ledger.fsck(folder).size == 256, what
    assert not [path for path in folder.rglob("*") if path.name.endswith((".tmp", "-journal"))], what
    return outcome
