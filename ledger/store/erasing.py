"""An erasure inside the writer's transaction: what is deleted, the act that says so, and what it holds back from then on.

- All open events of the tag go: found by their entries, and by the index over ids, which must agree. The act names their
  positions; a keyed tag of each event's id stays.
- A yes is suppressed, not recorded, where it counts from up to an erasure of its person, or where its id is an erased one. A no
  never is: to lose one would be to turn it into a yes.
- An act may name no events: the person's were lost with the database, and their yes is held back all the same.
- A no that was recorded after the order (a backup was put back, say, and the order is carried out anew) is recorded anew behind
  the act: the order was not about it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ledger import times
from ledger.consent import Event
from ledger.errors import IntegrityError, Suppressed
from ledger.log import canonical
from ledger.log.entry import event_tag, subject_tag
from ledger.store import database
from ledger.store.database import insert
from ledger.store.history import History
from ledger.store.journal import Acts, Order
from ledger.store.opened import Opened, checked
from ledger.store.short import Short
from ledger.store.tables import Entry, Erasure, Leaf, Opening, Tombstone

if TYPE_CHECKING:
    from ledger.store.append import Transaction

ACT = "subject_erased"
_entries, _openings, _erasures, _tombstones, _leaves = (t.__table__ for t in (Entry, Opening, Erasure, Tombstone, Leaf))  # type: ignore[union-attr]
_ANY = sa.select(_erasures.c.position).limit(1)
_AT_ONCE = 500
_AN_ACT = 50_000
"""Positions, so that an act stays below the size that readers take."""
_WHOLE = "run `consent fsck`"


class Ended:
    """Whom and what the ledger has erased, as a writer sees it."""

    def __init__(self, connection: sa.Connection, history: History, tag_key: bytes) -> None:
        self.connection, self._history, self.tag_key = connection, history, tag_key

    def last(self, subject_id: str) -> tuple[int, datetime] | None:
        """(position, recorded at) of a person's last erasure."""
        found = self._history.erasures_of(subject_tag(self.tag_key, subject_id))
        return found[-1] if found else None

    def suppressing(self, events: Sequence[Event | Short]) -> Suppression:
        """What holds for the yeses among these."""
        yeses = [event for event in events if event.is_yes]
        return self.concerned({e.subject_id for e in yeses}, {e.event_id for e in yeses if e.event_id is not None})

    def concerned(self, subject_ids: Collection[str], event_ids: Collection[str]) -> Suppression:
        """What holds for yeses of these subjects with these ids."""
        if not subject_ids or not database.rows(self.connection, _ANY):
            return Suppression({}, set())
        tags = {subject_tag(self.tag_key, subject_id): subject_id for subject_id in subject_ids}
        ids = {event_tag(self.tag_key, event_id): event_id for event_id in event_ids}
        ended = {tags[tag] for tag in self._among(_erasures.c.tag, list(tags))}
        until = {s: self._history.erasures_of(subject_tag(self.tag_key, s))[-1][1] for s in ended}
        return Suppression(until, {ids[tag] for tag in self._among(_tombstones.c.event_tag, list(ids))})

    def _among(self, column: Any, values: list[bytes]) -> Iterator[bytes]:
        for start in range(0, len(values), _AT_ONCE):
            some = sa.select(column).where(column.in_(values[start : start + _AT_ONCE])).distinct()
            yield from map(bytes, self.connection.scalars(some))


class Suppression:
    """until: by subject, when they were last erased. event_ids: erased ones."""

    def __init__(self, until: dict[str, datetime], event_ids: set[str]) -> None:
        self._until, self._event_ids = until, event_ids

    def __bool__(self) -> bool:
        return bool(self._until or self._event_ids)

    def concerns(self, event: Short) -> bool:
        """Whether it must be checked."""
        return event.subject_id in self._until or event.event_id in self._event_ids

    def check(self, event: Event) -> None:
        """Of an event as it will be recorded. Raises Suppressed."""
        if not event.is_yes:
            return
        until = self._until.get(event.subject_id)
        if until is not None and event.counts_from <= until:
            raise Suppressed(
                f"this person was erased at {times.text(until)}, and this yes is of before",
                hint="a yes that the person gives after that is taken, with the moment when it was given",
            )
        if event.event_id in self._event_ids:
            raise Suppressed(
                f"the act with the id {event.event_id!r:.80} was erased",
                hint="an act keeps its id; a new act needs an id of its own",
            )


def erase(tx: Transaction, order: Order) -> list[int]:
    """Carry out an order, once: the positions of its acts. None where `covered` is False: the log needs none.

    Raises IntegrityError where the person's events are not all there, or not all found by both ways; then nothing is done.
    """
    if done := [at for at, _ in tx.history.erasures_of(order.tag) if tx.history.erasure(at)["order"] == order.order]:
        return done
    found = open_events(tx.ended.connection, tx.history, order.tag, tx.ended.tag_key)
    if not covered(tx.history, order, [event for _, event in found]):
        return []
    recorded = {opened.position: event.recorded_at or tx.recorded_at for opened, event in found}
    _keep_leaves(tx, [opened for opened, _ in found])
    _delete(tx.ended.connection, [opened.position for opened, _ in found])
    acts = []
    for start in range(0, len(found) or 1, _AN_ACT):
        some = found[start : start + _AN_ACT]
        tags = [_event_tag(tx, event) for _, event in some]
        positions = [opened.position for opened, _ in some]
        digest = sha256(b"".join(tags)).hexdigest()
        act = tx.act(
            ACT,
            order.by,
            order=order.order,
            tag=order.tag.hex(),
            positions=positions,
            event_tags_sha256=digest,
            basis=order.basis,
        )
        _index(tx.ended.connection, order.tag, act, positions, tags)
        acts.append(act)
    for opened, event in found:
        if not event.is_yes and recorded[opened.position] > order.at:
            assert event.recorded_by is not None
            tx.event(event.filled_in(recorded_at=None, recorded_by=None), event.recorded_by)
    return acts


def covered(history: History, order: Order, events: Sequence[Event]) -> bool:
    """Whether an order is about any of a person's open events: one that was recorded up to it, or a yes that counts from up to
    it, whenever that came back. Where the person has none (a backup was put back), whether their yes could come back."""
    if not events:
        return not any(at >= order.at for _, at in history.erasures_of(order.tag))
    return any(
        (event.recorded_at is not None and event.recorded_at <= order.at) or (event.is_yes and event.counts_from <= order.at)
        for event in events
    )


def again(tx: Transaction, acts: Acts) -> None:
    """The acts of an order journal and what they did, as it was. Raises IntegrityError where they do not fit the events."""
    if tx.size != acts.position:
        raise IntegrityError(f"the log goes on with entry {tx.size}, and not with {acts.position}")
    documents = [canonical.decode(data) for _, data in acts.opened]
    if {(act.get("act"), act.get("tag")) for act in documents} != {(ACT, documents[0].get("tag"))}:
        raise IntegrityError("the order journal names acts that are not one person's erasure")
    tag = bytes.fromhex(documents[0]["tag"])
    opened = open_events(tx.ended.connection, tx.history, tag, tx.ended.tag_key)
    found = {o.position: e for o, e in opened}
    _keep_leaves(tx, [o for o, _ in opened])
    for (salt, data), act in zip(acts.opened, documents, strict=True):
        positions = act["positions"]
        if not found.keys() >= set(positions):
            raise IntegrityError("the order journal names events that are not there", hint=_WHOLE)
        tags = [_event_tag(tx, found[position]) for position in positions]
        if sha256(b"".join(tags)).hexdigest() != act["event_tags_sha256"]:
            raise IntegrityError("the events that the order journal names are others", hint=_WHOLE)
        _delete(tx.ended.connection, positions)
        _index(tx.ended.connection, tag, tx.opened_act(ACT, salt, data), positions, tags)


def open_events(connection: sa.Connection, history: History, tag: bytes, tag_key: bytes) -> list[tuple[Opened, Event]]:
    """All events of a tag that have an opening, in log order. Raises IntegrityError where one that no erasure names has none,
    and where the index over ids finds others."""
    parts = (_entries.c.position, _entries.c.entry, _entries.c.tag, _entries.c.body, _openings.c.salt, _openings.c.canonical)
    rows = sa.select(*parts).select_from(_entries.outerjoin(_openings, _entries.c.position == _openings.c.position))
    found = []
    for row in connection.execute(rows.where(_entries.c.tag == tag).order_by(_entries.c.position)).all():
        if row.salt is None and row.canonical is None:
            history.erased(*row[:4])
        else:
            opened = checked(*row)
            found.append((opened, opened.event()))
    ids = {event.subject_id for _, event in found}
    if any(subject_tag(tag_key, subject_id) != tag for subject_id in ids) or len(ids) > 1:
        raise IntegrityError("entries bear the tag of another person than their events name", hint=_WHOLE)
    indexed = connection.scalars(sa.select(_openings.c.position).where(_openings.c.subject_id.in_(ids))).all()
    if sorted(indexed) != [opened.position for opened, _ in found]:
        raise IntegrityError("the person's events by their tag are not those by their id", hint=_WHOLE)
    return found


def with_open_events(connection: sa.Connection, tags: Sequence[bytes]) -> set[bytes]:
    """Those of these tags that an entry with an opening bears."""
    found: set[bytes] = set()
    joined = sa.select(_entries.c.tag).join(_openings, _entries.c.position == _openings.c.position).distinct()
    for start in range(0, len(tags), _AT_ONCE):
        found.update(map(bytes, connection.scalars(joined.where(_entries.c.tag.in_(tags[start : start + _AT_ONCE])))))
    return found


def _event_tag(tx: Transaction, event: Event) -> bytes:
    assert event.event_id is not None
    return event_tag(tx.ended.tag_key, event.event_id)


def _keep_leaves(tx: Transaction, events: Sequence[Opened]) -> None:
    """What keeps others' places in the sets of earlier snapshots provable."""
    if not events:
        return
    from ledger import committing  # not before somebody is erased: it needs DuckDB

    documents = [(opened.position, opened.document(), opened.salt) for opened in events]
    snapshots = tx.history.acts("snapshot_compiled", first=events[0].position)
    leaves = list(committing.leaves_of(documents, snapshots, tx.history.purposes(), tx.ended.tag_key))
    if leaves:
        insert(tx.ended.connection, _leaves, leaves)


def _delete(connection: sa.Connection, positions: Sequence[int]) -> None:
    gone = 0
    for start in range(0, len(positions), _AT_ONCE):
        some = _openings.c.position.in_(positions[start : start + _AT_ONCE])
        gone += connection.execute(sa.delete(_openings).where(some)).rowcount
    if gone != len(positions):
        raise IntegrityError(f"the database deleted {gone} openings of {len(positions)}")


def _index(connection: sa.Connection, tag: bytes, act: int, positions: Sequence[int], event_tags: Sequence[bytes]) -> None:
    insert(connection, _erasures, [(act, tag)])
    rows = [(p, t, act) for p, t in zip(positions, event_tags, strict=True)]
    if rows:
        insert(connection, _tombstones, rows)
