"""The statement of an audit: every row of these shards was allowed, whoever wrote them. What a run's has as well: see `decided`.

It is only made of a set that is clean, so that it has no counts by reason: what the allowed rows rest on sums up to all of them.
What is signed passed the checks that a verifier makes: `audit_statement` reads back what it wrote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ledger.errors import VerificationError
from ledger.statements import decided, fields
from ledger.statements.decided import Decided
from ledger.statements.fields import count, list_of, object_of, text

AUDIT = "urn:consent-ledger:audit:v1"

_REQUIRED = {
    "audit_id": text,
    "rows": count,
    "shards": list_of(object_of({"name": text, "sha256": fields.sha256, "rows": count})),
}


@dataclass(frozen=True, kw_only=True)
class AuditedShard:
    """One shard, every row of which was allowed."""

    name: str
    sha256: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class AuditRecord(Decided):
    """What an audit statement says."""

    audit_id: str
    shards: Sequence[AuditedShard]

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self.shards)

    @property
    def digests(self) -> dict[str, str]:
        """Name -> SHA-256."""
        return {shard.name: shard.sha256 for shard in self.shards}


def audit_statement(audit: AuditRecord) -> bytes:
    """The payload to sign. Raises IntegrityError where the audit does not add up, or says what no statement may say."""
    shards = sorted(audit.shards, key=lambda shard: shard.name.encode())
    own = {
        "audit_id": audit.audit_id,
        "rows": audit.rows,
        "shards": [{"name": shard.name, "sha256": shard.sha256, "rows": shard.rows} for shard in shards],
    }
    return decided.payload(lambda: decided.document(audit, AUDIT, own), audit_of, "audit")


def audit_of(statement: Mapping[str, Any]) -> AuditRecord:
    """What a decoded audit statement says. Raises VerificationError where it is not one, or does not add up."""
    predicate, common = decided.read(statement, AUDIT, _REQUIRED, {})
    shards = tuple(AuditedShard(**shard) for shard in predicate["shards"])
    audit = AuditRecord(**common, audit_id=predicate["audit_id"], shards=shards)
    decided.require_names([shard.name for shard in audit.shards])
    if predicate["rows"] != audit.rows:
        raise VerificationError("rows of the audit is not the sum over its shards")
    if sum(audit.rests_on.values()) != audit.rows:
        raise VerificationError(f"rests_on speaks of {sum(audit.rests_on.values())} rows, but there are {audit.rows}")
    decided.require_subjects(statement, audit.digests)
    return audit
