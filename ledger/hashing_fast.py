"""SHA-256 of many texts by Apache DataFusion (the extra `fast`), which uses the processor's instructions for it and runs without
Python's lock.

Nothing needs it: whatever goes wrong here is for hashlib to do again (`ledger.hashing`).
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from threading import get_ident
from typing import Any

import numpy as np
import pyarrow as pa

from ledger import cores

_LEAST, _MOST = 1 << 13, 1 << 17
"""Texts that a thread hashes at once. DataFusion takes half a millisecond to see what is asked of it."""
_HASH = 32

_process: int | None = None
"""Which one has DataFusion's threads: what is forked from it has none of them, and would wait for ever."""


class Wrong(Exception):
    """DataFusion answered what hashlib does not."""


class Fast:
    """Raises ImportError where DataFusion is not installed or not for this process, and whatever else goes wrong in it."""

    def __init__(self) -> None:
        global _process
        import datafusion

        if _process not in (None, os.getpid()):
            raise ImportError("this process was forked from one that uses DataFusion")
        _process = os.getpid()
        # Of several partitions the answers come in any order.
        self._context = datafusion.SessionContext(datafusion.SessionConfig().with_target_partitions(1))

    def each(self, head: bytes, data: Any, ends: Any) -> Any:
        """`ledger.hashing_program.each`, a hash a row. ends: a NumPy array of 64-bit integers."""
        starts, hashes = np.concatenate([[0], ends]), np.empty((len(ends), _HASH), np.uint8)

        def part(first: int) -> None:
            # Each thread by a name of its own: several may ask at once.
            name, end = f"texts_{get_ident()}", first + size
            self._part(name, head, data, starts[first : end + 1], hashes[first:end])

        threads = min(cores.count(), len(ends) // _LEAST) or 1
        rounds = -(-len(ends) // (threads * _MOST)) or 1
        size = -(-len(ends) // (threads * rounds)) or 1
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(part, range(0, len(ends), size)))
        return hashes

    def _part(self, name: str, head: bytes, data: Any, bounds: Any, hashes: Any) -> None:
        """Into hashes."""
        from datafusion import col, functions, lit

        count, bounds, some = len(bounds) - 1, bounds - bounds[0], memoryview(data)[bounds[0] : bounds[-1]]
        text = col("text")
        if head and (joined := _joined(head, some, np.diff(bounds))) is not None:
            texts = _texts(*joined)
        else:
            texts = _texts(some, bounds)
            text = functions.concat(lit(head), text) if head else text
        try:
            frame = self._context.from_arrow(pa.table({"text": texts}), name)
            told = frame.select(functions.sha256(text)).to_arrow_table().column(0)
        finally:
            self._context.deregister_table(name)  # or it keeps the texts
        if len(told) != count or told.null_count:
            raise Wrong
        first = 0
        for chunk in told.cast(pa.binary()).chunks:
            hashes[first : first + len(chunk)] = _hashes(chunk)
            first += len(chunk)
        for at in {0, count // 2, count - 1}:
            if bytes(hashes[at]) != sha256(head + bytes(some[bounds[at] : bounds[at + 1]])).digest():
                raise Wrong


def _texts(data: Any, bounds: Any) -> Any:
    return pa.Array.from_buffers(pa.large_binary(), len(bounds) - 1, [None, pa.py_buffer(bounds), pa.py_buffer(data)])


def _joined(head: bytes, data: memoryview, sizes: Any) -> tuple[memoryview, Any] | None:
    """Texts, each with the head before it, and where each begins: in a sixth of the time that DataFusion takes to join them.
    None where they are not of one size.
    """
    size = int(sizes[0])
    if not size or (sizes != size).any():
        return None
    joined = np.empty(len(sizes), [("head", f"V{len(head)}"), ("text", f"V{size}")])
    joined["head"], joined["text"] = np.void(head), np.frombuffer(data, f"V{size}")
    return joined.view(np.uint8).data, np.arange(len(sizes) + 1) * joined.itemsize


def _hashes(chunk: Any) -> Any:
    """A row each. Raises Wrong for what is not of 32 bytes."""
    _, ends, content = chunk.buffers()
    ends = np.frombuffer(ends, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
    if (np.diff(ends) != _HASH).any():
        raise Wrong
    return np.frombuffer(content, np.uint8)[ends[0] : ends[-1]].reshape(-1, _HASH)
