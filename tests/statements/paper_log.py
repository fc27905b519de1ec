"""A log in memory, with its keys and a clock that stands still: what the tests of receipts and statements are about."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ledger import times
from ledger.log import canonical, dsse, merkle
from ledger.log.checkpoint import Checkpoint, sign_checkpoint
from ledger.log.entry import act_entry, event_body, event_entry, subject_tag
from ledger.log.keys import PrivateKey
from ledger.log.note import Verifier
from ledger.log.proof import TlogProof
from ledger.log.trust import Trust
from ledger.statements.audit_statement import AuditedShard, AuditRecord
from ledger.statements.receipt import act_receipt, event_receipt
from ledger.statements.selection_statement import SelectedShard, SelectionRecord
from ledger.statements.statement import RUN, RunRecord, ShardRecord

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
SALT = bytes(range(32))
TAG_KEY = b"k" * 32

EVENT: dict[str, Any] = {
    "event_id": "e1",
    "state": "given",
    "subject_id": "u1",
    "purposes": ["search@1", "train-ai@2"],
    "actor": "subject",
    "occurred_at": times.text(NOON),
    "recorded_at": times.text(NOON + timedelta(seconds=1)),
    "recorded_by": "user:ann",
}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class PaperLog:
    origin: str = "paper.example/log"
    log_key: PrivateKey = field(default_factory=PrivateKey.generate)
    run_key: PrivateKey = field(default_factory=PrivateKey.generate)
    leaves: list[bytes] = field(default_factory=list)

    @property
    def trust(self) -> Trust:
        return Trust((Verifier.of(self.origin, self.log_key.public),), (Verifier.of(f"{self.origin}/run", self.run_key.public),))

    @property
    def trust_text(self) -> str:
        trust = self.trust
        return f"log {trust.log[0].vkey}\nrun {trust.run[0].vkey}\n"

    def node(self, level: int, index: int) -> bytes:
        if level == 0:
            return self.leaves[index]
        return merkle.node_hash(self.node(level - 1, 2 * index), self.node(level - 1, 2 * index + 1))

    def append(self, entry: bytes) -> int:
        self.leaves.append(merkle.leaf_hash(entry))
        return len(self.leaves) - 1

    def fill(self, count: int) -> None:
        for number in range(count):
            self.append(hashlib.sha256(b"%d" % number).digest())

    def checkpoint(self, size: int | None = None) -> Checkpoint:
        size = len(self.leaves) if size is None else size
        return Checkpoint(self.origin, size, merkle.root(size, self.node))

    def proof(self, position: int, size: int | None = None) -> TlogProof:
        checkpoint = self.checkpoint(size)
        path = merkle.inclusion_proof(position, checkpoint.size, self.node)
        return TlogProof(position, tuple(path), sign_checkpoint(checkpoint, self.log_key))

    def log_event(self, event: Mapping[str, Any] = EVENT) -> bytes:
        """Appends it; the receipt's line."""
        tag = subject_tag(TAG_KEY, "u1")
        position = self.append(event_entry(tag, event_body(SALT, canonical.encode(event))))
        return event_receipt(canonical.encode(event), SALT, tag, self.proof(position))

    def log_act(self, kind: str, **fields: Any) -> bytes:
        """Appends it; the receipt's line."""
        act = {"act": kind, "recorded_at": times.text(NOON), "recorded_by": "user:ann", **fields}
        return act_receipt(act, SALT, self.proof(self.append(act_entry(SALT, canonical.encode(act)))))

    def log_snapshot(self, **fields: Any) -> bytes:
        return self.log_act(
            "snapshot_compiled",
            **{
                "purpose": "train-ai@2",
                "snapshot_sha256": sha256(b"snapshot"),
                "file_sha256": sha256(b"file"),
                "tree_size": len(self.leaves),
                "as_of": times.text(NOON),
                **fields,
            },
        )

    def log_statement(self, line: bytes, **fields: Any) -> bytes:
        return self.log_act("statement_made", **{"statement_sha256": sha256(line), "predicate_type": RUN, **fields})

    def seal(self, payload: bytes) -> bytes:
        return dsse.seal(payload, self.run_key)


def shard(name: str = "a.parquet", content: bytes = b"kept", **fields: Any) -> ShardRecord:
    return ShardRecord(
        **{
            "input": name,
            "input_sha256": sha256(name.encode()),
            "output": name,
            "output_sha256": sha256(content),
            "rows_in": 10,
            "rows_kept": 6,
            "rows_dropped": {"withdrawn": 3, "no_record": 1, "expired": 0},
            **fields,
        }
    )


def run_record(receipt: bytes, **fields: Any) -> RunRecord:
    """Two shards unless told."""
    return RunRecord(
        **{
            "run_id": "r1",
            "purpose": "train-ai@2",
            "rule_version": "1",
            "origin": "paper.example/log",
            "snapshot_sha256": sha256(b"snapshot"),
            "answers_sha256": sha256(b"answers"),
            "snapshot_receipt": receipt.decode(),
            "columns": {"subject": ["user_id"], "category": "=post"},
            "decided_at": NOON + timedelta(seconds=90),
            "age_seconds": 90,
            "max_age_seconds": 86400,
            "rests_on": {"session": 8, "import": 4},
            "unmapped": 1,
            "shards": (shard("b/a.parquet", b"kept b"), shard()),
            "versions": {"pyarrow": "26.0.0"},
            "started_at": NOON + timedelta(seconds=90),
            "finished_at": NOON + timedelta(seconds=95),
            **fields,
        }
    )


def audit_record(receipt: bytes, **fields: Any) -> AuditRecord:
    """Of the same two shards unless told."""
    return AuditRecord(
        **{
            "audit_id": "a1",
            "purpose": "train-ai@2",
            "rule_version": "1",
            "origin": "paper.example/log",
            "snapshot_sha256": sha256(b"snapshot"),
            "answers_sha256": sha256(b"answers"),
            "snapshot_receipt": receipt.decode(),
            "columns": {"subject": ["user_id"], "category": "=post"},
            "decided_at": NOON + timedelta(seconds=90),
            "age_seconds": 90,
            "max_age_seconds": 86400,
            "rests_on": {"session": 8, "import": 4},
            "shards": (
                AuditedShard(name="b/a.parquet", sha256=sha256(b"kept b"), rows=5),
                AuditedShard(name="a.parquet", sha256=sha256(b"kept"), rows=7),
            ),
            "versions": {"pyarrow": "26.0.0"},
            "started_at": NOON + timedelta(seconds=90),
            "finished_at": NOON + timedelta(seconds=95),
            **fields,
        }
    )


def selection_record(receipt: bytes, **fields: Any) -> SelectionRecord:
    """Of two shards unless told."""
    audit = audit_record(receipt)
    common = {name: getattr(audit, name) for name in audit.__dataclass_fields__ if name not in ("audit_id", "shards")}
    shards = [
        SelectedShard(
            name=name,
            sha256=sha256(name.encode()),
            size=1_500_000,
            blocks_sha256=sha256(b"blocks" + name.encode()),
            positions_sha256=sha256(b"rows" + name.encode()),
            rows_in=10,
            rows_kept=6,
            rows_dropped={"withdrawn": 3, "no_record": 1},
        )
        for name in ("a.parquet", "b/a.parquet")
    ]
    return SelectionRecord(**{**common, "selection_id": "s1", "unmapped": 1, "shards": shards, **fields})
