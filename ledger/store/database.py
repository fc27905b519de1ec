"""Connections: SQLite in WAL mode with synchronous=FULL, writers that lock at once, readers in one transaction each."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc

from ledger import locks
from ledger.errors import ConsentLedgerError, IntegrityError, LedgerBusy

REVISION = "0001"
BUSY_SECONDS = 30
_ROOM = 64 << 10
"""Bytes. SQLite calls it an I/O error where there is no room for the 32 KiB that it shares between processes."""


def connect(url: str) -> sa.Engine:
    """An engine without a pool: each transaction has a connection of its own, and nothing is cached between them."""
    engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(engine, "do_connect")
    def exists(dialect: object, record: object, arguments: object, named: object) -> None:
        # SQLite would make an empty database where there is none.
        if engine.dialect.name == "sqlite" and not Path(engine.url.database or "").is_file():
            raise IntegrityError(f"the database {engine.url.database} is not there")

    @event.listens_for(engine, "connect")
    def configure(connection: Any, record: object) -> None:
        connection.isolation_level = None  # transactions begin where `begin` below says, not where the driver guesses
        cursor = connection.cursor()
        # Ids arrive in random order: 128 MiB of pages keep their indexes out of the disk's way.
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cell_size_check=ON", "cache_size=-131072"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writer") else "BEGIN")

    return engine


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One read transaction: everything in it is of one moment."""
    with translated(engine), engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def translated(engine: sa.Engine) -> Iterator[None]:
    """The database's errors as ours."""
    try:
        yield
    except (exc.OperationalError, sqlite3.OperationalError) as error:
        raise _ours(engine, str(getattr(error, "orig", error))) from error
    except (exc.DatabaseError, sqlite3.DatabaseError) as error:
        raise IntegrityError(f"the database is not whole: {getattr(error, 'orig', error)}") from error


def _free_bytes(folder: Path) -> int:
    try:
        status = os.statvfs(folder)
    except OSError:
        return _ROOM
    return status.f_bavail * status.f_frsize


def _ours(engine: sa.Engine, text: str) -> ConsentLedgerError:
    """What SQLite's OperationalError means."""
    database = Path(engine.url.database or "")
    if "locked" in text or "busy" in text:
        who = locks.holders(database, database.with_name(database.name + "-shm")) or "another process"
        return LedgerBusy(
            f"{who} has held the ledger's lock for {BUSY_SECONDS} seconds",
            hint="wait for it to finish, or end it: a process that is ended, even killed, leaves no lock behind",
        )
    if any(sign in text for sign in ("no such table", "no such column", "decode to UTF-8", "malformed")):
        return IntegrityError(f"the database is not whole: {text}")
    if "disk is full" in text or ("disk I/O error" in text and _free_bytes(database.parent) < _ROOM):
        return ConsentLedgerError(f"the disk of {database} is full", hint="free some space, then run the command again")
    if "readonly" in text or "unable to open" in text:
        return ConsentLedgerError(
            f"{database} cannot be written to: {text}",
            hint=f"make {database.parent} writable for you: even to read, SQLite keeps its locks in files beside the database",
        )
    return ConsentLedgerError(
        f"the database failed: {text}", hint="look after the disk, then run `consent fsck`, and the command again"
    )


def migrate(engine: sa.Engine) -> None:
    """Bring the schema to REVISION. Makes the database where there is none, for its owner alone."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    if engine.dialect.name == "sqlite":
        try:
            Path(engine.url.database or "").touch(0o600)
        except OSError as error:
            raise ConsentLedgerError(f"cannot create the database {engine.url.database}: {error.strerror}") from error
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with translated(engine), engine.connect().execution_options(writer=True) as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, REVISION)


def check_revision(connection: sa.Connection) -> None:
    """Raises ConsentLedgerError for a schema of a newer version, IntegrityError for what is none."""
    found = connection.scalars(sa.text("SELECT version_num FROM alembic_version")).all()
    if len(found) == 1 and re.fullmatch(r"[0-9]{4}", str(found[0])) and str(found[0]) > REVISION:
        raise ConsentLedgerError(
            f"the ledger was written by a newer version of consent-ledger: its schema is {found[0]}, this one knows {REVISION}",
            hint="install the newer version here too",
        )
    if found != [REVISION]:
        raise IntegrityError(
            f"the database has schema {', '.join(map(str, found)) or 'none'!r:.60}, which no version of consent-ledger wrote",
            hint="bring back the newest database that is whole",
        )
