"""A snapshot's rows as an index, built once per process: which subject is which, and what stands for it.

Ids are found by a 64-bit hash under a secret and confirmed by comparing their bytes (see `found`): a collision never costs an
answer. Of subjects whom one answer settles that answer alone is held; rows are held of the others.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ledger import times
from ledger.consent import Scope
from ledger.cores import at_once
from ledger.shards.found import Found
from ledger.shards.terms import ALLOWED, NO_BASIS, NO_RECORD, Terms, settled
from ledger.shards.text_hash import TextHash
from ledger.shards.texts import Texts
from ledger.snapshot import NONE, Snapshot

BY_ROW = 255
"""In place of a reason: the subject alone does not settle it."""

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[Any]
Codes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]


class Answers:
    """The index over a snapshot's rows (`ledger.snapshot.SCHEMA`), with expiry judged at decided_at.

    Subjects have codes 0..n-1 and n for "unknown to the ledger". source: the snapshot's digest and decided_at.
    until: microseconds, of when the next yes runs out. again: the same rows once more, where they are no longer in memory.
    """

    def __init__(
        self, rows: Any, decided_at: datetime, snapshot_sha256: str = "", again: Callable[[], Any] | None = None
    ) -> None:
        self.source = snapshot_sha256, decided_at
        self._again: Callable[[], Any] | None = again or (lambda: rows)
        terms = Terms(rows, decided_at)
        self.until = terms.next_expiry
        self.unknown, self._ids = len(terms.starts), Texts(terms.subject.cast(pa.large_string()))
        self._terms: Terms | None = terms
        self._digest: str | None = None
        self._hashed: tuple[TextHash, Hashes] | None = None
        self._index: Index | None = None
        self._lock, self._hashing = threading.Lock(), threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """With the index, and without what it was made of: whoever gets it decides by it, and builds nothing."""
        index = self.index
        gone = ("_terms", "_hashed", "_again", "_lock", "_hashing")
        return vars(self) | {"_index": index} | dict.fromkeys(gone)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock(), _hashing=threading.Lock())

    def stand(self, snapshot_sha256: str, moment: datetime) -> bool:
        """Whether these are that snapshot's answers at a moment: judged then, or before, and no yes has run out since."""
        judged, decided_at = self.source
        return judged == snapshot_sha256 and decided_at <= moment and times.micros(moment) < self.until

    @property
    def terms(self) -> Terms:
        """What the index is made of; at hand until the first id is looked up."""
        if (terms := self._terms) is not None:
            return terms
        assert self._again is not None, "another process has sent the index alone"
        return Terms(self._again(), self.source[1])

    @property
    def digest(self) -> str:
        """Of all that decides."""
        with self._hashing:  # by one, where several ask
            if self._digest is None:
                self._digest = self.terms.digest()
            return self._digest

    @property
    def index(self) -> Index:
        """Made when it is first asked for."""
        if self._index is None:
            with self._lock:
                if self._index is None:
                    # The digest now, as the terms are at hand.
                    _, self._index = at_once(lambda: self.digest, self._made)
                    self._terms = self._hashed = None
        return self._index

    def _made(self) -> Index:
        if self._hashed is not None:
            return Index(self.terms, *self._hashed)
        text_hash = TextHash(secrets.token_bytes(32), self._ids.longest)
        return Index(self.terms, text_hash, text_hash(self._ids))

    def hashed(self, text_hash: TextHash) -> tuple[Hashes, Ints]:
        """The hashes of all ids, by code, and the codes in the order of these. The index is made of those asked for last."""
        hashes = text_hash(self._ids)
        if self._index is None:
            self._hashed = text_hash, hashes
        return hashes, np.argsort(hashes)

    def subjects(self, text: Any) -> Ints:
        """The code of each id; `unknown` where the ledger has none. text: large_string without nulls."""
        index, asked = self.index, Texts(text)

        def confirm(queries: Ints, entries: Ints) -> Bools:
            return self._ids.same(entries, asked, queries)

        return index.subjects.candidates(index.text_hash(asked), confirm, self.unknown)

    def ids(self, codes: Ints) -> Any:
        """The ids of known subjects, as a pyarrow array of text."""
        return self._ids.take(codes).text


class Index:
    """plain: by code, the reason that all rows of a subject have, or BY_ROW, and the basis on which its yes to everything rests.

    deep: by code, the number of a subject with BY_ROW, -1 for others. By that number, own: the reason where nothing finer speaks;
    everything: the row at that scope; is_since: whether its yes is to content since a moment; unknown_item: the row that one of
    an unknown item is held to; -1 for none. By row: the columns, with what stands for none at their end.
    """

    def __init__(self, terms: Terms, text_hash: TextHash, hashes: Hashes) -> None:
        self.text_hash, self.subjects = text_hash, Found(hashes)
        plain, basis, by_row = terms.plain()
        who = np.nonzero(by_row)[0]
        kind = np.int32 if len(terms) < 1 << 31 else np.int64
        self.deep: Rows = np.full(len(plain) + 1, -1, kind)
        self.deep[who] = np.arange(len(who))
        at, number = terms.rows_of(who)
        plain[who] = BY_ROW

        self.no_at: Ints = np.append(terms.no_at[at], NONE)
        self.no_reason: Codes = np.append(terms.no_reason[at], np.uint8(ALLOWED))
        self.yes_at: Ints = np.append(terms.yes_at[at], NONE)
        self.yes_since: Ints = np.append(terms.yes_since[at], NONE)
        self.yes_basis: Codes = np.append(terms.yes_basis[at], np.uint8(NO_BASIS))
        self.yes_lapsed: Codes = np.append(terms.yes_lapsed[at], np.uint8(NO_RECORD))
        scope = terms.scope[at]
        whole = np.nonzero(scope == Scope.EVERYTHING)[0]
        self.everything: Rows = np.full(len(who), -1, kind)
        self.everything[number[whole]] = whole
        own = self.everything
        self.own = settled(self.no_at[own], self.no_reason[own], self.yes_at[own], self.yes_lapsed[own])
        basis[who] = self.yes_basis[own]
        self.plain = np.empty(len(plain) + 1, [("reason", np.uint8), ("basis", np.uint8)])
        self.plain["reason"], self.plain["basis"] = np.append(plain, NO_RECORD), np.append(basis, NO_BASIS)
        self.is_since: Bools = self.yes_since[own] != NONE
        # The latest no at each finer scope that nothing for the same item answers: what an unknown item is held to.
        no_at = self.no_at[:-1]
        standing = (no_at != NONE) & ~(
            (self.yes_lapsed[:-1] == ALLOWED) & (self.yes_since[:-1] == NONE) & (self.yes_at[:-1] > no_at)
        )
        position = terms.no_position[at]
        items = terms.scope_id.take(pa.array(at))
        self._item_hash = TextHash(secrets.token_bytes(32), pc.max(pc.binary_length(items)).as_py() or 0)
        self._finer: dict[Scope, tuple[Rows, Rows, Texts, Found]] = {}
        self.unknown_item: dict[Scope, Rows] = {}
        for finer in (Scope.CATEGORY, Scope.CONTENT):
            rows = np.nonzero(scope == finer)[0]
            item = Texts(items.take(pa.array(rows)).cast(pa.large_string()))
            index = Found(_mix(self._item_hash(item), number[rows]))
            self._finer[finer] = rows.astype(kind), number[rows].astype(kind), item, index
            worst = np.full(len(who), -1, kind)
            held = rows[standing[rows]]
            held = held[np.lexsort((position[held], no_at[held]))]
            worst[number[held]] = held  # of several the last assignment stays: the latest, by t and then position
            self.unknown_item[finer] = worst

    def finer_rows(self, scope: Scope, numbers: Rows, item: Texts, known: Bools) -> Ints:
        """The row of each (subject's number, item), -1 for none and where it is not known. item: without nulls."""
        at, owners, items, index = self._finer[scope]
        if not len(at):
            return np.full(len(item), -1, np.int64)

        def confirm(queries: Ints, entries: Ints) -> Bools:
            same_owner = (owners.take(entries) == numbers.take(queries)) & known.take(queries)
            return np.asarray(same_owner & items.same(entries, item, queries))

        found = index.candidates(_mix(self._item_hash(item), numbers), confirm)
        return np.where(found < 0, -1, at.take(found))


def _mix(hashes: Hashes, numbers: Rows) -> Hashes:
    """One hash of an item's hash and its subject's number (the finaliser of splitmix64)."""
    x = hashes + numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Hashes = x ^ (x >> np.uint64(31))
    return mixed


def _numpy(array: Any) -> Any:
    return array.to_numpy(zero_copy_only=False)


_built: tuple[tuple[Answers, Any], ...] = ()
"""Each with the state of the snapshot's file before they were made."""


def answers_at(snapshot: Snapshot, decided_at: datetime) -> Answers:
    """Those of a snapshot, its yeses judged as they stood then; built once, and anew when one has run out since.

    At a later moment than theirs they serve no longer than the snapshot's file is the one that it was: an erasure takes it away.
    """
    global _built
    for answers, file in _built:
        if answers.stand(snapshot.sha256, decided_at) and (answers.source[1] == decided_at or file == snapshot.file()):
            return answers
    file = snapshot.file()
    answers = Answers(snapshot.rows(), decided_at, snapshot.sha256, snapshot.rows)
    _built = ((answers, file), *_built[:1])
    return answers
