"""The filter: a snapshot and the columns that hold the keys, applied to tables, shards and finished folders."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger import objects, times
from ledger.errors import UsageError
from ledger.log.keys import PrivateKey
from ledger.log.trust import Trust
from ledger.objects import Place
from ledger.shards.answers import Answers, answers_at
from ledger.shards.columns import Columns
from ledger.shards.decide import Decisions, decide
from ledger.shards.inputs import Input, find_inputs
from ledger.shards.table import keep
from ledger.shards.work import Callback
from ledger.snapshot import Snapshot

if TYPE_CHECKING:  # What is done with shards is imported by whoever does it.
    from ledger.attest import Attestation
    from ledger.audit import Audit
    from ledger.digesting import Digesting
    from ledger.run import Run
    from ledger.select import Selection
    from ledger.stale import Stale


@dataclass(frozen=True)
class ConsentFilter:
    """Frozen and picklable: the snapshot's digest is part of its state, the index is built once per process.

    decided_at: when expiry is judged for tables; a run over shards judges at its own start.
    """

    snapshot: Snapshot
    columns: Columns
    decided_at: datetime = field(default_factory=times.now)

    @property
    def answers(self) -> Answers:
        """The index over the snapshot's rows, as they stand at decided_at; built once per process."""
        return answers_at(self.snapshot, self.decided_at)

    @property
    def answers_sha256(self) -> str:
        """Of all that decides rows, terms resolved at decided_at: it changes with every withdrawal and every expiry."""
        return self.answers.digest

    def decide(self, batch: Any, answers: Answers | None = None) -> Decisions:
        """One decision a row of a Table or RecordBatch. Raises UsageError for columns that cannot be keys.

        answers: this filter's, built by another process whose memory is shared. Raises UsageError for any other.
        """
        self.snapshot.check_age(self.decided_at)
        self.snapshot.check_age(times.now())  # a filter may live long, or be told an earlier moment
        self.columns.check(batch.schema, self.snapshot.header.categories)
        if answers is None:
            answers = self.answers
        elif not answers.stand(self.snapshot.sha256, self.decided_at):
            raise UsageError("the answers are another filter's", hint="hand on `answers` of a filter equal to this one")
        return decide(self.columns.read(batch), answers, self.snapshot.header.categories)

    def __call__(self, table: Any, answers: Answers | None = None) -> Any:
        """The kept rows of a Table, same schema. answers: as for `decide`."""
        return keep(table, self.decide(table, answers).keep)

    def filter_shards(
        self,
        inputs: Sequence[str | Place] | Digesting,
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
        part: tuple[int, int] | None = None,
        on_progress: Callback | None = None,
    ) -> Run:
        """Write each shard's allowed rows to `output`, and the signed statement beside it as OUTPUT.intoto.jsonl.

        Inputs and output may be addresses in an object store, `s3://bucket/folder`; exclusions are a file of this machine.
        inputs: also as a `Digesting` has them (by_block=False), whose thread hashes them already.

        key: the run key; without one there is no statement and nothing is resumed. publish: logs a snapshot that has no
        receipt yet (`Ledger.publish`), once every input was found fit. admit: logs the statement (`Ledger.admit`). min_kept:
        the least share of rows that must be kept. exclusions: a Parquet file of what was dropped.
        drop_metadata: keys of the shards' metadata to leave out. part: (3, 64) does the third of 64 shares of the inputs, which
        all parts are told alike, and makes no statement: `attest_shards` does, once all of them are there.
        Raises ShardError or UsageError for what is wrong with any of the inputs before the first output is written.
        """
        from ledger.parts import Part
        from ledger.run import run

        found, digesting = _found(inputs)
        return run(
            found,
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
            part=None if part is None else Part(*part),
            on_progress=on_progress,
            digesting=digesting,
        )

    def audit_shards(self, paths: Sequence[str | Place], *, workers: int = 2, on_progress: Callback | None = None) -> Audit:
        """Decide every row of finished shards. Reads the key columns only, writes nothing."""
        from ledger.audit import audit

        return audit(find_inputs(paths, hidden=True), self.snapshot, self.columns, workers=workers, on_progress=on_progress)

    def stale_shards(self, folder: str | Path, *, trust: str | Path | Trust) -> Stale:
        """Which shards of a finished run hold people who are answered otherwise now: by the run's index, no shard is read.

        trust: whose statement counts. Raises VerificationError where it is not trusted, UsageError where the folder has no
        index of that run, or this filter has other columns, or answers that cannot be compared with the run's.
        """
        from ledger.stale import stale

        return stale(objects.local(folder), self.snapshot, self.columns, trust)

    def attest_shards(
        self,
        folder: str | Place,
        *,
        key: PrivateKey,
        workers: int = 2,
        publish: Callable[[Snapshot], Snapshot] | None = None,
        admit: Callable[[bytes], bytes] | None = None,
        recipient: str | None = None,
        on_progress: Callback | None = None,
    ) -> Attestation:
        """Audit every shard of a folder, whoever wrote them, and where all rows are allowed sign that beside it.

        key, publish, admit: as for `filter_shards`. Where rows are not allowed there is no statement, and an earlier one of an
        audit is removed. Raises UsageError where the statement of a run is there, ShardError where the folder holds what `verify`
        would refuse, or not all that the journals of a run's parts speak of.
        """
        from ledger.attest import attest

        return attest(
            objects.place(folder),
            self.snapshot,
            self.columns,
            workers=workers,
            key=key,
            publish=publish,
            admit=admit,
            recipient=recipient,
            on_progress=on_progress,
        )

    def select_shards(
        self,
        inputs: Sequence[str | Place] | Digesting,
        output: str | Place,
        *,
        key: PrivateKey,
        workers: int = 2,
        publish: Callable[[Snapshot], Snapshot] | None = None,
        admit: Callable[[bytes], bytes] | None = None,
        recipient: str | None = None,
        min_kept: float = 0.0,
        on_progress: Callback | None = None,
    ) -> Selection:
        """Write which rows of each shard are allowed to `output`, no row itself, and the signed statement beside it.

        `open_shards(inputs, selection=output)` yields those rows, of the shards where they are. key, publish, admit, min_kept: as
        for `filter_shards`. inputs: also as a `Digesting` has them, whose thread hashes them already. Raises as `filter_shards`
        does, before the first file is written for what is wrong with any of the inputs.
        """
        from ledger.select import select

        found, digesting = _found(inputs)
        return select(
            found,
            objects.place(output),
            self.snapshot,
            self.columns,
            workers=workers,
            key=key,
            publish=publish,
            admit=admit,
            recipient=recipient,
            min_kept=min_kept,
            on_progress=on_progress,
            digesting=digesting,
        )


def _found(inputs: Sequence[str | Place] | Digesting) -> tuple[list[Input], Digesting | None]:
    from ledger.digesting import Digesting

    return (inputs.inputs, inputs) if isinstance(inputs, Digesting) else (find_inputs(inputs), None)
