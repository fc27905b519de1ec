"""An import has a larger cache than other transactions, in proportion to the memory there is, and gives it back."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_ledger import yes

from ledger import Ledger
from ledger.errors import ConsentLedgerError
from ledger.store import database, imports, sqlite

GIB = 1 << 30


@pytest.mark.parametrize(
    ("limit", "mib"), [(GIB // 4, 128), (GIB, 128), (2 * GIB, 256), (4 * GIB, 512), (1 << 50, None), (None, None)]
)
def test_it_is_an_eighth_within_bounds(
    book: Ledger, limit: int | None, mib: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """limit: of the control group. Without one it is the machine's memory that counts, whatever that is. On both databases."""
    group = tmp_path / "memory.max"
    group.write_text("max\n" if limit is None else f"{limit}\n")
    monkeypatch.setattr(sqlite, "_CGROUP", group)
    with database.writing(book._engine) as (connection, work):
        with database.room(connection):
            if connection.dialect.name == "sqlite":
                found = -connection.exec_driver_sql("PRAGMA cache_size").scalar_one() // 1024
                assert found == mib if mib is not None else 128 <= found <= 512
        if connection.dialect.name == "sqlite":
            assert connection.exec_driver_sql("PRAGMA cache_size").scalar_one() == -128 * 1024
        work.rollback()


def test_an_import_gives_it_back_also_where_it_fails(book: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[str] = []
    room = database.room

    def noted(connection):  # type: ignore[no-untyped-def]
        entered.append(connection.dialect.name)
        return room(connection)

    monkeypatch.setattr(imports.database, "room", noted)
    bad, good = tmp_path / "bad.ndjson", tmp_path / "good.ndjson"
    bad.write_text('{"state": "maybe"}\n')
    good.write_text(
        '{"state": "refused", "subject_id": "ann", "purposes": ["train-ai"], "occurred_at": "2026-01-01T00:00:00Z"}\n'
    )
    with pytest.raises(ConsentLedgerError):
        book.import_file(bad)
    assert book.import_file(good).new == 1
    book.record(yes("bob"))
    assert len(entered) == 2
    with database.reading(book._engine) as connection:
        if connection.dialect.name == "sqlite":
            assert connection.exec_driver_sql("PRAGMA cache_size").scalar_one() == -128 * 1024
