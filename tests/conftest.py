"""Fixtures that the whole suite shares."""

from __future__ import annotations

import logging
import os
import secrets
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
from tests import browser, workers
from tests import postgres as servers
from tests.served import Served

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    workers.order(items)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> workers.Schedule:
    return workers.Schedule(config, log)


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
            # What a JVM of a few minutes compiles for long runs never pays.
            "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        }
        builder = SparkSession.builder.master("local[1]")
        for name, value in settings.items():
            builder = builder.config(name, value)
        session = builder.getOrCreate()
    yield session
    session.stop()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser. Of one module: while it runs, no other event loop can."""
    with browser.chromium() as started:
        yield started


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
def serve() -> Iterator[Callable[..., Served]]:
    """serve(folder of a ledger, *options) -> Served; ended with the test."""
    running: list[Served] = []

    def start(ledger: Path, *options: str) -> Served:
        running.append(Served(ledger, *options))
        return running[-1]

    yield start
    for served in running:
        if not served.client.is_closed:
            served.stop()


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


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The endpoint of a server that speaks S3, on loopback, for the session."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A new bucket of that server, which addresses lead to."""
    environment = {
        "AWS_ACCESS_KEY_ID": "an-id",
        "AWS_SECRET_ACCESS_KEY": "a-secret",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": s3,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    made = Bucket(f"bucket-{secrets.token_hex(4)}", s3)
    made.client.create_bucket(Bucket=made.name)
    return made


class Bucket:
    """By another client than the one that is tested."""

    def __init__(self, name: str, endpoint: str) -> None:
        import boto3

        self.name, self.endpoint = name, endpoint
        self.client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")

    def address(self, key: str = "") -> str:
        return f"s3://{self.name}/{key}"

    def put(self, key: str, content: bytes | Path) -> None:
        data = content.read_bytes() if isinstance(content, Path) else content
        self.client.put_object(Bucket=self.name, Key=key, Body=data)

    def get(self, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=self.name, Key=key)["Body"].read())

    def names(self) -> list[str]:
        """All but the empty objects that stand for folders."""
        found = self.client.list_objects_v2(Bucket=self.name).get("Contents", [])
        return sorted(o["Key"] for o in found if not (o["Key"].endswith("/") and not o["Size"]))

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)


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
