"""A real server in a process of its own, and clients of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import httpx
import pytest
from talking import Api

import ledger as consent_ledger


class Served:
    """A running `consent serve`. url: without a slash at its end. said: what it printed on stderr."""

    def __init__(self, ledger: Path, *options: str) -> None:
        self._said: IO[bytes] = (ledger.parent / f"served-{os.urandom(4).hex()}.log").open("w+b")
        command = [sys.executable, "-m", "ledger.cli", "--ledger", str(ledger), "serve", "--port", "0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._said)
        self.url = ""
        while not (found := re.search(r"serving at (http://\S+)", self.said)):
            assert self.process.poll() is None, self.said
            try:
                self.process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        self.url = found[1]
        self.client = httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    @property
    def said(self) -> str:
        self._said.flush()
        return Path(self._said.name).read_text(encoding="utf-8")

    def stop(self, how: int = signal.SIGTERM) -> int:
        """Its exit code."""
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._said.close()
        return code


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """serve(folder of a ledger, *options) -> Served; ended with the test."""
    running: list[Served] = []

    def start(ledger: Path, *options: str) -> Served:
        running.append(Served(ledger, *options))
        return running[-1]

    yield start
    for served in running:
        if not served.client.is_closed:
            served.stop()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One of the whole module, with the purpose train-ai: each test has people of its own."""
    with consent_ledger.create(tmp_path_factory.mktemp("api") / "consent-ledger") as book:
        book.declare_purpose("train-ai", title="Train", description="Train a model")
        served = Served(book.folder.path)
        yield Api(book, served)
        if not served.client.is_closed:
            served.stop()
        book.fsck()


@pytest.fixture
def own_api(book: consent_ledger.Ledger, serve: Callable[..., Served]) -> Api:
    """One of the test alone, which may break it."""
    return Api(book, serve(book.folder.path))
