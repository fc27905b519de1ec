"""What docs/integrations.md says of a cluster's ranks and of training, run as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import ledger
from tests.conftest import ROOT, yes

TEXT = (ROOT / "docs" / "integrations.md").read_text(encoding="utf-8")


def _lines(heading: str, language: str) -> str:
    section = re.split(r"^## ", TEXT.partition(f"\n## {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    found = re.findall(rf"```{language}\n(.*?)```", section, flags=re.DOTALL)
    assert len(found) == 1, heading
    return str(found[0])


def test_ranks_then_a_seal_then_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    ranks = _lines("A cluster's ranks", "sh")
    made = "consent key add-run spark -o spark.key && cp consent-ledger/trust trust"
    done = subprocess.run(["sh", "-ec", f"{made}\n{ranks}"], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()

    batches: list[Any] = []
    exec(_lines("Training", "python"), {"ledger": ledger, "learn": batches.append})
    assert [batch["user_id"].to_pylist() for batch in batches] == [["ann"]] * 3
