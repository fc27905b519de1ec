"""The sink that a shard is written to: hashed as it is written, and published whole or not at all.

The bytes go to a hidden temporary name beside the final one. Only `publish` gives the file its name, once its bytes are on
disk; an exception, a crash or a forgotten sink leaves nothing under it. The digest is of the bytes that were handed over, not
of what a second reading of the disk returns; of a copy it is what the original was hashed to, once both have one fingerprint.
What is to become an object of a store is first a file without a name.

A `pyarrow.parquet.ParquetWriter` that is abandoned writes a valid footer when it is collected. So what follows the row groups
can be held back (`hold`, `release`) and replaced, and a sink that was discarded takes further bytes and drops them.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ledger import files, objects
from ledger.blocks import Readable
from ledger.errors import ShardError
from ledger.objects import Place
from ledger.shards.fingerprint import Fingerprint, Hashed, pieces

if TYPE_CHECKING:
    from typing_extensions import Buffer


class HashingSink(io.RawIOBase):
    """A binary file to write to once. Used as a context manager it discards what was not published.

    Missing folders are created. Raises ShardError where the system refuses.
    """

    def __init__(self, path: str | Place) -> None:
        self.path = objects.place(path)
        self.temporary: Path | None = None
        self._hash = hashlib.sha256()
        self._copied: str | None = None
        self._written = 0
        self._held: bytearray | None = None
        self._file: io.FileIO | None = None
        with self._failing():
            files.make_folder(self.path.parent)
            if isinstance(self.path, Path):
                self.temporary = files.temporary_beside(self.path)
                self._file = self.temporary.open("x+b", buffering=0)
            else:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by discard

    @property
    def sha256(self) -> str:
        """The digest, in hexadecimal, of the bytes written so far; those held back are not among them."""
        return self._copied or self._hash.hexdigest()

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written + len(self._held or b"")

    def write(self, data: Buffer, /) -> int:
        if self._copied is not None:
            raise ShardError(f"{self.path} is a copy, and nothing more")
        with memoryview(data).cast("B") as view:
            if self._held is not None:
                self._held += view
            elif self._file is not None:
                self._hash.update(view)
                self._put(view, self._file)
            return len(view)

    def copy(self, file: Readable, known: Hashed) -> None:
        """Write all that a file holds from here on, and nothing else before or after it. known: what it was hashed to.

        Raises ShardError where these are other bytes; the sink is then discarded, as it is at any other exception.
        """
        if self._file is None or self._written or self._held is not None:
            raise ShardError(f"{self.path} cannot become a copy: it was discarded, or written to")
        found = Fingerprint()
        try:
            for data in pieces(file):
                found.update(data)
                with memoryview(data) as view:
                    self._put(view, self._file)
            if found != known.fingerprint:
                raise ShardError("it was changed while it was read")
        except BaseException:
            self.discard()
            raise
        self._copied = known.sha256

    def hold(self) -> None:
        """From here on keep the bytes back, until `release`."""
        self._held = bytearray()

    def release(self) -> bytes:
        """Stop keeping bytes back, and hand over those that were: whoever asks for them writes what is to stand there."""
        held, self._held = bytes(self._held or b""), None
        return held

    def written(self) -> io.BufferedReader:
        """What was written so far, to read from its beginning, before anything more is."""
        if self._file is None:
            raise ShardError(f"{self.path} was discarded")
        self._file.seek(0)
        return os.fdopen(os.dup(self._file.fileno()), "rb")

    def publish(self) -> None:
        """Give the file its name, durably. What stood there before is replaced."""
        if self._file is None or self._held is not None:
            raise ShardError(f"{self.path} cannot be published: it was discarded or is not complete")
        with self._failing():
            if isinstance(self.path, Path):
                assert self.temporary is not None
                os.fsync(self._file.fileno())
                self._file.close()
                self.temporary.replace(self.path)
                self._file = None
                files.sync_folder(self.path.parent)
            else:
                with self.written() as file:
                    objects.publish(self.path, files.temporary_beside(self.path), file, self._written, self.sha256)
                self.discard()

    def discard(self) -> None:
        """Remove what was not published. May be called at any time, and again."""
        file, self._file = getattr(self, "_file", None), None
        if file is not None:
            file.close()
            if self.temporary is not None:
                files.discard(self.temporary)

    def close(self) -> None:
        """Also called by the collector, so that a forgotten sink leaves nothing behind."""
        self.discard()
        super().close()

    def _put(self, view: memoryview, file: io.FileIO) -> None:
        with self._failing():
            written = 0
            while written < len(view):
                written += file.write(view[written:])
        self._written += written

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.discard()
            raise ShardError(f"cannot write {self.path}: {error.strerror or error}", hint=files.advice(error)) from error
