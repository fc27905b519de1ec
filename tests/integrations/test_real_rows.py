"""Real speeches and plays through Ray Data, datatrove and Hugging Face datasets: the counts of an independent program."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
from datatrove.pipeline.readers import ParquetReader
from datatrove.utils.logging import logger

import ledger
from ledger import times
from ledger.integrations import datasets as for_datasets
from ledger.integrations.datatrove import ConsentFilter as Step
from ledger.snapshot import Snapshot

SPEECHES = {"subject": "user_id", "content": "content_id", "category": "category", "created": "created_at"}
PLAYS = {"subject": "participants", "content": "content_id", "category": "=scene"}


def filters(snapshot: Snapshot, at: Any, prefix: str = "") -> dict[str, ledger.ConsentFilter]:
    """By folder. prefix: before each column's name."""
    made = {}
    for folder, columns in (("speeches", SPEECHES), ("plays", PLAYS)):
        named = {kind: name if name.startswith("=") else prefix + name for kind, name in columns.items()}
        made[folder] = ledger.ConsentFilter(snapshot, ledger.Columns(**named), at)  # type: ignore[arg-type]
    return made


@pytest.fixture
def real(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Snapshot, Any, dict[str, Any]]]:
    """The folder, the answers at the moment that the expected counts speak of, that moment, and the counts.

    The answers may be old: other processes have a clock of their own.
    """
    expected = json.loads((shared / "data" / "expected.json").read_text(encoding="utf-8"))
    at = times.read(expected["moment"])
    real_now, began = times.now, times.now()
    with monkeypatch.context() as clock:
        clock.setattr(times, "now", lambda: at + (real_now() - began))
        with ledger.create(tmp_path / "consent-ledger") as book:
            book.declare_purpose("train-ai", title="T", description="D", categories=["address", "inaugural", "scene"])
            book.declare_purpose("search", title="S", description="D")
            book.import_file(shared / "data" / "consents.csv")
            snapshot = book.snapshot("train-ai", output=tmp_path / "snapshot.parquet")
        decided_at = times.now()
    yield shared / "data", replace(snapshot, max_age=timedelta(days=36500)), decided_at, expected["shards"]


def kept(data: Path, shard: str, consent: ledger.ConsentFilter) -> list[str]:
    return consent(pq.read_table(data / shard))["content_id"].to_pylist()  # type: ignore[no-any-return]


def test_hugging_face_datasets(real: Any, tmp_path: Path) -> None:
    data, snapshot, at, expected = real
    consents = filters(snapshot, at)
    datasets.disable_progress_bars()
    for shard, counts in expected.items():
        consent = consents[shard.partition("/")[0]]
        whole = datasets.Dataset.from_parquet(str(data / shard), cache_dir=str(tmp_path / "cache"))
        for ds in (whole, whole.to_iterable_dataset()):
            assert for_datasets.counts(ds, consent) == counts
            rows = for_datasets.consent_filter(ds, consent)
            assert [row["content_id"] for row in rows] == kept(data, shard, consent)
        for_datasets.consent_filter(whole, consent).to_parquet(tmp_path / "out" / shard)
    for folder, consent in consents.items():
        assert consent.audit_shards([tmp_path / "out" / folder]).compliant


def test_datatrove(real: Any) -> None:
    data, snapshot, at, expected = real
    consents, nested = filters(snapshot, at), filters(snapshot, at, "metadata.")
    logger.disable("datatrove")
    for shard, counts in expected.items():
        folder, _, name = shard.partition("/")
        step = Step(nested[folder])
        text = {"speeches": "text", "plays": "title"}[folder]
        reader = ParquetReader(str(data / folder), text_key=text, id_key="", glob_pattern=name)
        assert [document.metadata["content_id"] for document in step(reader())] == kept(data, shard, consents[folder])
        told = {
            label.removeprefix("dropped_"): int(stat.total) for label, stat in step.stats.stats.items() if "dropped_" in label
        }
        assert {"allowed": int(step.stats.stats["forwarded"].total), **told} == counts
    logger.enable("datatrove")


def test_ray_data(ray: Any, real: Any, tmp_path: Path) -> None:
    from ledger.integrations.ray import consent_filter, counts

    data, snapshot, at, expected = real
    for folder, consent in filters(snapshot, at).items():
        shards = [shard for shard in expected if shard.startswith(folder)]
        ds = ray.data.read_parquet(str(data / folder))
        total = {reason: sum(expected[s].get(reason, 0) for s in shards) for s in shards for reason in expected[s]}
        assert counts(ds, consent) == total
        consent_filter(ds, consent).write_parquet(str(tmp_path / folder))
        written = pq.read_table(tmp_path / folder)["content_id"].to_pylist()
        assert sorted(written) == sorted(c for shard in shards for c in kept(data, shard, consent))
        assert consent.audit_shards([tmp_path / folder]).compliant
