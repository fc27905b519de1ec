"""`make bench`: makes the workload, measures our side beside the peers, and writes docs/benchmarks.

BENCH: the folder of make_shards.py and peers.py. WORKLOAD: where the workload is, or is made. ROUNDS: pairs of each
measurement (default 5). Whatever is kept is compared with expected.json; where it differs, nothing is written.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.benchmarks import appends, audits, imports, report, reruns, rewrite, selections


def main() -> None:
    bench, workload = Path(os.environ["BENCH"]).resolve(), Path(os.environ["WORKLOAD"]).resolve()
    rounds = int(os.environ.get("ROUNDS", "5"))
    if not (bench / "make_shards.py").is_file():
        sys.exit(f"{bench} has no make_shards.py and peers.py: name their folder, as in make bench BENCH=DIR")
    if not (workload / "expected.json").is_file():
        subprocess.run([sys.executable, str(bench / "make_shards.py"), str(workload)], check=True)
    peers = bench / "peers.py"
    results = {
        "workload": json.loads((workload / "expected.json").read_text(encoding="utf-8")),
        "rounds": rounds,
        "rewrite": rewrite.measure(workload, rounds, peers),
        "audit": audits.measure(workload, rounds, peers),
        "selection": selections.measure(workload, rounds, peers),
        "rerun": reruns.measure(workload, rounds),
        "import": imports.measure(workload, rounds),
        "appends": appends.measure(rounds, 3),
    }
    (workload / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    report.write(results, Path(__file__).resolve().parents[2] / "docs" / "benchmarks")


if __name__ == "__main__":
    main()
