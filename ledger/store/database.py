"""The database under the log: connections, transactions, schema.

- A reader has one read transaction: everything that it reads is of one moment. It cannot write.
- A writer holds the database's one writer's lock from its first statement on (BEGIN IMMEDIATE), and commits by itself: what is not
  committed when its block ends is rolled back.
- A commit is on the disk when it returns (synchronous=FULL).
- Every block has a connection of its own, so that nothing outlives it, not even after an error in COMMIT.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, NullPool, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError

from ledger import files
from ledger.errors import ConsentLedgerError, IntegrityError, LedgerBusy, UsageError
from ledger.store.folder import Folder

REVISION = "0001"
"""The schema that this version works with: the last of migrations/versions."""
BUSY_SECONDS = 30

_CACHE_KIB = 64 << 10
_WRITE = "consent_ledger_write"


@dataclass(frozen=True)
class Store:
    """A ledger that is open: its folder and its database."""

    folder: Folder
    engine: Engine

    @classmethod
    def open(cls, folder: Folder) -> Store:
        """Raises ConsentLedgerError where the database is not there, or of another version."""
        store = cls(folder, _engine(folder))
        with store.reading() as connection:
            check_revision(connection)
        return store

    @classmethod
    def create(cls, folder: Folder) -> Store:
        """A database with empty tables. Raises ConsentLedgerError where there is one already."""
        files.create_private(_sqlite_file(folder), b"")
        store = cls(folder, _engine(folder))
        with _translated(), store.engine.connect() as connection:
            connection.exec_driver_sql("COMMIT")  # the journal's mode cannot be changed within a transaction
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        with store.writing() as connection:
            migrate(connection)
            connection.commit()
        return store

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with _translated(), self.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA query_only = ON")
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Raises LedgerBusy where another process keeps the lock."""
        with _translated(), self.engine.connect().execution_options(**{_WRITE: True}) as connection:
            connection.begin()
            yield connection


def migrate(connection: Connection) -> None:
    """Bring the schema to REVISION."""
    from alembic import command  # 100 ms that only `init` pays
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def check_revision(connection: Connection) -> None:
    """Raises IntegrityError for a schema that no version wrote, ConsentLedgerError for one of a newer version."""
    revisions = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    if revisions == [REVISION]:
        return
    if len(revisions) != 1 or not isinstance(revisions[0], str) or not re.fullmatch(r"[0-9]{4}", revisions[0], re.ASCII):
        raise IntegrityError("table alembic_version, column version_num: not the revision of a ledger's schema")
    raise ConsentLedgerError(f"the database has schema revision {revisions[0]} (alembic_version.version_num), not {REVISION}",
                             hint="it is a newer version's: update consent-ledger")  # fmt: skip


def _engine(folder: Folder) -> Engine:
    address = f"file:{quote(str(_sqlite_file(folder).absolute()))}?mode=rw"  # rw: a database that is gone is not made anew

    def connect() -> sqlite3.Connection:
        # isolation_level None: the driver begins no transactions; _begin does. Connections are handed to no other thread.
        return sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None)

    engine = create_engine("sqlite+pysqlite://", creator=connect, poolclass=NullPool)
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def _configure(connection: sqlite3.Connection, _record: object) -> None:
    for setting in ("synchronous = FULL", "foreign_keys = ON", f"cache_size = -{_CACHE_KIB}"):
        connection.execute(f"PRAGMA {setting}")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITE)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _sqlite_file(folder: Folder) -> Path:
    if folder.database is None:
        return folder.database_file
    try:
        url = make_url(folder.database)
    except ArgumentError as error:
        raise UsageError(f"{folder.database!r:.80} is not the URL of a database", hint="for example sqlite:////srv/ledger.db") from error
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        raise UsageError(f"the database {url!r:.80} is not supported", hint="use an SQLite file: sqlite:////srv/ledger.db")
    return folder.path / url.database


@contextmanager
def _translated() -> Iterator[None]:
    """What the database says, in the library's words."""
    try:
        yield
    except DBAPIError as error:
        raise _translation(error.orig) from error
    except sqlite3.Error as error:  # while connecting, or decoding a row
        raise _translation(error) from error


def _translation(error: Any) -> ConsentLedgerError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return LedgerBusy(f"another process has been writing to the ledger for {BUSY_SECONDS} seconds", hint="try again")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or "decode" in str(error):
        return IntegrityError(f"the database is damaged: {error}", hint="restore it from a backup that is not older than the anchors")
    if "no such" in str(error):
        return IntegrityError(f"the database has not the tables of a ledger: {error}")
    if code == sqlite3.SQLITE_CANTOPEN:
        return ConsentLedgerError("the ledger's database cannot be opened", hint="is the file there, and yours to write?")
    return ConsentLedgerError(f"the database failed: {error}")
