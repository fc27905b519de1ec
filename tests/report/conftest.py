from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from stories import Story, tell


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Told once for the tests of a module: none of them may add to it."""
    told = tell(tmp_path_factory.mktemp("story"))
    yield told
    told.book.close()


@pytest.fixture
def new_story(tmp_path: Path) -> Iterator[Story]:
    told = tell(tmp_path)
    yield told
    told.book.close()
