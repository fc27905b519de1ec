"""The gate before training: rows of shards whose statement verifies, is for the purpose, and is fresh; or none at all.

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

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ledger import times
from ledger.consent import split_purpose
from ledger.errors import ShardError, SnapshotError, UsageError, VerificationError
from ledger.log.trust import Trust
from ledger.objects import Address, Place, place
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

BLOCK = 1 << 20
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


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Iterate over it, as often as you like, for pyarrow RecordBatches of at most BATCH_ROWS rows, shard after shard."""

    records: Mapping[Place, Record]
    shards: Sequence[GateShard]
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
            yield from _batches(shard, self.columns)


def open_shards(
    paths: str | Place | Sequence[str | Place],
    *,
    trust: str | Path | Trust,
    purpose: str,
    max_age: timedelta = MAX_AGE,
    columns: Sequence[str] | None = None,
    allow_unlogged: bool = False,
) -> Gate:
    """Rows that may be used for this purpose: folders, each with the statement of its run or audit beside it.

    trust: whose keys count. purpose: `token` or `token@version` that every statement must be for. max_age: how old the answers
    that decided the rows may be when an epoch begins: their age then, and the time since. columns: those to read, else all.
    allow_unlogged: take statements that are not in the log.

    Raises VerificationError where something does not hold, UsageError for another purpose or a path that is no folder,
    SnapshotError for answers that are too old, ShardError for what cannot be read; all before the first row.
    """
    paths = [paths] if isinstance(paths, str | Path | Address) else paths
    if not paths:
        raise UsageError("no folder of shards was named")
    known = trust if isinstance(trust, Trust) else load_trust(trust)
    records: dict[Place, Record] = {}
    for path in map(place, paths):
        if not path.is_dir():
            raise UsageError(f"{path} is no folder", hint="a statement speaks of a folder of shards as a whole: name that")
        records[path] = _record(path, known, purpose, max_age, allow_unlogged)
    shards = [shard for path, record in records.items() for shard in _checked(path, record)]
    gate = Gate(records=records, shards=shards, columns=columns, max_age=max_age)
    for shard in gate.shards:
        with _open(shard) as file:
            _require_columns(shard, file, columns)
    return gate


def _record(folder: Place, trust: Trust, purpose: str, max_age: timedelta, allow_unlogged: bool) -> Record:
    try:
        record = open_statement(read_statement(statement_path(folder)), trust, allow_unlogged=allow_unlogged).record
    except VerificationError as error:
        raise VerificationError(f"{folder}: {error}", hint=error.hint) from error
    if purpose not in (record.purpose, split_purpose(record.purpose)[0]):
        raise UsageError(
            f"the rows of {folder} were decided for {record.purpose!r:.120}, not for {purpose!r:.120}",
            hint="filter or attest them for this purpose",
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
            hint="filter or attest the shards by a fresh snapshot, or allow more with max_age",
        )


def _checked(folder: Place, record: Record) -> Iterator[GateShard]:
    digests = record.digests
    try:
        found = exact_shards(folder, digests)
        for name in sorted(found, key=str.encode):
            whole, blocks, size = hashlib.sha256(), [], 0
            with open_shard(found[name]) as file:
                while block := file.read(BLOCK):
                    whole.update(block)
                    blocks.append(hashlib.sha256(block).digest())
                    size += len(block)
            if whole.hexdigest() != digests[name]:
                raise another_digest(name)
            yield GateShard(found[name].absolute(), name, size, b"".join(blocks))
    except VerificationError as error:
        raise VerificationError(f"{folder}: {error}", hint=error.hint) from error
    except OSError as error:
        raise ShardError(f"cannot read {folder}: {error.strerror or error}") from error


def _open(shard: GateShard) -> _Authentic:
    return _Authentic(open_shard(shard.path), shard)


def _require_columns(shard: GateShard, file: _Authentic, columns: Sequence[str] | None) -> None:
    try:
        names = pq.ParquetFile(file).schema_arrow.names
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ShardError(f"{shard.path} cannot be read: {error}") from error
    if lacking := [name for name in columns or () if names.count(name) != 1]:
        raise UsageError(f"{shard.path} has not one column {lacking[0]!r:.120}", hint=f"it has {', '.join(names):.1000}")


def _batches(shard: GateShard, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    try:
        with _open(shard) as file:
            reader = pq.ParquetFile(file, pre_buffer=False, buffer_size=BLOCK)
            yield from reader.iter_batches(BATCH_ROWS, columns=None if columns is None else list(columns), use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ShardError(f"{shard.path} cannot be read: {error}") from error


class _Authentic(io.RawIOBase):
    """A shard's bytes, read at need, none of which is handed on before its block has the digest that it had."""

    def __init__(self, file: BinaryIO, shard: GateShard) -> None:
        self._source, self._shard, self._at = file, shard, 0
        self._number, self._block = -1, b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._shard.size}[whence]
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        with memoryview(buffer).cast("B") as view:
            done = 0
            while done < len(view) and self._at < self._shard.size:
                block = self._read(self._at // BLOCK)
                piece = block[self._at % BLOCK :][: len(view) - done]
                view[done : done + len(piece)] = piece
                done, self._at = done + len(piece), self._at + len(piece)
            return done

    def close(self) -> None:
        self._source.close()
        super().close()

    def _read(self, number: int) -> bytes:
        if number != self._number:
            self._source.seek(number * BLOCK)
            block = self._source.read(min(BLOCK, self._shard.size - number * BLOCK))
            if hashlib.sha256(block).digest() != self._shard.blocks[32 * number : 32 * number + 32]:
                raise VerificationError(
                    f"{self._shard.path} was changed after it was verified",
                    hint="leave shards alone that are in use, and open them again",
                )
            self._number, self._block = number, block
        return self._block
