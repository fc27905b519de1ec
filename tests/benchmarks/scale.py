"""How time and space grow with a ledger and with a snapshot: `python -m tests.benchmarks.scale FOLDER`.

EVENTS and SUBJECTS: sizes in millions, such as 0.5,1,2 (by default up to 20 and 50). One ledger grows from size to size by
imports; a snapshot is made of as many subjects at once, without a ledger. Each measurement is a process of its own, so that its
peak memory is its own. Writes FOLDER/scale.json, and removes what else it made. 20 M events take about 20 GB of disk.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import ledger
from ledger import snapshot, times
from ledger.consent import Event
from ledger.shards.answers import Answers
from ledger.snapshot import NONE

MILLION = 1_000_000
MORE = 1_000
_AT = 1_700_000_000_000_000
_DAY = 86_400_000_000


def events(first: int, count: int, path: Path) -> None:
    """A yes each of as many people, of whom every tenth says no later on; ids follow on `first`."""
    people = count * 10 // 11
    ids = pa.array([f"u{number:011d}" for number in range(first, first + people)])
    at = _AT + np.random.default_rng(first).integers(0, 300 * _DAY, people)
    leaving = np.arange(0, people, 10)
    parts = [("given", ids, at), ("withdrawn", ids.take(pa.array(leaving)), at[leaving] + _DAY)]
    pq.write_table(
        pa.concat_tables(
            pa.table(
                {
                    "state": pa.repeat(state, len(who)),
                    "subject_id": who,
                    "purposes": pa.array([["train-ai"]] * len(who), pa.list_(pa.string())),
                    "occurred_at": pa.array(when, pa.timestamp("us", tz="UTC")),
                    "channel": pa.repeat("import", len(who)),
                }
            )
            for state, who, when in parts
        ),
        path,
    )


def grow(folder: Path, sizes: list[float]) -> list[dict[str, Any]]:
    """A ledger, from size to size in millions of events."""
    measured = []
    with ledger.create(folder / "ledger") as book:
        book.declare_purpose("train-ai", title="T", description="D")
    reached = 0.0
    for size in sizes:
        file = folder / "events.parquet"
        events(round(reached * MILLION), round((size - reached) * MILLION), file)
        one: dict[str, Any] = {"millions": size}
        one["import"] = _child("import", folder, file) | {"events": round((size - reached) * MILLION)}
        one["fsck"] = _child("fsck", folder)
        one["compile"] = _child("compile", folder)
        one["snapshot"] = _child("snapshot", folder)
        one["again"] = _child("again", folder)
        one["show"] = _child("show", folder)
        one["bytes"] = sum(path.stat().st_size for path in (folder / "ledger").rglob("*") if path.is_file())
        measured.append(one)
        reached = size
        print(json.dumps(one), flush=True)
    return measured


def _child(*arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.scale", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def measure(what: str, folder: Path, file: str = "") -> dict[str, Any]:
    """In the process of its own: seconds, and peak MiB."""
    told: dict[str, Any] = {}
    if what == "index":
        told = _index(float(file))
    else:
        with ledger.open(folder / "ledger") as book:
            if what == "again":
                now = times.now()
                book.record_all(
                    Event(
                        state="given", subject_id=f"again-{now}-{number}", purposes=("train-ai",), occurred_at=now, channel="api"
                    )
                    for number in range(MORE)
                )
                began = time.perf_counter()
                book.look("train-ai")
                told["compile_seconds"] = time.perf_counter() - began
            began = time.perf_counter()
            if what == "import":
                book.import_file(Path(file))
            elif what == "compile":
                # With a size: every entry is read, whatever snapshot is there.
                book.look("train-ai", tree_size=book.read(lambda history: history.head()[1].size))
            elif what == "fsck":
                book.fsck()
            elif what == "show":
                for _ in range(100):
                    book.show("u00000000010")
            else:
                book.snapshot("train-ai")
            told["seconds"] = (time.perf_counter() - began) / (100 if what == "show" else 1)
    return told | {"peak_mib": _peak() // 1024}


def _peak() -> int:
    """KiB that this process held at most. Not of getrusage: that begins with what its parent held."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def _index(millions: float) -> dict[str, Any]:
    """A snapshot of as many subjects, and the index of its answers."""
    n = round(millions * MILLION)
    none = pa.array(np.full(n, NONE))
    yes = pa.array(_AT + np.random.default_rng(1).integers(0, 300 * _DAY, n))
    columns = {
        "subject_id": pa.array([f"u{number:011d}" for number in range(n)]),
        "scope": pa.array(np.zeros(n, np.uint8)),
        "scope_id": pa.array([""] * n),
        "no_at": none,
        "no_state": pa.array(np.full(n, 255, np.uint8)),
        "no_position": pa.array(np.full(n, -1)),
        "yes_at": yes,
        "yes_position": pa.array(np.arange(n)),
        "yes_accepted": pa.array(np.ones(n, bool)),
        "yes_expires_at": none,
        "yes_content_since": none,
        "yes_basis": pa.array(np.full(n, 1, np.uint8)),
    }
    now = times.now()
    header = snapshot.Header("o.example/log", "train-ai@1", (), "", now, now, {})
    began = time.perf_counter()
    frozen, data = snapshot.freeze(header, pa.table(columns, snapshot.SCHEMA))
    froze = time.perf_counter() - began
    before = _peak()
    began = time.perf_counter()
    answers = Answers(frozen.rows(), now)
    answers.subjects(pa.array(["nobody"], pa.large_string()))
    return {
        "millions": millions,
        "freeze_seconds": froze,
        "index_seconds": time.perf_counter() - began,
        "file_bytes": len(data),
        "index_bytes": held(answers),
        "more_mib": (_peak() - before) // 1024,
    }


def held(one: object, seen: set[int] | None = None) -> int:
    """Bytes of the arrays that an object holds."""
    seen = set() if seen is None else seen
    if id(one) in seen:
        return 0
    seen.add(id(one))
    if isinstance(one, np.ndarray):
        return one.nbytes
    if isinstance(one, pa.Array | pa.ChunkedArray):
        chunks = one.chunks if isinstance(one, pa.ChunkedArray) else [one]
        own = {part.address: part.size for chunk in chunks for part in chunk.buffers() if part is not None}
        new = own.keys() - seen  # several may share one
        seen |= new
        return sum(own[address] for address in new)
    if isinstance(one, dict):
        return sum(held(value, seen) for value in one.values())
    if isinstance(one, tuple | list):
        return sum(held(value, seen) for value in one)
    return held(vars(one), seen) if hasattr(one, "__dict__") else 0


def main() -> None:
    if len(sys.argv) > 2:
        print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])))
        return
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {name: [float(size) for size in os.environ.get(name, default).split(",")] for name, default in
             (("EVENTS", "1,2,5,10,20"), ("SUBJECTS", "1,2,5,10,20,50"))}  # fmt: skip
    shutil.rmtree(folder / "ledger", ignore_errors=True)
    result = {
        "ledger": grow(folder, sizes["EVENTS"]),
        "index": [_child("index", folder, size) for size in sizes["SUBJECTS"]],
    }
    (folder / "scale.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    shutil.rmtree(folder / "ledger")
    (folder / "events.parquet").unlink()


if __name__ == "__main__":
    main()
