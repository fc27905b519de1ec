"""A run done again after one withdrawal: `WORKLOAD=DIR python -m tests.benchmarks.reruns`.

SHARDS shards of ROWS rows are cut from the workload's; as often as these have to come again, their rows get other people. All are
filtered once; then one person after another withdraws, and the same command runs again. The people are drawn from those to whose
rows everything was allowed. How many shards hold one is told beside the times: so many have to be done again whatever all
else costs. What is made is removed afterwards.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import ledger
from tests.benchmarks import rewrite

SHARDS, ROWS = 1_000, 20_000
_PURPOSE = "train-ai"


def measure(workload: Path, rounds: int, shards: int = SHARDS, rows: int = ROWS) -> dict[str, Any]:
    """Seconds and processor time of the full run, of each that follows a withdrawal, and of what lists the stale shards.

    Raises SystemExit where a run after a withdrawal keeps other rows than all but that person's.
    """
    with tempfile.TemporaryDirectory(dir=workload) as temporary:
        folder = Path(temporary)
        drawn = _cut(workload, folder / "shards", shards, rows, random.Random(3).sample(_allowed(workload), rounds))
        with ledger.create(folder / "consent-ledger") as book:
            book.declare_purpose(_PURPOSE, title="T", description="D")
            book.import_file(workload / "events.parquet")
            book.snapshot(_PURPOSE, output=folder / "0.parquet")
        full = _consent(folder, 0, "filter", "shards", "-o", "out")
        kept = full["told"]["rows_kept"]
        measured: list[dict[str, Any]] = []
        for number, (person, held) in enumerate(drawn.items(), 1):
            with ledger.open(folder / "consent-ledger") as book:
                book.withdraw(person)
                book.snapshot(_PURPOSE, output=folder / f"{number}.parquet")
            stale = _consent(folder, number, "audit", "out", "--stale")
            again = _consent(folder, number, "filter", "shards", "-o", "out")
            kept -= held["rows"]
            if again["told"]["rows_kept"] != kept or stale["told"]["rows"] != held["rows"]:
                raise SystemExit(f"{again['told']['rows_kept']} rows are kept, and should be {kept}")
            one = {"held": held["shards"], "again": again, "stale": stale}
            measured.append(one)
            for side in (again, stale):
                side.pop("told")
            print(json.dumps(one), flush=True)
    full.pop("told")
    return {
        "shards": shards,
        "rows": rows,
        "held": statistics.median(one["held"] for one in measured),
        "seconds": {"full": full["seconds"]} | {side: _median(measured, side, "seconds") for side in ("again", "stale")},
        "cpu": {"full": full["cpu"]} | {side: _median(measured, side, "cpu") for side in ("again", "stale")},
        "measured": measured,
    }


def _median(measured: list[dict[str, Any]], side: str, what: str) -> float:
    return float(statistics.median(one[side][what] for one in measured))


def _allowed(workload: Path) -> list[str]:
    """People in the shards who said yes to everything and nothing else."""
    subjects, items = (pq.read_table(workload / f"{name}.parquet") for name in ("subjects", "items"))
    plain = subjects.filter((pc.field("yes") >= 0) & (pc.field("no") < 0))["user_id"].combine_chunks()
    plain = plain.filter(pc.invert(pc.is_in(plain, value_set=items["user_id"].combine_chunks())))
    there = pc.unique(pa.chunked_array([c for path in rewrite.shards(workload) for c in _users(path).chunks]))
    people: list[str] = plain.filter(pc.is_in(plain, value_set=there)).to_pylist()
    return people


def _cut(workload: Path, target: Path, shards: int, rows: int, people: list[str]) -> dict[str, dict[str, int]]:
    """How many shards hold each of these people, and how many rows they have in all."""
    target.mkdir()
    held = {person: {"shards": 0, "rows": 0} for person in people}
    rng, made = np.random.default_rng(5), 0
    while made < shards:
        for path in rewrite.shards(workload):
            for batch in pq.ParquetFile(path).iter_batches(batch_size=rows):
                if made == shards or len(batch) < rows:
                    break
                table = pa.Table.from_batches([batch])
                at = table.schema.get_field_index("user_id")
                dealt = table["user_id"].take(pa.array(rng.permutation(rows)))
                pq.write_table(table.set_column(at, "user_id", dealt), target / f"{made:05d}.parquet", compression="zstd")
                made += 1
                for person, count in zip(people, (pc.sum(pc.equal(dealt, person)).as_py() for person in people), strict=True):
                    held[person]["shards"] += count > 0
                    held[person]["rows"] += count
    return held


def _consent(folder: Path, number: int, *arguments: str) -> dict[str, Any]:
    """Its JSON, seconds from start to end, and processor time."""
    command = [sys.executable, "-m", "ledger.cli", "--ledger", "consent-ledger", *arguments, *rewrite.KEYS]
    command += ["--snapshot", f"{number}.parquet", "--max-age", "3650d", "--format", "json"]
    measured, said = rewrite.child(command, folder, codes=(0, 3))
    return measured | {"told": json.loads(said)}


def _users(path: Path) -> Any:
    return pq.read_table(path, columns=["user_id"])["user_id"]


def main() -> None:
    told = measure(Path(os.environ["WORKLOAD"]).resolve(), int(os.environ.get("ROUNDS", "5")))
    full, again, stale = (told["seconds"][side] for side in ("full", "again", "stale"))
    print(
        f"{told['shards']} shards: {full:.1f} s in full; after one withdrawal, of a person in {told['held']} of them, "
        f"{again:.1f} s, {again / full:.1%}; stale shards listed in {stale:.1f} s"
    )


if __name__ == "__main__":
    main()
