"""The ledger's folder: configuration, keys, trust file and the head's anchor, each in a file of its own.

`ledger.toml` (origin, database, further anchors) · `ledger.db` · `log.key` `run.key` `tag.key` (0600) · `trust` · `head`
`cosigned`: once witnesses have cosigned a checkpoint
`link.key` (0600): once links are made · `api.keys` (0600): once the API has a key
`log.key.next` (0600): while the log's key is being replaced, see `handover`
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import tomllib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from ledger import files, locks, tokens
from ledger.errors import ConsentLedgerError, IntegrityError, UsageError
from ledger.log import checkpoint
from ledger.log import trust as trust_lines
from ledger.log.keys import PrivateKey, PublicKey, is_key_name
from ledger.log.note import Verifier
from ledger.log.trust import Trust
from ledger.store import anchor_file

VARIABLE = "CONSENT_LEDGER"
LOG_KEY, NEXT_LOG_KEY = "log.key", "log.key.next"
_MAX_TEXT = 1 << 20
_MAX_LINK_KEYS = 400
_NOTHING_RECORDED = "without it nothing can be recorded"
Passphrase = str | Callable[[Path], str]
"""Of protected keys; or who to ask for that of a key's file, once it is needed."""


def find(path: str | Path | None = None) -> Path:
    """The folder that was named, else $CONSENT_LEDGER, else ./consent-ledger."""
    return Path(path or os.environ.get(VARIABLE) or "consent-ledger")


def own_database(folder: Path) -> str:
    """The URL of the SQLite file in a ledger's folder, whatever the folder is called."""
    return "sqlite:///" + str((folder / "ledger.db").absolute()).replace("%", "%25").replace("?", "%3F")


@dataclass(frozen=True)
class Folder:
    """A folder that belongs to the user and that nobody else may write to."""

    path: Path
    origin: str
    database: str
    anchors: tuple[Path, ...]
    passphrase: Passphrase | None = field(default=None, compare=False, repr=False)
    moved_to: str | None = None

    @classmethod
    def create(cls, path: Path, origin: str | None = None, database: str | None = None) -> Folder:
        """A new folder with new keys. Raises UsageError where something is there already, in the folder or in the database."""
        from ledger.store.database import check_empty  # not for those who only look where a ledger is

        origin = origin or f"consent-ledger/{secrets.token_hex(8)}"
        if not is_key_name(origin):
            raise UsageError(f"origin {origin!r:.80} is no key name", hint="an origin has no white space and no plus sign")
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UsageError(f"{path} is not empty", hint="a ledger is created in a new folder; name another")
        if database is not None:
            check_empty(database)
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.chmod(0o700)
        except OSError as error:
            raise ConsentLedgerError(f"cannot create {path}: {error.strerror}") from error
        log, run = PrivateKey.generate(), PrivateKey.generate()
        files.create_private(path / "log.key", log.to_pem(None))
        files.create_private(path / "run.key", run.to_pem(None))
        files.create_private(path / "tag.key", secrets.token_hex(32).encode() + b"\n")
        trust = f"log {log.public.vkey(origin)}\nrun {run.public.vkey(origin + '/run')}\n"
        files.publish_bytes(path / "trust", trust.encode())
        # JSON text is a TOML basic string.
        lines = [f"origin = {json.dumps(origin)}"] + ([f"database = {json.dumps(database)}"] if database else [])
        files.publish_bytes(path / "ledger.toml", "\n".join([*lines, ""]).encode())
        return cls.open(path)

    @classmethod
    def open(cls, path: Path, passphrase: Passphrase | None = None) -> Folder:
        """Raises UsageError where there is none, ConsentLedgerError where others could write to it."""
        config_path = path / "ledger.toml"
        if not config_path.is_file():
            raise UsageError(
                f"there is no ledger in {path}",
                hint=f"create one with `consent init {path}`, or name one with --ledger or ${VARIABLE}",
            )
        status = path.stat()
        if status.st_uid != os.geteuid():
            raise ConsentLedgerError(f"{path} belongs to another user", hint="a ledger is used by the user who owns its folder")
        if status.st_mode & 0o022:
            raise ConsentLedgerError(f"{path} can be written to by others", hint=f"chmod go-w {path}")
        try:
            config = tomllib.loads(_text(config_path))
            origin, database = config["origin"], config.get("database", own_database(path))
            further = config.get("anchors", [])
            if not isinstance(further, list):
                raise TypeError("anchors is not a list of files")
            anchors = [path / "head", *(path / anchor for anchor in further)]
            moved_to = config.get("moved_to")
        except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
            raise IntegrityError(f"{config_path} cannot be read: {error}") from error
        if not isinstance(origin, str) or not is_key_name(origin) or not isinstance(database, str):
            raise IntegrityError(f"{config_path} names no origin")
        return cls(path, origin, database, tuple(anchors), passphrase, None if moved_to is None else str(moved_to))

    def mark_moved(self, target: Path) -> None:
        """Say in ledger.toml where the ledger went."""
        config = self.path / "ledger.toml"
        files.publish_bytes(config, f"moved_to = {json.dumps(str(target.absolute()))}\n{_text(config)}".encode())

    def anchors_of(self, path: Path) -> tuple[Path, ...]:
        """Those of this ledger in another folder: its own `head`, and every further one, which stays where it is."""
        return path / "head", *(anchor.absolute() for anchor in self.anchors[1:])

    def log_key(self) -> PrivateKey:
        """Raises IntegrityError for a key that is not the one which signs this log."""
        # While it is being replaced the next one may count already, and get the other's name while this looks.
        for name in (LOG_KEY, NEXT_LOG_KEY, LOG_KEY):
            if name == LOG_KEY or (self.path / name).exists():
                key = self._key(name, _NOTHING_RECORDED)
                if self.log_trust().is_current(key.public):
                    return key
        raise IntegrityError(
            f"{self.path / LOG_KEY} is not the key that signs this ledger's log",
            hint=f"put the right one back from your backup; {self.path / 'trust'} has its public half",
        )

    def key_at_hand(self) -> PrivateKey:
        """What `log.key` holds. Whether that still signs this log whoever signs finds out, with the writer's lock held."""
        return self._key(LOG_KEY, _NOTHING_RECORDED)

    def run_key(self) -> PrivateKey:
        return self._key("run.key", "without it no statement can be signed, unless --run-key names another")

    def _key(self, name: str, loss: str) -> PrivateKey:
        with self._needed(name, loss):
            return self.load(name)

    def load(self, name: str) -> PrivateKey:
        """A private key of the folder."""
        told = self.passphrase
        if name == NEXT_LOG_KEY and callable(told):
            # It has the passphrase of the one before it: who told that is not asked again.
            current = self.path / LOG_KEY
            return load_key(self.path / name, passphrase=lambda _: told(current))
        return load_protected(_inside(self.path, name), told)[0]

    @contextlib.contextmanager
    def _needed(self, name: str, loss: str) -> Iterator[None]:
        """Where it cannot be read because it is not there, say what that means."""
        try:
            yield
        except ConsentLedgerError as error:
            if (self.path / name).exists():
                raise
            raise ConsentLedgerError(f"{self.path / name} is missing", hint=f"put it back from your backup: {loss}") from error

    def tag_key(self) -> bytes:
        """32 bytes. Raises IntegrityError for a file that holds anything else."""
        with self._needed("tag.key", _NOTHING_RECORDED):
            text = files.read_private(_inside(self.path, "tag.key"))
        try:
            key = bytes.fromhex(text.decode("ascii").removesuffix("\n"))
        except ValueError:
            key = b""
        if len(key) != 32:
            raise IntegrityError(
                f"{self.path / 'tag.key'} holds no key", hint="put it back from your backup: 64 hexadecimal digits"
            )
        return key

    def link_keys(self, *, make: bool = True) -> list[bytes]:
        """64 bytes each, the newest first. Where there is none yet one is made, unless told otherwise: none, then.

        Raises IntegrityError for a file that holds anything else.
        """
        path = self.path / "link.key"
        if not path.exists():
            if not make:
                return []
            self.add_link_key(first=True)
        try:
            keys = [bytes.fromhex(line) for line in files.read_private(path).decode("ascii").splitlines()]
        except ValueError:
            keys = []
        if not keys or any(len(key) != tokens.KEY_BYTES for key in keys):
            raise IntegrityError(f"{path} holds no keys", hint="put it back from your backup: lines of 128 hexadecimal digits")
        return keys

    def add_link_key(self, *, first: bool = False) -> None:
        """Begin a new key for links; those before it stay. first: only where there is none yet."""
        path = self.path / "link.key"
        with locks.exclusive(self.path) as held:  # of two who come at once neither takes the other's away
            if first and path.exists():
                return
            keys = self.link_keys(make=False)
            if len(keys) == _MAX_LINK_KEYS:
                raise UsageError(f"{path} has {_MAX_LINK_KEYS} keys, which is all that it may have")
            if held:
                files.sweep(path)
            with files.publishing_private(path) as file:
                file.write("".join(key.hex() + "\n" for key in [secrets.token_bytes(tokens.KEY_BYTES), *keys]).encode())

    def trust_text(self) -> str:
        with self._needed("trust", "it names the keys that this ledger's log is signed with"):
            return _text(_inside(self.path, "trust"))

    def trust(self) -> Trust:
        """Without the witnesses that the file may demand of others: what is read here is the ledger's own."""
        return _trust(self.trust_text())

    def write_trust(self, *, added: Collection[Verifier], ended: Collection[PublicKey]) -> None:
        """Bring the trust file up to date: run keys get a line, that of an ended one becomes a comment. For the lock's holder.

        What else it says stays: it may be the user's own.
        """
        lines = self.trust_text().removesuffix("\n").split("\n")
        lines = [f"# ended: {line}" if any(v.public in ended for v in _keys(line).run) else line for line in lines]
        listed = trust_lines.parse("\n".join(lines)).run
        lines += [f"run {verifier.vkey}" for verifier in added if verifier not in listed and verifier.public not in ended]
        self._write_trust(lines)

    def write_successor(self, successor: Verifier, size: int) -> None:
        """Name it in the trust file as the key that signs the log beyond SIZE; those before it count until then, where they
        did not end earlier. For the lock's holder."""
        lines: list[str] = []
        for line in self.trust_text().removesuffix("\n").split("\n"):
            known = _keys(line)
            own = [key for key in known.log if key.name == self.origin and key != successor]
            lines.append(f"{line.rstrip()} until {size}" if own and not known.until else line)
        if successor not in trust_lines.parse("\n".join(lines)).log:
            last = max(at for at, line in enumerate(lines) if any(key.name == self.origin for key in _keys(line).log))
            lines.insert(last + 1, f"log {successor.vkey}")
        self._write_trust(lines)

    def _write_trust(self, lines: Collection[str]) -> None:
        if (text := "\n".join(lines) + "\n") != self.trust_text():
            trust_lines.parse(text)
            files.publish_bytes(self.path / "trust", text.encode())

    def log_trust(self) -> Trust:
        """The keys that may sign this ledger's checkpoints, each until it was replaced."""
        return _log_trust(self.trust_text(), self.origin)

    def read_anchors(self) -> list[tuple[Path, str]]:
        """(file, note). Raises IntegrityError for one that is missing: a removed anchor would hide a restored backup."""
        found = []
        for path in self.anchors:
            if not path.is_file():
                raise IntegrityError(
                    f"the anchor {path} is missing, so nothing shows that this database is the newest",
                    hint="put it back from where you keep copies, or take the anchor out of ledger.toml if you moved it",
                )
            found.append((path, _text(path)))
        return found

    def cosigned(self) -> str | None:
        """The newest checkpoint that witnesses have cosigned, with their lines; None: there is none yet. Nothing is verified."""
        path = self.path / "cosigned"
        return _text(path) if os.path.lexists(path) else None

    def write_anchors(self, note: str) -> None:
        """Write the head's note to every anchor that is older: of two writers the later commit may come here first."""
        size = _size(note)
        with locks.exclusive(self.path) as held:
            for path in self.anchors:
                if not path.is_file() or _size(_text(path)) < size:
                    anchor_file.write(path, note.encode(), alone=held)
                elif held:
                    anchor_file.sweep(path)


@lru_cache(maxsize=16)
def _inside(folder: Path, name: str) -> Path:
    """Made once: to join a path and write it out takes as long as to read so short a file."""
    return folder / name


@lru_cache(maxsize=4)
def _trust(text: str) -> Trust:
    return replace(trust_lines.parse(text), policy=None)


@lru_cache(maxsize=4)
def _log_trust(text: str, origin: str) -> Trust:
    trust = _trust(text)
    return replace(trust, log=tuple(v for v in trust.log if v.name == origin), run=())


def _keys(line: str) -> Trust:
    """The key that a line of a trust file names, if it names one: a line about witnesses may speak of those before it."""
    return trust_lines.parse(line if line.split()[:1] in (["log"], ["run"]) else "")


def _size(note: str) -> int:
    """Of a note that was verified, or will be before it counts."""
    return checkpoint.parse(note.partition("\n\n")[0] + "\n").size


def _text(path: Path) -> str:
    try:
        data = anchor_file.read(path)
        if len(data) > _MAX_TEXT:
            raise IntegrityError(f"{path} is too large")
        return data.decode("utf-8")
    except OSError as error:
        raise ConsentLedgerError(f"cannot read {path}: {error.strerror}", hint=files.advice(error)) from error
    except UnicodeDecodeError as error:
        raise IntegrityError(f"{path} is not UTF-8") from error


def load_key(path: str | Path, *, passphrase: Passphrase | None = None) -> PrivateKey:
    """A private key's file, which its owner alone may read. passphrase: used, or asked for, only where the key has one."""
    return load_protected(Path(path), passphrase)[0]


def load_protected(path: Path, passphrase: Passphrase | None) -> tuple[PrivateKey, bytes | None]:
    """The key, and the passphrase that it has."""
    pem = files.read_private(path)
    secret = secret_for(path, passphrase) if PrivateKey.is_protected(pem) else None
    try:
        return _unprotected(pem) if secret is None else PrivateKey.from_pem(pem, secret), secret
    except ConsentLedgerError as error:
        raise ConsentLedgerError(f"{path}: {error}", hint=error.hint) from error


@lru_cache(maxsize=4)
def _unprotected(pem: bytes) -> PrivateKey:
    # What the file held is read, with all that is asked of the file, each time; to parse it takes longer.
    return PrivateKey.from_pem(pem)


def secret_for(path: Path, passphrase: Passphrase | None) -> bytes:
    """What was told, or whoever is to be asked tells, as the passphrase of a key's file."""
    told = passphrase(path) if callable(passphrase) else passphrase
    if not told:
        raise ConsentLedgerError(f"{path} is protected by a passphrase, and none was given")
    return told.encode()
