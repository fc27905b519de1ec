"""Connections, transactions and the schema's revision. Which database it is, is known here and in the module of its name.

Each transaction has a connection of its own, and nothing is cached between them. A reader sees one moment; a writer holds the
ledger's lock.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from ledger.errors import ConsentLedgerError, IntegrityError, UsageError

REVISION = "0002"
READABLE = ("0001", REVISION)
"""Those whose tables hold all that a reader needs; the first append brings them to REVISION."""
BUSY_SECONDS: float = 30
LINGER_SECONDS = 0.1
_MODULES = ("sqlite", "postgresql")
_counting = threading.Lock()
_holders: dict[sa.Engine, int] = {}
_lingering: dict[sa.Engine, float] = {}
"""Until when."""
_REVISIONS: sa.Select[Any] = sa.select(sa.column("version_num")).select_from(sa.table("alembic_version"))
_NONE: Mapping[str, Any] = {}


@cache
def _module(name: str) -> Any:
    """Of a database's name. Imported when it is first used: the other one's driver is not paid for."""
    return importlib.import_module(f"ledger.store.{name}")


def parse(text: str) -> sa.URL:
    """A database's URL. Raises UsageError for one that is not taken; that of one with a password does not say what it is."""
    try:
        url = sa.make_url(text)
        name = url.get_backend_name()
    except (exc.ArgumentError, ValueError):
        raise UsageError("this is no database URL", hint="as in postgresql+psycopg://ann@db.example.org/consent") from None
    if name not in _MODULES:
        raise UsageError(
            f"database {name!r:.40} is not supported", hint="leave --database out for SQLite, or name a postgresql+psycopg: URL"
        )
    parsed: sa.URL = _module(name).parse(url)
    return parsed


def connect(url: str, *, keep: bool = False) -> sa.Engine:
    """An engine whose connections are closed after each transaction. keep: those of SQLite once nobody holds the engine."""
    parsed = parse(url)
    engine: sa.Engine = _module(parsed.get_backend_name()).connect(parsed, BUSY_SECONDS, keep)
    return engine


@contextmanager
def held(engine: sa.Engine) -> Iterator[None]:
    """Transactions that follow one another may go by one connection, which is closed once nobody holds the engine.

    With SQLite, to open one costs as much as a small transaction, and to close the last one takes three syncs: it writes the
    journal back, and removes it. So nothing is open while nothing is done: whoever copies the file then, or puts another in its
    place, has it whole, and a child that is forked inherits no lock that it does not hold.
    """
    with _counting:
        _holders[engine] = _holders.get(engine, 0) + 1
    try:
        yield
    finally:
        with _counting:
            _let_go(engine)


def _let_go(engine: sa.Engine) -> None:
    _holders[engine] = _holders.get(engine, 1) - 1
    if not _holders[engine]:
        del _holders[engine]
        engine.dispose()


def linger(engine: sa.Engine, *, begin: bool = True) -> None:
    """Hold it for a moment longer, where others write as well: else each closes the last connection, and the next opens one.

    begin: also where that is not done already.
    """
    with _counting:
        if not begin and engine not in _lingering:
            return
        begun, _lingering[engine] = engine in _lingering, time.monotonic() + LINGER_SECONDS
        if not begun:
            _holders[engine] = _holders.get(engine, 0) + 1
            threading.Thread(target=_wait, args=(engine,), name="consent-ledger connection", daemon=True).start()


def _wait(engine: sa.Engine) -> None:
    while True:
        with _counting:
            if engine not in _lingering:
                return
            left = _lingering[engine] - time.monotonic()
            if left <= 0:
                del _lingering[engine]
                _let_go(engine)
                return
        time.sleep(left)


def close(engine: sa.Engine) -> None:
    """Leave nothing open, unless another thread is at it."""
    with _counting:
        if _lingering.pop(engine, None) is not None:
            _let_go(engine)


def _before_fork() -> None:
    _counting.acquire()
    for engine in _holders:  # SQLite would have the child believe that it holds the locks of this process
        engine.dispose()


def _in_child() -> None:
    _holders.clear()
    _lingering.clear()
    _counting.release()


os.register_at_fork(before=_before_fork, after_in_parent=_counting.release, after_in_child=_in_child)


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One read transaction: everything in it is of one moment."""
    with translated(engine), held(engine), engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def writing(engine: sa.Engine) -> Iterator[tuple[sa.Connection, sa.RootTransaction]]:
    """A transaction that holds the writer's lock, for its user to commit. Raises LedgerBusy."""
    with translated(engine), held(engine), engine.connect().execution_options(writer=True) as connection:
        transaction = connection.begin()
        _module(engine.dialect.name).lock(connection)
        yield connection, transaction


@contextmanager
def translated(engine: sa.Engine) -> Iterator[None]:
    """The database's errors as ours."""
    module = _module(engine.dialect.name)
    try:
        yield
    except exc.DBAPIError as error:
        raise module.ours(engine, error.orig if isinstance(error.orig, Exception) else error, BUSY_SECONDS) from error
    except module.ERRORS as error:
        raise module.ours(engine, error, BUSY_SECONDS) from error
    except UnicodeDecodeError as error:  # SQLite's driver, which tells of a schema whose text is no UTF-8
        if not error.object.startswith(b"malformed database schema"):
            raise
        raise IntegrityError("the database is not whole: its schema is no text") from error


def room(connection: sa.Connection) -> AbstractContextManager[None]:
    """More memory for the pages of a transaction that inserts very many rows; until the context ends."""
    more: AbstractContextManager[None] = _module(connection.dialect.name).room(connection)
    return more


def insert(connection: sa.Connection, table: sa.Table, rows: Sequence[Sequence[Any]]) -> None:
    """Many rows, the fast way. Their values are in the order of the table's columns."""
    _module(connection.dialect.name).insert(connection, table, rows)


def insert_new(connection: sa.Connection, column: sa.Column[str], rows: Sequence[Sequence[Any]]) -> bool:
    """The same, unless one has a value of that column, each another, that a row there has: then none. They come behind all rows
    that are there, by the table's first column, which is its key."""
    is_new: bool = _module(connection.dialect.name).insert_new(connection, column, rows)
    return is_new


def rows(connection: sa.Connection, statement: sa.Executable, values: Mapping[str, Any] = _NONE) -> list[tuple[Any, ...]]:
    """What a query finds, as the driver has it. statement: one that is made once, and kept. A value that is a list is of a
    parameter that expands."""
    found: list[tuple[Any, ...]] = _module(connection.dialect.name).rows(connection, statement, values)
    return found


def changed(connection: sa.Connection, statement: sa.Executable, values: Mapping[str, Any]) -> int:
    """How many rows a statement, of the same kind, has changed."""
    count: int = _module(connection.dialect.name).changed(connection, statement, values)
    return count


def found(connection: sa.Connection, column: sa.Column[str], texts: Sequence[str]) -> list[str]:
    """Those of many texts that a column of texts holds."""
    some = sa.select(column).where(column.in_(_module(connection.dialect.name).texts("texts")))
    return list(connection.scalars(some, {"texts": json.dumps(texts)}))


def bury(connection: sa.Connection) -> None:
    """To commit, with the lock held: what a COMMIT that failed may have left behind does not come back, even after a crash."""
    _module(connection.dialect.name).bury(connection)


def check_storage(connection: sa.Connection) -> None:
    """What the database can say of its own storage. Raises IntegrityError."""
    _module(connection.dialect.name).check_storage(connection)


def may_lag(connection: sa.Connection) -> bool:
    """Whether this is a copy that follows another database, which may have acknowledged more."""
    lags: bool = _module(connection.dialect.name).may_lag(connection)
    return lags


def check_empty(url: str) -> None:
    """Raises UsageError where a ledger is, or was begun, and ConsentLedgerError where the database cannot be reached."""
    engine = connect(url)
    with translated(engine):
        if not _module(engine.dialect.name).is_empty(engine):
            raise UsageError("there is a ledger in this database", hint="a ledger has a database, or a schema, for itself alone")


def migrate(engine: sa.Engine, fill: Callable[[sa.Connection], None] = lambda connection: None) -> None:
    """Bring the schema to REVISION, and fill it, or nothing. Makes SQLite's file where there is none, for its owner alone."""
    with translated(engine):
        _module(engine.dialect.name).make(engine)
    with translated(engine), held(engine), engine.connect().execution_options(writer=True) as connection, connection.begin():
        upgrade(connection)
        fill(connection)


def upgrade(connection: sa.Connection) -> None:
    """Bring the schema to REVISION, in the transaction of a writer."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, REVISION)


def revision(connection: sa.Connection) -> str:
    """Of the schema, as `check_revision` found it good."""
    return str(rows(connection, _REVISIONS)[0][0])


def shrink(engine: sa.Engine, *, wait: bool) -> None:
    """Leave nothing of what was deleted in the database's files. Raises LedgerBusy where somebody reads too long, or, unless
    told to wait, at all."""
    with translated(engine), held(engine):
        _module(engine.dialect.name).shrink(engine, BUSY_SECONDS if wait else 0)


def check_revision(connection: sa.Connection) -> str:
    """The schema's. Raises ConsentLedgerError for a schema of a newer version, IntegrityError for what is none."""
    found = [name for (name,) in rows(connection, _REVISIONS)]
    if len(found) == 1 and re.fullmatch(r"[0-9]{4}", str(found[0])) and str(found[0]) > REVISION:
        raise ConsentLedgerError(
            f"the ledger was written by a newer version of consent-ledger: its schema is {found[0]}, this one knows {REVISION}",
            hint="install the newer version here too",
        )
    if len(found) != 1 or found[0] not in READABLE:
        raise IntegrityError(
            f"the database has schema {', '.join(map(str, found)) or 'none'!r:.60}, which no version of consent-ledger wrote",
            hint="bring back the newest database that is whole",
        )
    return str(found[0])
