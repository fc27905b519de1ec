"""`make guard`: whether we are as fast beside the peers as was recorded, on a small workload that is made anew.

BENCH: the folder of make_shards.py and peers.py; without it nothing can be measured, and that is said. recorded.json has the
ratios, as often as ours is done in the time of the other side; one counts as lost below SHARE of what was recorded. Machines are
noisy, so that what falls below is measured again, TRIES times in all, and passes with the first ratio that is not below.
--record writes recorded.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks import audits, imports, rewrite

ROWS, SHARDS, SUBJECTS = 400_000, 4, 100_000
ROUNDS, TRIES, SHARE = 3, 4, 0.8
RECORDED = Path(__file__).parent / "recorded.json"


def ratios_of(workload: Path, peers: Path) -> dict[str, Callable[[], float]]:
    """What measures each."""
    return {
        **{name: lambda name=name: _rewrite(workload, peers, name) for name in (rewrite.PLAIN, rewrite.NONE)},
        "audit": lambda: float(audits.measure(workload, ROUNDS, peers)["ratio"]),
        "import": lambda: float(imports.measure(workload, ROUNDS)["import_to_bare"]),
    }


def _rewrite(workload: Path, peers: Path, variant: str) -> float:
    return float(rewrite.measure(workload, ROUNDS, peers, (variant,))[variant]["ratio_of_pairs"])


def lost(measure: Callable[[], float], recorded: float) -> list[float]:
    """All that was measured, where none of it is as fast as recorded; else nothing."""
    found = []
    for _ in range(TRIES):
        found.append(measure())
        if found[-1] >= SHARE * recorded:
            return []
    return found


def main() -> int:
    bench = Path(os.environ["BENCH"]).resolve()
    if not (bench / "make_shards.py").is_file():
        print(f"nothing was measured: {bench} has no make_shards.py and peers.py")
        return 0
    recording = "--record" in sys.argv[1:]
    if not recording and not RECORDED.exists():
        print("nothing is recorded yet: python -m tests.benchmarks.guard --record, on a quiet machine")
        return 1
    with tempfile.TemporaryDirectory(prefix="guard-") as folder:
        workload = Path(folder)
        size = ["--rows", str(ROWS), "--shards", str(SHARDS), "--subjects", str(SUBJECTS)]
        subprocess.run([sys.executable, str(bench / "make_shards.py"), str(workload), *size], check=True, stdout=sys.stderr)
        measures = ratios_of(workload, bench / "peers.py")
        if recording:
            RECORDED.write_text(json.dumps({name: round(one(), 3) for name, one in measures.items()}, indent=1) + "\n")
            return 0
        recorded: dict[str, float] = json.loads(RECORDED.read_text(encoding="utf-8"))
        slower = {name: found for name, one in measures.items() if (found := lost(one, recorded[name]))}
    for name, found in slower.items():
        print(f"{name}: {', '.join(f'{ratio:.2f}' for ratio in found)} where {recorded[name]:.2f} was recorded", file=sys.stderr)
    print(f"{len(measures) - len(slower)} of {len(measures)} ratios are at least {SHARE:g} of what was recorded")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
