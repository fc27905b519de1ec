"""What the next snapshot of a purpose goes on from: beside the snapshots of the ledger's own folder one private file a purpose.

It names a snapshot's file, by its digest, and has what that does not hold: the salts of its subjects' first events, and on what
grounds it stands. It is under an HMAC of the ledger's tag key. It is a copy of what the log has, for speed: where it is missing,
or not whole, or of another snapshot, all entries are read. An erasure removes it.

    canonical JSON of `_Head`, "\\n", the salts, HMAC-SHA256(K_tag, "carried\\n" || SHA-256 of all before)
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from ledger import files, locks, snapshot
from ledger.consent import split_purpose
from ledger.errors import ConsentLedgerError, IntegrityError
from ledger.log import canonical
from ledger.snapshot import Grounds, Header, Snapshot

FORMAT = "consent-ledger/carried/v1"
_MAC = 32
_MAX_HEAD = 1 << 24


@dataclass(frozen=True)
class Earlier:
    """A snapshot of this ledger, by its own word. Whether the log says the same is for others to check."""

    header: Header
    rows: Any
    file_sha256: str
    salts: memoryview


def path_of(folder: Path, token: str) -> Path:
    """Hidden, so that no backup copies it. folder: of the ledger's snapshots."""
    return folder / f".{token}.carried"


def keep(folder: Path, tag_key: bytes, frozen: Snapshot, check: Callable[[], None]) -> None:
    """Write the file of a snapshot that was published; there is none of one that left out acts for their time.

    check: that nobody of it was erased, while no erasure can remove the file. Where it cannot be written there is none: the
    snapshot itself is there.
    """
    if frozen.grounds is None or frozen.salts is None or frozen.path is None or frozen.file_sha256 is None:
        return
    path = path_of(folder, split_purpose(frozen.purpose)[0])
    with contextlib.suppress(ConsentLedgerError, OSError, ValueError):
        head = canonical.encode(  # a path that is no text is none that can be kept
            {
                "format": FORMAT,
                "version": _version(),
                "path": str(frozen.path.absolute()),
                "file_sha256": frozen.file_sha256,
                "accepts": list(frozen.grounds.accepts),
                "erasures": list(frozen.grounds.erasures),
            }
        )
        files.make_folder(folder)
        with locks.exclusive(folder) as held:
            check()
            if held:
                files.sweep(path)
            with files.publishing_private(path) as file:
                state = hashlib.sha256()
                for part in (head, b"\n", frozen.salts):
                    state.update(part)
                    file.write(part)
                file.write(_mac(tag_key, state.digest()))
            if not held:  # an erasure may have looked for it before it was there
                try:
                    check()
                except ConsentLedgerError:
                    files.withdraw(path)


def find(folder: Path, tag_key: bytes, token: str, grounds: Grounds) -> Earlier | None:
    """The snapshot to go on from, if there is one on the same grounds. None for whatever is not just what was written."""
    try:
        data = memoryview(_regular(path_of(folder, token), private=True))
        body, mac = data[:-_MAC], data[-_MAC:]
        if not hmac.compare_digest(_mac(tag_key, hashlib.sha256(body).digest()), mac):
            return None
        end = bytes(body[:_MAX_HEAD]).index(b"\n")
        head = canonical.decode(bytes(body[:end]))
        if (head["format"], head["version"]) != (FORMAT, _version()):  # what another one got wrong is not carried on
            return None
        if Grounds(tuple(head["accepts"]), tuple(head["erasures"])) != grounds:
            return None
        file = _regular(Path(head["path"]))
        if hashlib.sha256(file).hexdigest() != head["file_sha256"]:
            return None
        header, rows = snapshot.parse(file)
        return Earlier(header, rows, head["file_sha256"], body[end + 1 :])
    except (ConsentLedgerError, OSError, ValueError, KeyError, TypeError):
        return None


def _version() -> str:
    try:
        return metadata.version("consent-ledger")
    except metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return "0+uninstalled"


def _mac(tag_key: bytes, digest: bytes) -> bytes:
    return hmac.digest(tag_key, b"carried\n" + digest, "sha256")


def _regular(path: Path, *, private: bool = False) -> bytes:
    """Not through a link; a pipe must not hang the program."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or (private and (status.st_uid != os.geteuid() or status.st_mode & 0o077)):
            raise IntegrityError(f"{path} is not a file of its own")
        return file.read()
