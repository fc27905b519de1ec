"""Appends a second and how long each takes, by database and number of writers: `python -m tests.benchmarks.appends`.

An append is one act recorded, committed, anchored, read back and handed out with its receipt. SECONDS: for how long (default 5).
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import ledger
from tests import postgres

_SERVER = multiprocessing.get_context("forkserver")


def _work(path: Path, name: str, seconds: float, together: Any, took: Any) -> None:
    with ledger.open(path) as book:
        book.withdraw(name)  # what is imported late is imported now
        together.wait()
        ends, mine = time.monotonic() + seconds, []
        while (began := time.monotonic()) < ends:
            book.withdraw(name)
            mine.append(time.monotonic() - began)
        took.put(mine)


def measure(path: Path, database: str | None, writers: int, seconds: float) -> list[float]:
    """Seconds of each append."""
    with ledger.create(path, database=database) as book:
        book.declare_purpose("train-ai", title="T", description="D")
    together, took = _SERVER.Barrier(writers), _SERVER.Queue()
    work = [_SERVER.Process(target=_work, args=(path, f"w{n}", seconds, together, took)) for n in range(writers)]
    for process in work:
        process.start()
    found = [duration for _ in work for duration in took.get()]
    for process in work:
        process.join()
    assert ledger.fsck(path).events == len(found) + writers
    return found


def main() -> None:
    seconds = float(os.environ.get("SECONDS", "5"))
    with postgres.server() as server, tempfile.TemporaryDirectory() as folder:
        for name, database in (("SQLite", lambda: None), ("PostgreSQL", server.new)):
            for writers in (1, 8):
                durations = measure(Path(folder) / f"{name}{writers}", database(), writers, seconds)
                p50, p95, p99 = (statistics.quantiles(durations, n=100)[i - 1] * 1000 for i in (50, 95, 99))
                rate = f"{len(durations) / seconds:>8,.1f} appends/s"
                print(f"{name:<10} {writers} writers {rate}   p50 {p50:.1f} ms   p95 {p95:.1f} ms   p99 {p99:.1f} ms")
        server.drop()


if __name__ == "__main__":
    main()
