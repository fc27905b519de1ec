"""Fixtures of the tests of shards."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.shards.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    before = os.umask(0o077)
    made = World(tmp_path)
    yield made
    made.book.close()
    os.umask(before)


@pytest.fixture(scope="session")
def spark() -> Iterator[Any]:
    """A Spark of one thread, in a JVM of its own that talks to this process alone."""
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    with warnings.catch_warnings(action="ignore"):  # of pandas' version, which no test here hands to Spark
        from pyspark.sql import SparkSession

        settings = {
            "spark.ui.enabled": "false",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.memory": "1g",
            "spark.sql.shuffle.partitions": "1",
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.parquet.compression.codec": "zstd",
            "spark.log.level": "ERROR",
        }
        builder = SparkSession.builder.master("local[1]")
        for name, value in settings.items():
            builder = builder.config(name, value)
        session = builder.getOrCreate()
    yield session
    session.stop()
