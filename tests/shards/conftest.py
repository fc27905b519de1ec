"""Fixtures of the tests of shards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shards.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    before = os.umask(0o077)
    made = World(tmp_path)
    yield made
    made.book.close()
    os.umask(before)
