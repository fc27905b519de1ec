"""The rule of `ledger.consent.decide`, for whole row groups at once. No Python per row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ledger.consent import REASONS, Scope
from ledger.shards.answers import BY_ROW, Answers, Index
from ledger.shards.columns import Keys
from ledger.shards.terms import ALLOWED, EXPIRED, NO_BASIS, NO_RECORD, NOT_COVERED, NOTICE_CHANGED
from ledger.shards.texts import Texts
from ledger.snapshot import NONE
from ledger.statements.decided import BASES

_SUBJECT_MISSING, _CATEGORY_EXCLUDED = REASONS.index("subject_missing"), REASONS.index("category_excluded")
_SCOPES = (Scope.EVERYTHING, Scope.CATEGORY, Scope.CONTENT)

Codes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Decisions:
    """One answer a row, in row order, never null. codes: index into consent.REASONS.

    unmapped: dropped only because a column was not mapped. basis: what a kept row's weakest yes rests on (snapshot.BASES).
    known: pairs of row and subject whose subject the ledger knows. subjects, row_of: of each such pair the subject's code, and
    its row (None: pair i is row i).
    """

    codes: Codes
    unmapped: Bools
    basis: Codes
    known: int
    subjects: Ints
    row_of: Ints | None

    @property
    def keep(self) -> Any:
        """pyarrow BooleanArray: True is keep."""
        return pa.array(self.codes == ALLOWED)

    @property
    def reason(self) -> Any:
        """pyarrow DictionaryArray of reason names."""
        return pa.DictionaryArray.from_arrays(pa.array(self.codes.astype(np.int8)), pa.array(REASONS))

    def counts(self) -> dict[str, int]:
        """Rows by reason, `allowed` among them; absent where zero."""
        return {REASONS[i]: int(n) for i, n in enumerate(np.bincount(self.codes, minlength=len(REASONS))) if n}

    def kept_subjects(self) -> Ints:
        """Codes of the subjects of allowed rows: as often as there are rows, each once a row."""
        allowed = self.codes == ALLOWED
        pairs = np.flatnonzero(allowed if self.row_of is None else allowed[self.row_of])
        return once_a_row(self.subjects.take(pairs), None if self.row_of is None else self.row_of.take(pairs))

    def rests_on(self) -> dict[str, int]:
        """Allowed rows by what their yes rests on; absent where zero."""
        return {BASES[i]: int(n) for i, n in enumerate(np.bincount(self.basis, minlength=256)[: len(BASES)]) if n}


def decide(keys: Keys, answers: Answers, categories: Sequence[str]) -> Decisions:
    """categories: those that the purpose lists, empty for any."""
    subjects = answers.subjects(keys.subjects)
    pairs = _decide_pairs(keys, subjects, answers.index)
    codes, unmapped, basis = pairs if keys.row_of is None else _all_must_allow(keys.rows, keys.row_of, *pairs)
    if categories:
        assert keys.category is not None, "checked with the schema"
        listed = pc.is_in(keys.category, value_set=pa.array(sorted(categories), keys.category.type)).to_numpy(
            zero_copy_only=False
        )
        codes[~listed] = _CATEGORY_EXCLUDED
    codes[keys.missing] = _SUBJECT_MISSING
    np.putmask(basis, codes != ALLOWED, NO_BASIS)
    unmapped &= (codes != _CATEGORY_EXCLUDED) & (codes != _SUBJECT_MISSING)
    return Decisions(codes, unmapped, basis, int((subjects != answers.unknown).sum()), subjects, keys.row_of)


def once_a_row(subjects: Ints, row_of: Ints | None) -> Ints:
    """The codes of (row, subject) pairs, without those that come again in their row."""
    if row_of is None or not len(subjects):
        return subjects
    codes = int(subjects.max()) + 1
    once: Ints = np.unique(row_of * codes + subjects) % codes
    return once


def _decide_pairs(keys: Keys, subjects: Ints, answers: Index) -> tuple[Codes, Bools, Codes]:
    """Reason, unmapped and basis of each (row, subject) pair."""
    plain = answers.plain.take(subjects)
    codes, basis = plain["reason"].copy(), plain["basis"].copy()
    unmapped = np.zeros(len(subjects), bool)
    pairs = np.flatnonzero(codes == BY_ROW)
    if len(pairs):
        numbers = answers.deep.take(subjects.take(pairs))
        codes[pairs] = answers.own.take(numbers)
        at, unknown = _finer_rows(keys, pairs, numbers, answers)
        # Where the ledger has nothing for the row's items, nor what an unknown item is held to, the subject does settle it.
        speaks = answers.is_since.take(numbers)
        for scope in at:
            speaks |= at[scope] >= 0
            if unknown[scope].any():
                speaks |= unknown[scope] & (answers.unknown_item[scope].take(numbers) >= 0)
        those = np.flatnonzero(speaks)
        pairs, numbers, at = pairs.take(those), numbers.take(those), {scope: rows.take(those) for scope, rows in at.items()}
        unknown = {scope: rows.take(those) for scope, rows in unknown.items()}
        codes[pairs], unmapped[pairs], basis[pairs] = _decide_each(keys, pairs, numbers, at, unknown, answers)
    return codes, unmapped, basis


def _finer_rows(keys: Keys, pairs: Ints, numbers: Ints, answers: Index) -> tuple[dict[Scope, Ints], dict[Scope, Bools]]:
    """At each scope finer than everything the snapshot's row of the pair's item, -1 for none, and whether the item is unknown."""
    row = pairs if keys.row_of is None else keys.row_of[pairs]
    at, unknown = {}, {}
    for scope, column in ((Scope.CATEGORY, keys.category), (Scope.CONTENT, keys.content)):
        if column is None:
            at[scope], unknown[scope] = np.full(len(row), -1), np.ones(len(row), bool)
        else:
            known = column.is_valid().to_numpy(zero_copy_only=False)
            item = Texts(pc.fill_null(column, "") if column.null_count else column).take(row)
            known = known.take(row)
            at[scope], unknown[scope] = answers.finer_rows(scope, numbers, item, known), ~known
    return at, unknown


def _decide_each(
    keys: Keys, pairs: Ints, numbers: Ints, finer: dict[Scope, Ints], unknown: dict[Scope, Bools], answers: Index
) -> tuple[Codes, Bools, Codes]:
    """The pairs for which the subject alone does not settle it: something at a finer scope, or a content_since.

    numbers: of the subjects, as `Index` has them. finer, unknown: as `_finer_rows` has them.
    """
    row = pairs if keys.row_of is None else keys.row_of[pairs]
    created = np.full(len(row), NONE) if keys.created is None else keys.created[row]
    at = {Scope.EVERYTHING: answers.everything[numbers], **finer}

    reach = {scope: _not_covered(answers, at[scope], created) for scope in _SCOPES}
    force = {scope: (answers.yes_lapsed[at[scope]] == ALLOWED) & ~reach[scope] for scope in _SCOPES}

    # Of the noes that stand, the latest by time, then the more specific, names the reason: scopes go from wide to fine.
    worst = np.full(len(row), NONE)
    reason = np.full(len(row), ALLOWED, np.uint8)
    answer = np.full(len(row), NONE)  # the latest yes in force at this scope or a finer one
    standing = {}
    for scope in reversed(_SCOPES):
        answer = np.maximum(answer, np.where(force[scope], answers.yes_at[at[scope]], NONE))
        standing[scope] = (answers.no_at[at[scope]] != NONE) & ~(answer > answers.no_at[at[scope]])
    only_mapped = ~np.logical_or.reduce(list(standing.values()))
    for scope in _SCOPES:
        no = at[scope]
        stands = standing[scope]
        if scope in unknown:
            held = np.where(unknown[scope], answers.unknown_item[scope][numbers], -1)
            no, stands = np.where(unknown[scope], held, no), np.where(unknown[scope], held >= 0, stands)
            column = keys.category if scope is Scope.CATEGORY else keys.content
            if column is not None:
                only_mapped &= ~(unknown[scope] & stands)
        later = stands & (answers.no_at[no] >= worst)
        worst, reason = np.where(later, answers.no_at[no], worst), np.where(later, answers.no_reason[no], reason)

    yes = np.logical_or.reduce([force[scope] for scope in _SCOPES])
    failure = np.full(len(row), NO_RECORD, np.uint8)
    for code in (EXPIRED, NOTICE_CHANGED):
        failure[np.logical_or.reduce([(answers.yes_lapsed[at[s]] == code) & ~reach[s] for s in _SCOPES])] = code
    failure[np.logical_or.reduce([reach[s] for s in _SCOPES])] = NOT_COVERED
    codes = np.where(worst != NONE, reason, np.where(yes, ALLOWED, failure)).astype(np.uint8)

    unmapped = np.where(worst != NONE, only_mapped & yes, (codes == NOT_COVERED) & (keys.created is None))
    latest, basis = np.full(len(row), NONE), np.full(len(row), NO_BASIS, np.uint8)
    for scope in _SCOPES:
        later = force[scope] & (answers.yes_at[at[scope]] >= latest)
        latest, basis = np.where(later, answers.yes_at[at[scope]], latest), np.where(later, answers.yes_basis[at[scope]], basis)
    return codes, unmapped, basis


def _not_covered(answers: Index, at: Ints, created: Ints) -> Bools:
    """Whether there is a yes that speaks only of content created since a moment, and the row's is older or unknown."""
    since = answers.yes_since[at]
    return np.asarray((since != NONE) & ((created == NONE) | (created < since)))


def _all_must_allow(rows: int, row_of: Ints, codes: Codes, unmapped: Bools, basis: Codes) -> tuple[Codes, Bools, Codes]:
    """From pairs to rows: the first subject that does not allow names the reason; the weakest yes is what a row rests on."""
    row_codes, row_unmapped = np.full(rows, ALLOWED, np.uint8), np.zeros(rows, bool)
    denied = np.nonzero(codes != ALLOWED)[0]
    first = denied[np.unique(row_of[denied], return_index=True)[1]]
    row_codes[row_of[first]], row_unmapped[row_of[first]] = codes[first], unmapped[first]
    row_basis = np.full(rows, NO_BASIS, np.uint8)
    np.minimum.at(row_basis, row_of, basis)
    return row_codes, row_unmapped, row_basis
