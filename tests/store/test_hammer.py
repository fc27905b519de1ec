"""16 processes record, withdraw and import, and 4 verify, at once, on each database: no fork, no gap, no lost acknowledgement."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.soak.hammer import hammer

Database = Callable[[], str | None]


def test_sixteen_writers_and_four_readers(tmp_path: Path, database: Database) -> None:
    report = hammer(tmp_path / "ledger", database=database(), writers=16, readers=4, acts=100, seconds=120)
    assert report.acknowledged >= 100
    assert report.verified > 0
    assert report.heads > 1


@pytest.mark.soak
def test_sixteen_writers_and_four_readers_for_long(tmp_path: Path, database: Database) -> None:
    print(hammer(tmp_path / "ledger", database=database(), writers=16, readers=4, acts=1000, seconds=900))
