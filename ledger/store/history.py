"""Readers. Whatever they hand out was hashed into its entry, the entry into the tree, and the tree into the signed head.

A row that is not there cannot be told from an act that never was, except in order (`openings`), where every position must be:
what must miss nothing reads in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, func, or_, select

from ledger import times
from ledger.consent import Event, Purpose, lookalike
from ledger.errors import IntegrityError, UsageError, VerificationError
from ledger.log import canonical, merkle
from ledger.log.checkpoint import Checkpoint, open_checkpoint
from ledger.log.entry import act_entry, event_body, event_entry
from ledger.log.note import Verifier
from ledger.log.proof import TlogProof
from ledger.store import tables
from ledger.store.acts import declared_purpose
from ledger.store.database import Store
from ledger.store.events import from_document
from ledger.store.folder import Anchor
from ledger.store.notices import Notice
from ledger.store.tables import ACT, EVENT
from ledger.store.tree import Tree, require_extends, stored_tiles

_STREAMED = 5000
"""Rows fetched at a time."""
_MAX_LISTED = 5000
"""Ids in one query; databases bound the number of parameters."""


class Opening(NamedTuple):
    """An entry and what it commits to, as stored. tag and body: of an event, None of an act."""

    position: int
    kind: str
    salt: bytes
    canonical: bytes
    entry: bytes
    tag: bytes | None
    body: bytes | None

    def document(self) -> dict[str, Any]:
        return canonical.decode(self.canonical)

    def recomputed(self) -> bytes:
        """The entry that the opening leads to. Raises IntegrityError where it can lead to none."""
        try:
            if self.kind == EVENT and self.tag is not None:
                return event_entry(self.tag, event_body(self.salt, self.canonical))
            if self.kind == ACT and self.tag is None:
                return act_entry(self.salt, self.canonical)
        except (TypeError, VerificationError) as error:
            raise IntegrityError(f"table openings, position {self.position}: it opens no entry: {error}") from error
        raise IntegrityError(f"table openings, position {self.position}, column kind: it is {self.kind!r:.60}")


OPENINGS = select(
    tables.openings.c.position, tables.openings.c.kind, tables.openings.c.salt, tables.openings.c.canonical,
    tables.entries.c.entry, tables.entries.c.tag, tables.entries.c.body,
).join_from(tables.openings, tables.entries, tables.openings.c.position == tables.entries.c.position, isouter=True)  # fmt: skip
"""The columns of Opening."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event in the log. document: its canonical form."""

    position: int
    document: dict[str, Any]

    @property
    def event(self) -> Event:
        return from_document(self.document)


@dataclass(frozen=True, slots=True)
class Act:
    """Another act in the log. document: its canonical form."""

    position: int
    document: dict[str, Any]

    @property
    def recorded_at(self) -> datetime:
        return times.parse(self.document["recorded_at"])


@dataclass(frozen=True)
class Head:
    """The log as it stands, verified: its signed note, and the tree that the note signs."""

    note: str
    checkpoint: Checkpoint
    tree: Tree

    @classmethod
    def read(cls, connection: Connection, origin: str, verifiers: Sequence[Verifier], anchors: Iterable[Anchor]) -> Head:
        """Raises IntegrityError where the database is not the log that our key and the anchors sign."""
        notes = connection.execute(select(tables.head.c.note).where(tables.head.c.id == 1)).scalars().all()
        if len(notes) != 1 or not isinstance(notes[0], str):
            raise IntegrityError("table head, column note: there is no head")
        try:
            checkpoint = open_checkpoint(notes[0], verifiers)
        except VerificationError as error:
            raise IntegrityError(f"table head, column note: {error}") from error
        if checkpoint.origin != origin:
            raise IntegrityError(f"table head, column note: it is of another log, {checkpoint.origin!r:.80}")
        tree = Tree(stored_tiles(connection), checkpoint)
        require_extends(tree, checkpoint, anchors, verifiers)
        return cls(notes[0], checkpoint, tree)


@contextmanager
def read(store: Store) -> Iterator[History]:
    """The ledger at one moment. Needs no private key. Raises IntegrityError."""
    verifiers = store.folder.verifiers()
    # Before the transaction: an anchor that a writer puts there later may be ahead of what this transaction sees.
    anchors = store.folder.anchors()
    with store.reading() as connection:
        yield History(connection, Head.read(connection, store.folder.origin, verifiers, anchors), verifiers)


class History:
    """What the log holds. head: as it stood when the transaction began."""

    def __init__(self, connection: Connection, head: Head, verifiers: Sequence[Verifier], *, appending: bool = False) -> None:
        """appending: rows past the head are this transaction's own, not yet signed; for a reader there can be none."""
        self.head = head
        self._connection = connection
        self._verifiers = verifiers
        self._appending = appending

    @property
    def size(self) -> int:
        return self.head.checkpoint.size

    def opening(self, position: int) -> Opening:
        """Raises UsageError where the log does not reach so far, IntegrityError where what it holds there is gone."""
        if not 0 <= position < self.size:
            raise UsageError(f"the log has no entry {position}; it has {self.size}")
        row = self._connection.execute(OPENINGS.where(tables.openings.c.position == position)).one_or_none()
        if row is None:
            raise IntegrityError(f"table openings, position {position}: the row is missing")
        return self._checked(row)

    def openings(self, size: int | None = None) -> Iterator[Opening]:
        """Every opening of the first `size` entries, in log order. Raises IntegrityError where one is missing."""
        end = self.size if size is None else size
        expected = 0
        for opening in self._stream(OPENINGS.where(tables.openings.c.position < end)):
            if opening.position != expected:
                break
            expected += 1
            yield opening
        if expected != end:
            raise IntegrityError(f"table openings, position {expected}: the row is missing")

    def events(self, after: int = 0) -> Iterator[Recorded]:
        """Events in log order, from that position on."""
        of_events = OPENINGS.where(tables.openings.c.kind == EVENT, tables.openings.c.position >= after)
        for opening in self._stream(of_events):
            yield Recorded(opening.position, opening.document())

    def events_of(self, subject_id: str) -> list[Recorded]:
        """A person's events in log order."""
        return self.events_of_all([subject_id])

    def events_of_all(self, subject_ids: Sequence[str], *, before: int | None = None) -> list[Recorded]:
        """The events of several people in log order; before: only those at positions before it."""
        found = self._listed("subject_id", subject_ids, before)
        return sorted(found, key=lambda recorded: recorded.position)

    def find_event(self, event_id: str) -> Recorded | None:
        return self.find_events([event_id]).get(event_id)

    def find_events(self, event_ids: Sequence[str]) -> dict[str, Recorded]:
        """Those of the events that are recorded, by id."""
        return {recorded.document["event_id"]: recorded for recorded in self._listed("event_id", event_ids)}

    def is_known(self, subject_id: str) -> bool:
        """Whether any act of exactly this id was ever recorded."""
        c = tables.openings.c
        return self._connection.execute(select(c.position).where(c.subject_id == subject_id).limit(1)).first() is not None

    def lookalikes(self, subject_id: str, limit: int = 20) -> list[str]:
        """Other known ids that differ from this one only in case, surrounding space or normalisation."""
        c, likeness = tables.openings.c, lookalike(subject_id)
        query = select(c.subject_id).distinct().where(or_(c.lookalike == likeness, c.subject_id == likeness), c.subject_id != subject_id)
        return [found for found in self._connection.execute(query.order_by(c.subject_id).limit(limit)).scalars() if found]

    def acts(self, kind: str | None = None) -> list[Act]:
        """Acts other than events in log order, of one kind or of all."""
        of_kind = OPENINGS.where(tables.openings.c.act == kind) if kind else OPENINGS.where(tables.openings.c.kind == ACT)
        acts = [Act(opening.position, opening.document()) for opening in self._stream(of_kind)]
        for act in acts:
            if kind is not None and act.document.get("act") != kind:
                raise IntegrityError(f"table openings, position {act.position}, column act: it is not {kind}")
        return acts

    def purposes(self) -> dict[str, list[tuple[datetime, Purpose]]]:
        """Per token its (declared at, purpose), oldest first."""
        declared: dict[str, list[tuple[datetime, Purpose]]] = {}
        for act in self.acts("purpose_declared"):
            purpose = declared_purpose(act.document)
            declared.setdefault(purpose.token, []).append((act.recorded_at, purpose))
        return declared

    def notices(self) -> list[Notice]:
        """In log order."""
        return [Notice(act.recorded_at, act.document["notice_id"], act.document["version"], act.document["language"],
                       act.document["sha256"]) for act in self.acts("notice_declared")]  # fmt: skip

    def covering_checkpoint(self, position: int) -> tuple[Checkpoint, str]:
        """The first checkpoint that holds an entry, and its note: the one signed when the entry was appended."""
        c = tables.checkpoints.c
        note = self._connection.execute(select(c.note).where(c.size > position).order_by(c.size).limit(1)).scalar()
        if not isinstance(note, str):
            raise IntegrityError(f"table checkpoints: none covers entry {position}")
        return self._one_of_ours(open_checkpoint(note, self._verifiers), position), note

    def proof(self, position: int) -> TlogProof:
        """That the log holds the entry at a position, under the checkpoint that covers it."""
        checkpoint, note = self.covering_checkpoint(position)
        hashes = merkle.inclusion_proof(position, checkpoint.size, self.head.tree.node)
        merkle.verify_inclusion(self.head.tree.leaf(position), position, checkpoint.size, hashes, checkpoint.root)
        return TlogProof(position, tuple(hashes), note)

    def counts(self) -> dict[str, int]:
        """entries, events, subjects: for people to read; nothing is decided by them."""
        c = tables.openings.c
        events, subjects = self._connection.execute(
            select(func.count(), func.count(c.subject_id.distinct())).where(c.kind == EVENT)).one()  # fmt: skip
        return {"entries": self.size, "events": events, "subjects": subjects}

    def _one_of_ours(self, checkpoint: Checkpoint, position: int) -> Checkpoint:
        """Raises IntegrityError unless it is of this log, at a size between that entry and the head."""
        if not position < checkpoint.size <= self.size or checkpoint.origin != self.head.checkpoint.origin:
            raise IntegrityError(f"table checkpoints, column note: what should cover entry {position} is another checkpoint")
        if merkle.root(checkpoint.size, self.head.tree.node) != checkpoint.root:
            raise IntegrityError(f"table checkpoints, size {checkpoint.size}: it signs another log than the head does")
        return checkpoint

    def _listed(self, column: str, ids: Sequence[str], before: int | None = None) -> Iterator[Recorded]:
        for start in range(0, len(ids), _MAX_LISTED):
            wanted = ids[start : start + _MAX_LISTED]
            query = OPENINGS.where(tables.openings.c[column].in_(wanted))
            if before is not None:
                query = query.where(tables.openings.c.position < before)
            for row in self._connection.execute(query).all():
                opening = self._checked(row)
                document = opening.document()
                if document.get(column) not in wanted:
                    raise IntegrityError(f"table openings, position {opening.position}, column {column}: it is not what was recorded")
                yield Recorded(opening.position, document)

    def _stream(self, query: Select[Any]) -> Iterator[Opening]:
        rows = self._connection.execute(query.order_by(tables.openings.c.position).execution_options(yield_per=_STREAMED))
        with rows:
            for row in rows:
                yield self._checked(row)

    def _checked(self, row: Row[Any]) -> Opening:
        opening = Opening(*row)
        entry = opening.recomputed()
        if entry != opening.entry:
            raise IntegrityError(f"position {opening.position}: tables openings and entries do not fit each other",
                                 hint="`consent fsck` says which column was changed")  # fmt: skip
        if opening.position < self.size:
            if merkle.leaf_hash(entry) != self.head.tree.leaf(opening.position):
                raise IntegrityError(f"table entries, position {opening.position}: it is not the entry that the log signs")
        elif not self._appending:
            raise IntegrityError(f"table openings, position {opening.position}: it lies past the signed end of the log")
        return opening
