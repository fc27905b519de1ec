"""`python -m tests.fuzz --seconds N [TARGET...]`: each target in a process of its own, some at a time, for N seconds in all.

What comes out that is not allowed, takes too long or too much memory is kept beside the corpus, where every test run repeats it.
--grow adds what reached something new to the corpus, as long as it stays small.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz.targets import CORPUS, MAX_BYTES, MAX_FILES, TARGETS

SECONDS, MEGABYTES, LONGEST = 5, 2048, 64 << 10
"""What one input of at most LONGEST bytes may take, instrumented and on a busy machine."""


def fuzz(name: str, seconds: int, grow: bool) -> tuple[str, int, str]:
    """(target, executions, what went wrong)."""
    kept = CORPUS / name
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        found, seeds = Path(folder) / "found", Path(folder) / "seeds"
        found.mkdir()
        seeds.mkdir()
        for number, seed in enumerate(TARGETS[name].seeds()):
            (seeds / f"{number}").write_bytes(seed)
        limits = [f"-timeout={SECONDS}", f"-rss_limit_mb={MEGABYTES}", f"-max_len={LONGEST}", f"-artifact_prefix={kept}/"]
        command = [sys.executable, "-m", "tests.fuzz.one", name]
        run = [f"-max_total_time={seconds}", "-print_final_stats=1", *limits, str(found), str(kept), str(seeds)]
        done = subprocess.run([*command, *run], capture_output=True, text=True, errors="replace", check=False)
        count = re.search(r"stat::number_of_executed_units: *(\d+)", done.stderr)
        if grow and not done.returncode:
            _grow(found, kept)
    wrong = "" if done.returncode == 0 else done.stderr[-4000:]
    return name, int(count[1]) if count else 0, wrong


def _grow(found: Path, kept: Path) -> None:
    """Keep some of what reached something new: small ones, of all sizes."""
    fresh = [path for path in (*found.iterdir(), *kept.glob("?" * 40)) if path.stat().st_size < MAX_BYTES]
    data = sorted({path.read_bytes() for path in fresh}, key=lambda one: (len(one), one))
    for path in kept.glob("?" * 40):
        path.unlink()
    for one in data[:: -(-len(data) // MAX_FILES) or 1]:
        (kept / hashlib.sha1(one).hexdigest()).write_bytes(one)  # as libFuzzer names them


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=120, help="In all, shared by the targets.")
    parser.add_argument("--jobs", type=int, default=2, help="Targets at a time.")
    parser.add_argument("--grow", action="store_true", help="Add what reached something new to the corpus.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", default=list(TARGETS))
    asked = parser.parse_args()
    if unknown := [name for name in asked.targets if name not in TARGETS]:
        parser.error(f"no target {unknown[0]!r}; there are {', '.join(TARGETS)}")
    each = max(1, asked.seconds * asked.jobs // len(asked.targets))
    wrong = 0
    with ThreadPoolExecutor(asked.jobs) as pool:
        for name, count, what in pool.map(lambda name: fuzz(name, each, asked.grow), asked.targets):
            print(f"{name:20} {count:>10,} executions" + ("" if not what else "   WRONG"), flush=True)
            if what:
                wrong += 1
                print(what, file=sys.stderr, flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
