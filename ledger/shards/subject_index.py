"""Which subjects a shard holds, and what the ledger answers of each, as 64-bit hashes under a secret: enough to tell which shards
a change of the ledger reaches, without their ids and without reading them (docs/formats.md has the bytes).

Two ids of one hash are taken for one: what changes for either has changed for both. So a shard may be decided again without
need, and never is passed over that a change reaches.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ledger.consent import MAX_ID_BYTES, Scope
from ledger.cores import at_once
from ledger.shards.answers import Answers
from ledger.shards.columns import Keys
from ledger.shards.held import Hashes, Held, Ints, meet, pack
from ledger.shards.terms import Terms
from ledger.shards.text_hash import TextHash

SALT_BYTES = 32


Ranks = npt.NDArray[Any]

_DENSE = 8
"""A shard of one row for so many subjects whom the ledger knows is counted by an array of them all."""
_BLOCK = 1 << 18
"""Rows that are hashed at once: few enough for the processor's cache, and so many that few calls are made: after each of them
another thread may have Python's lock."""
_WIDE = 5
"""Columns of 64 bits."""
_HALF = np.uint64(32)
_NONE: Hashes = np.zeros(0, np.uint64)


class Hasher:
    """Ids to hashes. Of one longer than the ledger takes, only the beginning counts: it is nobody whom the ledger knows."""

    def __init__(self, salt: bytes) -> None:
        self.salt = salt
        self.ids = TextHash(hashlib.sha256(b"consent-ledger/run-index/v1/id\n" + salt).digest(), MAX_ID_BYTES)
        self.items = TextHash(hashlib.sha256(b"consent-ledger/run-index/v1/item\n" + salt).digest(), MAX_ID_BYTES)

    def numbers(self, half: int, level: int, count: int) -> Hashes:
        """The first `count` secret numbers for one half of a hash."""
        stream = hashlib.shake_256(f"consent-ledger/run-index/v1/{level}/{half}\n".encode() + self.salt).digest(count * 8)
        return np.frombuffer(stream, "<u8")


@dataclass(frozen=True)
class Known:
    """What the ledger answers. keys: the hash of each of its subjects' ids, in order; answers: of all that decides that
    subject's rows. order: each key's subject code; rank: each code's key. is_exact: whether no two subjects share a key."""

    keys: Hashes
    answers: Hashes
    order: Ints
    rank: Ranks
    is_exact: bool

    @classmethod
    def of(cls, answers: Answers, hasher: Hasher) -> Known:
        (of_code, order), said = at_once(lambda: answers.hashed(hasher.ids), lambda: _answers(answers.terms, hasher))
        rank = np.empty(len(order), np.int32 if len(order) < 1 << 31 else np.int64)
        rank[order] = np.arange(len(order))
        keys = of_code[order]
        return cls(keys, said[order], order, rank, not bool((keys[1:] == keys[:-1]).any()))

    def packed(self) -> bytes:
        return pack(self.keys, self.answers)

    def changed(self, keys: Hashes, answers: Hashes) -> Hashes:
        """The keys, in order, of those whom these earlier answers answer otherwise, or who are in one of both alone.

        Neither may have two subjects of one key.
        """
        if len(keys) == len(self.keys) and bool((keys == self.keys).all()):
            return np.asarray(keys[answers != self.answers])
        if not len(keys):
            return self.keys
        gone = keys[~meet(self.keys, keys)]
        at = np.minimum(np.searchsorted(keys, self.keys), len(keys) - 1)
        other = (keys[at] != self.keys) | (answers[at] != self.answers)
        return np.sort(np.concatenate([gone, self.keys[other]]))


def _answers(terms: Terms, hasher: Hasher) -> Hashes:
    """One hash for each subject: multilinear (see text_hash) over the hashes of its rows, each over what decides of the row."""
    rows = len(terms)
    if not rows:
        return _NONE
    items = np.zeros(rows, np.uint64)
    finer = np.nonzero(terms.scope != Scope.EVERYTHING)[0]
    items[finer] = hasher.items(terms.scope_id.take(pa.array(finer)))
    halves = [np.empty(rows, np.uint64), np.empty(rows, np.uint64)]
    secret = [hasher.numbers(half, 0, 2 + 2 * _WIDE) for half in (0, 1)]
    # Of a value of 64 bits, low + 2³²·high, low·a + high·b is value·a + high·(b - 2³²·a).
    whole_by = [numbers[2::2] for numbers in secret]
    high_by = [numbers[3::2] - (numbers[2::2] << _HALF) for numbers in secret]
    room = np.empty((2, min(rows, _BLOCK)), np.uint64)
    for first in range(0, rows, _BLOCK):
        block = slice(first, min(rows, first + _BLOCK))
        product, high = room[:, : block.stop - first]
        sums = [total[block] for total in halves]
        word = _word(terms, block)
        for total, numbers in zip(sums, secret, strict=True):
            np.multiply(word, numbers[1], out=total)
            total += numbers[0]
        for column, wide in enumerate((items, terms.no_at, terms.no_position, terms.yes_at, terms.yes_since)):
            value = wide[block].view(np.uint64)
            np.right_shift(value, _HALF, out=high)
            for total, whole_number, high_number in zip(sums, whole_by, high_by, strict=True):
                for factor, number in (value, whole_number[column]), (high, high_number[column]):
                    np.multiply(factor, number, out=product)
                    total += product
        for total in sums:
            total >>= _HALF
    counts = terms.counts
    own: Any = slice(None) if terms.one_each else terms.starts
    several = np.nonzero(counts > 1)[0]
    at, place = terms.rows_of(several)
    more = at > terms.starts[several][place]  # that are not their subject's first
    at, owner = at[more], several[place[more]]
    ordinal = at - terms.starts[owner]
    whole = []
    for half in (0, 1):
        numbers = hasher.numbers(half, 1, 2 + 2 * int(counts.max()))
        total = numbers[0] + numbers[1] * counts.astype(np.uint64)
        total += halves[0][own] * numbers[2]
        total += halves[1][own] * numbers[3]
        np.add.at(total, owner, halves[0][at] * numbers[2 + 2 * ordinal] + halves[1][at] * numbers[3 + 2 * ordinal])
        whole.append(total >> _HALF)
    hashes: Hashes = whole[0] << _HALF | whole[1]
    return hashes


def _word(terms: Terms, block: slice) -> Hashes:
    """Of some rows, 32 bits of what decides."""
    word: Hashes = (
        terms.scope[block].astype(np.uint64)
        | terms.no_reason[block].astype(np.uint64) << np.uint64(8)
        | terms.yes_lapsed[block].astype(np.uint64) << np.uint64(16)
        | terms.yes_basis[block].astype(np.uint64) << np.uint64(24)
    )
    return word


class ShardSubjects:
    """The subjects of one shard's rows, the dropped ones too, and of how many kept rows each. For one thread."""

    def __init__(self, known: Known, hasher: Hasher) -> None:
        self._known, self._hasher = known, hasher
        self._ranks: list[Ranks] = []
        self._kept: list[Ranks] = []
        self._others: list[Hashes] = []

    def add(self, keys: Keys, codes: Ints, kept: Ints) -> None:
        """A row group. codes: the subject's of each pair, as `Answers.subjects` has them; kept: of kept rows, each once a row."""
        unknown = codes == len(self._known.keys)
        if unknown.any():
            self._others.append(self._hasher.ids(keys.subjects.filter(pa.array(unknown))))
            codes = codes[~unknown]
        self._ranks.append(self._known.rank[codes])
        self._kept.append(self._known.rank[kept])

    def held(self) -> Held:
        ranks, kept = _joined(self._ranks, np.int32), _joined(self._kept, np.int32)
        if len(ranks) * _DENSE > len(self._known.keys):
            there = np.zeros(len(self._known.keys), bool)
            there[ranks] = True
            ranks = np.nonzero(there)[0]
            rows = np.bincount(kept, minlength=len(there))[ranks]
        else:  # at the cost of the shard, not of all whom the ledger knows
            ranks = _once(ranks)
            rows = np.bincount(np.searchsorted(ranks, kept), minlength=len(ranks))
        return Held(self._known.keys[ranks], rows, _once(_joined(self._others, np.uint64)))


def _joined(parts: list[Any], kind: Any) -> Any:
    return np.concatenate([np.zeros(0, kind), *parts])


def _once(values: Any) -> Any:
    """In order, each once. `np.unique` puts them into a hash table first, which takes ten times as long."""
    values = np.sort(values)
    first = np.ones(len(values), bool)
    first[1:] = values[1:] != values[:-1]
    return values[first]


def unpack(data: bytes) -> tuple[Hashes, Hashes] | None:
    """Two columns. None for what cannot be these."""
    if len(data) % 16:
        return None
    half = np.frombuffer(data, "<u8").reshape(2, -1)
    return half[0], half[1]
