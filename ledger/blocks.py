"""A file's bytes, known by the SHA-256 of each of its blocks: whoever has those reads any part of it, and is handed nothing else.

Two readers hold files to this: a training job, for which a whole pass before the first row would double the reading, and a
selection that is made again, which needs the key columns of shards that were hashed before.
"""

from __future__ import annotations

import hashlib
import io
from collections import OrderedDict
from concurrent.futures import Executor, Future
from typing import BinaryIO, Protocol

from ledger.errors import VerificationError

BLOCK = 1 << 20
"""Bytes of a block; the last one of a file may have fewer."""

DIGEST = 32
_HELD = 32
"""Blocks that are kept: columns are read side by side, and a block may hold parts of several."""

Digests = tuple[str, bytes, int]


class Readable(Protocol):
    """read() returns all that was asked for, or the end of the file."""

    def read(self, size: int, /) -> bytes: ...


def digests(file: Readable) -> Digests:
    """Of all that a file holds from here on: its SHA-256 in hexadecimal, that of each block, one after another, and its bytes."""
    whole, blocks, size = hashlib.sha256(), [], 0
    while block := file.read(BLOCK):
        whole.update(block)
        blocks.append(hashlib.sha256(block).digest())
        size += len(block)
    return whole.hexdigest(), b"".join(blocks), size


def count(size: int) -> int:
    """Blocks of a file of so many bytes."""
    return -(-size // BLOCK)


class Authentic(io.RawIOBase):
    """A file, read at need, none of whose bytes is handed on before its block has the digest that it should have.

    ahead: reads and hashes the next block meanwhile, where blocks follow each other. It has one thread: the file has one place.
    Raises VerificationError, which says what `changed` says. read() returns all that was asked for, or the end of the file.
    """

    def __init__(self, file: BinaryIO, size: int, blocks: bytes, changed: str, ahead: Executor | None = None) -> None:
        self._source, self._size, self._blocks, self._changed, self._ahead = file, size, blocks, changed, ahead
        self._at = 0
        self._held: OrderedDict[int, Future[bytes]] = OrderedDict()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._source.fileno()

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        return bytes(self.read_buffer(size))

    def read_buffer(self, size: int | None = -1, /) -> bytes | memoryview:
        """The same; what lies in one block is not copied. Arrow asks for this where a file has it."""
        end = self._size if size is None or size < 0 else min(self._size, self._at + size)
        pieces: list[memoryview] = []
        while self._at < end:
            block, skip = self._block(self._at // BLOCK), self._at % BLOCK
            pieces.append(memoryview(block)[skip : skip + end - self._at])
            self._at += len(pieces[-1])
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        self._source.close()
        super().close()

    def _block(self, number: int) -> bytes:
        held = self._begin(number)
        if self._ahead is not None and number - 1 in self._held and number + 1 < count(self._size):
            self._begin(number + 1)
        return held.result()

    def _begin(self, number: int) -> Future[bytes]:
        held = self._held.get(number)
        if held is None:
            if self._ahead is not None:
                held = self._ahead.submit(self._load, number)
            else:
                held = Future()
                held.set_result(self._load(number))
            self._held[number] = held
            if len(self._held) > _HELD:
                self._held.popitem(last=False)
        self._held.move_to_end(number)
        return held

    def _load(self, number: int) -> bytes:
        self._source.seek(number * BLOCK)
        block = self._source.read(min(BLOCK, self._size - number * BLOCK))
        if hashlib.sha256(block).digest() != self._blocks[DIGEST * number : DIGEST * (number + 1)]:
            raise VerificationError(self._changed, hint="leave shards alone that are in use, and open them again")
        return block
