"""Hashes, to be found: which entries a text may be. A hash only proposes a candidate, so a collision costs a comparison."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_HALF = np.uint64(32)
_MOST = 1 << 32
_NOBODY = np.uint64(2**64 - 1)


class Found:
    """A table in which each entry stands at the place to which its hash points, or at the next one that is free; in the order of
    the hashes, so that a look-up ends at the first greater one. Two and a half places for each entry: most look-ups wait for
    memory but once. An entry is the hash with its last bits replaced by its number: 20 bytes an entry in all.
    """

    def __init__(self, hashes: Hashes) -> None:
        bits = len(hashes).bit_length()  # so that no number has all of them set
        self._number = np.uint64((1 << bits) - 1)
        self._places = np.uint64(min(_MOST, 5 * len(hashes) // 2 + 1))
        number = np.arange(len(hashes))
        entries = (hashes & ~self._number) | number.view(np.uint64)
        entries.sort()
        place = np.maximum.accumulate(self._place(entries & ~self._number) - number) + number
        self._entries = np.full(max(int(self._places), int(place.max(initial=0)) + 1) + 1, _NOBODY)
        self._entries[place] = entries

    def _place(self, hashes: Hashes) -> Ints:
        """The greater the hash, the farther on."""
        place: Ints = ((hashes >> _HALF) * self._places >> _HALF).view(np.int64)
        return place

    def candidates(self, hashes: Hashes, confirm: Callable[[Ints, Ints], Bools], none: int = -1) -> Ints:
        """The entry of each hash that `confirm(queries, entries)` accepts, else `none`."""
        found = np.full(len(hashes), none, np.int64)
        query, asked = np.arange(len(hashes)), hashes & ~self._number
        at = self._place(asked)
        while len(query):
            entry = self._entries.take(at)
            # Behind one that stands here by its hash there may be another text with it.
            go_on = entry < (asked | self._number)
            same = np.flatnonzero(go_on & (entry >= asked))
            if len(same):
                entries, queries = (entry.take(same) & self._number).view(np.int64), query.take(same)
                good = confirm(queries, entries)
                if not good.all():
                    same, entries, queries = same[good], entries[good], queries[good]
                found[queries] = entries
                go_on[same] = False
            rest = np.flatnonzero(go_on)
            query, asked, at = query.take(rest), asked.take(rest), at.take(rest) + 1
        return found
