"""`python -m tests.fuzz --seconds N [TARGET...]`: each target in a process of its own, some at a time, for N seconds in all.

The parsers are instrumented once, and each process is forked from that. What comes out that is not allowed, takes too long or too
much memory is kept beside the corpus, where every test run repeats it; the exit code is 1.
--grow adds what reached something new to the corpus, as long as it stays small.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["ledger"]):
    from tests.fuzz.targets import CORPUS, MAX_BYTES, MAX_FILES, TARGETS

SECONDS, MEGABYTES, LONGEST = 20, 2048, 64 << 10
"""What one input of at most LONGEST bytes may take, instrumented and on a busy machine."""


class Fuzzing:
    """A target under libFuzzer, in a child process. folder: for what it writes."""

    def __init__(self, name: str, seconds: int, folder: Path) -> None:
        self.name, self._kept = name, CORPUS / name
        self._found, self._seeds, self._files, self._said = (folder / part for part in ("found", "seeds", "files", "said"))
        for place in (self._kept, self._found, self._seeds, self._files):
            place.mkdir(parents=True, exist_ok=True)
        self._latest = time.monotonic() + seconds + 5 * SECONDS
        sys.stdout.flush()
        self.process = os.fork()
        if not self.process:
            self._run(seconds)

    def _run(self, seconds: int) -> None:
        """Never returns. An ordinary exit would wait for Arrow's threads, which may wait for this one."""
        try:
            with self._said.open("wb") as said:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
            tempfile.tempdir = str(self._files)  # what is left there goes with the folder
            for number, seed in enumerate(TARGETS[self.name].seeds()):
                (self._seeds / f"{number}").write_bytes(seed)
            limits = [f"-timeout={SECONDS}", f"-rss_limit_mb={MEGABYTES}", f"-max_len={LONGEST}"]
            limits.append(f"-artifact_prefix={self._kept}/")
            self._count, self._ends = 0, time.monotonic() + seconds
            atheris.Setup([sys.argv[0], *limits, *map(str, (self._found, self._kept, self._seeds))], self._read)
            atheris.Fuzz()
        finally:
            os._exit(1)

    def _read(self, data: bytes) -> None:
        try:
            TARGETS[self.name](data)
        except BaseException:
            # libFuzzer keeps what took too long or too much memory.
            (self._kept / f"crash-{hashlib.sha1(data).hexdigest()}").write_bytes(data)
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        self._count += 1
        if time.monotonic() > self._ends:
            os.write(2, b"\n%d executions\n" % self._count)
            os._exit(0)

    def kill_if_stuck(self) -> None:
        """Where even libFuzzer's timer does not end it."""
        if time.monotonic() > self._latest:
            os.kill(self.process, signal.SIGKILL)

    def end(self, status: int, grow: bool) -> bool:
        """Says how it went. Whether nothing was found."""
        said = self._said.read_text("utf-8", "replace")
        count = re.search(r"^(\d+) executions$", said, re.MULTILINE)
        fine = status == 0 and count is not None
        print(f"{self.name:24} {int(count[1]) if count else 0:>10,} executions" + ("" if fine else "   WRONG"), flush=True)
        if not fine:
            print(said[-4000:], file=sys.stderr, flush=True)
        elif grow:
            _grow(self._found, self._kept)
        return fine


def _grow(found: Path, kept: Path) -> None:
    """Keep some of what reached something new: small ones, of all sizes."""
    fresh = [path for path in (*found.iterdir(), *kept.glob("?" * 40)) if path.stat().st_size < MAX_BYTES]
    data = sorted({path.read_bytes() for path in fresh}, key=lambda one: (len(one), one))
    for path in kept.glob("?" * 40):
        path.unlink()
    for one in data[:: -(-len(data) // MAX_FILES) or 1]:
        (kept / hashlib.sha1(one).hexdigest()).write_bytes(one)  # as libFuzzer names them


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=120, help="In all, shared by the targets; each has one at least.")
    parser.add_argument("--jobs", type=int, default=2, help="Targets at a time.")
    parser.add_argument("--grow", action="store_true", help="Add what reached something new to the corpus.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", default=list(TARGETS))
    asked = parser.parse_args()
    if unknown := [name for name in asked.targets if name not in TARGETS]:
        parser.error(f"no target {unknown[0]!r}; there are {', '.join(TARGETS)}")
    each = max(1, asked.seconds * asked.jobs // len(asked.targets))
    waiting, running, fine = list(dict.fromkeys(asked.targets)), dict[int, Fuzzing](), True
    with tempfile.TemporaryDirectory() as folder:
        while waiting or running:
            if waiting and len(running) < asked.jobs:
                name = waiting.pop(0)
                one = Fuzzing(name, each, Path(folder) / name)
                running[one.process] = one
            else:
                time.sleep(0.05)
                for one in running.values():
                    one.kill_if_stuck()
                process, status = os.waitpid(-1, os.WNOHANG)
                if process:
                    fine &= running.pop(process).end(status, asked.grow)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
