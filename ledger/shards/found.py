"""Hashes, to be found: which entries a text may be. A hash only proposes a candidate, so a collision costs a comparison."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_HALF = np.uint64(32)


class Found:
    """Hashes in order, with a directory over their top bits, so that a look-up touches one or two of them. Of each only the next
    32 bits are kept: 12 to 16 bytes an entry in all."""

    def __init__(self, hashes: Hashes, order: Ints | None = None) -> None:
        """order: as `np.argsort` has it, where that is known."""
        bits = max(1, len(hashes).bit_length())  # one or two places for each
        self._bits, self._shift = np.uint64(bits), np.uint64(64 - bits)
        kind = np.int32 if len(hashes) < 1 << 31 else np.int64
        order = np.argsort(hashes) if order is None else order
        hashes = hashes[order]
        # Side by side: the memory that is waited for for the one brings the other along.
        self._entries = np.empty(len(hashes), [("rest", np.uint32), ("order", kind)])
        self._entries["rest"] = hashes << self._bits >> _HALF
        self._entries["order"] = order
        counts = np.bincount((hashes >> self._shift).astype(np.int64), minlength=1 << bits)
        self._start: npt.NDArray[Any] = np.zeros(len(counts) + 1, kind)
        np.cumsum(counts, out=self._start[1:])

    def candidates(self, hashes: Hashes, confirm: Callable[[Ints, Ints], Bools]) -> Ints:
        """The entry of each hash that `confirm(queries, entries)` accepts, else -1."""
        found = np.full(len(hashes), -1, np.int64)
        place = (hashes >> self._shift).view(np.int64)
        at, end = self._start.take(place), self._start.take(place + 1)
        query = np.nonzero(at < end)[0]
        at, end, asked = at.take(query), end.take(query), (hashes.take(query) << self._bits >> _HALF).astype(np.uint32)
        while len(query):
            entry = self._entries.take(at)
            there = entry["rest"]
            same = np.nonzero(there == asked)[0]
            if len(same):
                entries, queries = entry["order"].take(same).astype(np.int64), query.take(same)
                good = confirm(queries, entries)
                if good.all():
                    found[queries] = entries
                else:
                    found[queries[good]] = entries[good]
            # They are in order: what is asked for is behind smaller ones, or behind another text with its hash.
            go_on = np.nonzero((there <= asked) & (at + 1 < end) & (found.take(query) < 0))[0]
            query, asked, at, end = query.take(go_on), asked.take(go_on), at.take(go_on) + 1, end.take(go_on)
        return found
