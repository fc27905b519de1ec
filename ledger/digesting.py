"""Digests of shards, taken while the rest of a command is made ready: a processor has nothing else to do then.

Whoever takes one from here holds the shard to it: a selection reads by it (`blocks.Authentic`), a run finds the fingerprint of
what it has read again. So what was written meanwhile does not come along. It is loaded without NumPy and pyarrow, and so begins
before them; it begins no shard any more once the first one is asked for, as the processors are needed then.
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
from typing import Any, BinaryIO

from ledger import blocks, objects
from ledger.blocks import Digests
from ledger.objects import Address, Place
from ledger.shards import fingerprint
from ledger.shards.fingerprint import Hashed
from ledger.shards.inputs import Input, find_inputs
from ledger.shards.journal import journal_path
from ledger.statements.verify import statement_path

Status = tuple[int, int, int, int]


class Digesting:
    """As a context manager: the shards that the paths mean, hashed one after another by a thread until it is left.

    by_block: for a selection; else for a run, which needs no digests of blocks, and half the time. Not where a statement or a
    journal stands at the output already: by these they may be known. Raises as `find_inputs` does.
    """

    def __init__(self, paths: Sequence[str | Place], output: str | Place, *, by_block: bool = True) -> None:
        self.inputs = find_inputs(paths)
        place = objects.place(output)
        again = any(map(_stands, (statement_path(place), journal_path(place))))
        self._by_block, self._over, self._thread = by_block, Event(), ThreadPoolExecutor(1)
        self._told: dict[str, Future[tuple[Status, Any, int] | None]] = {
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
        return self._known(source) if self._by_block else None

    def hashed(self, source: Input) -> Hashed | None:
        """The same for a run."""
        return None if self._by_block else self._known(source)

    def _known(self, source: Input) -> Any:
        from ledger.shards.index_folder import identity, identity_of, settled  # loads NumPy

        self._thread.shutdown(wait=False, cancel_futures=True)
        told = self._told.get(source.name)
        if told is None or told.cancelled() or (found := told.result()) is None:
            return None
        status, digests, since = found
        known = settled(identity_of(status), since)
        return digests if known is not None and known == identity(source.path) else None

    def _digest(self, path: Path) -> tuple[Status, Any, int] | None:
        since = time.time_ns()
        with suppress(OSError, _Over):
            if path.is_file():  # a pipe would be waited for
                with path.open("rb") as file:
                    take = blocks.digests if self._by_block else fingerprint.hashed
                    return _status(file), take(_UntilOver(file, self._over)), since
        return None


def _stands(place: Place) -> bool:
    return place.exists() if isinstance(place, Address) else os.path.lexists(place)


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
