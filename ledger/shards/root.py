"""The root of a set of subjects (ledger/log/prefix_tree.py has the rule), of many at once: a level of the tree at a time.

Of a million subjects three million hashes are made. Where they are many DuckDB makes them, on as many threads as the run has
workers: Python's own are made one after the other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ledger.log import prefix_tree
from ledger.log.prefix_tree import EMPTY, HASH_BYTES, PrefixTree
from ledger.shards import subtrees
from ledger.shards.subtrees import Subtrees

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]
Hash = Callable[[Any], Bytes]
"""From an array of large_binary to a table of hashes."""

_BYTES, _BITS = 8, 64  # of an index: as many tell the subjects of a set apart
_NODE = 1 + 2 * HASH_BYTES
_MANY = 1 << 14  # hashes: DuckDB takes a tenth of a second to start
_BATCH = 1 << 16  # hashes that a thread makes at a time


def root(ids: Any, rows: npt.NDArray[np.int64], seed: bytes, *, workers: int = 1, keep: Subtrees | None = None) -> bytes:
    """Of the tree in which each id, a pyarrow array of text, each once, has `{"rows": N}` of `rows` as its value.

    keep: is told the subtrees; it stays empty where two indexes begin alike.
    """
    if not len(ids):
        return EMPTY
    counts, which = np.unique(rows, return_inverse=True)
    values = [prefix_tree.value(b"", {"rows": count}) for count in counts.tolist()]
    with _hashing(len(ids), workers) as hashed:
        indexes = _indexes(ids.cast(pa.large_binary()), seed, hashed)
        place = indexes[:, :_BYTES].copy().view(">u8")[:, 0].astype(np.uint64)
        order = np.argsort(place)
        in_order = place[order]
        if keep is not None:
            keep.place = place
        place = in_order
        if (place[1:] == place[:-1]).any():  # rare: of a million subjects once in 37 million sets
            if keep is not None:
                keep.place = place[:0]
            pairs = zip(map(bytes, indexes), which.tolist(), strict=True)
            return PrefixTree((index, values[at]) for index, at in pairs).root()
        leaves = _two(0x10, len(order))
        leaves[:, 1 : 1 + HASH_BYTES], leaves[:, 1 + HASH_BYTES :] = indexes[order], _table(values)[which[order]]
        return _over(place, hashed(_binary(leaves)), hashed, keep)


def _indexes(ids: Any, seed: bytes, hashed: Hash) -> Bytes:
    if len(ids) < _MANY:
        return _table(prefix_tree.indexes(seed, ids.to_pylist()))
    head = pa.scalar(prefix_tree.index_head(seed), pa.large_binary())
    return hashed(pc.binary_join_element_wise(head, ids, pa.scalar(b"", pa.large_binary())))


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


def _over(place: Words, hashes: Bytes, hashed: Hash, keep: Subtrees | None) -> bytes:
    """place: of the leaves, in order. hashes: theirs; that of a subtree replaces the one of its first leaf."""
    hashes, depths = hashes.copy(), _depths(place)
    by_depth = np.argsort(depths, kind="stable")
    starts = np.searchsorted(depths[by_depth], np.arange(int(depths.max()) + 2))
    stand = by_depth[:0]  # the first leaf of each subtree whose top is at this depth
    if keep is not None:
        alone = depths <= subtrees.BITS
        keep.put(place[alone], hashes[alone])
    for depth in range(int(depths.max()), 0, -1):
        if keep is not None and depth == subtrees.BITS:
            keep.put(place[stand], hashes[stand])
        stand = np.sort(np.concatenate([stand, by_depth[starts[depth] : starts[depth + 1]]]))
        bits = place[stand] >> np.uint64(_BITS - depth)
        above, right = bits >> np.uint64(1), (bits & np.uint64(1)).astype(bool)
        first = np.ones(len(bits), bool)
        first[1:] = above[1:] != above[:-1]
        parent = np.cumsum(first) - 1
        nodes = _two(0x11, int(parent[-1]) + 1)
        nodes[parent[~right], 1 : 1 + HASH_BYTES] = hashes[stand[~right]]
        nodes[parent[right], 1 + HASH_BYTES :] = hashes[stand[right]]
        stand = stand[first]
        hashes[stand] = hashed(_binary(nodes))
    return hashes[0].tobytes()


def _two(domain: int, count: int) -> Bytes:
    """What is hashed of as many pairs: the domain's byte and both sides, each of them empty."""
    table = np.empty((count, _NODE), np.uint8)
    table[:] = np.frombuffer(bytes([domain]) + 2 * EMPTY, np.uint8)
    return table


def _binary(table: Bytes) -> Any:
    """The rows of a table of two sides."""
    ends = np.arange(0, (len(table) + 1) * _NODE, _NODE, dtype=np.int64)
    return pa.Array.from_buffers(pa.large_binary(), len(table), [None, pa.py_buffer(ends), pa.py_buffer(table)])


@contextlib.contextmanager
def _hashing(most: int, workers: int) -> Iterator[Hash]:
    """most: hashes that are made at once."""
    if most < _MANY:
        yield _in_python
        return
    import duckdb

    with duckdb.connect(":memory:", config={"enable_external_access": False, "threads": workers}) as con:

        def hashed(messages: Any) -> Bytes:
            if len(messages) < _MANY:
                return _in_python(messages)
            batches = pa.table({"message": messages}).to_batches(max_chunksize=_BATCH)
            view = con.from_arrow(pa.Table.from_batches(batches))
            made = view.project("sha256(message) as hash").to_arrow_table().column("hash")
            table = np.concatenate([_bytes_of(chunk) for chunk in made.chunks])
            assert len(table) == len(messages), "one each"
            return table

        yield hashed


def _bytes_of(hexadecimal: Any) -> Bytes:
    """Of an array of hashes in lower case."""
    text = hexadecimal.cast(pa.large_string())
    start = np.frombuffer(text.buffers()[1], np.int64)[text.offset]
    digits = np.frombuffer(text.buffers()[2], np.uint8, len(text) * 2 * HASH_BYTES, start)
    numbers = (digits & 15) + (digits >> 6) * 9  # "a" is 0x61
    table: Bytes = (numbers[::2] << 4 | numbers[1::2]).reshape(-1, HASH_BYTES)
    return table


def _in_python(messages: Any) -> Bytes:
    return _table([sha256(message).digest() for message in messages.to_pylist()])


def _table(hashes: list[bytes]) -> Bytes:
    return np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, HASH_BYTES)
