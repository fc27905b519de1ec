"""`OUT.index/`, beside OUT: what a run leaves for the next (docs/formats.md). Files are named by their digest, which a signed
line of the journal holds; of one that is not there, was edited or is torn, nothing is taken, so that the shard is done again.

A file is not synced, but for the few that stand for all shards: what a crash loses is work, and never an answer.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Collection
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from ledger import files
from ledger.errors import ConsentLedgerError, ShardError, UsageError
from ledger.objects import Address, Place
from ledger.shards.publish import HashingSink
from ledger.shards.subject_index import SALT_BYTES

T = TypeVar("T")

FORMAT = "consent-ledger/run-index/v1"
SUBJECTS, ANSWERS, KEPT, TREE, RUN = "subjects", "answers", "kept", "tree", "run"
_OURS = re.compile(r"[0-9a-f]{64}\.(subjects|answers|kept|tree|run)")
_SALT = "salt"
_FINE, _COARSE = 50_000_000, 2_000_000_000
"""Nanoseconds in which a file may change without a new time: a clock's tick here; on some file systems two seconds."""


def index_folder(output: Path) -> Path:
    return output.with_name(f"{output.name}.index")


class IndexFolder:
    """The folder with its secret. salt: 32 bytes; what was hashed under another is nothing."""

    def __init__(self, path: Path, salt: bytes) -> None:
        self.path, self.salt = path, salt
        self.salt_sha256 = sha256(b"consent-ledger/run-index/v1/salt\n" + salt).hexdigest()

    @classmethod
    def open(cls, output: Path) -> IndexFolder | None:
        """To read. None where there is none, or its secret is not private and whole."""
        path = index_folder(output)
        try:
            if path.is_symlink():
                return None
            salt = files.read_private(path / _SALT)
        except (ConsentLedgerError, OSError):
            return None
        return cls(path, salt) if len(salt) == SALT_BYTES else None

    @classmethod
    def of(cls, output: Path) -> IndexFolder | None:
        """To write, by whoever holds the output folder alone: see `make`. None where another user's is there: it serves their
        runs. Raises UsageError where something else has the name.
        """
        path = index_folder(output)
        require_ours(output)
        if path.is_dir() and path.stat().st_uid != os.geteuid():
            return None
        return cls.open(output) or cls(path, secrets.token_bytes(SALT_BYTES))

    def make(self) -> None:
        """Make what is not there yet. Raises ShardError."""
        try:
            self.path.mkdir(mode=0o700, exist_ok=True)
            self.path.chmod(0o700)
        except OSError as error:
            raise ShardError(f"cannot use {self.path}: {error.strerror or error}", hint=files.advice(error)) from error
        files.sweep_below(self.path)
        with contextlib.suppress(ConsentLedgerError, OSError):
            if files.read_private(self.path / _SALT) == self.salt:
                return
        files.withdraw(self.path / _SALT)
        files.create_private(self.path / _SALT, self.salt)

    def write(self, kind: str, data: bytes, rest: bytes = b"", *, sync: bool = False) -> str:
        """The digest by which it is found again. rest: of the file, which its digest does not cover."""
        digest = sha256(data).hexdigest()
        path = self.path / f"{digest}.{kind}"
        temporary = files.temporary_beside(path)
        try:
            with files.open_private(temporary) as file:
                file.write(data)
                file.write(rest)
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            files.discard(temporary)
            raise ShardError(f"cannot write {path}: {error.strerror or error}", hint=files.advice(error)) from error
        return digest

    def read(self, kind: str, digest: str) -> bytes | None:
        """What has this digest; None where it is not there, or has another."""
        data = self.read_by(kind, digest, _whole)
        return data if data is not None and sha256(data).hexdigest() == digest else None

    def read_by(self, kind: str, digest: str, reader: Callable[[int, str], T | None]) -> T | None:
        """What `reader(descriptor, digest)` says of the file of that name; None where it is not there, or cannot be read."""
        if not _OURS.fullmatch(f"{digest}.{kind}"):
            return None
        try:
            file = os.open(f"{self.path}/{digest}.{kind}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                return reader(file, digest) if stat.S_ISREG(os.fstat(file).st_mode) else None
            finally:
                os.close(file)
        except OSError:
            return None

    def read_run(self, digest: str) -> dict[str, Any] | None:
        """What a whole run left: of it all shards' lines are under `lines`, by name."""
        if (data := self.read(RUN, digest)) is None:
            return None
        run: dict[str, Any] = json.loads(data)
        return run if run.get("format") == FORMAT else None

    def write_run(self, run: dict[str, Any]) -> str:
        return self.write(RUN, json.dumps({"format": FORMAT, **run}, sort_keys=True, separators=(",", ":")).encode(), sync=True)

    def sync(self) -> None:
        files.sync_folder(self.path)

    def keep_only(self, named: Collection[str]) -> None:
        """Remove what earlier runs have left. named: files that stay."""
        for entry in os.scandir(self.path):
            if _OURS.fullmatch(entry.name) and entry.name not in named:
                with contextlib.suppress(OSError):  # the next run tries again
                    Path(entry).unlink()


def require_ours(output: Path) -> None:
    """Raises UsageError where the name of the index is something else's."""
    path = index_folder(output)
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise UsageError(
            f"{path} is where a run keeps its index, and is something else", hint="choose another folder with -o, or move it away"
        )


def _whole(file: int, _: str) -> bytes:
    with open(file, "rb", closefd=False) as whole:
        return whole.read()


def identity(path: Place | str, *, follow: bool = True) -> str | None:
    """By which a file is known to be unchanged without reading it. None for an object of a store, and for what is no file."""
    if isinstance(path, Address):
        return None
    try:
        found = os.stat(path, follow_symlinks=follow)  # noqa: PTH116 - asked of text as well
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return identity_of((found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns))


def identity_of(status: tuple[int, int, int, int]) -> str:
    """status: size, mtime, inode and ctime. Not the device: that one may be another after the machine was started again."""
    return "-".join(map(str, status))


def identity_begins(sink: HashingSink) -> str:
    """Of what was written, whatever name it gets: that changes the ctime alone, which comes last."""
    with sink.written() as file:
        found = os.fstat(file.fileno())
    return f"{found.st_size}-{found.st_mtime_ns}-{found.st_ino}-"


def settled(known: str | None, since: int) -> str | None:
    """The identity, unless the file had changed just before it was read: it could change once more under the same time.

    since: nanoseconds, of before it was read.
    """
    if known is None:
        return None
    _, mtime, _, ctime = map(int, known.rsplit("-", 3))
    return known if max(mtime, ctime) < since - (_FINE if ctime % 1_000_000_000 else _COARSE) else None


def now_ns() -> int:
    return time.time_ns()
