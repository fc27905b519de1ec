"""An earlier snapshot of this ledger and the entries since -> the rows of a new one, the same as from all entries.

What is taken of the earlier one is what it read and checked itself: the log, which is read from there on and checked against the
signed head, says in an act of its own that this very file was compiled from the entries before. All else is left to those who
read everything: `found` gives None.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from ledger import spoken, times
from ledger.carried import Earlier
from ledger.consent import Purpose
from ledger.errors import VerificationError
from ledger.log.checkpoint import Checkpoint
from ledger.log.merkle import RightEdge
from ledger.splicing import spliced
from ledger.spoken import Spoken
from ledger.store import second
from ledger.store.history import History


class Found(NamedTuple):
    """left_out: how many of the acts that were read count later only. earlier: as of `Snapshot`."""

    rows: Any
    salts: bytes
    sources: dict[str, datetime]
    left_out: int
    earlier: int | None


def found(
    earlier: Earlier,
    history: History,
    head: Checkpoint,
    current: Purpose,
    as_of: datetime,
    on_progress: Callable[[int], None],
) -> Found | None:
    """earlier: of the same grounds. Raises IntegrityError where the entries since are not those that were signed."""
    try:
        signed = history.open(earlier.header.checkpoint)
    except VerificationError:  # by a key that was taken out of the trust file since
        return None
    size = signed.size
    if (
        earlier.header.purpose != current.reference
        or tuple(earlier.header.categories) != tuple(sorted(current.categories))
        or earlier.header.erasures
        or earlier.header.as_of > as_of
        or not 0 < size < head.size
        or head.size - size > max(size, second.WORTHWHILE)  # two processes read all of it as quickly
    ):
        return None
    since = spoken.read(
        history, size, head.size, token=current.token, accepts=current.accepts, as_of=as_of, on_progress=on_progress
    )
    if RightEdge(size, since.before).root() != signed.root or RightEdge(head.size, since.after).root() != head.root:
        return None
    if not _said(since, earlier, size) or _changes(since, current.token):
        return None
    rows, salts = spliced(earlier.rows, earlier.salts, since.acts, size, since.salts)
    sources = dict(earlier.header.sources)
    for source, at in since.completed().items():
        sources[source] = max(sources.get(source, at), at)
    return Found(rows, salts, sources, since.left_out, size)


def _said(since: Spoken, earlier: Earlier, size: int) -> bool:
    """Whether the log itself says that this file holds the answers of the entries before these."""
    expected = {
        "act": "snapshot_compiled",
        "purpose": earlier.header.purpose,
        "file_sha256": earlier.file_sha256,
        "tree_size": size,
        "as_of": times.text(earlier.header.as_of),
    }
    return any(expected.items() <= document.items() for _, document in since.others)


def _changes(since: Spoken, token: str) -> bool:
    """Whether something came since after which rows of before are no more what they were."""
    return bool(since.gone) or any(
        document["act"] == "subject_erased" or (document["act"] == "purpose_declared" and document["token"] == token)
        for _, document in since.others
    )
