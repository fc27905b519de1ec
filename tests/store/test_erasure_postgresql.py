"""Erasing a person from a ledger on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from small_ledger import no, run, yes
from test_erasure import decision, downgrade

import ledger
from ledger.errors import Suppressed


def test_on_postgresql(tmp_path: Path, new_database: Callable[..., str]) -> None:
    with ledger.create(tmp_path / "l", database=new_database()) as book:
        book.declare_purpose("train-ai", title="T", description="D")
        book.record_all([yes("subject-1", event_id="event-1"), no("subject-1", content_id="item-1"), yes("subject-2")])
        book.fsck()
        run(book.folder.database, "ANALYZE")
        erased = book.erase("subject-1")
        assert (erased.events, erased.unscrubbed) == (2, None) and erased.unreached[-1].kind == "server"
        assert book.fsck().erased == 2
        for table in ("entries", "openings", "erasures", "tombstones", "checkpoints"):
            text = repr(run(book.folder.database, f"SELECT * FROM {table}"))
            assert "subject-1" not in text and "event-1" not in text
        assert "subject-1" not in repr(run(book.folder.database, "SELECT * FROM pg_stats WHERE tablename = 'openings'"))
        with pytest.raises(Suppressed):
            book.record(yes("subject-1"))
    with ledger.create(tmp_path / "old", database=new_database()) as book:
        book.declare_purpose("train-ai", title="T", description="D")
        book.record(yes("subject-1"))
        downgrade(book)
        assert decision(book, "subject-1") == "allowed"
        assert book.erase("subject-1").events == 1
        assert book.fsck().erased == 1
