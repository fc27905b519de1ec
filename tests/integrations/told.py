"""The lines that docs/integrations.md tells, run in a folder that has what they name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import ledger
from tests.conftest import ROOT, yes

TEXT = (ROOT / "docs" / "integrations.md").read_text(encoding="utf-8")


def run(heading: str, folder: Path, monkeypatch: Any) -> dict[str, Any]:
    """The names that are there after the page's first lines and the section's. ann said yes to all, bob to nothing."""
    monkeypatch.chdir(folder)
    with ledger.create("consent-ledger") as book:
        book.declare_purpose("train-ai", title="T", description="D")
        book.record(yes("ann"))
        book.withdraw("ann", content_id="2")
        book.snapshot("train-ai", output="train-ai.parquet")
    Path("trust").write_bytes(Path("consent-ledger/trust").read_bytes())
    Path("raw").mkdir()
    Path("train").mkdir()
    posts = {"user_id": ["ann", "ann", "bob"], "post_id": ["1", "2", "3"], "text": ["a post", "taken back", "another's"]}
    pq.write_table(pa.table(posts), "raw/posts.parquet")
    section = re.split(r"^## ", TEXT.partition(f"\n## {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    names: dict[str, Any] = {}
    for lines in (TEXT.partition("\n## ")[0], section):
        (code,) = re.findall(r"```python\n(.*?)```", lines, flags=re.DOTALL)
        code = code.replace('"/data/', f'"{folder}/')
        exec(compile(code, f"docs/integrations.md, {heading}", "exec"), names)
    return names
