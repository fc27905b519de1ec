"""Rows by position: of shards that stay where they are, those that a selection allows, and no others.

- A shard is known by the digests of its blocks, which the selection's statement vouches for. It is not hashed before it is read:
  each block is as it is read, and none that differs is decoded. Another file of its name and size ends the reading.
- Row groups of which no row is allowed are not read. There is no Python per row.
- Arrow's threads decode a column each, the widest one first; one reads and hashes ahead, and the reader's own leaves out what is
  not allowed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ledger.blocks import BLOCK, DIGEST, Authentic, count
from ledger.errors import ShardError, UsageError, VerificationError
from ledger.objects import Place
from ledger.shards.inputs import find_inputs
from ledger.shards.positions import Positions, limit
from ledger.shards.table import keep, mask_of, require_separable
from ledger.statements.selection_statement import BLOCKS_SUFFIX, POSITIONS_SUFFIX, SelectedShard, SelectionRecord
from ledger.statements.verify import open_shard, read_file

_ROWS = 16_384
"""Decoded at a time: what is left out was never written far from the processor."""


def positions_of(folder: Place, stated: SelectedShard) -> Positions:
    """Which rows of a shard are allowed. Raises VerificationError where that is not what the statement vouches for."""
    data = _stated(folder, stated.name + POSITIONS_SUFFIX, limit(stated.rows_in), stated.positions_sha256)
    return Positions(data, stated.rows_in, stated.rows_kept)


def blocks_of(folder: Place, stated: SelectedShard) -> bytes:
    """The digests of a shard's blocks. Raises VerificationError likewise."""
    data = _stated(folder, stated.name + BLOCKS_SUFFIX, DIGEST * count(stated.size), stated.blocks_sha256)
    if len(data) != DIGEST * count(stated.size):
        raise VerificationError(f"{stated.name!r:.200} has not as many blocks as bytes")
    return data


def _stated(folder: Place, name: str, most: int, digest: str) -> bytes:
    data = read_file(folder / name, most)
    if sha256(data).hexdigest() != digest:
        raise VerificationError(f"{name!r:.200} is not the file that the statement names: its digest is another")
    return data


@dataclass(frozen=True)
class InPlace:
    """A shard, and what a selection in that folder says of it. It holds nothing that was read, and is small to send."""

    path: Place
    folder: Place
    stated: SelectedShard

    @property
    def name(self) -> str:
        return self.stated.name

    def open(self, ahead: Executor | None = None) -> Authentic:
        """Raises VerificationError where it has not its size, or the selection's file is not there."""
        blocks, file = blocks_of(self.folder, self.stated), open_shard(self.path)
        changed = f"{self.path} is not the shard that the selection is of: it was changed, or replaced"
        if file.seek(0, 2) != self.stated.size:
            file.close()
            raise VerificationError(changed, hint="select from it again with `consent select`")
        return Authentic(file, self.stated.size, blocks, changed, ahead)

    def check(self, columns: Sequence[str] | None) -> list[str]:
        """What can be checked before the first row: that positions are there and hold, and what a filtered batch could not be.
        Its columns."""
        positions_of(self.folder, self.stated)
        with self.open() as file:
            reader = pq.ParquetFile(file)
            schema = reader.schema_arrow
            if columns is None or all(schema.names.count(name) == 1 for name in columns):
                # By the first part of a name: `a.b` also reads the field b of a column a, and `a` a column that is called a.b.
                first = None if columns is None else {name.partition(".")[0] for name in columns}
                require_separable(pa.schema([one for one in schema if first is None or one.name.partition(".")[0] in first]))
            _groups(reader, self)
            names: list[str] = schema.names
            return names

    def batches(self, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        """The allowed rows, in their order. Raises VerificationError, and ShardError for what cannot be read."""
        positions = positions_of(self.folder, self.stated)
        with ThreadPoolExecutor(1) as ahead, self.open(ahead) as file, ThreadPoolExecutor(1) as decoding:
            reader = pq.ParquetFile(file, pre_buffer=False, buffer_size=BLOCK)
            decoded = _decoded(reader, _groups(reader, self), positions, columns)
            coming = decoding.submit(next, decoded, None)
            while (found := coming.result()) is not None:
                coming = decoding.submit(next, decoded, None)
                yield from _allowed(*found)


def in_place(paths: Sequence[str | Place], folder: Place, record: SelectionRecord) -> list[InPlace]:
    """The shards that the paths mean, as `consent select` takes them. Raises UsageError for one that is not in the selection."""
    stated = {shard.name: shard for shard in record.shards}
    found = find_inputs(paths)
    if strange := [source for source in found if source.name not in stated]:
        raise UsageError(
            f"the selection {folder} does not speak of {strange[0].name!r:.200} ({strange[0].path}): no row of it is allowed",
            hint="select from it again with `consent select`; name the shards as they were named there: a folder as a folder",
        )
    return [InPlace(source.path.absolute(), folder.absolute(), stated[source.name]) for source in found]


def _groups(reader: pq.ParquetFile, shard: InPlace) -> list[int]:
    """Rows of each row group."""
    rows = [reader.metadata.row_group(group).num_rows for group in range(reader.num_row_groups)]
    if min(rows, default=0) < 0 or sum(rows) != shard.stated.rows_in:
        raise ShardError(f"{shard.path} has {sum(rows)} rows, and its rows were decided when it had {shard.stated.rows_in}")
    return rows


_Found = tuple[pa.RecordBatch, Any]


def _decoded(
    reader: pq.ParquetFile, groups: Sequence[int], positions: Positions, columns: Sequence[str] | None
) -> Iterator[_Found]:
    """Batches that have rows which are allowed, each with its mask."""
    names, first = None if columns is None else list(columns), 0
    order, there = _widest_first(reader, names), names or reader.schema_arrow.names
    for group, rows in enumerate(groups):
        if positions.count(first, rows):
            mask, at = positions.mask(first, rows), 0
            for batch in reader.iter_batches(_ROWS, row_groups=[group], columns=order or names, use_threads=True):
                here = mask[at : at + batch.num_rows]
                at += batch.num_rows
                if here.any():
                    yield batch.select(there) if order else batch, here
            if at != rows:
                raise ShardError(f"row group {group} has {at} rows, and not {rows} as its footer says")
        first += rows


def _widest_first(reader: pq.ParquetFile, names: Sequence[str] | None) -> list[str] | None:
    """The order of columns in which threads are done soonest: one may take as long as all others together. None where a name may
    mean something else than one column, as pyarrow reads it."""
    there = reader.schema_arrow.names
    names = there if names is None else names
    if len({*there}) < len(there) or len({*names}) < len(names) or not {*names} <= {*there} or any("." in one for one in there):
        return None
    sizes: Counter[str] = Counter()
    if reader.num_row_groups:
        group = reader.metadata.row_group(0)
        for leaf in map(group.column, range(group.num_columns)):
            sizes[leaf.path_in_schema.partition(".")[0]] += leaf.total_uncompressed_size
    return sorted(names, key=sizes.__getitem__, reverse=True)


def _allowed(batch: pa.RecordBatch, mask: Any) -> Iterator[pa.RecordBatch]:
    if any(pa.types.is_dictionary(kind) for kind in batch.schema.types):
        # Its entries may be of rows that are left out, of this batch or of another one.
        yield from keep(pa.Table.from_batches([batch]), mask_of(mask)).combine_chunks().to_batches()
    else:
        yield batch if mask.all() else batch.filter(mask_of(mask))
