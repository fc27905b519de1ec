"""Entries that follow one another, many at once: each is checked against what it commits to, and what it says is read by its
form. Whoever goes over the whole log looks at them a column at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from ledger.log import merkle
from ledger.log.entry import opens_event
from ledger.store import alike
from ledger.store.opened import Erased, Opened, checked

PARTS = 6
"""Columns that are read of each entry: position, entry, tag, body, salt and canonical bytes."""


class Stretch(NamedTuple):
    """said: of each entry, plain events by their form. tags, salts: of each entry. beside: what was asked for of table openings,
    a column each."""

    first: int
    leaves: Sequence[bytes]
    said: Sequence[alike.Said | Opened | Erased]
    tags: Sequence[bytes | None]
    salts: Sequence[bytes | None]
    beside: Sequence[Sequence[Any]]

    def runs(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """(first, end) of plain events that follow one another within these; what is none of them is one by itself."""
        begun = start
        for at in range(start, end):
            if type(self.said[at]) is not alike.Said:
                if begun < at:
                    yield begun, at
                yield at, at + 1
                begun = at + 1
        if begun < end:
            yield begun, end


def stretch(first: int, rows: Sequence[Sequence[Any]], erased: Callable[..., Erased]) -> Stretch:
    """rows: of PARTS and of the columns beside. erased: what an entry without opening is. Raises IntegrityError."""
    columns = list(zip(*rows, strict=True))
    said: list[alike.Said | Opened | Erased] = []
    for position, entry, tag, body, salt, stored in zip(*columns[:PARTS], strict=True):
        plain = alike.read(stored) if opens_event(entry, tag, body, salt, stored) else None
        if plain is not None:
            said.append(plain)
        elif salt is None and stored is None:
            said.append(erased(position, entry, tag, body))
        else:
            said.append(checked(position, entry, tag, body, salt, stored))
    _, entries, tags, _, salts, _ = columns[:PARTS]
    return Stretch(first, list(map(merkle.leaf_hash, entries)), said, tags, salts, columns[PARTS:])
