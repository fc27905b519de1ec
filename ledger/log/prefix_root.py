"""The root of a set of subjects (prefix_tree has the rule), of many at once: a level of the tree at a time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from ledger.log.prefix_tree import EMPTY, HASH_BYTES, PrefixTree, node

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]
Alike = Callable[[Bytes], Bytes]

_BYTES, _BITS = 8, 64  # of an index: as many tell the subjects of a set apart
_MIDDLE = np.uint64(1 << 63)
_LEAF, _NODE = 0x10, 0x11
_LEFT, _RIGHT = slice(1, 1 + HASH_BYTES), slice(1 + HASH_BYTES, 1 + 2 * HASH_BYTES)


_WORTH_TWO = 1 << 14
"""Leaves that take longer to hash than two threads to start."""


def root(
    indexes: Bytes,
    values: Bytes,
    alike: Alike,
    level: int = 0,
    keep: Callable[[Words, Bytes], None] | None = None,
    *,
    by_two: bool = False,
) -> bytes:
    """Of the tree of these leaves, both of 32 bytes a row, in any order. Raises ValueError where an index comes twice.

    alike: SHA-256 of each row, a hash a row. by_two: two threads may ask for hashes at once, each for one side of the tree.

    keep: is told what stands at this level, and the leaves above it: the first 64 bits of an index below each, and the hashes;
    of leaves whose first 64 bits are alike nothing.
    """
    if not len(indexes):
        return EMPTY
    place = places(indexes)
    order = np.argsort(place)
    place = place[order]
    differ = place[1:] ^ place[:-1]
    if not differ.all():  # rare: of a million subjects once in 37 million sets
        return PrefixTree(zip(map(bytes, indexes), map(bytes, values), strict=True)).root()
    shared, keep = _shared(differ), keep or _nobody

    def over(first: int, end: int, above: int) -> Bytes:
        leaves = _pairs(_LEAF, end - first)
        leaves[:, _LEFT] = np.take(indexes, order[first:end], axis=0)
        leaves[:, _RIGHT] = np.take(values, order[first:end], axis=0)
        hashes = alike(leaves)
        del leaves
        return _over(place[first:end], shared[first : end - 1], hashes, alike, level, keep, above)

    middle = int(np.searchsorted(place, _MIDDLE)) if by_two and (level or keep is _nobody) and len(order) >= _WORTH_TWO else 0
    if not 0 < middle < len(order):
        return over(0, len(order), 0).tobytes()
    with ThreadPoolExecutor(2) as threads:
        sides = threads.map(over, (0, middle), (middle, len(order)), (1, 1))
        return node(*(side.tobytes() for side in sides))


def places(indexes: Bytes) -> Words:
    """The first 64 bits of each."""
    return indexes[:, :_BYTES].copy().view(">u8")[:, 0].astype(np.uint64)


def _nobody(place: Words, hashes: Bytes) -> None:
    pass


def table(hashes: list[bytes]) -> Bytes:
    """A hash a row. hashes: one or more in each part."""
    return np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, HASH_BYTES)


def _pairs(domain: int, count: int) -> Bytes:
    """Room for what is hashed of so many leaves or nodes: the domain's byte, and both sides."""
    pairs = np.empty((count, _RIGHT.stop), np.uint8)
    pairs[:, 0] = domain
    return pairs


def _shared(differ: Words) -> Bytes:
    """How many bits each leaf shares with the one before it. differ: the bits in which they differ, never none."""
    # A bit that follows a set one does not count. Without it a float never rounds up to the next power of two.
    length = np.frexp((differ & ~(differ >> np.uint64(1))).astype(np.float64))[1]
    shared: Bytes = (_BITS - length).astype(np.uint8)
    return shared


def _over(
    place: Words, shared: Bytes, hashes: Bytes, alike: Alike, level: int, keep: Callable[[Words, Bytes], None], above: int
) -> Bytes:
    """place, hashes: of the leaves, in the order of place. shared: of each but the first. above: of the levels that are left out.

    A node has the number of the first leaf below it, and its hash stands where that leaf's stood; so nothing is ever moved or
    sorted. Each leaf but the first has one node at which it parts from those before it, and is the first on its right side.
    """
    hashes = hashes.copy()
    size = len(hashes)
    deepest = np.concatenate([[above], shared + 1, [above]])  # the node over each leaf and the one before it, and one below
    high = np.flatnonzero(np.maximum(deepest[1:], deepest[:-1]) <= level)
    keep(place[high], hashes[high])
    # The leaves below a node are a run. Of a run's first leaf the last one, and of its last the first.
    last, first = np.arange(size), np.arange(size)
    parting = np.argsort(shared, kind="stable")
    starts = np.searchsorted(shared[parting], np.arange(_BITS + 1))
    nodes, taken = parting[:0], np.zeros(size, bool)
    for depth in range(int(shared.max(initial=0)), above - 1, -1) if size > 1 else ():
        right = parting[starts[depth] : starts[depth + 1]] + 1
        left, end = first[right - 1], last[right]
        last[left], first[end] = end, left
        taken[left] = taken[right] = True
        alone = nodes[~taken[nodes]]
        taken[left] = False
        pairs = _pairs(_NODE, len(left) + len(alone))
        pairs[: len(left), _LEFT] = np.take(hashes, left, axis=0)
        pairs[: len(left), _RIGHT] = np.take(hashes, right, axis=0)
        is_right = (place[alone] >> np.uint64(_BITS - 1 - depth) & np.uint64(1)).astype(bool)[:, np.newaxis]
        own, none = np.take(hashes, alone, axis=0), np.frombuffer(EMPTY, np.uint8)
        pairs[len(left) :, _LEFT] = np.where(is_right, none, own)
        pairs[len(left) :, _RIGHT] = np.where(is_right, own, none)
        nodes = np.concatenate([left, alone])
        hashes[nodes] = alike(pairs)
        if depth == level:
            keep(place[nodes], hashes[nodes])
    top: Bytes = hashes[0]
    return top
