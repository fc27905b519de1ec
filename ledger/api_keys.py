"""Who may ask the HTTP API what. The file `api.keys` in the ledger's folder: one JSON object a line, of the digests of keys.

- A key is 32 random bytes. It is told once, and kept nowhere: the file has its SHA-256.
- A name is never given twice: it stands in `recorded_by` of what its key has recorded, as `api:NAME`. Lines are never removed.
- The file is read at each request. A key that was ended is none from then on; a file that is not whole lets nobody in.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from ledger import files, locks, times
from ledger.errors import ConsentLedgerError, IntegrityError, UsageError

FILE = "api.keys"
RECORD, READ, ADMIN = SCOPES = ("record", "read", "admin")
"""None implies another."""
_MAX_BYTES = 60_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FIELDS = {"name", "sha256", "scopes", "created"}


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """One that was given out. ended: since when it is none any more."""

    name: str
    sha256: str
    scopes: Sequence[str]
    created: datetime
    ended: datetime | None = None

    @property
    def recorded_by(self) -> str:
        return f"api:{self.name}"


def add(folder: Path, name: str, scopes: Collection[str]) -> str:
    """A new key, which is told here and never again. Raises UsageError for a name that a key has or had."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r:.120} is no name for a key", hint="letters, digits and . _ - , as in crm")
    if not scopes or not set(scopes) <= set(SCOPES):
        raise UsageError("an API key has at least one scope", hint=f"scopes: {', '.join(SCOPES)}")
    key = "cl_" + secrets.token_urlsafe(32)
    with locks.exclusive(folder):
        keys = listed(folder)
        if any(other.name == name for other in keys):
            raise UsageError(
                f"an API key is or was called {name}",
                hint="choose another name: this one stands in what that key has recorded",
            )
        made = ApiKey(name=name, sha256=_digest(key), scopes=[s for s in SCOPES if s in scopes], created=times.now())
        _write(folder, [*keys, made])
    return key


def end(folder: Path, name: str) -> bool:
    """From here on the key opens nothing. False where it was ended before. Raises UsageError for none."""
    with locks.exclusive(folder):
        keys = listed(folder)
        found = next((key for key in keys if key.name == name), None)
        if found is None:
            raise UsageError(
                f"no API key is called {name!r:.120}", hint=f"there are: {', '.join(k.name for k in keys) or 'none'}"
            )
        if found.ended is None:
            _write(folder, [replace(key, ended=times.now()) if key.name == name else key for key in keys])
    return found.ended is None


def listed(folder: Path) -> list[ApiKey]:
    """All that were ever given out, the oldest first. Raises IntegrityError for a file that is not whole, ConsentLedgerError
    for one that others may read."""
    path = folder / FILE
    if not path.exists():
        return []
    try:
        return list(_parse(files.read_private(path)))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError(f"{path} is not whole: it lets nobody in", hint="put it back from your backup") from error


def find(folder: Path, key: str) -> ApiKey | None:
    """Whose key this is, by its digest; none that was ended. Raises as `listed`."""
    digest = _digest(key)
    return next((known for known in listed(folder) if known.sha256 == digest and known.ended is None), None)


def _digest(key: str) -> str:
    return sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


@lru_cache(maxsize=1)
def _parse(data: bytes) -> tuple[ApiKey, ...]:
    """Raises ValueError and its like for what `_write` has not written."""
    keys = []
    for line in data.decode().splitlines():
        fields: Mapping[str, Any] = json.loads(line)
        if not isinstance(fields, dict) or not _FIELDS <= fields.keys() <= _FIELDS | {"ended"}:
            raise ValueError("a key has other fields")
        if not (_NAME.fullmatch(fields["name"]) and _DIGEST.fullmatch(fields["sha256"]) and set(fields["scopes"]) <= set(SCOPES)):
            raise ValueError("a key is none")
        keys.append(
            ApiKey(
                name=fields["name"],
                sha256=fields["sha256"],
                scopes=tuple(fields["scopes"]),
                created=times.parse(fields["created"]),
                ended=times.parse(fields["ended"]) if "ended" in fields else None,
            )
        )
    if len({key.name for key in keys}) != len(keys):
        raise ValueError("a name is there twice")
    return tuple(keys)


def _write(folder: Path, keys: Sequence[ApiKey]) -> None:
    """For the lock's holder."""
    lines = []
    for key in keys:
        fields = {"name": key.name, "sha256": key.sha256, "scopes": list(key.scopes), "created": times.text(key.created)}
        lines.append(json.dumps(fields | ({"ended": times.text(key.ended)} if key.ended else {})) + "\n")
    data = "".join(lines).encode()
    if len(data) > _MAX_BYTES:
        raise ConsentLedgerError(f"{folder / FILE} would be too large: {len(keys)} keys", hint="use the keys that there are")
    files.sweep(folder / FILE)
    with files.publishing_private(folder / FILE) as file:
        file.write(data)
