"""An attestation: shards that whoever wrote are audited row by row, and a statement of that is signed if all of them are clean.

What is signed is what was decided: each shard is hashed and decoded by one open file, and the folder holds no others, before and
after. A set in which a part of a cluster's run is missing is not sealed. The statement of a run is never replaced by this one; an
earlier audit's is, and it is withdrawn where the folder is found not to be clean any more.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ledger import files, holding, parts, stating, times
from ledger.audit import Audit, audit
from ledger.errors import UsageError
from ledger.log.keys import PrivateKey
from ledger.log.prefix_tree import SEED_BYTES
from ledger.objects import Place, named
from ledger.shards.columns import Columns
from ledger.shards.inputs import find_inputs
from ledger.shards.work import Callback, total
from ledger.snapshot import Snapshot
from ledger.statements.audit_statement import AUDIT, AuditedShard, AuditRecord, audit_statement
from ledger.statements.verify import stated_kind, statement_path


@dataclass(frozen=True, kw_only=True)
class Attestation:
    """audit: of every shard. statement: its file, None where the folder is not clean."""

    audit: Audit
    statement: Place | None

    def document(self) -> dict[str, Any]:
        """The JSON of `consent attest` (schemas/attest.json)."""
        return {**self.audit.document(), "statement": None if self.statement is None else str(self.statement)}


def attest(
    folder: Place,
    snapshot: Snapshot,
    columns: Columns,
    *,
    workers: int,
    key: PrivateKey,
    publish: Callable[[Snapshot], Snapshot] | None,
    admit: Callable[[bytes], bytes] | None,
    recipient: str | None,
    on_progress: Callback | None,
) -> Attestation:
    """What `ConsentFilter.attest_shards` says."""
    started_at = times.now()
    stating.require_provable(snapshot, publish)
    folder = named(folder)
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder", hint="name the folder of the shards: its statement stands beside it")
    path = statement_path(folder)
    with holding.alone(folder):
        if (kind := stated_kind(path)) not in (None, AUDIT):
            raise UsageError(
                f"{path} is {'not the statement of an audit' if kind else 'no statement'}, and would be replaced by one",
                hint="it says more than an audit can, where the shards come from; to replace it all the same, move it away",
            )
        inputs = find_inputs([folder], hidden=True)
        names = [source.name for source in inputs]
        stating.require_no_others(folder, names, "shard of this set")
        # Their journals stand beside the folder or the link to it that they were told.
        for place in dict.fromkeys((folder, folder.resolve())):
            parts.require_whole(place, names, columns.document(), key)
        audited = audit(inputs, snapshot, columns, workers=workers, on_progress=on_progress, hashed=True)
        if not audited.compliant:
            files.withdraw(path)
            return Attestation(audit=audited, statement=None)
        stating.require_no_others(folder, names, "shard of this set")  # what came meanwhile was not decided
        snapshot = stating.published(publish, snapshot)
        record = AuditRecord(
            audit_id=secrets.token_hex(16),
            **stating.decided(snapshot, columns, audited.answers_sha256, audited.decided_at, recipient),
            subjects=None if audited.people is None else audited.people.commit(secrets.token_bytes(SEED_BYTES)),
            rests_on=total(shard.rests_on for shard in audited.shards),
            shards=[AuditedShard(name=s.name, sha256=s.sha256 or "", rows=s.rows) for s in audited.shards],
            started_at=started_at,
            finished_at=times.now(),
            warnings=tuple(audited.warnings),
        )
        return Attestation(audit=audited, statement=stating.put(folder, audit_statement(record), key, admit))
