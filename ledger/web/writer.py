"""One thread that appends for all requests: what waits together is one transaction, and one signature.

> An act is answered only after the transaction that holds it was committed.

An act that raises alone, before it appended anything, fails alone. One that raises after it appended something, or together with
others, takes the transaction with it; the acts of that transaction are then run again one by one, so that each succeeds or
fails alone.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from ledger.errors import ConsentLedgerError, LedgerBusy
from ledger.store.append import Appended, Transaction

T = TypeVar("T")
Item = TypeVar("Item")
_Waiting = tuple[Callable[[Transaction, Sequence[Any]], Sequence[Any]], Any, "Future[Any]"]

TOGETHER = 256
"""Acts a transaction: what bounds how long the ledger's lock is held."""
WAITING = 4096
"""Acts that may wait; more are refused as busy."""


class Writer:
    """append: `Ledger.append`."""

    def __init__(self, append: Callable[[Callable[[Transaction], None]], Appended]) -> None:
        self._append = append
        self._queue: queue.Queue[_Waiting | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._work, name="consent-ledger writer", daemon=True)
        self._thread.start()

    def submit(self, act: Callable[[Transaction], T]) -> Future[T]:
        """act: appends through the transaction, and returns what the future will hold once that is committed.

        It may be called more than once, each time in a transaction where nothing of it happened yet. Raises LedgerBusy.
        """
        return self.submit_to(lambda tx, _: [act(tx)], None)

    def submit_to(self, acts: Callable[[Transaction, Sequence[Item]], Sequence[T]], item: Item) -> Future[T]:
        """The same, of acts that are cheaper together: all items that wait for these acts are handed over at once, and what
        becomes of each is returned in their order."""
        future: Future[T] = Future()
        try:
            self._queue.put_nowait((acts, item, future))
        except queue.Full:
            raise LedgerBusy(f"{WAITING} acts are waiting to be recorded", hint="try again in a moment") from None
        return future

    def close(self) -> None:
        """Record what waits, then end."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        open_for_more = True
        while open_for_more:
            some: list[_Waiting] = []
            item = self._queue.get()
            while item is not None:
                some.append(item)
                if len(some) == TOGETHER or self._queue.empty():
                    break
                item = self._queue.get()
            open_for_more = item is not None
            self._record([waiting for waiting in some if waiting[2].set_running_or_notify_cancel()])

    def _record(self, some: list[_Waiting]) -> None:
        outcomes: list[Any] = [None] * len(some)
        half_done = False
        together: dict[Any, list[int]] = {}
        for number, (acts, _, _) in enumerate(some):
            together.setdefault(acts, []).append(number)

        def plan(tx: Transaction) -> None:
            nonlocal half_done
            for acts, numbers in together.items():
                size = tx.size
                try:
                    done = acts(tx, [some[number][1] for number in numbers])
                except Exception as error:
                    if tx.size != size or len(numbers) > 1 or not isinstance(error, ConsentLedgerError):
                        half_done = True
                        raise
                    done = [_Failed(error)]
                for number, outcome in zip(numbers, done, strict=True):
                    outcomes[number] = outcome

        try:
            if some:
                self._append(plan)
        except Exception as error:
            # Any other error is of the ledger, and may have come from its commit: nothing is tried again.
            if half_done and len(some) > 1:
                for one in some:
                    self._record([one])
                return
            outcomes = [_Failed(error)] * len(some)
        for (_, _, future), outcome in zip(some, outcomes, strict=True):
            if isinstance(outcome, _Failed):
                future.set_exception(outcome.error)
            else:
                future.set_result(outcome)


class _Failed:
    def __init__(self, error: Exception) -> None:
        self.error = error
