"""The tree over a set of subjects (see root), kept so that its root costs what has changed: the hashes that stand twelve levels
down, over those whose indexes share their first twelve bits, and where each subject stands.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ledger.log import prefix_tree
from ledger.log.prefix_tree import EMPTY, HASH_BYTES, SEED_BYTES

BITS = 12
_COUNT = 1 << BITS
_SHIFT = np.uint64(64 - BITS)
_MOST = _COUNT // 4
"""Subtrees to hash again one by one; of more, the whole tree is hashed anew, all of a level at once."""

Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Buckets = npt.NDArray[np.uint16]
Pairs = Sequence[tuple[bytes, bytes]]


class Subtrees:
    """place: of each leaf, the first 64 bits of its index; in whatever order the leaves were named."""

    def __init__(self) -> None:
        self.place: Words = np.zeros(0, np.uint64)
        self.hashes = np.tile(np.frombuffer(EMPTY, np.uint8), (_COUNT, 1))
        self.told = False

    def put(self, place: Words, hashes: npt.NDArray[np.uint8]) -> None:
        """place: of any leaf below each of the subtrees whose hashes these are."""
        self.hashes[bucket(place)] = hashes
        self.told = True


def bucket(place: Words) -> Buckets:
    """Below which of the subtrees."""
    return (place >> _SHIFT).astype(np.uint16)


def pack(seed: bytes, hashes: npt.NDArray[np.uint8], buckets: Buckets) -> bytes:
    """buckets: by key, whatever it is for those who are not in the set."""
    return seed + hashes.tobytes() + buckets.astype("<u2", copy=False).tobytes()


def unpack(data: bytes, keys: int) -> tuple[bytes, npt.NDArray[np.uint8], Buckets] | None:
    """seed, hashes and buckets. None for what is none of so many keys."""
    head = SEED_BYTES + _COUNT * HASH_BYTES
    if len(data) != head + 2 * keys:
        return None
    hashes = np.frombuffer(data[SEED_BYTES:head], np.uint8).reshape(_COUNT, HASH_BYTES).copy()
    buckets = np.frombuffer(data, "<u2", offset=head).astype(np.uint16, copy=False)
    return data[:SEED_BYTES], hashes, buckets


def few(touched: Buckets) -> bool:
    return len(touched) <= _MOST


def under(pairs: Pairs, depth: int = BITS) -> bytes:
    """The hash over (index, value) pairs, in order, that share their first `depth` bits."""
    if len(pairs) < 2:
        return prefix_tree.leaf(*pairs[0]) if pairs else EMPTY
    middle = next((at for at, (index, _) in enumerate(pairs) if prefix_tree.bit(index, depth)), len(pairs))
    return prefix_tree.node(under(pairs[:middle], depth + 1), under(pairs[middle:], depth + 1))


def root(hashes: npt.NDArray[np.uint8], counts: Ints) -> bytes:
    """Over all subtrees. counts: of the leaves below each; a leaf that is alone stands as high as it is alone."""
    level = list(zip(counts.tolist(), map(bytes, hashes), strict=True))
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=True)
        level = [_over(left, right) for left, right in pairs]
    return level[0][1]


def _over(left: tuple[int, bytes], right: tuple[int, bytes]) -> tuple[int, bytes]:
    count = left[0] + right[0]
    if count > 1:
        return count, prefix_tree.node(left[1], right[1])
    return (1, left[1] if left[0] else right[1]) if count else (0, EMPTY)


def counts(buckets: Buckets) -> Ints:
    return np.bincount(buckets, minlength=_COUNT)
