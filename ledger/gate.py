"""The gate before training: rows of shards whose statement verifies, is for the purpose, and is fresh; or none at all.

The shards are those of a run or an audit, all of whose rows are allowed; or any, of which a selection says which rows are
(`selected`).

- Everything is checked when the gate is opened, before the first row: signature, log, purpose, age, that each folder holds
  exactly the shards that its statement names, and their digests. The age is checked again when an epoch begins.
- What is decoded is what was hashed, byte for byte, however late. While a shard's digest is computed, one of each block of it is
  kept (32 bytes a MiB), and no block is handed to the decoder that has another. So rows may flow at once: a shard that is
  replaced or rewritten after the check ends the iteration, and none of its new rows comes out.
- It needs neither database nor torch, and can be pickled. Workers of a PyTorch DataLoader each take a part:

      class Rows(torch.utils.data.IterableDataset):
          def __init__(self, gate): self.gate = gate
          def __iter__(self):
              worker = torch.utils.data.get_worker_info()
              return iter(self.gate if worker is None else self.gate.part(worker.id, worker.num_workers))
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from ledger import blocks, times
from ledger.blocks import Authentic
from ledger.consent import split_purpose
from ledger.errors import ShardError, SnapshotError, UsageError, VerificationError
from ledger.log.trust import Trust
from ledger.objects import Address, Place, place
from ledger.statements.audit_statement import AuditRecord
from ledger.statements.selection_statement import SelectionRecord
from ledger.statements.statement import RunRecord
from ledger.statements.verify import (
    Record,
    another_digest,
    exact_shards,
    load_trust,
    open_shard,
    open_statement,
    read_statement,
    statement_path,
)

if TYPE_CHECKING:
    from ledger.selected import InPlace

BATCH_ROWS = 65_536
MAX_AGE = timedelta(hours=24)
_TICK = timedelta(microseconds=1)
_SECOND = 1_000_000


@dataclass(frozen=True)
class GateShard:
    """A shard that was checked. blocks: the SHA-256 of each of its blocks, one after another."""

    path: Place
    name: str
    size: int
    blocks: bytes

    def open(self) -> Authentic:
        return Authentic(open_shard(self.path), self.size, self.blocks, f"{self.path} was changed after it was verified")

    def batches(self, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        with self.open() as file:
            reader = pq.ParquetFile(file, pre_buffer=False, buffer_size=blocks.BLOCK)
            yield from reader.iter_batches(BATCH_ROWS, columns=None if columns is None else list(columns), use_threads=False)


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Iterate over it, as often as you like, for pyarrow RecordBatches of at most BATCH_ROWS rows, shard after shard."""

    records: Mapping[Place, Record]
    shards: Sequence[GateShard | InPlace]
    columns: Sequence[str] | None
    max_age: timedelta

    def part(self, number: int, of: int) -> Gate:
        """Every `of`-th shard from this one on, counted from 0: what one of so many workers reads."""
        if not 0 <= number < of:
            raise UsageError(f"there is no part {number} of {of}", hint="parts are counted from 0")
        return replace(self, shards=self.shards[number::of])

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for folder, record in self.records.items():
            _require_fresh(folder, record, self.max_age)
        for shard in self.shards:
            with _reading(shard):
                yield from shard.batches(self.columns)


def open_shards(
    paths: str | Place | Sequence[str | Place],
    *,
    trust: str | Path | Trust,
    purpose: str,
    selection: str | Place | None = None,
    max_age: timedelta = MAX_AGE,
    columns: Sequence[str] | None = None,
    allow_unlogged: bool = False,
) -> Gate:
    """Rows that may be used for this purpose: folders, each with the statement of its run or audit beside it.

    trust: whose keys count. purpose: `token` or `token@version` that every statement must be for. max_age: how old the answers
    that decided the rows may be when an epoch begins: their age then, and the time since. columns: those to read, else all.
    allow_unlogged: take statements that are not in the log. selection: the folder of one, with its statement beside it; the
    paths are then shards of it, or folders of them, named as they were when it was made, and its rows alone come out.

    Raises VerificationError where something does not hold, UsageError for another purpose, a path that is no folder or a shard
    that the selection lacks, SnapshotError for answers that are too old, ShardError for what cannot be read; all before the first
    row. A shard of a selection is hashed as it is read: one that was changed raises VerificationError when its turn comes.
    """
    paths = [paths] if isinstance(paths, str | Path | Address) else paths
    if not paths:
        raise UsageError("no folder of shards was named")
    known = trust if isinstance(trust, Trust) else load_trust(trust)
    if selection is not None:
        return _selected(paths, place(selection), known, purpose, max_age, columns, allow_unlogged)
    records: dict[Place, Record] = {}
    for path in map(place, paths):
        if not path.is_dir():
            raise UsageError(f"{path} is no folder", hint="a statement speaks of a folder of shards as a whole: name that")
        records[path] = _record(path, known, purpose, max_age, allow_unlogged)
    shards = [shard for path, record in records.items() for shard in _checked(path, record)]
    gate = Gate(records=records, shards=shards, columns=columns, max_age=max_age)
    for shard in shards:
        with _reading(shard), shard.open() as file:
            there = pq.ParquetFile(file).schema_arrow.names
        _require_columns(shard, there, columns)
    return gate


def _selected(
    paths: Sequence[str | Place],
    folder: Place,
    trust: Trust,
    purpose: str,
    max_age: timedelta,
    columns: Sequence[str] | None,
    allow_unlogged: bool,
) -> Gate:
    from ledger.selected import in_place  # not for those who read whole shards: it loads what reads bitmaps

    record = _record(folder, trust, purpose, max_age, allow_unlogged, SelectionRecord)
    assert isinstance(record, SelectionRecord)
    shards = in_place(paths, folder, record)
    for shard in shards:
        with _reading(shard):
            there = shard.check(columns)
        _require_columns(shard, there, columns)
    return Gate(records={folder: record}, shards=shards, columns=columns, max_age=max_age)


def _record(
    folder: Place,
    trust: Trust,
    purpose: str,
    max_age: timedelta,
    allow_unlogged: bool,
    kind: type[Record] | UnionType = RunRecord | AuditRecord,
) -> Record:
    try:
        record = open_statement(read_statement(statement_path(folder)), trust, allow_unlogged=allow_unlogged).record
    except VerificationError as error:
        raise VerificationError(f"{folder}: {error}", hint=error.hint) from error
    if not isinstance(record, kind):
        raise UsageError(
            f"the statement of {folder} is {'of a selection' if kind is not SelectionRecord else 'not of a selection'}",
            hint="name the shards, and the selection's folder as selection=; or a folder of a run or an audit, without it",
        )
    if purpose not in (record.purpose, split_purpose(record.purpose)[0]):
        raise UsageError(
            f"the rows of {folder} were decided for {record.purpose!r:.120}, not for {purpose!r:.120}",
            hint="filter, attest or select them for this purpose",
        )
    _require_fresh(folder, record, max_age)
    return record


def _require_fresh(folder: Place, record: Record, max_age: timedelta) -> None:
    now = times.now()
    if record.decided_at > now:
        raise SnapshotError(f"the rows of {folder} were decided at {times.text(record.decided_at)}, which has not come yet")
    # Its seconds are whole: what was cut off counts as one. They may be more than a timedelta holds.
    age = (now - record.decided_at) // _TICK + (record.age_seconds + 1) * _SECOND
    if age > max_age // _TICK:
        raise SnapshotError(
            f"the answers that decided the rows of {folder} are {age // _SECOND} seconds old; "
            f"they may be {max_age // timedelta(seconds=1)}",
            hint="filter, attest or select the shards by a fresh snapshot, or allow more with max_age",
        )


def _checked(folder: Place, record: Record) -> Iterator[GateShard]:
    digests = record.digests
    try:
        found = exact_shards(folder, digests)
        for name in sorted(found, key=str.encode):
            with open_shard(found[name]) as file:
                whole, of_blocks, size = blocks.digests(file)
            if whole != digests[name]:
                raise another_digest(name)
            yield GateShard(found[name].absolute(), name, size, of_blocks)
    except VerificationError as error:
        raise VerificationError(f"{folder}: {error}", hint=error.hint) from error
    except OSError as error:
        raise ShardError(f"cannot read {folder}: {error.strerror or error}") from error


def _require_columns(shard: GateShard | InPlace, there: Sequence[str], columns: Sequence[str] | None) -> None:
    if lacking := [name for name in columns or () if there.count(name) != 1]:
        raise UsageError(f"{shard.path} has not one column {lacking[0]!r:.120}", hint=f"it has {', '.join(there):.1000}")


@contextmanager
def _reading(shard: GateShard | InPlace) -> Iterator[None]:
    try:
        yield
    except VerificationError as error:
        said = str(error) if str(shard.path) in str(error) else f"{shard.path}: {error}"
        raise VerificationError(said, hint=error.hint) from error
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ShardError(f"{shard.path} cannot be read: {error}") from error
