"""What a run and an audit share: every input checked before the first, then shards in threads, with progress and counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from threading import Lock, Semaphore
from types import TracebackType
from typing import Any

from ledger.errors import ShardError, UsageError
from ledger.shards.columns import Columns
from ledger.shards.decide import Decisions
from ledger.shards.inputs import Input
from ledger.shards.rewrite import ShardFile

Callback = Callable[[int, int], None]
"""Called with rows done and rows in all; from worker threads, one at a time."""


class Progress:
    """Added up over the workers."""

    def __init__(self, total: int, on_progress: Callback | None) -> None:
        self._total, self._done, self._on_progress, self._lock = total, 0, on_progress, Lock()

    def add(self, rows: int) -> None:
        if self._on_progress is not None:
            with self._lock:
                self._done += rows
                self._on_progress(self._done, self._total)


class Tally:
    """What became of one shard's rows. known: pairs of row and subject whose subject the ledger knows."""

    def __init__(self) -> None:
        self.rows = self.known = self.unmapped = 0
        self.counts: Counter[str] = Counter()
        self.rests_on: Counter[str] = Counter()

    def add(self, rows: int, decisions: Decisions) -> None:
        """Those of a row group, of so many rows."""
        self.rows += rows
        self.known += decisions.known
        self.unmapped += int(decisions.unmapped.sum())
        self.counts.update(decisions.counts())
        self.rests_on.update(decisions.rests_on())

    @property
    def kept(self) -> int:
        return self.counts["allowed"]

    def dropped(self) -> dict[str, int]:
        """By reason."""
        return in_order(Counter({reason: rows for reason, rows in self.counts.items() if reason != "allowed"}))


def rows_of(inputs: Iterable[Input], check: Callable[[ShardFile], object]) -> int:
    """Rows in all, once every input was opened and checked: what is wrong with the last is told before the first is worked on."""
    rows = 0
    for source in inputs:
        with ShardFile(source.path) as shard:
            try:
                check(shard)
            except UsageError as error:  # of these columns in this shard: the next one may have others
                raise UsageError(f"{source.path}: {error}", hint=error.hint) from error
            rows += shard.num_rows
    return rows


def in_parallel(work: Callable[[Input], Any], inputs: list[Input], workers: int, turn: Semaphore | None = None) -> list[Any]:
    """Results in the order of the inputs. The first failure stops what has not begun and is raised.

    turn: of so many workers, where `work` takes it, and gives it up while it waits for the disk: another shard is begun then.
    """
    if workers < 1:
        raise UsageError("at least one worker is needed", hint="--workers 2")
    pool = ThreadPoolExecutor(min(workers + (turn is not None), max(1, len(inputs))))
    try:
        futures: list[Future[Any]] = [pool.submit(work, source) for source in inputs]
        finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
        failed = [f for f in finished if f.exception() is not None]
        return [f.result() for f in failed or futures]
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def given_up(turn: Semaphore) -> Iterator[None]:
    """To wait for the disk. After it the turn is taken again."""
    turn.release()
    try:
        yield
    finally:
        turn.acquire()


class AfterAll:
    """As a context manager: has a thread begin `work` once so many shards have each come so far that it needs no more of them."""

    def __init__(self, shards: int, work: Callable[[], Any]) -> None:
        self._left, self._work, self._lock = shards, work, Lock()
        self._thread = ThreadPoolExecutor(1)
        self._begun: Future[Any] | None = None

    def __enter__(self) -> AfterAll:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._thread.shutdown()

    def one(self) -> None:
        """One more has come so far."""
        with self._lock:
            self._left -= 1
            if not self._left:
                self._begun = self._thread.submit(self._work)

    def result(self) -> Any:
        """What `work` gives, or raises. For when no shard has failed."""
        return self._work() if self._begun is None else self._begun.result()


def account(name: str, rows: int, counts: Counter[str]) -> None:
    if sum(counts.values()) != rows:
        raise ShardError(f"{name}: {rows} rows came in and {sum(counts.values())} were decided")


def unknown_ids(shards: Iterable[tuple[str, int, int]], columns: Columns) -> list[str]:
    """shards: (name, rows, rows whose subject the ledger knows). Nothing known is more often a wrong column than the truth."""
    prefix = f" with prefix {columns.subject_prefix!r}" if columns.subject_prefix else ""
    return [
        f"no id in {name} is known to the ledger (subject {', '.join(columns.subject)}{prefix}): "
        "is that the right column and prefix?"
        for name, rows, known in shards
        if rows and not known
    ]


def total(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    return in_order(sum((Counter(c) for c in counts), Counter()))


def in_order(counts: Counter[str]) -> dict[str, int]:
    return {name: counts[name] for name in sorted(counts) if counts[name]}
