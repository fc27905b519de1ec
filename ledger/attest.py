"""An attestation: shards that whoever wrote are audited row by row, and a statement of that is signed if all of them are clean.

What is signed is what was decided: each shard is hashed and decoded by one open file, and the folder holds no others, before and
after. A set in which a part of a cluster's run is missing is not sealed. The statement of a run is never replaced by this one; an
earlier audit's is, and it is withdrawn where the folder is found not to be clean any more.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger import files, holding, parts, times
from ledger.audit import Audit, audit
from ledger.errors import ShardError, UsageError, VerificationError
from ledger.log import dsse
from ledger.log.keys import PrivateKey
from ledger.log.prefix_tree import SEED_BYTES
from ledger.objects import Place
from ledger.run import VERSIONS, published
from ledger.shards.columns import Columns
from ledger.shards.inputs import find_inputs
from ledger.shards.work import Callback, total
from ledger.snapshot import RULE_VERSION, Snapshot
from ledger.statements.audit_statement import AUDIT, AuditedShard, AuditRecord, audit_statement
from ledger.statements.verify import exact_shards, stated_kind, statement_path


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
    if snapshot.receipt is None and publish is None:
        raise UsageError(
            "a snapshot without a receipt proves nothing", hint="compile one with `consent snapshot`, or Ledger.snapshot"
        )
    folder = folder.resolve() if isinstance(folder, Path) and folder.name in ("", "..") else folder
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
        _require_no_others(folder, names)
        # Their journals stand beside the folder or the link to it that they were told.
        for place in dict.fromkeys((folder, folder.resolve())):
            parts.require_whole(place, names, columns.document(), key)
        audited = audit(inputs, snapshot, columns, workers=workers, on_progress=on_progress, hashed=True)
        if not audited.compliant:
            files.withdraw(path)
            return Attestation(audit=audited, statement=None)
        _require_no_others(folder, names)  # what came meanwhile was not decided
        if snapshot.receipt is None and publish is not None:
            snapshot = published(publish, snapshot)
        record = AuditRecord(
            audit_id=secrets.token_hex(16),
            purpose=snapshot.purpose,
            rule_version=RULE_VERSION,
            origin=snapshot.header.origin,
            snapshot_sha256=snapshot.sha256,
            answers_sha256=audited.answers_sha256,
            snapshot_receipt=(snapshot.receipt or b"").decode(),
            columns=columns.document(),
            decided_at=audited.decided_at,
            age_seconds=int(snapshot.age(audited.decided_at).total_seconds()),
            max_age_seconds=int(snapshot.max_age.total_seconds()),
            recipient=recipient,
            subjects=None if audited.people is None else audited.people.commit(secrets.token_bytes(SEED_BYTES)),
            rests_on=total(shard.rests_on for shard in audited.shards),
            shards=[AuditedShard(name=s.name, sha256=s.sha256 or "", rows=s.rows) for s in audited.shards],
            versions=VERSIONS,
            started_at=started_at,
            finished_at=times.now(),
            warnings=tuple(audited.warnings),
        )
        line = dsse.seal(audit_statement(record), key)
        files.publish_bytes(path, line + b"\n" + (admit(line) if admit is not None else b""))
        return Attestation(audit=audited, statement=path)


def _require_no_others(folder: Place, names: Sequence[str]) -> None:
    """Raises ShardError for what some reader would take, and `verify` refuse: no statement would hold."""
    try:
        exact_shards(folder, names)
    except (VerificationError, OSError) as error:
        raise ShardError(f"no statement would hold for {folder}: {error}", hint="remove what is no shard of this set") from error
