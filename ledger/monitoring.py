"""The other side of publication: does a log go on from what it has shown before? No database, and no ledger of ours.

It follows any C2SP tile log whose key the trust file names. Each time everything is read: the checkpoint, all entries, all tiles.
The root is derived again from the entries, so that a changed entry shows wherever it stands; and the entries that were there the
last time must have the root that was signed for them then.

The state is the last checkpoint that was verified, as it is. It never goes back. What contradicts it is kept beside it:
two signed checkpoints of one log that cannot both be true are what a court is shown.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from ledger import files, locks
from ledger.errors import ConsentLedgerError, IntegrityError, UsageError, VerificationError
from ledger.log import tiles
from ledger.log.checkpoint import Checkpoint
from ledger.log.merkle import leaf_hash
from ledger.log.note import MAX_NOTE
from ledger.log.tiles import WIDTH
from ledger.log.trust import Trust
from ledger.published import PublishedLog, of_folder
from ledger.statements.verify import load_trust

_REQUESTS = 8
"""At a time."""
_AHEAD = 2 * _REQUESTS
"""Bundles that are read before they are needed: memory holds no more of a log than these."""

Progress = Callable[[int, int], None]
"""progress(entries read, entries in all)."""


@dataclass(frozen=True)
class Monitored:
    """before: None on the first visit, when there is nothing to compare with. witnesses: that cosigned, by their names in the
    trust file."""

    before: Checkpoint | None
    checkpoint: Checkpoint
    note: str
    witnesses: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """The JSON of `consent log monitor` (schemas/monitor.json)."""
        return {
            "origin": self.checkpoint.origin,
            **({} if self.before is None else {"size_before": self.before.size}),
            "size": self.checkpoint.size,
            "root": self.checkpoint.root.hex(),
            "witnesses": list(self.witnesses),
            "checkpoint": self.note,
        }


def monitor_log(
    where: str | Path, *, trust: str | Path | Trust, state: str | Path, on_progress: Progress | None = None
) -> Monitored:
    """Read a published log whole, check that it goes on from the checkpoint in the file `state`, and put the new one there.

    where: the folder or the URL that its file `checkpoint` is in. Raises IntegrityError where what is published is not what was
    signed, or not the log that was there before (then what was there before stays the state); ConsentLedgerError where the log
    cannot be read, so that nothing is known.
    """
    trust, state = trust if isinstance(trust, Trust) else load_trust(trust), Path(state)
    if not state.parent.is_dir():
        raise UsageError(f"there is no folder {state.parent}", hint="the state is a file: name it in a folder that is there")
    before = _last(state, trust)
    log = PublishedLog(where)
    note = log.checkpoint()
    now = trust.open(note)
    if before is not None:
        _require_later(before, now, note, state)
    same_prefix = _Reading(log, now, before, on_progress or (lambda done, total: None)).is_whole()
    if before is not None and not same_prefix:
        raise _contradiction(
            f"log {now.origin!r:.100} was forked: its first {before.size} entries are not those that it signed before",
            "both are signed by the log's key: it has shown two histories",
            note,
            state,
        )
    _keep(state, trust, before, note)
    return Monitored(before, now, note, trust.cosigned_by(note))


class _Reading:
    """One pass over everything that is published under a checkpoint."""

    def __init__(self, log: PublishedLog, now: Checkpoint, before: Checkpoint | None, on_progress: Progress) -> None:
        self._log, self._now, self._before, self._on_progress = log, now, before, on_progress
        self._tree = tiles.Growing()

    def is_whole(self) -> bool:
        """Whether the entries of before have the root of before. Raises VerificationError unless all have the root of now."""
        size, border = self._now.size, 0 if self._before is None else self._before.size
        same = self._before is None or border > 0 or self._before.root == self._tree.root()
        for index, leaves in enumerate(self._leaves()):
            cut = min(max(0, border - index * WIDTH), len(leaves))
            self._add(leaves[:cut])
            if self._before is not None and cut and self._tree.size == border:
                same = self._tree.root() == self._before.root
            self._add(leaves[cut:])
            self._on_progress(self._tree.size, size)
        self._compare(self._tree.partial())
        if self._tree.root() != self._now.root:
            raise VerificationError(
                f"the {size} entries that are published are not those that the checkpoint has signed: they have another root",
                hint=_WHO,
            )
        return same

    def _add(self, leaves: list[bytes]) -> None:
        self._compare(self._tree.extend(leaves))

    def _compare(self, expected: dict[tuple[int, int], bytes]) -> None:
        for (level, index), hashes in expected.items():
            if level and self._log.tile(level, index, self._now.size)[: len(hashes)] != hashes:
                raise VerificationError(f"tile {level}/{index} of the published log is not that of its entries", hint=_WHO)

    def _leaves(self) -> Iterator[list[bytes]]:
        """Per bundle the hashes of its entries, in order; read ahead."""
        count = -(-self._now.size // WIDTH)
        with ThreadPoolExecutor(_REQUESTS, "consent-monitor") as pool:
            waiting: deque[Future[list[bytes]]] = deque()
            try:
                for index in range(count):
                    waiting.append(pool.submit(self._bundle, index))
                    if len(waiting) == _AHEAD:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _bundle(self, index: int) -> list[bytes]:
        leaves = [leaf_hash(entry) for entry in self._log.entries(index, self._now.size)]
        published = self._log.tile(0, index, self._now.size)
        if b"".join(leaves) != published:
            place = next(n for n, leaf in enumerate(leaves) if leaf != published[n * len(leaf) : (n + 1) * len(leaf)])
            raise VerificationError(
                f"entry {index * WIDTH + place} of the published log is not the one that its hash tile names", hint=_WHO
            )
        return leaves


_WHO = "a file was changed, where it is kept or on its way; fetch it again by another way before you accuse anyone"


def _require_later(before: Checkpoint, now: Checkpoint, note: str, state: Path) -> None:
    if now.origin != before.origin:
        raise IntegrityError(
            f"{state} is of log {before.origin!r:.100}, and this one is {now.origin!r:.100}",
            hint="each log needs a state file of its own",
        )
    if now.size < before.size:
        raise _contradiction(
            f"log {now.origin!r:.100} was rolled back: it shows {now.size} entries, and has signed {before.size} before",
            "the log, or whoever serves its files, hides what was signed later. An old copy of an honest log looks the same: "
            "ask at its own address before you accuse its operator",
            note,
            state,
        )
    if now.size == before.size and now.root != before.root:
        raise _contradiction(
            f"log {now.origin!r:.100} was forked: it has signed two different trees of {now.size} entries",
            "both are signed by the log's key: nothing else is needed to prove it",
            note,
            state,
        )


def _contradiction(what: str, proven: str, note: str, state: Path) -> VerificationError:
    """With the contradicting checkpoint kept beside the state."""
    path = state.with_name(f"{state.name}.contradicted-{sha256(note.encode()).hexdigest()[:16]}")
    try:
        files.publish_bytes(path, note.encode())
        kept = f"keep {state} and {path}"
    except ConsentLedgerError as error:
        kept = f"keep {state} and the log's file `checkpoint`, which could not be copied ({error})"
    return VerificationError(what, hint=f"{proven}; {kept}, and a copy of the published files")


def _last(state: Path, trust: Trust) -> Checkpoint | None:
    """Of a state; None: there is none yet. Raises IntegrityError for one that is damaged: it never counts as none."""
    if not os.path.lexists(state):
        return None
    try:
        data = of_folder(state, MAX_NOTE)
        # What was verified then need not be cosigned by those that are demanded now.
        return trust.open_unwitnessed((data or b"").decode())
    except (VerificationError, UnicodeDecodeError) as error:
        raise IntegrityError(
            f"the state {state} is no checkpoint of a trusted log: {error}",
            hint="it is not taken as a first visit: put it back from a copy; only if you know why it is damaged, move it away",
        ) from error


def _keep(state: Path, trust: Trust, before: Checkpoint | None, note: str) -> None:
    with locks.exclusive(state.parent) as held:
        if held:
            files.sweep(state)
        if _last(state, trust) != before:
            raise ConsentLedgerError(f"{state} was changed meanwhile", hint="another monitor uses it too: run the command again")
        files.publish_bytes(state, note.encode())
