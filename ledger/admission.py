"""Whose statements the log takes: those of run keys that an act added and none ended, over snapshots that it compiled.

An ended key stays ended, under whatever name it is offered again: it may have been ended because it was stolen.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from ledger import files, locks, times
from ledger.errors import ConsentLedgerError, UsageError, VerificationError
from ledger.log.keys import PrivateKey, PublicKey
from ledger.log.note import Verifier
from ledger.statements.verify import Record, record_of, snapshot_of
from ledger.store import handover
from ledger.store.append import Transaction
from ledger.store.documents import RunKeys, run_keys
from ledger.store.folder import LOG_KEY, Folder, Passphrase, load_protected, secret_for
from ledger.store.history import History

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Rotated:
    """The log's key old was replaced by new when the log had size entries: old's last checkpoint, which both have signed.

    resumed: what an earlier call began, this one finished.
    """

    old: str
    new: str
    size: int
    resumed: bool


def keys_of(history: History) -> RunKeys:
    return run_keys(act for _, act in history.acts("key_added", "key_ended"))


@dataclass(frozen=True)
class Keys:
    """The run keys of one ledger, by the names that follow its origin and a slash. The trust file that it hands out follows.

    Not the verifiers' own: whoever keeps an ended key's line still verifies what it signed.
    """

    folder: Folder
    append: Callable[[Callable[[Transaction], None]], object]
    read: Callable[[Callable[[History], RunKeys]], RunKeys]
    recorded_by: str

    def names(self) -> list[str]:
        """Of those that stand."""
        return sorted(map(self._short, self.read(keys_of).standing))

    def admits(self, public: PublicKey) -> bool:
        return public in [verifier.public for verifier in self.read(keys_of).standing.values()]

    def check_new(self, name: str) -> None:
        """Raises UsageError for a name that is none, or is another key's."""
        self._require_free(name, self.read(keys_of))

    def _require_free(self, name: str, keys: RunKeys) -> None:
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name!r:.120} is no name for a key", hint="letters, digits and . _ - , as in spark")
        if f"{self.folder.origin}/{name}" in keys.standing:
            raise UsageError(
                f"a key is called {name} already", hint=f"choose another name, or end that key first: consent key end {name}"
            )

    def add(self, name: str, public: PublicKey) -> str:
        """Admit a run key: its verifier key, NAME+ID+KEY. Admitted by this name already, nothing is recorded.

        Raises UsageError for a name that is taken, and for a key that was ended, has another name, or signs the log.
        """
        wanted = Verifier.of(f"{self.folder.origin}/{name}", public) if _NAME.fullmatch(name) else None

        def plan(tx: Transaction) -> None:
            keys = keys_of(tx.history)
            if wanted is not None and keys.standing.get(wanted.name) == wanted:
                return
            if public in keys.ended:
                raise UsageError("this key was ended, and an ended key does not come back", hint="make another, and add that")
            if other := [v.name for v in (*keys.standing.values(), *keys.log) if v.public == public]:
                raise UsageError(f"this key is in use as {other[0]!r:.120}", hint="make another: a key has one name and one use")
            self._require_free(name, keys)
            assert wanted is not None
            tx.act("key_added", self.recorded_by, role="run", vkey=wanted.vkey)

        self.append(plan)
        assert wanted is not None
        self._hand_out(wanted)
        return wanted.vkey

    def end(self, name: str) -> bool:
        """From here on nothing that this key signs is logged. False where it was ended before. Raises UsageError for none."""
        full, ended = f"{self.folder.origin}/{name}", []

        def plan(tx: Transaction) -> None:
            keys = keys_of(tx.history)
            if (standing := keys.standing.get(full)) is not None:
                ended.append(tx.act("key_ended", self.recorded_by, role="run", vkey=standing.vkey))
            elif full not in keys.ended.values():
                raise UsageError(
                    f"no run key is called {name!r:.120}",
                    hint=f"admitted: {', '.join(map(self._short, keys.standing)) or 'none'}",
                )

        self.append(plan)
        self._hand_out()
        return bool(ended)

    def rotate(self) -> Rotated:
        """Replace the key that signs the log: see `store.handover`. The new one has the old one's passphrase, if any.

        One that was begun before, and committed, is finished instead. Raises as `store.append` does.
        """
        old, secret = load_protected(self.folder.path / LOG_KEY, self.folder.passphrase)
        if handover.is_begun(self.folder):
            self.append(_nothing)  # whoever takes the lock finishes it
            if not handover.is_begun(self.folder):
                return self._rotated(resumed=True)
        key = PrivateKey.generate()
        pem, origin = key.to_pem(secret), self.folder.origin

        def plan(tx: Transaction) -> None:
            if not self.folder.log_trust().is_current(old.public):
                raise ConsentLedgerError(
                    "the log's key was replaced meanwhile, by another", hint="run the command again to replace that one too"
                )
            handover.begin(self.folder, pem)
            tx.act("key_ended", self.recorded_by, role="log", vkey=old.public.vkey(origin))
            tx.act("key_added", self.recorded_by, role="log", vkey=key.public.vkey(origin))
            tx.successor = key

        self.append(plan)
        self.append(_nothing)
        return self._rotated(resumed=False)

    def protect(self, passphrase: Passphrase) -> list[Path]:
        """Give the ledger's own two keys a passphrase; those that have one keep it. The files that it was given to.

        Raises as `store.append` does, UsageError for an empty one.
        """
        bare = [self.folder.path / name for name in (LOG_KEY, "run.key")]
        bare = [path for path in bare if not PrivateKey.is_protected(files.read_private(path))]
        secret = secret_for(bare[0], passphrase) if bare else b""

        def plan(tx: Transaction) -> None:  # with the lock held: else log.key could be replaced meanwhile, and come back
            for path in bare:
                pem = PrivateKey.from_pem(files.read_private(path)).to_pem(secret)
                files.sweep(path)
                with files.publishing_private(path) as file:
                    file.write(pem)

        if bare:
            self.append(plan)
        return bare

    def _rotated(self, *, resumed: bool) -> Rotated:
        trust = self.folder.log_trust()
        old = max(trust.until, key=lambda key: trust.until[key])
        new = next(key for key in trust.log if key not in trust.until)
        return Rotated(old.vkey, new.vkey, trust.until[old], resumed)

    def _short(self, name: str) -> str:
        return name.removeprefix(f"{self.folder.origin}/")

    def _hand_out(self, *added: Verifier) -> None:
        with locks.exclusive(self.folder.path) as held:  # read in it: another may have ended a key since
            if held:
                files.sweep(self.folder.path / "trust")
            self.folder.write_trust(added=added, ended=self.read(keys_of).ended)


def _nothing(tx: Transaction) -> None:
    """Appended, it leaves the log as it is."""


def require_standing(history: History, public: PublicKey, path: Path) -> None:
    """Raises ConsentLedgerError for a key whose statements the log would not take, before anything is made. path: its file."""
    keys = keys_of(history)
    if (name := keys.ended.get(public)) is not None:
        raise ConsentLedgerError(
            f"the run key was ended as {name!r:.120}: what it signs is not logged any more",
            hint="admit another with `consent key add-run NAME`, and name its file with --run-key",
        )
    if public not in [verifier.public for verifier in keys.standing.values()]:
        raise ConsentLedgerError(
            f"{path} is not a run key that this ledger has admitted", hint=f"consent key add-run NAME --key {path}"
        )


def admissible(history: History, folder: Folder, envelope: bytes, now: datetime) -> dict[str, Any]:
    """The fields of the act that logs a statement. Raises VerificationError unless it is one that this log takes."""
    keys = keys_of(history)
    trust = replace(folder.log_trust(), run=tuple(keys.standing.values()))
    try:
        kind, record = record_of(envelope, trust)
    except VerificationError as error:
        names = ", ".join(sorted(keys.standing)) or "none"
        raise VerificationError(f"no statement of an admitted run key: {error}", hint=f"admitted: {names:.1000}") from error
    _require_compiled(history, folder.origin, record)
    snapshot_of(record, trust)
    if record.decided_at > now:
        raise VerificationError(
            f"the statement says that its rows were decided at {times.text(record.decided_at)}, which has not come yet",
            hint="mend the clock of the machine that made it, or of this one; once that moment has passed it is logged",
        )
    return {
        "statement_sha256": sha256(envelope).hexdigest(),
        "predicate_type": kind,
        "snapshot_sha256": record.snapshot_sha256,
        **({f"subjects_{name}": record.subjects[name] for name in ("root", "seed")} if record.subjects is not None else {}),
    }


def _require_compiled(history: History, origin: str, record: Record) -> None:
    compiled = [act for _, act in history.acts("snapshot_compiled") if act["snapshot_sha256"] == record.snapshot_sha256]
    if record.origin != origin or record.purpose not in [act["purpose"] for act in compiled]:
        raise VerificationError(
            f"this log has compiled no snapshot {record.snapshot_sha256} for {record.purpose!r:.120}",
            hint="a statement is logged by the ledger whose snapshot decided its rows",
        )


def logged_at(history: History, envelope: bytes) -> int | None:
    """The position of the act that logged this very statement."""
    digest = sha256(envelope).hexdigest()
    return next((at for at, act in history.acts("statement_made") if act["statement_sha256"] == digest), None)
