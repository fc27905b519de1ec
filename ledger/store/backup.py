"""A ledger into a folder of its own that can be put in its place: database, keys, journals and snapshots, as of one moment.

The writer's lock is held for that moment alone: while the small files are copied, and a reader is begun that sees the database as
it is then. Others append while that is read. The copy is a SQLite file, whatever the ledger's own database is; it is written row
by row, so that nothing of what was deleted is in it. It gets its name once it is whole, checked as fsck does, and synced.

`backups` of the ledger's folder names each, from before it is begun: an erasure cannot reach them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ledger import files, locks
from ledger.errors import ConsentLedgerError, LedgerBusy
from ledger.store import copying, erasure, unreached
from ledger.store.append import check_not_moved, finish_handover
from ledger.store.database import check_revision, connect, reading, writing
from ledger.store.folder import Folder, Passphrase, find, own_database
from ledger.store.fsck import FsckReport, fsck
from ledger.store.history import History


def backup(
    target: str | Path,
    source: str | Path | None = None,
    *,
    passphrase: Passphrase | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> FsckReport:
    """What was found in the copy. source: the ledger, as for `open`. passphrase: of its log's key, which is asked for only where
    a replacement of it must be finished first. on_progress: entries checked, entries in all.

    Raises UsageError where there is a target already, IntegrityError where the ledger is not whole; then there is no backup.
    """
    old, path = Folder.open(find(source), passphrase), Path(target).absolute()
    copying.require_new(path)
    files.make_folder(path.parent)
    _sweep(path)
    temporary = files.temporary_beside(path)
    new = Folder(temporary, old.origin, own_database(temporary), (temporary / "head",))
    engine = connect(old.database)
    erasure.finish(engine, old)
    anchors = old.read_anchors()
    try:
        temporary.mkdir(0o700)
        with locks.exclusive(temporary), reading(engine) as read:
            with writing(engine) as (connection, transaction):
                check_revision(connection)
                check_not_moved(connection, old)
                finish_handover(connection, old)
                history = History(read, old.origin, old.log_trust())
                note, head = history.check_anchors(anchors)
                unreached.note(old.path, path, head.size)
                copying.make_folder(old, replace(new, anchors=old.anchors_of(temporary)), None)
                files.publish_bytes(temporary / "head", note.encode())
                _copy_keys(old.path, temporary)
                transaction.rollback()
            copied = copying.new_database(read, new.database)
        _copy_snapshots(old.path / "snapshots", temporary / "snapshots")
        report = fsck(copied, new, on_progress)
        copied.dispose()
        (temporary / copying.PENDING).rename(temporary / "ledger.toml")
        _sync(temporary)
        copying.require_new(path)
        temporary.rename(path)
    except OSError as error:
        raise ConsentLedgerError(f"cannot write {path}: {error.strerror}", hint=files.advice(error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    files.sync_folder(path.parent)
    return report


def _copy_keys(old: Path, new: Path) -> None:
    """Of run keys that were made in the ledger's folder, and the list of its backups."""
    for path in old.glob("*.key"):
        if path.is_file() and not (new / path.name).exists():
            files.create_private(new / path.name, files.read_private(path))
    files.publish_bytes(unreached.noted(new), unreached.noted(old).read_bytes())


def _copy_snapshots(old: Path, new: Path) -> None:
    """Those that are there: one may be removed meanwhile."""
    for path in sorted(old.glob("*")):
        if path.is_file() and not path.name.startswith("."):
            new.mkdir(0o700, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(path, new / path.name)


def _sync(folder: Path) -> None:
    """Make a folder and all in it durable."""
    for above, _, names in os.walk(folder):
        for name in names:
            with (Path(above) / name).open("rb") as file:
                os.fsync(file.fileno())
        files.sync_folder(Path(above))


def _sweep(path: Path) -> None:
    """Remove what killed backups under this name have left: it holds what the ledger holds."""
    for left in path.parent.glob(f"{files.hidden(path)}*.tmp"):
        if left.is_dir() and not left.is_symlink():
            with contextlib.suppress(LedgerBusy), locks.exclusive(left, seconds=0):
                shutil.rmtree(left, ignore_errors=True)
