"""Snapshots as files, each with its receipt beside it: put there whole, and found again in a folder of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ledger import files, locks, times
from ledger.errors import SnapshotError, VerificationError
from ledger.log.trust import Trust
from ledger.snapshot import receipt_path
from ledger.statements.limits import LIMITS
from ledger.statements.receipt import open_act_receipt
from ledger.statements.verify import whole

_NAME = re.compile(r".+@[0-9]+-[0-9a-f]{16}\.parquet", re.DOTALL)
"""What `name` gives."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A snapshot's file, as its receipt tells; the file itself is not read, and may have been changed. position: of its act."""

    path: Path
    origin: str
    purpose: str
    snapshot_sha256: str
    file_sha256: str
    tree_size: int
    as_of: datetime
    position: int

    @property
    def age_order(self) -> tuple[int, datetime]:
        """What is larger is newer."""
        return self.tree_size, self.as_of


def name(purpose: str, sha256: str) -> str:
    """The name that a snapshot has in a folder of them."""
    return f"{purpose}-{sha256[:16]}.parquet"


def put(path: Path, data: bytes, receipt: bytes, *, sweep: bool, check: Callable[[], None] = lambda: None) -> None:
    """Write both files; of two writers those of one stand there, not one of each.

    sweep: the folder is one of snapshots alone, so that what killed writers have left in it is removed. check: is called before
    anything is changed, while nobody else changes it.
    """
    files.make_folder(path.parent)
    # The receipt last: a file without its receipt is refused, a receipt without its file too.
    with locks.exclusive(path.parent) as held:
        check()
        if held:
            if sweep:
                files.sweep_below(path.parent)
                _sweep_unfinished(path.parent)
            files.sweep(path)
            files.sweep(receipt_path(path))
        files.withdraw(receipt_path(path))
        files.publish_bytes(path, data)
        files.publish_bytes(receipt_path(path), receipt)


def _sweep_unfinished(folder: Path) -> None:
    """Remove the snapshots whose writer failed, or was killed, before the receipt was there. For the lock's holder."""
    for path in folder.glob("*.parquet"):
        if _NAME.fullmatch(path.name) and not receipt_path(path).exists():
            files.withdraw(path)


def kept(folder: Path, trust: Trust) -> list[Kept]:
    """Those in a folder whose receipt a trusted log vouches for, under the name of what it speaks of; the newest first."""
    found = []
    for path in folder.glob("*.parquet") if folder.is_dir() else ():
        try:
            one = told(path, trust)
        except (VerificationError, SnapshotError):
            continue
        if path.name == name(one.purpose, one.snapshot_sha256):
            found.append(one)
    return sorted(found, key=lambda one: one.age_order, reverse=True)


def told(path: Path, trust: Trust) -> Kept:
    """What the receipt beside a snapshot says of it. Raises SnapshotError where there is none, VerificationError for one that a
    trusted log does not vouch for."""
    try:
        with receipt_path(path).open("rb") as file:
            receipt = file.read(LIMITS.receipt + 1)
    except OSError as error:
        raise SnapshotError(f"cannot read {receipt_path(path)}: {error.strerror}") from error
    return tell(path, receipt, trust)


def tell(path: Path, receipt: bytes, trust: Trust) -> Kept:
    """The same of a receipt that is at hand. Raises VerificationError."""
    opened = open_act_receipt(whole(receipt), trust)
    act: Mapping[str, Any] = opened.act
    if act["act"] != "snapshot_compiled":
        raise VerificationError(f"{receipt_path(path)} is the receipt of another act")
    return Kept(
        path=path,
        origin=opened.checkpoint.origin,
        purpose=act["purpose"],
        snapshot_sha256=act["snapshot_sha256"],
        file_sha256=act["file_sha256"],
        tree_size=act["tree_size"],
        as_of=times.parse(act["as_of"]),
        position=opened.position,
    )
