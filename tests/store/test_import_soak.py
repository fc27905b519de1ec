"""Two million lines in bounded memory. Run by `make soak`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import ledger

pytestmark = pytest.mark.soak

ALLOWED_GROWTH = 48 << 20
"""Between one and two million lines, both of which fill the cache of pages: SQLite's index of its write-ahead log grows."""

IMPORT = """
import json, re, sys, ledger
with ledger.open("consent-ledger") as book:
    report = book.import_file(sys.argv[1], rejects="bad.csv", max_reversals=10**6)
# Not ru_maxrss, which a process has from the one that started it.
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) << 10
print(json.dumps({**report.document(), "rss": peak}))
"""


def _import(folder: Path, lines: int) -> dict[str, int]:
    folder.mkdir()
    with ledger.create(folder / "consent-ledger") as book:
        book.declare_purpose("train-ai", title="T", description="D")
    with (folder / "acts.csv").open("w", encoding="utf-8") as file:
        file.write("state,subject_id,content_id,purposes,occurred_at,channel\n")
        for i in range(lines):
            # Of each ten lines one is a no, and its person says yes later; one in a thousand is bad.
            who, state = (i - 5, "given") if i % 10 == 9 else (i, "withdrawn" if i % 10 == 4 else "given")
            item = f"p{i}" if i % 3 == 0 else ""
            moment = f"2026-0{1 + i % 9}-02T03:{i % 60:02}:00Z" if i % 1000 != 998 else "never"
            file.write(f"{state},user-{who},{item},train-ai,{moment},web\n")
    line = [sys.executable, "-c", IMPORT, "acts.csv"]
    printed = subprocess.run(line, cwd=folder, check=True, capture_output=True, text=True).stdout
    report: dict[str, int] = json.loads(printed)
    assert report["new"] + report["rejected"] == lines
    assert ledger.fsck(folder / "consent-ledger").events == report["new"]
    return report


def test_two_million_lines_in_bounded_memory(tmp_path: Path) -> None:
    few, many = (_import(tmp_path / str(lines), lines) for lines in (1_000_000, 2_000_000))
    grown = many["rss"] - few["rss"]
    print(f"{few['rss'] >> 20} MiB for 1,000,000 lines, {many['rss'] >> 20} MiB for 2,000,000; {many['reversals']:,} reversals")
    assert many["rejected"] == 2000
    assert grown < ALLOWED_GROWTH
