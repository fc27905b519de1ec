"""Who is in a shard, as a file of a run's index: in parts, by the first bits of the hashes. Whether some of a few people are
among them is told from its head, whose digest is the file's, and the parts where they would be, whose digests the head has.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

_COUNTS = tuple(np.dtype(kind) for kind in ("u1", "<u2", "<u4", "<i8"))
_PART, _MOST_BITS = 1024, 16
_FIRST, _DIGEST = 24, 32
_AT_ONCE = 1 << 12
"""Bytes of a file that are read first: most often all of its head."""


@dataclass(frozen=True)
class _Head:
    """Of the file's beginning. keys, others: where each part begins among these, and where the last one ends."""

    size: int
    bits: int
    keys: list[int]
    others: list[int]
    digests: bytes

    @classmethod
    def read(cls, file: int, digest: str) -> _Head | None:
        data = os.pread(file, _AT_ONCE, 0)
        if len(data) < _FIRST or (bits := int.from_bytes(data[16:_FIRST], "little")) > _MOST_BITS:
            return None
        parts, size = 1 << bits, _size(bits)
        data = data[:size] if size <= _AT_ONCE else os.pread(file, size, 0)
        if len(data) < size or sha256(data).hexdigest() != digest:
            return None
        bounds = np.frombuffer(data, "<u8", 2 * (parts + 1), _FIRST).tolist()
        return cls(size, bits, bounds[: parts + 1], bounds[parts + 1 :], data[_FIRST + 16 * (parts + 1) :])

    def part(self, file: int, part: int) -> tuple[Hashes, Hashes] | None:
        known = self._read(file, self.size, *self.keys[part : part + 2])
        others = self._read(file, self.size + 8 * self.keys[-1], *self.others[part : part + 2])
        if sha256(known + others).digest() != self.digests[part * _DIGEST : (part + 1) * _DIGEST]:
            return None
        return np.frombuffer(known, "<u8"), np.frombuffer(others, "<u8")

    @staticmethod
    def _read(file: int, base: int, first: int, end: int) -> bytes:
        return os.pread(file, 8 * (end - first), base + 8 * first) if first < end else b""


def _size(bits: int) -> int:
    return _FIRST + 16 * ((1 << bits) + 1) + _DIGEST * ((1 << bits) + 1)


@cache
def _edges(bits: int) -> Hashes:
    """The first hash that each part but the first may have."""
    return np.arange(1, 1 << bits, dtype=np.uint64) << np.uint64(64 - bits if bits else 0)


@dataclass(frozen=True)
class Held:
    """keys: in order, the hashes of those whom the ledger knew; rows: of how many kept rows each; others: the hashes of all
    others, in order."""

    keys: Hashes
    rows: Ints
    others: Hashes

    def packed(self) -> tuple[bytes, bytes]:
        """The file: its head and the rest."""
        bits = min(_MOST_BITS, ((len(self.keys) + len(self.others)) // _PART).bit_length())
        edges = _edges(bits)
        keys, others = (np.concatenate([[0], np.searchsorted(some, edges), [len(some)]]) for some in (self.keys, self.others))
        known, more, counts = pack(self.keys), pack(self.others), pack_counts(self.rows)
        bounds = zip((8 * keys).tolist(), (8 * keys[1:]).tolist(), (8 * others).tolist(), (8 * others[1:]).tolist(), strict=False)
        digests = [sha256(known[a:b] + more[c:d]).digest() for a, b, c, d in bounds]
        head = np.concatenate([[len(self.keys), len(self.others), bits], keys, others]).astype("<u8").tobytes()
        return head + b"".join([*digests, sha256(counts).digest()]), known + more + counts


def read(file: int, digest: str) -> Held | None:
    """All of a file, by its descriptor. None where it is another, or torn."""
    if (head := _Head.read(file, digest)) is None:
        return None
    parts = []
    for number in range(1 << head.bits):
        if (part := head.part(file, number)) is None:
            return None
        parts.append(part)
    at = head.size + 8 * (head.keys[-1] + head.others[-1])
    counts = os.pread(file, max(0, os.fstat(file).st_size - at), at)
    rows = unpack_counts(counts, head.keys[-1])
    if rows is None or sha256(counts).digest() != head.digests[-_DIGEST:]:
        return None
    return Held(np.concatenate([keys for keys, _ in parts]), rows, np.concatenate([others for _, others in parts]))


def has_any(file: int, digest: str, asked: Hashes) -> bool | None:
    """Whether any of these is among a file's. None where what would tell is another, or torn. asked: in order."""
    if (head := _Head.read(file, digest)) is None:
        return None
    bounds = [0, *asked.searchsorted(_edges(head.bits)).tolist(), len(asked)]
    for number, (first, end) in enumerate(pairwise(bounds)):
        if first == end:
            continue
        if (part := head.part(file, number)) is None:
            return None
        if any(_share(asked[first:end], some) for some in part):
            return True
    return False


def _share(some: Hashes, others: Hashes) -> bool:
    """Whether any is among both. Asked of each of a thousand shards, for one person most often: as few calls as can be."""
    few, many = (some, others) if len(some) < len(others) else (others, some)
    return many.searchsorted(few).tobytes() != many.searchsorted(few, "right").tobytes()


def pack(*columns: Hashes) -> bytes:
    return b"".join(np.ascontiguousarray(column, "<u8").tobytes() for column in columns)


def pack_counts(counts: Ints) -> bytes:
    """In as few bytes each as the greatest one takes."""
    kind = next(kind for kind in _COUNTS if not len(counts) or counts.max() <= np.iinfo(kind).max)
    return counts.astype(kind).tobytes()


def unpack_counts(data: bytes, count: int) -> Ints | None:
    """None for what cannot be so many."""
    kind = next((kind for kind in _COUNTS if kind.itemsize * count == len(data)), None)
    return None if kind is None else np.frombuffer(data, kind).astype(np.int64)


def meet(some: Hashes, keys: Hashes) -> npt.NDArray[np.bool_]:
    """Of each key, whether it is among some. Both in order."""
    found = np.zeros(len(keys), bool)
    if len(some) and len(keys):
        if len(some) < len(keys):
            at = np.minimum(np.searchsorted(keys, some), len(keys) - 1)
            found[at[keys[at] == some]] = True
        else:
            at = np.minimum(np.searchsorted(some, keys), len(some) - 1)
            found = some[at] == keys
    return found
