"""Many acts from a file, in file order: CSV, NDJSON or Parquet, streamed. All or nothing.

An act without an event_id gets one from its content, and where it is undated from the file's digest too: the same file
again is all repeats, the same undated no in tomorrow's file is a new act. So it is in the same bytes sent again once the
person has said yes since: a list of who is out today may read as one of last week.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from ledger import times
from ledger.consent import NO, Event, check_text
from ledger.errors import ConsentLedgerError, InvalidEvent, UsageError
from ledger.log import canonical
from ledger.store.append import CHUNK, Appended, Transaction, append
from ledger.store.documents import event_document
from ledger.store.folder import Folder

REQUIRED = ("state", "subject_id", "purposes")
COLUMNS = (
    "event_id",
    *REQUIRED,
    "category",
    "content_id",
    "occurred_at",
    "expires_at",
    "content_since",
    "channel",
    "actor",
    "notice",
    "evidence_sha256",
    "jurisdiction",
    "reason",
)
TIMES = ("occurred_at", "expires_at", "content_since")
FORMS = ("csv", "ndjson", "parquet")
NAMED_BAD_LINES = 20
_MAX_LINE = 1 << 20
_DERIVED = "import:"
_Latest = dict[tuple[str, str | None, str | None], str]


class ImportRejected(ConsentLedgerError):
    """Some lines are no acts; nothing was recorded. bad_lines: the first of them."""

    def __init__(self, message: str, *, hint: str | None = None, bad_lines: list[str] | None = None) -> None:
        super().__init__(message, hint=hint)
        self.bad_lines = bad_lines or []


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """reversals: people whose yes in this file follows a no at the same scope."""

    source: str
    file_sha256: str
    new: int
    repeated: int
    suppressed: int
    reversals: int
    rejected: int
    appended: Appended

    def document(self) -> dict[str, Any]:
        """The JSON of `consent import` (schemas/import.json)."""
        return {
            "source": self.source,
            "file_sha256": self.file_sha256,
            "new": self.new,
            "repeated": self.repeated,
            "suppressed": self.suppressed,
            "reversals": self.reversals,
            "rejected": self.rejected,
            "size": self.appended.size,
        }


def import_file(
    engine: sa.Engine,
    folder: Folder,
    file: str | Path | IO[bytes],
    *,
    source: str | None = None,
    form: str | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> ImportReport:
    """Record every act of a file in one transaction. on_progress: rows so far.

    Raises ImportRejected for bad lines, UsageError for a file that is no table of acts.
    """
    if not isinstance(file, (str, Path)):
        if form is None:
            raise UsageError("the format of a stream is not known", hint="say --input-format csv, ndjson or parquet")
        with tempfile.TemporaryFile() as spooled:
            while block := file.read(1 << 20):
                spooled.write(block)
            spooled.seek(0)
            return _import(engine, folder, spooled, source or "stdin", form, on_progress)
    path = Path(file)
    endings = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".parquet": "parquet"}
    form = form or endings.get(path.suffix.lower())
    if form is None:
        raise UsageError(f"the format of {path} is not known by its ending", hint="say --input-format csv, ndjson or parquet")
    try:
        with path.open("rb") as opened:
            return _import(engine, folder, opened, source or path.name, form, on_progress)
    except OSError as error:
        raise ConsentLedgerError(f"cannot read {path}: {error.strerror}") from error


def _import(
    engine: sa.Engine, folder: Folder, file: IO[bytes], source: str, form: str, on_progress: Callable[[int], None] | None
) -> ImportReport:
    if form not in FORMS:
        raise UsageError(f"the format {form!r:.40} is unknown", hint="formats: " + ", ".join(FORMS))
    check_text("source", source)
    before = _state(file)
    file_sha256 = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    file.seek(0)
    recorded_by = f"import:{source}"
    counts = {"new": 0, "repeated": 0, "suppressed": 0, "rejected": 0}
    reversed_people: set[str] = set()
    bad: list[str] = []

    def plan(tx: Transaction) -> None:
        lines: list[str] = []
        latest: _Latest = {}

        def good() -> Iterator[Event]:
            for line, row in _rows(file, form):
                event = row if isinstance(row, InvalidEvent) else _event(row, file_sha256)
                if isinstance(event, InvalidEvent):
                    bad.append(f"{line}: {event}")
                    if len(bad) >= NAMED_BAD_LINES:
                        return
                else:
                    lines.append(line)
                    yield event

        for seen, outcome in enumerate(tx.events(_with_latest(good(), tx, latest), recorded_by)):
            if isinstance(outcome, InvalidEvent):
                bad.append(f"{lines[seen]}: {outcome}" + (f" ({outcome.hint})" if outcome.hint else ""))
                if len(bad) >= NAMED_BAD_LINES:
                    break
            elif outcome.repeated:
                counts["repeated"] += 1
            else:
                counts["new"] += 1
                event = outcome.event
                scope = (event.subject_id, event.category, event.content_id)
                if event.is_yes and latest.get(scope) in NO:
                    reversed_people.add(event.subject_id)
                latest[scope] = event.state
            if on_progress is not None and seen % CHUNK == CHUNK - 1:
                on_progress(seen + 1)
        if bad:
            named = sorted(bad, key=lambda line: int(line.partition(":")[0].split()[1]))[:NAMED_BAD_LINES]
            raise ImportRejected(
                f"{source} has lines that are no acts; nothing was recorded\n" + "\n".join(f"  {b}" for b in named),
                hint="mend these lines and import the file again",
                bad_lines=named,
            )
        if _state(file) != before:
            raise ConsentLedgerError(f"{source} changed while it was read; nothing was recorded")
        tx.act("import_finished", recorded_by, source=source, file_sha256=file_sha256, reversals=len(reversed_people), **counts)

    appended = append(engine, folder, plan)
    return ImportReport(source=source, file_sha256=file_sha256, reversals=len(reversed_people), appended=appended, **counts)


def _state(file: IO[bytes]) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _event(row: dict[str, Any], file_sha256: str) -> Event | InvalidEvent:
    try:
        fields = {name: value for name, value in row.items() if value is not None}
        for name in REQUIRED:
            if name not in fields:
                raise InvalidEvent(f"{name} is empty")
        if not isinstance(fields["purposes"], list):
            raise InvalidEvent("purposes must be a list that names at least one purpose")
        for name in TIMES:
            if isinstance(fields.get(name), str):
                try:
                    fields[name] = times.read(fields[name])
                except (ValueError, OverflowError) as error:
                    raise InvalidEvent(f"{name}: {error}") from None
        event = Event(**fields)
        if event.event_id is not None:
            return event
        content = event_document(event)
        if event.occurred_at is None:
            content["file_sha256"] = file_sha256
        return event.filled_in(event_id=_DERIVED + hashlib.sha256(canonical.encode(content)).hexdigest())
    except InvalidEvent as error:
        return error


def _with_latest(events: Iterable[Event], tx: Transaction, latest: _Latest) -> Iterator[Event]:
    """Passes the events on, a chunk at a time, and before each chunk puts into `latest` what those of its people who
    ever said no, and now say yes, last said at each scope. An undated no that was answered since it was recorded loses
    its derived id: it is new. Whoever takes the events takes them by chunks as long."""
    source = iter(events)
    while chunk := list(islice(source, CHUNK)):
        latest.clear()
        for subject, category, content, state in tx.noes_and_later(sorted({e.subject_id for e in chunk if e.is_yes})):
            latest[subject, category, content] = state
        undated = [e.event_id for e in chunk if e.occurred_at is None and e.event_id and e.event_id.startswith(_DERIVED)]
        answered = tx.answered(undated)
        yield from (e.filled_in(event_id=None) if e.event_id in answered else e for e in chunk)


def _rows(file: IO[bytes], form: str) -> Iterator[tuple[str, dict[str, Any] | InvalidEvent]]:
    """("line 7", the row's values by column) in file order; a value that is absent is None."""
    readers = dict(zip(FORMS, (_csv_rows, _ndjson_rows, _parquet_rows), strict=True))
    return readers[form](file)


def _check_columns(names: list[str]) -> None:
    unknown = [name for name in names if name not in COLUMNS]
    missing = [name for name in REQUIRED if name not in names]
    hint = "columns: " + ", ".join(COLUMNS)
    if unknown:
        raise UsageError(f"column {unknown[0]!r:.80} is unknown", hint=hint)
    if missing:
        raise UsageError(f"column {missing[0]!r} is missing", hint=hint)
    if len(set(names)) != len(names):
        raise UsageError("a column stands in the file twice")


def _csv_rows(file: IO[bytes]) -> Iterator[tuple[str, dict[str, Any] | InvalidEvent]]:
    if file.read(3) == b"\xef\xbb\xbf":
        raise UsageError("the CSV begins with a byte order mark", hint="save it as UTF-8 without BOM")
    if file.seek(0, io.SEEK_END) and (file.seek(-1, io.SEEK_END), file.read(1))[1] not in b"\r\n":
        # Cut short, a yes to one item may read as one to another, or to everything, and no longer ends.
        raise UsageError("the CSV does not end with a newline: it may be cut short", hint="export it anew, or end its last line")
    file.seek(0)
    text = io.TextIOWrapper(file, encoding="utf-8", errors="strict", newline="")
    reader = csv.reader(text, strict=True)
    try:
        header = next(reader, None)
        if not header:
            raise UsageError("the CSV is empty", hint="its first line names the columns: " + ", ".join(COLUMNS))
        _check_columns(header)
        for values in reader:
            where = f"line {reader.line_num}"
            if not values:
                continue
            if len(values) != len(header):
                yield where, InvalidEvent(f"{len(values)} values for {len(header)} columns")
                continue
            row: dict[str, Any] = {name: value or None for name, value in zip(header, values, strict=True)}
            if row["purposes"] is not None:
                row["purposes"] = row["purposes"].split(";")
            yield where, row
    except csv.Error as error:
        yield f"line {reader.line_num}", InvalidEvent(f"not CSV: {error}")
    except UnicodeDecodeError:
        # Text is decoded in blocks, so that the reader does not know the line.
        yield f"line {_first_undecodable(file)}", InvalidEvent("not UTF-8")
    finally:
        if not file.closed:
            text.detach()


def _first_undecodable(file: IO[bytes]) -> int:
    file.seek(0)
    for number, line in enumerate(file, 1):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError:
            return number
    raise ConsentLedgerError("the file changed while it was read; nothing was recorded")


def _ndjson_rows(file: IO[bytes]) -> Iterator[tuple[str, dict[str, Any] | InvalidEvent]]:
    number = 0
    while line := file.readline(_MAX_LINE + 1):
        number += 1
        where = f"line {number}"
        if len(line) > _MAX_LINE:
            yield where, InvalidEvent(f"longer than {_MAX_LINE} bytes")
            return
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8"), object_pairs_hook=_object)
        except (ValueError, RecursionError) as error:
            yield where, InvalidEvent(f"not JSON: {error}")
            continue
        if not isinstance(row, dict):
            yield where, InvalidEvent("not a JSON object")
        elif strange := [name for name in row if name not in COLUMNS]:
            yield where, InvalidEvent(f"field {strange[0]!r:.80} is unknown")
        elif absent := [name for name in REQUIRED if name not in row]:
            yield where, InvalidEvent(f"field {absent[0]!r} is missing")
        else:
            yield where, row


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key stands in an object twice")
    return document


def _parquet_rows(file: IO[bytes]) -> Iterator[tuple[str, dict[str, Any] | InvalidEvent]]:
    try:
        shard = pq.ParquetFile(file)
        _check_columns(shard.schema_arrow.names)
        for field in shard.schema_arrow:
            if field.name in TIMES and pa.types.is_timestamp(field.type) and field.type.tz is None:
                raise UsageError(f"column {field.name!r} has no time zone", hint="write UTC timestamps")
        row_number = 0
        for batch in shard.iter_batches(batch_size=8192, use_threads=False):
            columns = [c.cast(pa.timestamp("us", "UTC")) if pa.types.is_timestamp(c.type) else c for c in batch.columns]
            for values in zip(*(c.to_pylist() for c in columns), strict=True):
                row_number += 1
                row: dict[str, Any] = dict(zip(batch.schema.names, values, strict=True))
                for name in TIMES:
                    if isinstance(row.get(name), datetime):
                        row[name] = row[name].astimezone(UTC)
                if isinstance(row["purposes"], str):
                    row["purposes"] = row["purposes"].split(";")
                yield f"row {row_number}", row
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise UsageError(f"not a Parquet file of acts: {error!s:.200}") from error
