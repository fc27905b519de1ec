"""Whether every line of a file is in the log, as an import records it. Nothing is written.

In the log is what the head has signed: the entries are hashed against its root first. A row of the database alone proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from ledger.consent import Event
from ledger.errors import IntegrityError
from ledger.log.entry import event_tag, subject_tag
from ledger.log.merkle import RightEdge, leaf_hash
from ledger.store.append import CHUNK
from ledger.store.documents import same_content
from ledger.store.history import History
from ledger.store.imports import NAMED, reading
from ledger.store.mapping import ImportColumns
from ledger.store.rows import BrokenFile


@dataclass
class Imported:
    """What became of a file's lines. erased: in the log, of people who were. absent: how many are not, and the first of them.

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

    A line with an act's own id is that act; another is the act of the id that follows from what it says. Of an erased act the
    log keeps a tag of its id alone. Raises IntegrityError where the database is not what was signed.
    """
    size, gone = _signed_size(history), _Gone(history, tag_key)
    with reading(file, source=source, form=form, columns=columns) as whole:
        entries = [at for at, act in history.acts("import_finished") if at < size and act["file_sha256"] == whole.sha256]
        found = Imported(whole.sha256, entries)
        while chunk := _chunk(whole.acts):
            ids = [act.event_id for _, act in chunk if isinstance(act, Event) and act.event_id is not None]
            recorded: dict[str | None, Event] = {}
            for start in range(0, len(ids), 500):
                some = history.events(ids[start : start + 500])
                recorded |= {event.event_id: event for opened, event in some if opened.position < size}
            for where, act in chunk:
                stored = recorded.get(act.event_id) if isinstance(act, Event) else None
                if isinstance(act, Event) and stored is not None:
                    why = (other := same_content(act, stored)) and f"its event_id is recorded with another {other}"
                elif isinstance(act, Event):
                    if act in gone:
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


def _signed_size(history: History) -> int:
    """How many entries the head has signed: those that stand there. Raises IntegrityError where they are others."""
    _, head = history.head()
    edge, entries = RightEdge(), history.entries(0, head.size)
    while some := list(islice(entries, CHUNK)):
        edge.extend([leaf_hash(entry) for entry in some])
    if edge.root() != head.root:
        raise IntegrityError("the entries do not have the root that the head has signed", hint="run `consent fsck`")
    return head.size


class _Gone:
    """The acts that erasures took."""

    def __init__(self, history: History, tag_key: bytes) -> None:
        self._history, self._tag_key = history, tag_key
        self._erasures: dict[bytes, list[int]] = {}
        for position, act in history.erasures():
            self._erasures.setdefault(bytes.fromhex(act["tag"]), []).append(position)
        self._ids: dict[bytes, set[bytes]] = {}

    def __contains__(self, act: Event) -> bool:
        person = subject_tag(self._tag_key, act.subject_id)
        if act.event_id is None or person not in self._erasures:
            return False
        if person not in self._ids:
            self._ids[person] = {tag for at in self._erasures[person] for tag in self._history.erased_ids(at)}
        return event_tag(self._tag_key, act.event_id) in self._ids[person]


def _chunk(acts: Iterator[tuple[str, Event | str]]) -> list[tuple[str, Event | str]]:
    try:
        return list(islice(acts, CHUNK))
    except BrokenFile as error:
        raise IntegrityError(
            f"the file cannot be read to its end: {error}", hint="no such file was ever imported whole"
        ) from error
