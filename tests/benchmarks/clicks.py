"""One-click POSTs at a rate, against a real server on loopback: `python -m tests.benchmarks.clicks`.

RATE a second (default 200) for SECONDS (default 60), each for another person, over CONNECTIONS that are kept (default 32). Each
is due at its moment, whether or not earlier ones were answered, and its latency counts from there: a server that stalls does
not slow the clock that measures it.
"""

from __future__ import annotations

import http.client
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import ledger
from ledger.links import url
from tests.served import Served

BODY = "List-Unsubscribe=One-Click"
HEADERS = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass(frozen=True)
class Click:
    """status: 0 where no answer came. seconds: from the moment it was due."""

    url: str
    status: int
    seconds: float


def click_all(urls: Sequence[str], rate: float, connections: int = 32) -> list[Click]:
    """POST each once, at this rate. Returns when all were answered or failed, in no order."""
    began, lock, found = time.monotonic() + 0.2, threading.Lock(), []
    waiting = iter(enumerate(urls))

    def work() -> None:
        parts = urlsplit(urls[0])
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        while True:
            with lock:
                number, url = next(waiting, (0, None))
            if url is None:
                break
            due = began + number / rate
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                connection.request("POST", urlsplit(url).path, BODY, HEADERS)
                answer = connection.getresponse()
                answer.read()
                status = answer.status
            except (OSError, http.client.HTTPException):
                connection.close()
                status = 0
            found.append(Click(url, status, time.monotonic() - due))
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def described(clicks: Sequence[Click], took: float) -> str:
    p50, p95, p99 = (statistics.quantiles([c.seconds for c in clicks], n=100)[n - 1] * 1000 for n in (50, 95, 99))
    worst = max(c.seconds for c in clicks) * 1000
    return (
        f"{len(clicks):,} clicks in {took:.1f} s, {len(clicks) / took:,.0f}/s"
        f"   p50 {p50:.0f} ms   p95 {p95:.0f} ms   p99 {p99:.0f} ms   worst {worst:.0f} ms"
    )


def links(book: ledger.Ledger, served: Served, people: Sequence[str]) -> list[str]:
    make = book.links.maker("train-ai")
    return [url(served.url, make(person)) for person in people]


def main() -> None:
    rate, seconds = float(os.environ.get("RATE", "200")), float(os.environ.get("SECONDS", "60"))
    with tempfile.TemporaryDirectory() as folder, ledger.create(Path(folder) / "consent-ledger") as book:
        book.declare_purpose("train-ai", title="T", description="D")
        served = Served(book.folder.path)
        people = [f"u{n}" for n in range(int(rate * seconds))]
        urls = links(book, served, people)
        began = time.monotonic()
        clicks = click_all(urls, rate, int(os.environ.get("CONNECTIONS", "32")))
        print(described(clicks, time.monotonic() - began))
        served.stop()
        said_no = {event.subject_id for _, event in book.events()}
        print(f"{sum(c.status == 200 for c in clicks):,} answered 200, {len(said_no & set(people)):,} in the log")
        book.fsck()


if __name__ == "__main__":
    main()
