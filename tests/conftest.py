"""Fixtures that the whole suite shares."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ledger.cli import run

import ledger
from tests import postgres as servers

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real shards and published vectors, which are no part of the project; skips, saying so, where they are absent."""
    folder = Path(os.environ.get("CONSENT_LEDGER_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"shared data and vectors are not here: {folder.name}/ beside the checkout, or CONSENT_LEDGER_SHARED")
    return folder


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


@pytest.fixture(scope="session")
def postgres() -> Iterator[servers.Server]:
    """A real server, for the whole session."""
    with servers.server() as started:
        yield started


@pytest.fixture
def new_database(postgres: servers.Server) -> Iterator[Callable[..., str]]:
    """URLs of new databases on it, which end with the test."""
    yield postgres.new
    postgres.drop()


@pytest.fixture
def book(tmp_path: Path) -> Iterator[ledger.Ledger]:
    """A new ledger with the purpose train-ai."""
    with ledger.create(tmp_path / "consent-ledger") as made:
        made.declare_purpose("train-ai", title="Train", description="Train a model")
        yield made


@pytest.fixture
def shard(tmp_path: Path) -> Callable[..., Path]:
    """Write a shard of posts: shard("raw/a.parquet", user_id=[...], post_id=[...])."""

    def write(name: str, row_group_size: int = 2, **columns: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path, row_group_size=row_group_size, compression="zstd")
        return path

    return write


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def consent(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Run a command as a person would, in tmp_path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CONSENT_LEDGER", raising=False)

    def command(*arguments: str | Path) -> Outcome:
        capsys.readouterr()
        code = run([str(a) for a in arguments])
        printed = capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    return command


def yes(subject: str, **fields: Any) -> ledger.Event:
    return ledger.Event(
        **{
            "state": "given",
            "subject_id": subject,
            "purposes": ["train-ai"],
            "occurred_at": datetime(2026, 1, 1, tzinfo=UTC),
            **fields,
        }
    )
