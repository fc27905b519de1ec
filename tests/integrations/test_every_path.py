"""Real speeches and plays through every path, from either database: an independent program's rows and reasons, and a proof."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import datasets
import pyarrow.dataset as pad
import pyarrow.parquet as pq
import pytest
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter
from datatrove.utils.logging import logger

import ledger
from ledger import times
from ledger.filter import ConsentFilter
from ledger.integrations import datasets as for_datasets
from ledger.integrations.datatrove import ConsentFilter as Step
from ledger.snapshot import Snapshot

COLUMNS = {
    "speeches": {"subject": "user_id", "content": "content_id", "category": "category", "created": "created_at"},
    "plays": {"subject": "participants", "content": "content_id", "category": "=scene"},
}


@dataclass
class Real:
    """expected: of each shard in data the rows by reason. request: for what only one path needs."""

    book: ledger.Ledger
    data: Path
    expected: dict[str, dict[str, int]]
    snapshot: Snapshot
    request: pytest.FixtureRequest

    def consent(self, folder: str, prefix: str = "") -> ConsentFilter:
        """prefix: before each column's name."""
        named = {kind: name if name.startswith("=") else prefix + name for kind, name in COLUMNS[folder].items()}
        return ConsentFilter(self.snapshot, ledger.Columns(**named), times.now())  # type: ignore[arg-type]

    def shards(self, folder: str) -> Iterator[tuple[Path, dict[str, int]]]:
        return ((self.data / shard, counts) for shard, counts in self.expected.items() if shard.startswith(f"{folder}/"))


@pytest.fixture(params=["sqlite", "postgresql"])
def real(request: pytest.FixtureRequest, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Real]:
    """With the clock at the moment of the counts. The answers may be old: other processes have a clock of their own."""
    database = request.getfixturevalue("new_database")() if request.param == "postgresql" else None
    told = json.loads((shared / "data" / "expected.json").read_text(encoding="utf-8"))
    at, real_now, began = times.read(told["moment"]), times.now, times.now()
    monkeypatch.setattr(times, "now", lambda: at + (real_now() - began))
    with ledger.create(tmp_path / "consent-ledger", database=database) as book:
        book.declare_purpose("train-ai", title="T", description="D", categories=["address", "inaugural", "scene"])
        book.declare_purpose("search", title="S", description="D")
        assert book.import_file(shared / "data" / "consents.csv").new == 384
        snapshot = replace(book.snapshot("train-ai", output=tmp_path / "snapshot.parquet"), max_age=timedelta(days=36500))
        yield Real(book, shared / "data", told["shards"], snapshot, request)
        book.fsck()


def _counts(run: ledger.Run) -> dict[str, dict[str, int]]:
    return {shard.output: {"allowed": shard.rows_kept, **shard.rows_dropped} for shard in run.record.shards}


def plain(real: Real, folder: str, output: Path) -> None:
    run = real.consent(folder).filter_shards([real.data / folder], output, key=real.book.run_key(), admit=real.book.admit)
    assert _counts(run) == {shard.name: counts for shard, counts in real.shards(folder)}


def s3(real: Real, folder: str, output: Path) -> None:
    """In and out, and then fetched as anyone would."""
    bucket = real.request.getfixturevalue("bucket")
    for shard, _ in real.shards(folder):
        bucket.put(f"raw/{folder}/{shard.name}", shard)
    address = bucket.address(f"train/{folder}")
    run = real.consent(folder).filter_shards(
        [bucket.address(f"raw/{folder}")], address, key=real.book.run_key(), admit=real.book.admit
    )
    assert _counts(run) == {shard.name: counts for shard, counts in real.shards(folder)}
    ledger.verify(address, trust=real.book.trust)
    assert real.consent(folder).audit_shards([address]).compliant
    output.mkdir(parents=True)
    for shard, _ in real.shards(folder):
        (output / shard.name).write_bytes(bucket.get(f"train/{folder}/{shard.name}"))
    output.with_name(f"{folder}.intoto.jsonl").write_bytes(bucket.get(f"train/{folder}.intoto.jsonl"))


def spark(real: Real, folder: str, output: Path) -> None:
    from ledger.integrations import spark as for_spark

    session, columns = real.request.getfixturevalue("spark"), real.consent(folder).columns
    for shard, counts in real.shards(folder):
        rows = session.read.parquet(f"file://{shard}")
        assert for_spark.counts(rows, real.snapshot, columns) == counts
        for_spark.filter(rows, real.snapshot, columns).write.parquet(f"file://{output / shard.stem}")


def ray(real: Real, folder: str, output: Path) -> None:
    from ledger.integrations.ray import consent_filter, counts

    ray, consent = real.request.getfixturevalue("ray"), real.consent(folder)
    for shard, expected in real.shards(folder):
        rows = ray.data.read_parquet(str(shard))
        assert counts(rows, consent) == expected
        consent_filter(rows, consent).write_parquet(str(output / shard.stem))


def datatrove(real: Real, folder: str, output: Path) -> None:
    logger.disable("datatrove")
    for shard, counts in real.shards(folder):
        step = Step(real.consent(folder, "metadata."))
        text = {"speeches": "text", "plays": "title"}[folder]
        reader = ParquetReader(str(shard.parent), text_key=text, id_key="", glob_pattern=shard.name)
        writer = ParquetWriter(str(output), output_filename=f"{shard.stem}.parquet", compression="zstd")
        for _ in writer(step(reader())):
            pass
        told = {name: int(stat.total) for name, stat in step.stats.stats.items()}
        dropped = {name.removeprefix("dropped_"): n for name, n in told.items() if name.startswith("dropped_")}
        assert {"allowed": told["forwarded"], **dropped} == counts
    logger.enable("datatrove")


def hugging_face(real: Real, folder: str, output: Path) -> None:
    datasets.disable_progress_bars()
    consent = real.consent(folder)
    for shard, counts in real.shards(folder):
        rows = datasets.Dataset.from_parquet(str(shard), cache_dir=str(output.parent / "cache"))
        for form in (rows, rows.to_iterable_dataset()):
            assert for_datasets.counts(form, consent) == counts
        kept = for_datasets.consent_filter(rows, consent)
        streamed = for_datasets.consent_filter(rows.to_iterable_dataset(), consent)
        assert [row["content_id"] for row in streamed] == kept["content_id"][:]
        kept.to_parquet(output / shard.name)


@pytest.mark.parametrize("path", [plain, s3, spark, ray, datatrove, hugging_face], ids=lambda path: path.__name__)
def test_rows_reasons_and_a_proof(real: Real, tmp_path: Path, path: Callable[[Real, str, Path], None]) -> None:
    prefix = "metadata." if path is datatrove else ""
    for folder in COLUMNS:
        output = tmp_path / "train" / folder
        output.parent.mkdir(exist_ok=True)
        path(real, folder, output)
        consent = real.consent(folder)
        expected = sorted(
            row for shard, _ in real.shards(folder) for row in consent(pq.read_table(shard))["content_id"].to_pylist()
        )
        written = pad.dataset(output, format="parquet").to_table()
        found = written["metadata"].combine_chunks().field("content_id") if prefix else written["content_id"]
        assert sorted(found.to_pylist()) == expected
        if path not in (plain, s3):
            seal = real.consent(folder, prefix).attest_shards(output, key=real.book.run_key(), admit=real.book.admit)
            assert seal.statement is not None
        ledger.verify(output, trust=real.book.trust)
        rows = ledger.open_shards(output, trust=real.book.trust, purpose="train-ai", max_age=timedelta(days=1))
        assert sum(batch.num_rows for batch in rows) == len(expected)
