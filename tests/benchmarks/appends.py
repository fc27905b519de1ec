"""Appends a second and how long each takes, by database and number of writers: `python -m tests.benchmarks.appends`.

An append is one act recorded, committed, anchored, read back and handed out with its receipt. Each writer goes round PEOPLE of
its own (default 500): what a person is told follows from all of their acts, so that one who acts all the time (PEOPLE=1) costs
more with each act. Beside it, a transaction of one row by the bare `sqlite3` module, synced (WAL, synchronous=FULL), and nothing
else. The sides take turns.
SECONDS: for how long each (default 5). ROUNDS: how often (default 1); the median by rate counts. Prints a line of JSON a
measurement. `cpu_ms`: of all writers together, per append.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from itertools import cycle
from pathlib import Path
from typing import Any

import ledger
from tests import postgres

_SERVER = multiprocessing.get_context("forkserver")
_Append = Callable[[], object]


def _work(side: str, path: Path, name: str, seconds: float, together: Any, took: Any) -> None:
    if side == "bare":
        with closing(_plain(path)) as plain:
            _repeat(lambda: plain.execute("INSERT INTO plain VALUES (?, ?)", (name, b"x" * 400)), seconds, together, took)
    else:
        with ledger.open(path) as book:
            people = cycle([f"{name}-{number}" for number in range(int(os.environ.get("PEOPLE", "500")))])
            _repeat(lambda: book.withdraw(next(people)), seconds, together, took)


def _repeat(append: _Append, seconds: float, together: Any, took: Any) -> None:
    append()  # what is imported late is imported now
    together.wait()
    began_cpu, mine = _cpu(), []
    ends = time.monotonic() + seconds
    while (began := time.monotonic()) < ends:
        append()
        mine.append(time.monotonic() - began)
    took.put((mine, _cpu() - began_cpu))


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _plain(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=60)
    for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "CREATE TABLE IF NOT EXISTS plain (subject, act)"):
        connection.execute(statement)
    return connection


def _one(side: str, path: Path, database: str | None, writers: int, seconds: float) -> dict[str, Any]:
    if side == "bare":
        _plain(path).close()
    else:
        with ledger.create(path, database=database) as book:
            book.declare_purpose("train-ai", title="T", description="D")
    together, took = _SERVER.Barrier(writers), _SERVER.Queue()
    work = [_SERVER.Process(target=_work, args=(side, path, f"w{n}", seconds, together, took)) for n in range(writers)]
    for process in work:
        process.start()
    found = [took.get() for _ in work]
    for process in work:
        process.join()
    durations = [duration for mine, _ in found for duration in mine]
    if side != "bare":
        assert ledger.fsck(path).events == len(durations) + writers
    quantiles = statistics.quantiles(durations, n=100)
    return {
        "side": side,
        "writers": writers,
        "per_second": len(durations) / seconds,
        **{f"p{i}_ms": quantiles[i - 1] * 1000 for i in (50, 95, 99)},
        "cpu_ms": sum(cpu for _, cpu in found) / len(durations) * 1000,
    }


def measure(rounds: int, seconds: float, new_database: Callable[[], str] | None = None) -> list[dict[str, Any]]:
    """Of each side and number of writers the round of the median rate. new_database: of PostgreSQL, to measure that too."""
    sides = ["SQLite", "bare"] + (["PostgreSQL"] if new_database else [])
    measured: dict[tuple[str, int], list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR"), prefix="appends-") as name:
        for number in range(rounds):
            for writers in (1, 8):
                for side in sides:
                    database = new_database() if side == "PostgreSQL" and new_database else None
                    found = _one(side, Path(name) / f"{side}{writers}-{number}", database, writers, seconds)
                    measured.setdefault((side, writers), []).append(found)
                    print(json.dumps(found), flush=True)
    return [sorted(found, key=lambda one: one["per_second"])[len(found) // 2] for found in measured.values()]


def main() -> None:
    rounds, seconds = int(os.environ.get("ROUNDS", "1")), float(os.environ.get("SECONDS", "5"))
    with postgres.server() as server:
        for one in measure(rounds, seconds, server.new):
            figures = "   ".join(f"p{i} {one[f'p{i}_ms']:.1f} ms" for i in (50, 95, 99))
            rate = f"{one['per_second']:>8,.1f} appends/s   {one['cpu_ms']:.2f} ms CPU each"
            print(f"{one['side']:<10} {one['writers']} writers {rate}   {figures}")
        server.drop()


if __name__ == "__main__":
    main()
