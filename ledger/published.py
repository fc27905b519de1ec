"""A log as its static files (C2SP tlog-tiles), in a folder or behind a URL. Nothing of what is read here is trusted.

Every read is bounded. A partial tile or bundle that is not there any more is cut out of the full one that has replaced it.
"""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

from ledger import download, files
from ledger.errors import ConsentLedgerError, UsageError, VerificationError
from ledger.log import bundle, tiles
from ledger.log.merkle import HASH_BYTES
from ledger.log.note import MAX_NOTE

FILE_SECONDS = 60
"""How long one file may take, in all."""
STALLED_SECONDS = 20
ATTEMPTS = 3
PAUSE_SECONDS = 0.5
"""Before the second attempt; twice as long before the third."""
CHECKPOINT = "checkpoint"
_GONE = (404, 410)
_MAX_TILE = tiles.WIDTH * HASH_BYTES


class PublishedLog:
    """Where a log's files are. Raises UsageError for what is neither a folder nor the URL of one."""

    def __init__(self, where: str | Path) -> None:
        self.where = str(where)
        self._url = self._folder = None
        if self.where.startswith(("http://", "https://")):
            self._url = download.checked(self.where, "a published log", "https://log.example.org/consent").rstrip("/")
        elif "://" in self.where:
            raise UsageError("a published log is a folder, or behind http or https", hint="fetch its files into a folder first")
        else:
            self._folder = Path(where)
            if not self._folder.is_dir():
                raise ConsentLedgerError(f"there is no folder {self.where}", hint="name what `consent log publish` has written")

    def checkpoint(self) -> str:
        """Its note, as it is. Raises ConsentLedgerError where there is none."""
        data = self._read(CHECKPOINT, MAX_NOTE)
        if data is None:
            raise ConsentLedgerError(f"no log is published at {self.where}: it has no file `checkpoint`", hint="look at its name")
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise VerificationError(f"the checkpoint at {self.where} is not UTF-8") from error

    def tile(self, level: int, index: int, size: int) -> bytes:
        """The hashes of a tile in a tree of `size`. Raises VerificationError where it is not there, or of another length."""
        width = _width(index, size >> (tiles.HEIGHT * level))
        data, whole = self._either(tiles.tile_path(level, index, width), tiles.tile_path(level, index), _MAX_TILE)
        if len(data) != (tiles.WIDTH if whole else width) * HASH_BYTES:
            raise VerificationError(f"tile {level}/{index} of the published log has {len(data)} bytes, which is no such tile")
        return data[: width * HASH_BYTES]

    def entries(self, index: int, size: int) -> list[bytes]:
        """Those of a bundle in a tree of `size`. Raises VerificationError where it is not there, or holds anything else."""
        width = _width(index, size)
        data, whole = self._either(tiles.entries_path(index, width), tiles.entries_path(index), bundle.MAX_BUNDLE)
        try:
            return bundle.parse(data, tiles.WIDTH if whole else width)[:width]
        except VerificationError as error:
            raise VerificationError(f"bundle {index} of the published log's entries is malformed: {error}") from error

    def _either(self, path: str, full: str, limit: int) -> tuple[bytes, bool]:
        """A file, or the full one that has replaced it; and whether it is that."""
        data = self._read(path, limit)
        if data is None and path != full:
            data, path = self._read(full, limit), full
        if data is None:
            raise VerificationError(
                f"the published log lacks {path}, which its checkpoint has signed",
                hint="where the log is being copied, wait for the copy to end; else its operator withholds what it signed",
            )
        return data, path == full

    def _read(self, path: str, limit: int) -> bytes | None:
        """None: it is not there. Raises ConsentLedgerError where that is not known, VerificationError past the limit."""
        if self._folder is not None:
            return of_folder(self._folder / path, limit)
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(PAUSE_SECONDS * attempt)
            answer = download.ask(
                f"{self._url}/{path}", limit=limit, ends=time.monotonic() + FILE_SECONDS, stalled=STALLED_SECONDS
            )
            if answer.status == 200:
                return answer.body
            if answer.status in _GONE:
                return None
            if answer.status < 500 and answer.status != 429:
                break
        raise ConsentLedgerError(
            f"the server answers {answer.status} where the log's file {path} is asked for",
            hint="look at the URL; try again later",
        )


def _width(index: int, hashes: int) -> int:
    """Of a tile of a level with so many hashes."""
    return min(tiles.WIDTH, hashes - index * tiles.WIDTH)


def of_folder(path: Path, limit: int) -> bytes | None:
    """A file's content; None: there is none. Raises VerificationError past the limit, ConsentLedgerError for any other reason."""
    try:
        # Not blocking: a pipe under this name must not hang the program.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise VerificationError(f"{path} is not a file")
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConsentLedgerError(f"cannot read {path}: {error.strerror}", hint=files.advice(error)) from error
    if len(data) > limit:
        raise VerificationError(f"{path} is longer than the {limit:,} bytes that are allowed")
    return data
