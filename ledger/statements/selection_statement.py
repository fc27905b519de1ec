"""The statement of a selection: of these shards, left as they are, those rows are allowed. See `decided` and
`counted` for what others have as well.

It speaks for two files a shard in the selection's folder: NAME.rows, the positions of the rows that are allowed, and NAME.blocks,
the SHA-256 of each MiB of the shard. Those are its artifacts; by the second, the first is bound to the shard's very bytes.

What is signed passed the checks that a verifier makes: `selection_statement` reads back what it wrote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ledger.errors import VerificationError
from ledger.statements import counted, decided, fields
from ledger.statements.counted import Counted, require_counts, rows_of
from ledger.statements.fields import count, list_of, object_of, text

SELECTION = "urn:consent-ledger:selection:v1"
POSITIONS_SUFFIX = ".rows"
BLOCKS_SUFFIX = ".blocks"

_SHARD = object_of(
    {"name": text, "sha256": fields.sha256, "size": count, "blocks_sha256": fields.sha256, "positions_sha256": fields.sha256,
     **counted.ROWS})  # fmt: skip
_REQUIRED = {"selection_id": text, "shards": list_of(_SHARD), **counted.REQUIRED}


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
class SelectionRecord(Counted):
    """What a selection's statement says. Rows are kept that are allowed."""

    selection_id: str
    shards: Sequence[SelectedShard]

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
        "selection_id": selection.selection_id, **rows_of(selection), "unmapped": selection.unmapped,
        "shards": [{
            "name": shard.name, "sha256": shard.sha256, "size": shard.size, "blocks_sha256": shard.blocks_sha256,
            "positions_sha256": shard.positions_sha256, **rows_of(shard)} for shard in shards]}  # fmt: skip
    return decided.payload(lambda: decided.document(selection, SELECTION, own), selection_of, "selection")


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
    require_counts(selection, predicate, names, "selection")
    decided.require_subjects(statement, selection.digests)
    return selection
