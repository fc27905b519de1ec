"""An anchor's file: replaced whole, each time that the log grows.

To make a file and to sync it takes the file system's own journal, and so several milliseconds; to write over one that is there
takes none. So the file that was replaced is kept, beside it, as `.NAME.spare`: what is as long as what stands in it is written
over it and synced before it gets the anchor's name, which leads to a whole file at any moment.

- After a crash of the machine the name may lead to a file that has been written over since: to a newer head, as the log has it.
  What is written is shorter than a sector, which a disk writes whole or not at all.
- Whoever reads may have opened a file that is written over meanwhile: see `read`.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from ledger import files
from ledger.errors import ConsentLedgerError

_MAX = 1 << 20
_SECTOR = 512
_TRIES = 100


def read(path: Path) -> bytes:
    """At most _MAX bytes and one more. The file still had the name after it was read, and held the same when read again: so it
    was not being written over. Raises OSError."""
    for _ in range(_TRIES):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            size = min(status.st_size, _MAX) + 1
            data = os.pread(descriptor, size, 0)
            whole = len(data) == min(status.st_size, size)
            if whole and os.path.samestat(status, path.stat()) and os.pread(descriptor, size, 0) == data:
                return data
        finally:
            os.close(descriptor)
    raise BlockingIOError(errno.EAGAIN, "it is written over time and again", str(path))


def write(path: Path, data: bytes, *, alone: bool) -> None:
    """Its name is not synced: after a crash an older head may stand there, which the database extends as well.

    alone: nobody else writes it meanwhile. Raises ConsentLedgerError.
    """
    spare = _spare(path)
    if not alone:
        files.publish_bytes(path, data, sync=False)
        return
    sweep(path)
    if not _written_over(spare, data):
        files.publish_bytes(spare, data, sync=False)
    kept = files.temporary_beside(path)
    try:
        try:
            os.link(path, kept, follow_symlinks=False)
        except OSError:  # there is no anchor yet, or the file system has no second names
            files.discard(kept)  # or it was made, though said not to be
            spare.replace(path)
        else:
            spare.replace(path)
            kept.replace(spare)
    except OSError as error:
        files.discard(kept)
        raise ConsentLedgerError(f"cannot write {path}: {error.strerror}", hint=files.advice(error)) from error


def sweep(path: Path) -> None:
    """Remove what killed writers left beside it. Nobody else writes it meanwhile."""
    files.sweep(path, _spare(path))


def _spare(path: Path) -> Path:
    return path.with_name(f".{path.name}.spare")


def _written_over(spare: Path, data: bytes) -> bool:
    """Whether it was there, ours alone and as long, and now holds this, durably."""
    try:
        descriptor = os.open(spare, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        status = os.fstat(descriptor)
        # With a second name it may be the anchor itself.
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_size != len(data) or len(data) > _SECTOR:
            return False
        whole = os.pwrite(descriptor, data, 0) == len(data)
        os.fdatasync(descriptor)
        return whole
    except OSError:
        return False
    finally:
        os.close(descriptor)
