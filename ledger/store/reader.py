"""A file's rows as acts: in short where they can be, as a whole where they must be, or why they are none."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import IO, Any

from ledger.consent import YES, Event
from ledger.errors import InvalidEvent, UsageError
from ledger.store import acts
from ledger.store.mapping import ImportColumns
from ledger.store.rejects import Held
from ledger.store.rows import Chunk, Row, Table, open_table
from ledger.store.short import Forms, Short, moment


@dataclass(frozen=True, slots=True)
class Bad:
    """may_be_no: it is not known to be a yes."""

    why: str
    may_be_no: bool

    @classmethod
    def of(cls, error: UsageError, says_yes: bool = False) -> Bad:
        return cls(f"{error} ({error.hint})" if error.hint else str(error), not says_yes)


@dataclass(frozen=True, slots=True)
class Reader:
    """columns: None means the ledger's own. held: people of whom no yes is taken."""

    form: str
    columns: ImportColumns | None
    file_sha256: str
    held: Held | Collection[str] = ()

    def table(self, file: IO[bytes]) -> Table:
        """Raises UsageError for a file that is no table of acts."""
        table = open_table(file, self.form)
        if table.columns is not None:
            self._check_columns(table.columns)
        return table

    @property
    def wanted(self) -> Collection[str]:
        return acts.COLUMNS if self.columns is None else self.columns.columns

    def shorts(self, table: Table, chunk: Chunk, forms: Forms) -> list[Short | None]:
        """None where a row must be looked at as a whole. Whoever is held is not looked for."""
        columns, rows_given = chunk.columns, chunk.columns is None or self.columns is not None
        if columns is None or rows_given:
            rows: list[dict[str, Any]] = []
            for index in range(len(chunk)):
                try:
                    rows.append(self._values(table, chunk.row(index)))
                except UsageError:
                    rows.append({})  # of which `act` says more
            columns = {name: [values.get(name) for values in rows] for name in acts.COLUMNS}
        if "occurred_at" in columns and (rows_given or "occurred_at" not in chunk.moments):
            columns = {**columns, "occurred_at": list(map(moment, columns["occurred_at"]))}
        return forms.shorts(columns, len(chunk))

    def acts(self, table: Table, chunk: Chunk, shorts: list[Short | None]) -> list[Event | Short | Bad]:
        """shorts: of the chunk's rows."""
        return [
            self.act(table, chunk.row(index)) if short is None or (short.is_yes and short.subject_id in self.held) else short
            for index, short in enumerate(shorts)
        ]

    def act(self, table: Table, row: Row) -> Event | Bad:
        says_yes = False
        try:
            values = self._values(table, row)
            says_yes = values.get("state") in YES
            event = acts.act_of(values, self.file_sha256)
            if event.is_yes and event.subject_id in self.held:
                raise InvalidEvent("held back: another line that may be this person's no was rejected")
            return event
        except UsageError as error:
            return Bad.of(error, says_yes)

    def _values(self, table: Table, row: Row) -> dict[str, Any]:
        """By the names of fields. Raises UsageError."""
        values = row.values
        if isinstance(values, InvalidEvent):
            raise values
        if table.columns is None:
            self._check_columns(list(values))
        if self.columns is not None:
            return self.columns.values(values)
        if self.form != "ndjson" and isinstance(values["purposes"], str):
            return {**values, "purposes": values["purposes"].split(";")}
        return values

    def _check_columns(self, names: list[str]) -> None:
        check = acts.check_columns if self.columns is None else self.columns.check_columns
        check(names)
