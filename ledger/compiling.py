"""A prefix of the log -> a snapshot: every entry is read in log order, hashed against its opening, and all of them against the
signed root; or, where an earlier snapshot was made that way, every entry since. Nothing is decided by an index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import numpy as np

from ledger import carried, folding, going_on, snapshot, times
from ledger.consent import Purpose
from ledger.errors import ConsentLedgerError, IntegrityError, SnapshotError, UsageError
from ledger.log.checkpoint import Checkpoint
from ledger.log.entry import SALT_BYTES
from ledger.log.merkle import RightEdge
from ledger.snapshot import Grounds, Header, Snapshot
from ledger.spoken import whole as spoken_of
from ledger.store.documents import purpose_of
from ledger.store.erased import Erasures
from ledger.store.erasure import SNAPSHOTS
from ledger.store.folder import Folder
from ledger.store.history import History


def compile_at(
    folder: Folder,
    purpose: str,
    tree_size: int | None,
    as_of: datetime | None,
    on_progress: Callable[[int, int], None] | None,
    history: History,
    note: str,
    head: Checkpoint,
) -> Snapshot:
    """The answers for a purpose's current version, in memory.

    note, head: the log's. tree_size: only that many entries, of which each is read; None: all, of which those are not read again
    that an earlier snapshot is of. as_of: only events that count by then, None: now.
    on_progress: entries read, entries in all.
    Raises UsageError for what cannot be asked, IntegrityError where the entries are not those that were signed.
    """
    began = history.now()
    moment = as_of or began
    if moment > began:
        raise UsageError(f"{times.text(moment)} has not come yet")
    size = head.size if tree_size is None else tree_size
    if size > head.size:
        raise UsageError(f"the log has {head.size} entries, not {size}")
    known_until, recorded, clock = began, history.recorded_at(size) or began, times.now()
    if as_of is not None and recorded > clock:
        raise UsageError(
            f"the last entry was recorded at {times.text(recorded)}, ahead of this machine's clock: "
            "no moment before that holds all that was said",
            hint="mend the machine's clock; where the log's once jumped ahead, wait, or name a --tree-size from before",
        )
    if history.may_lag():
        known_until = min(began, recorded)
    if size < head.size:
        covering, note = history.covering(size - 1)
        if covering != size:
            raise UsageError(f"no checkpoint was signed at {size} entries", hint=f"the next one is at {covering}")
        known_until = history.recorded_at(size + 1) or began
        if known_until > clock:  # the log's clock jumped ahead: when that was is unknown
            known_until = recorded
    declared = history.purposes(size).get(purpose)
    if not declared:
        raise UsageError(
            f"purpose {purpose!r:.80} is not declared",
            hint="declared: " + (", ".join(sorted(history.purposes(size))) or "none yet"),
        )
    current = declared[-1][1]

    def progress(position: int) -> None:
        if on_progress is not None:
            on_progress(position, size)

    grounds = Grounds(tuple(current.accepts), tuple(position for position, _ in history.erasures()))
    found = None
    if tree_size is None and (earlier := _earlier(folder, purpose, grounds)) is not None:
        found = going_on.found(earlier, history, head, current, moment, progress)
    beyond: tuple[int, ...] = ()
    if found is None:
        found, beyond = _all(folder, history, size, note, declared, moment, progress)
    signed = history.signed_once(note)
    header = Header(folder.origin, current.reference, current.categories, signed, moment, known_until, found.sources, beyond)
    return Snapshot(
        header,
        snapshot.digest(header, found.rows),
        salts=found.salts,
        grounds=None if found.left_out else grounds,
        earlier=found.earlier,
        _rows=found.rows,
    )


def _earlier(folder: Folder, purpose: str, grounds: Grounds) -> carried.Earlier | None:
    try:
        tag_key = folder.tag_key()
    except ConsentLedgerError:  # who only looks may not read it
        return None
    return carried.find(folder.path / SNAPSHOTS, tag_key, purpose, grounds)


def _all(
    folder: Folder,
    history: History,
    size: int,
    note: str,
    declared: Sequence[tuple[datetime, Purpose]],
    as_of: datetime,
    on_progress: Callable[[int], None],
) -> tuple[going_on.Found, tuple[int, ...]]:
    """What the first `size` entries say, and which erasures beyond them have taken some of theirs. Raises IntegrityError."""
    current = declared[-1][1]
    spoken = spoken_of(history, folder.path, size, on_progress, token=current.token, accepts=current.accepts, as_of=as_of)
    if RightEdge(size, spoken.after).root() != history.open(note).root:
        raise IntegrityError("the entries do not have the root that their checkpoint has signed", hint="run `consent fsck`")
    said, erasures = [], Erasures(history)
    for position, act in spoken.gone:
        erasures.gone(position, act)
    for position, document in spoken.others:
        erasures.said(position, None, document)
        if document["act"] == "purpose_declared" and document["token"] == current.token:
            said.append(purpose_of(document))
    if said != declared:  # they were found by a column that nothing has signed
        raise IntegrityError(f"the log declares {current.token} otherwise than table openings has it", hint="run `consent fsck`")
    erasures.settle(size)
    salts = np.frombuffer(spoken.salts, f"V{SALT_BYTES}")[folding.first_positions(spoken.acts)].tobytes()
    rows = folding.latest_per_scope(spoken.acts)
    return going_on.Found(rows, salts, spoken.completed(), spoken.left_out, None), tuple(erasures.beyond(size))


def require_erasures(history: History, size: int, known: Sequence[int]) -> None:
    """That a snapshot of the first `size` entries, compiled with these erasures beyond them, holds nothing that is erased by now.

    Raises SnapshotError.
    """
    for position, act in history.erasures():
        if position >= size and position not in known and min(act["positions"], default=size) < size:
            raise SnapshotError("somebody was erased while the snapshot was compiled", hint="compile it anew")
