"""What some of the log says of a purpose: the events that count, and what else a snapshot needs of these entries.

Each entry is read in log order and hashed against its opening; whoever asks checks all of them against the signed root.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from ledger.folding import Acts
from ledger.log.entry import SALT_BYTES
from ledger.log.merkle import RightEdge
from ledger.store.alike import Said
from ledger.store.erased import Erasures
from ledger.store.history import History
from ledger.store.opened import Erased

_NO_SALT = bytes(SALT_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """before, after: the hashes of the tree's right edge there. acts: those of events that count, of `folding.ACTS`.
    salts: of each entry. others: (position, document) of what is no event. gone: (position, position of the act that erased
    it). erasures: where those stand of which it was shown that none of these entries is open in spite of it."""

    before: Sequence[bytes]
    after: Sequence[bytes]
    acts: pa.Table
    salts: bytes
    others: Sequence[tuple[int, Mapping[str, Any]]]
    gone: Sequence[tuple[int, int]]
    erasures: Sequence[int]


def read(
    history: History,
    first: int,
    end: int,
    *,
    token: str,
    accepts: Sequence[int],
    as_of: datetime,
    on_progress: Callable[[int], None] = lambda position: None,
) -> Spoken:
    """Of the entries first..end-1. The tree before them is taken as it is stored. Raises IntegrityError."""
    edge = RightEdge(first, history.edge(first))
    before, erasures = edge.hashes, Erasures(history)
    acts, salts, others, gone = Acts(token, accepts, as_of), list[bytes](), list[tuple[int, Mapping[str, Any]]](), []
    for some in history.stretches((), end, first):
        on_progress(some.first)
        edge.extend(some.leaves)
        salts += [salt or _NO_SALT for salt in some.salts]
        plain = {some.first + at: said for at, said in enumerate(some.said) if isinstance(said, Said)}
        if plain:
            acts.add_alike(list(plain), list(plain.values()))
        for at in erasures.concerned(some.tags):
            if isinstance(said := some.said[at], Said):
                erasures.said(some.first + at, some.tags[at], said.document())
        for at in range(len(some.said)) if len(plain) < len(some.said) else ():
            said, position = some.said[at], some.first + at
            if isinstance(said, Erased):
                gone.append((position, said.act))
            elif not isinstance(said, Said):
                document = said.document()
                if said.is_event:
                    erasures.said(position, said.tag, document)
                    acts.add(position, document)
                else:
                    others.append((position, document))
    return Spoken(
        before=before,
        after=edge.hashes,
        acts=acts.table(),
        salts=b"".join(salts),
        others=others,
        gone=gone,
        erasures=sorted(erasures.acts),
    )
