"""Rows and events a second on a workload, side by side with other engines: `make bench WORKLOAD=DIR PEERS=peers.py`.

The workload is a folder with shards/, events.parquet and expected.json; peers.py is called with the folder and a peer's name, and
prints a line of JSON with its seconds. Each side is its own process; filter and peers alternate, and medians are compared.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq

KEYS = ("--subject", "user_id", "--content", "post_id")


def consent(folder: Path, *arguments: str) -> float:
    began = time.perf_counter()
    process = subprocess.run([sys.executable, "-m", "ledger.cli", *arguments], cwd=folder, capture_output=True, text=True)
    if process.returncode not in (0, 3):
        raise SystemExit(process.stderr)
    return time.perf_counter() - began


def main() -> None:
    workload, peers = Path(os.environ["WORKLOAD"]).resolve(), Path(os.environ["PEERS"]).resolve()
    rounds = int(os.environ.get("ROUNDS", "5"))
    expected = json.loads((workload / "expected.json").read_text(encoding="utf-8"))
    folder = workload / "bench"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    consent(folder, "init")
    consent(folder, "purpose", "add", "train-ai", "--title", "T", "--description", "D")
    events, rows = expected["events"], expected["rows"]
    seconds = consent(folder, "import", str(workload / "events.parquet"))
    print(f"import    {events / seconds:>12,.0f} events/s  ({events:,} events in {seconds:.1f} s)")
    seconds = consent(folder, "fsck")
    print(f"fsck      {events / seconds:>12,.0f} events/s")
    seconds = consent(folder, "snapshot", "--purpose", "train-ai", "-o", "s.parquet")
    print(f"snapshot  {events / seconds:>12,.0f} events/s")
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        shutil.rmtree(folder / "out", ignore_errors=True)
        (folder / "out.journal.jsonl").unlink(missing_ok=True)
        times.setdefault("filter", []).append(
            consent(folder, "filter", str(workload / "shards"), "-o", "out", "--snapshot", "s.parquet", *KEYS)
        )
        kept = {path.name: pq.ParquetFile(path).metadata.num_rows for path in (folder / "out").glob("*.parquet")}
        if kept != expected["shards"]:
            raise SystemExit(f"kept rows differ from expected.json: {kept}")
        times.setdefault("audit", []).append(consent(folder, "audit", str(workload / "shards"), "--snapshot", "s.parquet", *KEYS))
        for peer in ("polars", "duckdb"):
            told = subprocess.run([sys.executable, str(peers), str(workload), peer], check=True, capture_output=True, text=True)
            times.setdefault(peer, []).append(json.loads(told.stdout.splitlines()[-1])["seconds"])
    for name, measured in times.items():
        median = statistics.median(measured)
        print(f"{name:<9} {rows / median:>12,.0f} rows/s    median {median:.2f} s of {min(measured):.2f}–{max(measured):.2f}")
    faster = min(statistics.median(times[peer]) for peer in ("polars", "duckdb"))
    for name in ("filter", "audit"):
        print(f"{name} is {faster / statistics.median(times[name]):.2f}x as fast as the faster peer's filter")


if __name__ == "__main__":
    main()
