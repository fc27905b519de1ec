"""16 processes append and 4 verify at once, on each database: no fork, no gap, no lost acknowledgement."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.soak.hammer import hammer

Database = Callable[[], str | None]


def test_sixteen_writers_and_four_readers(tmp_path: Path, database: Database) -> None:
    report = hammer(tmp_path / "ledger", database=database(), writers=16, readers=4, goal=100, seconds=120)
    assert report.acknowledged >= 100
    assert report.verified > 0


@pytest.mark.soak
def test_sixteen_writers_and_four_readers_for_long(tmp_path: Path, database: Database) -> None:
    report = hammer(tmp_path / "ledger", database=database(), writers=16, readers=4, goal=3000, seconds=900)
    print(
        f"{report.acknowledged} acknowledged in {report.seconds:.0f} s, "
        f"{report.busy} times busy, {report.verified} verified meanwhile"
    )
