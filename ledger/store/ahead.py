"""A second process that reads an import's file ahead of the writer, and prepares its acts.

It opens the file by its name, and the ledger's folder for `tag.key`; it knows nothing of what the log holds, and no key that
signs. Its answer comes chunk by chunk, each under a digest of it and of all before it, and an end.

> Whatever it does not prepare, cannot do, or fails at, the writer does from the file, and alone says what is wrong. So does it
> after an answer that is cut short, altered or out of place: that changes nothing of what is recorded.
"""

from __future__ import annotations

import contextlib
import gc
import marshal
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from ledger.consent import YES
from ledger.log.entry import subject_tagger
from ledger.store.admitting import Admission
from ledger.store.beside import answering, beside
from ledger.store.folder import Folder
from ledger.store.mapping import ImportColumns
from ledger.store.prepared import Prepared, prepared
from ledger.store.reader import Reader
from ledger.store.turning import Turning

WORTHWHILE = 60_000
"""Rows from which on it saves more than its start takes."""
_LENGTH, _DIGEST = 8, 32
_MAX_BYTES = 1 << 30
_VERSION = 2
"""Of marshal's form: later ones look for objects that come again."""


class Ahead:
    """What it has prepared."""

    def __init__(self, process: subprocess.Popen[bytes], answer: IO[bytes]) -> None:
        self._process, self._answer = process, answer
        self.whole = False
        """Whether it came to the file's end."""
        self.turning: Sequence[int] | None = None
        """Then: see `Turning.rows`; None where not all of the file's acts were prepared."""

    def chunks(self) -> Iterator[tuple[int, Prepared | None]]:
        """Of each of the file's chunks, in order, how many rows it has, and its acts where all were prepared."""
        before = b""
        while (told := self._next(before)) is not None:
            data, before = told
            count, columns = marshal.loads(data)  # noqa: S302 - our own process wrote it, and nobody altered it
            if not count:
                self.turning = columns
                self.whole = self._process.wait() == 0
                return
            yield count, None if columns is None else Prepared(*columns)

    def _next(self, before: bytes) -> tuple[bytes, bytes] | None:
        """(what it says, its digest)."""
        head = self._answer.read(_LENGTH + _DIGEST)
        length = int.from_bytes(head[:_LENGTH])
        if len(head) < _LENGTH + _DIGEST or length > _MAX_BYTES:
            return None
        data = self._answer.read(length)
        digest = _digest(before, data)
        return (data, digest) if digest == head[_LENGTH:] else None


@contextlib.contextmanager
def ahead(
    folder: Path, file: Path, state: list[int], reader: Reader, admission: Admission, recorded_by: str
) -> Iterator[Ahead | None]:
    """It ends with the context. None where there is none. state: of the file that is meant, by `state_of`."""
    asked = {
        "folder": str(folder.resolve()),
        "file": str(file.resolve()),
        "state": state,
        "form": reader.form,
        "columns": None if reader.columns is None else [reader.columns.name, reader.columns.table()],
        "file_sha256": reader.file_sha256,
        "admission": admission.document(),
        "recorded_by": recorded_by,
    }
    with beside(__name__, asked) as other:
        yield None if other is None else Ahead(*other)


def state_of(status: os.stat_result) -> list[int]:
    """What tells one file from another, and from itself once it was written to."""
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns]


def main(asked: dict[str, Any]) -> None:
    """The second process."""
    answering(asked, _answer)


def _answer(out: IO[bytes], asked: Mapping[str, Any]) -> None:
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    columns = None if asked["columns"] is None else ImportColumns.of(*asked["columns"])
    reader = Reader(asked["form"], columns, asked["file_sha256"])
    forms = Admission.of(asked["admission"]).forms(asked["recorded_by"], asked["file_sha256"])
    tag = subject_tagger(Folder.open(Path(asked["folder"])).tag_key())
    before = b""
    turning: Turning | None
    with Turning() as turning, Path(asked["file"]).open("rb") as file:
        if state_of(os.fstat(file.fileno())) != asked["state"]:
            raise OSError("another file has that name")
        table = reader.table(file)
        for chunk in table.chunks(reader.wanted):
            if len(chunk):
                acts = prepared(reader.shorts(table, chunk, forms), tag)
                before = _say(out, before, (len(chunk), None if acts is None else tuple(acts)))
                if acts is None:
                    turning = None
                elif turning is not None:
                    scopes = zip(acts.categories, acts.content_ids, strict=True)
                    turning.add(acts.tags, [state in YES for state in acts.states], scopes, acts.moments)
        _say(out, before, (0, None if turning is None else turning.rows()))


def _say(out: IO[bytes], before: bytes, what: tuple[int, Any]) -> bytes:
    data = marshal.dumps(what, _VERSION)
    digest = _digest(before, data)
    out.write(len(data).to_bytes(_LENGTH) + digest)
    out.write(data)
    out.flush()
    return digest


def _digest(before: bytes, data: bytes) -> bytes:
    digest = sha256(before)
    digest.update(data)
    return digest.digest()
