"""Which subjects a shard holds, and what the ledger answers of each, as 64-bit hashes under a secret: enough to tell which shards
a change of the ledger reaches, without their ids and without reading them (docs/formats.md has the bytes).

Two ids of one hash are taken for one: what changes for either has changed for both. So a shard may be decided again without
need, and never is passed over that a change reaches.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ledger.consent import MAX_ID_BYTES
from ledger.shards.answers import Answers
from ledger.shards.columns import Keys
from ledger.shards.text_hash import TextHash

SALT_BYTES = 32

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

_HALF, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)
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
    subject's rows. order: each key's subject code; of_code: each code's key."""

    keys: Hashes
    answers: Hashes
    order: Ints
    of_code: Hashes

    @classmethod
    def of(cls, answers: Answers, hasher: Hasher) -> Known:
        of_code = hasher.ids(answers.ids(np.arange(answers.unknown)))
        order = np.argsort(of_code)
        return cls(of_code[order], _answers(answers, hasher)[order], order, of_code)

    @property
    def is_exact(self) -> bool:
        """Whether no two subjects share a key."""
        return not bool((self.keys[1:] == self.keys[:-1]).any())

    def packed(self) -> bytes:
        return pack(self.keys, self.answers)

    def changed(self, keys: Hashes, answers: Hashes) -> Hashes:
        """The keys, in order, of those whom these earlier answers answer otherwise, or who are in one of both alone.

        Neither may have two subjects of one key.
        """
        if len(keys) == len(self.keys) and bool((keys == self.keys).all()):
            return np.asarray(keys[answers != self.answers])
        key, answer = np.concatenate([keys, self.keys]), np.concatenate([answers, self.answers])
        order = np.lexsort((answer, key))
        key, answer = key[order], answer[order]
        same = (key[1:] == key[:-1]) & (answer[1:] == answer[:-1])  # of a subject who is in both, and answered alike
        stays = np.zeros(len(key), bool)
        stays[1:] |= same
        stays[:-1] |= same
        return np.unique(key[~stays])


def _answers(answers: Answers, hasher: Hasher) -> Hashes:
    """One hash for each subject: multilinear (see text_hash) over the hashes of its rows, each over what decides of the row."""
    rows = len(answers.owner)
    if not rows:
        return _NONE
    items = np.zeros(rows, np.uint64)
    for at, text in answers.items():
        items[at] = hasher.items(text)
    head = (
        answers.scope.astype(np.uint64)
        | answers.no_reason[:rows].astype(np.uint64) << np.uint64(8)
        | answers.yes_lapsed[:rows].astype(np.uint64) << np.uint64(16)
        | answers.yes_basis[:rows].astype(np.uint64) << np.uint64(24)
    )
    times = (answers.no_at, answers.no_position, answers.yes_at, answers.yes_since)
    words = [head]
    for wide in (items, *(column[:rows].view(np.uint64) for column in times)):
        words += [wide & _LOW, wide >> _HALF]
    halves = []
    for half in (0, 1):
        numbers = hasher.numbers(half, 0, len(words) + 1)
        total = np.full(rows, numbers[0])
        for number, word in zip(numbers[1:], words, strict=True):
            total += number * word
        halves.append(total >> _HALF)
    starts = np.nonzero(np.diff(answers.owner, prepend=-1))[0]
    counts = np.diff(starts, append=rows)
    ordinal = np.arange(rows) - starts[answers.owner]
    whole = []
    for half in (0, 1):
        numbers = hasher.numbers(half, 1, 2 + 2 * int(counts.max()))
        each = halves[0] * numbers[2 + 2 * ordinal] + halves[1] * numbers[3 + 2 * ordinal]
        total = numbers[0] + numbers[1] * counts.astype(np.uint64) + np.add.reduceat(each, starts)
        whole.append(total >> _HALF)
    hashes: Hashes = whole[0] << _HALF | whole[1]
    return hashes


class ShardSubjects:
    """The subjects of one shard's rows, the dropped ones too, and of how many kept rows each. For one thread."""

    def __init__(self, known: Known, hasher: Hasher) -> None:
        self._known, self._hasher = known, hasher
        self._codes: list[Ints] = []
        self._others: list[Hashes] = []
        self._kept: list[Ints] = []

    def add(self, keys: Keys, codes: Ints, kept: Ints) -> None:
        """A row group. codes: the subject's of each pair, as `Answers.subjects` has them; kept: of kept rows, each once a row."""
        unknown = codes == len(self._known.of_code)
        self._codes.append(np.unique(codes[~unknown]))
        if unknown.any():
            self._others.append(np.unique(self._hasher.ids(keys.subjects.filter(pa.array(unknown)))))
        self._kept.append(kept)

    def packed(self) -> bytes:
        known = self._known.of_code[np.concatenate([_NONE.astype(np.int64), *self._codes])]
        keys = np.unique(np.concatenate([known, *self._others]))
        kept, rows = np.unique(np.concatenate([_NONE.astype(np.int64), *self._kept]), return_counts=True)
        counts = np.zeros(len(keys), np.int64)
        np.add.at(counts, np.searchsorted(keys, self._known.of_code[kept]), rows)
        return pack(keys, counts.view(np.uint64))


def pack(*columns: Hashes) -> bytes:
    return b"".join(np.ascontiguousarray(column, "<u8").tobytes() for column in columns)


def unpack(data: bytes, columns: int = 2) -> tuple[Hashes, ...] | None:
    """None for what cannot be so many columns."""
    if len(data) % (8 * columns):
        return None
    return tuple(np.frombuffer(data, "<u8").reshape(columns, -1))


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
