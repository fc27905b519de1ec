"""A second process that goes over the rest of a log while this one goes over its beginning: Python has one core a process.

It opens the ledger's folder by itself, only reads, and answers through a pipe that nobody else has, under the answer's digest.
What it fails at, for whatever reason, its caller does: so nothing is left unchecked, and errors are said by one alone.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from ledger import cores
from ledger.store import database
from ledger.store.folder import Folder
from ledger.store.history import History

WORTHWHILE = 250_000
"""Entries from which on it saves more than its start takes."""
_DIGEST = 32
_RUN = "import json, sys; a = json.loads(sys.stdin.buffer.readline()); sys.path[:] = a['path']; from {} import main; main(a)"


class Second:
    def __init__(self, process: subprocess.Popen[bytes], answer: IO[bytes]) -> None:
        self._process, self._answer = process, answer

    def answer(self) -> bytes | None:
        """Waits for it. None: it failed, or its answer is not whole."""
        data = self._answer.read()
        digest, body = data[:_DIGEST], data[_DIGEST:]
        return body if self._process.wait() == 0 and sha256(body).digest() == digest else None


@contextlib.contextmanager
def beside(folder: Path, module: str, size: int, **arguments: Any) -> Iterator[tuple[int, Second | None]]:
    """(where its part of the log of `size` entries begins, the process): size and None where there is none. It ends with the
    context. module: whose `second_half(connection, history, folder, out, first=, end=, **arguments)` writes the answer; what it
    is asked goes through a pipe too, as JSON."""
    first = size // 2 // 256 * 256
    python = cores.python()
    if size < WORTHWHILE or not first or python is None:
        yield size, None
        return
    path = [entry for entry in sys.path if isinstance(entry, str)]
    with contextlib.ExitStack() as stack:
        reader, writer = os.pipe()
        answer = stack.enter_context(os.fdopen(reader, "rb"))
        asked = {"path": path, "folder": str(folder.resolve()), "module": module, "first": first, "end": size, **arguments}
        try:
            process = subprocess.Popen(  # noqa: S603 - this very program
                [python, "-P", "-c", _RUN.format(__name__)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[writer],  # not standard output, to which others write as well
                bufsize=0,
            )
        except OSError:
            yield size, None
            return
        finally:
            os.close(writer)
        stack.enter_context(process)
        stack.callback(process.kill)
        assert process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended already, which its answer tells
            process.stdin.write(json.dumps({**asked, "answer": writer}).encode() + b"\n")
        yield first, Second(process, answer)


def main(asked: dict[str, Any]) -> None:
    """The second process. It ends without tidying up: the thread holds standard input."""
    threading.Thread(target=_end_with, args=(sys.stdin.buffer,), daemon=True).start()
    try:
        del asked["path"]
        body, writer = io.BytesIO(), asked.pop("answer")
        folder = Folder.open(Path(asked.pop("folder")))
        half: Callable[..., None] = import_module(asked.pop("module")).second_half
        with database.reading(database.connect(folder.database)) as connection:
            database.check_revision(connection)
            half(connection, History(connection, folder.origin, folder.log_trust()), folder, body, **asked)
        with os.fdopen(writer, "wb") as answer:
            answer.write(sha256(body.getbuffer()).digest())
            answer.write(body.getbuffer())
    except BaseException:
        os._exit(1)
    os._exit(0)


def _end_with(asking: IO[bytes]) -> None:
    """Nobody waits for the answer any more once the pipe is closed."""
    asking.read(1)
    os._exit(1)
