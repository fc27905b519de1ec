"""A command that ends early ends with its own code: no thread of a native pool is still busy with an object of Python.

Where one is as the interpreter ends, it aborts the process ("terminate called without an active exception", exit -6).
On a busy machine nine in a hundred did, while snapshots were read through a Python file.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import ledger
from tests.conftest import yes

pytestmark = pytest.mark.soak

TIMES = 60
AT_ONCE = 6
STALE = """
import sys, datetime, ledger
try:
    ledger.load_snapshot("s.parquet", trust="consent-ledger/trust", max_age=datetime.timedelta(0))
except ledger.errors.SnapshotError:
    sys.exit(7)
"""


def test_no_process_aborts_as_it_ends(book: ledger.Ledger, tmp_path: Path) -> None:
    book.record(yes("ann"))
    book.snapshot("train-ai", output=tmp_path / "s.parquet")

    def end(_: int) -> tuple[int, str]:
        ended = subprocess.run([sys.executable, "-c", STALE], cwd=tmp_path, capture_output=True, text=True)
        return ended.returncode, ended.stderr

    with ThreadPoolExecutor(AT_ONCE) as pool:
        ends = list(pool.map(end, range(TIMES)))
    assert Counter(found for found, _ in ends) == {7: TIMES}, ends
