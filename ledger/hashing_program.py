"""SHA-256 of many short texts; as a program, of those that it is sent. Nothing but the standard library is imported here."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from hashlib import sha256
from struct import iter_unpack
from typing import IO, Any

_WORD = 8


def each(head: bytes, data: Any, ends: Iterable[int]) -> bytes:
    """The hashes, one after another, of the parts of data, from the first byte on, up to each end, with head before each.

    data: any buffer.
    """
    # A copy of what has hashed the head is made in less time than a new one: OpenSSL looks its algorithm up each time.
    begun, start, hashes = sha256(head).copy, 0, []
    for end in ends:
        one = begun()
        one.update(data[start:end])
        hashes.append(one.digest())
        start = end
    return b"".join(hashes)


def alike(data: Any, size: int) -> bytes:
    """As `each`, of parts of so many bytes, with nothing before them."""
    return b"".join([sha256(part).digest() for (part,) in iter_unpack(f"{size}s", data)])


def serve(source: IO[bytes], sink: IO[bytes]) -> None:
    """Answer until the source ends. Of each question: size of head, of each part (0: they differ), of data; head; number of ends
    and ends, where sizes differ; data."""
    while len(sizes := source.read(3 * _WORD)) == 3 * _WORD:
        head_size, size, data_size = memoryview(sizes).cast("q")
        head = source.read(head_size)
        if size:
            sink.write(alike(source.read(data_size), size))
        else:
            count = memoryview(source.read(_WORD)).cast("q")[0]
            ends = memoryview(source.read(count * _WORD)).cast("q")
            sink.write(each(head, source.read(data_size), ends))
        sink.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
