"""A second process that goes over the rest of a log while this one goes over its beginning: Python has one core a process.

It opens the ledger's folder by itself, only reads, and answers through a pipe that nobody else has. What it fails at, for
whatever reason, its caller does: so nothing is left unchecked, and errors are said by one alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from ledger import cores
from ledger.store import database
from ledger.store.folder import Folder
from ledger.store.history import History

WORTHWHILE = 250_000
"""Entries from which on it saves more than its start takes."""
_RUN = "import json, sys; a = json.loads(sys.stdin.buffer.readline()); sys.path[:] = a['path']; from {} import main; main(a)"


class Second:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def answer(self) -> bytes | None:
        """Waits for it. None: it failed."""
        assert self._process.stdout is not None
        data = self._process.stdout.read()
        return data if self._process.wait() == 0 else None


@contextlib.contextmanager
def beside(folder: Path, module: str, size: int, **arguments: Any) -> Iterator[tuple[int, Second | None]]:
    """(where its part of the log of `size` entries begins, the process): size and None where there is none. It ends with the
    context. module: whose `second_half(connection, history, folder, out, first=, end=, **arguments)` writes the answer; what it
    is asked goes through a pipe too, as JSON."""
    first = size // 2 // 256 * 256
    if size < WORTHWHILE or not first or cores.count() < 2 or not sys.executable:
        yield size, None
        return
    asked = {"path": sys.path, "folder": str(folder.resolve()), "module": module, "first": first, "end": size, **arguments}
    try:
        process = subprocess.Popen(  # noqa: S603 - this very program
            [sys.executable, "-P", "-c", _RUN.format(__name__)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
    except OSError:
        yield size, None
        return
    with process:
        assert process.stdin is not None
        try:
            with contextlib.suppress(OSError):  # it has ended already, which its answer tells
                process.stdin.write(json.dumps(asked).encode() + b"\n")
            yield first, Second(process)
        finally:
            process.kill()


def main(asked: dict[str, Any]) -> None:
    """The second process."""
    threading.Thread(target=_end_with, args=(sys.stdin.buffer,), daemon=True).start()
    del asked["path"]
    folder = Folder.open(Path(asked.pop("folder")))
    half: Callable[..., None] = import_module(asked.pop("module")).second_half
    with database.reading(database.connect(folder.database)) as connection:
        database.check_revision(connection)
        half(connection, History(connection, folder.origin, folder.log_trust()), folder, sys.stdout.buffer, **asked)
    sys.stdout.buffer.flush()
    os._exit(0)  # the thread holds standard input


def _end_with(asking: IO[bytes]) -> None:
    """Nobody waits for the answer any more once the pipe is closed."""
    asking.read(1)
    os._exit(1)
