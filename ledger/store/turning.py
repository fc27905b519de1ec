"""Which of a file's people may go from no to yes by it, as far as the file tells: those who say yes at some scope later than no,
at the same or to everything, to whatever purpose. Of most that is not so, and nobody needs to look at all that they said.

People are told apart by the first half of their tags. It takes 40 bytes a row, beyond 64 MiB on disk.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

_ROW = np.dtype([("high", "u8"), ("low", "u8"), ("scope", "i8"), ("at", "i8"), ("yes", "i8")])
_EVERYTHING = hash((None, None))
"""Scopes go by their hash: where two have the same, one more person is looked at."""
_IN_MEMORY = 64 << 20
_AT_ONCE = 1 << 21
"""Rows that are compared together, more or less; and read together, at most."""
_MOST = 1 << 20
"""People. Where there are more of them, little is saved."""
_PLACES = 1 << 22
_NEVER = np.int64(1 << 62)


class Turning:
    """Its file is gone once the context ends."""

    def __init__(self) -> None:
        self._spool = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - it is closed below
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._spool.close()

    def add(
        self, tags: Sequence[bytes], yes: Sequence[bool], scopes: Iterable[tuple[str | None, str | None]], moments: Sequence[str]
    ) -> None:
        """The next rows. scopes: category and content id. moments: canonical text."""
        rows = np.empty(len(tags), _ROW)
        halves = np.frombuffer(b"".join(tags), "u8").reshape(-1, 4)
        rows["high"], rows["low"], rows["yes"] = halves[:, 0], halves[:, 1], yes
        rows["scope"] = np.fromiter(map(hash, scopes), "i8", len(tags))
        rows["at"] = np.array([moment[:-1] for moment in moments], "M8[us]").view("i8")
        self._spool.write(rows.tobytes())
        self._count += len(rows)

    def rows(self) -> list[int] | None:
        """The numbers of rows, from 0 on, of these people: one of each. None where there are very many."""
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
    both = _of_both(rows)
    rows, numbers = rows[both], numbers[both]
    if not len(rows):
        return []
    order = np.lexsort((rows["scope"], rows["low"], rows["high"]))
    high, low, scope, at, yes = (rows[name][order] for name in ("high", "low", "scope", "at", "yes"))
    no_at, yes_at = np.where(yes, _NEVER, at), np.where(yes, at, -_NEVER)
    other_person = np.append(True, (high[1:] != high[:-1]) | (low[1:] != low[:-1]))
    other_scope = other_person | np.append(True, scope[1:] != scope[:-1])
    people, scopes = np.flatnonzero(other_person), np.flatnonzero(other_scope)
    no_to_all = np.minimum.reduceat(np.where(scope == _EVERYTHING, no_at, _NEVER), people)
    whose = (np.cumsum(other_person) - 1)[scopes]
    turns = np.maximum.reduceat(yes_at, scopes) > np.minimum(np.minimum.reduceat(no_at, scopes), no_to_all[whose])
    found: list[int] = numbers[order[people[np.unique(whose[turns])]]].tolist()
    return found


def _of_both(rows: NDArray[np.void]) -> NDArray[np.bool_]:
    """Those of all people who say yes and no, and of a few others: sorting is for these."""
    place = rows["high"] % np.uint64(_PLACES)
    said = np.zeros((2, _PLACES), np.bool_)
    said[rows["yes"], place] = True
    both: NDArray[np.bool_] = (said[0] & said[1])[place]
    return both
