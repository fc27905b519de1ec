"""What to do on more than one processor: at once in threads, or by a second process and by which Python."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def count() -> int:
    """How many processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def python() -> str | None:
    """What to run. None: there is one processor, or what runs here is an application and no Python."""
    return sys.executable or None if count() > 1 and not getattr(sys, "frozen", False) else None


def at_once(*works: Callable[[], Any]) -> list[Any]:
    """What each of them gives; all but the last are done in threads, which have ended when this returns or raises.

    For what lets other threads of Python run: digests of much, NumPy on long arrays, Arrow.
    """
    *others, last = works
    with ThreadPoolExecutor(len(others)) as pool:
        begun = [pool.submit(work) for work in others]
        own = last()
        return [*(work.result() for work in begun), own]
