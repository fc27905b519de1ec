"""A snapshot's rows by column, as they are judged at a moment: what the index of answers is made of."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ledger import times
from ledger.consent import NO, REASONS, Scope
from ledger.snapshot import NONE, text_parts

ALLOWED, NOT_COVERED, NOTICE_CHANGED, EXPIRED, NO_RECORD = (
    REASONS.index(r) for r in ("allowed", "not_covered", "notice_changed", "expired", "no_record")
)
NO_BASIS = 255
LAST = 2**63 - 1
"""Later than any time."""
_STATE_REASON = np.array([REASONS.index(state) for state in NO] + [ALLOWED] * (256 - len(NO)), np.uint8)

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]


class Terms:
    """The columns of a snapshot's rows (`ledger.snapshot.SCHEMA`), with expiry judged at decided_at; as far as they can be,
    they are the table's own memory.

    starts: the first row of each subject, whose number there is its code; counts: how many rows it has. subject: their ids, a
    pyarrow array of text. next_expiry: microseconds, of the first yes that ends after decided_at; LAST where none does.
    """

    def __init__(self, rows: Any, decided_at: datetime) -> None:
        self._ids, self.scope_id = _one(rows["subject_id"]), _one(rows["scope_id"])
        number = {name: _numpy(_one(rows[name])) for name in rows.column_names if name not in ("subject_id", "scope_id")}
        self.scope: Codes = number["scope"]
        self.no_at: Ints = number["no_at"]
        self.no_reason: Codes = _STATE_REASON[number["no_state"]]
        self.no_position: Ints = number["no_position"]
        self.yes_at: Ints = number["yes_at"]
        self.yes_position: Ints = number["yes_position"]
        self.yes_expires_at: Ints = number["yes_expires_at"]
        self.yes_since: Ints = number["yes_content_since"]
        self.yes_basis: Codes = number["yes_basis"]
        expires, now = self.yes_expires_at, times.micros(decided_at)
        self.next_expiry = int(expires.min(initial=LAST, where=expires > now))
        self.yes_lapsed: Codes = np.full(len(self), ALLOWED, np.uint8)
        self.yes_lapsed[(expires <= now) & (expires != NONE)] = EXPIRED
        self.yes_lapsed[~number["yes_accepted"]] = NOTICE_CHANGED
        self.yes_lapsed[self.yes_at == NONE] = NO_RECORD
        first = np.ones(len(self), bool)
        if len(self):
            first[1:] = _numpy(pc.not_equal(self._ids[1:], self._ids[:-1]))
        self.starts: Ints = np.nonzero(first)[0]
        self.counts: Ints = np.diff(self.starts, append=len(self))
        self.subject = self._ids if self.one_each else self._ids.take(pa.array(self.starts))

    def __len__(self) -> int:
        return len(self.scope)

    @property
    def one_each(self) -> bool:
        """Whether each subject has but one row."""
        return len(self.starts) == len(self)

    def rows_of(self, codes: Ints) -> tuple[Ints, Ints]:
        """All rows of these subjects, in order, and the place of each one's subject among them. codes: in order, each once."""
        counts = self.counts[codes]
        place = np.repeat(np.arange(len(codes)), counts)
        return self.starts[codes][place] + np.arange(len(place)) - (np.cumsum(counts) - counts)[place], place

    def plain(self) -> tuple[Codes, Codes, Bools]:
        """Of each subject: the reason that all of its rows have, what that rests on where it is a yes, and whether there is none
        of these, as something is said at a finer scope, or of content since a moment."""
        own: Any = slice(None) if self.one_each else self.starts
        reason = settled(self.no_at[own], self.no_reason[own], self.yes_at[own], self.yes_lapsed[own])
        by_row = (self.scope[own] != Scope.EVERYTHING) | (self.yes_since[own] != NONE) | (self.counts != 1)
        return reason, self.yes_basis[own].copy(), by_row

    def digest(self) -> str:
        """answers_sha256: what decides rows alone, terms resolved at decided_at. Equal answers, equal digest."""
        digest = hashlib.sha256(b"consent-ledger/answers/v1\n")
        for text in (self._ids, self.scope_id):
            for part in text_parts(text):
                digest.update(part)
        # The columns end in what stands for no row: it has been there from the beginning.
        for values, none, kind in (
            (self.scope, None, "u1"),
            (self.no_at, NONE, "<i8"),
            (self.no_reason, ALLOWED, "u1"),
            (self.no_position, -1, "<i8"),
            (self.yes_at, NONE, "<i8"),
            (self.yes_since, NONE, "<i8"),
            (self.yes_lapsed, NO_RECORD, "u1"),
            (self.yes_basis, NO_BASIS, "u1"),
        ):
            digest.update(np.ascontiguousarray(values, kind).data)
            if none is not None:
                digest.update(np.array([none], kind).data)
        return digest.hexdigest()


def settled(no_at: Ints, no_reason: Codes, yes_at: Ints, yes_lapsed: Codes) -> Codes:
    """The reason that rows have for which these alone speak."""
    stands = (no_at != NONE) & ~((yes_lapsed == ALLOWED) & (yes_at > no_at))
    return np.where(stands, no_reason, yes_lapsed)


def _one(column: Any) -> Any:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _numpy(array: Any) -> Any:
    return array.to_numpy(zero_copy_only=False)
