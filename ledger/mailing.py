"""A table of people with more columns, for a message to each of them: CSV in, CSV out, row by row.

What comes out is private, holds every row and column of what went in, and is published whole or not at all.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

from ledger import files
from ledger.errors import ConsentLedgerError, InvalidEvent, UsageError
from ledger.store.rows import BrokenFile, Row, open_table

SUBJECT = "subject_id"
NAMED = 20
"""How many bad lines an error names."""


def write(
    people: Path,
    output: Path,
    added: Sequence[str],
    values: Callable[[str], Sequence[str]],
    on_progress: Callable[[int], None] | None = None,
) -> int:
    """How many rows there were. added: the columns that come after those of the table. values: theirs, of a subject; raises
    InvalidEvent for what is no id. on_progress: rows so far.

    Raises UsageError for a table without the column subject_id or with one of those that are added, and ConsentLedgerError that
    names the lines which cannot be read.
    """
    if output.exists() and people.exists() and output.samefile(people):
        raise UsageError("the table would be written over itself", hint="name another file with -o")
    rows, bad = 0, list[str]()
    try:
        with people.open("rb") as source, files.publishing_private(output) as out:
            table = open_table(source, "csv")
            _check_columns(table.columns or [], added)
            text = io.TextIOWrapper(out, encoding="utf-8", newline="", write_through=True)
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow([*(table.columns or []), *added])
            for row in table.rows([SUBJECT]):
                rows += 1
                try:
                    writer.writerow([*row.raw, *values(_subject(row))])
                except InvalidEvent as error:
                    bad.append(f"{row.where}: {error}")
                    if len(bad) == NAMED:
                        break
                if on_progress is not None and rows % 1000 == 0:
                    on_progress(rows)
            text.detach()
            if bad:
                raise _unreadable(people, bad)
    except BrokenFile as error:
        raise _unreadable(people, [*bad, str(error)]) from error
    except OSError as error:
        raise ConsentLedgerError(f"cannot read {people}: {error.strerror or error}", hint=files.advice(error)) from error
    return rows


def _check_columns(columns: Sequence[str], added: Sequence[str]) -> None:
    if columns.count(SUBJECT) != 1:
        raise UsageError(
            f"the table has {'no' if SUBJECT not in columns else 'more than one'} column {SUBJECT}",
            hint=f"columns: {', '.join(columns):.500}; that of the people's ids, as shards carry them, must be called {SUBJECT}",
        )
    if taken := [name for name in added if name in columns]:
        raise UsageError(f"the table has a column {taken[0]!r} already", hint="rename it, or leave it out")


def _subject(row: Row) -> str:
    if isinstance(row.values, InvalidEvent):
        raise row.values
    subject = row.values[SUBJECT]
    if subject is None:
        raise InvalidEvent(f"{SUBJECT} is empty")
    return str(subject)


def _unreadable(people: Path, bad: Sequence[str]) -> ConsentLedgerError:
    return ConsentLedgerError(
        "\n  ".join([f"{people}: nothing was written; lines that cannot be read:", *bad]),
        hint="mend these lines, and run it again",
    )
