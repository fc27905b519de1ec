"""`python -m tests.fuzz --seconds N [TARGET...]`: each target in a process of its own, some at a time, for N seconds in all.

What comes out that is not allowed, takes too long or too much memory is kept beside the corpus, where every test run repeats it.
--grow adds what reached something new to the corpus, as long as it stays small.
"""

from __future__ import annotations

import argparse
import re
import shutil
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
            _grow(command, found, seeds, kept)
    wrong = "" if done.returncode == 0 else done.stderr[-4000:]
    return name, int(count[1]) if count else 0, wrong


def _grow(command: list[str], found: Path, seeds: Path, kept: Path) -> None:
    """Of what was found, the small ones that together reach most."""
    small = found.with_name("small")
    small.mkdir()
    for path in [*found.iterdir(), *kept.iterdir()]:
        if path.stat().st_size < MAX_BYTES:
            shutil.copy(path, small / path.name)
    best = found.with_name("best")
    best.mkdir()
    subprocess.run([*command, "-merge=1", str(best), str(small)], capture_output=True, check=False)
    chosen = sorted(best.iterdir(), key=lambda path: path.stat().st_size)[:MAX_FILES]
    for path in kept.iterdir():
        if not path.name.startswith(("crash-", "timeout-", "oom-")):
            path.unlink()
    for path in chosen:
        shutil.copy(path, kept / path.name)


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
