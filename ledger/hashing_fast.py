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

_SLICE = 1 << 15
"""Texts that a thread hashes at once."""
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

    def each(self, head: bytes, data: Any, ends: Any) -> bytes:
        """`ledger.hashing_program.each`. ends: a NumPy array of 64-bit integers."""
        starts = np.concatenate([[0], ends])

        def part(first: int) -> bytes:
            # Each thread by a name of its own: several may ask at once.
            return self._part(f"texts_{get_ident()}", head, data, starts[first : first + _SLICE + 1])

        with ThreadPoolExecutor(cores.count()) as threads:
            return b"".join(threads.map(part, range(0, len(ends), _SLICE)))

    def _part(self, name: str, head: bytes, data: Any, bounds: Any) -> bytes:
        from datafusion import col, functions, lit

        count, some = len(bounds) - 1, memoryview(data)[bounds[0] : bounds[-1]]
        offsets = pa.py_buffer(np.ascontiguousarray(bounds - bounds[0]))
        texts = pa.Array.from_buffers(pa.large_binary(), count, [None, offsets, pa.py_buffer(some)])
        try:
            text = functions.concat(lit(head), col("text")) if head else col("text")
            frame = self._context.from_arrow(pa.table({"text": texts}), name)
            hashes = frame.select(functions.sha256(text)).to_arrow_table().column(0)
        finally:
            self._context.deregister_table(name)  # or it keeps the texts
        if len(hashes) != count or hashes.null_count:
            raise Wrong
        for at in {0, count // 2, count - 1}:
            one = some[bounds[at] - bounds[0] : bounds[at + 1] - bounds[0]]
            if hashes[at].as_py() != sha256(head + bytes(one)).digest():
                raise Wrong
        # Whatever is not of 32 bytes is refused.
        fixed = hashes.cast(pa.binary(_HASH)).combine_chunks()
        return bytes(memoryview(fixed.buffers()[1])[_HASH * fixed.offset : _HASH * (fixed.offset + count)])
