"""SHA-256 of many short texts, on two cores.

hashlib lets other threads of Python run only while it hashes long texts. So every other part of many short ones goes to a second
process, `hashing_program`, that reads its standard input and ends with it. Where it cannot be started, or ends early, all is
hashed here.
"""

from __future__ import annotations

import subprocess
from array import array
from contextlib import suppress
from types import TracebackType
from typing import Any

from ledger import cores, hashing_program
from ledger.hashing_program import alike, each

_WORTH_IT = 100_000
"""Texts that take longer to hash than a process to start."""
_FEW = 5_000
_HASH = 32


class Hashers:
    """As a context manager: this process, and a second one where so many texts are expected that it is worth it."""

    def __init__(self, texts: int) -> None:
        self._other: subprocess.Popen[bytes] | None = None
        if texts >= _WORTH_IT and (python := cores.python()) is not None:
            with suppress(OSError):
                self._other = subprocess.Popen(  # noqa: S603 - our own file
                    [python, "-I", "-S", hashing_program.__file__],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # what interrupts this process ends that one by its input
                )

    def __enter__(self) -> Hashers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()

    def each(self, head: bytes, data: bytes, ends: Any) -> bytes:
        """`each` of all. ends: a buffer of 64-bit integers, such as a NumPy array."""
        all_ends = memoryview(ends).cast("B").cast("q")
        half = len(all_ends) // 2
        if self._other is None or len(all_ends) < _FEW:
            return each(head, data, all_ends)
        middle = all_ends[half - 1]
        theirs = array("q", [end - middle for end in all_ends[half:]])
        rest = memoryview(data)[middle : all_ends[-1]]
        asked = self._ask(array("q", [len(head), 0, len(rest)]), head, array("q", [len(theirs)]), theirs, rest)
        own = each(head, data, all_ends[:half])
        told = self._told(_HASH * len(theirs)) if asked else None
        return own + (each(head, bytes(rest), theirs) if told is None else told)

    def alike(self, head: bytes, data: bytes, size: int) -> bytes:
        """`alike` of all."""
        count = len(data) // size
        if self._other is None or count < _FEW:
            return alike(head, data, size)
        own, rest = data[: count // 2 * size], data[count // 2 * size :]
        asked = self._ask(array("q", [len(head), size, len(rest)]), head, rest)
        hashes = alike(head, own, size)
        told = self._told(_HASH * (len(rest) // size)) if asked else None
        return hashes + (alike(head, rest, size) if told is None else told)

    def _ask(self, *parts: array[int] | bytes | memoryview) -> bool:
        assert self._other is not None
        assert self._other.stdin is not None
        try:
            for part in parts:
                self._other.stdin.write(part)
            self._other.stdin.flush()
        except OSError:
            self._stop()
            return False
        return True

    def _told(self, size: int) -> bytes | None:
        assert self._other is not None
        assert self._other.stdout is not None
        told = self._other.stdout.read(size)
        if len(told) == size:
            return told
        self._stop()
        return None

    def _stop(self) -> None:
        if (other := self._other) is not None:
            self._other = None
            other.kill()
            with suppress(OSError):
                other.communicate()
