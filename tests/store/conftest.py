"""A small ledger, and how the store's tests reach behind its back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_ledger import Clock, Sql, run

import ledger
from ledger import Ledger
from tests.postgres import Server

Database = Callable[[], str | None]


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Database:
    """What `--database` is for a new ledger. Whatever uses this is run on both databases, if it is not marked for one."""
    if request.param == "sqlite":
        return lambda: None
    request.getfixturevalue("new_database")
    server: Server = request.getfixturevalue("postgres")
    return server.new_schema


@pytest.fixture
def book(tmp_path: Path, database: Database) -> Iterator[Ledger]:
    """A new ledger with the purpose train-ai@1."""
    with ledger.create(tmp_path / "ledger", database=database()) as made:
        made.declare_purpose("train-ai", title="Training", description="Training of models")
        yield made


@pytest.fixture
def sql(book: Ledger) -> Sql:
    """Statements straight to the database, past the ledger."""

    return lambda statement, *values: run(book.folder.database, statement, *values)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)
