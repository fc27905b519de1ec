"""Texts that are hashed, and held against others, place by place. No Python per text."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Words = npt.NDArray[np.uint64]

_WORD = 8
_LONG = 1 << 12
"""No id has so many bytes."""


class Texts:
    """text: string or large_string. Those of one size, as most ids are, are held as words of eight bytes, the last one filled up
    with zeros: looked up and compared in a third of the time, and in no more memory than text and where each begins.
    """

    def __init__(self, text: Any) -> None:
        self.size, self.words = _sized(text)
        self._text: Any = text if self.words is None else None

    @classmethod
    def _of(cls, size: int, words: Words) -> Texts:
        texts = cls.__new__(cls)
        texts.size, texts.words, texts._text = size, words, None
        return texts

    def __len__(self) -> int:
        return len(self._text) if self.words is None else len(self.words)

    @property
    def longest(self) -> int:
        """Bytes."""
        return self.size or pc.max(pc.binary_length(self._text)).as_py() or 0

    @property
    def text(self) -> Any:
        """As a pyarrow array."""
        if self.words is None:
            return self._text
        content = np.ascontiguousarray(self.words.view(np.uint8)[:, : self.size])
        ends = np.arange(len(self) + 1) * self.size
        return pa.LargeStringArray.from_buffers(len(self), pa.py_buffer(ends), pa.py_buffer(content))

    def take(self, at: Ints) -> Texts:
        if self.words is None:
            return Texts(self._text.take(pa.array(at)))
        return self._of(self.size, self.words.take(at, axis=0))

    def same(self, at: Ints, others: Texts, there: Ints) -> Bools:
        """Whether the text at each place is that of the others there, none of which is null. there: ascending, each once."""
        if self.words is None or others.words is None:
            some = self._text.take(pa.array(at)) if self.words is None else self.take(at).text
            text = others.text
            asked = text if len(there) == len(text) else text.take(pa.array(there))
            return np.asarray(pc.equal(some, asked.cast(some.type)).to_numpy(zero_copy_only=False))
        if self.size != others.size:
            return np.zeros(len(at), bool)
        words = others.words if len(there) == len(others) else others.words.take(there, axis=0)
        equal: Bools = self.words.take(at, axis=0) == words
        return reduce(np.logical_and, equal.T)  # word by word: NumPy's own takes ten times as long for rows of two


def _sized(text: Any) -> tuple[int, Words | None]:
    """0 and None where they are not of one size, have none, or are too long to be copied."""
    _, ends, content = text.buffers()
    if not len(text) or content is None:
        return 0, None
    kind = "i8" if pa.types.is_large_string(text.type) else "i4"
    offsets: Ints = np.frombuffer(ends, kind)[text.offset : text.offset + len(text) + 1]
    size = int(offsets[1] - offsets[0])
    if not 0 < size < _LONG or (offsets[1:] - offsets[:-1] != size).any():
        return 0, None
    words = np.zeros((len(text), -(-size // _WORD)), np.uint64)
    item = np.dtype({"names": ["text"], "formats": [f"V{size}"], "offsets": [0], "itemsize": words.itemsize * words.shape[1]})
    words.view(item)["text"][:, 0] = np.frombuffer(content, f"V{size}", len(text), int(offsets[0]))
    return size, words
