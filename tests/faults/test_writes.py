"""Every single write of every command that writes goes wrong, in every way: see OPERATIONS, and `Fault`.

A write that is refused (EIO, ENOSPC), one that is carried out and reported failed, one that is cut in half, a disk that is dead
from then on, and a process that is killed as it enters the call, in the middle of it, and as it leaves. After each: the ledger
is whole; what was acknowledged is there; what is said of the outcome is true; nothing half-written has its final name, and no
statement speaks of what is not there; the same command again does what was not done, once; and nothing is left lying about.

`make test` and `make soak` draw from all of these, by a seed that is printed; CONSENT_LEDGER_FAULTS=all tries every one.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.harness import Call, Ended, Fault, Host, drawn, host
from tests.faults.operations import OPERATIONS, Operation, whole

IN_TEST, IN_SOAK = 8, 40
TRACED = (
    *("write", "pwrite64", "writev", "pwritev", "pwritev2", "fsync", "fdatasync", "sync_file_range", "ftruncate", "truncate"),
    *("fallocate", "openat", "openat2", "creat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "mkdir"),
    *("mkdirat", "link", "linkat", "symlink", "symlinkat", "chmod", "fchmod", "fchmodat", "chown", "fchown", "copy_file_range"),
    *("sendfile", "splice", "mknod", "mknodat", "setxattr", "utimensat", "msync"),
)
"""What changes a file, among the system's calls."""


@pytest.fixture(scope="module")
def shimmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with host(tmp_path_factory.mktemp("aside")) as running:
        yield running


@pytest.fixture(params=OPERATIONS, ids=lambda operation: operation.__name__)
def operation(request: pytest.FixtureRequest) -> Operation:
    made: Operation = request.param()
    return made


class World:
    """A copy of what was before the command, made anew for each fault."""

    def __init__(self, operation: Operation, host: Host, folder: Path) -> None:
        self._whole = whole(operation, host, folder)
        self.where = folder / "tried"

    def renew(self) -> Path:
        shutil.rmtree(self.where, ignore_errors=True)
        shutil.copytree(self._whole, self.where)
        return self.where


def test_some_writes(operation: Operation, shimmed: Host, tmp_path: Path) -> None:
    _befall(operation, shimmed, tmp_path, IN_TEST)


@pytest.mark.soak
def test_many_writes(operation: Operation, shimmed: Host, tmp_path: Path) -> None:
    _befall(operation, shimmed, tmp_path, IN_SOAK)


def _befall(operation: Operation, host: Host, folder: Path, wanted: int) -> None:
    world = World(operation, host, folder)
    where = world.renew()
    line = operation.line(where)
    undisturbed = host.run(where, *line)
    assert undisturbed.code == operation.done, undisturbed
    operation.learn(where)
    calls = undisturbed.calls
    chosen = drawn(calls, list(Fault), wanted)
    befell: Counter[str] = Counter()
    became: Counter[str] = Counter()
    wrong: list[str] = []
    began = time.monotonic()
    for call, fault in chosen:
        world.renew()
        ended = host.run(where, *line, fault=fault, at=call.number)
        befell[fault.name] += 1
        try:
            became[_what_became(operation, host, where, ended, call, fault)] += 1
        except Exception as error:
            wrong.append(f"{call} {fault}: {ended.code}: {ended.told}\n{error!r}")
    took = time.monotonic() - began
    print(f"{operation.command}: {len(calls)} writes, {len(chosen)} faults in {took:.0f} s: {dict(befell)}; {dict(became)}")
    assert not wrong, f"{len(wrong)} of {len(chosen)}:\n" + "\n\n".join(wrong[:10])


def _what_became(operation: Operation, host: Host, where: Path, ended: Ended, call: Call, fault: Fault) -> str:
    assert len(ended.calls) >= call.number, "the call was not reached"
    assert ended.killed == fault.kills
    ended.must_be_honest()
    outcome = operation.judge(where, ended)
    again = host.run(where, *operation.line(where))
    assert again.code == operation.done, again
    operation.settle(where, again)
    return f"{'killed' if ended.killed else 'done' if ended.code == 0 else 'failed'}, {outcome}"


def test_strace_sees_no_other_write(operation: Operation, shimmed: Host, tmp_path: Path) -> None:
    """Nothing that changes a file passes by the shim."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: apt-get install strace")
    where = World(operation, shimmed, tmp_path).renew()
    log = tmp_path / "trace"
    strace = subprocess.Popen(
        ["strace", "-f", "-y", "-s", "0", "-o", log, "-e", f"trace=?{',?'.join(TRACED)}", f"-p{shimmed.pid}"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert strace.stderr is not None
    if "attached" not in (said := strace.stderr.readline()):
        strace.wait()
        pytest.skip(f"strace may not look at another process here: {said.strip()}")
    ended = shimmed.run(where, *operation.line(where))
    strace.terminate()
    strace.communicate()
    assert ended.code == operation.done, ended
    seen = [
        match[1]
        for line in log.read_text(encoding="utf-8").splitlines()
        if (match := re.match(r"\d+ +(\w+)\((.*)", line)) and _is_below(str(where), match[1], match[2])
    ]
    assert Counter(seen) == Counter(_system_call(call) for call in ended.calls)
    assert len(seen) > 5


def _is_below(where: str, name: str, arguments: str) -> bool:
    arguments = re.sub(r"AT_FDCWD<[^>]*>", "", arguments)
    return re.search(re.escape(where) + '[/>"]', arguments) is not None and (name != "openat" or "O_CREAT" in arguments)


def _system_call(call: Call) -> str:
    return {"open": "openat", "open64": "openat", "openat64": "openat", "pwrite": "pwrite64"}.get(
        call.name, call.name.removesuffix("64") if call.name in ("ftruncate64", "fallocate64", "pwritev64") else call.name
    )
