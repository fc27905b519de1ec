"""Bundles of entries (C2SP tlog-tiles): up to 256 of them, each behind its length in two bytes, big-endian.

`tiles.entries_path` says where a bundle is served.
"""

from __future__ import annotations

from collections.abc import Iterable

from ledger.errors import VerificationError
from ledger.log.tiles import WIDTH

MAX_ENTRY = 2**16 - 1
MAX_BUNDLE = WIDTH * (2 + MAX_ENTRY)
"""Bytes."""


def encode(entries: Iterable[bytes]) -> bytes:
    """Raises ValueError for more than 256 entries, and for one that is too long."""
    parts: list[bytes] = []
    for entry in entries:
        if len(entry) > MAX_ENTRY or len(parts) == 2 * WIDTH:
            raise ValueError(f"a bundle holds up to {WIDTH} entries of up to {MAX_ENTRY} bytes")
        parts += [len(entry).to_bytes(2, "big"), entry]
    return b"".join(parts)


def parse(data: bytes, count: int) -> list[bytes]:
    """Exactly that many entries and nothing else. Raises VerificationError."""
    entries: list[bytes] = []
    start = 0
    while start < len(data) and len(entries) < count:
        end = start + 2 + int.from_bytes(data[start : start + 2], "big")
        if start + 2 > len(data) or end > len(data):
            break
        entries.append(data[start + 2 : end])
        start = end
    if start != len(data) or len(entries) != count:
        raise VerificationError(f"a bundle of {count} entries has {len(entries)} whole ones in its {len(data)} bytes")
    return entries
