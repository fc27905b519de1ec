"""Digests of shards, taken while the rest of a command is made ready: a processor has nothing else to do then.

Whoever takes one from here reads the shard by it (`blocks.Authentic`): what is decoded is what was hashed, whatever was written
meanwhile. It is loaded without NumPy and pyarrow, and so begins before them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import BinaryIO

from ledger import blocks, objects
from ledger.blocks import Digests
from ledger.objects import Address, Place
from ledger.shards.inputs import Input, find_inputs
from ledger.statements.verify import statement_path

Status = tuple[int, int, int, int]


class Digesting:
    """As a context manager: the shards that the paths mean, hashed one after another by a thread until it is left.

    Not where a statement stands at the output already: by that one they may be known. Raises as `find_inputs` does.
    """

    def __init__(self, paths: Sequence[str | Place], output: str | Place) -> None:
        self.inputs = find_inputs(paths)
        statement = statement_path(objects.place(output))
        again = statement.exists() if isinstance(statement, Address) else os.path.lexists(statement)
        self._over, self._thread = Event(), ThreadPoolExecutor(1)
        self._told: dict[str, Future[tuple[Status, Digests, int] | None]] = {
            source.name: self._thread.submit(self._digest, source.path)
            for source in self.inputs
            if isinstance(source.path, Path) and not again
        }

    def __enter__(self) -> Digesting:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.shutdown(cancel_futures=True)

    def of(self, source: Input) -> Digests | None:
        """None for one that was not begun, and is left alone from now on, could not be read, or may have been touched since."""
        from ledger.shards.index_folder import identity, identity_of, settled  # loads NumPy

        told = self._told.get(source.name)
        if told is None or told.cancel() or (found := told.result()) is None:
            return None
        status, digests, since = found
        known = settled(identity_of(status), since)
        return digests if known is not None and known == identity(source.path) else None

    def _digest(self, path: Path) -> tuple[Status, Digests, int] | None:
        since = time.time_ns()
        with suppress(OSError, _Over):
            if path.is_file():  # a pipe would be waited for
                with path.open("rb") as file:
                    return _status(file), blocks.digests(_UntilOver(file, self._over)), since
        return None


class _Over(Exception):
    """Nobody asks any more."""


class _UntilOver:
    def __init__(self, file: BinaryIO, over: Event) -> None:
        self._file, self._over = file, over

    def read(self, size: int) -> bytes:
        if self._over.is_set():
            raise _Over
        return self._file.read(size)


def _status(file: BinaryIO) -> Status:
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns
