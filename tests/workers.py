"""How `make test` shares the tests out among its workers, which are processes."""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadScopeScheduling

ENGINES = (
    "tests/integrations/test_spark_hostile.py",
    "tests/integrations/test_spark.py",
    "tests/integrations/test_every_path.py",
    "tests/integrations/test_ray.py",
    "tests/shards/test_engines.py",
)
"""Of one worker, so that Spark and Ray are started once."""

LONGEST = (
    *ENGINES,
    "tests/cli/test_nightly.py",
)
"""Begun first: else a worker would be alone with one of them at the end."""


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]


class Schedule(LoadScopeScheduling):
    """The tests of a file are of one worker: what they share is made once."""

    def _split_scope(self, nodeid: str) -> str:
        file = _file(nodeid)
        return "engines" if file in ENGINES else file


def order(items: list[pytest.Item]) -> None:
    """The longest first. Whatever else, and the tests of a file, stay as they are."""
    rank = {file: number for number, file in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(_file(item.nodeid), len(rank)))
