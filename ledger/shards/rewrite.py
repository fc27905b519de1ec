"""One shard, rewritten without some of its rows and otherwise as it was.

- One open file is hashed and decoded. It is read, never mapped: a mapped file that is cut short kills the process. An object
  of a store is read in ranges, or first fetched whole, and is the same before and after.
- Keys are read as every reader sees them. What is written is read as bits alone (see footer): dictionary, view and extension
  types do not exist there, so no dictionary of the source brings values of dropped rows along. The writer is given nothing but
  the kept rows; statistics, dictionaries and indexes are made from them.
- A row group stays one; one that loses all its rows vanishes; a shard that loses all of them is written with none.
- The codec of each column is kept (that of the first row group, where they differ), and dictionary coding where all of the
  source's pages have it.
- The written file is opened again before it may be published: its schema elements, column orders and key-values must be the
  source's, byte for byte, and its row groups as long as what was kept.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from ledger import objects
from ledger.errors import ShardError
from ledger.objects import Address, Place
from ledger.shards import footer
from ledger.shards.fingerprint import Hashed, fingerprint, hashed
from ledger.shards.publish import HashingSink
from ledger.shards.unchanged import only_of_its_rows

# parquet.thrift's CompressionCodec as pyarrow's writer calls it. 5 is LZ4 in Hadoop's framing, which LZ4_RAW (7) replaces.
_CODECS: Final = {0: "none", 1: "snappy", 2: "gzip", 4: "brotli", 5: "lz4", 6: "zstd", 7: "lz4"}
_CODEC_NAMES: Final = {3: "LZO"}

# Encodings that pyarrow reads: PLAIN to BYTE_STREAM_SPLIT; 1 was never used.
_ENCODINGS: Final = frozenset((0, *range(2, 10)))

_BUFFER: Final = 1 << 20
# Rows that are decoded at once: what they take is used again for the next ones, where a whole group is fetched from the system
# and given back each time (a fifth of the processor time of a rewrite).
_SLICE: Final = 1 << 14
# The finest unit in which every INT96 fits: in nanoseconds the year 9999, in microseconds the year 294247 becomes another one.
_INT96_UNIT: Final = "ms"
_MAX_GROUP_ROWS: Final = 64 << 20  # pyarrow's writer begins another row group there

_FETCH: Final = "fetch it again from where it came, or leave it out"

# What reading a hostile file makes pyarrow raise.
_LARGE: Final = {"binary_type": pa.large_binary(), "list_type": pa.LargeListType}
_UNREADABLE: Final = (pa.ArrowException, OSError, ValueError, OverflowError)


class ShardFile:
    """A shard that is open for reading, once. Not for several threads at a time.

    whole: an object is fetched before it is read, by whoever reads all of it. through: is handed the open file, and gives the one
    to read. known: what its bytes were hashed to already. footer: what its footer says. Raises ShardError, naming the file, for
    whatever is wrong with it.
    """

    def __init__(
        self,
        path: str | Place,
        *,
        whole: bool = False,
        through: Callable[[Any], Any] | None = None,
        known: Hashed | None = None,
    ) -> None:
        self.path = objects.place(path)
        self._key_readers: dict[tuple[str, ...], pq.ParquetFile] = {}
        self._file: io.BufferedReader | io.BufferedRandom
        self._identity: Any
        with _reading(self.path):
            # Buffered: its read() returns all that was asked for, or the end of the file.
            if isinstance(self.path, Address):
                self._file, self._identity = (objects.fetch if whole else objects.open_object)(self.path)
            else:
                self._file = self.path.open("rb")
                self._identity = self._now()
            self._opened = self._file
            if known is not None:
                self._hashed = known
            try:
                if through is not None:
                    self._file = through(self._file)
                self.footer = footer.read(self._file)
            except BaseException:
                self._file.close()
                raise

    def __enter__(self) -> ShardFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        if "_source" in self.__dict__:
            self._source.close()
        self._file.close()

    @property
    def sha256(self) -> str:
        """Of the whole file, hashed when it is first asked for: an audit does without."""
        return self._hashed.sha256

    def is_only_of_its_rows(self) -> bool:
        """See `unchanged.only_of_its_rows`."""
        with _reading(self.path):
            return only_of_its_rows(self._file, self.footer)

    def copy_to(self, sink: HashingSink) -> None:
        """Write all of it, as it stands. Raises ShardError where that is not what `sha256` was said to be."""
        known = self._hashed
        with _reading(self.path):
            self._file.seek(0)
            sink.copy(self._file, known)

    @property
    def num_row_groups(self) -> int:
        return len(self.footer.rows)

    @property
    def num_rows(self) -> int:
        return sum(self.footer.rows)

    @cached_property
    def schema_arrow(self) -> pa.Schema:
        """As readers see it, but for INT96, which is milliseconds here.

        Where pyarrow does not read all of it, each column is as Parquet itself describes it, or opaque.
        """
        with _reading(self.path):
            try:
                return self._open(coerce_int96_timestamp_unit=_INT96_UNIT).schema_arrow
            except pa.ArrowException:
                _ = self.footer.metadata  # a damaged Arrow schema is damage
                return pa.schema([(name, _type_of(file)) for name, file in self.footer.columns()])

    def read_keys(self, group: int, columns: Sequence[str]) -> pa.Table:
        """Top-level columns of a row group, in the order asked for, by what Parquet itself says of their types.

        Text and lists are of the large types, as a row group may hold more than 2 GiB of them, and never dictionaries or views.
        """
        schema = self.schema_arrow
        for name in columns:
            if len(schema.get_all_field_indices(name)) != 1:
                raise ShardError(f"{self.path} has {len(schema.get_all_field_indices(name))} columns called {name!r}")
        with _reading(self.path):
            # pyarrow takes a name for a path as well ("a.b"): what it returns beyond the columns is left out.
            return self._read(self._keys(tuple(columns)), group, columns=list(columns)).select(list(columns))

    @property
    def schema_bits(self) -> pa.Schema:
        """As bits alone: see `Footer.bare`."""
        return self._bare.schema_arrow

    def read_bits(self, group: int) -> pa.Table:
        """All of a row group, by `schema_bits`."""
        return pa.Table.from_batches(self.bits(group), self.schema_bits)

    def bits(self, group: int) -> Iterator[pa.RecordBatch]:
        """What `read_bits` returns, in slices of the same lengths each time."""
        batches = self._bare.iter_batches(batch_size=_SLICE, row_groups=[group], use_threads=False)
        rows = 0
        while True:
            with _reading(self.path):
                if (batch := next(batches, None)) is None:
                    break
            rows += len(batch)
            if rows > self.footer.rows[group]:
                break
            yield batch
        with _reading(self.path):
            self._check_rows(group, rows)

    @property
    def status(self) -> tuple[int, int, int, int] | None:
        """Of a file, when it was opened: size, mtime, inode and ctime."""
        if isinstance(self.path, Address):
            return None
        _, inode, size, mtime, ctime = self._identity
        return size, mtime, inode, ctime

    def check_unchanged(self) -> None:
        """Raises ShardError where the file is not what it was when it was opened, or another is in its place."""
        with _reading(self.path):
            if isinstance(self.path, Address):
                objects.require_same(self.path, self._identity)
                return
            status = self.path.stat()
            if self._now() != self._identity or (status.st_dev, status.st_ino) != self._identity[:2]:
                raise ShardError("it was changed while it was read", hint="filter shards that nothing writes to any more")

    def check_digest(self) -> None:
        """Raises ShardError where a file's bytes are others than were hashed, whatever its times say. Of one that is written
        through memory they say nothing; an object was fetched."""
        if isinstance(self.path, Path):
            known = self._hashed
            with _reading(self.path):
                self._file.seek(0)
                if fingerprint(self._file) != known.fingerprint:
                    raise ShardError("it was changed while it was read", hint=_FETCH)

    @cached_property
    def _hashed(self) -> Hashed:
        with _reading(self.path):
            self._file.seek(0)
            return hashed(self._file)

    def _keys(self, columns: tuple[str, ...]) -> pq.ParquetFile:
        if columns not in self._key_readers:
            # Without the Arrow schema, which would have its way with the types, and without what the other columns mean.
            metadata = pq.read_metadata(pa.BufferReader(self.footer.bare(columns)))
            self._key_readers[columns] = self._open(metadata=metadata, coerce_int96_timestamp_unit=_INT96_UNIT, **_LARGE)
        return self._key_readers[columns]

    @cached_property
    def _bare(self) -> pq.ParquetFile:
        with _reading(self.path):
            metadata = pq.read_metadata(pa.BufferReader(self.footer.bare()))
            return self._open(metadata=metadata, **_LARGE)

    @cached_property
    def _source(self) -> Any:
        """This very file for Arrow to read by itself, where the system lets it: else each read comes back into Python."""
        if self._file is not self._opened:  # whoever reads through something is to be handed nothing that went past it
            return self._file
        try:
            return pa.OSFile(f"/proc/self/fd/{self._file.fileno()}")
        except OSError:  # another system, or an object that is read in ranges
            return self._file

    def _open(self, **options: Any) -> pq.ParquetFile:
        # Buffered: a column chunk is otherwise read whole before its first page is decoded.
        return pq.ParquetFile(self._source, pre_buffer=False, buffer_size=_BUFFER, page_checksum_verification=True, **options)

    def _read(self, reader: pq.ParquetFile, group: int, **options: Any) -> pa.Table:
        table = reader.read_row_group(group, use_threads=False, **options)
        self._check_rows(group, len(table))
        return table

    def _check_rows(self, group: int, rows: int) -> None:
        if rows != self.footer.rows[group]:
            raise ShardError(f"row group {group} has {rows} rows, and not {self.footer.rows[group]} as its footer says")

    def _now(self) -> tuple[int, int, int, int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _type_of(file: bytes) -> Any:
    """Of the one column of a file."""
    try:
        return pq.ParquetFile(pa.BufferReader(file), coerce_int96_timestamp_unit=_INT96_UNIT).schema_arrow.field(0).type
    except pa.ArrowException:
        return pa.opaque(pa.null(), "unreadable", "Parquet")


def require_carriable(shard: ShardFile, drop_metadata: Collection[str] = ()) -> None:
    """Raises ShardError for what `rewrite` could not carry exactly, as far as the footer tells, naming column and type."""
    with _reading(shard.path):
        shard.footer.carried(drop_metadata)
    _writer_options(shard)


def rewrite(shard: ShardFile, sink: HashingSink, masks: Callable[[int], Any], *, drop_metadata: Collection[str] = ()) -> int:
    """Write the rows that are kept, and say how many they are. The sink is then complete, and yet to be published.

    masks: of each row group, which rows are kept: a pyarrow or numpy array of booleans without nulls, one a row, in row order.
    drop_metadata: keys of key-value metadata to leave out. Raises ShardError where the shard is damaged, was changed
    meanwhile, or cannot be carried exactly; the sink is then discarded, as it is at any other exception.
    """
    try:
        with _reading(shard.path):
            carried = shard.footer.carried(drop_metadata)
        options = _writer_options(shard)
        rows = []
        with _writing(shard.path), pq.ParquetWriter(sink, shard.schema_bits, **options) as writer:
            for group in range(shard.num_row_groups):
                rows.append(_write_group(writer, shard, group, masks(group)))
            # What comes from here on, indexes and the footer, is written when the writer is closed.
            sink.hold()
        with _reading(shard.path):
            sink.write(shard.footer.graft(sink.release(), carried))
        _check_written(sink, carried, tuple(filter(None, rows)))
        shard.check_unchanged()
    except BaseException:
        sink.discard()
        raise
    return sum(rows)


def copy(shard: ShardFile, sink: HashingSink) -> bool:
    """Write the shard as it stands, where that is proven to bring nothing along but its rows; else write nothing, and say so.

    Pages are not decoded for it: those that have a checksum match it, and what is damaged in another is so in the copy. Raises
    as `rewrite` does.
    """
    try:
        if not shard.is_only_of_its_rows():
            return False
        shard.copy_to(sink)
        shard.check_unchanged()
    except BaseException:
        sink.discard()
        raise
    return True


def _write_group(writer: pq.ParquetWriter, shard: ShardFile, group: int, mask: Any) -> int:
    mask = pa.array(mask)
    rows = shard.footer.rows[group]
    if mask.type != pa.bool_() or len(mask) != rows or mask.null_count:
        raise ShardError(
            f"{len(mask)} answers of type {mask.type}, {mask.null_count} of them null, "
            f"for the {rows} rows of row group {group} of {shard.path}"
        )
    kept: int = mask.true_count
    if kept:
        # Always the same slices: pages, and so bytes, depend on how the rows come.
        slices, at = [], 0
        for batch in shard.bits(group):
            slices.append(batch if kept == rows else batch.filter(mask.slice(at, len(batch))))
            at += len(batch)
        writer.write_table(pa.Table.from_batches(slices, shard.schema_bits), row_group_size=kept)
    return kept


def _writer_options(shard: ShardFile) -> dict[str, Any]:
    """How the writer is to write, leaf by leaf. Raises ShardError for what it cannot write."""
    if (longest := max(shard.footer.rows, default=0)) > _MAX_GROUP_ROWS:
        raise ShardError(
            f"{shard.path} has a row group of {longest:,} rows, which cannot be written as one",
            hint=f"write the shard again in row groups of at most {_MAX_GROUP_ROWS:,} rows",
        )
    # A file without rows shows which leaves the writer makes of the schema.
    probe = pa.BufferOutputStream()
    with _writing(shard.path), pq.ParquetWriter(probe, shard.schema_bits, store_schema=False):
        pass
    with _reading(shard.path):
        _ = shard.footer.metadata  # a damaged Arrow schema is damage, although nothing here is read by it
        made = footer.read(pa.BufferReader(probe.getvalue()))
        shard.footer.require_fit(made)
        codecs, dictionaries, statistics = {}, [], []
        for number, leaf in enumerate(shard.footer.leaves):
            path = b".".join(made.leaves[number].names).decode()
            if unknown := sorted(shard.footer.encodings[number] - _ENCODINGS):
                raise ShardError(
                    f"{leaf} has encoding {unknown[0]}, which cannot be read", hint="write the shard again without it"
                )
            codecs[path] = ([_codec(leaf, codec) for codec in shard.footer.codecs[number]] or ["none"])[0]
            if shard.footer.dictionary[number]:
                dictionaries.append(path)
            if leaf.bits_order:
                statistics.append(path)
        return {
            "compression": codecs or "none",
            "use_dictionary": dictionaries or False,
            "write_statistics": statistics or False,
            "write_page_index": shard.footer.page_index,
            "write_page_checksum": True,
            "store_schema": False,
        }


def _codec(leaf: footer.Leaf, codec: int) -> str:
    name = _CODECS.get(codec)
    if name is None or not (name == "none" or pa.Codec.is_available(name)):
        raise ShardError(
            f"{leaf} is compressed with {name or _CODEC_NAMES.get(codec, f'codec {codec}')}, which cannot be written",
            hint="write the shard again with zstd",
        )
    return name


def _check_written(sink: HashingSink, carried: footer.Fields, rows: tuple[int, ...]) -> None:
    with _reading(sink.path), sink.written() as file:
        written = footer.read(file)
        if written.carried() != carried or written.rows != rows:
            raise ShardError("what was written has not the schema and rows that it was to have")
        # By its bits: pyarrow may be unable to say what a column means, of the source as well.
        if pq.read_metadata(pa.BufferReader(written.bare())).num_rows != sum(rows):
            raise ShardError("what was written cannot be read by its footer")


@contextlib.contextmanager
def _reading(path: Place) -> Iterator[None]:
    """What goes wrong in here is the fault of this file, which the error names."""
    try:
        yield
    except ShardError as error:
        said = str(error) if str(path) in str(error) else f"{path}: {error}"
        raise ShardError(said, hint=error.hint or _FETCH) from error
    except _UNREADABLE as error:
        raise ShardError(f"{path} cannot be read: {error}", hint=_FETCH) from error


@contextlib.contextmanager
def _writing(path: Place) -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        raise ShardError(f"{path} cannot be rewritten: {error}") from error
