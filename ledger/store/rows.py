"""The rows of a CSV, NDJSON or Parquet file, streamed; and rows of it written out again as they stood.

- A row that cannot be read for itself (too many values, no JSON object) is a bad row: those after it still say what they say.
- Where nothing after a place is known (a quote that does not end, bytes that are no UTF-8), reading ends with BrokenFile.
- In memory are one record of text, of at most 1 MiB, or the row group of Parquet that is being read.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import IO, Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ledger import times
from ledger.errors import ConsentLedgerError, InvalidEvent, UsageError
from ledger.snapshot import MAX_LISTS

FORMS = ("csv", "ndjson", "parquet")
MAX_RECORD = 1 << 20
_MAX_COLUMNS = 1000
CHUNK = 8192
"""Rows that are looked at together, at most."""
_MAX_JOINED = 20
_BYTES_OF_A_ROW = 100
"""Of text, more or less."""
_SEPARATORS = re.compile(r"[\s,;|\"']+")
_WORDS = re.compile(r'"((?:[^"\\]|\\.)*)"|[^\s,:{}\[\]"\']+')


class BrokenFile(Exception):
    """`line 7: why`: nothing from there on is known."""


class Row(NamedTuple):
    """where: `line 7`, or `row 7` of Parquet. values: by column, absent ones None; or why there are none. raw: for Copy.add."""

    where: str
    values: dict[str, Any] | InvalidEvent
    raw: Any


class Copy(Protocol):
    """Some of a file's rows, in the same form, and with the same header or schema. Whole once it is closed."""

    def add(self, raw: Any) -> None: ...

    def close(self) -> None: ...


class Chunk(Protocol):
    """Some rows that follow one another. columns: where they come as columns, their values by name, as those of rows are; but
    those named in `moments` are canonical text."""

    @property
    def columns(self) -> Mapping[str, Sequence[Any]] | None: ...

    @property
    def moments(self) -> Collection[str]: ...

    def __len__(self) -> int: ...

    def row(self, index: int) -> Row: ...


class Table(Protocol):
    """columns: those that every row has; None where each row names its own."""

    @property
    def columns(self) -> list[str] | None: ...

    @property
    def about(self) -> int:
        """How many rows there are, more or less."""
        ...

    def rows(self, wanted: Collection[str]) -> Iterator[Row]:
        """wanted: the columns whose values are asked for; there may be others."""
        ...

    def chunks(self, wanted: Collection[str]) -> Iterator[Chunk]:
        """The same rows."""
        ...

    def copy(self, out: IO[bytes]) -> Copy: ...

    def words(self, raw: Any) -> Iterator[str]:
        """Every text and whole number in a row, whatever it stands for."""
        ...


def open_table(file: IO[bytes], form: str) -> Table:
    """Raises UsageError for a file that is no table of this form."""
    tables: dict[str, type[_Csv] | type[_Ndjson] | type[_Parquet]] = {"csv": _Csv, "ndjson": _Ndjson, "parquet": _Parquet}
    if form not in tables:
        raise UsageError(f"the format {form!r:.40} is unknown", hint="formats: " + ", ".join(FORMS))
    file.seek(0)
    return tables[form](file)


def ends_with_a_line(file: IO[bytes]) -> bool:
    """Whether a text file's last line was ended: one that was cut short seldom is."""
    if not file.seek(0, os.SEEK_END):
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) in b"\r\n"


def _rows_about(file: IO[bytes]) -> int:
    """It stands at its beginning then."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size // _BYTES_OF_A_ROW


class _Rows:
    columns = None
    moments = ()

    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, index: int) -> Row:
        return self._rows[index]


def _in_chunks(rows: Iterator[Row]) -> Iterator[Chunk]:
    while some := list(islice(rows, CHUNK)):
        yield _Rows(some)


class _Text(io.TextIOWrapper):
    """Closed, which Python does by itself with what nobody holds any more, it lets go of the file, and does not close it: that
    may be read anew from its beginning by then."""

    def close(self) -> None:
        with contextlib.suppress(ValueError):  # it was let go before, or the file is closed
            self.detach()


class _Csv:
    columns: list[str]

    def __init__(self, file: IO[bytes]) -> None:
        if file.read(3) == b"\xef\xbb\xbf":
            raise UsageError("the CSV begins with a byte order mark", hint="save it as UTF-8 without BOM")
        whole = ends_with_a_line(file)
        self.about = _rows_about(file)
        self._file, self._text = file, _Text(file, encoding="utf-8", errors="strict", newline="")
        self._length = 0
        self._reader = csv.reader(self._lines(), strict=True)
        self._records = self._read()
        _, self.columns = next(self._records, ("", []))
        if not self.columns:
            raise UsageError("the CSV is empty", hint="its first line names the columns")
        if len(self.columns) > _MAX_COLUMNS:
            raise UsageError(f"the CSV has more than {_MAX_COLUMNS} columns")
        if not whole:
            # Cut short, a yes to one item may read as one to another, or to everything, and no longer ends.
            raise UsageError(
                "the CSV does not end with a newline: it may be cut short", hint="export it anew, or end its last line"
            )

    def rows(self, wanted: Collection[str]) -> Iterator[Row]:
        columns, width = self.columns, len(self.columns)
        for where, values in self._records:
            if len(values) == width:
                yield Row(where, {name: value or None for name, value in zip(columns, values, strict=True)}, values)
            elif any("\n" in value or "\r" in value for value in values):
                # Where a quote began by mistake, whole lines are now part of a value.
                raise BrokenFile(f"{where}: {len(values)} values for {width} columns, over several lines: is a quote missing?")
            elif values:
                yield Row(where, InvalidEvent(f"{len(values)} values for {width} columns"), values)

    def _read(self) -> Iterator[tuple[str, list[str]]]:
        """("line 7", values), the header among them; a blank line has no values."""
        where = "line 1"
        try:
            for values in self._reader:
                yield where, values
                self._length = 0
                where = f"line {self._reader.line_num + 1}"
        except csv.Error as error:
            raise BrokenFile(
                f"{where}: not CSV: {error} (a quote that is opened is closed, one within a value doubled)"
            ) from error
        except UnicodeDecodeError as error:
            # Text is decoded in blocks, so that the reader does not know the line.
            raise BrokenFile(f"line {_first_undecodable(self._file)}: not UTF-8 (save the file as UTF-8)") from error
        finally:
            self._text.close()

    def _lines(self) -> Iterator[str]:
        while line := self._text.readline(MAX_RECORD + 1):
            self._length += len(line)
            if self._length > MAX_RECORD:
                raise csv.Error(f"a record of more than {MAX_RECORD} characters")
            yield line

    def chunks(self, wanted: Collection[str]) -> Iterator[Chunk]:
        return _in_chunks(self.rows(wanted))

    def copy(self, out: IO[bytes]) -> Copy:
        return _CsvCopy(out, self.columns)

    def words(self, raw: list[str]) -> Iterator[str]:
        yield from raw
        # Values too few: separated by something else, or a quote swallowed some.
        yield from (word for value in raw for word in _SEPARATORS.split(value))
        # Values too many: commas inside of some, most likely, that nobody quoted.
        for joined in range(2, min(len(raw) - len(self.columns) + 1, _MAX_JOINED) + 1):
            yield from (",".join(raw[i : i + joined]) for i in range(len(raw) - joined + 1))


class _CsvCopy:
    def __init__(self, out: IO[bytes], columns: list[str]) -> None:
        self._text = io.TextIOWrapper(out, encoding="utf-8", newline="")
        self._writer = csv.writer(self._text, lineterminator="\n")
        self.add(columns)

    def add(self, raw: list[str]) -> None:
        self._writer.writerow(raw)

    def close(self) -> None:
        self._text.detach()


def _first_undecodable(file: IO[bytes]) -> int:
    file.seek(0)
    for number, line in enumerate(file, 1):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError:
            return number
    raise ConsentLedgerError("the file changed while it was read; nothing was recorded")


class _Ndjson:
    columns = None

    def __init__(self, file: IO[bytes]) -> None:
        self.about = _rows_about(file)
        self._file = file

    def rows(self, wanted: Collection[str]) -> Iterator[Row]:
        number = 0
        while line := self._file.readline(MAX_RECORD + 1):
            number += 1
            where = f"line {number}"
            if len(line) > MAX_RECORD:
                raise BrokenFile(f"{where}: longer than {MAX_RECORD} bytes")
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise BrokenFile(f"{where}: not UTF-8 (save the file as UTF-8)") from error
            if text.isspace():
                continue
            try:
                values = json.loads(text, object_pairs_hook=_object)
            except (ValueError, RecursionError) as error:
                values = InvalidEvent(f"not JSON: {error}")
            yield Row(where, values if isinstance(values, dict | InvalidEvent) else InvalidEvent("not a JSON object"), text)

    def chunks(self, wanted: Collection[str]) -> Iterator[Chunk]:
        return _in_chunks(self.rows(wanted))

    def copy(self, out: IO[bytes]) -> Copy:
        return _NdjsonCopy(out)

    def words(self, raw: str) -> Iterator[str]:
        for found in _WORDS.finditer(raw):
            try:
                yield found[0] if found[1] is None else json.loads(found[0])
            except ValueError:
                yield found[1]
        # Where a quote is missing or one too many, or they are of the other kind: whatever stands between two.
        yield from (part.strip() for quote in "\"'" for part in raw.split(quote))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key stands in an object twice")
    return document


class _NdjsonCopy:
    def __init__(self, out: IO[bytes]) -> None:
        self._out = out

    def add(self, raw: str) -> None:
        self._out.write((raw if raw.endswith("\n") else raw + "\n").encode())

    def close(self) -> None:
        pass


class _Parquet:
    """Rows come as values of Python, moments in UTC; a local time as a datetime without a zone."""

    columns: list[str]

    def __init__(self, file: IO[bytes]) -> None:
        try:
            size = file.seek(0, os.SEEK_END)
            self._parquet = pq.ParquetFile(file, pre_buffer=False, thrift_container_size_limit=min(size, MAX_LISTS))
            self._schema = self._parquet.schema_arrow
            self.about = self._parquet.metadata.num_rows
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _no_parquet(error) from error
        self.columns = self._schema.names

    def rows(self, wanted: Collection[str]) -> Iterator[Row]:
        for chunk in self.chunks(wanted):
            for index in range(len(chunk)):
                yield chunk.row(index)

    def chunks(self, wanted: Collection[str]) -> Iterator[Chunk]:
        first = 1
        try:
            for batch in self._parquet.iter_batches(batch_size=CHUNK, use_threads=False):
                yield _ParquetChunk(batch, [name for name in self.columns if name in wanted], first)
                first += batch.num_rows
        except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
            raise _no_parquet(error) from error

    def copy(self, out: IO[bytes]) -> Copy:
        return _ParquetCopy(out, self._schema)

    def words(self, raw: tuple[pa.RecordBatch, int]) -> Iterator[str]:
        batch, index = raw
        for column in batch.columns:
            if pa.types.is_integer(column.type) or _is_text(column.type):
                value = column[index].as_py()
                if value is not None:
                    yield str(value)


class _ParquetChunk:
    def __init__(self, batch: pa.RecordBatch, names: list[str], first: int) -> None:
        self._batch, self._names, self._first = batch, names, first
        self._moments = {name: batch.column(name).cast(pa.timestamp("us", "UTC")) for name in names if _is_moment(batch, name)}
        for moments in self._moments.values():  # those beyond what Python's datetime can say are refused here
            ends = pc.min_max(moments.cast(pa.int64()))
            if ends["min"].is_valid:
                times.from_micros(ends["min"].as_py()), times.from_micros(ends["max"].as_py())

    @cached_property
    def columns(self) -> Mapping[str, Sequence[Any]]:
        try:
            return {name: _texts(self._moments[name]) if name in self._moments else self._plain(name) for name in self._names}
        except (pa.ArrowException, ValueError, OverflowError) as error:
            raise _no_parquet(error) from error

    @property
    def moments(self) -> Collection[str]:
        return self._moments

    def __len__(self) -> int:
        return int(self._batch.num_rows)

    def row(self, index: int) -> Row:
        values = {name: values[index] for name, values in self._values.items()}
        return Row(f"row {self._first + index}", values, (self._batch, index))

    @cached_property
    def _values(self) -> dict[str, Sequence[Any]]:
        return {
            name: [
                None if count is None else times.from_micros(count) for count in self._moments[name].cast(pa.int64()).to_pylist()
            ]
            if name in self._moments
            else self.columns[name]
            for name in self._names
        }

    def _plain(self, name: str) -> list[Any]:
        column = self._batch.column(name)
        return list((column.cast(pa.timestamp("us")) if pa.types.is_timestamp(column.type) else column).to_pylist())


def _is_moment(batch: pa.RecordBatch, name: str) -> bool:
    kind = batch.schema.field(name).type
    return bool(pa.types.is_timestamp(kind)) and kind.tz is not None


def _texts(moments: pa.Array) -> list[str | None]:
    """Canonical ones, of moments in microseconds."""
    written = np.datetime_as_string(moments.cast(pa.int64()).fill_null(0).to_numpy().view("M8[us]"), "us")
    texts: list[str | None] = np.char.add(written, "Z").tolist()
    if moments.null_count:
        texts = [text if there else None for text, there in zip(texts, moments.is_valid().to_pylist(), strict=True)]
    return texts


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _no_parquet(error: Exception) -> UsageError:
    return UsageError(f"not a Parquet file of acts: {error!s:.200}", hint="write it anew: it is damaged, or no Parquet file")


class _ParquetCopy:
    def __init__(self, out: IO[bytes], schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(out, schema)
        self._batch: pa.RecordBatch | None = None
        self._indices: list[int] = []

    def add(self, raw: tuple[pa.RecordBatch, int]) -> None:
        batch, index = raw
        if batch is not self._batch:
            self._flush()
            self._batch = batch
        self._indices.append(index)

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._batch is not None:
            self._writer.write_table(pa.Table.from_batches([self._batch.slice(index, 1) for index in self._indices]))
        self._indices = []
