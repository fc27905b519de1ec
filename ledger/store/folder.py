"""The ledger's folder: settings, keys, trust and anchors. Everything here is a file; the database is apart.

- The folder belongs to the user, and nobody else may write in it.
- `ledger.toml` is written last, when a new ledger stands: a folder without it is no ledger.
- Private keys are read when something is signed, never before.
- An anchor is a copy of the head's note outside the database: `head` in the folder, and the files that `ledger.toml` lists. Each
  must be there; what the database says must extend them all.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import stat
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ledger import files
from ledger.errors import ConsentLedgerError, IntegrityError, UsageError
from ledger.log import checkpoint
from ledger.log.keys import PrivateKey, is_key_name
from ledger.log.note import MAX_NOTE, Verifier
from ledger.log.trust import MAX_TRUST, Trust
from ledger.log.trust import parse as parse_trust

ENVIRONMENT = "CONSENT_LEDGER"
DEFAULT = "consent-ledger"
SETTINGS, LOG_KEY, RUN_KEY, TAG_KEY, TRUST, HEAD, DATABASE = (
    "ledger.toml", "log.key", "run.key", "tag.key", "trust", "head", "ledger.db")  # fmt: skip

_MAX_SETTINGS = 64 << 10
_TAG_KEY = re.compile(rb"[0-9a-f]{64}\n")


@dataclass(frozen=True)
class Anchor:
    path: Path
    note: str


@dataclass(frozen=True)
class Folder:
    """database: an SQLAlchemy URL, None for the SQLite file in the folder. further_anchors: files besides `head`.

    passphrase: of the private keys, where they have one.
    """

    path: Path
    origin: str
    database: str | None = None
    further_anchors: tuple[Path, ...] = ()
    passphrase: bytes | None = field(default=None, repr=False)

    @staticmethod
    def find(path: str | Path | None = None) -> Path:
        """Where the ledger is: as told, else by CONSENT_LEDGER, else ./consent-ledger."""
        return Path(path or os.environ.get(ENVIRONMENT) or DEFAULT)

    @classmethod
    def create(cls, path: str | Path, *, origin: str | None = None, database: str | None = None,
               passphrase: bytes | None = None) -> Folder:  # fmt: skip
        """A folder with fresh keys and their trust file; it becomes a ledger by `finish`. Raises ConsentLedgerError where one is."""
        path = Path(path)
        origin = origin or f"consent-ledger/{secrets.token_hex(8)}"
        if not is_key_name(origin):
            raise UsageError(f"{origin!r:.80} cannot be a log's name", hint="use a name without spaces and without +")
        if (path / SETTINGS).exists():
            raise ConsentLedgerError(f"{path} is a ledger already")
        if path.exists() and any(path.iterdir()):
            raise ConsentLedgerError(f"{path} is not empty", hint="give a new folder, or remove what an interrupted `init` left")
        with _failing(f"cannot create {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(mode=0o700, exist_ok=True)
        _require_own(path)
        folder = cls(path, origin, database, passphrase=passphrase)
        log, run = PrivateKey.generate(), PrivateKey.generate()
        files.create_private(path / LOG_KEY, log.to_pem(passphrase))
        files.create_private(path / RUN_KEY, run.to_pem(passphrase))
        files.create_private(path / TAG_KEY, f"{secrets.token_hex(32)}\n".encode())
        trust = f"log {log.public.vkey(origin)}\nrun {run.public.vkey(folder.run_key_name)}\n"
        files.publish_bytes(path / TRUST, trust.encode())
        return folder

    def finish(self) -> None:
        """Make the folder a ledger that `open` finds."""
        # JSON strings are TOML strings, but for the one character that JSON need not escape.
        settings = [f"{name} = {json.dumps(value)}\n".replace("\x7f", "\\u007f")
                    for name, value in (("origin", self.origin), ("database", self.database)) if value]  # fmt: skip
        files.publish_bytes(self.path / SETTINGS, "".join(settings).encode())

    @classmethod
    def open(cls, path: str | Path | None = None, *, passphrase: bytes | None = None) -> Folder:
        """Raises ConsentLedgerError where there is no ledger, or one that others can write."""
        path = cls.find(path)
        if not (path / SETTINGS).is_file():
            raise ConsentLedgerError(f"there is no ledger in {path}", hint="create one with `consent init`, or name it with --ledger")
        _require_own(path)
        settings = _read_settings(path / SETTINGS)
        anchors = tuple(path / anchor for anchor in settings.get("anchors", ()))
        return cls(path, settings["origin"], settings.get("database"), anchors, passphrase)

    @property
    def database_file(self) -> Path:
        """Of a ledger without a database URL."""
        return self.path / DATABASE

    @property
    def run_key_name(self) -> str:
        return f"{self.origin}/run"

    def log_key(self) -> PrivateKey:
        return self._key(LOG_KEY)

    def run_key(self) -> PrivateKey:
        return self._key(RUN_KEY)

    def tag_key(self) -> bytes:
        """K_tag, 32 bytes. Raises ConsentLedgerError."""
        content = files.read_private(self.path / TAG_KEY)
        if not _TAG_KEY.fullmatch(content):
            raise ConsentLedgerError(f"{self.path / TAG_KEY} is not 64 hexadecimal digits and a newline")
        return bytes.fromhex(content.decode())

    def trust(self) -> Trust:
        return parse_trust(_read_text(self.path / TRUST, MAX_TRUST))

    def verifiers(self) -> tuple[Verifier, ...]:
        """The keys that sign this log's checkpoints. Raises IntegrityError where the trust file has none."""
        own = tuple(verifier for verifier in self.trust().log if verifier.name == self.origin)
        if not own:
            raise IntegrityError(f"{self.path / TRUST} names no key of the log {self.origin}")
        return own

    def anchors(self) -> list[Anchor]:
        """Raises IntegrityError where one is missing: without it, an older database could pass for the ledger."""
        anchors = []
        for path in self._anchor_paths():
            if not path.is_file():
                raise IntegrityError(f"the anchor {path} is missing", hint=_anchor_hint(path, self.path / HEAD))
            anchors.append(Anchor(path, _read_text(path, MAX_NOTE)))
        return anchors

    def write_anchors(self, note: str) -> None:
        """Put the note where the anchors are; one that is ahead already stays. Raises ConsentLedgerError."""
        size = _size(note)
        with self._anchors_locked():
            for path in self._anchor_paths():
                # A writer that committed after us may have come before us here.
                if not path.exists() or _size(_read_text(path, MAX_NOTE)) <= size:
                    files.publish_bytes(path, note.encode())

    def _anchor_paths(self) -> Sequence[Path]:
        return (self.path / HEAD, *self.further_anchors)

    @contextmanager
    def _anchors_locked(self) -> Iterator[None]:
        with _failing(f"cannot lock {self.path}"):
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with _failing(f"cannot lock {self.path}"):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _key(self, name: str) -> PrivateKey:
        return PrivateKey.from_pem(files.read_private(self.path / name), self.passphrase)


def _require_own(path: Path) -> None:
    with _failing(f"cannot read {path}"):
        status = path.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise ConsentLedgerError(f"{path} is not a folder")
    if status.st_uid != os.geteuid():
        raise ConsentLedgerError(f"the ledger in {path} belongs to another user", hint="run this as the user that owns the ledger")
    if status.st_mode & 0o022:
        raise ConsentLedgerError(f"others can write in the ledger {path}", hint=f"chmod go-w {path}")


def _read_settings(path: Path) -> dict[str, str | list[str]]:
    try:
        settings = tomllib.loads(_read_text(path, _MAX_SETTINGS))
    except tomllib.TOMLDecodeError as error:
        raise ConsentLedgerError(f"{path} is not TOML: {error}") from error
    known = {"origin": str, "database": str, "anchors": list}
    for name, value in settings.items():
        if name not in known:
            raise ConsentLedgerError(f"{path} has the setting {name!r:.60}, which is unknown", hint="settings: " + ", ".join(known))
        if not isinstance(value, known[name]) or (isinstance(value, list) and not all(isinstance(item, str) for item in value)):
            raise ConsentLedgerError(f"{path}: {name} is not {'a list of texts' if known[name] is list else 'a text'}")
    if not is_key_name(settings.get("origin", "")):
        raise ConsentLedgerError(f"{path} does not name the log's origin")
    return settings


def _anchor_hint(path: Path, head: Path) -> str:
    if path == head:
        return "restore it from where it is kept; a ledger does not go on without it"
    return f"where ledger.toml names it for the first time, copy {head} there"


def _size(note: str) -> int:
    """Of a note that this process signed, or that was checked when the transaction began."""
    return checkpoint.parse(note.partition("\n\n")[0] + "\n").size


def _read_text(path: Path, limit: int) -> str:
    """At most `limit` characters; more is for the parser to refuse."""
    with _failing(f"cannot read {path}"):
        try:
            with path.open(encoding="utf-8", newline="") as file:
                return file.read(limit + 1)
        except UnicodeDecodeError as error:
            raise IntegrityError(f"{path} is not UTF-8 text") from error


@contextmanager
def _failing(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConsentLedgerError(f"{what}: {error.strerror or error}") from error


def load_key(path: str | Path) -> PrivateKey:
    """A private key's file, which its owner alone may read."""
    return PrivateKey.from_pem(files.read_private(path))
