"""The statement of a selection: of these shards, left as they are, those rows are allowed. See `decided` for what all statements
have.

It speaks for two files a shard in the selection's folder: NAME.rows, the positions of the rows that are allowed, and NAME.blocks,
the SHA-256 of each MiB of the shard. Those are its artifacts; by the second, the first is bound to the shard's very bytes.

What is signed passed the checks that a verifier makes: `selection_statement` reads back what it wrote.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ledger.errors import IntegrityError, VerificationError
from ledger.log import canonical
from ledger.statements import decided, fields
from ledger.statements.decided import Decided, present
from ledger.statements.fields import count, counts_by, list_of, object_of, text
from ledger.statements.limits import LIMITS
from ledger.statements.statement import DROPPED

SELECTION = "urn:consent-ledger:selection:v1"
POSITIONS_SUFFIX = ".rows"
BLOCKS_SUFFIX = ".blocks"

_SHARD = object_of({
    "name": text, "sha256": fields.sha256, "size": count, "blocks_sha256": fields.sha256, "positions_sha256": fields.sha256,
    "rows_in": count, "rows_kept": count, "rows_dropped": counts_by(DROPPED)})  # fmt: skip
_REQUIRED = {"selection_id": text, "rows_in": count, "rows_kept": count, "rows_dropped": counts_by(DROPPED), "unmapped": count,
             "shards": list_of(_SHARD)}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SelectedShard:
    """One shard. sha256, size: of the shard itself, its bytes. blocks_sha256, positions_sha256: of the files that speak of it."""

    name: str
    sha256: str
    size: int
    blocks_sha256: str
    positions_sha256: str
    rows_in: int
    rows_kept: int
    rows_dropped: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class SelectionRecord(Decided):
    """What a selection's statement says. Counts in all are those of the shards, summed.

    unmapped: rows that are not allowed only because a column was not mapped.
    """

    selection_id: str
    unmapped: int
    shards: Sequence[SelectedShard]

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

    @property
    def digests(self) -> dict[str, str]:
        """Name -> SHA-256 of the files in the selection's folder."""
        found = {shard.name + POSITIONS_SUFFIX: shard.positions_sha256 for shard in self.shards}
        found |= {shard.name + BLOCKS_SUFFIX: shard.blocks_sha256 for shard in self.shards}
        return {name: found[name] for name in sorted(found, key=str.encode)}

    @property
    def shard_digests(self) -> dict[str, str]:
        """Name -> SHA-256 of the shards themselves."""
        return {shard.name: shard.sha256 for shard in self.shards}


def selection_statement(selection: SelectionRecord) -> bytes:
    """The payload to sign. Raises IntegrityError where it does not add up, or says what no statement may say."""
    shards = sorted(selection.shards, key=lambda shard: shard.name.encode())
    own = {
        "selection_id": selection.selection_id, "rows_in": selection.rows_in, "rows_kept": selection.rows_kept,
        "rows_dropped": selection.rows_dropped, "unmapped": selection.unmapped,
        "shards": [{
            "name": shard.name, "sha256": shard.sha256, "size": shard.size, "blocks_sha256": shard.blocks_sha256,
            "positions_sha256": shard.positions_sha256, "rows_in": shard.rows_in, "rows_kept": shard.rows_kept,
            "rows_dropped": present(shard.rows_dropped)} for shard in shards]}  # fmt: skip
    try:
        payload = canonical.encode(decided.document(selection, SELECTION, own))
        selection_of(canonical.decode(payload, limit=LIMITS.statement))
    except (ValueError, VerificationError) as error:
        raise IntegrityError(f"the selection does not make a statement: {error}") from error
    return payload


def selection_of(statement: Mapping[str, Any]) -> SelectionRecord:
    """What a decoded statement of a selection says. Raises VerificationError where it is not one, or does not add up."""
    predicate, common = decided.read(statement, SELECTION, _REQUIRED, {})
    selection = SelectionRecord(
        **common,
        selection_id=predicate["selection_id"],
        unmapped=predicate["unmapped"],
        shards=tuple(SelectedShard(**shard) for shard in predicate["shards"]),
    )
    names = [shard.name for shard in selection.shards]
    decided.require_names(names)
    if names != sorted(names, key=str.encode):
        raise VerificationError("the shards of the selection are not sorted by name")
    for shard in selection.shards:
        if shard.rows_in != shard.rows_kept + (lost := sum(shard.rows_dropped.values())):
            raise VerificationError(
                f"the counts of shard {shard.name!r:.200} do not add up: "
                f"{shard.rows_in} in, {shard.rows_kept} kept, {lost} dropped")  # fmt: skip
    for name in ("rows_in", "rows_kept", "rows_dropped"):
        if predicate[name] != getattr(selection, name):
            raise VerificationError(f"{name} of the selection is not the sum over its shards")
    if sum(selection.rests_on.values()) != selection.rows_kept:
        raise VerificationError(
            f"rests_on speaks of {sum(selection.rests_on.values())} rows, but {selection.rows_kept} are allowed")  # fmt: skip
    if selection.unmapped > (dropped := selection.rows_in - selection.rows_kept):
        raise VerificationError(
            f"{selection.unmapped} rows are said to be left out for want of a column, but {dropped} are left out")  # fmt: skip
    decided.require_subjects(statement, selection.digests)
    return selection
