"""A ledger into another database, byte for byte, so that its log goes on there and there alone.

FROM's lock is held from beginning to end. TO is no ledger before it has been checked whole and FROM, in its own database, has
been marked as moved. A copy that ends halfway leaves one ledger that can be written to, or none; never two, which would fork.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import sqlalchemy as sa

from ledger import files
from ledger.errors import ConsentLedgerError, IntegrityError, UsageError
from ledger.store import erasure, unreached
from ledger.store.append import CHUNK, MOVED, check_not_moved, finish_handover
from ledger.store.database import REVISION, check_empty, connect, insert, migrate, reading, revision, writing
from ledger.store.folder import Folder, own_database
from ledger.store.fsck import FsckReport, fsck
from ledger.store.journal import path_of as journal_of
from ledger.store.tables import CheckpointRow, Entry, Erasure, Head, Leaf, Notice, Opening, Tile, Tombstone

_ROWS = (Entry, Opening, Tile, CheckpointRow, Head, Notice, Erasure, Tombstone, Leaf)
_TABLES: tuple[sa.Table, ...] = tuple(t.__table__ for t in _ROWS)  # type: ignore[union-attr]
PENDING = "ledger.toml.copied"
"""TO's ledger.toml, until FROM is marked."""


def copy(
    source: str | Path,
    target: str | Path,
    *,
    database: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> FsckReport:
    """Move a ledger: from then on FROM can be read, and TO written to. database: TO's URL; None: a SQLite file in TO.

    Both are checked as fsck does. Raises UsageError where TO or a ledger in its database is there already, ConsentLedgerError
    where FROM was moved before, IntegrityError where it is not whole; then FROM is as it was.
    """
    old, path = Folder.open(Path(source)), Path(target)
    require_new(path)
    if database is not None:
        check_empty(database)
    engine = connect(old.database)
    erasure.finish(engine, old)
    with writing(engine) as (connection, transaction):
        check_not_moved(connection, old)
        finish_handover(connection, old)
        # Nobody else writes while the lock is held: what this finds whole is what is copied.
        whole = fsck(engine, old, on_progress)
        require_new(path)  # it took a while; what another has made there since is not for us to remove
        new = Folder(path, old.origin, database or own_database(path), old.anchors_of(path))
        try:
            make_folder(old, new, database)
            if unreached.noted(old.path).exists():
                files.publish_bytes(unreached.noted(path), unreached.noted(old.path).read_bytes())
            unreached.note(path, old.path.absolute(), whole.size)  # an erasure in TO does not reach what stays here
            with reading(engine) as read:
                other = new_database(read, new.database)
            if fsck(other, new, on_progress) != whole or _digest(other) != _digest(engine):
                raise IntegrityError("the copy is not what it was copied from", hint=f"remove what is in {path}'s database")
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
        connection.execute(sa.update(_TABLES[4]).values(id=MOVED))
        try:
            transaction.commit()
        except Exception as error:
            raise ConsentLedgerError(
                f"whether {old.path} is marked as moved is not known: {getattr(error, 'orig', error)}",
                hint=f"if it can no longer be written to, rename {path / PENDING} to ledger.toml; else remove {path}",
            ) from error
    old.mark_moved(path)
    (path / PENDING).rename(path / "ledger.toml")
    files.sync_folder(path)
    return whole


def require_new(path: Path) -> None:
    """Raises UsageError."""
    if path.exists():
        raise UsageError(f"{path} is there already", hint="a ledger is copied into a new folder: name another")


def new_database(read: sa.Connection, url: str) -> sa.Engine:
    """A new database, with all that is read."""
    other = connect(url)
    migrate(other, lambda write: _fill(read, write))
    return other


def make_folder(old: Folder, new: Folder, database: str | None) -> None:
    """Keys, trust and anchor; not yet a ledger."""
    files.make_folder(new.path)
    new.path.chmod(0o700)
    for key in ("log.key", "run.key", "tag.key"):
        files.create_private(new.path / key, files.read_private(old.path / key))
    if (journal := journal_of(old.path)).exists():
        with files.publishing_private(journal_of(new.path)) as file:
            file.write(journal.read_bytes())
    for name in ("link.key", "api.keys"):  # what was sent out stays good
        if (old.path / name).exists():
            files.create_private(new.path / name, files.read_private(old.path / name))
    files.publish_bytes(new.path / "trust", old.trust_text().encode())
    files.publish_bytes(new.path / "head", old.read_anchors()[0][1].encode())
    if (cosigned := old.cosigned()) is not None:
        files.publish_bytes(new.path / "cosigned", cosigned.encode())
    settings = {"origin": new.origin, "database": database, "anchors": [str(anchor) for anchor in new.anchors[1:]]}
    # JSON of texts and lists of texts is TOML.
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items() if value]
    files.publish_bytes(new.path / PENDING, "\n".join([*lines, ""]).encode())


def _fill(read: sa.Connection, write: sa.Connection) -> None:
    for table in _tables(read):
        with read.execute(sa.select(table), execution_options={"yield_per": CHUNK}) as rows:
            for some in rows.partitions():
                insert(write, table, some)


def _tables(connection: sa.Connection) -> tuple[sa.Table, ...]:
    """Those that its schema has: the first one had none about erasures."""
    return _TABLES if revision(connection) == REVISION else _TABLES[:6]


def _digest(engine: sa.Engine) -> bytes:
    """Of every value of every row, in the order of their keys."""
    found = sha256()
    with reading(engine) as connection:
        for table in _tables(connection):
            some = sa.select(table).order_by(*table.primary_key.columns)
            with connection.execute(some, execution_options={"yield_per": CHUNK}) as rows:
                for row in rows:
                    found.update(repr(tuple(row)).encode("utf-8", "surrogatepass") + b"\n")
    return found.digest()
