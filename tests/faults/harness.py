"""One command, one of whose writes goes wrong: run it, and say how it ended.

The writes are the calls of the C library that change something below the command's folder; `shim.c` counts them over all threads,
and lets one go wrong. That it sees all of them is held against strace in test_writes.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import pytest

HERE = Path(__file__).parent
_WRITES_BYTES = {"write", "pwrite", "pwrite64", "writev", "pwritev", "pwritev64"}
_NEEDS_SPACE = _WRITES_BYTES | {"ftruncate", "ftruncate64", "fallocate", "fallocate64"}
_NEEDS_SPACE |= {"open", "open64", "openat", "openat64", "mkdir", "mkdirat", "rename", "renameat", "link", "linkat", "symlink"}


class Fault(Enum):
    """(what the shim does, the error that it reports)."""

    EIO = (1, errno.EIO)
    ENOSPC = (1, errno.ENOSPC)
    BUT_STORED = (2, errno.EIO)
    KILLED = (3, 0)
    KILLED_AFTER = (4, 0)
    TORN_THEN_FULL = (5, errno.ENOSPC)
    KILLED_TORN = (6, 0)
    DEAD_DISK = (7, errno.EIO)

    def can_befall(self, call: str) -> bool:
        if self in (Fault.TORN_THEN_FULL, Fault.KILLED_TORN):
            return call in _WRITES_BYTES
        return self is not Fault.ENOSPC or call in _NEEDS_SPACE

    @property
    def kills(self) -> bool:
        return self in (Fault.KILLED, Fault.KILLED_AFTER, Fault.KILLED_TORN)


@dataclass(frozen=True)
class Call:
    """One write. number: among those of the command, from 1. path: below the command's folder."""

    number: int
    name: str
    path: str


@dataclass(frozen=True)
class Ended:
    """code: negative for a signal. told: both of its streams."""

    code: int
    told: str
    calls: list[Call] = field(repr=False)

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL

    def must_be_honest(self) -> None:
        """Done, killed, or failed with a reason and with what to do."""
        if self.code not in (0, -signal.SIGKILL):
            assert self.code == 1, self
            assert "Traceback" not in self.told and "unexpected" not in self.told, self
            assert "error: " in self.told and "hint: " in self.told, self


class Host:
    """Runs commands in forked children. pid: for whoever wants to look at them."""

    def __init__(self, process: subprocess.Popen[str], aside: Path) -> None:
        self._process, self._aside = process, aside
        self.pid = process.pid

    def run(self, where: Path, *arguments: str, fault: Fault | None = None, at: int = 0, root: Path | None = None) -> Ended:
        """root: the folder whose writes count; else that in which the command runs."""
        how, error = fault.value if fault is not None else (0, 0)
        told, calls = self._aside / "told", self._aside / "calls"
        for file in (told, calls):
            file.unlink(missing_ok=True)
        task = {"where": str(where), "root": str(root or where), "told": str(told), "calls": str(calls)}
        task |= {"arguments": list(arguments), "number": at, "how": how, "error": error}  # type: ignore[dict-item]
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        noted = [line.partition(" ") for line in calls.read_text(encoding="utf-8").splitlines()]
        return Ended(code, told.read_text(encoding="utf-8"), [Call(n, name, path) for n, (name, _, path) in enumerate(noted, 1)])


@contextmanager
def host(aside: Path) -> Iterator[Host]:
    """aside: a folder for what is not to be counted. Skips, saying so, where there is no C compiler."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed: apt-get install gcc libc6-dev")
    shim = aside / "shim.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", shim, HERE / "shim.c", "-ldl"], check=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.host", shim],
        env={**os.environ, "LD_PRELOAD": str(shim)},
        cwd=HERE.parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        yield Host(process, aside)
    finally:
        process.stdin.close()  # type: ignore[union-attr]
        process.wait(60)
        process.stdout.close()  # type: ignore[union-attr]


def chance() -> random.Random:
    """CONSENT_LEDGER_FAULTS_SEED makes a run the one that was seen to fail."""
    seed = int(os.environ.get("CONSENT_LEDGER_FAULTS_SEED") or int.from_bytes(os.urandom(4)))
    print(f"CONSENT_LEDGER_FAULTS_SEED={seed}")
    return random.Random(seed)


def drawn(calls: list[Call], faults: list[Fault], wanted: int) -> list[tuple[Call, Fault]]:
    """So many of all that can befall these calls, each kind about equally often; CONSENT_LEDGER_FAULTS=all: every one."""
    every = {fault: [(call, fault) for call in calls if fault.can_befall(call.name)] for fault in faults}
    if os.environ.get("CONSENT_LEDGER_FAULTS") == "all":
        return [pair for pairs in every.values() for pair in pairs]
    rng, picked = chance(), []
    for pairs in every.values():
        rng.shuffle(pairs)
    for n in range(max(map(len, every.values()))):
        picked += [pairs[n] for pairs in every.values() if n < len(pairs)]
    return picked[:wanted]
