"""Selections: `WORKLOAD=DIR PEERS=peers.py python -m tests.benchmarks.selections`.

- Making one, and making it again into the same folder, beside what the peers take to filter the same shards. Start-up, statement
  and the log's entry are measured; the peers' start-up is not.
- Reading the allowed rows of the shards by it, beside reading all rows of the same shards bare: Arrow's batches come out of both,
  and nothing is done with them.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks import rewrite

READERS = ("selected", "bare")


def measure(workload: Path, rounds: int, peers: Path) -> dict[str, Any]:
    """Medians of seconds and of ratios of pairs. Raises SystemExit for wrong rows."""
    folder = rewrite.prepare(workload.resolve())
    expected = json.loads((workload / "expected.json").read_text(encoding="utf-8"))
    sides = ("select", "again", *rewrite.PEERS)
    measured: dict[str, list[float]] = {name: [] for name in (*sides, *READERS, "selected_cpu", "bare_cpu")}
    for number in range(rounds):
        _clear(folder / "plain")
        made = [peer for peer in rewrite.PEERS if number % 2] + ["select", "again"]
        for side in [*made, *(peer for peer in rewrite.PEERS if peer not in made)]:
            if side in rewrite.PEERS:
                seconds = float(rewrite.peer(peers.resolve(), folder / "plain", side, expected["kept"])["seconds"])
            else:
                seconds = _select(folder, expected)
            measured[side].append(seconds)
            print(json.dumps({"side": side, "round": number, "seconds": seconds}), flush=True)
        for side in READERS[:: 1 if number % 2 else -1]:
            told = _read(side, folder)
            if told["rows"] != (expected["kept"] if side == "selected" else expected["rows"]):
                raise SystemExit(f"{side} read {told['rows']} rows")
            measured[side].append(told["seconds"])
            measured[f"{side}_cpu"].append(told["cpu"])
            print(json.dumps({"side": side, "round": number, **told}), flush=True)
    _clear(folder / "plain")
    peer = [min(pair) for pair in zip(*(measured[name] for name in rewrite.PEERS), strict=True)]
    return {
        "seconds": {name: statistics.median(several) for name, several in measured.items()},
        "ratio": _ratio(peer, measured["select"]),
        "ratio_again": _ratio(peer, measured["again"]),
        "read_to_bare": _ratio(measured["selected"], measured["bare"]),
        "read_to_bare_cpu": _ratio(measured["selected_cpu"], measured["bare_cpu"]),
        "measured": measured,
    }


def _ratio(one: list[float], other: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def _clear(folder: Path) -> None:
    shutil.rmtree(folder / "sel", ignore_errors=True)
    (folder / "sel.intoto.jsonl").unlink(missing_ok=True)


def _select(folder: Path, expected: dict[str, Any]) -> float:
    book = folder / "consent-ledger"
    command = [sys.executable, "-m", "ledger.cli", "--ledger", str(book), "select", "shards", "-o", "sel", *rewrite.KEYS]
    command += ["--snapshot", str(folder / "plain.parquet"), "--max-age", "3650d", "--format", "json"]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder / "plain", capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(done.stderr)
    if (allowed := {shard["name"]: shard["rows_kept"] for shard in json.loads(done.stdout)["shards"]}) != expected["shards"]:
        raise SystemExit(f"the selection allows {allowed}, and should {expected['shards']}")
    return seconds


def _read(side: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.selections", side, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _bare(folder: Path) -> int:
    import pyarrow.parquet as pq

    shards = sorted((folder / "plain" / "shards").glob("*.parquet"))
    return sum(batch.num_rows for shard in shards for batch in pq.ParquetFile(shard).iter_batches())


def _selected(folder: Path) -> int:
    from datetime import timedelta

    import ledger

    rows = ledger.open_shards(
        folder / "plain" / "shards",
        selection=folder / "plain" / "sel",
        trust=folder / "consent-ledger" / "trust",
        purpose="train-ai",
        max_age=timedelta(days=3650),
    )
    return sum(batch.num_rows for batch in rows)


def read(side: str, folder: Path) -> None:
    """In a process of its own; what it imports is there before the clock runs, as with the peers."""
    import pyarrow.parquet  # noqa: F401

    import ledger.gate
    import ledger.selected  # noqa: F401

    work: Callable[[Path], int] = {"bare": _bare, "selected": _selected}[side]
    began, used = time.perf_counter(), _cpu()
    rows = work(folder)
    print(json.dumps({"rows": rows, "seconds": time.perf_counter() - began, "cpu": _cpu() - used}))


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    told = measure(Path(os.environ["WORKLOAD"]), int(os.environ.get("ROUNDS", "5")), Path(os.environ["PEERS"]))
    print(
        f"a selection is made {told['ratio']:.2f}x as fast as the faster peer's filter, again {told['ratio_again']:.2f}x; "
        f"reading by it takes {told['read_to_bare']:.2f}x the time of reading bare ({told['read_to_bare_cpu']:.2f}x of the CPU)"
    )


if __name__ == "__main__":
    main() if len(sys.argv) == 1 else read(sys.argv[1], Path(sys.argv[2]))
