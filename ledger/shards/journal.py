"""What a run has finished, one signed line a shard, so that a run that is started again does only the rest.

In a store, where nothing can be appended to, each line is an object of its own, named by the shard's name hashed; the last line
about the whole is `note.json`.

A line counts when its signature is the run key's, and when what decided the shard (input digest, answers, columns, code) and
the output that stands there are all what the line says. Anything else is done again.

A run that is whole ends its journal with one line for all shards: the digest of the file in its index that holds their lines
(see ledger/rerun.py). Who has that file need not look at a line before it, each of which costs a signature.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

from ledger import files
from ledger.errors import ShardError, VerificationError
from ledger.log import canonical, dsse
from ledger.log.keys import PrivateKey, PublicKey
from ledger.objects import Address, Place, named

PAYLOAD_TYPE = "application/vnd.consent-ledger.journal+json"
_MAX_BYTES = 256 << 20
_MAX_LINE = 1 << 20
_NOTE = "note.json"

Line: TypeAlias = dict[str, Any]
AllOf: TypeAlias = Callable[[str], dict[str, Line] | None]


def journal_path(output: Place) -> Place:
    """Beside the output folder of a run that is no part."""
    output = named(output)
    return output.with_name(f"{output.name}.journal" if isinstance(output, Address) else f"{output.name}.journal.jsonl")


class Journal:
    """Lines by output name. Raises ShardError where the file cannot be read or written."""

    def __init__(self, path: Place, key: PrivateKey) -> None:
        self._path, self._key, self._lock = path, key, threading.Lock()
        self._data, self._identity = (b"", None) if isinstance(path, Address) else _read(path)
        self._torn = bool(self._data) and not self._data.endswith(b"\n")
        self._lines: dict[str, Line] | None = None

    def lines(self, all_of: AllOf = lambda digest: None) -> dict[str, Line]:
        """The last line of each name. all_of: what the file of a digest holds, those of all shards; None where there is none."""
        if self._lines is None:
            self._lines = latest(self._data, [self._key.public], all_of)
        return self._lines

    def is_current(self) -> bool:
        """Whether nobody has written to it since it was read."""
        return isinstance(self._path, Address) or _identity(self._path) == self._identity

    def finished(self, name: str, deciding: dict[str, str], output: Place) -> Line | None:
        """The line that was journalled for this very work, if the output still is what it made."""
        line = _read_object(_object(self._path, name), self._key) if isinstance(self._path, Address) else self.lines().get(name)
        if line is None or line.get("name") != name or line["deciding"] != deciding or not output.is_file():
            return None
        return line if files.sha256_of(output) == line["result"]["output_sha256"] else None

    def finish(self, line: Line) -> None:
        """line: `name`, `deciding`, `result`, and `index` where there is one. Durable when it returns."""
        self._append(line)

    def note(self, document: dict[str, Any]) -> None:
        """A line about the whole, for `last_note`. Durable when it returns."""
        self._append(document)

    def _append(self, document: dict[str, Any]) -> None:
        payload = canonical.encode(document)
        line = (
            canonical.encode(
                {"payload": payload.decode(), "sig": canonical.encode_base64(self._key.sign(dsse.pae(PAYLOAD_TYPE, payload)))}
            )
            + b"\n"
        )
        if isinstance(self._path, Address):
            files.publish_bytes(_object(self._path, document["name"]) if "name" in document else self._path / _NOTE, line)
            return
        try:
            with self._lock, self._path.open("ab") as file:
                file.write(b"\n" * self._torn + line)  # so that it does not continue a torn one
                self._torn = False
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ShardError(f"cannot write {self._path}: {error.strerror or error}", hint=files.advice(error)) from error


def _object(folder: Address, name: str) -> Address:
    return folder / f"{sha256(name.encode()).hexdigest()}.json"


def _read_object(address: Address, key: PrivateKey, limit: int = _MAX_LINE) -> dict[str, Any] | None:
    if not address.is_file():
        return None
    with address.open() as file:
        data = file.read(limit + 1)
    return _open(data.removesuffix(b"\n"), [key.public]) if len(data) <= limit else None


def _read(path: Path) -> tuple[bytes, tuple[int, ...] | None]:
    try:
        identity = _identity(path)
        if identity is None:
            return b"", None
        if path.stat().st_size > _MAX_BYTES:
            raise ShardError(f"{path} is too large for a journal", hint="remove it: the run then starts from the beginning")
        return path.read_bytes(), identity
    except OSError as error:
        raise ShardError(f"cannot use {path}: {error.strerror or error}", hint=files.advice(error)) from error


def _identity(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def latest(data: bytes, keys: Sequence[PublicKey], all_of: AllOf) -> dict[str, Line]:
    """The last line of each name in a journal's bytes. all_of: see `Journal.lines`."""
    lines: dict[str, Line] = {}
    end = len(data)
    while end >= 0:
        start = data.rfind(b"\n", 0, end) + 1
        # A line that is torn by a crash, or is of another key: that shard is done again.
        line = _open(data[start:end], keys)
        if line is not None and "name" in line:
            lines.setdefault(line["name"], line)
        elif line is not None and "all" in line and (earlier := all_of(line["all"])) is not None:
            return earlier | lines
        end = start - 1
    return lines


def last_note(path: Place, key: PrivateKey) -> dict[str, Any]:
    """What the last line says; nothing where it is torn, or of another key."""
    if isinstance(path, Address):
        return _read_object(path / _NOTE, key, _MAX_BYTES) or {}
    with path.open("rb") as file:
        data = file.read(_MAX_BYTES)
    return _open(data.rstrip(b"\n").rpartition(b"\n")[2], [key.public]) or {}


def _open(sealed: bytes, keys: Sequence[PublicKey]) -> dict[str, Any] | None:
    if not sealed:
        return None
    try:
        envelope = canonical.decode(sealed, limit=_MAX_BYTES)
        payload: bytes = envelope["payload"].encode()
        signature = canonical.decode_base64(envelope["sig"])
        if not any(_has_signed(key, signature, dsse.pae(PAYLOAD_TYPE, payload)) for key in keys):
            return None
        return canonical.decode(payload, limit=_MAX_BYTES)
    except (VerificationError, KeyError, AttributeError, TypeError):
        return None


def _has_signed(key: PublicKey, signature: bytes, data: bytes) -> bool:
    try:
        key.verify(signature, data)
    except VerificationError:
        return False
    return True
