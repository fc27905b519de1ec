"""One thread that appends for all requests: what waits together is one transaction, and one signature.

> An act is answered only after the transaction that holds it was committed.

An act that raises alone, before it appended anything, fails alone. One that raises after it appended something takes the
transaction with it, and the acts of that transaction are then run again one by one, so that each succeeds or fails alone.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from ledger.errors import ConsentLedgerError, LedgerBusy
from ledger.store.append import Appended, Transaction

T = TypeVar("T")
_Waiting = tuple[Callable[[Transaction], Any], "Future[Any]"]

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
        future: Future[T] = Future()
        try:
            self._queue.put_nowait((act, future))
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
            self._record([(act, future) for act, future in some if future.set_running_or_notify_cancel()])

    def _record(self, some: list[_Waiting]) -> None:
        outcomes: list[Any] = []
        half_done = False

        def plan(tx: Transaction) -> None:
            nonlocal half_done
            for act, _ in some:
                size = tx.size
                try:
                    outcomes.append(act(tx))
                except Exception as error:
                    if tx.size != size or not isinstance(error, ConsentLedgerError):
                        half_done = True
                        raise
                    outcomes.append(_Failed(error))

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
        for (_, future), outcome in zip(some, outcomes, strict=True):
            if isinstance(outcome, _Failed):
                future.set_exception(outcome.error)
            else:
                future.set_result(outcome)


class _Failed:
    def __init__(self, error: Exception) -> None:
        self.error = error
