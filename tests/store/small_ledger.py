"""What the store's tests share: acts, a clock set by hand, and SQL past the ledger."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ledger import Event, Ledger, Snapshot, times
from ledger.log import dsse
from ledger.log.entry import event_body, event_entry
from ledger.statements.statement import RunRecord, ShardRecord, run_statement
from tests import postgres

Sql = Callable[..., list[tuple[Any, ...]]]


def run(database: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """A statement straight to a database, past the ledger, committed."""
    if not database.startswith("sqlite:///"):
        return postgres.run(database, statement, *values)
    with closing(sqlite3.connect(database.removeprefix("sqlite:///"))) as connection, connection:
        return connection.execute(statement, values).fetchall()


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


def statement(book: Ledger, snapshot: Snapshot | None = None, **fields: Any) -> bytes:
    """A signed statement of a run over one empty shard. Without a snapshot it speaks of one that no log compiled."""
    moment = times.now()
    shard = ShardRecord(
        input="a", input_sha256="0" * 64, output="a", output_sha256="0" * 64, rows_in=0, rows_kept=0, rows_dropped={}
    )
    run = {
        "run_id": "r1",
        "purpose": "train-ai@1" if snapshot is None else snapshot.purpose,
        "rule_version": "1",
        "origin": book.origin,
        "snapshot_sha256": "0" * 64 if snapshot is None else snapshot.sha256,
        "answers_sha256": "0" * 64,
        "snapshot_receipt": "none" if snapshot is None else (snapshot.receipt or b"").decode(),
        "columns": {"subject": ["user_id"]},
        "decided_at": moment,
        "age_seconds": 3600,
        "max_age_seconds": 3600,
        "rests_on": {},
        "unmapped": 0,
        "shards": (shard,),
        "versions": {},
        "started_at": moment,
        "finished_at": moment,
        **fields,
    }
    return dsse.seal(run_statement(RunRecord(**run)), book.run_key())


def forge(book: Ledger, position: int, old: bytes, new: bytes) -> None:
    """Rewrite an event with an entry that fits it, as one can who has the database and not the log's key."""
    database = book.folder.database
    salt, data, tag = run(
        database, "SELECT salt, canonical, tag FROM openings JOIN entries USING (position) WHERE position = ?", position
    )[0]
    assert old in data
    data = data.replace(old, new)
    body = event_body(salt, data)
    run(database, "UPDATE openings SET canonical = ? WHERE position = ?", data, position)
    run(database, "UPDATE entries SET body = ?, entry = ? WHERE position = ?", body, event_entry(tag, body), position)
