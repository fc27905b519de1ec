"""What docs/integrations.md says of object stores, PostgreSQL, a cluster's ranks and training, run as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import ledger
from tests.conftest import ROOT, Bucket, yes

TEXT = (ROOT / "docs" / "integrations.md").read_text(encoding="utf-8")


def _lines(heading: str, language: str) -> str:
    section = re.split(r"^## ", TEXT.partition(f"\n## {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    found = re.findall(rf"```{language}\n(.*?)```", section, flags=re.DOTALL)
    assert len(found) == 1, heading
    return str(found[0])


def _sh(script: str) -> None:
    done = subprocess.run(["sh", "-ec", script], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With `consent` on the path, shards of ann and bob, and a ledger in which ann said yes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CONSENT_LEDGER", raising=False)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    Path("raw").mkdir()
    for number in range(3):
        pq.write_table(pa.table({"user_id": ["ann", "bob"], "post_id": ["1", "2"]}), f"raw/{number}.parquet")
    with ledger.create("consent-ledger") as book:
        book.declare_purpose("train-ai", title="T", description="D")
        book.record(yes("ann"))
        book.snapshot("train-ai", output="train-ai.parquet")
    _sh("consent key add-run spark -o spark.key && cp consent-ledger/trust trust")
    return tmp_path


def test_from_a_bucket_into_a_bucket(folder: Path, bucket: Bucket) -> None:
    for number in range(3):
        bucket.put(f"raw/{number}.parquet", folder / "raw" / f"{number}.parquet")
    _sh(_lines("Object stores", "sh").replace("s3://shards/", bucket.address()))
    for number in range(3):
        assert pq.read_table(pa.BufferReader(bucket.get(f"train/{number}.parquet")))["user_id"].to_pylist() == ["ann"]


def test_a_ledger_on_postgresql(folder: Path, new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", new_database())
    acts = "state,subject_id,purposes,occurred_at\ngiven,ann,train-ai,2026-01-08T15:10:13Z\n"
    Path("acts.csv").write_text(acts, encoding="utf-8")
    _sh(_lines("PostgreSQL", "sh"))
    answers = ledger.load_snapshot("train-ai.parquet", trust="shared/trust")
    consent = ledger.ConsentFilter(answers, ledger.Columns(subject="user_id"))
    assert consent(pq.read_table("raw/0.parquet"))["user_id"].to_pylist() == ["ann"]


def test_ranks_then_a_seal_then_training(folder: Path) -> None:
    ranks = _lines("A cluster's ranks", "sh")
    _sh(ranks)

    batches: list[Any] = []
    exec(_lines("Training", "python"), {"ledger": ledger, "learn": batches.append})
    assert [batch["user_id"].to_pylist() for batch in batches] == [["ann"]] * 3
