"""`consent.toml`: what a project would otherwise say again with each command. It holds no secrets.

- It is found upward from the working directory; the nearest one counts alone, and one that cannot be read is an error.
- Whoever can write it says which column names the person, and whose keys count. So the file, and a link that leads to it,
  belong to the user or to root, and nobody else may write to the file or put another in its place. Others' files are
  refused and never passed over: what was found and what counts stay the same thing.
- Its keys are a closed set. Tables `[import.NAME]` are handed on as they stand: what they mean is told by who imports.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ledger.errors import UsageError

NAME = "consent.toml"
COLUMN_KEYS = ("subject", "content", "category", "created", "created_unit", "subject_prefix", "content_prefix")
_KEYS = ("trust", "snapshot", "columns", "import")
_MAX_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Config:
    """trust, snapshot: relative paths count from the file's folder. columns: per name the arguments of `Columns`, `subject` a
    tuple. imports: per name the table `[import.NAME]` as TOML has it."""

    path: Path
    trust: Path | None = None
    snapshot: Path | None = None
    columns: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    imports: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def columns_of(self, name: str) -> Mapping[str, Any]:
        """Raises UsageError where there is no [columns.NAME]."""
        if name not in self.columns:
            has = ", ".join(map(_shown, self.columns)) or "none"
            raise UsageError(f"{self.path} has no [columns.{_shown(name)}]", hint=f"it has: {has:.1000}")
        return self.columns[name]


def find(start: Path | None = None) -> Path | None:
    """The nearest consent.toml in a folder (default: the working directory) or above it; None where there is none."""
    try:
        folder = (start or Path.cwd()).resolve()
        return next((path for path in (above / NAME for above in (folder, *folder.parents)) if _is_there(path)), None)
    except OSError as error:
        raise UsageError(f"cannot look for {NAME} in {error.filename or 'the working directory'}: {error.strerror}") from error


def load(path: str | Path) -> Config:
    """Read and check a file. Raises UsageError where it says anything else than it may say, or where others could write it."""
    path = Path(path).absolute()
    try:
        document = tomllib.loads(_read(path).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no TOML: {error!s:.200}") from error
    _closed(str(path), document, _KEYS)
    return Config(
        path=path,
        trust=_file(path, document, "trust"),
        snapshot=_file(path, document, "snapshot"),
        columns={name: _columns(path, name, table) for name, table in _tables(path, document, "columns").items()},
        imports=_tables(path, document, "import"),
    )


def _is_there(path: Path) -> bool:
    """Of the name itself: a link that leads nowhere is there, and is an error when it is read."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _read(path: Path) -> bytes:
    try:
        # Not blocking: a pipe under this name must not hang the program before it is refused.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise UsageError(f"{path} is not a regular file")
            _require_ours(path, status, path.lstat(), path.parent.stat())
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > _MAX_BYTES:
        raise UsageError(f"{path} is longer than {_MAX_BYTES} bytes")
    return data


def _require_ours(path: Path, file: os.stat_result, link: os.stat_result, folder: os.stat_result) -> None:
    """file: what was opened; link: what has the name, the file itself or a symbolic link to it."""
    hint = "it says which column names the person and whose keys count; "
    if not {file.st_uid, link.st_uid} <= {0, os.geteuid()}:
        raise UsageError(f"{path} belongs to another user", hint=hint + "use a copy of your own, or say it with options")
    if file.st_mode & 0o022:
        raise UsageError(f"{path} can be written to by others", hint=f"{hint}chmod go-w {path}")
    # Others cannot make a file of ours, but could move one here, or link to it. In a sticky folder of root's, as /tmp is one,
    # they can only link.
    shared = bool(folder.st_mode & 0o022)
    if folder.st_uid not in (0, os.geteuid()) or (shared and (not folder.st_mode & stat.S_ISVTX or link.st_nlink > 1)):
        raise UsageError(
            f"{path} can be put there by others, who can write to its folder", hint=hint + "keep it in a folder of your own"
        )


def _closed(what: str, table: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    if unknown := [key for key in table if key not in keys]:
        raise UsageError(f"{what} has the key {unknown[0]!r:.80}, which is unknown", hint="keys: " + ", ".join(keys))


def _file(path: Path, document: Mapping[str, Any], key: str) -> Path | None:
    if key not in document:
        return None
    value = document[key]
    if not isinstance(value, str) or not value or "\0" in value:
        raise UsageError(f"{key} in {path} is no file's name", hint=f'write it as in {key} = "some/file"')
    return path.parent / value


def _tables(path: Path, document: Mapping[str, Any], key: str) -> dict[str, dict[str, Any]]:
    tables = document.get(key, {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise UsageError(f"{key} in {path} does not hold tables alone", hint=f"write them as in [{key}.posts]")
    return tables


def _columns(path: Path, name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    what = f"[columns.{_shown(name)}] of {path}"
    try:
        _closed(what, table, COLUMN_KEYS)
        if "subject" not in table:
            raise UsageError(f"{what} names no subject", hint='it needs one, as in subject = "user_id"')
    except UsageError as error:
        raise UsageError(f"{what} does not say where the keys are: {error}", hint=error.hint) from error
    subject = table["subject"]
    texts = [*(subject if isinstance(subject, list) else [subject]), *(table[key] for key in table if key != "subject")]
    if not all(isinstance(text, str) for text in texts):
        raise UsageError(f"{what} has a value that is no text", hint="subject is text or a list of texts, everything else text")
    return {**table, "subject": tuple(subject) if isinstance(subject, list) else (subject,)}


def _shown(name: str) -> str:
    return name[:80] if name.isprintable() else f"{name!r:.80}"
