"""SHA-256 of many short texts; as a program, of those that it is sent. Nothing but the standard library is imported here."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from hashlib import sha256
from itertools import chain, pairwise
from typing import IO

_WORD = 8


def each(head: bytes, data: bytes, ends: Iterable[int]) -> bytes:
    """The hashes, one after another, of the parts of data, from the first byte on, up to each end, with head before each."""
    return b"".join([sha256(head + data[start:end]).digest() for start, end in pairwise(chain((0,), ends))])


def serve(source: IO[bytes], sink: IO[bytes]) -> None:
    """Answer until the source ends. Of each question: sizes of head and ends, head, ends, data."""
    while len(sizes := source.read(2 * _WORD)) == 2 * _WORD:
        head_size, count = memoryview(sizes).cast("q")
        head, ends = source.read(head_size), memoryview(source.read(count * _WORD)).cast("q")
        sink.write(each(head, source.read(ends[-1]), ends))
        sink.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
