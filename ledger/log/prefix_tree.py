"""A set of subjects, committed to as a binary prefix tree: that one is in it, or is not, can be proven without the others.

    index = SHA-256("consent-ledger/index/v1\\n" || seed || subject id)
    value = SHA-256("consent-ledger/value/v1\\n" || blind || canonical JSON of what is said of the subject)
    leaf  = SHA-256(0x10 || index || value)      node = SHA-256(0x11 || left || right)      empty = SHA-256(0x12)

The root of no subjects is `empty`, of one its leaf, of several the node over those whose next bit of the index, from the most
significant one on, is 0 and those where it is 1. The bits of an index lead to one place alone, so that whoever made the tree,
in whatever order, cannot prove both that a subject is there and that it is not.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256

from ledger.errors import VerificationError
from ledger.log import canonical

HASH_BYTES = 32
SEED_BYTES = 32
MAX_PATH = 8 * HASH_BYTES
VALUE_HEAD = b"consent-ledger/value/v1\n"
EMPTY = sha256(b"\x12").digest()


def index(seed: bytes, subject_id: str) -> bytes:
    """Where a subject stands. Raises ValueError for an id that has no UTF-8 form."""
    return indexes(seed, (subject_id.encode(),))[0]


def indexes(seed: bytes, subject_ids: Iterable[bytes]) -> list[bytes]:
    """Of ids in UTF-8."""
    head = index_head(seed)
    return [sha256(head + subject_id).digest() for subject_id in subject_ids]


def index_head(seed: bytes) -> bytes:
    """What is hashed before an id."""
    return b"consent-ledger/index/v1\n" + seed


def value(blind: bytes, said: Mapping[str, object]) -> bytes:
    """Raises ValueError for what has no canonical form."""
    return sha256(VALUE_HEAD + blind + canonical.encode(said)).digest()


def leaf(index: bytes, value: bytes) -> bytes:
    return sha256(b"\x10" + index + value).digest()


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x11" + left + right).digest()


def bit(index: bytes, depth: int) -> int:
    """The most significant bit is that of depth 0."""
    return index[depth >> 3] >> (7 - (depth & 7)) & 1


@dataclass(frozen=True)
class Proof:
    """path: the siblings' hashes from the root down. end: index and value of the leaf at its end, one's own or another's; None:
    there is no leaf."""

    path: tuple[bytes, ...]
    end: tuple[bytes, bytes] | None


class PrefixTree:
    """Over (index, value) pairs, in any order. Raises ValueError where an index comes twice."""

    def __init__(self, leaves: Iterable[tuple[bytes, bytes]]) -> None:
        ordered = sorted(leaves)
        self._index = [index for index, _ in ordered]
        self._value = [value for _, value in ordered]
        for first, second in zip(self._index, self._index[1:], strict=False):
            if first == second:
                raise ValueError(f"the index {first.hex()} stands there twice")

    def __len__(self) -> int:
        return len(self._index)

    def root(self) -> bytes:
        return self._root(0, len(self), 0)

    def prove(self, index: bytes) -> Proof:
        """That this index is there, or that it is not. All else is hashed anew for it."""
        low, high, path = 0, len(self), list[bytes]()
        while high - low > 1:
            depth = len(path)
            middle = self._middle(low, high, depth)
            if bit(index, depth):
                path.append(self._root(low, middle, depth + 1))
                low = middle
            else:
                path.append(self._root(middle, high, depth + 1))
                high = middle
        return Proof(tuple(path), (self._index[low], self._value[low]) if low < high else None)

    def _root(self, low: int, high: int, depth: int) -> bytes:
        """Of the leaves low..high-1, which share the first `depth` bits."""
        if high - low < 2:
            return leaf(self._index[low], self._value[low]) if low < high else EMPTY
        middle = self._middle(low, high, depth)
        return node(self._root(low, middle, depth + 1), self._root(middle, high, depth + 1))

    def _middle(self, low: int, high: int, depth: int) -> int:
        """Where those begin whose bit is 1."""
        byte, shift = depth >> 3, 7 - (depth & 7)
        return bisect_left(self._index, 1, low, high, key=lambda index: index[byte] >> shift & 1)


def verify(proof: Proof, index: bytes, root: bytes) -> bool:
    """Whether the tree of this root has a leaf of this index. Raises VerificationError where the proof shows neither."""
    if len(proof.path) > MAX_PATH:
        raise VerificationError(f"a path of {len(proof.path)} hashes is longer than an index has bits")
    if any(len(part) != HASH_BYTES for part in (index, root, *proof.path, *(proof.end or ()))):
        raise VerificationError(f"an index, a value or a hash is not {HASH_BYTES} bytes long")
    found = EMPTY
    if proof.end is not None:
        if any(bit(proof.end[0], depth) != bit(index, depth) for depth in range(len(proof.path))):
            raise VerificationError("the leaf that is shown stands elsewhere than where the subject's would")
        found = leaf(*proof.end)
    for depth in reversed(range(len(proof.path))):
        found = node(proof.path[depth], found) if bit(index, depth) else node(found, proof.path[depth])
    if found != root:
        raise VerificationError("the path does not lead to the root of the set of subjects")
    return proof.end is not None and proof.end[0] == index
