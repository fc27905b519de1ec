"""Readers. Whatever they hand out was hashed against its entry; whatever decides is hashed against the signed root too."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ledger import times
from ledger.consent import Event, Purpose
from ledger.errors import IntegrityError, UsageError
from ledger.log import merkle, tiles
from ledger.log.checkpoint import Checkpoint
from ledger.log.entry import event_entry
from ledger.log.proof import TlogProof
from ledger.log.trust import Trust
from ledger.store import database
from ledger.store.documents import purpose_of
from ledger.store.opened import Erased, Opened, checked
from ledger.store.stretch import Stretch, stretch
from ledger.store.tables import CheckpointRow, Entry, Erasure, Head, Leaf, Notice, Opening, Tile, Tombstone

_entries, _openings, _tiles = (t.__table__ for t in (Entry, Opening, Tile))  # type: ignore[union-attr]
_checkpoints, _head, _notices = (t.__table__ for t in (CheckpointRow, Head, Notice))  # type: ignore[union-attr]
_erasures, _tombstones, _leaves = (t.__table__ for t in (Erasure, Tombstone, Leaf))  # type: ignore[union-attr]
_AT_ONCE = 512
"""Rows that are held at once: with many more of them Python looks for what it could free of them, again and again."""
_PARTS = (_entries.c.entry, _entries.c.tag, _entries.c.body, _openings.c.salt, _openings.c.canonical)
_OPENED = sa.select(_entries.c.position, *_PARTS).select_from(
    _entries.outerjoin(_openings, _entries.c.position == _openings.c.position)
)
# From the other side: SQLite would read all of `entries` to find the few rows that an index of `openings` names.
INDEXED = sa.select(_openings.c.position, *_PARTS).select_from(
    _openings.outerjoin(_entries, _entries.c.position == _openings.c.position)
)
# Built once: to put a statement together and to look it up costs five times as much as to run it.
_HEAD = sa.select(_head.c.note)
_TILE = sa.select(_tiles.c.hashes).where(_tiles.c.level == sa.bindparam("level"), _tiles.c.number == sa.bindparam("number"))
_RECORDED_AT = (
    sa.select(_checkpoints.c.recorded_at)
    .where(_checkpoints.c.size >= sa.bindparam("size"))
    .order_by(_checkpoints.c.size)
    .limit(1)
)
_COVERING = (
    sa.select(_checkpoints.c.size, _checkpoints.c.note)
    .where(_checkpoints.c.size > sa.bindparam("position"))
    .order_by(_checkpoints.c.size)
    .limit(1)
)
_SINCE = _openings.c.position >= sa.bindparam("first")
_ACTS = INDEXED.where(_openings.c.act.in_(sa.bindparam("kinds", expanding=True)), _SINCE)
_BY_EVENT_ID = INDEXED.where(_openings.c.event_id.in_(sa.bindparam("event_ids", expanding=True)))
_BY_SUBJECT = INDEXED.where(_openings.c.subject_id == sa.bindparam("subject_id"))
_ERASURES_OF = sa.select(_erasures.c.position).where(_erasures.c.tag == sa.bindparam("tag")).order_by(_erasures.c.position)
_OF_SUBJECTS = _openings.c.subject_id.in_(sa.bindparam("subject_ids", expanding=True))
_BY_SUBJECTS = INDEXED.where(_OF_SUBJECTS)
_OF_EACH_SUBJECT = _BY_SUBJECTS.add_columns(_openings.c.subject_id)
_BY_SUBJECTS_SINCE = _BY_SUBJECTS.where(_SINCE)
_SEEN = sa.select(_openings.c.subject_id).where(_OF_SUBJECTS).distinct()
_FIRST_LOOKALIKES = sa.select(_openings.c.lookalike, _openings.c.subject_id).where(
    _openings.c.position.in_(
        sa.select(sa.func.min(_openings.c.position))
        .where(_openings.c.lookalike.in_(sa.bindparam("keys", expanding=True)))
        .group_by(_openings.c.lookalike)
    )
)
OTHER_SUBJECT = "column subject_id of table openings is not that of its event"
_ANY_ERASURE = sa.select(_erasures.c.position).limit(1)
_LOOKALIKES = (
    sa.select(_openings.c.subject_id)
    .where(_openings.c.lookalike == sa.bindparam("key"))
    .group_by(_openings.c.subject_id)
    .order_by(sa.func.min(_openings.c.position))
    .limit(20)
)
_NEWEST = (
    INDEXED.where(_openings.c.subject_id == sa.bindparam("subject_id"))
    .order_by(_openings.c.position.desc())
    .limit(sa.bindparam("count"))
)


class History:
    """Reads one ledger in one transaction."""

    def __init__(self, connection: sa.Connection, origin: str, trust: Trust, revision: str | None = None) -> None:
        """revision: the schema's, where it is known in this transaction already."""
        self._con, self._origin, self._trust = connection, origin, trust
        self._named: dict[int, tuple[int, bytes]] = {}
        self._revision = revision
        self._ended: tuple[bytes, list[tuple[int, datetime]]] | None = None
        self._tiles: dict[tuple[int, int], bytes] = {}
        self._nodes: dict[tuple[int, int], bytes] = {}
        self._notes: dict[str, Checkpoint] = {}
        self._covering = (0, 0, "")
        self._signed_once = ("", "")
        self._read_node = tiles.node_reader(self.tile)

    def head(self) -> tuple[str, Checkpoint]:
        """The signed note of the head, verified under our own key and origin."""
        notes = [note for (note,) in database.rows(self._con, _HEAD)]
        if len(notes) != 1:
            raise IntegrityError(f"table head has {len(notes)} rows where there is one head")
        return notes[0], self.open(notes[0])

    def open(self, note: str) -> Checkpoint:
        if not isinstance(note, str):
            raise IntegrityError("a checkpoint in the database is not text")
        if note in self._notes:  # under the same keys it is what it was
            return self._notes[note]
        found = self._trust.open(note)
        if found.origin != self._origin:
            raise IntegrityError(f"a checkpoint of {found.origin!r:.80} stands in the ledger of {self._origin}")
        if len(self._notes) < 64:
            self._notes[note] = found
        return found

    def check_extends(self, note: str, head: Checkpoint, what: str) -> None:
        """Raises IntegrityError unless the log is the one of this earlier checkpoint, continued."""
        earlier = self.open(note)
        if earlier.size > head.size:
            raise IntegrityError(
                f"the database ends at entry {head.size}, but {what} has signed {earlier.size}: it was rolled back",
                hint="a backup was restored, or rows were removed; bring back the newest database",
            )
        if merkle.root(earlier.size, self.node) != earlier.root:
            raise IntegrityError(f"the database does not continue the log that {what} has signed at {earlier.size} entries")

    def check_anchors(self, anchors: Sequence[tuple[Path, str]]) -> tuple[str, Checkpoint]:
        """The head, after checking that it extends every anchor.

        anchors: read before this transaction began. Read in it, they could be newer than what it sees.
        """
        note, head = self.head()
        if merkle.root(head.size, self.node) != head.root:
            raise IntegrityError("the stored tiles do not have the root that the head has signed", hint="run `consent fsck`")
        for path, anchor in anchors:
            if anchor != note:
                self.check_extends(anchor, head, f"the anchor {path.name}")
        return note, head

    def tile(self, level: int, number: int) -> bytes:
        if (level, number) in self._tiles:
            return self._tiles[level, number]
        rows = database.rows(self._con, _TILE, {"level": level, "number": number})
        if not rows or rows[0][0] is None:
            raise IntegrityError(f"table tiles has no tile {level}/{number}")
        (found,) = rows[0]
        if not isinstance(found, bytes | memoryview):
            raise IntegrityError(f"tile {level}/{number} of table tiles is no bytes")
        if len(self._tiles) < 4096:
            self._tiles[level, number] = bytes(found)
        return bytes(found)

    def node(self, level: int, index: int) -> bytes:
        """The root of a perfect subtree, hashed up from the tiles. Raises IntegrityError where they do not reach that far."""
        if (level, index) in self._nodes:
            return self._nodes[level, index]
        found = self._read_node(level, index)
        if len(self._nodes) < 4096:
            self._nodes[level, index] = found
        return found

    def edge(self, size: int) -> list[bytes]:
        """The right edge of the tree of the first `size` entries, from the tiles as they are stored."""
        levels = [level for level in reversed(range(size.bit_length())) if size >> level & 1]
        return [self.node(level, (size >> level + 1) << 1) for level in levels]

    def reread_tile(self, level: int, number: int) -> None:
        """It was written. Where what it held before stands in it still, so do the hashes over that."""
        before = self._tiles.pop((level, number), None)
        if before is None or not self.tile(level, number).startswith(before):
            self._nodes.clear()

    def now(self) -> datetime:
        """The ledger's clock: the machine's, and never behind what is recorded, so that no act is left out as not yet done."""
        last = self.recorded_at(self.head()[1].size)
        return times.now() if last is None else max(times.now(), last)

    def may_lag(self) -> bool:
        """Whether more may have been recorded, elsewhere, than is read here: nothing says that this is the newest."""
        return database.may_lag(self._con)

    def recorded_at(self, size: int) -> datetime | None:
        """When the last entry of the first `size` was recorded."""
        rows = database.rows(self._con, _RECORDED_AT, {"size": size})
        value = rows[0][0] if rows else None
        try:
            return None if value is None else times.from_micros(value)
        except (OverflowError, TypeError) as error:
            raise IntegrityError(f"column recorded_at of table checkpoints holds no time: {value!r:.40}") from error

    def size_at(self, moment: datetime) -> int:
        """How many entries were recorded up to a moment."""
        earlier = sa.select(_checkpoints.c.size).where(_checkpoints.c.recorded_at <= times.micros(moment))
        return self._con.scalar(earlier.order_by(_checkpoints.c.size.desc()).limit(1)) or 0

    def opened(self, size: int, first: int = 0) -> Iterator[Opened | Erased]:
        """The entries first..size-1 in log order, each checked against its entry. Raises IntegrityError for a gap."""
        for _, rows in self._windows((), size, first):
            for position, entry, tag, body, salt, stored in rows:
                if salt is None and stored is None:
                    yield self.erased(position, entry, tag, body)
                else:
                    yield checked(position, entry, tag, body, salt, stored)

    def stretches(self, names: Sequence[str], size: int, first: int = 0) -> Iterator[Stretch]:
        """The same, many at once, with what these columns of `openings` hold beside each."""
        return (stretch(begin, rows, self.erased) for begin, rows in self._windows(names, size, first))

    def _windows(self, names: Sequence[str], size: int, first: int) -> Iterator[tuple[int, Sequence[Sequence[Any]]]]:
        window = _entries.c.position.between(sa.bindparam("first"), sa.bindparam("last"))
        some = _OPENED.add_columns(*(_openings.c[name] for name in names)).where(window).order_by(_entries.c.position)
        for begin in range(first, size, _AT_ONCE):
            end = min(begin + _AT_ONCE, size)
            rows = database.rows(self._con, some, {"first": begin, "last": end - 1})
            for expected, row in zip(range(begin, end), rows, strict=False):
                if row[0] != expected:
                    raise IntegrityError(f"table entries lacks position {expected}")
            if len(rows) != end - begin:
                raise IntegrityError(f"table entries ends at {begin + len(rows)}, and {size} entries are signed")
            yield begin, rows

    def entries(self, first: int, end: int) -> Iterator[bytes]:
        """The entries first..end-1 as they are stored: whoever asks hashes them. Raises IntegrityError for a gap."""
        some = sa.select(_entries.c.position, _entries.c.entry).where(_entries.c.position >= first, _entries.c.position < end)
        expected = first
        with self._con.execute(some.order_by(_entries.c.position), execution_options={"yield_per": 8192}) as rows:
            for position, entry in rows:
                if position != expected or not isinstance(entry, bytes | memoryview):
                    raise IntegrityError(f"table entries lacks position {expected}")
                yield bytes(entry)
                expected += 1
        if expected != end:
            raise IntegrityError(f"table entries ends at {expected}, and {end} entries are signed")

    def _where(self, some: sa.Select[Any], values: dict[str, Any]) -> list[Opened]:
        """What a statement over `openings` finds, in log order."""
        return [checked(*row) for row in sorted(database.rows(self._con, some, values), key=itemgetter(0))]

    def at(self, position: int) -> Opened:
        """Raises UsageError for an event that was erased."""
        row = self._con.execute(_OPENED.where(_entries.c.position == position)).first()
        if row is None:
            raise IntegrityError(f"table entries lacks position {position}")
        if row.salt is None and row.canonical is None:
            erased = self.erased(*row[:4])
            raise UsageError(f"the event of entry {position} was erased, as entry {erased.act} says")
        return checked(*row)

    def erased(self, position: int, entry: bytes, tag: bytes | None, body: bytes | None) -> Erased:
        """An entry without an opening. Raises IntegrityError unless an act of the signed log, after it, names it."""
        if tag is None or body is None or not self.has_erasures:
            raise IntegrityError(f"entry {position} has no opening, and no erasure names it")
        if position not in self._named:
            # The table only says where to look.
            act = self._con.scalar(sa.select(_tombstones.c.act).where(_tombstones.c.position == position))
            document = None if act is None else self.erasure(act)
            if act is None or document is None or position not in document["positions"]:
                raise IntegrityError(f"entry {position} has no opening, and no erasure names it", hint="run `consent fsck`")
            self._named.update(dict.fromkeys(document["positions"], (act, bytes.fromhex(document["tag"]))))
        act, erased = self._named[position]
        if tag != erased or event_entry(tag, body) != entry or act <= position:
            raise IntegrityError(f"entry {position} has no opening, and entry {act} does not erase it")
        return Erased(position, entry, tag, act)

    @property
    def has_erasures(self) -> bool:
        """Whether the database can hold any: one of an older version cannot."""
        if self._revision is None:
            self._revision = database.revision(self._con)
        return self._revision > "0001"

    def erasure(self, position: int) -> dict[str, Any]:
        """The act `subject_erased` at a position, shown to be in the log that the head has signed. Raises IntegrityError."""
        row = self._con.execute(_OPENED.where(_entries.c.position == position)).first()
        if row is None or row.salt is None:
            raise IntegrityError(f"entry {position} has no opening, and table tombstones names it", hint="run `consent fsck`")
        opened = checked(*row)
        document = {} if opened.is_event else opened.document()
        if document.get("act") != "subject_erased":
            raise IntegrityError(f"entry {position} is no erasure, and table openings has it as one", hint="run `consent fsck`")
        _, head = self.head()
        if position >= head.size:
            raise IntegrityError(f"entry {position} is beyond the {head.size} that are signed")
        leaf = merkle.leaf_hash(opened.entry)
        merkle.verify_inclusion(leaf, position, head.size, merkle.inclusion_proof(position, head.size, self.node), head.root)
        return document

    def erased_ids(self, position: int) -> list[bytes]:
        """The keyed tags of the ids of the events that the act at a position has erased. Raises IntegrityError."""
        act = self.erasure(position)
        some = sa.select(_tombstones.c.position, _tombstones.c.event_tag).where(_tombstones.c.act == position)
        named = self._con.execute(some.order_by(_tombstones.c.position)).all()
        tags = [bytes(row.event_tag) for row in named if isinstance(row.event_tag, bytes | memoryview)]
        digest = hashlib.sha256(b"".join(tags)).hexdigest()
        if [row.position for row in named] != act["positions"] or digest != act["event_tags_sha256"]:
            raise IntegrityError(f"table tombstones is not what entry {position} says", hint="run `consent fsck`")
        return tags

    def erasures(self) -> list[tuple[int, dict[str, Any]]]:
        """(position, act) of every erasure, in log order; each is shown to be in the signed log."""
        found = self._con.scalars(sa.select(_openings.c.position).where(_openings.c.act == "subject_erased"))
        return [(position, self.erasure(position)) for position in sorted(found)]

    def last_erasure(self) -> int:
        """The position of the last act that erased somebody, as the tables have it; -1: there is none."""
        found = self._con.scalar(sa.select(sa.func.max(_openings.c.position)).where(_openings.c.act == "subject_erased"))
        return -1 if found is None else int(found)

    def erasures_of(self, tag: bytes) -> list[tuple[int, datetime]]:
        """(position, recorded at) of the acts that erased the events of a tag, in log order, as the tables have it."""
        if not self.has_erasures:
            return []
        found = []
        for (position,) in database.rows(self._con, _ERASURES_OF, {"tag": tag}):
            if (moment := self.recorded_at(position + 1)) is None:
                raise IntegrityError(f"table checkpoints has none that covers entry {position}")
            found.append((position, moment))
        return found

    def _somebody_erased(self) -> bool:
        return self.has_erasures and bool(database.rows(self._con, _ANY_ERASURE))

    def leaves(self, snapshot: int) -> list[tuple[bytes, bytes]]:
        """(index, value) of those who were erased since a snapshot, in the set that its act, at this position, commits to.

        As the table has them: together with the others they have the root that is in the log, or nothing is proven by them.
        """
        if not self.has_erasures:
            return []
        some = sa.select(_leaves.c.leaf_index, _leaves.c.value).where(_leaves.c.snapshot == snapshot)
        return [(bytes(index), bytes(value)) for index, value in self._con.execute(some)]

    def _require_not_erased(self, opened: Opened, event: Event) -> None:
        """Raises IntegrityError for an event that an erasure has ended, and which was put back."""
        assert opened.tag is not None
        if self._ended is None or self._ended[0] != opened.tag:  # one person's events come together
            self._ended = opened.tag, self.erasures_of(opened.tag)
        for act, at in self._ended[1]:
            if opened.position < act or (event.is_yes and event.counts_from <= at):
                raise IntegrityError(
                    f"entry {opened.position} is open, and entry {act} has erased that person", hint="run `consent fsck`"
                )

    def event(self, event_id: str) -> Opened | None:
        found = self.events([event_id])
        return found[0][0] if found else None

    def events(self, event_ids: Sequence[str]) -> list[tuple[Opened, Event]]:
        """Those of these that are recorded. Raises IntegrityError where a row goes by another's id."""
        rows = self._where(_BY_EVENT_ID, {"event_ids": list(map(_storable, event_ids))})
        found = [(opened, opened.event()) for opened in rows]
        if not {event.event_id for _, event in found} <= set(event_ids):
            raise IntegrityError("column event_id of table openings is not that of its event", hint="run `consent fsck`")
        return found

    def events_of(self, subject_id: str) -> list[tuple[int, Event]]:
        """(position, event) of one subject in log order."""
        rows = self._where(_BY_SUBJECT, {"subject_id": _storable(subject_id)})
        return [self._of(subject_id, opened, opened.event()) for opened in rows]

    def opened_of(self, subject_ids: Collection[str]) -> dict[str, list[Opened]]:
        """What the entries of several commit to, each in log order, as the column has them: that it is the subject of the event
        whoever reads that is to see (`told`)."""
        found: dict[str, list[Opened]] = {subject_id: [] for subject_id in subject_ids}
        rows = database.rows(self._con, _OF_EACH_SUBJECT, {"subject_ids": list(map(_storable, found))})
        somebody_erased = self._somebody_erased()
        for *row, subject_id in sorted(rows, key=itemgetter(0)):
            opened = checked(*row)
            if somebody_erased:
                self._require_not_erased(opened, opened.event())
            found[subject_id].append(opened)
        return found

    def events_since(self, first: int, subject_ids: Collection[str]) -> list[tuple[int, Event]]:
        """(position, event) of these subjects in log order, from position `first` on."""
        values = {"subject_ids": list(map(_storable, subject_ids)), "first": first}
        found = [(o.position, o.event()) for o in self._where(_BY_SUBJECTS_SINCE, values)]
        if any(event.subject_id not in subject_ids for _, event in found):
            raise IntegrityError(OTHER_SUBJECT, hint="run `consent fsck`")
        return found

    def newest_of(self, subject_id: str, count: int) -> Iterator[tuple[int, Event]]:
        """(position, event) of one subject's last acts, the newest first; each is read when it is asked for."""
        with self._con.execute(_NEWEST, {"subject_id": _storable(subject_id), "count": count}) as rows:
            for row in rows:
                opened = checked(*row)
                yield self._of(subject_id, opened, opened.event())

    def _of(self, subject_id: str, opened: Opened, event: Event) -> tuple[int, Event]:
        if event.subject_id != subject_id:
            raise IntegrityError(OTHER_SUBJECT, hint="run `consent fsck`")
        self._require_not_erased(opened, event)
        return opened.position, event

    def acts(self, *kinds: str, first: int = 0) -> list[tuple[int, dict[str, Any]]]:
        """(position, act) in log order, from position `first` on."""
        return [(o.position, o.document()) for o in self._where(_ACTS, {"kinds": list(kinds), "first": first})]

    def purposes(self, size: int | None = None) -> dict[str, list[tuple[datetime, Purpose]]]:
        """Per token its versions, oldest first, among the first `size` entries."""
        return purposes_of(act for position, act in self.acts("purpose_declared") if size is None or position < size)

    def covering(self, position: int) -> tuple[int, str]:
        """(size, note) of the first checkpoint that covers an entry."""
        first, size, note = self._covering
        if first <= position < size:  # no checkpoint ever comes between
            return size, note
        rows = database.rows(self._con, _COVERING, {"position": position})
        if not rows:
            raise IntegrityError(f"table checkpoints has none that covers entry {position}")
        size, note = rows[0]
        self._covering = position, size, note
        return size, note

    def proof(self, position: int, note: str | None = None) -> TlogProof:
        """The entry's inclusion proof and the checkpoint that covers it: the first, with one signature line, or the one given."""
        if note is None:
            size, note = self.covering(position)
            note = self.signed_once(note)
        else:
            self.check_extends(note, self.head()[1], "the checkpoint at hand")
            size = self.open(note).size
        if self.open(note).size != size:
            raise IntegrityError(f"column size of table checkpoints is {size}, which its note does not say")
        return TlogProof(position, tuple(merkle.inclusion_proof(position, size, self.node)), note)

    def signed_once(self, note: str) -> str:
        """A checkpoint as it is handed out: see `Trust.signed_once`."""
        if self._signed_once[0] != note:
            self._signed_once = note, self._trust.signed_once(note)
        return self._signed_once[1]

    def notice(self, sha256: str) -> bytes:
        """The text of a notice by its digest."""
        text = self._con.scalar(sa.select(_notices.c.text).where(_notices.c.sha256 == sha256))
        if not isinstance(text, bytes | memoryview) or hashlib.sha256(text).hexdigest() != sha256:
            raise IntegrityError(f"the text of notice {sha256} was changed, or is missing", hint="run `consent fsck`")
        return bytes(text)

    def seen(self, subject_ids: Collection[str]) -> list[str]:
        """Those of these ids that an act has."""
        rows = database.rows(self._con, _SEEN, {"subject_ids": list(map(_storable, subject_ids))})
        return [subject_id for (subject_id,) in rows]

    def first_lookalikes(self, keys: Collection[str]) -> dict[str, str]:
        """By what look-alikes share, the oldest subject id that does."""
        return dict(database.rows(self._con, _FIRST_LOOKALIKES, {"keys": list(map(_storable, keys))}))

    def lookalikes(self, key: str) -> list[str]:
        """Subject ids that differ from one another only in case, space or normalisation; the oldest first."""
        return list(self._con.scalars(_LOOKALIKES, {"key": _storable(key)}))


def purposes_of(acts: Iterable[Mapping[str, Any]]) -> dict[str, list[tuple[datetime, Purpose]]]:
    """Per token its versions, oldest first, from acts `purpose_declared` in log order."""
    declared: dict[str, list[tuple[datetime, Purpose]]] = {}
    for act in acts:
        at, purpose = purpose_of(act)
        declared.setdefault(purpose.token, []).append((at, purpose))
    return declared


def _storable(text: str) -> str:
    """What is looked up: no id holds a NUL, and PostgreSQL does not even take one to compare."""
    return "" if "\0" in text else text
