"""Commands in forked children of a process that has everything imported: a kill falls into the work, not into start-up."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ledger.cli import run

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    ["tests.warm", "ledger.book", "ledger.filter", "ledger.store.migrations", "alembic.command"]
    + [f"ledger.cli.{name}" for name in ("record", "import_", "snapshot", "filter")]
)


def _work(where: str, arguments: list[str], told: str, begun: Connection) -> None:
    os.chdir(where)
    os.environ.pop("CONSENT_LEDGER", None)
    descriptor = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    begun.send_bytes(b".")
    code = run(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class Command:
    """A command that runs as soon as this is made. Both of its streams go to the file `told`."""

    def __init__(self, where: Path, *arguments: str) -> None:
        self._told = where / "told"
        self._told.unlink(missing_ok=True)
        self._begun, theirs = _SERVER.Pipe(duplex=False)
        self.process = _SERVER.Process(target=_work, args=(str(where), list(arguments), str(self._told), theirs))
        self.process.start()
        theirs.close()

    @property
    def begun(self) -> bool:
        return self._begun.poll()

    def finish(self) -> str:
        """What it printed. Fails where its exit code is not 0."""
        self.process.join()
        assert self.process.exitcode == 0, self.told()
        return self.told()

    def told(self) -> str:
        return self._told.read_text(encoding="utf-8") if self._told.exists() else ""


def finished(where: Path, *arguments: str) -> Any:
    """The JSON of a command that nobody kills."""
    return json.loads(Command(where, *arguments, "--format", "json").finish().partition("\n}\n")[0] + "}")


class Killer:
    """Kills commands at random moments of as long as they take, and counts where the kills fell."""

    def __init__(self, rng: random.Random, where: Path, line: Callable[[int], list[str]]) -> None:
        """line(-2) and line(-1): commands like those that are to be killed, run to see how long one takes."""
        self._rng, self._where = rng, where
        self.fell: Counter[str] = Counter(before=0, during=0, after=0)
        self._seconds = 0.0
        for n in (-2, -1):  # the second tells: nothing is started for it any more
            arguments = line(n)
            began = time.monotonic()
            Command(where, *arguments).finish()
            self._seconds = time.monotonic() - began

    def kill(self, *arguments: str) -> str | None:
        """What the command printed, if it finished before it was killed, else None."""
        command = Command(self._where, *arguments)
        time.sleep(self._rng.uniform(0, self._seconds * 1.05))
        command.process.kill()
        command.process.join()
        if command.process.exitcode == 0:
            self.fell["after"] += 1
            return command.told()
        assert command.process.exitcode == -signal.SIGKILL, command.told()
        self.fell["during" if command.begun else "before"] += 1
        return None

    def rounds(self, wanted: int) -> Iterator[int]:
        """As many rounds as it takes for so many kills to fall into the work."""
        for n in range(10 * wanted + 100):
            if self.fell["during"] == wanted:
                return
            yield n
        raise AssertionError(f"the kills do not fall into the work: {self.fell}")

    def report(self, what: str) -> None:
        total = sum(self.fell.values())
        print(f"{what}: {total} kills, {', '.join(f'{n} {where} the work' for where, n in self.fell.items())}, "
              f"which takes {self._seconds * 1000:.0f} ms")  # fmt: skip
