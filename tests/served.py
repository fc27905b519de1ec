"""A real server in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import httpx


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
