"""Moments: exactly `YYYY-MM-DDThh:mm:ss.ffffffZ` in documents, aware UTC datetimes in memory, microseconds in columns."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CANONICAL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
_MICROSECOND = timedelta(microseconds=1)


def now() -> datetime:
    """The ledger's clock; the only place that reads the machine's."""
    return datetime.now(UTC)


def text(moment: datetime) -> str:
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.replace(tzinfo=None).isoformat("T", "microseconds") + "Z"


def parse(value: str) -> datetime:
    """The canonical form alone. Raises ValueError."""
    if not _CANONICAL.fullmatch(value):
        raise ValueError(f"not a time of the form YYYY-MM-DDThh:mm:ss.ffffffZ: {value!r:.60}")
    return datetime.fromisoformat(value)


def read(value: str) -> datetime:
    """A time as people and exports write it: ISO 8601 with a zone; a date alone or no zone is refused.

    Raises ValueError.
    """
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError(f"{value!r:.60} has no time zone; write for example 2026-01-31T12:00:00Z")
    return moment.astimezone(UTC)


def micros(moment: datetime) -> int:
    """Microseconds since 1970, exactly."""
    return (moment - EPOCH) // _MICROSECOND


def from_micros(value: int) -> datetime:
    return EPOCH + timedelta(microseconds=value)
