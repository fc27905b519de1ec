"""Text → 64-bit hashes, by a secret: whoever does not know it cannot make two texts collide.

Multilinear hashing (Lemire and Kaser, "Strongly universal string hashing is fast", 2014): of the 32-bit words of a text and its
length, the high half of m + Σ kᵢ·wᵢ mod 2⁶⁴. Two of these, under keys of their own, are the two halves of a hash: two texts
collide with a probability of 2⁻⁶⁴.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ledger.shards.texts import Texts

_HALF = np.uint64(32)
_WORD = 4
_LAST_WORD = np.array([0xFF, 0xFFFF, 0xFFFFFF, 0xFFFFFFFF], "<u4")
"""What of a word belongs to a text of which 1, 2, 3, 4 bytes are left."""


class TextHash:
    """Of texts of at most `longest` bytes; longer ones have the hash of a text that is cut off there, with their own length."""

    def __init__(self, secret: bytes, longest: int) -> None:
        self._longest = longest
        words = -(-longest // _WORD)
        stream = hashlib.shake_256(secret).digest(2 * (2 + words) * 8)
        self._keys = np.frombuffer(stream, "<u8").reshape(2, -1)

    def __call__(self, texts: Texts | Any) -> npt.NDArray[np.uint64]:
        """texts: or string, or large_string; a null has any hash."""
        texts = texts if isinstance(texts, Texts) else Texts(texts)
        if texts.words is not None:
            return self._of_words(texts.size, texts.words)
        text = texts.text
        _, ends, content = text.buffers()
        if len(text) == 0:
            return np.zeros(0, np.uint64)
        kind = np.int64 if pa.types.is_large_string(text.type) else np.int32
        offsets = np.frombuffer(ends, kind)[text.offset : text.offset + len(text) + 1]
        start, size = offsets[:-1] - offsets[0], np.diff(offsets)
        # A word may begin at any byte; the last one of all may reach beyond the text.
        padded = np.zeros(int(offsets[-1] - offsets[0]) + _WORD - 1, np.uint8)
        padded[: 1 - _WORD] = np.frombuffer(content or b"", np.uint8)[offsets[0] : offsets[-1]]
        words = np.ndarray(len(padded) - _WORD + 1, "<u4", padded, strides=(1,))
        sums = [keys[0] + size.astype(np.uint64) * keys[1] for keys in self._keys]
        longest = int(size.max())
        rows: Any = slice(None)  # of the texts that go on here
        for at in range(0, min(longest, self._longest), _WORD):
            left = size[rows] - at
            if left.min() <= 0:
                rows = np.arange(len(text))[rows][left > 0]
                left = left[left > 0]
            word = words[start[rows] + at]
            if left.min() < _WORD:
                word &= _LAST_WORD[np.minimum(left, _WORD) - 1]
            word = word.astype(np.uint64)
            for total, keys in zip(sums, self._keys, strict=True):
                total[rows] += word * keys[2 + at // _WORD]
        return _joined(*sums)

    def _of_words(self, size: int, words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        """Of texts of one size: where each word stands need not be looked up."""
        halves = words.view("<u4")
        sums = [np.full(len(words), (int(keys[0]) + size * int(keys[1])) % (1 << 64), np.uint64) for keys in self._keys]
        for at in range(min(-(-size // _WORD), self._keys.shape[1] - 2)):
            word = halves[:, at].astype(np.uint64)
            for total, keys in zip(sums, self._keys, strict=True):
                total += word * keys[2 + at]
        return _joined(*sums)


def _joined(high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The high halves of both."""
    return high >> _HALF << _HALF | low >> _HALF
