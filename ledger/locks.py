"""Locks of the kernel, which releases them when their holder ends, however it ends: a killed process leaves none behind."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from ledger import files
from ledger.errors import ConsentLedgerError, LedgerBusy

_UNSUPPORTED = (errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)


@contextlib.contextmanager
def exclusive(path: Path, *, seconds: float = 30) -> Iterator[bool]:
    """Hold the lock of a folder or file, which its holders alone heed. Yields False where the file system has no such locks
    (some of NFS).

    Raises LedgerBusy where another has held it for so many seconds; it may be another part of this very process.
    """
    with _held(path, fcntl.LOCK_EX, seconds) as held:
        yield held


@contextlib.contextmanager
def shared(path: Path, *, seconds: float = 30) -> Iterator[bool]:
    """Hold it together with others that hold it so: nobody holds it exclusively meanwhile. Yields and raises as `exclusive`."""
    with _held(path, fcntl.LOCK_SH, seconds) as held:
        yield held


@contextlib.contextmanager
def _held(path: Path, how: int, seconds: float) -> Iterator[bool]:
    try:
        # Not blocking: a pipe under this name must not hang the program.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ConsentLedgerError(f"cannot open {path}: {error.strerror}", hint=files.advice(error)) from error
    try:
        ends = time.monotonic() + seconds
        while (held := _flock(descriptor, how)) is None:
            if time.monotonic() >= ends:
                raise LedgerBusy(
                    f"{holders(path) or 'another process'} is writing to {path}",
                    hint="wait for it to finish, or end it: a process that is ended, even killed, leaves no lock behind",
                )
            time.sleep(0.01)
        if not _is_still(path, descriptor):  # its last holder took it away: another may hold the one that is there now
            raise LedgerBusy(f"{path} was removed or replaced meanwhile", hint="run the command again")
        yield held
    finally:
        os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _flock(descriptor: int, how: int) -> bool | None:
    """True: held now. None: another holds it. False: there are no locks here."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        return False
    return True


def holders(*paths: Path) -> str:
    """Who holds a writer's lock on one of these, as `process 1234 ('consent')`; empty where the system does not say.

    Nothing is opened: to close a descriptor of a file is to lose every POSIX lock that this process has on it.
    """
    wanted = set()
    for path in paths:
        with contextlib.suppress(OSError):
            status = path.stat()
            wanted.add(f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}")
    found = []
    # proc(5), /proc/locks: number, kind, ADVISORY, READ or WRITE, process, device:inode, first and last byte. `->` waits.
    for line in _text(Path("/proc/locks")).splitlines():
        words = line.split()
        # To read, a database is locked as well; a folder is locked together by those who write to it.
        holds = len(words) == 8 and (words[3] == "WRITE" or words[1] == "FLOCK")
        if holds and words[5] in wanted and int(words[4]) > 0:
            name = _text(Path(f"/proc/{words[4]}/comm")).strip()
            found.append(f"process {words[4]}" + (f" ({name!r})" if name else ""))
    return ", ".join(dict.fromkeys(found))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
