"""Every size that an outsider controls."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """In bytes. What is read in one piece is bounded; shards and snapshots are hashed as they stream by, whatever their size."""

    trust: int = 1 << 20
    receipt: int = 1 << 20
    membership: int = 2 << 20
    statement: int = 64 << 20
    """Both lines. A shard takes about 700 bytes, so that a run may have some 90,000."""


LIMITS = Limits()
