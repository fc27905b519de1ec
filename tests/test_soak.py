"""What takes long: processes killed at random moments, and many more random histories. Run by `make soak`."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import settings

import ledger
from tests.conftest import yes
from tests.shards import test_decide

pytestmark = pytest.mark.soak

KILLS = int(os.environ.get("CONSENT_LEDGER_KILLS", "40"))


@pytest.fixture
def rng() -> random.Random:
    seed = int.from_bytes(os.urandom(4), "little")
    print(f"seed {seed}")
    return random.Random(seed)


def consent(*arguments: str, where: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "ledger.cli", *arguments], cwd=where, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )


def killed_after(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    """What it printed before it was killed, or before it ended by itself."""
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    printed, _ = process.communicate()
    return printed


def test_a_killed_writer_loses_nothing_that_it_acknowledged(tmp_path: Path, rng: random.Random) -> None:
    with ledger.create(tmp_path / "consent-ledger") as book:
        book.declare_purpose("train-ai", title="T", description="D")
    acknowledged: list[str] = []
    killed = 0
    for n in range(KILLS):
        line = ("record", "given", f"u{n}", "--purpose", "train-ai", "--event-id", f"e{n}", "--format", "json")
        process = consent(*line, where=tmp_path)
        printed = killed_after(process, rng.uniform(0.2, 1.6))
        killed += process.returncode == -signal.SIGKILL
        if printed.endswith(b"}\n"):
            acknowledged.append(json.loads(printed)["event"]["event_id"])
        ledger.fsck(tmp_path / "consent-ledger")
    with ledger.open(tmp_path / "consent-ledger") as book:
        recorded = {event.event_id for _, event in book.events()}
    print(f"{killed} of {KILLS} killed, {len(acknowledged)} acknowledged, {len(recorded)} recorded")
    assert set(acknowledged) <= recorded
    assert killed


def test_a_killed_import_is_whole_or_not_there(tmp_path: Path, rng: random.Random) -> None:
    with ledger.create(tmp_path / "consent-ledger") as book:
        book.declare_purpose("train-ai", title="T", description="D")
    rows = 6000
    lines = [f"e{{0}}-{i},given,u{i},train-ai,2026-01-01T00:00:00Z" for i in range(rows)]
    before = 0
    for n in range(max(5, KILLS // 4)):
        text = "event_id,state,subject_id,purposes,occurred_at\n" + "\n".join(lines).format(n)
        (tmp_path / "acts.csv").write_text(text, encoding="utf-8")
        killed_after(consent("import", "acts.csv", where=tmp_path), rng.uniform(0.3, 3.0))
        events = ledger.fsck(tmp_path / "consent-ledger").events
        assert events in (before, before + rows)
        before = events


def test_a_killed_filter_leaves_whole_shards_and_the_next_run_finishes(tmp_path: Path, rng: random.Random) -> None:
    people = [f"u{i}" for i in range(50)]
    with ledger.create(tmp_path / "consent-ledger") as book:
        book.declare_purpose("train-ai", title="T", description="D")
        book.record_all(yes(person) for person in people[::2])
    (tmp_path / "raw").mkdir()
    for shard in range(6):
        table = pa.table(
            {"user_id": [people[i % 50] for i in range(60_000)], "text": [f"text {shard} {i}" * 5 for i in range(60_000)]}
        )
        pq.write_table(table, tmp_path / "raw" / f"{shard}.parquet", row_group_size=10_000)
    line = ("filter", "raw", "-o", "train", "--purpose", "train-ai", "--subject", "user_id")
    for _ in range(max(5, KILLS // 4)):
        killed_after(consent(*line, where=tmp_path), rng.uniform(0.5, 2.5))
        for path in (tmp_path / "train").glob("*.parquet"):
            assert pq.read_table(path).num_rows == 30_000, "a shard under its final name is whole"
        if (tmp_path / "train.intoto.jsonl").exists():
            ledger.verify(tmp_path / "train", trust=tmp_path / "consent-ledger" / "trust", allow_unlogged=True)
    last = consent(*line, where=tmp_path)
    last.communicate()
    assert last.returncode == 0
    ledger.verify(tmp_path / "train", trust=tmp_path / "consent-ledger" / "trust")
    left = [p.name for p in (tmp_path / "train").iterdir() if not p.name.endswith(".parquet")]
    assert all(name.startswith(".") for name in left), "what a killed run left is hidden from readers"
    ledger.fsck(tmp_path / "consent-ledger")


@settings(max_examples=2000, deadline=None, derandomize=False)
@test_decide.histories_and_rows
def test_many_random_histories(**case: Any) -> None:
    test_decide.fast_path_gives_the_reference_reason(**case)
