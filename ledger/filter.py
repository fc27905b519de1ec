"""The filter: a snapshot and the columns that hold the keys, applied to tables, shards and finished folders."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from ledger import objects, times
from ledger.audit import Audit, audit
from ledger.log.keys import PrivateKey
from ledger.objects import Place
from ledger.run import Run, run
from ledger.shards.answers import answers_at
from ledger.shards.columns import Columns
from ledger.shards.decide import Decisions, decide
from ledger.shards.inputs import find_inputs
from ledger.shards.table import keep
from ledger.shards.work import Callback
from ledger.snapshot import Snapshot


@dataclass(frozen=True)
class ConsentFilter:
    """Frozen and picklable: the snapshot's digest is part of its state, the index is built once per process.

    decided_at: when expiry is judged for tables; a run over shards judges at its own start.
    """

    snapshot: Snapshot
    columns: Columns
    decided_at: datetime = field(default_factory=times.now)

    def decide(self, batch: Any) -> Decisions:
        """One decision a row of a Table or RecordBatch. Raises UsageError for columns that cannot be keys."""
        self.snapshot.check_age(self.decided_at)
        self.snapshot.check_age(times.now())  # a filter may live long, or be told an earlier moment
        self.columns.check(batch.schema, self.snapshot.header.categories)
        return decide(self.columns.read(batch), answers_at(self.snapshot, self.decided_at), self.snapshot.header.categories)

    def __call__(self, table: Any) -> Any:
        """The kept rows of a Table, same schema."""
        return keep(table, self.decide(table).keep)

    def filter_shards(
        self,
        inputs: Sequence[str | Place],
        output: str | Place,
        *,
        workers: int = 2,
        key: PrivateKey | None = None,
        publish: Callable[[Snapshot], Snapshot] | None = None,
        admit: Callable[[bytes], bytes] | None = None,
        recipient: str | None = None,
        min_kept: float = 0.0,
        exclusions: str | Path | None = None,
        drop_metadata: str | Collection[str] = (),
        on_progress: Callback | None = None,
    ) -> Run:
        """Write each shard's allowed rows to `output`, and the signed statement beside it as OUTPUT.intoto.jsonl.

        Inputs and output may be addresses in an object store, `s3://bucket/folder`; exclusions are a file of this machine.

        key: the run key; without one there is no statement and nothing is resumed. publish: logs a snapshot that has no
        receipt yet (`Ledger.publish`), once every input was found fit. admit: logs the statement (`Ledger.admit`). min_kept:
        the least share of rows that must be kept. exclusions: a Parquet file of what was dropped.
        drop_metadata: keys of the shards' metadata to leave out. Raises ShardError or UsageError for what is wrong with any
        of the inputs before the first output is written.
        """
        return run(
            find_inputs(inputs),
            objects.place(output),
            self.snapshot,
            self.columns,
            workers=workers,
            key=key,
            publish=publish,
            admit=admit,
            recipient=recipient,
            min_kept=min_kept,
            exclusions=None if exclusions is None else objects.local(exclusions),
            drop_metadata=drop_metadata,
            on_progress=on_progress,
        )

    def audit_shards(self, paths: Sequence[str | Place], *, workers: int = 2, on_progress: Callback | None = None) -> Audit:
        """Decide every row of finished shards. Reads the key columns only, writes nothing."""
        return audit(find_inputs(paths, hidden=True), self.snapshot, self.columns, workers=workers, on_progress=on_progress)
