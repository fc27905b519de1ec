"""Is the ledger what it signed? Everything is derived again from the stored bytes; the first thing that is wrong is named.

openings -> commitments -> entries -> leaves -> tiles of every level -> root -> head and every checkpoint -> anchors.
The columns beside the canonical bytes are checked against them.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import sqlalchemy as sa

from ledger import times
from ledger.consent import Event, lookalike
from ledger.errors import IntegrityError, VerificationError
from ledger.log import tiles
from ledger.log.entry import subject_tagger
from ledger.store import second
from ledger.store.alike import Said
from ledger.store.append import HEAD, INDEX, MOVED, index_values
from ledger.store.database import check_revision, check_storage, reading
from ledger.store.documents import event_of, purpose_of, read_event, run_keys
from ledger.store.erased import Erasures
from ledger.store.folder import Folder
from ledger.store.history import History
from ledger.store.opened import Erased, Opened
from ledger.store.stretch import Stretch
from ledger.store.tables import CheckpointRow, Entry, Erasure, Head, Notice, Opening, Tile, Tombstone

_COLUMNS = ("act", *INDEX)
_entries, _openings, _tiles, _checkpoints, _head, _notices = (
    t.__table__  # type: ignore[union-attr]
    for t in (Entry, Opening, Tile, CheckpointRow, Head, Notice)
)
_erased, _stones = (t.__table__ for t in (Erasure, Tombstone))  # type: ignore[union-attr]


@dataclass(frozen=True, kw_only=True)
class FsckReport:
    """events: that can be opened. erased: entries of events that cannot, as an erasure names them."""

    size: int
    events: int
    acts: int
    erased: int
    root: bytes

    def document(self) -> dict[str, Any]:
        """The JSON of `consent fsck` (schemas/fsck.json)."""
        counts = {"entries": self.size, "events": self.events, "acts": self.acts, "erased": self.erased}
        return {"whole": True, **counts, "root": self.root.hex()}


def fsck(engine: sa.Engine, folder: Folder, on_progress: Callable[[int, int], None] | None = None) -> FsckReport:
    """Raises IntegrityError that names the first thing that is wrong. on_progress: entries checked, entries in all."""
    # The database looks after its own storage meanwhile, and has the first word: where that is damaged, the rest follows from it.
    with ThreadPoolExecutor(1) as pool:
        storage = pool.submit(_check_storage, engine)
        try:
            return _fsck(engine, folder, on_progress)
        finally:
            storage.result()


def _check_storage(engine: sa.Engine) -> None:
    with reading(engine) as connection:
        check_storage(connection)


def _fsck(engine: sa.Engine, folder: Folder, on_progress: Callable[[int, int], None] | None) -> FsckReport:
    anchors = folder.read_anchors()
    with reading(engine) as connection:
        check_revision(connection)
        history = History(connection, folder.origin, folder.log_trust())
        _, head = history.check_anchors(anchors)
        if connection.scalars(sa.select(_head.c.id)).all() != [HEAD if folder.moved_to is None else MOVED]:
            raise IntegrityError("column id of table head is not that of its one row, so that no append would find it")
        try:
            check = _Check(connection, history, _tag_key(folder))
            report = check.run(folder.path, head.size, head.root, on_progress)
            keys = run_keys(check.key_acts)
        except (VerificationError, TypeError, ValueError, KeyError, AttributeError) as error:
            if isinstance(error, IntegrityError) and not isinstance(error, VerificationError):
                raise
            raise IntegrityError(f"stored bytes are not what they were: {error}") from error
    if handed_out := [verifier.name for verifier in folder.trust().run if verifier.public in keys.ended]:
        raise IntegrityError(
            f"the file trust hands out the run key {handed_out[0]!r:.80}, which was ended",
            hint=f"run `consent key end {handed_out[0].rpartition('/')[2]}` again, or take its line out",
        )
    return report


def second_half(connection: sa.Connection, history: History, folder: Folder, out: IO[bytes], *, first: int, end: int) -> None:
    """What `fsck` has a second process do."""
    check = _Check(connection, history, _tag_key(folder))
    check.begin_at(first)
    check.go_over(first, end)
    out.write(json.dumps(check.found()).encode())


def _tag_key(folder: Folder) -> bytes | None:
    # An auditor need not hold it; the tags are then taken as the entries have them.
    return folder.tag_key() if (folder.path / "tag.key").exists() else None


def _written(tree: tiles.Growing) -> list[Any]:
    """A tree as JSON."""
    return [tree.size, [[level, number, hashes.hex()] for (level, number), hashes in tree.partial().items()]]


def _event(said: Said) -> tuple[dict[str, Any], Event]:
    document = said.document()
    return document, event_of(document)


class _Check:
    def __init__(self, connection: sa.Connection, history: History, tag_key: bytes | None) -> None:
        self._con, self._history = connection, history
        self._tag = None if tag_key is None else subject_tagger(tag_key)
        self._tree = tiles.Growing()
        self._pending: list[bytes] = []
        self._tiles_seen = self._events = self._erased = 0
        self._notices: set[str] = set()
        self._before: Any = None
        self._same_moment: tuple[str, int] | None = None
        """The last recording that was found to be its checkpoint's: all of a transaction have the same."""
        self._erasures = Erasures(history)
        self.key_acts: list[dict[str, Any]] = []
        self._checkpoints = connection.execute(
            sa.select(_checkpoints.c.size, _checkpoints.c.note, _checkpoints.c.recorded_at).order_by(_checkpoints.c.size)
        ).all()

    def run(self, folder: Path, size: int, root: bytes, on_progress: Callable[[int, int], None] | None) -> FsckReport:
        sizes = [row.size for row in self._checkpoints]
        if sizes[-1:] != ([size] if size else []) or (sizes and sizes[0] < 1):
            raise IntegrityError("table checkpoints does not end at the head")

        def progress(position: int) -> None:
            if on_progress is not None:
                on_progress(position, size)

        with second.beside(folder, __name__, size) as (middle, other):
            self.go_over(0, middle, lambda position: progress(position * size // middle))
            rest = None if other is None else other.answer()
        if middle < size and (rest is None or not self._adopt(json.loads(rest))):
            self.go_over(middle, size, progress)
        self._count("entries", _entries, size)
        self._count("openings", _openings, size - self._erased)
        self._last_tiles()
        if self._tree.root() != root:
            raise IntegrityError("the entries do not have the root that the head has signed")
        self._texts()
        self._erasures.settle(size)
        if self._history.has_erasures:
            self._tombstones()
        events, erased = self._events, self._erased
        return FsckReport(size=size, events=events, acts=size - events - erased, erased=erased, root=root)

    def go_over(self, first: int, end: int, progress: Callable[[int], None] = lambda position: None) -> None:
        """The entries first..end-1, and the checkpoints that end with one of them."""
        sizes = [row.size for row in self._checkpoints]
        covering = bisect_right(sizes, first)
        for some in self._history.stretches(_COLUMNS, end, first):
            progress(some.first)
            start, whole = 0, len(some.said)
            while start < whole:
                until = min(sizes[covering] - some.first, whole)
                for run in some.runs(start, until):
                    self._run(some, *run, self._checkpoints[covering].recorded_at)
                self._pending += some.leaves[start:until]
                if some.first + until == sizes[covering]:
                    self._checkpoint(covering)
                    covering += 1
                start = until
            self._extend()

    def begin_at(self, first: int) -> None:
        """Take the entries before as they are stored in tiles: whoever goes over those compares."""
        self._tree = tiles.Growing.stored(first, self._history.tile)
        self._before = _written(self._tree)

    def found(self) -> dict[str, Any]:
        """What `_adopt` reads."""
        return {
            "before": self._before,
            "after": _written(self._tree),
            "tiles": self._tiles_seen,
            "events": self._events,
            "erased": self._erased,
            "notices": sorted(self._notices),
            "keys": self.key_acts,
            "erasures": self._erasures.found(),
        }

    def _adopt(self, rest: Mapping[str, Any]) -> bool:
        """Go on from what a second process has found of all the entries after these, unless it began with another tree or knew
        of other erasures."""
        if rest["before"] != _written(self._tree) or not self._erasures.adopt(rest["erasures"]):
            return False
        size, hashes = rest["after"]
        after = {(level, number): bytes.fromhex(text) for level, number, text in hashes}
        self._tree = tiles.Growing.stored(size, lambda level, number: after[level, number])
        self._tiles_seen += rest["tiles"]
        self._events += rest["events"]
        self._erased += rest["erased"]
        self._notices.update(rest["notices"])
        self.key_acts += rest["keys"]
        return True

    def _tombstones(self) -> None:
        """The two tables about erasures are what their acts say; and no yes has come in by an erased id."""
        rows = self._con.execute(sa.select(_erased.c.position, _erased.c.tag)).all()
        if sorted((row.position, row.tag.hex()) for row in rows) != sorted((p, a["tag"]) for p, a in self._erasures.acts.items()):
            raise IntegrityError("table erasures is not what the acts of the log say")
        for position in self._erasures.acts:
            self._history.erased_ids(position)
        self._count("tombstones", _stones, self._erased)

    def _checkpoint(self, number: int) -> None:
        self._extend()
        row = self._checkpoints[number]
        signed = self._history.open(row.note)
        if signed.size != row.size or self._tree.size != row.size:
            raise IntegrityError(f"column size of table checkpoints is {row.size}, and its note says {signed.size}")
        if signed.root != self._tree.root():
            raise IntegrityError(f"the first {row.size} entries do not have the root that their checkpoint has signed")
        if number and row.recorded_at <= self._checkpoints[number - 1].recorded_at:
            raise IntegrityError(f"time does not go on at checkpoint {row.size}")

    def _run(self, some: Stretch, start: int, end: int, recorded_at: int) -> None:
        """One of `some.runs`, which one checkpoint covers."""
        if isinstance(some.said[start], Said):
            self._events += end - start
            if self._is_plain(some, start, end, recorded_at):
                return
        for at in range(start, end):
            said, columns = some.said[at], [column[at] for column in some.beside]
            if isinstance(said, Erased):
                self._erasures.see(said, {})
                self._erased += 1
            else:
                self._opening(some.first + at, said, some.tags[at], columns, recorded_at)

    def _is_plain(self, some: Stretch, start: int, end: int, recorded_at: int) -> bool:
        """Whether all is well with these plain events, a column at a time. `_opening` says what is not."""
        forms, subjects, event_ids, contents, _, recorded = zip(*some.said[start:end], strict=True)
        tags = some.tags[start:end]
        alike = [form.document for form in forms]
        for at in self._erasures.concerned(tags):
            self._erasures.said(some.first + start + at, tags[at], some.said[start + at].document())  # type: ignore[union-attr]
        return (
            recorded.count(recorded[0]) == end - start
            and times.micros(times.parse(recorded[0])) == recorded_at
            and (self._tag is None or tuple(map(self._tag, subjects)) == tags)
            and [column[start:end] for column in some.beside]
            == [
                (None,) * (end - start),
                event_ids,
                subjects,
                tuple(map(lookalike, subjects)),
                tuple([same["state"] for same in alike]),
                tuple([same.get("category") for same in alike]),
                contents,
            ]
        )

    def _opening(self, position: int, said: Said | Opened, tag: bytes | None, columns: Sequence[Any], recorded_at: int) -> None:
        subject_id: str | None = None
        if isinstance(said, Opened) and not said.is_event:
            document = said.document()
            self._act(document)
            expected = [document["act"], *index_values(None)]
        else:
            self._events += isinstance(said, Opened)
            document, event = read_event(said.canonical) if isinstance(said, Opened) else _event(said)
            subject_id, expected = event.subject_id, [None, *index_values(event)]
        self._erasures.said(position, tag, document)
        if (document["recorded_at"], recorded_at) != self._same_moment:
            if times.micros(times.parse(document["recorded_at"])) != recorded_at:
                raise IntegrityError(
                    f"entry {position}: its recording is not that of its checkpoint in table checkpoints, column recorded_at"
                )
            self._same_moment = document["recorded_at"], recorded_at
        if subject_id is not None and self._tag is not None and self._tag(subject_id) != tag:
            raise IntegrityError(f"entry {position}: its tag is not its subject's under tag.key")
        if columns != expected:
            name = next(name for name, stored, value in zip(_COLUMNS, columns, expected, strict=True) if stored != value)
            raise IntegrityError(f"entry {position}: column {name} of table openings is not what its event says")

    def _act(self, document: dict[str, Any]) -> None:
        if document["act"] == "purpose_declared":
            purpose_of(document)
        if document["act"] in ("key_added", "key_ended"):
            self.key_acts.append(document)
        if document["act"] == "notice_declared":
            self._notices.add(document["sha256"])

    def _extend(self) -> None:
        """Add the leaves that wait, and check each tile that they complete."""
        for (level, number), hashes in self._tree.extend(self._pending).items():
            self._tile(level, number, hashes)
        self._pending.clear()

    def _tile(self, level: int, number: int, hashes: bytes) -> None:
        if self._history.tile(level, number) != hashes:
            raise IntegrityError(f"tile {level}/{number} of table tiles is not that of the entries")
        self._tiles_seen += 1

    def _last_tiles(self) -> None:
        for (level, number), hashes in self._tree.partial().items():
            self._tile(level, number, hashes)
        self._count("tiles", _tiles, self._tiles_seen)

    def _count(self, name: str, table: Any, expected: int) -> None:
        rows = self._con.scalar(sa.select(sa.func.count()).select_from(table))
        if rows != expected:
            raise IntegrityError(f"table {name} has {rows} rows where the log has {expected}")

    def _texts(self) -> None:
        kept = set()
        for row in self._con.execute(sa.select(_notices.c.sha256, _notices.c.text)):
            if sha256(row.text).hexdigest() != row.sha256:
                raise IntegrityError(f"the text of notice {row.sha256} was changed")
            kept.add(row.sha256)
        if kept != self._notices:
            raise IntegrityError("table notices does not hold exactly the notices that were declared")
