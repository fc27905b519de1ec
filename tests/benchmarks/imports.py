"""Bulk import and fsck, beside the bare `sqlite3` module: `WORKLOAD=DIR python -m tests.benchmarks.imports`, as for `make bench`.

The bare side inserts the rows that the import made, with all that the tables `entries` and `openings` hold of them, into one
plain table in one transaction: nothing is read, checked, hashed, signed or indexed. Both sides are processes of their own and
take turns, ROUNDS (default 5) times. Their whole time counts; of the bare side, which must fetch its rows first, the
insertion alone.
EVENTS=N takes the first N events. Prints a line of JSON a measurement, then the medians.
"""

from __future__ import annotations

import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

_ENTRIES = ("position", "entry", "tag", "body")
_OPENINGS = ("salt", "canonical", "act", "event_id", "subject_id", "lookalike", "state", "category", "content_id")


def bare(ledger: Path, table: Path) -> float:
    """Seconds in which the rows of a ledger's database go into a new one."""
    columns = ", ".join([*(f"e.{name}" for name in _ENTRIES), *(f"o.{name}" for name in _OPENINGS)])
    source = sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)
    rows = source.execute(f"SELECT {columns} FROM entries e JOIN openings o USING (position) ORDER BY position").fetchall()
    source.close()
    began = time.perf_counter()
    plain = sqlite3.connect(table)
    plain.execute(f"CREATE TABLE plain ({', '.join((*_ENTRIES, *_OPENINGS))})")
    with plain:
        plain.executemany(f"INSERT INTO plain VALUES ({', '.join('?' * len(rows[0]))})", rows)
    plain.close()
    return time.perf_counter() - began


def measure(workload: Path, rounds: int, events: int | None = None) -> dict[str, Any]:
    """events: of the workload; None means all. The medians, in events a second, and the median of the rounds' ratios."""
    measured: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR"), prefix="imports-") as name:
        folder = Path(name)
        file = folder / "events.parquet"
        table = pq.read_table(workload / "events.parquet").slice(0, events)
        pq.write_table(table, file, compression="zstd")
        for number in range(rounds):
            seconds = _round(folder / str(number), file)
            rates = {side: table.num_rows / taken for side, taken in seconds.items()}
            measured.append(
                {"round": number, "events": table.num_rows, "seconds": seconds, "ratio": rates["import"] / rates["bare"]}
            )
            print(json.dumps(measured[-1]), flush=True)
    return {
        "events": table.num_rows,
        "rounds": rounds,
        **{f"{side}_per_second": table.num_rows / statistics.median(m["seconds"][side] for m in measured) for side in seconds},
        "import_to_bare": statistics.median(m["ratio"] for m in measured),
    }


def _round(folder: Path, file: Path) -> dict[str, float]:
    """Seconds by side."""
    folder.mkdir()
    _consent(folder, "init")
    _consent(folder, "purpose", "add", "train-ai", "--title", "T", "--description", "D")
    seconds = {"import": _consent(folder, "import", str(file))}
    database = folder / "consent-ledger" / "ledger.db"
    again = [sys.executable, "-m", "tests.benchmarks.imports", str(database), str(folder / "plain.db")]
    told = subprocess.run(again, check=True, capture_output=True, text=True)
    seconds["bare"] = float(told.stdout)
    seconds["fsck"] = _consent(folder, "fsck")
    for path in (database, folder / "plain.db"):
        path.unlink()
    return seconds


def _consent(folder: Path, *arguments: str) -> float:
    began = time.perf_counter()
    process = subprocess.run([sys.executable, "-m", "ledger.cli", *arguments], cwd=folder, capture_output=True, text=True)
    if process.returncode:
        raise SystemExit(process.stderr)
    return time.perf_counter() - began


def main() -> None:
    if len(sys.argv) == 3:
        print(bare(Path(sys.argv[1]), Path(sys.argv[2])))
        return
    events = os.environ.get("EVENTS")
    workload, rounds = Path(os.environ["WORKLOAD"]), int(os.environ.get("ROUNDS", "5"))
    found = measure(workload, rounds, None if events is None else int(events))
    print(json.dumps(found))
    for side in ("import", "bare", "fsck"):
        print(f"{side:<8} {found[f'{side}_per_second']:>10,.0f} events/s")
    print(f"import runs at {found['import_to_bare']:.2f}x the rate of the bare insertion")


if __name__ == "__main__":
    main()
