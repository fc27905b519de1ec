"""The bad rows of an import in a file of their own, and the people whose yes waits for them.

- FILE has the rejected rows as they stood, in the form of the import, so that it can be mended and imported; `FILE.why`
  says of each, in the same order, where it stood and why it is no act. Both are private, synced, and named whole before the
  import commits: a crash in between leaves a rejects file too many, never one too few, and the same import again finds there
  what it would write.
- A file that is there with other content is never replaced: it may hold acts that nobody has mended yet, or be the import itself.
- A bad row may be a no. So whoever is named in one that is not plainly a yes gets no new yes from the same file: those rows are
  rejected too, and come back with the mended file.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from ledger import files
from ledger.consent import MAX_ID_BYTES
from ledger.store.rows import Row, Table


class Rejects:
    """Rows are added in file order and published once; without that, leaving removes them."""

    def __init__(self, path: Path, table: Table) -> None:
        """Raises ConsentLedgerError where no file can be written there."""
        self._names = (path.with_name(f"{path.name}.why"), path)
        for name in self._names:  # whoever imports holds the ledger's lock: what is there is of one that was killed
            files.sweep(name)
        self._temporary = [files.temporary_beside(name) for name in self._names]
        self._why, self._rows = (files.open_private(temporary) for temporary in self._temporary)
        self._copy = table.copy(self._rows)
        self._open = True
        self.count = 0

    def __enter__(self) -> Rejects:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()
        for file, temporary in zip((self._why, self._rows), self._temporary, strict=True):
            file.close()
            files.discard(temporary)

    def _close(self) -> None:
        if self._open:
            self._open = False
            self._copy.close()

    def add(self, row: Row, why: str) -> None:
        self.count += 1
        self._copy.add(row.raw)
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in why)
        self._why.write(f"{self.count}: {row.where}: {text}\n".encode())

    def publish(self) -> None:
        """Raises ConsentLedgerError where one of the names is taken by something else."""
        self._close()
        for file, temporary, name in zip((self._why, self._rows), self._temporary, self._names, strict=True):
            file.flush()
            os.fsync(file.fileno())
            files.name_new(temporary, name)


class Held:
    """The ids in rejected rows, on disk: there may be as many as the file has rows."""

    def __init__(self) -> None:
        self._rows = sqlite3.connect("", isolation_level=None)  # a private file that goes away with the connection
        self._rows.execute("CREATE TABLE held (id BLOB PRIMARY KEY) WITHOUT ROWID")
        self._any = False

    def close(self) -> None:
        self._rows.close()

    def add(self, ids: Iterable[str]) -> bool:
        """Whether one of them is new."""
        before = self._rows.total_changes
        encoded = (text.encode("utf-8", "surrogatepass") for text in ids)
        self._rows.executemany("INSERT OR IGNORE INTO held VALUES (?)", ((e,) for e in encoded if 0 < len(e) <= MAX_ID_BYTES))
        more = self._rows.total_changes > before
        self._any |= more
        return more

    def __bool__(self) -> bool:
        return self._any

    def __contains__(self, subject_id: str) -> bool:
        return self._any and self._rows.execute("SELECT 1 FROM held WHERE id = ?", (subject_id.encode(),)).fetchone() is not None
