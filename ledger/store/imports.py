"""Many acts from a file, in file order, in one transaction: all of them, or, with a file for the rejects, the good ones.

Memory does not grow with the file: rows go through in chunks, and whatever is as many as they are is on disk.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import sqlalchemy as sa

from ledger import files, times
from ledger.consent import YES, Event, check_id
from ledger.errors import ConsentLedgerError, InvalidEvent, Suppressed, UsageError
from ledger.store import acts
from ledger.store.append import Transaction, append
from ledger.store.folder import Folder
from ledger.store.mapping import ImportColumns
from ledger.store.rejects import Held, Rejects
from ledger.store.reversals import Reversal, reversals
from ledger.store.rows import BrokenFile, Chunk, Row, Table, ends_with_a_line, open_table
from ledger.store.short import Forms, Short, moment

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
            yield _Import(opened, source or path.name, form, options)
    except OSError as error:
        raise ConsentLedgerError(f"cannot read {path}: {error.strerror}", hint=files.advice(error)) from error


@dataclass(frozen=True)
class _Options:
    columns: ImportColumns | None
    rejects: Path | None
    dry_run: bool
    max_reversals: int | None
    on_progress: Callable[[int], None] | None


class _Import:
    """One file, until it is recorded or is not."""

    def __init__(self, file: IO[bytes], source: str, form: str, options: _Options) -> None:
        check_id("source", source)
        self._file, self._source, self._form, self._options = file, source, form, options
        self._state = _state(file)
        file.seek(0)
        self._sha256 = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        self._held = Held()
        self._counts: _Counts

    @property
    def sha256(self) -> str:
        return self._sha256

    def acts(self) -> Iterator[tuple[str, Event | str]]:
        """Where each row stands, with its act or why it is none. Raises BrokenFile."""
        table = self._table()
        for row in table.rows(self._wanted):
            act = self._act(table, row)
            yield row.where, act.why if isinstance(act, _Bad) else act

    def run(self, engine: sa.Engine, folder: Folder) -> ImportReport:
        try:
            while True:
                try:
                    size = append(engine, folder, self._plan).size
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

    def _plan(self, tx: Transaction) -> None:
        counts = self._counts = _Counts(tx.size)
        whole = self._form != "ndjson" or ends_with_a_line(self._file)
        table = self._table()
        held_more = False
        with ExitStack() as stack:
            rejects = None if self._options.rejects is None else stack.enter_context(Rejects(self._options.rejects, table))
            last: Row | None = None
            seen = 0
            for chunk, outcomes in self._outcomes(table, tx):
                seen += len(chunk)
                for index, outcome in enumerate(outcomes if outcomes.count(False) < len(chunk) else ()):
                    last = None
                    if isinstance(outcome, _Bad):
                        last = row = chunk.row(index)
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
                    if outcomes.count(False) == len(chunk):
                        last, counts.new = None, counts.new + len(chunk)
                    if self._options.on_progress is not None:
                        self._options.on_progress(seen)
                    continue
                break
            if counts.bad and rejects is None:
                raise self._rejected("has lines that are no acts", counts.bad)
            if last is not None and not whole:
                raise BrokenFile(f"{last.where}: the file ends here without an end of line: it seems to be cut short")
            if _state(self._file) != self._state:
                raise ConsentLedgerError(
                    f"{self._source!r:.120} changed while it was read; nothing was recorded",
                    hint="import it once nothing writes to it any more",
                )
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

    def _table(self) -> Table:
        table = open_table(self._file, self._form)
        if table.columns is not None:
            self._check_columns(table.columns)
        return table

    def _check_columns(self, names: list[str]) -> None:
        check = acts.check_columns if self._options.columns is None else self._options.columns.check_columns
        check(names)

    def _outcomes(self, table: Table, tx: Transaction) -> Iterator[tuple[Chunk, list[bool | _Bad | None]]]:
        """Of each row whether it is a repeat, None for a suppressed one, or why it is no act."""
        forms = tx.forms(self._recorded_by, self._sha256)
        for chunk in table.chunks(self._wanted):
            read = self._read(table, chunk, forms)
            # Answered since it was recorded, an undated no is new: without the derived id it gets one of its own.
            if answered := tx.answered(acts.derived_undated(read)):
                read = [a.filled_in(event_id=None) if isinstance(a, Event) and a.event_id in answered else a for a in read]
            stored = iter(tx.some([act for act in read if not isinstance(act, _Bad)], self._recorded_by))
            yield chunk, [act if isinstance(act, _Bad) else _became(act, next(stored)) for act in read]

    def _read(self, table: Table, chunk: Chunk, forms: Forms) -> list[Event | Short | _Bad]:
        columns, rows_given = chunk.columns, chunk.columns is None or self._options.columns is not None
        if columns is None or rows_given:
            rows: list[dict[str, Any]] = []
            for index in range(len(chunk)):
                try:
                    rows.append(self._values(table, chunk.row(index)))
                except UsageError:
                    rows.append({})  # of which _act says more
            columns = {name: [values.get(name) for values in rows] for name in acts.COLUMNS}
        if "occurred_at" in columns and (rows_given or "occurred_at" not in chunk.moments):
            columns = {**columns, "occurred_at": list(map(moment, columns["occurred_at"]))}
        return [
            self._act(table, chunk.row(index)) if short is None or (short.is_yes and short.subject_id in self._held) else short
            for index, short in enumerate(forms.shorts(columns, len(chunk)))
        ]

    @property
    def _wanted(self) -> Collection[str]:
        return acts.COLUMNS if self._options.columns is None else self._options.columns.columns

    def _values(self, table: Table, row: Row) -> dict[str, Any]:
        """By the names of fields. Raises UsageError."""
        values = row.values
        if isinstance(values, InvalidEvent):
            raise values
        if table.columns is None:
            self._check_columns(list(values))
        if self._options.columns is not None:
            return self._options.columns.values(values)
        if self._form != "ndjson" and isinstance(values["purposes"], str):
            return {**values, "purposes": values["purposes"].split(";")}
        return values

    def _act(self, table: Table, row: Row) -> Event | _Bad:
        says_yes = False
        try:
            values = self._values(table, row)
            says_yes = values.get("state") in YES
            event = acts.act_of(values, self._sha256)
            if event.is_yes and event.subject_id in self._held:
                raise InvalidEvent("held back: another line that may be this person's no was rejected")
            return event
        except UsageError as error:
            return _Bad.of(error, says_yes)

    def _count_reversals(self, tx: Transaction) -> None:
        named: list[Reversal] = []
        for reversal in reversals(tx.history, self._counts.size_before, times.text(tx.recorded_at)):
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
        table = self._table()
        for row in table.rows(self._wanted):
            act = self._act(table, row)
            if isinstance(act, Event) and (reversal := by_id.pop(act.event_id or "", None)) is not None:
                known = f"entry {reversal.no_position}" if reversal.no_position < self._counts.size_before else "this file too"
                lines.append(f"{row.where}: {reversal.subject_id!r:.120} goes from no ({known}) to yes")
        return lines

    def _rejected(self, what: str, bad: list[str]) -> ImportRejected:
        return ImportRejected.of(f"{self._source!r:.120} {what}", "mend these lines and import the file again", bad)


@dataclass(frozen=True, slots=True)
class _Bad:
    """may_be_no: it is not known to be a yes."""

    why: str
    may_be_no: bool

    @classmethod
    def of(cls, error: UsageError, says_yes: bool = False) -> _Bad:
        return cls(f"{error} ({error.hint})" if error.hint else str(error), not says_yes)


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


def _became(act: Event | Short, outcome: bool | InvalidEvent) -> bool | _Bad | None:
    if isinstance(outcome, Suppressed):
        return None
    return _Bad.of(outcome, act.is_yes) if isinstance(outcome, InvalidEvent) else outcome


def _spans_lines(row: Row) -> bool:
    """Where a quote began by mistake, a whole line that says no may be part of a value of one that says yes."""
    return isinstance(row.values, dict) and any(isinstance(value, str) and "\n" in value for value in row.values.values())


def _state(file: IO[bytes]) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns
