"""The root of a set of subjects (prefix_tree has the rule), of many at once: a level of the tree at a time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from ledger.log.prefix_tree import EMPTY, HASH_BYTES, PrefixTree, node

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Depths = npt.NDArray[np.int8]
Items = npt.NDArray[np.void]
Alike = Callable[[Bytes], Bytes]

_BYTES, _BITS = 8, 64  # of an index: as many tell the subjects of a set apart
_MIDDLE = np.uint64(1 << 63)
_LEAF, _NODE = 0x10, 0x11
_HASH = np.dtype(f"V{HASH_BYTES}")
"""As an item, which is copied whole: as a row of bytes it is copied byte by byte, in up to four times as long."""
_PAIR = np.dtype([("domain", "u1"), ("left", _HASH), ("right", _HASH)])
"""What is hashed of a leaf or a node."""
_NONE = np.frombuffer(EMPTY, _HASH)[0]

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
    place, keep = places(indexes), keep or _nobody
    sides = [np.arange(len(place))]
    if by_two and (level or keep is _nobody) and len(place) >= _WORTH_TWO:
        sides = [side for side in (np.flatnonzero(place < _MIDDLE), np.flatnonzero(place >= _MIDDLE)) if len(side)]
    above = len(sides) - 1  # levels that are left out

    def ordered(side: Ints) -> tuple[Ints, Words, Words]:
        """Its leaves, their places, and in which bits each differs from the one before it."""
        order = side.take(_order(place.take(side)))
        there = place.take(order)
        return order, there, there[1:] ^ there[:-1]

    def over(order: Ints, there: Words, differ: Words) -> bytes:
        leaves = np.empty(len(order), _PAIR)
        leaves["domain"] = _LEAF
        leaves["left"], leaves["right"] = _items(indexes).take(order), _items(values).take(order)
        hashes = alike(_rows(leaves))
        del leaves
        return _over(there, _shared(differ), hashes, alike, level, keep, above)

    with ThreadPoolExecutor(len(sides)) as threads:
        in_order = [*threads.map(ordered, sides)]
        if not all(differ.all() for _, _, differ in in_order):  # rare: of a million subjects once in 37 million sets
            return PrefixTree(zip(map(bytes, indexes), map(bytes, values), strict=True)).root()
        tops = [*threads.map(over, *zip(*in_order, strict=True))]
    return node(*tops) if above else tops[0]


def places(indexes: Bytes) -> Words:
    """The first 64 bits of each."""
    return indexes[:, :_BYTES].copy().view(">u8")[:, 0].astype(np.uint64)


def _order(place: Words) -> Ints:
    """As argsort has it. In less than half its time, as their numbers are sorted with them, in place of the last bits: those
    before tell nearly all sets apart.
    """
    last = np.uint64((1 << len(place).bit_length()) - 1)
    packed = (place & ~last) | np.arange(len(place), dtype=np.uint64)
    packed.sort()
    order = (packed & last).astype(np.int64)
    ordered = place.take(order)
    return order if (ordered[1:] >= ordered[:-1]).all() else np.argsort(place)


def _nobody(place: Words, hashes: Bytes) -> None:
    pass


def table(hashes: list[bytes]) -> Bytes:
    """A hash a row. hashes: one or more in each part."""
    return np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, HASH_BYTES)


def _items(rows: Bytes) -> Items:
    return np.ascontiguousarray(rows).view(_HASH)[:, 0]


def _rows(items: Items) -> Bytes:
    return items.view(np.uint8).reshape(len(items), items.itemsize)


def _shared(differ: Words) -> Depths:
    """How many bits each leaf shares with the one before it. differ: the bits in which they differ, never none."""
    # A bit that follows a set one does not count. Without it a float never rounds up to the next power of two.
    length = np.frexp((differ & ~(differ >> np.uint64(1))).astype(np.float64))[1]
    shared: Depths = (_BITS - length).astype(np.int8)
    return shared


def _over(
    place: Words, shared: Depths, leaves: Bytes, alike: Alike, level: int, keep: Callable[[Words, Bytes], None], above: int
) -> bytes:
    """place, leaves: of each leaf and its hash, in the order of place. shared: of each but the first. above: of the levels that
    are left out.

    A node has the number of the first leaf below it, and its hash stands where that leaf's stood. Each leaf but the first has one
    node at which it parts from those before it, and is the first on its right side.
    """
    hashes = _items(np.require(leaves, requirements="W"))
    none = np.array([-1], np.int8)
    parts = np.concatenate([none, shared])  # from the one before it, at the node of this depth
    upper = np.maximum(parts, np.concatenate([shared, none]))  # the node right above the leaf
    high = np.flatnonzero(np.maximum(upper + 1, above) <= level)
    keep(place.take(high), _rows(hashes.take(high)))
    by_depth = np.argsort(upper, kind="stable")
    starts = np.searchsorted(upper.take(by_depth), np.arange(_BITS + 1))
    nodes, room = by_depth[:0], np.empty(len(hashes) // 2, _PAIR)
    room["domain"] = _NODE
    for depth in range(int(upper.max()), above - 1, -1):
        # Whatever stands right below, in order: the two sides of a node are neighbours.
        below = np.concatenate([nodes, by_depth[starts[depth] : starts[depth + 1]]])
        below.sort(kind="stable")  # of two runs in order
        is_right = parts.take(below) == depth
        right, nodes = np.flatnonzero(is_right), below.take(np.flatnonzero(~is_right))
        left = right - np.arange(1, len(right) + 1)
        is_alone = place.take(nodes) & np.uint64(1 << _BITS - 1 - depth) != 0
        is_alone[left] = False
        alone = np.flatnonzero(is_alone)
        pairs = room[: len(nodes)]
        pairs["left"], pairs["right"] = hashes.take(nodes), _NONE
        pairs["right"][left] = hashes.take(below.take(right))
        pairs["right"][alone], pairs["left"][alone] = pairs["left"][alone], _NONE  # on the right side
        hashes.put(nodes, _items(alike(_rows(pairs))))
        if depth == level:
            keep(place.take(nodes), _rows(hashes.take(nodes)))
    top: bytes = hashes[0].tobytes()
    return top
