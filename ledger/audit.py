"""An audit: every row of finished shards is decided anew, by the key columns alone. Nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ledger import times
from ledger.shards.answers import answers_at
from ledger.shards.columns import Columns
from ledger.shards.decide import decide
from ledger.shards.inputs import Input
from ledger.shards.rewrite import ShardFile
from ledger.shards.subjects import KeptSubjects
from ledger.shards.work import Callback, Progress, Tally, account, in_parallel, rows_of, total, unknown_ids
from ledger.snapshot import Snapshot


@dataclass(frozen=True, kw_only=True)
class ShardAudit:
    """name: relative to what was named. sha256: where it was asked for. rests_on: allowed rows by what their yes rests on."""

    path: str
    name: str
    sha256: str | None
    rows: int
    rows_without_consent: int
    reasons: dict[str, int]
    rests_on: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Whether every row's people said yes. people: the subjects of allowed rows, where they were asked for."""

    purpose: str
    snapshot_sha256: str
    answers_sha256: str
    decided_at: datetime
    shards: Sequence[ShardAudit]
    warnings: Sequence[str]
    people: KeptSubjects | None = None

    @property
    def rows(self) -> int:
        return sum(s.rows for s in self.shards)

    @property
    def rows_without_consent(self) -> int:
        return sum(s.rows_without_consent for s in self.shards)

    @property
    def compliant(self) -> bool:
        return self.rows_without_consent == 0

    def document(self) -> dict[str, Any]:
        """The JSON of `consent audit` (schemas/audit.json)."""
        return {
            "compliant": self.compliant,
            "purpose": self.purpose,
            "snapshot_sha256": self.snapshot_sha256,
            "rows": self.rows,
            "rows_without_consent": self.rows_without_consent,
            "reasons": total(s.reasons for s in self.shards),
            "warnings": list(self.warnings),
            "shards": [
                {"path": s.path, "rows": s.rows, "rows_without_consent": s.rows_without_consent, "reasons": s.reasons}
                for s in self.shards
            ],
        }


def audit(
    inputs: list[Input],
    snapshot: Snapshot,
    columns: Columns,
    *,
    workers: int,
    on_progress: Callback | None,
    hashed: bool = False,
) -> Audit:
    """Whether every row of the inputs is allowed now. hashed: with digests, each of the very bytes that were decided,
    and with the subjects.

    Raises as `ConsentFilter.audit_shards` does.
    """
    decided_at = times.now()
    snapshot.check_age(decided_at)
    categories = snapshot.header.categories
    progress = Progress(rows_of(inputs, lambda shard: columns.check(shard.schema_arrow, categories)), on_progress)
    answers = answers_at(snapshot, decided_at)
    people = KeptSubjects(answers) if hashed else None

    def one(source: Input) -> tuple[ShardAudit, int]:
        tally = Tally()
        with ShardFile(source.path, whole=hashed) as shard:
            sha256 = shard.sha256 if hashed else None
            names = columns.check(shard.schema_arrow, categories)
            for group in range(shard.num_row_groups):
                table = shard.read_keys(group, names)
                decisions = decide(columns.read(table), answers, categories)
                tally.add(table.num_rows, decisions)
                if people is not None:
                    people.add(decisions.kept_subjects())
                progress.add(table.num_rows)
            shard.check_unchanged()
        account(source.name, tally.rows, tally.counts)
        audited = ShardAudit(
            path=str(source.path),
            name=source.name,
            sha256=sha256,
            rows=tally.rows,
            rows_without_consent=tally.rows - tally.kept,
            reasons=tally.dropped(),
            rests_on=dict(tally.rests_on),
        )
        return audited, tally.known

    audited = in_parallel(one, inputs, workers)
    warnings = unknown_ids(((shard.path, shard.rows, known) for shard, known in audited), columns)
    return Audit(
        purpose=snapshot.purpose,
        snapshot_sha256=snapshot.sha256,
        answers_sha256=answers.digest,
        decided_at=decided_at,
        shards=[shard for shard, _ in audited],
        warnings=warnings,
        people=people,
    )
