"""Erasing a person: ordered in a journal, done in one transaction, scrubbed from the files, and then marked as done.

1. The order journal says so, durably: from here on it will be done, whatever happens.
2. One transaction deletes the openings of all of the person's events and appends the act that names them.
3. The database is written anew, so that nothing of what was deleted is left in its files.
4. Snapshots in the ledger's folder that were compiled before the act are removed: they hold ids, and their yes is no more.
5. The journal says that it is done.

A process may end between any two of these. Whoever appends next does the second, whoever opens the ledger next all that is left.
A server that has it open all the while hands out none of those snapshots.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ledger import files, locks
from ledger.consent import check_id, check_text, lookalike
from ledger.errors import ConsentLedgerError, IntegrityError, LedgerBusy, UsageError, VerificationError
from ledger.log import canonical, merkle
from ledger.log.entry import act_entry, subject_tag
from ledger.log.keys import PrivateKey
from ledger.log.merkle import RightEdge
from ledger.store import append, database, erasing, journal, unreached
from ledger.store.database import reading
from ledger.store.folder import Folder
from ledger.store.history import History
from ledger.store.journal import Acts, Order
from ledger.store.unreached import Unreached

SNAPSHOTS = "snapshots"
CARRIED = ".*.carried"
"""See `carried`."""
BASIS = "request of the subject"
_RECEIPT = ".receipt"


@dataclass(frozen=True, kw_only=True)
class Erased:
    """order, position: of the act that says so. events: erased by it. already: it was done before, and nothing was left
    to do. unscrubbed: why the database's own files may still hold some of them; the next one to open the ledger goes on with it.
    unreached: where they may be all the same."""

    order: str
    position: int
    events: int
    erased_at: str
    already: bool
    unscrubbed: str | None
    unreached: Sequence[Unreached]

    def document(self) -> dict[str, Any]:
        """One of the JSON of `consent erase` (schemas/erase.json)."""
        return {
            "order": self.order,
            "position": self.position,
            "events": self.events,
            "erased_at": self.erased_at,
            "already": self.already,
            "scrubbed": self.unscrubbed is None,
            "unreached": [one.document() for one in self.unreached],
        }


def count(engine: sa.Engine, folder: Folder, subject_id: str) -> int:
    """How many events an erasure would take. Raises UsageError for a person whom the ledger does not know."""
    check_id("subject_id", subject_id)
    tag_key, anchors = folder.tag_key(), folder.read_anchors()
    tag = subject_tag(tag_key, subject_id)
    with reading(engine) as connection:
        database.check_revision(connection)
        append.check_not_moved(connection, folder)
        history = History(connection, folder.origin, folder.log_trust())
        history.check_anchors(anchors)
        events = len(erasing.open_events(connection, history, tag, tag_key))
        if not events and not history.erasures_of(tag):
            known = history.lookalikes(lookalike(subject_id))
            raise UsageError(
                f"the ledger does not know {subject_id!r:.120}",
                hint=f"it knows {known[0]!r:.120}"
                if known
                else "ids are compared byte for byte: look at prefix, case and spaces",
            )
    return events


def erase(engine: sa.Engine, folder: Folder, subject_id: str, basis: str | None, ordered_by: str) -> Erased:
    """Raises UsageError for a person whom the ledger does not know, and as `append` does."""
    check_text("basis", basis := basis or BASIS)
    folder.log_key()  # before anything is ordered: it may be missing, or its passphrase wrong
    append.carry_out(engine, folder)
    tag = subject_tag(folder.tag_key(), subject_id)
    if count(engine, folder, subject_id):
        with reading(engine) as connection:
            at = History(connection, folder.origin, folder.log_trust()).now()
        name = secrets.token_hex(16)
        journal.ordered(journal.path_of(folder.path), Order(name, tag, basis, ordered_by, at))
        append.carry_out(engine, folder)
    else:
        name = ""
    return _told(engine, folder, tag, name, _settle(engine, folder))


def finish(engine: sa.Engine, folder: Folder) -> None:
    """Go on with what was ordered, as far as that is possible without asking for a passphrase, or waiting for readers."""
    path = journal.path_of(folder.path)
    if not (orders := journal.unfinished(path)):
        return
    if any(order.acts is None for order in orders):
        key = folder.path / "log.key"
        if folder.moved_to is not None or not key.exists() or PrivateKey.is_protected(files.read_private(key)):
            return
        try:
            append.carry_out(engine, folder)
        except LedgerBusy:
            return
    _settle(engine, folder, wait=False)


def reapply(engine: sa.Engine, folder: Folder, copy: Path) -> list[Erased]:
    """Carry out anew what an order journal says, after a backup was put back. What needs nothing is left alone.

    Raises IntegrityError where the database lacks more than erasures; then nothing of the journal is carried out.
    """
    orders = journal.read(copy)
    if not copy.is_file():
        raise UsageError(f"there is no order journal {copy}", hint="it is the file `erasures` of a ledger's folder")
    _require_own(folder, orders.values())
    own = journal.path_of(folder.path)
    folder.log_key()
    wanted = _open_orders(engine, folder, list(orders.values()))
    missing = _missing(engine, folder, wanted)
    for order in wanted:  # in our own journal first: whatever happens next, it will be done
        journal.ordered(own, replace(order, acts=None, done=False))
    for order in missing:
        assert order.acts is not None
        append.put_back(engine, folder, order.acts)
    append.carry_out(engine, folder)
    settled = _settle(engine, folder)
    # Of a person's two orders the first may have left nothing to the second.
    done = {order.order for order in journal.read(own).values() if order.acts is not None}
    return [_told(engine, folder, order.tag, order.order, settled) for order in wanted if order.order in done]


def _require_own(folder: Folder, orders: Iterable[Order]) -> None:
    """Raises UsageError for the journal of another ledger: its tags are of another key, and name nobody here."""
    for order in orders:
        if order.acts is not None and (origin := order.acts.note.partition("\n")[0]) != folder.origin:
            raise UsageError(
                f"this is the order journal of {origin!r:.120}, and the ledger is {folder.origin}",
                hint="it names nobody to another ledger: erase here, by their ids, those who asked for it",
            )


def _open_orders(engine: sa.Engine, folder: Folder, orders: Sequence[Order]) -> list[Order]:
    """Those that the log does not say were carried out, and that it needs. One that had nothing to erase is none of them."""
    tag_key = folder.tag_key()
    with reading(engine) as connection:
        database.check_revision(connection)
        history = History(connection, folder.origin, folder.log_trust())
        there = erasing.with_open_events(connection, [order.tag for order in orders])
        found = []
        for order in orders:
            if any(history.erasure(at)["order"] == order.order for at, _ in history.erasures_of(order.tag)):
                continue
            events = erasing.open_events(connection, history, order.tag, tag_key) if order.tag in there else []
            if (events or order.acts or not order.done) and erasing.covered(history, order, [event for _, event in events]):
                found.append(order)
    return found


def _missing(engine: sa.Engine, folder: Folder, wanted: Sequence[Order]) -> list[Order]:
    """Those that come next in this very log, up to where the anchors say that it goes. Raises IntegrityError for a gap."""
    anchors = folder.read_anchors()
    with reading(engine) as connection:
        history = History(connection, folder.origin, folder.log_trust())
        _, head = history.check_anchors(())
        newest = max((history.open(note) for _, note in anchors), key=lambda checkpoint: checkpoint.size)
        size, edge, found = head.size, append.right_edge(head.size, history.node), []
        for order in sorted((o for o in wanted if o.acts is not None), key=lambda o: o.acts.position if o.acts else 0):
            assert order.acts is not None
            if order.acts.position != size or not _leads_to(edge, order.acts, history):
                break
            size = order.acts.end
            found.append(order)
        if newest.size > size:
            raise IntegrityError(
                f"the database ends at entry {head.size}, and the log has {newest.size}: entries {size} to {newest.size - 1} "
                "are missing, and the order journal does not have them",
                hint="bring back a newer backup, then run this again: this one lacks what was said, and holds what was erased",
            )
        if not found:
            history.check_anchors(anchors)
    return found


def _leads_to(edge: RightEdge, acts: Acts, history: History) -> bool:
    """Whether a tree goes on with these acts to what their checkpoint has signed. The tree is extended by them."""
    edge.extend([merkle.leaf_hash(act_entry(salt, data)) for salt, data in acts.opened])
    signed = history.open(acts.note)
    return (signed.size, signed.root) == (edge.size, edge.root())


@dataclass(frozen=True)
class _Settled:
    """unscrubbed: why it is not done. removed: the digests of snapshots that are gone."""

    unscrubbed: str | None = None
    removed: frozenset[str] = frozenset()


def _settle(engine: sa.Engine, folder: Folder, *, wait: bool = True) -> _Settled:
    """Scrub for all whose acts are in the log. Where that does not work it is left for the next time."""
    path = journal.path_of(folder.path)
    orders = [order for order in journal.unfinished(path) if order.acts is not None]
    removed: set[str] = set()
    if not orders:
        return _Settled()
    try:
        for order in orders:
            assert order.acts is not None
            removed |= _remove_snapshots(folder.path / SNAPSHOTS, order.acts.position)
        database.shrink(engine, wait=wait)
        for order in orders:
            journal.finished(path, order)
    except IntegrityError:
        raise
    except ConsentLedgerError as error:
        return _Settled(str(error), frozenset(removed))
    return _Settled(None, frozenset(removed))


def _remove_snapshots(folder: Path, position: int) -> set[str]:
    """Those of the ledger's own that were compiled before an entry, or of which that cannot be told; the digests of the files."""
    removed, paths = set[str](), list[Path]()
    if not folder.is_dir():
        return removed
    with locks.exclusive(folder) as held:
        if held:
            files.sweep_below(folder)
        for path in sorted(folder.glob("*.parquet")):
            receipt = path.with_name(path.name + _RECEIPT)
            act = _act(receipt)
            if not isinstance(act.get("tree_size"), int) or act["tree_size"] <= position:
                removed.add(str(act.get("file_sha256")))
                paths += [receipt, path]  # a file without its receipt is no snapshot
        # What the next snapshot would go on from has salts: without them nobody can tell what a snapshot said of a person.
        files.withdraw_all([*paths, *sorted(folder.glob(CARRIED))])
    return removed


def _act(receipt: Path) -> dict[str, Any]:
    try:
        act = canonical.decode(receipt.read_bytes().removesuffix(b"\n")).get("act")
    except (OSError, VerificationError):
        act = None
    return act if isinstance(act, dict) else {}


def _told(engine: sa.Engine, folder: Folder, tag: bytes, name: str, settled: _Settled) -> Erased:
    """What became of an order; without a name: of the person's last one."""
    with reading(engine) as connection:
        history = History(connection, folder.origin, folder.log_trust())
        acts = [(at, history.erasure(at)) for at, _ in history.erasures_of(tag)]
        acts = [(at, act) for at, act in acts if act["order"] == (name or acts[-1][1]["order"])]
        if not acts:
            raise ConsentLedgerError("the erasure was ordered, and something else is at it", hint="run the command again")
        position, act = acts[0]
        first = min((position for _, act in acts for position in act["positions"]), default=position)
        found = unreached.of(connection, history, folder, first, position, settled.removed)
    return Erased(
        order=act["order"],
        position=position,
        events=sum(len(act["positions"]) for _, act in acts),
        erased_at=act["recorded_at"],
        already=not name,
        unscrubbed=settled.unscrubbed,
        unreached=found,
    )
