"""Is the ledger what it signed? Everything is derived again from the stored bytes; the first thing that is wrong is named.

openings -> commitments -> entries -> leaves -> tiles of every level -> root -> head and every checkpoint -> anchors.
The columns beside the canonical bytes are checked against them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import sqlalchemy as sa

from ledger import times
from ledger.consent import lookalike
from ledger.errors import IntegrityError, VerificationError
from ledger.log import merkle, tiles
from ledger.log.entry import subject_tagger
from ledger.store import alike
from ledger.store.append import HEAD, INDEX, MOVED, index_values
from ledger.store.database import check_revision, check_storage, reading
from ledger.store.documents import purpose_of, read_event, run_keys
from ledger.store.erased import Erasures
from ledger.store.folder import Folder
from ledger.store.history import History
from ledger.store.opened import Erased, Opened
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
    # An auditor need not hold it; the tags are then taken as the entries have them.
    tag_key = folder.tag_key() if (folder.path / "tag.key").exists() else None
    anchors = folder.read_anchors()
    with reading(engine) as connection:
        check_revision(connection)
        history = History(connection, folder.origin, folder.log_trust())
        _, head = history.check_anchors(anchors)
        if connection.scalars(sa.select(_head.c.id)).all() != [HEAD if folder.moved_to is None else MOVED]:
            raise IntegrityError("column id of table head is not that of its one row, so that no append would find it")
        try:
            check = _Check(connection, history, tag_key)
            report = check.run(head.size, head.root, on_progress)
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


class _Check:
    def __init__(self, connection: sa.Connection, history: History, tag_key: bytes | None) -> None:
        self._con, self._history = connection, history
        self._tag = None if tag_key is None else subject_tagger(tag_key)
        self._tree = tiles.Growing()
        self._pending: list[bytes] = []
        self._tiles_seen = 0
        self._notices: set[str] = set()
        self._same_moment: tuple[str, int] | None = None
        """The last recording that was found to be its checkpoint's: all of a transaction have the same."""
        self._erasures = Erasures(history)
        self.key_acts: list[dict[str, Any]] = []
        self._checkpoints = connection.execute(
            sa.select(_checkpoints.c.size, _checkpoints.c.note, _checkpoints.c.recorded_at).order_by(_checkpoints.c.size)
        ).all()

    def run(self, size: int, root: bytes, on_progress: Callable[[int, int], None] | None) -> FsckReport:
        events = erased = 0
        sizes = [row.size for row in self._checkpoints]
        if sizes[-1:] != ([size] if size else []) or (sizes and sizes[0] < 1):
            raise IntegrityError("table checkpoints does not end at the head")
        covering = 0
        for opened, columns in self._history.opened_beside(_COLUMNS, size):
            if opened.position == sizes[covering]:
                self._checkpoint(covering)
                covering += 1
            if isinstance(opened, Erased):
                self._erasures.see(opened, {})
                erased += 1
            else:
                self._opening(opened, columns, self._checkpoints[covering].recorded_at)
                events += opened.is_event
            self._pending.append(merkle.leaf_hash(opened.entry))
            if len(self._pending) == tiles.WIDTH:
                self._extend()
            if on_progress is not None and opened.position % 8192 == 0:
                on_progress(opened.position, size)
        if size:
            self._checkpoint(covering)
        self._count("entries", _entries, size)
        self._count("openings", _openings, size - erased)
        self._last_tiles()
        if self._tree.root() != root:
            raise IntegrityError("the entries do not have the root that the head has signed")
        self._texts()
        self._erasures.settle(size)
        if self._history.has_erasures:
            self._tombstones(erased)
        return FsckReport(size=size, events=events, acts=size - events - erased, erased=erased, root=root)

    def _tombstones(self, erased: int) -> None:
        """The two tables about erasures are what their acts say; and no yes has come in by an erased id."""
        rows = self._con.execute(sa.select(_erased.c.position, _erased.c.tag)).all()
        if sorted((row.position, row.tag.hex()) for row in rows) != sorted((p, a["tag"]) for p, a in self._erasures.acts.items()):
            raise IntegrityError("table erasures is not what the acts of the log say")
        for position in self._erasures.acts:
            self._history.erased_ids(position)
        self._count("tombstones", _stones, erased)

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

    def _opening(self, opened: Opened, columns: Sequence[Any], recorded_at: int) -> None:
        subject_id: str | None = None
        expected: Sequence[Any]
        if opened.is_event:
            document, subject_id, expected = self._event(opened)
        else:
            document = opened.document()
            self._erasures.see(opened, document)
            self._act(document)
            expected = [document["act"], *index_values(None)]
        if (document["recorded_at"], recorded_at) != self._same_moment:
            if times.micros(times.parse(document["recorded_at"])) != recorded_at:
                raise IntegrityError(
                    f"entry {opened.position}: its recording is not that of its checkpoint in table checkpoints, "
                    "column recorded_at"
                )
            self._same_moment = document["recorded_at"], recorded_at
        if subject_id is not None and self._tag is not None and self._tag(subject_id) != opened.tag:
            raise IntegrityError(f"entry {opened.position}: its tag is not its subject's under tag.key")
        if columns != expected:
            name = next(name for name, said, value in zip(_COLUMNS, columns, expected, strict=True) if said != value)
            raise IntegrityError(f"entry {opened.position}: column {name} of table openings is not what its event says")

    def _event(self, opened: Opened) -> tuple[Mapping[str, Any], str, Sequence[Any]]:
        """(a document with its recording, its subject, what the columns beside it must hold)."""
        said = alike.read(opened.canonical)
        if said is None:
            document, event = read_event(opened.canonical)
            self._erasures.see(opened, document)
            return document, event.subject_id, [None, *index_values(event)]
        if self._erasures.acts:
            self._erasures.see(opened, said.document())
        same = said.form.document
        subject_id = said.subject_id
        expected = [None, said.event_id, subject_id, lookalike(subject_id), same["state"], same.get("category"), said.content_id]
        return same, subject_id, expected

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
