"""A prefix of the log -> a snapshot: every entry is read in log order, hashed against its opening, and all of them against the
signed root. Nothing is decided by an index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np

from ledger import folding, snapshot, times
from ledger.errors import IntegrityError, SnapshotError, UsageError
from ledger.log.checkpoint import Checkpoint
from ledger.log.entry import SALT_BYTES
from ledger.log.merkle import RightEdge
from ledger.snapshot import Header, Snapshot
from ledger.spoken import whole as spoken_of
from ledger.store.documents import completed_at, purpose_of
from ledger.store.erased import Erasures
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

    note, head: the log's. tree_size: only that many entries. as_of: only events that count by then, None: now.
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

    what = {"token": purpose, "accepts": current.accepts, "as_of": moment}
    spoken = spoken_of(history, folder.path, size, progress, **what)
    if RightEdge(size, spoken.after).root() != history.open(note).root:
        raise IntegrityError("the entries do not have the root that their checkpoint has signed", hint="run `consent fsck`")
    said, erasures = [], Erasures(history)
    sources: dict[str, datetime] = {}
    for position, act in spoken.gone:
        erasures.gone(position, act)
    for position, document in spoken.others:
        erasures.said(position, None, document)
        if document["act"] == "purpose_declared" and document["token"] == purpose:
            said.append(purpose_of(document))
        elif document["act"] == "import_finished":
            source = document.get("source", "")
            sources[source] = max(sources.get(source, times.EPOCH), completed_at(document))
    if said != declared:  # they were found by a column that nothing has signed
        raise IntegrityError(f"the log declares {purpose} otherwise than table openings has it", hint="run `consent fsck`")
    erasures.settle(size)
    beyond = tuple(erasures.beyond(size))
    signed = history.signed_once(note)
    header = Header(folder.origin, current.reference, current.categories, signed, moment, known_until, sources, beyond)
    salts = np.frombuffer(spoken.salts, f"V{SALT_BYTES}")[folding.first_positions(spoken.acts)].tobytes()
    return replace(snapshot.freeze(header, folding.latest_per_scope(spoken.acts))[0], salts=salts)


def require_erasures(history: History, size: int, known: Sequence[int]) -> None:
    """That a snapshot of the first `size` entries, compiled with these erasures beyond them, holds nothing that is erased by now.

    Raises SnapshotError.
    """
    for position, act in history.erasures():
        if position >= size and position not in known and min(act["positions"], default=size) < size:
            raise SnapshotError("somebody was erased while the snapshot was compiled", hint="compile it anew")
