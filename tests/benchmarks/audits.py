"""An audit beside what the peers take to filter the same shards: `WORKLOAD=DIR PEERS=peers.py python -m tests.benchmarks.audits`.

An audit reads the key columns alone and writes nothing. Its start-up is measured, the peers' is not.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.benchmarks import rewrite


def measure(workload: Path, rounds: int, peers: Path) -> dict[str, Any]:
    """Medians of seconds, and how often an audit is done in the time of the faster peer. Raises SystemExit for wrong rows."""
    folder = rewrite.prepare(workload.resolve())
    expected = json.loads((workload / "expected.json").read_text(encoding="utf-8"))
    measured: dict[str, list[float]] = {name: [] for name in ("audit", *rewrite.PEERS)}
    for number in range(rounds):
        for side in [*measured][number % 3 :] + [*measured][: number % 3]:
            if side == "audit":
                measured[side].append(_audit(folder, expected))
            else:
                measured[side].append(float(rewrite.peer(peers.resolve(), folder / "plain", side, expected["kept"])["seconds"]))
            print(json.dumps({"side": side, "round": number, "seconds": measured[side][-1]}), flush=True)
    seconds = {side: statistics.median(several) for side, several in measured.items()}
    pairs = zip(measured["audit"], *(measured[peer] for peer in rewrite.PEERS), strict=True)
    return {"seconds": seconds, "ratio": statistics.median(min(peer) / ours for ours, *peer in pairs), "measured": measured}


def _audit(folder: Path, expected: dict[str, Any]) -> float:
    command = [sys.executable, "-m", "ledger.cli", "audit", "shards", "--trust", str(folder / "consent-ledger" / "trust")]
    command += [*rewrite.KEYS, "--snapshot", str(folder / "plain.parquet"), "--max-age", "3650d", "--format", "json"]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder / "plain", capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode != 3:
        raise SystemExit(done.stderr)
    allowed = {Path(s["path"]).name: s["rows"] - s["rows_without_consent"] for s in json.loads(done.stdout)["shards"]}
    if allowed != expected["shards"]:
        raise SystemExit(f"the audit allows {allowed}, and should {expected['shards']}")
    return seconds


def main() -> None:
    told = measure(Path(os.environ["WORKLOAD"]), int(os.environ.get("ROUNDS", "5")), Path(os.environ["PEERS"]))
    print(f"an audit is {told['ratio']:.2f}x as fast as the faster peer's filter: {told['seconds']}")


if __name__ == "__main__":
    main()
