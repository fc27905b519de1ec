"""Texts that are held against others, place by place. No Python per text."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class Texts:
    """text: large_string without nulls. Where all are of one size, as most ids are, they are taken as bytes of that size: where
    each one begins need not be looked up, which takes a quarter of the time."""

    def __init__(self, text: Any) -> None:
        self.text, self._sized = text, _sized(text)

    def __reduce__(self) -> tuple[object, ...]:
        return Texts, (self.text,)

    def same(self, at: Ints, others: Texts, there: Ints) -> Bools:
        """Whether the text at each place is that of the others there. there: ascending, each once."""
        some, asked = self.text, others.text
        if self._sized is not None and others._sized is not None and self._sized.type == others._sized.type:
            some, asked = self._sized, others._sized
        if len(there) != len(asked):
            asked = asked.take(pa.array(there))
        return np.asarray(pc.equal(some.take(pa.array(at)), asked).to_numpy(zero_copy_only=False))


def _sized(text: Any) -> Any:
    """None where they are not of one size."""
    _, ends, content = text.buffers()
    if not len(text) or content is None:
        return None
    offsets = np.frombuffer(ends, np.int64)[text.offset : text.offset + len(text) + 1]
    size = int(offsets[1] - offsets[0])
    if not size or (np.diff(offsets) != size).any():
        return None
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), len(text), [None, content.slice(int(offsets[0]))])
