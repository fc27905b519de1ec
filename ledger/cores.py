"""Whether a second process may help this one, and by which Python."""

from __future__ import annotations

import os
import sys


def count() -> int:
    """How many processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def python() -> str | None:
    """What to run. None: there is one processor, or what runs here is an application and no Python."""
    return sys.executable or None if count() > 1 and not getattr(sys, "frozen", False) else None
