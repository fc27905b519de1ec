"""The one writer of the log. One transaction, in this order:

1. take the writer's lock and read the head; verify its note under our own key, rebuild its root from the stored right edge, and
   require the tree to extend every anchor;
2. validate what is to be added, insert it, re-read and hash what was inserted, extend the tiles (in chunks, so that memory is bounded);
3. check the new tree by a second path: a consistency proof from the old root to the new one, made from the re-read tiles;
4. sign, swap the head, commit;
5. write the anchors.

Nothing is kept from one transaction to the next, and no note leaves this module before its COMMIT is known to have happened.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from itertools import islice
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, insert, select, update

from ledger import times
from ledger.consent import Event, Purpose, check_against, check_text, lookalike, resolve_purposes
from ledger.errors import ConsentLedgerError, IntegrityError, InvalidEvent, UsageError
from ledger.log import canonical, merkle, tiles
from ledger.log.checkpoint import Checkpoint, sign_checkpoint
from ledger.log.entry import SALT_BYTES, act_entry, event_body, event_entry, subject_tag
from ledger.log.keys import PrivateKey
from ledger.log.merkle import RightEdge
from ledger.log.note import Verifier
from ledger.store import acts, tables
from ledger.store.database import Store
from ledger.store.events import content, differences
from ledger.store.history import OPENINGS, Head, History, Opening, Recorded
from ledger.store.notices import Notice, check_names, resolve_notice
from ledger.store.tables import ACT, EVENT
from ledger.store.tree import Tree, stored_tiles

CHUNK = 5000
"""Entries that are inserted, re-read and hashed at a time."""
MAX_NOTICE = 1 << 20
"""Bytes of a notice's text."""


@dataclass(frozen=True)
class Appended:
    """What one transaction did: entries first..size-1, all recorded at one moment, and the note that signs them.

    Where nothing was added, first == size, and the note is the one that stood.
    """

    first: int
    size: int
    note: str
    recorded_at: datetime


class Stored(Recorded):
    """An event that this transaction adds."""

    __slots__ = ()


class Repeat(Recorded):
    """An event that was recorded before, with the same content."""

    __slots__ = ()


def append(store: Store, plan: Callable[[Transaction], None], *, recorded_by: str) -> Appended:
    """Run the plan on a transaction, and sign and commit what it adds; all of it, or, where the plan raises, nothing.

    recorded_by: who adds, for what does not say so itself. Raises LedgerBusy where another writer keeps the lock, IntegrityError
    where the database is not the log that was signed, ConsentLedgerError where it cannot be written.
    """
    check_text("recorded_by", recorded_by)
    folder = store.folder
    key, tag_key = folder.log_key(), folder.tag_key()
    verifiers = (Verifier.of(folder.origin, key.public),)
    anchors = folder.anchors()
    with store.writing() as connection:
        head = Head.read(connection, folder.origin, verifiers, anchors)
        history = History(connection, head, verifiers, appending=True)
        transaction = Transaction(connection, history, tag_key, recorded_by)
        plan(transaction)
        edge = transaction.finish()
        if edge.size == head.checkpoint.size:
            return Appended(edge.size, edge.size, head.note, transaction.recorded_at)
        note = _sign(connection, head.checkpoint, edge, key)
        _swap_head(connection, head.note, note, edge.size, transaction.recorded_at)
        _commit(store, connection, note, edge.size)
    appended = Appended(head.checkpoint.size, edge.size, note, transaction.recorded_at)
    try:
        folder.write_anchors(note)
    except ConsentLedgerError as error:
        raise ConsentLedgerError(f"recorded as entries {appended.first} to {appended.size - 1}, but an anchor was not written: {error}",
                                 hint="mend what keeps it from being written; the next append writes every anchor") from error  # fmt: skip
    return appended


def _sign(connection: Connection, old: Checkpoint, edge: RightEdge, key: PrivateKey) -> str:
    """The new note, once the stored tiles, read anew, prove that its tree extends the old one."""
    new = Checkpoint(old.origin, edge.size, edge.root())
    tree = Tree(stored_tiles(connection), new)
    if old.size:
        proof = merkle.consistency_proof(old.size, new.size, tree.node)
        merkle.verify_consistency(old.size, old.root, new.size, new.root, proof)
    return sign_checkpoint(new, key)


def _swap_head(connection: Connection, old: str, new: str, size: int, recorded_at: datetime) -> None:
    swapped = connection.execute(update(tables.head).where(tables.head.c.id == 1, tables.head.c.note == old).values(note=new))
    if swapped.rowcount != 1:
        raise IntegrityError("table head: it was changed while the writer's lock was held")
    connection.execute(insert(tables.checkpoints).values(size=size, note=new, recorded_at=times.micros(recorded_at)))


def _commit(store: Store, connection: Connection, note: str, size: int) -> None:
    try:
        connection.commit()
    except Exception as error:
        # What is on the disk is unknown now: SQLite can report an error and keep the row. This connection can tell nothing more,
        # and it may still hold the lock.
        connection.invalidate()
        connection.close()
        try:
            stored = _is_stored(store, note, size)
        except ConsentLedgerError as unreadable:
            raise ConsentLedgerError(f"the database failed while committing ({error}), and whether it kept the entries is unknown",
                                     hint="run it again when the database is back: what was kept comes out as a repeat") from unreadable  # fmt: skip
        if not stored:
            raise ConsentLedgerError(f"nothing was recorded: the database could not commit ({error})") from error


def _is_stored(store: Store, note: str, size: int) -> bool:
    """Whether a checkpoint was kept, though others may follow it by now; asked under the lock, when nothing is under way."""
    with store.writing() as connection:
        c = tables.checkpoints.c
        return connection.execute(select(c.note).where(c.size == size)).scalar() == note


class Transaction:
    """What a plan may do. Nothing of it is there before the transaction is committed.

    recorded_at: the moment of everything in it, never before the last entry's. first: the position of its first entry.
    """

    def __init__(self, connection: Connection, history: History, tag_key: bytes, recorded_by: str) -> None:
        self.recorded_by = recorded_by
        self.first = history.size
        self.recorded_at = max(times.now(), _last_recorded_at(history))
        self._connection = connection
        self._history = history
        self._tag_key = tag_key
        self._edge = RightEdge(history.size, history.head.tree.edge.hashes)
        self._entries: list[dict[str, Any]] = []
        self._openings: list[dict[str, Any]] = []
        self._pending_ids: dict[str, Stored] = {}
        self._recorded_at_text, self._recorded_at_micros = times.text(self.recorded_at), times.micros(self.recorded_at)
        self._purposes: dict[str, list[tuple[datetime, Purpose]]] | None = None
        self._notices: list[Notice] | None = None

    @property
    def size(self) -> int:
        """Of the log with what was added so far."""
        return self._edge.size + len(self._entries)

    @property
    def purposes(self) -> dict[str, list[tuple[datetime, Purpose]]]:
        """Per token its (declared at, purpose), oldest first, those that this transaction declares included."""
        if self._purposes is None:
            self._purposes = self._written().purposes()
        return self._purposes

    @property
    def notices(self) -> list[Notice]:
        if self._notices is None:
            self._notices = self._written().notices()
        return self._notices

    def find_event(self, event_id: str) -> Recorded | None:
        return self._written().find_event(event_id)

    def history(self, subject_id: str) -> list[Recorded]:
        """A person's events in log order, those of this transaction included."""
        return self._written().events_of(subject_id)

    def earlier_events(self, subject_ids: Sequence[str]) -> list[Recorded]:
        """The events that these people had before this transaction, in log order."""
        return self._history.events_of_all(subject_ids, before=self.first)

    def lookalikes(self, subject_id: str) -> list[str]:
        """See History.lookalikes."""
        return self._written().lookalikes(subject_id)

    def is_known(self, subject_id: str) -> bool:
        """See History.is_known."""
        return self._written().is_known(subject_id)

    def event(self, event: Event) -> Stored | Repeat:
        """Add an event, unless it was recorded before. Raises InvalidEvent."""
        [outcome] = self.batch([event])
        if isinstance(outcome, InvalidEvent):
            raise outcome
        return outcome

    def events(self, events: Iterable[Event]) -> tuple[int, int]:
        """Add any number of events; how many were new, and how many repeated. Raises InvalidEvent for the first that is not valid."""
        new = repeated = 0
        iterator = iter(events)
        while chunk := list(islice(iterator, CHUNK)):
            for outcome in self.batch(chunk):
                if isinstance(outcome, InvalidEvent):
                    raise outcome
                new += isinstance(outcome, Stored)
                repeated += isinstance(outcome, Repeat)
        return new, repeated

    def batch(self, events: Sequence[Event]) -> list[Stored | Repeat | InvalidEvent]:
        """Add a few thousand events. What is not valid is not added; the error stands in its place."""
        known = self._history.find_events([event.event_id for event in events if event.event_id is not None])
        outcomes: list[Stored | Repeat | InvalidEvent] = []
        for event in events:
            try:
                outcomes.append(self._add(event, known))
            except InvalidEvent as error:
                outcomes.append(error)
        # Not sooner: until here `known` and `_pending_ids` together have every event that is recorded.
        self._flush_when(CHUNK)
        return outcomes

    def act(self, fields: Mapping[str, Any]) -> int:
        """Add an act of the ledger, see store.acts; its position. Raises UsageError for one that is not whole."""
        document = {"recorded_by": self.recorded_by, **fields, "recorded_at": self._recorded_at_text}
        acts.check(document)
        salt, data = os.urandom(SALT_BYTES), canonical.encode(document)
        position = self.size
        self._put(ACT, salt, data, act_entry(salt, data), act=document["act"])
        if document["act"] in ("purpose_declared", "notice_declared"):
            self._purposes = self._notices = None
        self._flush_when(CHUNK)
        return position

    def declare_notice(self, notice_id: str, language: str, text: bytes) -> Notice:
        """Keep the text of a notice and declare it as the next version, unless it is the latest already. Raises UsageError."""
        check_names(notice_id, language)
        if not 0 < len(text) <= MAX_NOTICE:
            raise UsageError(f"a notice has 1 to {MAX_NOTICE} bytes, not {len(text)}")
        digest = sha256(text).hexdigest()
        versions = [notice for notice in self.notices if (notice.notice_id, notice.language) == (notice_id, language)]
        if versions and versions[-1].sha256 == digest:
            return versions[-1]
        c = tables.notices.c
        if self._connection.execute(select(c.sha256).where(c.sha256 == digest)).first() is None:
            self._connection.execute(insert(tables.notices).values(sha256=digest, text=text))
        self.act({"act": "notice_declared", "notice_id": notice_id, "version": len(versions) + 1, "language": language,
                  "sha256": digest})  # fmt: skip
        return self.notices[-1]

    def finish(self) -> RightEdge:
        """The tree with everything that was added, all of it written and re-read."""
        self._flush_when(1)
        return self._edge

    def _add(self, event: Event, known: Mapping[str, Recorded]) -> Stored | Repeat:
        said = content(event)
        event_id = event.event_id or uuid4().hex
        earlier = self._pending_ids.get(event_id) or known.get(event_id)
        if earlier is not None:
            if differing := differences(said, earlier.document):
                raise InvalidEvent(f"event {event_id!r:.80} is recorded already, with other content: {', '.join(differing)}",
                                   hint="what is recorded is never changed; a new act needs an event_id of its own")  # fmt: skip
            return Repeat(earlier.position, earlier.document)
        self._resolve(event, said)
        said["event_id"] = event_id
        said["recorded_at"] = self._recorded_at_text
        said["recorded_by"] = event.recorded_by or self.recorded_by
        salt, data = os.urandom(SALT_BYTES), canonical.encode(said)
        tag, body = subject_tag(self._tag_key, event.subject_id), event_body(salt, data)
        likeness = lookalike(event.subject_id)
        stored = self._pending_ids[event_id] = Stored(self.size, said)
        self._put(EVENT, salt, data, event_entry(tag, body), tag=tag, body=body, event_id=event_id, subject_id=event.subject_id,
                  state=event.state, lookalike=None if likeness == event.subject_id else likeness)  # fmt: skip
        return stored

    def _resolve(self, event: Event, said: dict[str, Any]) -> None:
        """Put versions to purposes and notice, and check what needs them. Raises InvalidEvent."""
        acted_at = event.occurred_at or self.recorded_at
        purposes = resolve_purposes(event.purposes, self.purposes, acted_at)
        said["purposes"] = list(purposes)
        # Only a category is checked against resolved purposes; building the event anew would cost more than all else here.
        check_against(event if event.category is None else replace(event, purposes=purposes), self.purposes, self.recorded_at)
        if event.notice is not None:
            notice = resolve_notice(event.notice, self.notices, acted_at)
            if event.notice_sha256 not in (None, notice.sha256):
                raise InvalidEvent(f"notice {notice.reference} has another text than the one with that notice_sha256")
            said["notice"], said["notice_sha256"] = notice.reference, notice.sha256
        elif event.notice_sha256 is not None:
            raise InvalidEvent("notice_sha256 needs the notice that it is of", hint="keep its text with `consent notice add`")

    def _put(self, kind: str, salt: bytes, data: bytes, entry: bytes, *, tag: bytes | None = None, body: bytes | None = None,
             event_id: str | None = None, subject_id: str | None = None, state: str | None = None, act: str | None = None,
             lookalike: str | None = None) -> None:  # fmt: skip
        position = self.size
        self._entries.append({"position": position, "entry": entry, "tag": tag, "body": body})
        self._openings.append({
            "position": position, "kind": kind, "salt": salt, "canonical": data, "event_id": event_id, "subject_id": subject_id,
            "state": state, "act": act, "lookalike": lookalike, "recorded_at": self._recorded_at_micros})  # fmt: skip

    def _written(self) -> History:
        """The history with everything that was added so far in it."""
        self._flush_when(1)
        return self._history

    def _flush_when(self, pending: int) -> None:
        if len(self._entries) < pending:
            return
        self._connection.execute(insert(tables.entries), self._entries)
        self._connection.execute(insert(tables.openings), self._openings)
        leaf_hashes = self._reread()
        self._extend_tiles(leaf_hashes)
        self._edge.extend(leaf_hashes)
        self._entries.clear()
        self._openings.clear()
        self._pending_ids.clear()

    def _reread(self) -> list[bytes]:
        """The leaf hashes of what is stored of the pending entries. Raises IntegrityError unless it is what was put there."""
        query = OPENINGS.where(tables.openings.c.position >= self._edge.size).order_by(tables.openings.c.position)
        stored = [Opening(*row) for row in self._connection.execute(query)]
        if len(stored) != len(self._entries):
            raise IntegrityError(f"{len(self._entries)} entries were inserted, and {len(stored)} are there")
        leaf_hashes = []
        for opening, put in zip(stored, self._entries, strict=True):
            entry = opening.recomputed()
            if opening.position != put["position"] or not entry == opening.entry == put["entry"] or opening.body != put["body"]:
                raise IntegrityError(f"position {put['position']}: the database holds something else than was inserted")
            leaf_hashes.append(merkle.leaf_hash(entry))
        return leaf_hashes

    def _extend_tiles(self, leaf_hashes: Sequence[bytes]) -> None:
        read = stored_tiles(self._connection)
        partial = set()

        def read_partial(level: int, index: int) -> bytes:
            partial.add((level, index))
            return read(level, index)

        c = tables.tiles.c
        for (level, index), hashes in tiles.extend(self._edge.size, leaf_hashes, read_partial).items():
            if (level, index) in partial:
                self._connection.execute(update(tables.tiles).where(c.level == level, c.index == index).values(hashes=hashes))
            else:
                self._connection.execute(insert(tables.tiles).values(level=level, index=index, hashes=hashes))
            if read(level, index) != hashes:
                raise IntegrityError(f"the database holds another tile {index} of level {level} than was put there")


def _last_recorded_at(history: History) -> datetime:
    """By the last entry's own bytes: the column beside them is not signed. The last entry is never erased."""
    if not history.size:
        return datetime.min.replace(tzinfo=UTC)
    return times.parse(history.opening(history.size - 1).document()["recorded_at"])
