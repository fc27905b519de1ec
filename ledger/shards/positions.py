"""Which rows of a shard are allowed, as a file has it: a Roaring bitmap of row numbers, counted from 0 in the order of the file.

The form is the portable one of 64 bits, which Iceberg's deletion vectors hold as well (docs/formats.md). What is read was hashed
against a signed statement before: the library that decodes it is C, and is no judge of foreign bytes.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap64

from ledger.errors import VerificationError

Bools = npt.NDArray[np.bool_]

_CHUNK = 1 << 16
_MOST = 8192 + 8 + 12
"""Bytes that a chunk of rows may take: a plain bitmap, its entry in the header, and a header of its own in the worst case."""


def encode(masks: Iterable[Bools]) -> bytes:
    """masks: one for each row group, as long as it, True where the row is allowed."""
    allowed, first = BitMap64(), 0
    for mask in masks:
        rows = np.flatnonzero(mask).astype(np.uint64) + np.uint64(first)
        allowed |= BitMap64(array("Q", rows.tobytes()))
        first += len(mask)
    allowed.run_optimize()
    return bytes(allowed.serialize())


def limit(rows: int) -> int:
    """The most bytes that the positions of a shard of so many rows may take."""
    return 8 + _MOST * (rows // _CHUNK + 1)


class Positions:
    """Which of `rows` rows are allowed: `kept` of them.

    Raises VerificationError for bytes that say anything else, or more.
    """

    def __init__(self, data: bytes, rows: int, kept: int) -> None:
        try:
            self._allowed = BitMap64.deserialize(data)
            whole = bytes(self._allowed.serialize()) == data
        except (ValueError, IndexError, MemoryError) as error:
            raise VerificationError("the positions of its rows are no bitmap") from error
        if not whole:
            raise VerificationError("the positions of its rows hold more than a bitmap")
        if len(self._allowed) != kept:
            raise VerificationError(f"{len(self._allowed)} of its rows are allowed by position, and {kept} by the statement")
        if kept and self._allowed.max() >= rows:
            raise VerificationError(f"row {self._allowed.max()} is allowed, and it has {rows}")

    def count(self, first: int, rows: int) -> int:
        """How many of these rows are allowed."""
        return int(self._allowed.range_cardinality(first, first + rows))

    def mask(self, first: int, rows: int) -> Bools:
        """True where the row is allowed."""
        mask = np.zeros(rows, bool)
        if rows:
            here = (self._allowed & BitMap64(range(first, first + rows))).to_array()
            mask[np.array(here, np.uint64) - np.uint64(first)] = True
        return mask
