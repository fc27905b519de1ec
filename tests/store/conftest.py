"""A small ledger, and how the store's tests reach behind its back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from small_ledger import Clock, Sql

import ledger
from ledger import Ledger


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Ledger]:
    """A new ledger with the purpose train-ai@1."""
    with ledger.create(tmp_path / "ledger") as made:
        made.declare_purpose("train-ai", title="Training", description="Training of models")
        yield made


@pytest.fixture
def sql(book: Ledger) -> Sql:
    """Statements straight to the database, past the ledger."""

    def run(statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(book.folder.path / "ledger.db")) as connection, connection:
            return connection.execute(statement, values).fetchall()

    return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)
