"""SHA-256 of many short texts, on two cores.

hashlib lets other threads of Python run only while it hashes long texts. So every other part of many short ones goes to a second
process: this very file, run as a program without anything but the standard library, that reads from its standard input and ends
with it. Where it cannot be started, or ends early, all is hashed here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from array import array
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from itertools import chain, pairwise
from types import TracebackType
from typing import IO, Any

_WORTH_IT = 100_000
"""Texts that take longer to hash than a process to start."""
_FEW = 5_000
_WORD = 8
_HASH = 32


def each(head: bytes, data: bytes, ends: Iterable[int]) -> bytes:
    """The hashes, one after another, of the parts of data, from the first byte on, up to each end, with head before each."""
    return b"".join([sha256(head + data[start:end]).digest() for start, end in pairwise(chain((0,), ends))])


class Hashers:
    """As a context manager: this process, and a second one where so many texts are expected that it is worth it."""

    def __init__(self, texts: int) -> None:
        self._other: subprocess.Popen[bytes] | None = None
        if texts >= _WORTH_IT and sys.executable and len(os.sched_getaffinity(0)) > 1:
            with suppress(OSError):
                self._other = subprocess.Popen(  # noqa: S603 - this file, by this Python
                    [sys.executable, "-I", "-S", __file__],
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
        asked = self._ask(head, memoryview(data)[middle : all_ends[-1]], theirs)
        own = each(head, data, all_ends[:half])
        told = self._told(_HASH * len(theirs)) if asked else None
        return own + (each(head, data[middle:], theirs) if told is None else told)

    def _ask(self, head: bytes, data: memoryview, ends: array[int]) -> bool:
        assert self._other is not None
        assert self._other.stdin is not None
        try:
            for part in (array("q", [len(head), len(ends)]), head, ends, data):
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


def serve(source: IO[bytes], sink: IO[bytes]) -> None:
    """Answer until the source ends. Of each question: sizes of head and ends, head, ends, data."""
    while len(sizes := source.read(2 * _WORD)) == 2 * _WORD:
        head_size, count = memoryview(sizes).cast("q")
        head, ends = source.read(head_size), memoryview(source.read(count * _WORD)).cast("q")
        sink.write(each(head, source.read(ends[-1]), ends))
        sink.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
