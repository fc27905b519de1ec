"""The root of a set of subjects (prefix_tree has the rule), of many at once: a level of the tree at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ledger.log.prefix_tree import EMPTY, HASH_BYTES, PrefixTree

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]
Alike = Callable[[bytes, bytes, int], bytes]

_BYTES, _BITS = 8, 64  # of an index: as many tell the subjects of a set apart


def root(
    indexes: Bytes, values: Bytes, alike: Alike, level: int = 0, keep: Callable[[Words, Bytes], None] | None = None
) -> bytes:
    """Of the tree of these leaves, both of 32 bytes a row, in any order. Raises ValueError where an index comes twice.

    alike: see `ledger.hashing_program.alike`.

    keep: is told what stands at this level, and the leaves above it: the first 64 bits of an index below each, and the hashes;
    of leaves whose first 64 bits are alike nothing.
    """
    if not len(indexes):
        return EMPTY
    place = places(indexes)
    order = np.argsort(place)
    place = place[order]
    if (place[1:] == place[:-1]).any():  # rare: of a million subjects once in 37 million sets
        return PrefixTree(zip(map(bytes, indexes), map(bytes, values), strict=True)).root()
    leaves = _hashes(0x10, np.concatenate([indexes, values], axis=1)[order], alike)
    return _over(place, leaves, alike, level, keep or _nobody).tobytes()


def places(indexes: Bytes) -> Words:
    """The first 64 bits of each."""
    return indexes[:, :_BYTES].copy().view(">u8")[:, 0].astype(np.uint64)


def _nobody(place: Words, hashes: Bytes) -> None:
    pass


def table(hashes: list[bytes]) -> Bytes:
    """A hash a row. hashes: one or more in each part."""
    return np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, HASH_BYTES)


def _depths(place: Words) -> npt.NDArray[np.int64]:
    """How deep each leaf stands: one below the bits that it shares with the nearer of its neighbours."""
    differ = place[1:] ^ place[:-1]
    # In halves: a float has too few bits for 64, and would round up to the next power of two.
    high = (differ >> np.uint64(32)).astype(np.float64)
    low = (differ & np.uint64(0xFFFFFFFF)).astype(np.float64)
    length = np.where(high > 0, np.frexp(high)[1] + 32, np.frexp(low)[1])
    below = np.concatenate([[0], _BITS - length + 1, [0]])
    deepest: npt.NDArray[np.int64] = np.maximum(below[1:], below[:-1]).astype(np.int64)
    return deepest


def _over(place: Words, leaves: Bytes, alike: Alike, level: int, keep: Callable[[Words, Bytes], None]) -> Bytes:
    """place, leaves: in the order of place."""
    depths = _depths(place)
    keep(place[depths <= level], leaves[depths <= level])
    bits: Words = place[:0]
    hashes: Bytes = leaves[:0]
    by_depth = np.argsort(depths, kind="stable")
    starts = np.searchsorted(depths[by_depth], np.arange(int(depths.max()) + 2))
    for depth in range(int(depths.max()), 0, -1):
        if depth == level:
            keep(bits, hashes)
        here = by_depth[starts[depth] : starts[depth + 1]]
        bits, hashes = np.concatenate([bits, place[here]]), np.concatenate([hashes, leaves[here]])
        order = np.argsort(bits, kind="stable")
        bits, hashes = bits[order], hashes[order]
        above = bits >> np.uint64(_BITS - depth + 1) if depth > 1 else np.zeros(len(bits), np.uint64)
        first = np.ones(len(bits), bool)
        first[1:] = above[1:] != above[:-1]
        parent = np.cumsum(first) - 1
        sides = np.empty((int(parent[-1]) + 1, 2, HASH_BYTES), np.uint8)
        sides[:] = np.frombuffer(EMPTY, np.uint8)
        side = (bits >> np.uint64(_BITS - depth) & np.uint64(1)).astype(np.int64)
        sides[parent, side] = hashes
        bits, hashes = bits[first], _hashes(0x11, sides, alike)
    return hashes if len(hashes) else leaves


def _hashes(domain: int, sides: Bytes, alike: Alike) -> Bytes:
    """SHA-256 of the domain's byte and both sides, for each row."""
    return table([alike(bytes([domain]), sides.tobytes(), 2 * HASH_BYTES)])
