"""Which of a file's people may go from no to yes by it, as far as the file tells: those who say yes later than no in it, to
whatever. Of most that is not so, and nobody needs to look at all that they said.

> People are told apart by the first half of their tags. It takes 32 bytes a row, beyond 64 MiB on disk.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

_ROW = np.dtype([("high", "u8"), ("low", "u8"), ("at", "i8"), ("yes", "i8")])
_IN_MEMORY = 64 << 20
_AT_ONCE = 1 << 21
"""Rows that are compared together, more or less; and read together, at most."""
_MOST = 1 << 20
"""People. Where there are more of them, little is saved."""
_NEVER = np.int64(-(1 << 62))


class Turning:
    """Its file is gone once the context ends."""

    def __init__(self) -> None:
        self._spool = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - it is closed below
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._spool.close()

    def add(self, tags: Sequence[bytes], yes: Sequence[bool], moments: Sequence[str]) -> None:
        """The next rows. moments: canonical text."""
        rows = np.empty(len(tags), _ROW)
        halves = np.frombuffer(b"".join(tags), "u8").reshape(-1, 4)
        rows["high"], rows["low"], rows["yes"] = halves[:, 0], halves[:, 1], yes
        rows["at"] = np.array([moment[:-1] for moment in moments], "M8[us]").view("i8")
        self._spool.write(rows.tobytes())
        self._count += len(rows)

    def rows(self) -> list[int] | None:
        """The numbers of rows, from 0 on, with such a yes: one a person. None where there are very many."""
        parts = -(-self._count // _AT_ONCE)
        found: list[int] = []
        for part in range(parts):
            found += self._of(part, parts)
            if len(found) > _MOST:
                return None
        return found

    def _of(self, part: int, parts: int) -> list[int]:
        """Of the people of one part."""
        some: list[NDArray[np.void]] = []
        numbers: list[NDArray[np.int64]] = []
        self._spool.seek(0)
        for first in range(0, self._count, _AT_ONCE):
            rows = np.frombuffer(self._spool.read(_AT_ONCE * _ROW.itemsize), _ROW)
            theirs = np.flatnonzero(rows["high"] % np.uint64(parts) == part)
            some.append(rows[theirs])
            numbers.append(theirs + first)
        return _turning(np.concatenate(some), np.concatenate(numbers))


def _turning(rows: NDArray[np.void], numbers: NDArray[np.int64]) -> list[int]:
    if not len(rows):
        return []
    low, high = rows["low"], rows["high"]
    said_yes = rows["yes"] != 0
    yes_at = np.where(said_yes, rows["at"], _NEVER)
    order = np.lexsort((yes_at, low, high))
    begins = np.append(True, (high[order[1:]] != high[order[:-1]]) | (low[order[1:]] != low[order[:-1]]))
    latest = order[np.append(begins[1:], True)]  # yes of each
    no_at = np.where(said_yes, -_NEVER, rows["at"])[order]
    earliest = np.minimum.reduceat(no_at, np.flatnonzero(begins))
    return [int(number) for number in numbers[latest[yes_at[latest] > earliest]]]
