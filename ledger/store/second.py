"""A second process that goes over the rest of a log while this one goes over its beginning.

It opens the ledger's folder by itself, only reads, and answers under the answer's digest.
What it fails at, for whatever reason, its caller does: so nothing is left unchecked, and errors are said by one alone.
"""

from __future__ import annotations

import contextlib
import io
import subprocess
from collections.abc import Callable, Iterator
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from ledger.store import database
from ledger.store.beside import answering
from ledger.store.beside import beside as process_beside
from ledger.store.folder import Folder
from ledger.store.history import History

WORTHWHILE = 250_000
"""Entries from which on it saves more than its start takes."""
_DIGEST = 32


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
    if size < WORTHWHILE or not first:
        yield size, None
        return
    asked = {"folder": str(folder.resolve()), "module": module, "first": first, "end": size, **arguments}
    with process_beside(__name__, asked) as other:
        if other is None:
            yield size, None
        else:
            yield first, Second(*other)


def main(asked: dict[str, Any]) -> None:
    """The second process."""
    answering(asked, _answer)


def _answer(out: IO[bytes], asked: dict[str, Any]) -> None:
    body, folder = io.BytesIO(), Folder.open(Path(asked.pop("folder")))
    half: Callable[..., None] = import_module(asked.pop("module")).second_half
    with database.reading(database.connect(folder.database)) as connection:
        database.check_revision(connection)
        half(connection, History(connection, folder.origin, folder.log_trust()), folder, body, **asked)
    out.write(sha256(body.getbuffer()).digest())
    out.write(body.getbuffer())
