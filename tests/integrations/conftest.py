"""Fixtures of the tests of integrations."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.shards.world import World

# Read by Ray when it is imported, whoever comes first.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # so named, it is what keeps to loopback on any system
# Else whatever runs beside these tests goes before Ray's workers, which are waited for.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.book.close()


@pytest.fixture(scope="session")
def ray() -> Iterator[Any]:
    """Ray on two cores, which listens on this machine's loopback alone."""
    import ray
    import ray.data

    with warnings.catch_warnings(action="ignore"):  # of its own deprecated settings, which it reads itself
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=200_000_000,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
        ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    assert ray.util.get_node_ip_address() == "127.0.0.1"
    yield ray
    ray.shutdown()
