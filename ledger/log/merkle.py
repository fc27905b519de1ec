"""The Merkle tree of RFC 6962 §2.1 with SHA-256: roots, proofs, and their verification.

Trees are read through a `Node`, the hash of any perfect subtree, so that the same few lines prove over a list, over stored tiles
or over tiles that were fetched. Proofs are made by walking down the recursive definition (RFC 6962 §2.1.1, §2.1.2) and verified
bottom-up (RFC 9162 §2.1.3.2, §2.1.4.2), two ways that share no code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

from ledger.errors import VerificationError

HASH_BYTES = 32
_LEAF = sha256(b"\x00")  # begun once, and never fed itself: to copy what hashes takes less than to make it
EMPTY_ROOT = sha256().digest()

Node = Callable[[int, int], bytes]
"""node(level, index) is the hash of the perfect subtree over leaves [index * 2**level, (index + 1) * 2**level)."""


def leaf_hash(entry: bytes) -> bytes:
    whole = _LEAF.copy()
    whole.update(entry)
    return whole.digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def root(size: int, node: Node) -> bytes:
    """MTH of the first `size` leaves (RFC 6962 §2.1). Raises ValueError for a negative size."""
    if size < 0:
        raise ValueError(f"a tree of {size} leaves")
    return _range_hash(0, size, node) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, node: Node) -> list[bytes]:
    """PATH(index, D[size]), the leaf's sibling first (RFC 6962 §2.1.1). Raises ValueError unless 0 <= index < size."""
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} in a tree of {size}")
    start, end, path = 0, size, []
    while end - start > 1:
        level = _split_level(end - start)
        middle = start + (1 << level)
        if index < middle:
            path.append(_range_hash(middle, end, node))
            end = middle
        else:
            path.append(node(level, start >> level))
            start = middle
    return path[::-1]


def consistency_proof(old: int, new: int, node: Node) -> list[bytes]:
    """PROOF(old, D[new]) (RFC 6962 §2.1.2); empty where the sizes are equal. Raises ValueError unless 0 < old <= new."""
    if not 0 < old <= new:
        raise ValueError(f"there is no consistency proof from {old} to {new} leaves")
    start, end, proof = 0, new, []
    while end > old:
        level = _split_level(end - start)
        middle = start + (1 << level)
        if old <= middle:
            proof.append(_range_hash(middle, end, node))
            end = middle
        else:
            proof.append(node(level, start >> level))
            start = middle
    if start:  # else what remains is the whole old tree, whose root the verifier has
        proof.append(_range_hash(start, end, node))
    return proof[::-1]


def root_from_inclusion(leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """The root that the proof leads to (RFC 9162 §2.1.3.2). Raises VerificationError where its shape fits no such tree."""
    if not 0 <= index < size:
        raise VerificationError(f"the proof is for leaf {index} of a tree of {size}")
    _require_hashes(leaf_hash, *proof)
    place, last, result = index, size - 1, leaf_hash
    for sibling in proof:
        if not last:
            raise VerificationError("the inclusion proof is too long")
        if place & 1 or place == last:
            result = node_hash(sibling, result)
            place, last = _past_missing_siblings(place, last)
        else:
            result = node_hash(result, sibling)
        place, last = place >> 1, last >> 1
    if last:
        raise VerificationError("the inclusion proof is too short")
    return result


def verify_inclusion(leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Raises VerificationError unless the tree of `size` leaves with this root holds the leaf at `index`."""
    if root_from_inclusion(leaf_hash, index, size, proof) != root:
        raise VerificationError(f"the inclusion proof of entry {index} does not lead to the root of the tree of {size}")


def verify_consistency(old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Raises VerificationError unless the old tree is a prefix of the new one (RFC 9162 §2.1.4.2).

    An old tree without leaves is refused: every tree extends it, so that a proof would say nothing.
    """
    if not 0 < old_size <= new_size:
        raise VerificationError(f"a tree of {new_size} cannot be shown to extend a tree of {old_size}")
    if old_size == new_size:
        if proof or old_root != new_root:
            raise VerificationError(f"two different trees of {old_size}")
        return
    if not proof:
        raise VerificationError("the consistency proof is empty")
    first, *rest = proof if old_size & (old_size - 1) else (old_root, *proof)
    _require_hashes(first, *rest)
    place, last = _past_complete_pairs(old_size - 1, new_size - 1)
    old, new = first, first
    for sibling in rest:
        if not last:
            raise VerificationError("the consistency proof is too long")
        if place & 1 or place == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            place, last = _past_missing_siblings(place, last)
        else:
            new = node_hash(new, sibling)
        place, last = place >> 1, last >> 1
    if last:
        raise VerificationError("the consistency proof is too short")
    if old != old_root or new != new_root:
        raise VerificationError(f"the tree of {new_size} does not extend the tree of {old_size}")


class RightEdge:
    """A tree that only grows, kept as the roots of its largest perfect subtrees: all that appending needs.

    `hashes` has one for each bit of `size` that is set, the largest subtree first. Raises ValueError where they do not fit.
    """

    __slots__ = ("_hashes", "_size")

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        self._size = size
        self._hashes = list(hashes)
        if size < 0 or len(self._hashes) != size.bit_count() or any(len(part) != HASH_BYTES for part in self._hashes):
            raise ValueError(f"these are not the {max(size, 0).bit_count()} hashes of the right edge of a tree of {size}")

    @property
    def size(self) -> int:
        return self._size

    @property
    def hashes(self) -> tuple[bytes, ...]:
        return tuple(self._hashes)

    def append(self, leaf_hash: bytes) -> None:
        size, edge = self._size, self._hashes
        while size & 1:
            leaf_hash = node_hash(edge.pop(), leaf_hash)
            size >>= 1
        edge.append(leaf_hash)
        self._size += 1

    def extend(self, leaf_hashes: Iterable[bytes]) -> None:
        """Add leaves on the right, all of them a level at a time."""
        digest = sha256
        nodes = list(leaf_hashes)
        added, size, edge, smallest_first = len(nodes), self._size, self._hashes.copy(), []
        while nodes or size:
            if size & 1:
                nodes.insert(0, edge.pop())
            if len(nodes) & 1:
                smallest_first.append(nodes.pop())
            pairs = iter(nodes)
            nodes = [digest(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=True)]
            size >>= 1
        self._size += added
        self._hashes = smallest_first[::-1]

    def root(self) -> bytes:
        return _fold(self._hashes) if self._size else EMPTY_ROOT


def _split_level(width: int) -> int:
    """Of the left part, the largest power of two smaller than the width, which is at least 2."""
    return (width - 1).bit_length() - 1


def _range_hash(start: int, end: int, node: Node) -> bytes:
    """MTH(D[start:end]) of a range that the definition splits off: `start` is a multiple of a power of two >= the width."""
    width = end - start
    if not width & width - 1:  # as most are
        return node(width.bit_length() - 1, start // width)
    parts = []
    while start < end:
        level = (end - start).bit_length() - 1
        parts.append(node(level, start >> level))
        start += 1 << level
    return _fold(parts)


def _fold(perfect: Sequence[bytes]) -> bytes:
    """The root over adjoining perfect subtrees, the largest first."""
    *rest, result = perfect
    for left in reversed(rest):
        result = node_hash(left, result)
    return result


def _past_missing_siblings(place: int, last: int) -> tuple[int, int]:
    """Up past the levels at which a node at the right edge stands alone: there the proof holds nothing."""
    while place and not place & 1:
        place, last = place >> 1, last >> 1
    return place, last


def _past_complete_pairs(place: int, last: int) -> tuple[int, int]:
    """Up to the largest perfect subtree that ends at `place`: there a consistency proof begins."""
    while place & 1:
        place, last = place >> 1, last >> 1
    return place, last


def _require_hashes(*values: bytes) -> None:
    """Of 32 bytes each: with other lengths, two different pairs could hash alike."""
    if any(len(value) != HASH_BYTES for value in values):
        raise VerificationError("the proof holds something that is not a SHA-256 hash")
