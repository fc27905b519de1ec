"""A snapshot's rows as an index, built once per process: which subject is which, and what stands for it.

Ids are found by a 64-bit hash under a secret and confirmed by comparing their bytes: a hash only proposes a candidate, so a
collision costs a comparison and never an answer.
"""

from __future__ import annotations

import functools
import hashlib
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ledger import times
from ledger.consent import NO, REASONS, Scope
from ledger.shards.text_hash import TextHash
from ledger.snapshot import NONE, Snapshot, text_parts

NO_BASIS = 255

ALLOWED, NOT_COVERED, NOTICE_CHANGED, EXPIRED, NO_RECORD = (
    REASONS.index(r) for r in ("allowed", "not_covered", "notice_changed", "expired", "no_record")
)
_STATE_REASON = np.array([REASONS.index(state) for state in NO] + [ALLOWED] * (256 - len(NO)), np.uint8)

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]


class _Found:
    """Hashes in order, with a directory over their top bits, so that a look-up touches one or two of them."""

    def __init__(self, hashes: npt.NDArray[np.uint64]) -> None:
        bits = len(hashes).bit_length() + 1  # two to four places for each
        self._shift = np.uint64(64 - bits)
        self._order = np.argsort(hashes)
        # One more at the end, so that whoever goes on there reads something.
        self._hashes = np.append(hashes[self._order], np.uint64(0))
        counts = np.bincount((self._hashes[:-1] >> self._shift).astype(np.int64), minlength=1 << bits)
        kind = np.int32 if len(hashes) < 1 << 31 else np.int64
        self._start: npt.NDArray[Any] = (np.cumsum(counts) - counts).astype(kind)

    def candidates(self, hashes: npt.NDArray[np.uint64], confirm: Any) -> Ints:
        """The entry of each hash that `confirm(queries, entries) -> bools` accepts, else -1."""
        found = np.full(len(hashes), -1, np.int64)
        last = len(self._hashes) - 1
        query, asked = np.arange(len(hashes)), hashes
        at: npt.NDArray[Any] = self._start[(hashes >> self._shift).astype(np.int64)]
        while len(query):
            there = self._hashes[at]
            same = np.nonzero((there == asked) & (at < last))[0]
            if len(same):
                entries, queries = self._order[at[same]], query[same]
                good = confirm(queries, entries)
                found[queries[good]] = entries[good]
            # They are in order: what is asked for is behind smaller ones, or behind another text with its hash.
            go_on = np.nonzero((there <= asked) & (at < last) & (found[query] < 0))[0]
            query, asked, at = query[go_on], asked[go_on], at[go_on] + 1
        return found


class Answers:
    """The index over a snapshot's rows (`ledger.snapshot.SCHEMA`), with expiry judged at decided_at.

    Subjects have codes 0..n-1 and n for "unknown to the ledger". `row(...)`s are rows of the snapshot, -1 for none.
    owner, scope: of each row of the snapshot, its subject's code and its scope.
    source: the snapshot's digest and decided_at.
    """

    def __init__(self, rows: Any, decided_at: datetime, snapshot_sha256: str = "") -> None:
        self.source = snapshot_sha256, decided_at
        n = rows.num_rows
        column = {name: rows[name].combine_chunks() for name in rows.column_names}
        longest = max(pc.max(pc.binary_length(column[name])).as_py() or 0 for name in ("subject_id", "scope_id"))
        self._hash = TextHash(secrets.token_bytes(32), longest)
        number = {name: _numpy(column[name]) for name in rows.column_names if name not in ("subject_id", "scope_id")}
        self.no_at: Ints = np.append(number["no_at"], NONE)
        self.no_reason: Codes = np.append(_STATE_REASON[number["no_state"]], np.uint8(ALLOWED))
        self.no_position: Ints = np.append(number["no_position"], -1)
        self.yes_at: Ints = np.append(number["yes_at"], NONE)
        self.yes_since: Ints = np.append(number["yes_content_since"], NONE)
        self.yes_basis: Codes = np.append(number["yes_basis"], np.uint8(NO_BASIS))
        lapsed = np.where(
            number["yes_accepted"],
            np.where(
                (number["yes_expires_at"] != NONE) & (number["yes_expires_at"] <= times.micros(decided_at)), EXPIRED, ALLOWED
            ),
            NOTICE_CHANGED,
        )
        self.yes_lapsed: Codes = np.append(np.where(number["yes_at"] == NONE, NO_RECORD, lapsed), NO_RECORD).astype(np.uint8)

        subject = column["subject_id"].cast(pa.large_string())
        first = np.ones(n, bool)
        if n:
            first[1:] = pc.not_equal(subject[1:], subject[:-1]).to_numpy(zero_copy_only=False)
        starts = np.nonzero(first)[0]
        self.unknown = len(starts)
        self._subject = subject.take(pa.array(starts))
        self.owner, self.scope = np.cumsum(first) - 1, number["scope"]
        with ThreadPoolExecutor(2) as aside:  # neither hashing nor NumPy holds the rest up
            digest = aside.submit(self._digest, column, number)
            subjects = aside.submit(lambda: _Found(self._hash(self._subject)))
            self._index_scopes(self.scope, self.owner, column["scope_id"].cast(pa.large_string()))
            self.digest, self._subjects = digest.result(), subjects.result()

    def _index_scopes(self, scope: Codes, code: Ints, items: Any) -> None:
        """scope, items: of each row of the snapshot. code: of its subject."""
        n = len(code)
        self.everything: Ints = np.full(self.unknown + 1, -1, np.int64)
        whole = np.nonzero(scope == Scope.EVERYTHING)[0]
        self.everything[code[whole]] = whole
        self.finer: Bools = np.zeros(self.unknown + 1, bool)
        self.finer[code[scope != Scope.EVERYTHING]] = True
        # The latest no at each finer scope that nothing for the same item answers: what an unknown item is held to.
        standing = (self.no_at[:n] != NONE) & ~(
            (self.yes_lapsed[:n] == ALLOWED) & (self.yes_since[:n] == NONE) & (self.yes_at[:n] > self.no_at[:n])
        )
        self._finer_index: dict[Scope, tuple[Ints, Ints, Any, _Found]] = {}
        self.unknown_item: dict[Scope, Ints] = {}
        for finer in (Scope.CATEGORY, Scope.CONTENT):
            at = np.nonzero(scope == finer)[0]
            item = items.take(pa.array(at))
            index = _Found(_mix(self._hash(item), code[at]))
            self._finer_index[finer] = at, code[at], item, index
            worst = np.full(self.unknown + 1, -1, np.int64)
            held = at[standing[at]]
            held = held[np.lexsort((self.no_position[held], self.no_at[held]))]
            worst[code[held]] = held  # of several the last assignment stays: the latest, by t and then position
            self.unknown_item[finer] = worst

        # A subject without finer scopes or a content_since has one answer for every row.
        own = self.everything
        in_force = self.yes_lapsed[own] == ALLOWED
        stands = (self.no_at[own] != NONE) & ~(in_force & (self.yes_at[own] > self.no_at[own]))
        self.plain: Codes = np.where(stands, self.no_reason[own], self.yes_lapsed[own])
        self.needs_row: Bools = self.finer | (self.yes_since[own] != NONE)

    def subjects(self, text: Any) -> Ints:
        """The code of each id; `unknown` where the ledger has none. text: large_string without nulls."""

        def confirm(queries: Ints, entries: Ints) -> Bools:
            asked = text if len(queries) == len(text) else text.take(pa.array(queries))
            return np.asarray(_numpy(pc.equal(self._subject.take(pa.array(entries)), asked)))

        found = self._subjects.candidates(self._hash(text), confirm)
        return np.where(found < 0, self.unknown, found)

    def ids(self, codes: Ints) -> Any:
        """The ids of known subjects, as a pyarrow array of text."""
        return self._subject.take(pa.array(codes))

    def items(self) -> Iterator[tuple[Ints, Any]]:
        """Rows of the snapshot of a finer scope, and the id of the category or content item of each."""
        for at, _, item, _ in self._finer_index.values():
            yield at, item

    def finer_rows(self, scope: Scope, codes: Ints, item: Any) -> Ints:
        """The snapshot's row of each (subject code, item), -1 for none. item: large_string, nulls allowed."""
        at, owners, items, index = self._finer_index[scope]
        if not len(at):
            return np.full(len(item), -1, np.int64)
        known = item.is_valid().to_numpy(zero_copy_only=False)
        filled = pc.fill_null(item, "") if item.null_count else item

        def confirm(queries: Ints, entries: Ints) -> Bools:
            same_owner = (owners[entries] == codes[queries]) & known[queries]
            return np.asarray(same_owner & _numpy(pc.equal(items.take(pa.array(entries)), filled.take(pa.array(queries)))))

        found = index.candidates(_mix(self._hash(filled), codes), confirm)
        return np.where(found < 0, -1, at[found])

    def _digest(self, column: dict[str, Any], number: dict[str, Any]) -> str:
        """answers_sha256: what decides rows alone, terms resolved at decided_at. Equal answers, equal digest."""
        digest = hashlib.sha256(b"consent-ledger/answers/v1\n")
        for name in ("subject_id", "scope_id"):
            for part in text_parts(column[name]):
                digest.update(part)
        for values, kind in (
            (number["scope"], "u1"),
            (self.no_at, "<i8"),
            (self.no_reason, "u1"),
            (self.no_position, "<i8"),
            (self.yes_at, "<i8"),
            (self.yes_since, "<i8"),
            (self.yes_lapsed, "u1"),
            (self.yes_basis, "u1"),
        ):
            digest.update(np.ascontiguousarray(values, kind).data)
        return digest.hexdigest()


def _mix(hashes: npt.NDArray[np.uint64], codes: Ints) -> npt.NDArray[np.uint64]:
    """One hash of an item's hash and its subject's code (the finaliser of splitmix64)."""
    x = hashes + codes.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: npt.NDArray[np.uint64] = x ^ (x >> np.uint64(31))
    return mixed


def _numpy(array: Any) -> Any:
    return array.to_numpy(zero_copy_only=False)


@functools.lru_cache(maxsize=2)
def answers_at(snapshot: Snapshot, decided_at: datetime) -> Answers:
    """Those of a snapshot, its yeses judged as they stood then; built once."""
    return Answers(snapshot.rows(), decided_at, snapshot.sha256)
