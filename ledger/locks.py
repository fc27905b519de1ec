"""Locks of the kernel, which releases them when their holder ends, however it ends: a killed process leaves none behind."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from ledger import files
from ledger.errors import ConsentLedgerError

_UNSUPPORTED = (errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)


@contextlib.contextmanager
def exclusive(folder: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold a folder's lock, which its holders alone heed. Yields False where the file system has no such locks (some of NFS).

    Raises BlockingIOError where another holds it and `wait` is False.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConsentLedgerError(f"cannot open {folder}: {error.strerror}", hint=files.advice(error)) from error
    try:
        yield _flock(descriptor, wait)
    finally:
        os.close(descriptor)


def _flock(descriptor: int, wait: bool) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
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
        if len(words) == 8 and words[3] == "WRITE" and words[5] in wanted and int(words[4]) > 0:
            name = _text(Path(f"/proc/{words[4]}/comm")).strip()
            found.append(f"process {words[4]}" + (f" ({name!r})" if name else ""))
    return ", ".join(dict.fromkeys(found))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
