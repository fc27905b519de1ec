"""Many short texts are hashed by two processes, and come to what one comes to."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from ledger import cores
from ledger.hashing import Hashers

TEXTS = [os.urandom(number % 90) for number in range(20_000)]
ENDS = np.cumsum([len(text) for text in TEXTS])
EXPECTED = b"".join(sha256(b"head" + text).digest() for text in TEXTS)
PAIRS = os.urandom(64 * 20_000)
EXPECTED_OF_PAIRS = b"".join(sha256(b"\x11" + PAIRS[at : at + 64]).digest() for at in range(0, len(PAIRS), 64))
MANY = 200_000


def test_one_process_and_two_come_to_the_same() -> None:
    for expected in (0, MANY):
        with Hashers(expected) as hashers:
            for _ in range(2):
                assert hashers.each(b"head", b"".join(TEXTS), ENDS) == EXPECTED
            assert hashers.each(b"head", b"".join(TEXTS[:9]), ENDS[:9]) == EXPECTED[: 9 * 32]
            assert hashers.alike(b"\x11", PAIRS, 64) == EXPECTED_OF_PAIRS
            assert hashers.each(b"head", b"", ENDS[:0]) == hashers.alike(b"\x11", b"", 64) == b""
            assert hashers.alike(b"\x11", PAIRS[: 64 * 9_999], 64) == EXPECTED_OF_PAIRS[: 32 * 9_999]
            assert hashers.alike(b"\x11", PAIRS[: 64 * 9], 64) == EXPECTED_OF_PAIRS[: 32 * 9]


@pytest.mark.skipif(cores.count() < 2, reason="there is one processor")
def test_a_second_process_is_there_and_ends() -> None:
    with Hashers(MANY) as hashers:
        other = hashers._other
        assert other is not None
        assert hashers.each(b"head", b"".join(TEXTS), ENDS) == EXPECTED
        assert Path(f"/proc/{other.pid}/cmdline").read_bytes().endswith(b"hashing_program.py\0")
    assert other.returncode is not None
    with Hashers(10) as hashers:
        assert hashers._other is None


@pytest.mark.skipif(cores.count() < 2, reason="there is one processor")
@pytest.mark.parametrize("when", ["before it is asked", "before it answers", "within its answer"])
@pytest.mark.parametrize("pairs", [False, True])
def test_a_second_process_that_ends_is_done_without(when: str, pairs: bool) -> None:
    with Hashers(MANY) as hashers:
        other = hashers._other
        assert other is not None
        if when == "within its answer":
            other.communicate()
            other = hashers._other = subprocess.Popen(["head", "-c", "50"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        elif when == "before it answers":
            os.kill(other.pid, signal.SIGSTOP)
            threading.Timer(0.5, other.kill).start()
        else:
            other.kill()
            other.wait()
        for _ in range(2):
            if pairs:
                assert hashers.alike(b"\x11", PAIRS, 64) == EXPECTED_OF_PAIRS
            else:
                assert hashers.each(b"head", b"".join(TEXTS), ENDS) == EXPECTED
            assert hashers._other is None


def test_what_cannot_be_started_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with Hashers(MANY) as hashers:
        assert hashers._other is None
        assert hashers.each(b"head", b"".join(TEXTS), ENDS) == EXPECTED
