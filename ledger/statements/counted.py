"""What the statements of a run and of a selection share: rows by what became of them, of each shard and in all.

In each shard and in all, rows_in == rows_kept + the sum of rows_dropped by reason; what the kept rows rest on sums up to
rows_kept; rows dropped only for want of a mapped column are some of those dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ledger.consent import ALLOWED, REASONS
from ledger.errors import VerificationError
from ledger.statements.decided import Decided, present
from ledger.statements.fields import Check, count, counts_by

DROPPED = tuple(reason for reason in REASONS if reason != ALLOWED)
ROWS: Mapping[str, Check] = {"rows_in": count, "rows_kept": count, "rows_dropped": counts_by(DROPPED)}
"""Of a shard, and of all."""
REQUIRED: Mapping[str, Check] = {**ROWS, "unmapped": count}


class Rows(Protocol):
    """One shard's. rows_dropped: by reason."""

    @property
    def rows_in(self) -> int: ...
    @property
    def rows_kept(self) -> int: ...
    @property
    def rows_dropped(self) -> Mapping[str, int]: ...


@dataclass(frozen=True, kw_only=True)
class Counted(Decided):
    """Counts in all are those of the shards, summed. unmapped: rows dropped only because a column was not mapped."""

    unmapped: int
    shards: Sequence[Rows]

    @property
    def rows_in(self) -> int:
        return sum(shard.rows_in for shard in self.shards)

    @property
    def rows_kept(self) -> int:
        return sum(shard.rows_kept for shard in self.shards)

    @property
    def rows_dropped(self) -> dict[str, int]:
        total: Counter[str] = Counter()
        for shard in self.shards:
            total.update(shard.rows_dropped)
        return present(total)


def rows_of(counted: Rows) -> dict[str, Any]:
    """As the statement has them, of a shard or of all."""
    return {"rows_in": counted.rows_in, "rows_kept": counted.rows_kept, "rows_dropped": present(counted.rows_dropped)}


def require_counts(record: Counted, predicate: Mapping[str, Any], names: Sequence[str], what: str) -> None:
    """names: of its shards. what: `run`. Raises VerificationError where it does not add up."""
    for name, shard in zip(names, record.shards, strict=True):
        if shard.rows_in != shard.rows_kept + (lost := sum(shard.rows_dropped.values())):
            raise VerificationError(
                f"the counts of shard {name!r:.200} do not add up: {shard.rows_in} in, {shard.rows_kept} kept, {lost} dropped"
            )
    for field, total in rows_of(record).items():
        if predicate[field] != total:
            raise VerificationError(f"{field} of the {what} is not the sum over its shards")
    if sum(record.rests_on.values()) != record.rows_kept:
        raise VerificationError(f"rests_on speaks of {sum(record.rests_on.values())} rows, but {record.rows_kept} were kept")
    if record.unmapped > (dropped := record.rows_in - record.rows_kept):
        raise VerificationError(f"{record.unmapped} rows are said to be dropped for want of a column, but {dropped} were dropped")
