"""What a run has finished, one signed line a shard, so that a run that is started again does only the rest.

In a store, where nothing can be appended to, each line is an object of its own, named by the shard's name hashed; the last line
about the whole is `note.json`.

A line counts when its signature is the run key's, and when what decided the shard (input digest, answers, columns, code) and
the output that stands there are all what the line says. Anything else is done again.
"""

from __future__ import annotations

import os
import threading
from hashlib import sha256
from pathlib import Path
from typing import Any

from ledger import files
from ledger.errors import ShardError, VerificationError
from ledger.log import canonical, dsse
from ledger.log.keys import PrivateKey
from ledger.objects import Address, Place

PAYLOAD_TYPE = "application/vnd.consent-ledger.journal+json"
_MAX_BYTES = 256 << 20
_MAX_LINE = 1 << 20
_NOTE = "note.json"


class Journal:
    """Lines by output name. Raises ShardError where the file cannot be read or written."""

    def __init__(self, path: Place, key: PrivateKey) -> None:
        self._path, self._key, self._lock = path, key, threading.Lock()
        self._lines = {} if isinstance(path, Address) else _read(path, key)

    def finished(self, name: str, deciding: dict[str, str], output: Place) -> dict[str, Any] | None:
        """The result that was journalled for this very work, if the output still is what it made."""
        line = _read_object(_object(self._path, name), self._key) if isinstance(self._path, Address) else self._lines.get(name)
        if line is None or line.get("name") != name or line["deciding"] != deciding or not output.is_file():
            return None
        result: dict[str, Any] = line["result"]
        return result if files.sha256_of(output) == result["output_sha256"] else None

    def finish(self, name: str, deciding: dict[str, str], result: dict[str, Any]) -> None:
        """Durable when it returns."""
        self._append({"name": name, "deciding": deciding, "result": result})

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
                file.write(line)
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
    return _open(data.removesuffix(b"\n"), key) if len(data) <= limit else None


def _read(path: Path, key: PrivateKey) -> dict[str, dict[str, Any]]:
    try:
        if not path.exists():
            return {}
        if path.stat().st_size > _MAX_BYTES:
            raise ShardError(f"{path} is too large for a journal", hint="remove it: the run then starts from the beginning")
        data = path.read_bytes()
        if data and not data.endswith(b"\n"):
            with path.open("ab") as file:
                file.write(b"\n")  # so that the next line does not continue a torn one
    except OSError as error:
        raise ShardError(f"cannot use {path}: {error.strerror or error}", hint=files.advice(error)) from error
    lines = {}
    for sealed in data.split(b"\n"):
        # A line that is torn by a crash, or is of another key: that shard is done again.
        if (line := _open(sealed, key)) is not None and "name" in line:
            lines[line["name"]] = line
    return lines


def last_note(path: Place, key: PrivateKey) -> dict[str, Any]:
    """What the last line says; nothing where it is torn, or of another key."""
    if isinstance(path, Address):
        return _read_object(path / _NOTE, key, _MAX_BYTES) or {}
    with path.open("rb") as file:
        data = file.read(_MAX_BYTES)
    return _open(data.rstrip(b"\n").rpartition(b"\n")[2], key) or {}


def _open(sealed: bytes, key: PrivateKey) -> dict[str, Any] | None:
    try:
        envelope = canonical.decode(sealed, limit=_MAX_BYTES)
        payload: bytes = envelope["payload"].encode()
        key.public.verify(canonical.decode_base64(envelope["sig"]), dsse.pae(PAYLOAD_TYPE, payload))
        return canonical.decode(payload, limit=_MAX_BYTES)
    except (VerificationError, KeyError, AttributeError, TypeError):
        return None
