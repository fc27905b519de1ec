"""Whose turn it is to write, among the processes and threads of one machine. Who has the turn does the work of those who wait.

A queue has a name in Linux's abstract namespace of sockets: it is bound by whoever has the turn, ends with them however they end,
and leaves nothing on a disk. What is handed over:

    who waits  → who has the turn    one message: what is asked, and its seal
    who has it → who waits           "taken": from here on what became of it must be found out
                                     then the answer, and its seal
                                     or the turn itself: the socket of the queue, which the kernel carries over

- Only the same user is answered, and only what bears the seal: a MAC under a secret that both have.
- Who gives up waiting shuts their end for reading first. Then either "taken" is there already, or it can never be sent, and
  what was asked is dropped: so nobody is told that nothing happened while it happens.
- Nothing that who has the turn does here waits for anybody. Whatever they send, they end the connection after it: only that
  wakes who waits.
- A queue only saves time. Where there is none (another system, another container), everyone writes by the database's own lock.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import select
import socket
import struct
import sys
import time
import weakref
from collections.abc import Iterator

from ledger.errors import ConsentLedgerError

AVAILABLE = sys.platform == "linux"
TOGETHER = 64
"""How many at most are done in one turn, besides one's own."""
MAX_BYTES = 128 << 10
"""Of a message; a socket's buffer takes it whole."""
_BACKLOG = 4096
_SEAL_BYTES = 32
_NONCE_BYTES = 16
_TAKEN, _ANSWER, _TURN = b"t", b"a", b"l"
_UNSENT_SECONDS = 0.002
"""Between connecting and asking: for somebody who was interrupted just then."""
_TRIES = 5
_open: weakref.WeakSet[socket.socket] = weakref.WeakSet()


class Lost(ConsentLedgerError):
    """Whoever had taken it is gone, or does not answer: what became of it must be found out."""


class Waiting:
    """Somebody who waits, and what they ask."""

    def __init__(self, connection: socket.socket, nonce: bytes, asked: bytes, secret: bytes) -> None:
        self._connection, self._nonce, self.asked, self._secret = connection, nonce, asked, secret

    def take(self) -> bool:
        """Whether they wait still. From here on they know that it may be done."""
        return _send(self._connection, _TAKEN)

    def answer(self, said: bytes) -> None:
        """Where it is too long, or they are gone, they have to find out."""
        _send(self._connection, _ANSWER + _seal(self._secret, b"answer", self._nonce, said) + said)
        self.close()

    def close(self) -> None:
        self._connection.close()


class Turn:
    """It is ours. To be passed on, whatever happens."""

    def __init__(self, queue: socket.socket, secret: bytes) -> None:
        self._queue, self._secret = queue, secret
        queue.setblocking(False)
        _open.add(queue)

    def waiting(self) -> Iterator[Waiting]:
        """Those who wait by now, the first first. What is no question of ours is dropped."""
        late: list[socket.socket] = []
        for _ in range(TOGETHER):
            if (connection := self._next()) is None:
                break
            try:
                message = connection.recv(MAX_BYTES + 1)
            except BlockingIOError:
                late.append(connection)
                continue
            except OSError:
                message = b""
            if (found := self._understood(connection, message)) is not None:
                yield found
        ends = time.monotonic() + _UNSENT_SECONDS
        for connection in late:
            connection.settimeout(max(0.0001, ends - time.monotonic()))
            try:
                message = connection.recv(MAX_BYTES + 1)
                connection.setblocking(False)
            except OSError:
                message = b""
            if (found := self._understood(connection, message)) is not None:
                yield found

    def comes(self, seconds: float) -> bool:
        """Whether somebody comes within this time; none is left where it is negative."""
        if seconds <= 0:
            return False
        queue = select.poll()
        queue.register(self._queue, select.POLLIN)
        return bool(queue.poll(seconds * 1000))

    def pass_on(self) -> bool:
        """To the first who waits; False: nobody does, and the queue ends."""
        with self._queue:
            while (connection := self._next()) is not None:
                with connection:
                    try:
                        socket.send_fds(connection, [_TURN], [self._queue.fileno()], socket.MSG_DONTWAIT)
                    except OSError:
                        continue
                    return True
        return False

    def _next(self) -> socket.socket | None:
        while True:
            try:
                connection, _ = self._queue.accept()
            except OSError:  # nobody waits, or there is no descriptor left for them
                return None
            connection.setblocking(False)
            if _is_ours(connection):
                _open.add(connection)
                return connection
            connection.close()

    def _understood(self, connection: socket.socket, message: bytes) -> Waiting | None:
        nonce, seal, asked = _parts(message)
        if len(message) <= MAX_BYTES and hmac.compare_digest(seal, _seal(self._secret, b"question", nonce, asked)):
            return Waiting(connection, nonce, asked, self._secret)
        connection.close()
        return None


def ask(name: bytes, secret: bytes, asked: bytes, seconds: float, more_seconds: float) -> bytes | Turn | None:
    """The answer, or the turn, or None: nobody took it in time, or there is no queue, and nobody ever will.

    more_seconds: how long whoever took it may take. Raises Lost.
    """
    nonce = secrets.token_bytes(_NONCE_BYTES)
    message = nonce + _seal(secret, b"question", nonce, asked) + asked
    if not AVAILABLE or len(message) > MAX_BYTES:
        return None
    ends, left = time.monotonic() + seconds, _TRIES
    while left and time.monotonic() < ends:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
                connection.settimeout(seconds)
                connection.connect(b"\0" + name)
                if not _is_ours(connection):  # somebody else has bound the name
                    return None
                return _asked(connection, secret, nonce, message, ends, more_seconds)
        except ConnectionRefusedError:
            if (turn := _begin(name, secret)) is not None:
                return turn
        except _AgainError:
            left -= 1
        except OSError:
            return None
    return None


class _AgainError(Exception):
    """The queue ended before anybody took it, or what is asked was dropped."""


def _begin(name: bytes, secret: bytes) -> Turn | None:
    queue = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        queue.bind(b"\0" + name)
        queue.listen(_BACKLOG)
    except OSError:  # somebody was faster
        queue.close()
        return None
    return Turn(queue, secret)


def _asked(
    connection: socket.socket, secret: bytes, nonce: bytes, message: bytes, ends: float, more_seconds: float
) -> bytes | Turn | None:
    taken = shut = False
    with contextlib.suppress(OSError):  # who has gone may have passed the turn on first
        connection.send(message)
    connection.setblocking(False)
    end = select.poll()
    end.register(connection, 0)  # of the end alone: whoever is taken is not woken, but by the answer, after which comes the end
    while True:
        if not shut:
            end.poll(max(1, (ends - time.monotonic()) * 1000))
        while (found := _received(connection)) is not None:
            said, descriptors = found
            kind, seal, answer = said[:1], said[1 : 1 + _SEAL_BYTES], said[1 + _SEAL_BYTES :]
            if descriptors:
                return Turn(socket.socket(fileno=descriptors[0]), secret)
            if kind == _TAKEN and not taken:
                taken, ends = True, time.monotonic() + more_seconds
            elif kind == _ANSWER and hmac.compare_digest(seal, _seal(secret, b"answer", nonce, answer)):
                return answer
            elif taken:
                raise Lost("whoever recorded it is gone")
            elif shut:
                return None
            else:
                raise _AgainError
        if time.monotonic() >= ends:
            if taken:
                raise Lost("whoever records it does not answer")
            # What is there already can be read still; nothing more can come.
            connection.shutdown(socket.SHUT_RD)
            shut = True


def _received(connection: socket.socket) -> tuple[bytes, list[int]] | None:
    """A message and the descriptors that came with it, or the end, which is an empty one; None: there is nothing yet."""
    for _ in range(2):
        try:
            said, descriptors, _, _ = socket.recv_fds(connection, MAX_BYTES + 1, 1, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return None
        except OSError:  # who ended it without having read the question: that is told first, and what they sent comes after it
            continue
        return said, descriptors
    return b"", []


def _send(connection: socket.socket, message: bytes) -> bool:
    try:
        return len(message) <= MAX_BYTES and connection.send(message, socket.MSG_DONTWAIT) == len(message)
    except OSError:
        return False


def _parts(message: bytes) -> tuple[bytes, bytes, bytes]:
    start = _NONCE_BYTES + _SEAL_BYTES
    return message[:_NONCE_BYTES], message[_NONCE_BYTES:start], message[start:]


def _seal(secret: bytes, what: bytes, nonce: bytes, message: bytes) -> bytes:
    return hmac.digest(secret, what + b"\n" + nonce + message, hashlib.sha256)


def _is_ours(connection: socket.socket) -> bool:
    """Whether the other end is the same user's."""
    try:
        told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except OSError:
        return False
    return bool(struct.unpack("3i", told)[1] == os.geteuid())


def _let_go() -> None:
    """In a child: it has not the turn, and the queue must end with who has it."""
    for queue in list(_open):
        with contextlib.suppress(OSError):
            queue.close()


os.register_at_fork(after_in_child=_let_go)
