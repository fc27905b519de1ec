"""What the store's tests share: acts, a clock set by hand, and SQL past the ledger."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ledger import Event, times

Sql = Callable[..., list[tuple[Any, ...]]]


class Clock:
    """The ledger's clock, set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = datetime.now(UTC)
        self._patch = monkeypatch

    def set(self, moment: datetime) -> datetime:
        self.now = moment
        self._patch.setattr(times, "now", lambda: self.now)
        return moment

    def move(self, **by: float) -> datetime:
        return self.set(self.now + timedelta(**by))


def yes(subject: str = "u1", **fields: Any) -> Event:
    fields = {"state": "given", "purposes": ["train-ai"], "occurred_at": datetime(2026, 1, 1, tzinfo=UTC), **fields}
    return Event(subject_id=subject, **fields)


def no(subject: str = "u1", **fields: Any) -> Event:
    return Event(subject_id=subject, **{"state": "refused", "purposes": ["train-ai"], **fields})
