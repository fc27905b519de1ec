"""The only writer. One transaction, in this order; nothing is cached between two of them.

1. Take the writer's lock, finish a replacement of the log's key that was begun (see `handover`), and read the head row.
2. Verify its note under our own key and origin, rebuild its root from the stored tiles, and check every anchor.
3. Validate what comes, insert it, read back what was inserted and hash that.
4. Extend the tree, and check it by a second path: a consistency proof from the old head to the new one.
5. Sign, swap the head where it still is the old one (exactly one row), commit.
6. Only then hand the note out, to the anchors first.

An error in COMMIT leaves the outcome unknown (SQLite can report EIO and keep the rows, a server can be gone before it answers):
a new connection takes the lock and reads the checkpoint of that size, which tells stored from not stored. What is found not to be
stored is buried before that is told: it must not come back.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import compress, islice, repeat
from typing import Any, NamedTuple

import sqlalchemy as sa

from ledger import times
from ledger.consent import YES, Event, lookalike
from ledger.errors import ConsentLedgerError, EventConflict, IntegrityError, InvalidEvent, UsageError
from ledger.log import canonical, merkle, tiles
from ledger.log.checkpoint import Checkpoint, sign_checkpoint
from ledger.log.entry import SALT_BYTES, act_entry, event_body, event_entry, subject_tagger
from ledger.log.keys import PrivateKey
from ledger.log.merkle import RightEdge
from ledger.store import database, erasing, handover, journal, short
from ledger.store.admitting import Admission
from ledger.store.database import check_revision, insert, migrate, reading, writing
from ledger.store.documents import event_bytes, same_content
from ledger.store.erasing import Ended
from ledger.store.folder import Folder
from ledger.store.history import History, purposes_of
from ledger.store.journal import Acts
from ledger.store.prepared import Prepared
from ledger.store.short import Short, recorded
from ledger.store.tables import CheckpointRow, Entry, Head, Notice, Opening, Tile

CHUNK = 8192
HEAD, MOVED = 1, -1
"""The id of the head's row, and what it is once the ledger was moved to another database: then no append finds it."""
_FEW = 100
"""So many ids are looked up with all that is recorded of them; of more it is first asked which are there."""
_AT_ONCE = 512
"""So many rows are read back together: with more of them they fall out of the processor's cache."""
_TICK = timedelta(microseconds=1)
_TABLES = (Entry, Opening, Tile, CheckpointRow, Head, Notice)
_entries, _openings, _tiles, _checkpoints, _head, _notices = (t.__table__ for t in _TABLES)  # type: ignore[union-attr]
_INSERTED = (
    sa.select(_entries.c.position, _entries.c.entry, _entries.c.tag, _entries.c.body, _openings.c.salt, _openings.c.canonical)
    .join(_openings, _entries.c.position == _openings.c.position)
    .where(_entries.c.position.between(sa.bindparam("first"), sa.bindparam("last")))
    .order_by(_entries.c.position)
)
_AT = (_tiles.c.level == sa.bindparam("at_level"), _tiles.c.number == sa.bindparam("at_number"))
_CHANGE_TILE = sa.update(_tiles).where(*_AT).values(hashes=sa.bindparam("new_hashes"))
_SWAP = (
    sa.update(_head)
    .where(_head.c.id == sa.bindparam("at_id"), _head.c.note == sa.bindparam("old"))
    .values(note=sa.bindparam("new"))
)
_HEAD_IDS = sa.select(_head.c.id)


class _Outcome(NamedTuple):
    position: int
    event: Event | Short
    repeated: bool


class Stored(NamedTuple):
    """An event as it stands in the log. repeated: it stood there before."""

    position: int
    event: Event
    repeated: bool


@dataclass(frozen=True, slots=True)
class Appended:
    """What a transaction added: entries first..size-1, under the note. Nothing: first == size."""

    first: int
    size: int
    note: str
    recorded_at: datetime


class Transaction:
    """What a plan may do while the lock is held."""

    def __init__(
        self,
        connection: sa.Connection,
        history: History,
        head: Checkpoint,
        tag_key: bytes,
        began: datetime,
        recorded_at: datetime,
    ) -> None:
        self._con, self.history, self.began, self.recorded_at = connection, history, began, recorded_at
        self.tag = subject_tagger(tag_key)
        self.ended = Ended(connection, history, tag_key)
        self.size = head.size
        self.successor: PrivateKey | None = None
        """A key that signs this transaction's checkpoint too, and every one after it alone."""
        self._edge = right_edge(head.size, history.node)
        declared = history.acts("purpose_declared", "notice_declared")
        self.declared = purposes_of(act for _, act in declared if act["act"] == "purpose_declared")
        self.notices = [act for _, act in declared if act["act"] == "notice_declared"]

    def begin_now(self) -> None:
        """Date it anew, before anything is appended: whoever acted while the lock was held is not dated before they did."""
        self.began = max(self.began, times.now())
        self.recorded_at = max(self.recorded_at, self.began)

    def act(self, kind: str, recorded_by: str, **fields: Any) -> int:
        """Append an act of the ledger; its position."""
        document = {"act": kind, "recorded_at": times.text(self.recorded_at), "recorded_by": recorded_by, **fields}
        position = self.opened_act(kind, secrets.token_bytes(SALT_BYTES), canonical.encode(document))
        self.declared = self.history.purposes() if kind == "purpose_declared" else self.declared
        self.notices += [document] if kind == "notice_declared" else []
        return position

    def opened_act(self, kind: str, salt: bytes, data: bytes) -> int:
        """Append an act that its caller has in canonical bytes; its position."""
        position = self.size
        self._insert([(position, act_entry(salt, data), None, None)], [(position, salt, data, kind, *index_values(None))])
        return position

    def event(self, event: Event, recorded_by: str) -> Stored:
        """Append one event, or find it there. Raises InvalidEvent."""
        (outcome,) = self._chunk([event], recorded_by)
        if isinstance(outcome, InvalidEvent):
            raise outcome
        return Stored(outcome.position, recorded(outcome.event), outcome.repeated)

    def events(self, events: Iterable[Event], recorded_by: str) -> Iterator[Stored | InvalidEvent]:
        """Append many, in bounded memory: per event what became of it, in order. An invalid one is left out, not raised."""
        source = iter(events)
        while chunk := list(islice(source, CHUNK)):
            for outcome in self._chunk(chunk, recorded_by):
                yield outcome if isinstance(outcome, InvalidEvent) else Stored(outcome[0], recorded(outcome[1]), outcome[2])

    def some(self, events: Sequence[Event | Short], recorded_by: str) -> list[bool | InvalidEvent]:
        """Append some, of which those in short were admitted: of each whether it stood there before, or why it was left out."""
        outcomes = self._chunk(events, recorded_by)
        return [outcome if isinstance(outcome, InvalidEvent) else outcome.repeated for outcome in outcomes]

    def prepared(self, acts: Prepared) -> bool:
        """Append acts as they were prepared: all, or none where one is recorded, stands there twice, or may be of somebody who
        was erased. Those must be looked at one by one."""
        ids = acts.event_ids
        if len(set(ids)) < len(ids):
            return False
        said_yes = [state in YES for state in acts.states]
        if self.ended.concerned(set(compress(acts.subject_ids, said_yes)), set(compress(ids, said_yes))):
            return False
        positions = range(self.size, self.size + len(ids))
        beside = (ids, acts.subject_ids, acts.lookalikes, acts.states, acts.categories, acts.content_ids)
        openings = list(zip(positions, acts.salts, acts.canonical, repeat(None), *beside))
        if not database.insert_new(self._con, _openings.c.event_id, openings):
            return False
        entries = list(zip(positions, acts.entries, acts.tags, acts.bodies, strict=True))
        insert(self._con, _entries, entries)
        self._extend(entries, openings)
        return True

    def _chunk(self, events: Sequence[Event | Short], recorded_by: str) -> list[_Outcome | InvalidEvent]:
        known = self._known([e.event_id for e in events if e.event_id is not None])
        suppressed = self.ended.suppressing(events)
        entries: list[tuple[Any, ...]] = []
        openings: list[tuple[Any, ...]] = []
        outcomes: list[_Outcome | InvalidEvent] = []
        position = self.size
        salts = secrets.token_bytes(SALT_BYTES * len(events))
        for place, given in enumerate(events):
            try:
                stored = known.get(given.event_id) if given.event_id is not None else None
                if stored is not None:
                    if (field := same_content(short.given(given), recorded(stored.event))) is not None:
                        raise EventConflict(
                            f"event_id {given.event_id!r:.80} is recorded with another {field}",
                            hint="an act keeps its id; a new act needs an id of its own",
                        )
                    outcomes.append(stored._replace(repeated=True))
                    continue
                event: Event | Short
                if type(given) is Short and not suppressed.concerns(given):
                    event, data = given, given.canonical
                else:
                    event = self.admit(short.given(given), recorded_by)
                    suppressed.check(event)
                    data = event_bytes(event)
            except InvalidEvent as error:
                outcomes.append(error)
                continue
            tag = self.tag(event.subject_id)
            salt = salts[SALT_BYTES * place : SALT_BYTES * (place + 1)]
            body = event_body(salt, data)
            entries.append((position, event_entry(tag, body), tag, body))
            openings.append((position, salt, data, None, *index_values(event)))
            added = _Outcome(position, event, False)
            if event.event_id is not None:
                known[event.event_id] = added
            outcomes.append(added)
            position += 1
        self._insert(entries, openings)
        return outcomes

    def keep_text(self, sha256: str, text: bytes) -> None:
        """Keep a notice's text; the same text again is kept once."""
        if self._con.scalar(sa.select(_notices.c.sha256).where(_notices.c.sha256 == sha256)) is None:
            self._con.execute(sa.insert(_notices).values(sha256=sha256, text=text))

    def answered(self, event_ids: list[str]) -> set[str]:
        """Those of these that are recorded, and whose subject has said yes, to whatever, in a later transaction."""
        found: set[str] = set()
        later = _openings.alias()
        through = (
            sa.select(sa.func.min(_checkpoints.c.size))
            .where(_checkpoints.c.size > _openings.c.position)
            .correlate(_openings)
            .scalar_subquery()
        )
        since = sa.exists().where(
            later.c.subject_id == _openings.c.subject_id, later.c.state.in_(YES), later.c.position >= through
        )
        for start in range(0, len(event_ids), 500):
            some = event_ids[start : start + 500]
            found.update(self._con.scalars(sa.select(_openings.c.event_id).where(_openings.c.event_id.in_(some), since)))
        return found

    def _known(self, event_ids: list[str]) -> dict[str, _Outcome]:
        known: dict[str, _Outcome] = {}
        if len(event_ids) > _FEW:
            event_ids = database.found(self._con, _openings.c.event_id, event_ids)
        for start in range(0, len(event_ids), 500):
            for opened, event in self.history.events(event_ids[start : start + 500]):
                assert event.event_id is not None
                known[event.event_id] = _Outcome(opened.position, event, False)
        return known

    def admit(self, event: Event, recorded_by: str) -> Event:
        """The event as it will be recorded: purposes and notice with their versions, id and recording filled in."""
        return self.admission().admit(event, recorded_by)

    def admission(self) -> Admission:
        """By what is declared and kept now."""
        return Admission(self.declared, self.notices, self.began, self.recorded_at)

    def _insert(self, entries: Sequence[tuple[Any, ...]], openings: Sequence[tuple[Any, ...]]) -> None:
        """Rows with their values in the order of the tables' columns."""
        if not entries:
            return
        insert(self._con, _entries, entries)
        insert(self._con, _openings, openings)
        self._extend(entries, openings)

    def _extend(self, entries: Sequence[tuple[Any, ...]], openings: Sequence[tuple[Any, ...]]) -> None:
        """Extend the tree by rows that were inserted. What is hashed is what the database holds, byte for byte."""
        leaves: list[bytes] = []
        for start in range(0, len(entries), _AT_ONCE):
            some = list(zip(entries[start : start + _AT_ONCE], openings[start : start + _AT_ONCE], strict=True))
            rows = database.rows(self._con, _INSERTED, {"first": some[0][0][0], "last": some[-1][0][0]})
            if rows != [(*entry, *opening[1:3]) for entry, opening in some]:
                raise IntegrityError("the database does not hold the rows that were inserted")
            leaves += [merkle.leaf_hash(row[1]) for row in rows]
        for (level, number), hashes in tiles.extend(self.size, leaves, self.history.tile).items():
            changed = {"at_level": level, "at_number": number, "new_hashes": hashes}
            if database.changed(self._con, _CHANGE_TILE, changed) == 0:
                insert(self._con, _tiles, [(level, number, hashes)])
            self.history.reread_tile(level, number)
        self._edge.extend(leaves)
        self.size += len(leaves)

    def root(self) -> bytes:
        """Of the tree as it now stands, by both paths. Raises IntegrityError where they differ."""
        root = self._edge.root()
        if merkle.root(self.size, self.history.node) != root:
            raise IntegrityError("the tree built from the rows is not the one built from the tiles")
        return root


class Unanchored(ConsentLedgerError):
    """It was recorded, and the head could not be written outside the database."""


def append(
    engine: sa.Engine,
    folder: Folder,
    plan: Callable[[Transaction], None],
    *,
    read_back: Callable[[History], None] | None = None,
    key: PrivateKey | None = None,
) -> Appended:
    """Run a plan in one transaction and sign what it added. Whatever the plan raises rolls all of it back.

    An erasure that was ordered and did not reach the log goes first: nothing comes between an order and its act.
    read_back: reads what is about to be committed, and keeps it to itself until this returns. key: the log's, where the caller
    has it already. Raises LedgerBusy, IntegrityError, and ConsentLedgerError where the outcome of COMMIT could not be found out.
    """
    carry_out(engine, folder)
    return _append(engine, folder, plan, read_back=read_back, key=key)


def carry_out(engine: sa.Engine, folder: Folder) -> None:
    """Bring every erasure that was ordered into the log, each in a transaction of its own. Raises as `append` does."""
    path = journal.path_of(folder.path)
    for order in journal.unfinished(path):
        if order.acts is not None:
            continue
        positions: list[int] = []
        _append(engine, folder, lambda tx, order=order, found=positions: found.extend(erasing.erase(tx, order)))  # type: ignore[misc]
        if not positions:
            journal.finished(path, order)
            continue
        with reading(engine) as connection:
            history = History(connection, folder.origin, folder.log_trust())
            opened = [history.at(position) for position in positions]
            note = history.covering(positions[0])[1]
        journal.acted(path, order, Acts(positions[0], tuple((o.salt, o.canonical) for o in opened), note))


def put_back(engine: sa.Engine, folder: Folder, acts: Acts) -> Appended:
    """Append an erasure that this log held before its database was put back: the same bytes, under the same checkpoint.

    Raises IntegrityError where they are not what comes next in the log.
    """
    return _append(engine, folder, lambda tx: erasing.again(tx, acts), acts)


def _append(
    engine: sa.Engine,
    folder: Folder,
    plan: Callable[[Transaction], None],
    known: Acts | None = None,
    read_back: Callable[[History], None] | None = None,
    key: PrivateKey | None = None,
) -> Appended:
    """known: what the plan appends is in the log already, and only this database, which is behind the anchors, lacks it."""
    # Before the lock: a passphrase may have to be asked for.
    key, tag_key = key or (folder.log_key() if known is None else None), folder.tag_key()
    with writing(engine) as (connection, work):
        try:
            revision = check_revision(connection)
            check_not_moved(connection, folder)
            if revision != database.REVISION:
                database.upgrade(connection)
            finish_handover(connection, folder)
            trust = folder.log_trust()
            if key is not None and not trust.is_current(key.public):  # it was replaced meanwhile
                key = folder.log_key()
            history = History(connection, folder.origin, trust, database.REVISION)
            old_note, old = history.check_anchors(folder.read_anchors() if known is None else ())
            last = history.recorded_at(old.size)
            # Later than every checkpoint before, whatever the machine's clock says: no two transactions share a moment.
            began = times.now()
            recorded_at = max(began, last + _TICK) if last is not None else began
            if known is not None:
                recorded_at = known.recorded_at
            transaction = Transaction(connection, history, old, tag_key, began, recorded_at)
            plan(transaction)
            if transaction.size == old.size:
                if read_back is not None:
                    read_back(history)
                work.rollback()
                # The writer before this one may have been killed between its commit and the anchors.
                folder.write_anchors(old_note)
                return Appended(old.size, old.size, old_note, transaction.recorded_at)
            new = Checkpoint(folder.origin, transaction.size, transaction.root())
            proof = merkle.consistency_proof(old.size, new.size, history.node) if old.size else []
            if old.size:
                merkle.verify_consistency(old.size, old.root, new.size, new.root, proof)
            if key is None:
                if known is None or history.open(known.note) != new:
                    raise IntegrityError("the acts of the order journal are not what this log goes on with")
                note = known.note
            elif transaction.successor is None:
                handover.require_finished(old_note, trust)
                note = sign_checkpoint(new, key)
            else:
                note = sign_checkpoint(new, key, transaction.successor)
            insert(connection, _checkpoints, [(new.size, note, times.micros(transaction.recorded_at))])
            if database.changed(connection, _SWAP, {"at_id": HEAD, "old": old_note, "new": note}) != 1:
                raise IntegrityError("the head was changed while its lock was held")
            stored = history.recorded_at(new.size), history.covering(old.size)[1], history.head()[0]
            if stored != (transaction.recorded_at, note, note):
                raise IntegrityError("the database does not hold the checkpoint that was signed")
            if read_back is not None:
                read_back(history)
        except BaseException:
            work.rollback()
            raise
        try:
            work.commit()
        except Exception as error:
            connection.invalidate()
            _settle(engine, new.size, note, error)
    try:
        folder.write_anchors(note)
    except ConsentLedgerError as error:
        raise Unanchored(
            f"it was recorded, but the head could not be written outside the database: {error}",
            hint="mend that, and run the command again",
        ) from error
    return Appended(old.size, new.size, note, transaction.recorded_at)


def _settle(engine: sa.Engine, size: int, note: str, error: Exception) -> None:
    """After a failed COMMIT: returns when the note is stored all the same, raises when it is not, or when that cannot be told."""
    ends = time.monotonic() + database.BUSY_SECONDS
    while True:
        try:
            # Whether the rows are there is unknown until another connection holds the lock.
            with writing(engine) as (connection, work):
                # By the checkpoint of that size, not by the head: another process may have appended since.
                stored = connection.scalar(sa.select(_checkpoints.c.note).where(_checkpoints.c.size == size))
                if stored != note:
                    database.bury(connection)
                    work.commit()
            break
        except ConsentLedgerError as failed:  # a server may be on its way up again
            if time.monotonic() >= ends:
                raise ConsentLedgerError(
                    f"the database was lost while it committed, and whether the act was recorded is not known: {failed}",
                    hint="look whether it is there (consent show, consent events) before it is recorded again",
                ) from error
            time.sleep(0.2)
    if stored != note:
        raise ConsentLedgerError(
            f"the database could not commit, and nothing was recorded: {getattr(error, 'orig', error)}",
            hint="see that the database is up and its disk not full, then run the command again",
        ) from error


@contextlib.contextmanager
def told_that_it_was_recorded() -> Iterator[None]:
    """Whatever fails after the commit must not read as if nothing had happened."""
    try:
        yield
    except ConsentLedgerError as error:
        # What was asked was right, and was done: where the person was erased meanwhile, say, it is no error of usage.
        kind = ConsentLedgerError if isinstance(error, UsageError) else type(error)
        raise kind(f"it was recorded, but could not be read back: {error}", hint=error.hint) from error


def finish_handover(connection: sa.Connection, folder: Folder) -> None:
    """With the lock held, whatever is to be written. Raises as `handover.finish` does."""
    if handover.is_begun(folder):
        note, head = History(connection, folder.origin, folder.log_trust()).head()
        handover.finish(folder, note, head.size)


def check_not_moved(connection: sa.Connection, folder: Folder) -> None:
    """To append, with the lock held. Raises ConsentLedgerError for a ledger that goes on elsewhere."""
    # The database tells whoever opened it before, or has a folder of their own; the folder tells where a backup was restored.
    if folder.moved_to is not None or database.rows(connection, _HEAD_IDS) == [(MOVED,)]:
        raise ConsentLedgerError(
            "this ledger was moved to another database: its log can be read, but not written to, nor asked for what holds now",
            hint="use the folder that `consent copy` made (where that left a ledger.toml.copied, see docs/operations.md)",
        )


def create(engine: sa.Engine, folder: Folder) -> None:
    """The schema, with the empty log's head, signed: the cell that every append swaps must exist before the first one."""
    note = sign_checkpoint(Checkpoint(folder.origin, 0, merkle.EMPTY_ROOT), folder.log_key())

    def fill(connection: sa.Connection) -> None:
        if connection.scalars(sa.select(_head.c.id)).all():  # two came at once
            raise UsageError("there is a ledger in this database", hint="a ledger has a database, or a schema, for itself alone")
        connection.execute(sa.insert(_head).values(id=HEAD, note=note))

    migrate(engine, fill)
    folder.write_anchors(note)


def right_edge(size: int, node: merkle.Node) -> RightEdge:
    """The roots of the perfect subtrees of a tree, from its tiles."""
    hashes, offset = [], 0
    for level in reversed(range(size.bit_length())):
        if size >> level & 1:
            hashes.append(node(level, offset >> level))
            offset += 1 << level
    return RightEdge(size, hashes)


INDEX = ("event_id", "subject_id", "lookalike", "state", "category", "content_id")
"""The columns of `openings` beside the canonical bytes, in its order."""
_NO_EVENT = (None,) * len(INDEX)


def index_values(event: Event | Short | None) -> tuple[str | None, ...]:
    """What they hold."""
    if event is None:
        return _NO_EVENT
    return event.event_id, event.subject_id, lookalike(event.subject_id), event.state, event.category, event.content_id
