"""From the README to a page that says no: its block, line by line, and a press of the button."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ledger

ROOT = Path(__file__).resolve().parents[2]


def test_the_readme_leads_to_a_working_one_click_page(serve: Callable[..., Any], chromium: Any, tmp_path: Path) -> None:
    blocks = (ROOT / "README.md").read_text(encoding="utf-8").split("```")[1::2]
    lines = next(block for block in blocks if " demo --folder" in block).splitlines()[1:]
    commands = [shlex.split(line.removeprefix("$ .venv/bin/consent ")) for line in lines]
    assert [command[-1] for command in commands] == ["demo", "train-ai", "serve"]
    said = [
        subprocess.run(
            [sys.executable, "-m", "ledger.cli", *command], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout
        for command in commands[:2]
    ]
    link = said[1].strip()
    folder = tmp_path / commands[2][1]
    served = serve(folder)
    page = chromium.new_page()
    # The README's server has the default port; this one any that is free.
    page.goto(re.sub(r"^http://127\.0\.0\.1:8080", served.url, link))
    page.get_by_role("button").click()
    assert "receipt" in page.inner_text("main").lower()
    page.close()
    with ledger.open(folder) as book:
        decisions = {d["purpose"]: d["reason"] for d in book.show("ann")["decisions"] if d["content_id"] is None}
    assert decisions == {"train-ai@1": "withdrawn"}
