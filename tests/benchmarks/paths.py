"""Rows a second of every path beside the plain one: `WORKLOAD=DIR python -m tests.benchmarks.paths`, DIR as for `make bench`.

Each path reads Parquet, decides and writes Parquet; each measurement is a process of its own, in which the engine is started and
has done one shard before the clock runs. Paths take turns, ROUNDS (default 3) times; medians are compared. What a path keeps must
be what expected.json says.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.dataset as pad

import ledger

COLUMNS = ledger.Columns(subject="user_id", content="post_id")
NESTED = ledger.Columns(subject="metadata.user_id", content="metadata.post_id")
Work = Callable[[Path, Path], object]
"""(folder of shards, output folder that is not there yet)."""


def plain(snapshot: Any) -> Work:
    consent = ledger.ConsentFilter(snapshot, COLUMNS)
    return lambda source, output: consent.filter_shards([source], output, workers=2)


def s3(snapshot: Any) -> Work:
    """In and out of a server on loopback. Putting the shards there and fetching them is not measured: see `measure`."""
    import boto3

    port = "5791"
    told = {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "REGION": "us-east-1", "ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    os.environ.update({f"AWS_{name}": value for name, value in told.items()}, AWS_EC2_METADATA_DISABLED="true")
    moto = Path(sys.executable).with_name("moto_server")
    server = subprocess.Popen([moto, "-H", "127.0.0.1", "-p", port], stderr=subprocess.DEVNULL)
    CLEANUP.append(server.terminate)
    client = boto3.client("s3", config=boto3.session.Config(retries={"max_attempts": 10, "mode": "standard"}))
    time.sleep(3)
    client.create_bucket(Bucket="shards")
    consent = ledger.ConsentFilter(snapshot, COLUMNS)

    def work(source: Path, output: Path) -> None:
        consent.filter_shards([f"s3://shards/{source.name}"], f"s3://shards/{output.name}", workers=2)

    def put(source: Path) -> None:
        for shard in source.glob("*.parquet"):
            client.upload_file(str(shard), "shards", f"{source.name}/{shard.name}")

    def fetch(source: Path, output: Path) -> None:
        output.mkdir()
        for shard in source.glob("*.parquet"):
            client.download_file("shards", f"{output.name}/{shard.name}", str(output / shard.name))

    BEFORE.append(put)
    AFTER.append(fetch)
    return work


def spark(snapshot: Any) -> Work:
    from pyspark.sql import SparkSession

    from ledger.integrations import spark as by_spark

    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    settings = {
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "4g",
        "spark.sql.shuffle.partitions": "2",
        "spark.log.level": "ERROR",
    }
    builder = SparkSession.builder.master("local[2]")
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()

    def work(source: Path, output: Path) -> None:
        rows = session.read.parquet(f"file://{source}")
        by_spark.filter(rows, snapshot, COLUMNS).write.option("compression", "zstd").parquet(f"file://{output}")

    return work


def ray(snapshot: Any) -> Work:
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0")
    import ray as framework
    import ray.data

    from ledger.integrations.ray import consent_filter

    framework.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    consent = ledger.ConsentFilter(snapshot, COLUMNS)
    return lambda source, output: consent_filter(ray.data.read_parquet(str(source)), consent).write_parquet(str(output))


def datasets(snapshot: Any) -> Work:
    import datasets as framework

    from ledger.integrations.datasets import consent_filter

    framework.disable_progress_bars()
    consent = ledger.ConsentFilter(snapshot, COLUMNS)

    def work(source: Path, output: Path) -> None:
        files = sorted(str(shard) for shard in source.glob("*.parquet"))
        rows = framework.Dataset.from_parquet(files, cache_dir=tempfile.mkdtemp(dir=source.parent))
        consent_filter(rows, consent, batch_size=10_000).to_parquet(str(output / "all.parquet"))

    return work


def datatrove(snapshot: Any) -> Work:
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import ParquetWriter
    from datatrove.utils.logging import logger

    from ledger.integrations.datatrove import ConsentFilter

    logger.disable("datatrove")
    step = ConsentFilter(ledger.ConsentFilter(snapshot, NESTED))

    def work(source: Path, output: Path) -> None:
        steps = [ParquetReader(str(source), id_key=""), step, ParquetWriter(str(output), compression="zstd")]
        LocalPipelineExecutor(steps, tasks=2, workers=2, logging_dir=tempfile.mkdtemp(dir=source.parent)).run()

    return work


PATHS: dict[str, Callable[[Any], Work]] = {each.__name__: each for each in (plain, s3, spark, ray, datasets, datatrove)}
BEFORE: list[Callable[[Path], None]] = []
AFTER: list[Callable[[Path, Path], None]] = []
CLEANUP: list[Callable[[], None]] = []


def measure(name: str, folder: Path) -> None:
    """In a process of its own: prints the seconds."""
    snapshot = ledger.load_snapshot(folder / "s.parquet", trust=folder / "consent-ledger" / "trust")
    try:
        work = PATHS[name](snapshot)
        for source, output in ((folder / "one", folder / "warm"), (folder / "shards", folder / "out")):
            for put in BEFORE:
                put(source)
            began = time.perf_counter()
            work(source, output)
            seconds = time.perf_counter() - began
            for fetch in AFTER:
                fetch(source, output)
        print(json.dumps(seconds))
    finally:
        for end in CLEANUP:
            end()


def main() -> None:
    workload, rounds = Path(os.environ["WORKLOAD"]).resolve(), int(os.environ.get("ROUNDS", "3"))
    expected = json.loads((workload / "expected.json").read_text(encoding="utf-8"))
    took: dict[str, list[float]] = {name: [] for name in PATHS}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "shards").symlink_to(workload / "shards")
        (folder / "one").mkdir()
        first = min((workload / "shards").glob("*.parquet"))
        shutil.copy(first, folder / "one")
        with ledger.create(folder / "consent-ledger") as book:
            book.declare_purpose("train-ai", title="T", description="D")
            book.import_file(workload / "events.parquet")
            book.snapshot("train-ai", output=folder / "s.parquet")
        for _ in range(rounds):
            for name in PATHS:
                command = [sys.executable, "-m", "tests.benchmarks.paths", name, str(folder)]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    raise SystemExit(f"{name}: {done.stderr[-2000:]}")
                took[name].append(json.loads(done.stdout.splitlines()[-1]))
                kept = pad.dataset(folder / "out", format="parquet").count_rows()
                if kept != sum(expected["shards"].values()):
                    raise SystemExit(f"{name} kept {kept} rows, and {sum(expected['shards'].values())} may be used")
                for made in ("out", "warm"):
                    shutil.rmtree(folder / made)
    slow = statistics.median(took["plain"])
    for name, seconds in took.items():
        median = statistics.median(seconds)
        spread = f"{min(seconds):.1f}–{max(seconds):.1f} s"
        print(f"{name:<10} {expected['rows'] / median:>10,.0f} rows/s  {slow / median:.2f} of plain  ({spread})")


if __name__ == "__main__":
    main() if len(sys.argv) == 1 else measure(sys.argv[1], Path(sys.argv[2]))
