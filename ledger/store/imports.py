"""Many acts from a file, in file order, in one transaction: all of them, or, with a file for the rejects, the good ones.

Memory does not grow with the file: rows go through in chunks, and whatever is as many as they are is on disk.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import sqlalchemy as sa

from ledger import files, times
from ledger.consent import YES, Event, check_id
from ledger.errors import ConsentLedgerError, InvalidEvent, Suppressed, UsageError
from ledger.store import acts, ahead, database
from ledger.store.append import Transaction, append
from ledger.store.folder import Folder
from ledger.store.mapping import ImportColumns
from ledger.store.prepared import Prepared, prepared
from ledger.store.reader import Bad, Reader
from ledger.store.rejects import Held, Rejects
from ledger.store.reversals import Reversal, reversals
from ledger.store.rows import BrokenFile, Chunk, Row, Table, ends_with_a_line
from ledger.store.short import Short

_OF_NO_USE = 4
"""Chunks that were prepared in vain, after which a second process is done without if they were most."""
NAMED = 20
"""How many bad lines, or reversals too many, an error names."""


class ImportRejected(ConsentLedgerError):
    """Nothing was recorded. bad_lines, in the message too: the first that are no acts, or that take people from no to yes."""

    def __init__(self, message: str, *, hint: str | None = None, bad_lines: list[str] | None = None) -> None:
        super().__init__(message, hint=hint)
        self.bad_lines = bad_lines or []

    @classmethod
    def of(cls, message: str, hint: str, bad_lines: list[str]) -> ImportRejected:
        return cls("\n  ".join([f"{message}; nothing was recorded", *bad_lines]), hint=hint, bad_lines=bad_lines)


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """What an import did, or would have done. rejected: rows in the rejects file. reversals: people who go from no to yes at one
    scope. size: entries in the log now."""

    source: str
    file_sha256: str
    new: int
    repeated: int
    suppressed: int
    reversals: int
    rejected: int
    size: int
    dry_run: bool

    def document(self) -> dict[str, Any]:
        """The JSON of `consent import` (schemas/import.json)."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


class _DryRun(Exception):
    """Everything was checked: roll it back."""


class _Again(Exception):
    """People were found who are held back, and their yes may have come before: roll it back, and go through the file anew."""


def import_file(
    engine: sa.Engine,
    folder: Folder,
    file: str | Path | IO[bytes],
    *,
    source: str | None = None,
    form: str | None = None,
    columns: ImportColumns | None = None,
    rejects: str | Path | None = None,
    dry_run: bool = False,
    max_reversals: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> ImportReport:
    """Record the acts of a file. columns: None means the ledger's own. rejects: where bad rows go; None means there may be none.
    on_progress: rows so far; starts anew where the file must be gone through again.

    Raises ImportRejected for bad lines and for reversals beyond the limit, UsageError for a file that is no table of acts.
    """
    options = _Options(columns, None if rejects is None else Path(rejects), dry_run, max_reversals, on_progress)
    if not isinstance(file, (str, Path)):
        if form is None:
            raise UsageError("the format of a stream is not known", hint="say --input-format csv, ndjson or parquet")
        with tempfile.TemporaryFile() as spooled:
            while block := file.read(1 << 20):
                spooled.write(block)
            spooled.flush()
            return _Import(spooled, source or "stdin", form, options).run(engine, folder)
    path = Path(file)
    with _opened(path, source, form, options) as whole:
        return whole.run(engine, folder)


@contextmanager
def reading(file: Path, *, source: str | None, form: str | None, columns: ImportColumns | None) -> Iterator[ActsOfFile]:
    """A file's acts as `import_file` would record them, which records nothing."""
    with _opened(file, source, form, _Options(columns, None, True, None, None)) as whole:
        yield ActsOfFile(whole.sha256, whole.acts())


@dataclass(frozen=True)
class ActsOfFile:
    """acts: where each row stands, with its act or why it is none."""

    sha256: str
    acts: Iterator[tuple[str, Event | str]]


@contextmanager
def _opened(path: Path, source: str | None, form: str | None, options: _Options) -> Iterator[_Import]:
    endings = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".parquet": "parquet"}
    form = form or endings.get(path.suffix.lower())
    if form is None:
        raise UsageError(f"the format of {path} is not known by its ending", hint="say --input-format csv, ndjson or parquet")
    try:
        with path.open("rb") as opened:
            yield _Import(opened, source or path.name, form, options, path)
    except OSError as error:
        raise ConsentLedgerError(f"cannot read {path}: {error.strerror}", hint=files.advice(error)) from error


@dataclass(frozen=True)
class _Options:
    columns: ImportColumns | None
    rejects: Path | None
    dry_run: bool
    max_reversals: int | None
    on_progress: Callable[[int], None] | None


class _Looked(NamedTuple):
    """outcomes: of each row whether it is a repeat, None for a suppressed one, or why it is no act."""

    chunk: Chunk
    outcomes: Sequence[bool | Bad | None]


class _Import:
    """One file, until it is recorded or is not. path: None where it has no name."""

    def __init__(self, file: IO[bytes], source: str, form: str, options: _Options, path: Path | None = None) -> None:
        check_id("source", source)
        self._file, self._source, self._form, self._options, self._path = file, source, form, options, path
        self._state = _state(file)
        file.seek(0)
        self._sha256 = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        self._held = Held()
        self._reader = Reader(form, options.columns, self._sha256, self._held)
        self._counts: _Counts
        self._turning: list[int] | None

    @property
    def sha256(self) -> str:
        return self._sha256

    def acts(self) -> Iterator[tuple[str, Event | str]]:
        """Where each row stands, with its act or why it is none. Raises BrokenFile."""
        table = self._reader.table(self._file)
        for row in table.rows(self._reader.wanted):
            act = self._reader.act(table, row)
            yield row.where, act.why if isinstance(act, Bad) else act

    def run(self, engine: sa.Engine, folder: Folder) -> ImportReport:
        try:
            while True:
                try:
                    size = append(engine, folder, lambda tx: self._plan(tx, folder)).size
                except _DryRun:
                    size = self._counts.size_before
                except _Again:
                    continue
                break
        except BrokenFile as error:
            raise self._rejected("cannot be read to its end", [*self._counts.bad, str(error)]) from error
        finally:
            self._held.close()
        return ImportReport(
            source=self._source, file_sha256=self._sha256, size=size, dry_run=self._options.dry_run, **self._counts.document()
        )

    def _plan(self, tx: Transaction, folder: Folder) -> None:
        counts = self._counts = _Counts(tx.size)
        whole = self._form != "ndjson" or ends_with_a_line(self._file)
        table = self._reader.table(self._file)
        held_more = False
        with ExitStack() as stack:
            stack.enter_context(database.room(tx.ended.connection))
            rejects = None if self._options.rejects is None else stack.enter_context(Rejects(self._options.rejects, table))
            last: Row | None = None
            seen = 0
            for count, looked in stack.enter_context(closing(self._chunks(table, tx, folder))):
                seen += count
                last = None
                if looked is None:
                    counts.new += count
                for index, outcome in enumerate(() if looked is None else looked.outcomes):
                    last = None
                    if isinstance(outcome, Bad):
                        assert looked is not None
                        last = row = looked.chunk.row(index)
                        counts.reject(f"{row.where}: {outcome.why}")
                        if rejects is None:
                            if len(counts.bad) == NAMED:
                                break
                        else:
                            rejects.add(row, outcome.why)
                            held_more |= (outcome.may_be_no or _spans_lines(row)) and self._held.add(table.words(row.raw))
                    elif outcome is None:
                        counts.suppressed += 1
                    elif outcome:
                        counts.repeated += 1
                    else:
                        counts.new += 1
                else:
                    if self._options.on_progress is not None:
                        self._options.on_progress(seen)
                    continue
                break
            if counts.bad and rejects is None:
                raise self._rejected("has lines that are no acts", counts.bad)
            if last is not None and not whole:
                raise BrokenFile(f"{last.where}: the file ends here without an end of line: it seems to be cut short")
            if _state(self._file) != self._state:
                raise self._changed()
            if held_more:
                raise _Again
            self._count_reversals(tx)
            if rejects is not None and counts.rejected:
                rejects.publish()
        if self._options.dry_run:
            raise _DryRun
        tx.act("import_finished", self._recorded_by, source=self._source, file_sha256=self._sha256, **counts.document())

    @property
    def _recorded_by(self) -> str:
        return f"import:{self._source}"

    def _chunks(self, table: Table, tx: Transaction, folder: Folder) -> Generator[tuple[int, _Looked | None]]:
        """Record them: of each how many rows it has, and what these became; None where they are all new."""
        chunks = (chunk for chunk in table.chunks(self._reader.wanted) if len(chunk))
        forms = tx.admission().forms(self._recorded_by, self._sha256)
        self._turning = None
        done = own = 0  # chunks that are recorded, and those that were looked at here
        at = 0  # chunks of the file that are read here
        with self._ahead(table, tx, folder) as other:
            for count, acts in () if other is None else other.chunks():
                if acts is not None and self._recorded(acts, tx):
                    yield count, None
                else:
                    chunk = next(islice(chunks, done - at, None), None)
                    if chunk is None or len(chunk) != count:
                        raise self._changed()
                    yield count, self._look(table, chunk, self._reader.shorts(table, chunk, forms), tx)
                    at, own = done + 1, own + 1
                done += 1
                if own > _OF_NO_USE and 2 * own > done:
                    break
            if other is not None and other.whole:
                if other.turning is not None and not own:  # each row is new, and so are their positions
                    self._turning = [self._counts.size_before + row for row in other.turning]
                return
        all_new = True
        for chunk in islice(chunks, done - at, None):
            shorts = self._reader.shorts(table, chunk, forms)
            acts = prepared(shorts, tx.tag) if all_new else None
            if acts is not None and self._recorded(acts, tx):
                yield len(chunk), None
            else:
                looked = self._look(table, chunk, shorts, tx)
                all_new = looked.outcomes.count(False) == len(chunk)
                yield len(chunk), looked

    @contextmanager
    def _ahead(self, table: Table, tx: Transaction, folder: Folder) -> Iterator[ahead.Ahead | None]:
        if self._path is None or table.about < ahead.WORTHWHILE:
            yield None
            return
        with ahead.ahead(folder.path, self._path, self._state, self._reader, tx.admission(), self._recorded_by) as other:
            yield other

    def _recorded(self, acts: Prepared, tx: Transaction) -> bool:
        """False where they must be looked at one by one."""
        held = self._held and any(s in self._held for s, state in zip(acts.subject_ids, acts.states, strict=True) if state in YES)
        return not held and tx.prepared(acts)

    def _look(self, table: Table, chunk: Chunk, shorts: list[Short | None], tx: Transaction) -> _Looked:
        read = self._reader.acts(table, chunk, shorts)
        # Answered since it was recorded, an undated no is new: without the derived id it gets one of its own.
        if answered := tx.answered(acts.derived_undated(read)):
            read = [a.filled_in(event_id=None) if isinstance(a, Event) and a.event_id in answered else a for a in read]
        stored = iter(tx.some([act for act in read if not isinstance(act, Bad)], self._recorded_by))
        return _Looked(chunk, [act if isinstance(act, Bad) else _became(act, next(stored)) for act in read])

    def _changed(self) -> ConsentLedgerError:
        return ConsentLedgerError(
            f"{self._source!r:.120} changed while it was read; nothing was recorded",
            hint="import it once nothing writes to it any more",
        )

    def _count_reversals(self, tx: Transaction) -> None:
        named: list[Reversal] = []
        for reversal in reversals(tx.ended.connection, self._counts.size_before, times.text(tx.recorded_at), self._turning):
            self._counts.reversals += 1
            if len(named) < NAMED:
                named.append(reversal)
        limit = self._options.max_reversals
        if limit is not None and self._counts.reversals > limit:
            raise ImportRejected.of(
                f"{self._source!r:.120} would take {self._counts.reversals} people from no to yes, and at most {limit} may",
                "look at these lines: do they say when people agreed, or when a row was written?",
                self._lines_of(named),
            )

    def _lines_of(self, found: list[Reversal]) -> list[str]:
        """Where the yeses of reversals stand: the file is read once more, as nothing was kept of it."""
        by_id = {reversal.yes_event_id: reversal for reversal in found}
        lines = []
        table = self._reader.table(self._file)
        for row in table.rows(self._reader.wanted):
            act = self._reader.act(table, row)
            if isinstance(act, Event) and (reversal := by_id.pop(act.event_id or "", None)) is not None:
                known = f"entry {reversal.no_position}" if reversal.no_position < self._counts.size_before else "this file too"
                lines.append(f"{row.where}: {reversal.subject_id!r:.120} goes from no ({known}) to yes")
        return lines

    def _rejected(self, what: str, bad: list[str]) -> ImportRejected:
        return ImportRejected.of(f"{self._source!r:.120} {what}", "mend these lines and import the file again", bad)


@dataclass
class _Counts:
    """Of one reading of the file. bad: the first rejected rows."""

    size_before: int
    new: int = 0
    repeated: int = 0
    suppressed: int = 0
    rejected: int = 0
    reversals: int = 0
    bad: list[str] = field(default_factory=list)

    def reject(self, line: str) -> None:
        self.rejected += 1
        if len(self.bad) < NAMED:
            self.bad.append(line)

    def document(self) -> dict[str, int]:
        return {
            "new": self.new,
            "repeated": self.repeated,
            "suppressed": self.suppressed,
            "reversals": self.reversals,
            "rejected": self.rejected,
        }


def _became(act: Event | Short, outcome: bool | InvalidEvent) -> bool | Bad | None:
    if isinstance(outcome, Suppressed):
        return None
    return Bad.of(outcome, act.is_yes) if isinstance(outcome, InvalidEvent) else outcome


def _spans_lines(row: Row) -> bool:
    """Where a quote began by mistake, a whole line that says no may be part of a value of one that says yes."""
    return isinstance(row.values, dict) and any(isinstance(value, str) and "\n" in value for value in row.values.values())


def _state(file: IO[bytes]) -> list[int]:
    return ahead.state_of(os.fstat(file.fileno()))
