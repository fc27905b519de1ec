"""Files: keys are read and written privately, everything else is published whole or not at all.

- A key file belongs to the user, nobody else may read it, and it is never overwritten.
- A published file appears under its name complete and durable (its bytes and its folder are synced), or not at all:
  until then it has a hidden name beside the final one that no reader of data sets picks up. What a killed process left under
  such a name is swept away by the next one that holds its lock.
- What the system refuses comes out as ConsentLedgerError.

What is published, withdrawn or swept may also be an object of a store, by its address: see `objects`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from ledger import objects
from ledger.errors import ConsentLedgerError, ShardError
from ledger.objects import Address, P, Place

_MAX_PRIVATE_BYTES = 64 << 10
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp", re.DOTALL)
"""The names that `temporary_beside` gives."""


def read_private(path: str | Path) -> bytes:
    """The content of a key file. Raises ConsentLedgerError where others may read it, or where it is another user's."""
    with _failing(f"cannot read {path}"):
        # Not blocking: a pipe under a key's name must not hang the program before it is refused.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            # Of the open file, not of the path: what is checked is what is read.
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ConsentLedgerError(f"{path} is not a regular file")
            if status.st_uid != os.geteuid():
                raise ConsentLedgerError(f"{path} belongs to another user", hint="chown it to the user that runs this")
            if status.st_mode & 0o077:
                raise ConsentLedgerError(f"{path} is open to other users", hint=f"chmod 600 {path}")
            content, at_once = b"", min(status.st_size, _MAX_PRIVATE_BYTES) + 1
            while len(content) <= _MAX_PRIVATE_BYTES and (more := os.read(descriptor, at_once)):
                content += more
        finally:
            os.close(descriptor)
    if len(content) > _MAX_PRIVATE_BYTES:
        raise ConsentLedgerError(f"{path} is too large for a key")
    return content


def create_private(path: str | Path, data: bytes) -> None:
    """Write a new file that its owner alone may read, whole or not at all. Raises ConsentLedgerError where one is there."""
    path = Path(path)
    temporary = temporary_beside(path)
    with _failing(f"cannot create {path}"):
        try:
            with _opened_private(temporary) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            path.hardlink_to(temporary)
        finally:
            discard(temporary)
        try:
            sync_folder(path.parent)
        except BaseException:
            discard(path)  # else it would be in the way of the next attempt
            raise


def open_private(path: Path) -> IO[bytes]:
    """A new file to write, which its owner alone may read."""
    with _failing(f"cannot create {path}"):
        return _opened_private(path)


def _opened_private(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


@contextlib.contextmanager
def publishing_private(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, which its owner alone may read. At the end it gets its name, in place of what has it, whole and
    durable; where an error comes out, nothing does."""
    with _publishing(path, open_private) as file:
        yield file


@contextlib.contextmanager
def _publishing(path: Path, make: Callable[[Path], IO[bytes]], *, sync: bool = True) -> Iterator[IO[bytes]]:
    temporary = temporary_beside(path)
    with _failing(f"cannot write {path}"):
        try:
            with make(temporary) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            discard(temporary)
            raise
        if sync:
            sync_folder(path.parent)


def name_new(temporary: Path, path: Path) -> None:
    """Give a synced temporary file its name. Raises ConsentLedgerError where a file of other content has it."""
    with _failing(f"cannot create {path}"):
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            if not path.is_file() or sha256_of(path) != sha256_of(temporary):
                raise ConsentLedgerError(
                    f"{path} is there already, with other content", hint="it is not replaced: move it away, or name another file"
                ) from None
        sync_folder(path.parent)


def publish_bytes(path: str | Place, data: bytes, *, sync: bool = True) -> None:
    """Write or replace a file: after a crash its name leads to the old content or to the new, never to part of one.

    sync: make the name durable, too; whoever writes many files of a folder may do so once, with `sync_folder`.
    """
    path = objects.place(path)
    if isinstance(path, Address):
        objects.publish(path, temporary_beside(path), io.BytesIO(data), len(data), hashlib.sha256(data).hexdigest())
        return
    with _publishing(path, lambda temporary: temporary.open("xb"), sync=sync) as file:
        file.write(data)


def withdraw(path: str | Place) -> None:
    """Remove a file, where there is one, durably: after a crash it does not come back."""
    path = objects.place(path)
    if isinstance(path, Address):
        path.remove()
        return
    with _failing(f"cannot remove {path}"), contextlib.suppress(FileNotFoundError):
        path.unlink()
        sync_folder(path.parent)


def withdraw_all(paths: Sequence[Path]) -> None:
    """The same for files of one folder, one after the other; durable when all are removed."""
    for path in paths:
        with _failing(f"cannot remove {path}"):
            path.unlink(missing_ok=True)
    if paths:
        sync_folder(paths[0].parent)


def temporary_beside(path: P) -> P:
    """A fresh hidden name in the same folder (so that a rename is atomic), short enough wherever the final one is."""
    return path.with_name(f"{hidden(path)}{secrets.token_hex(8)}.tmp")


def discard(temporary: Path) -> None:
    """Remove what is not to be published, if that succeeds: what is told is why it is not, and the next writer sweeps."""
    with contextlib.suppress(OSError):
        temporary.unlink()


def sweep(path: Place, *beside: Path) -> None:
    """Remove what killed processes left where they were about to write this file, or others in its folder. For whoever alone may
    write them now."""
    if isinstance(path, Address):
        for name, _ in list(path.parent.below(recursive=False)):
            if name[:-20] == hidden(path) and _TEMPORARY.fullmatch(name):
                (path.parent / name).remove()
        return
    with _failing(f"cannot clean up beside {path}"):
        if path.parent.is_dir():
            beginnings = {hidden(one) for one in (path, *beside)}
            with os.scandir(path.parent) as there:
                for found in [one.name for one in there if one.name[:-20] in beginnings and _TEMPORARY.fullmatch(one.name)]:
                    _sweep(path.with_name(found))


def sweep_below(folder: Place) -> None:
    """The same for every file in a folder and in those below it; links are not followed."""
    if isinstance(folder, Address):
        for name, is_object in list(folder.below()):
            if is_object and _TEMPORARY.fullmatch(name.rpartition("/")[2]):
                (folder / name).remove()
        return
    with _failing(f"cannot clean up in {folder}"):
        for above, _, names in os.walk(folder):
            for name in filter(_TEMPORARY.fullmatch, names):
                _sweep(Path(above) / name)


def _sweep(found: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISREG(found.lstat().st_mode):
            found.unlink()


def shards_below(folder: Place) -> list[str]:
    """The names from a folder of every `*.parquet` in it and below it, hidden or not; links to folders are not followed."""
    if isinstance(folder, Address):
        return sorted(name for name, is_object in folder.below() if is_object and name.endswith(".parquet"))
    found = []
    for above, folders, names in os.walk(folder):
        below = "" if Path(above) == folder else f"{Path(above).relative_to(folder).as_posix()}/"
        found += [f"{below}{name}" for name in (*folders, *names) if name.endswith(".parquet")]
    return found


def resolved(paths: Iterable[Place]) -> list[str]:
    """What `resolve` says of each, as text, where many are in one folder: that is resolved once."""
    folders: dict[str, str] = {}
    found: list[str] = []
    for path in paths:
        text = str(path)
        above, name = os.path.split(text)  # by text: a path takes longer to make than to look at
        if isinstance(path, Address) or name in ("", "..") or os.path.islink(text):  # noqa: PTH114
            found.append(str(path.resolve()))
            continue
        if above not in folders:
            folders[above] = str(Path(above).resolve())
        found.append(os.path.join(folders[above], name))  # noqa: PTH118
    return found


def hidden(path: Place) -> str:
    """How the hidden names begin that `temporary_beside` gives."""
    return f".{path.name[:40]}."


def make_folder(folder: str | Place) -> None:
    """A folder with its missing parents, durably. In a store there are none: only the bucket must be there."""
    folder = objects.place(folder)
    if isinstance(folder, Address):
        bucket = Address(folder.bucket, "", folder.options)
        if not bucket.exists():
            raise ShardError(f"there is no bucket {bucket}", hint="make it, or look at its name and at the store's endpoint")
        return
    with _failing(f"cannot create {folder}"):
        if not folder.is_dir():
            make_folder(folder.parent)
            folder.mkdir(exist_ok=True)
            sync_folder(folder.parent)


def make_file(path: Path) -> None:
    """An empty file, durably, where there is none."""
    with _failing(f"cannot create {path}"):
        if not path.exists():
            path.open("ab").close()
            sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make what was created, renamed or removed in a folder durable."""
    with _failing(f"cannot sync {folder}"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sha256_of(path: str | Place) -> str:
    """The digest of a file's content, in hexadecimal."""
    if isinstance(path, Address):
        return objects.sha256_of(path)
    with _failing(f"cannot read {path}"), Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _failing(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConsentLedgerError(f"{what}: {error.strerror or error}", hint=advice(error)) from error


def advice(error: OSError) -> str | None:
    """What to do about an error of the system, where that can be said."""
    return _ADVICE.get(error.errno or 0)


_ADVICE = {
    errno.ENOSPC: "the disk is full: free some space, then run the command again",
    errno.EDQUOT: "your share of the disk is full: free some space, then run the command again",
    errno.EROFS: "the file system is mounted read-only: name another place, or mount it writable",
    errno.EACCES: "you may not: name another place, or let its owner give you the right",
    errno.EEXIST: "something else has this name: choose another",
    errno.EISDIR: "this is a folder: name a file",
    errno.ENOTDIR: "a folder is needed where a file is: look at the name",
    errno.ENOENT: "look at the name: nothing is there",
    errno.EIO: "the disk failed: look after it, then run the command again",
}
