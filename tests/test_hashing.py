"""Many short texts are hashed by DataFusion, by two processes or by one, and come to the same."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ledger import cores, hashing, hashing_fast
from ledger.hashing import Hashers

TEXTS = [os.urandom(number % 90) for number in range(20_000)]
ENDS = np.cumsum([len(text) for text in TEXTS])
EXPECTED = b"".join(sha256(b"head" + text).digest() for text in TEXTS)
PAIRS = np.frombuffer(os.urandom(64 * 20_000), np.uint8).reshape(-1, 64)
EXPECTED_OF_PAIRS = b"".join(sha256(bytes(pair)).digest() for pair in PAIRS)
MANY = 200_000
VERY_MANY = 600_000

INSTALLED = importlib.util.find_spec("datafusion") is not None
with_datafusion = pytest.mark.skipif(not INSTALLED, reason="DataFusion (the extra `fast`) is not installed")


def check(hashers: Hashers) -> None:
    data = b"".join(TEXTS)
    for _ in range(2):
        assert hashers.each(b"head", data, ENDS).tobytes() == EXPECTED
        assert hashers.alike(PAIRS).tobytes() == hashers.alike(PAIRS, secret=True).tobytes() == EXPECTED_OF_PAIRS
    assert hashers.each(b"head", data, ENDS[:9]).tobytes() == EXPECTED[: 9 * 32]
    assert hashers.each(b"", data, ENDS[:6000]).tobytes() == b"".join(sha256(text).digest() for text in TEXTS[:6000])
    assert hashers.each(b"head", memoryview(b"before" + data)[6:], ENDS).tobytes() == EXPECTED
    assert hashers.each(b"head", b"", ENDS[:0]).shape == hashers.alike(PAIRS[:0]).shape == (0, 32)
    assert hashers.alike(PAIRS[:9_999]).tobytes() == EXPECTED_OF_PAIRS[: 32 * 9_999]
    assert hashers.alike(PAIRS[:9]).tobytes() == EXPECTED_OF_PAIRS[: 32 * 9]
    wide = np.concatenate([PAIRS, PAIRS], axis=1)
    assert hashers.alike(wide[:, :64]).tobytes() == EXPECTED_OF_PAIRS, "rows that do not lie one after another"


@pytest.fixture
def without_datafusion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datafusion", None)


@pytest.mark.parametrize("expected", [0, MANY, VERY_MANY])
def test_without_datafusion(expected: int, without_datafusion: None) -> None:
    with Hashers(expected) as hashers:
        assert hashers._fast is None
        assert (hashers._other is not None) == (expected > 0 and cores.python() is not None)
        check(hashers)


@with_datafusion
def test_with_datafusion() -> None:
    with Hashers(VERY_MANY) as hashers:
        assert hashers._fast is not None
        assert hashers._other is None
        check(hashers)
        assert hashers._fast is not None, "it was not given up meanwhile"
        assert not hashers._fast._context.catalog().schema().names(), "it keeps no texts"
    with Hashers(MANY) as hashers:
        assert hashers._fast is None, "of so few texts it is not worth its import"


@with_datafusion
@pytest.mark.parametrize("size", [1, 31, 32, 33, 65])
def test_the_order_is_kept_over_slices_and_threads(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing_fast, "_MOST", 700)
    texts = np.frombuffer(os.urandom(size * 20_001), np.uint8).reshape(-1, size)
    with Hashers(VERY_MANY) as hashers:
        assert hashers.alike(texts).tobytes() == b"".join(sha256(bytes(text)).digest() for text in texts)
        assert hashers._fast is not None


@with_datafusion
@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=70), st.lists(st.binary(max_size=200), min_size=1, max_size=60), st.integers(1, 9))
@example(b"", [b""] * 20, 1)  # slices that all begin at the same byte
def test_any_text_by_datafusion(head: bytes, texts: list[bytes], part: int) -> None:
    ends = np.cumsum([len(text) for text in texts])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashing_fast, "_MOST", part)
        hashes = hashing_fast.Fast().each(head, b"".join(texts), ends)
    assert hashes.tobytes() == b"".join(sha256(head + text).digest() for text in texts)


@with_datafusion
@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=70), st.integers(0, 70), st.binary(min_size=1, max_size=40), st.integers(1, 9), st.booleans())
def test_texts_of_one_size_by_datafusion(head: bytes, size: int, places: bytes, part: int, but_one: bool) -> None:
    texts = [bytes([place]) * size for place in places]
    texts[len(texts) // 2] += b"!" * but_one
    ends = np.cumsum([len(text) for text in texts])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashing_fast, "_MOST", part)
        hashes = hashing_fast.Fast().each(head, b"".join(texts), ends)
    assert hashes.tobytes() == b"".join(sha256(head + text).digest() for text in texts)


class Panic(BaseException):
    """As what Rust's panics are raised as."""


def _raises(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any) -> Any:
        raise error

    return fail


@with_datafusion
@pytest.mark.parametrize("error", [RuntimeError("?"), MemoryError(), Panic(), OSError()])
@pytest.mark.parametrize("where", ["__init__", "each", "_part"])
def test_datafusion_that_fails_is_done_without(error: BaseException, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing_fast.Fast, where, _raises(error))
    with Hashers(VERY_MANY) as hashers:
        check(hashers)
        assert hashers._fast is None


@with_datafusion
@pytest.mark.parametrize("where", ["__init__", "_part"])
def test_an_interrupt_is_no_failure_of_it(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing_fast.Fast, where, _raises(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt), Hashers(VERY_MANY) as hashers:
        hashers.alike(PAIRS)


@with_datafusion
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param("sha224", id="of another length"),
        pytest.param("sha512", id="of another kind"),
        pytest.param("longer", id="of another text"),
        pytest.param("null", id="nothing"),
    ],
)
def test_a_wrong_answer_is_not_believed(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from datafusion import functions, lit

    with Hashers(VERY_MANY) as hashers:
        fast = hashers._fast
        assert fast is not None
        right = functions.sha256
        wrong: dict[str, Callable[[Any], Any]] = {
            "sha224": functions.sha224,
            "sha512": functions.sha512,
            "longer": lambda text: right(functions.concat(text, lit(b"!"))),
            "null": lambda text: functions.nullif(right(text), right(text)),
        }
        monkeypatch.setattr(functions, "sha256", wrong[answer])
        with pytest.raises(hashing_fast.Wrong):
            fast.each(b"", b"".join(TEXTS), ENDS)
        check(hashers)
        assert hashers._fast is None
    assert hashing._unless_it_fails(hashing.Fast) is not None


FORKS = """
import os, signal, sys, numpy
from hashlib import sha256
from ledger.hashing import Hashers
texts = numpy.arange(80_000, dtype=numpy.uint8).reshape(-1, 8)
def right(fast):
    with Hashers(600_000) as hashers:
        used = hashers._fast is not None
        return used == fast and hashers.alike(texts).tobytes() == b"".join(sha256(bytes(one)).digest() for one in texts)
def child(fast):
    if (pid := os.fork()) == 0:
        signal.alarm(60)
        os._exit(0 if right(fast) else 1)
    return os.waitpid(pid, 0)[1] == 0
# Before it was used here a child may use it; after that it may not.
assert child(True) and right(True) and child(False) and right(True)
"""


@with_datafusion
def test_a_forked_process_does_not_wait_for_threads_that_it_lacks() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORKS], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(cores.count() < 2, reason="there is one processor")
def test_a_second_process_is_there_and_ends() -> None:
    with Hashers(MANY) as hashers:
        other = hashers._other
        assert other is not None
        assert hashers.each(b"head", b"".join(TEXTS), ENDS).tobytes() == EXPECTED
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
                assert hashers.alike(PAIRS).tobytes() == EXPECTED_OF_PAIRS
            else:
                assert hashers.each(b"head", b"".join(TEXTS), ENDS).tobytes() == EXPECTED
            assert hashers._other is None


def test_what_cannot_be_started_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with Hashers(MANY) as hashers:
        assert hashers._other is None
        assert hashers.each(b"head", b"".join(TEXTS), ENDS).tobytes() == EXPECTED
