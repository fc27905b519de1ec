"""Turns: who has one answers who waits, and nobody is told that nothing happened while it happens."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from ledger import turns
from ledger.turns import Lost, Turn

pytestmark = pytest.mark.skipif(not turns.AVAILABLE, reason="queues are Linux's")
SECRET = b"s" * 32


@pytest.fixture
def name() -> bytes:
    return b"consent-ledger/test-" + secrets.token_hex(16).encode()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as made:
        yield made


def first(name: bytes) -> Turn:
    turn = turns.ask(name, SECRET, b"first", 1, 1)
    assert isinstance(turn, Turn)
    return turn


def asking(
    pool: ThreadPoolExecutor, name: bytes, what: bytes, seconds: float = 20, secret: bytes = SECRET
) -> Future[bytes | Turn | None]:
    return pool.submit(turns.ask, name, secret, what, seconds, 20)


def waiting(turn: Turn, count: int) -> list[turns.Waiting]:
    found: list[turns.Waiting] = []
    ends = time.monotonic() + 20
    while len(found) < count and time.monotonic() < ends:
        found += turn.waiting()
        time.sleep(0.001)
    assert len(found) == count
    return found


def test_who_waits_is_answered_each_their_own(name: bytes, pool: ThreadPoolExecutor) -> None:
    turn = first(name)
    asked = {what: asking(pool, name, what) for what in (b"a", b"b", b"c" * 100_000)}
    for one in waiting(turn, 3):
        assert one.take()
        one.answer(b"done: " + one.asked[:10])
    assert {what: done.result() for what, done in asked.items()} == {what: b"done: " + what[:10] for what in asked}
    assert not turn.pass_on()
    assert not first(name).pass_on(), "and the queue is nobody's"


def test_whoever_comes_in_time_is_waited_for(name: bytes, pool: ThreadPoolExecutor) -> None:
    turn = first(name)
    assert not turn.comes(0.001)
    asked = asking(pool, name, b"a")
    assert turn.comes(20)
    assert not turn.comes(0) and not turn.comes(-1)
    (one,) = waiting(turn, 1)
    one.answer(b"done")
    assert asked.result() == b"done"
    assert not turn.comes(0.001), "who was answered is gone"
    turn.pass_on()


def test_the_turn_goes_to_one_who_waits_and_the_others_wait_on(name: bytes, pool: ThreadPoolExecutor) -> None:
    turn = first(name)
    asked = {asking(pool, name, b"%d" % n) for n in range(6)}
    # The kernel lists the queue, and each who has connected.
    while Path("/proc/net/unix").read_bytes().count(name) < 7:
        time.sleep(0.01)
    for left in range(6, 0, -1):
        assert turn.pass_on()
        ends = time.monotonic() + 20
        while not (done := {future for future in asked if future.done()}):
            assert time.monotonic() < ends
        (future,) = done
        asked -= done
        passed = future.result()
        assert isinstance(passed, Turn), left
        turn = passed
    assert not turn.pass_on()


def test_where_the_turn_dies_another_takes_it(name: bytes, pool: ThreadPoolExecutor) -> None:
    turn = first(name)
    asked = asking(pool, name, b"a")
    time.sleep(0.1)
    turn._queue.close()
    passed = asked.result()
    assert isinstance(passed, Turn)
    assert not passed.pass_on()


def test_what_was_taken_and_not_answered_must_be_found_out(name: bytes, pool: ThreadPoolExecutor) -> None:
    turn = first(name)
    asked = asking(pool, name, b"a")
    (one,) = waiting(turn, 1)
    assert one.take()
    one.close()
    with pytest.raises(Lost):
        asked.result()
    slow = pool.submit(turns.ask, name, SECRET, b"b", 20, 0.1)
    (one,) = waiting(turn, 1)
    assert one.take()
    with pytest.raises(Lost):
        slow.result()
    one.close()
    assert not turn.pass_on()


def test_who_gave_up_cannot_be_taken_any_more(name: bytes, pool: ThreadPoolExecutor) -> None:
    """For each of many, given up at about the moment at which it is taken: taken by the one is lost for the other."""
    turn = first(name)
    for n in range(60):
        asked = pool.submit(turns.ask, name, SECRET, b"a", 0.02, 0.02)
        taken = False
        while not asked.done() and not taken:
            for one in turn.waiting():
                time.sleep((n % 30) / 1000)
                taken = one.take()
                one.close()
        if taken:
            with pytest.raises(Lost):
                asked.result()
        else:
            assert asked.result() is None
    turn.pass_on()


def raw(name: bytes) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(b"\0" + name)
    return connection


def test_what_is_no_question_is_dropped_and_holds_nobody_up(name: bytes, pool: ThreadPoolExecutor) -> None:
    turn = first(name)
    strange = [raw(name) for _ in range(8)]
    for connection, message in zip(strange, (b"", b"x", b"x" * 48, secrets.token_bytes(500), b"x" * 150_000), strict=False):
        connection.setblocking(False)
        with contextlib.suppress(OSError):
            connection.send(message)
    strange[5].close()
    other = asking(pool, name, b"of another ledger", 0.3, b"t" * 32)
    asked = asking(pool, name, b"a")
    began = time.monotonic()
    (one,) = waiting(turn, 1)
    assert time.monotonic() - began < 5
    assert one.asked == b"a" and one.take()
    one.answer(b"b")
    assert asked.result() == b"b"
    # One who does not read what they are told.
    deaf = raw(name)
    nonce = secrets.token_bytes(16)
    deaf.send(nonce + turns._seal(SECRET, b"question", nonce, b"q") + b"q")
    (one,) = waiting(turn, 1)
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    began = time.monotonic()
    while one.take():
        assert time.monotonic() - began < 10
    one.answer(b"x" * 1000)
    assert time.monotonic() - began < 10
    turn.pass_on()
    passed = other.result()
    assert passed is None or isinstance(passed, Turn), "it was not answered"
    if passed is not None:
        passed.pass_on()
    for connection in (*strange, deaf):
        connection.close()


def test_an_answer_without_the_seal_is_not_believed(name: bytes, pool: ThreadPoolExecutor) -> None:
    """Somebody has bound the name, and says that all is done."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as queue:
        queue.bind(b"\0" + name)
        queue.listen()
        asked = asking(pool, name, b"a")
        connection, _ = queue.accept()
        with connection:
            said = connection.recv(1000)
            connection.send(b"t")
            connection.send(b"a" + said[16:48] + said[48:])
            with pytest.raises(Lost):
                asked.result()


def test_an_answer_to_another_question_is_not_believed(name: bytes, pool: ThreadPoolExecutor) -> None:
    turn = first(name)
    asked = asking(pool, name, b"a")
    (one,) = waiting(turn, 1)
    one.take()
    one._nonce = b"n" * 16
    one.answer(b"done")
    with pytest.raises(Lost):
        asked.result()
    turn.pass_on()


def test_another_user_is_not_answered(name: bytes, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    turn = first(name)
    asked = asking(pool, name, b"a", 1)
    time.sleep(0.05)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert list(turn.waiting()) == []
    assert asked.result() is None
    assert turns.ask(name, SECRET, b"b", 1, 1) is None, "nor asked"
    assert not turn.pass_on()


def test_what_is_too_long_is_not_handed_over(name: bytes, pool: ThreadPoolExecutor) -> None:
    turn = first(name)
    assert turns.ask(name, SECRET, b"x" * turns.MAX_BYTES, 1, 1) is None
    asked = asking(pool, name, b"a")
    (one,) = waiting(turn, 1)
    one.take()
    one.answer(b"x" * turns.MAX_BYTES)
    with pytest.raises(Lost):
        asked.result()
    turn.pass_on()


def test_a_child_does_not_keep_the_queue(name: bytes) -> None:
    turn = first(name)
    ready, wait = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        os.write(ready[1], b"x")
        os.read(wait[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    assert not turn.pass_on()
    again = first(name)
    os.write(wait[1], b"x")
    os.waitpid(child, 0)
    again.pass_on()
    for descriptor in (*ready, *wait):
        os.close(descriptor)


def test_many_at_once(name: bytes) -> None:
    """Threads that take turns as they come: each is answered once, by somebody or by themselves."""
    done: list[bytes] = []
    alone = threading.Lock()

    def work(n: int) -> None:
        for m in range(20):
            mine = b"%d-%d" % (n, m)
            found = turns.ask(name, SECRET, mine, 20, 20)
            if isinstance(found, Turn):
                assert alone.acquire(blocking=False), "two have the turn"
                others = [one for one in found.waiting() if one.take()]
                done.extend([mine, *(one.asked for one in others)])
                alone.release()
                found.pass_on()
                for one in others:
                    one.answer(one.asked)
            else:
                assert found == mine

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(work, n) for n in range(8)]:
            future.result()
    assert sorted(done) == sorted(b"%d-%d" % (n, m) for n in range(8) for m in range(20))


def test_the_turn_reaches_whoever_wakes_after_who_passed_it_on_has_gone(name: bytes) -> None:
    """They closed the connection without having read what was asked there, which the kernel tells first."""
    turn = first(name)
    for message in (b"", b"what they asked"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.connect(b"\0" + name)
            if message:
                connection.send(message)
            assert turn.pass_on()
            found = turns._asked(connection, SECRET, b"", b"the question", time.monotonic() + 5, 5)
            assert isinstance(found, turns.Turn)
            turn = found
    assert not turn.pass_on()
