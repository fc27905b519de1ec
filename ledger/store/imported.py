"""Whether every line of a file is in the log, as an import records it. Nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from ledger.consent import Event
from ledger.errors import IntegrityError
from ledger.log.entry import subject_tag
from ledger.store.append import CHUNK
from ledger.store.documents import same_content
from ledger.store.history import History
from ledger.store.imports import NAMED, reading
from ledger.store.mapping import ImportColumns
from ledger.store.rows import BrokenFile


@dataclass
class Imported:
    """What became of a file's lines. absent: how many are not in the log, and the first of them. erased: of people who were.

    entries: where acts say that this very file was imported.
    """

    file_sha256: str
    entries: list[int]
    recorded: int = 0
    erased: int = 0
    absent: int = 0
    named: list[str] = field(default_factory=list)

    def sentence(self) -> str:
        """Raises IntegrityError where a line is not in the log."""
        places = ", ".join(map(str, self.entries[:NAMED])) + (" and later ones" if len(self.entries) > NAMED else "")
        at = f"imported at entry {places}" if self.entries else "though no import of this very file is"
        lines = self.recorded + self.erased + self.absent
        if self.absent:
            raise IntegrityError(
                "\n  ".join([f"{self.absent} of {lines} lines are not in the log; this file (SHA-256 {self.file_sha256}) is "
                             f"{'in it, ' + at if self.entries else 'not in it either'}", *self.named]),
                hint="they were rejected or left out, or the file is another than the one that was imported",
            )  # fmt: skip
        gone = f", {self.erased} of them of people who were erased since" if self.erased else ""
        return f"all {lines} lines are in the log{gone}, {at} (SHA-256 of the file {self.file_sha256})"


def look_up(
    history: History, tag_key: bytes, file: Path, source: str | None, form: str | None, columns: ImportColumns | None
) -> Imported:
    """source, form, columns: those that the file was imported by.

    A line with an act's own id is that act; another is the act of the id that follows from what it says.
    """
    erased = {bytes.fromhex(act["tag"]) for _, act in history.acts("subject_erased")}
    with reading(file, source=source, form=form, columns=columns) as whole:
        entries = [at for at, act in history.acts("import_finished") if act["file_sha256"] == whole.sha256]
        found = Imported(whole.sha256, entries)
        while chunk := _chunk(whole.acts):
            ids = [act.event_id for _, act in chunk if isinstance(act, Event) and act.event_id is not None]
            recorded: dict[str | None, Event] = {}
            for start in range(0, len(ids), 500):
                recorded |= {event.event_id: event for _, event in history.events(ids[start : start + 500])}
            for where, act in chunk:
                stored = recorded.get(act.event_id) if isinstance(act, Event) else None
                if isinstance(act, Event) and stored is not None:
                    why = (other := same_content(act, stored)) and f"its event_id is recorded with another {other}"
                elif isinstance(act, Event):
                    if subject_tag(tag_key, act.subject_id) in erased:
                        found.erased += 1
                        continue
                    why = f"no such act of {act.subject_id!r:.120} is recorded"
                else:
                    why = act
                if why:
                    found.absent += 1
                    found.named += [f"{where}: {why}"] if len(found.named) < NAMED else []
                else:
                    found.recorded += 1
    return found


def _chunk(acts: Iterator[tuple[str, Event | str]]) -> list[tuple[str, Event | str]]:
    try:
        return list(islice(acts, CHUNK))
    except BrokenFile as error:
        raise IntegrityError(
            f"the file cannot be read to its end: {error}", hint="no such file was ever imported whole"
        ) from error
