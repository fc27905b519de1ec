"""SHA-256 of many short texts, faster than one by one.

By `hashing_fast` where that is installed. Else on two cores: hashlib lets other threads of Python run only while it hashes long
texts, so every other part of many short ones goes to a second process, `hashing_program`, that reads its standard input and ends
with it. Where neither can be had, or one fails, all is hashed here.
"""

from __future__ import annotations

import subprocess
from array import array
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ledger import cores, hashing_program
from ledger.hashing_fast import Fast
from ledger.log.prefix_root import Bytes, table

_WORTH_IT = 100_000
"""Texts that take longer to hash than a process to start."""
_WORTH_FAST = 500_000
"""Texts that take longer to hash than DataFusion to import: a third of a second where it finds pandas."""
_FEW, _FEW_FOR_FAST = 5_000, 1_000
"""Texts that are hashed here sooner than by a second process, and by DataFusion."""
_HASH = 32

T = TypeVar("T")


class Hashers:
    """As a context manager: this process, and what helps it where so many texts are expected that it is worth it.

    Hashes are a row each.
    """

    def __init__(self, texts: int) -> None:
        self._fast = _unless_it_fails(Fast) if texts >= _WORTH_FAST else None
        self._other: subprocess.Popen[bytes] | None = None
        if self._fast is None and texts >= _WORTH_IT and (python := cores.python()) is not None:
            with suppress(OSError):
                self._other = subprocess.Popen(  # noqa: S603 - our own file
                    [python, "-I", "-S", hashing_program.__file__],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # what interrupts this process ends that one by its input
                )

    def __enter__(self) -> Hashers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()

    @property
    def by_two(self) -> bool:
        """Whether two threads may ask at once, and gain by it."""
        return self._fast is not None

    def each(self, head: bytes, data: Any, ends: npt.NDArray[np.int64]) -> Bytes:
        """Of the parts of data, from the first byte on, up to each end, with head before each. data: any buffer."""
        if (hashes := self._fast_each(head, data, ends)) is not None:
            return hashes
        if self._other is not None and len(ends) >= _FEW:
            return table([self._each_by_two(head, data, ends.data)])
        return table([hashing_program.each(head, data, ends.tolist())])

    def alike(self, texts: Bytes, *, secret: bool = False) -> Bytes:
        """Of texts of one size, a row each. secret: no other process may see them."""
        count, size = texts.shape
        data = np.ascontiguousarray(texts).reshape(-1).data
        if (hashes := self._fast_each(b"", data, np.arange(size, (count + 1) * size, size))) is not None:
            return hashes
        if self._other is not None and count >= _FEW and not secret:
            return table([self._alike_by_two(data, size)])
        return table([hashing_program.alike(data, size)])

    def _fast_each(self, head: bytes, data: Any, ends: npt.NDArray[np.int64]) -> Bytes | None:
        if (fast := self._fast) is None or len(ends) < _FEW_FOR_FAST:
            return None
        hashes = _unless_it_fails(lambda: fast.each(head, data, ends))
        self._fast = fast if hashes is not None else None
        return hashes

    def _each_by_two(self, head: bytes, data: Any, ends: memoryview) -> bytes:
        half = len(ends) // 2
        middle = ends[half - 1]
        theirs = array("q", [end - middle for end in ends[half:]])
        rest = memoryview(data)[middle : ends[-1]]
        asked = self._ask(array("q", [len(head), 0, len(rest)]), head, array("q", [len(theirs)]), theirs, rest)
        own = hashing_program.each(head, data, ends[:half])
        told = self._told(_HASH * len(theirs)) if asked else None
        return own + (hashing_program.each(head, rest, theirs) if told is None else told)

    def _alike_by_two(self, data: memoryview, size: int) -> bytes:
        half = len(data) // size // 2 * size
        own, rest = data[:half], data[half:]
        asked = self._ask(array("q", [0, size, len(rest)]), rest)
        hashes = hashing_program.alike(own, size)
        told = self._told(_HASH * (len(rest) // size)) if asked else None
        return hashes + (hashing_program.alike(rest, size) if told is None else told)

    def _ask(self, *parts: array[int] | bytes | memoryview) -> bool:
        assert self._other is not None
        assert self._other.stdin is not None
        try:
            for part in parts:
                self._other.stdin.write(part)
            self._other.stdin.flush()
        except OSError:
            self._stop()
            return False
        return True

    def _told(self, size: int) -> bytes | None:
        assert self._other is not None
        assert self._other.stdout is not None
        told = self._other.stdout.read(size)
        if len(told) == size:
            return told
        self._stop()
        return None

    def _stop(self) -> None:
        if (other := self._other) is not None:
            self._other = None
            other.kill()
            with suppress(OSError):
                other.communicate()


def _unless_it_fails(work: Callable[[], T]) -> T | None:
    """What is asked of DataFusion; None where it is not installed, or not whole, or answers wrongly, or panics."""
    try:
        return work()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # a panic in Rust is no Exception
        return None
