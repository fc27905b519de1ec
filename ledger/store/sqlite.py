"""SQLite: one file in WAL mode with synchronous=FULL, and writers that lock it as they begin."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from ledger import locks
from ledger.errors import ConsentLedgerError, IntegrityError, LedgerBusy, UsageError

ERRORS: tuple[type[Exception], ...] = (sqlite3.OperationalError, sqlite3.DatabaseError)
_CACHE = 131072
"""KiB of pages. Ids arrive in random order: these keep their indexes out of the disk's way."""
_MOST_CACHE = 4 * _CACHE
_SHARE = 8
_CGROUP = Path("/sys/fs/cgroup/memory.max")
_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "cell_size_check=ON",
    f"cache_size=-{_CACHE}",
    "secure_delete=ON",
)
_NAMED = SQLiteDialect_pysqlite(paramstyle="named")
_FEW = 128
"""Values in lists, up to which a statement's text is kept."""
_TOGETHER = 64
"""Rows that one statement inserts, where there are so many: it takes two thirds of the time of as many statements."""
_KEPT = 2
"""Connections that stay open, idle, while their engine is held."""
_ROOM = 64 << 10
"""Bytes. SQLite calls it an I/O error where there is no room for the 32 KiB that it shares between processes."""


def parse(url: sa.URL) -> sa.URL:
    """The URL of a file. Raises UsageError for anything more: SQLite can be told to do without locks, or to keep nothing, and
    a relative path is another file in another folder."""
    beyond = url.query or url.host or url.username or url.password or url.get_driver_name() != "pysqlite"
    if beyond or not Path(url.database or "").is_absolute():
        raise UsageError(
            "a SQLite database is named by the absolute path of its file, and nothing else",
            hint="as in sqlite:////srv/consent.db; leave it out for ledger.db in the ledger's folder",
        )
    return url


def connect(url: sa.URL, busy_seconds: float, keep: bool = False) -> sa.Engine:
    """keep: see `database.held`."""
    # Any thread may use a connection, one at a time.
    pool: dict[str, Any] = {"poolclass": sa.NullPool}
    if keep:
        pool = {"poolclass": sa.QueuePool, "pool_size": _KEPT, "max_overflow": -1, "pool_use_lifo": True}
    engine = sa.create_engine(url, **pool, connect_args={"timeout": busy_seconds, "check_same_thread": False})

    @event.listens_for(engine, "do_connect")
    def exists(dialect: object, record: object, arguments: object, named: object) -> None:
        # SQLite would make an empty database where there is none.
        if not _file(engine).is_file():
            raise IntegrityError(f"the database {engine.url.database} is not there")

    @event.listens_for(engine, "connect")
    def configure(connection: Any, record: object) -> None:
        connection.isolation_level = None  # transactions begin where `begin` below says, not where the driver guesses
        cursor = connection.cursor()
        # What is deleted is overwritten, also where a process is killed before the database is written anew.
        for pragma in _PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    file = _file(engine)
    paths = [f"{file}{ending}" for ending in ("", "-wal", "-shm")]

    @event.listens_for(engine, "checkout")
    def is_still_it(connection: object, record: Any, _: object) -> None:
        """A connection that was kept is of the files that have the names now: what is written to others is lost."""
        for path in paths:
            try:
                status = os.stat(path)  # noqa: PTH116
            except FileNotFoundError:
                found = None
            else:
                found = status.st_dev, status.st_ino
            if record.info.get(path) not in (None, found):
                raise exc.InvalidatePoolError
            record.info[path] = found

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        driver: Any = connection.connection.driver_connection  # by which it is begun in a fifth of the time
        driver.execute("BEGIN IMMEDIATE" if connection.get_execution_options().get("writer") else "BEGIN")

    return engine


def lock(connection: sa.Connection) -> None:
    """BEGIN IMMEDIATE has locked it."""


def make(engine: sa.Engine) -> None:
    """The database's file, for its owner alone."""
    try:
        _file(engine).touch(0o600)
    except OSError as error:
        raise ConsentLedgerError(f"cannot create the database {engine.url.database}: {error.strerror}") from error


def is_empty(engine: sa.Engine) -> bool:
    file = _file(engine)
    return not file.is_file() or file.stat().st_size == 0


def bury(connection: sa.Connection) -> None:
    """The failed transaction's pages, its COMMIT too, may stand in the log behind its end. Where another process has kept the log
    open, they would be found there when it is read anew: the next transaction is written over them, and this is one."""
    (version,) = connection.exec_driver_sql("PRAGMA user_version").one()
    connection.exec_driver_sql(f"PRAGMA user_version = {(version + 1) % (1 << 31)}")  # which nothing else uses


def check_storage(connection: sa.Connection) -> None:
    """Raises IntegrityError for a damaged file."""
    found = connection.scalars(sa.text("PRAGMA integrity_check(1)")).all()
    if found != ["ok"]:
        raise IntegrityError(f"the database file is damaged: {found[0]}")


def may_lag(connection: sa.Connection) -> bool:
    """One file is all there is."""
    return False


def shrink(engine: sa.Engine, busy_seconds: float) -> None:
    """Write the database anew, without what was deleted or moved, and empty the journal. Raises LedgerBusy."""
    with closing(engine.raw_connection()) as connection:
        connection.detach()  # nobody else is to wait as long as this one
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={int(busy_seconds * 1000)}")
        _empty_journal(cursor)
        cursor.execute("VACUUM")  # deleted content is zeroed, but a page may hold copies of what was moved within it
        _empty_journal(cursor)


def _empty_journal(cursor: Any) -> None:
    busy, *_ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise sqlite3.OperationalError("database is locked: somebody reads what the journal holds")


@contextmanager
def room(connection: sa.Connection) -> Iterator[None]:
    """A cache of an eighth of the memory, up to 512 MiB: in that of other transactions the index of ids has no room from about a
    million acts on, and its pages are written out and read back again and again."""
    size = min(max(_memory() // _SHARE >> 10, _CACHE), _MOST_CACHE)
    driver: Any = connection.connection.driver_connection
    driver.execute(f"PRAGMA cache_size=-{size}")
    try:
        yield
    finally:
        with suppress(sqlite3.Error):  # whatever went wrong before is what is told
            driver.execute(f"PRAGMA cache_size=-{_CACHE}")


def _memory() -> int:
    """Bytes that this process may have, as far as the system tells."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(found, int(_CGROUP.read_text(encoding="ascii")))
    except (OSError, ValueError):  # there are no such limits, or none is set
        return found


def insert_new(connection: sa.Connection, column: sa.Column[str], rows: Sequence[Sequence[Any]]) -> bool:
    # The insertion finds them by the index that it writes to anyhow: to ask before takes a quarter of the time again.
    (position,) = column.table.primary_key.columns
    behind = position >= rows[0][0]
    if connection.scalar(sa.select(position).where(behind).limit(1)) is not None:
        return False  # something is wrong there, which inserting will tell
    inserted = insert(connection, column.table, rows, "OR IGNORE")
    if 0 < inserted < len(rows):
        connection.execute(sa.delete(column.table).where(behind))
    return inserted == len(rows)


def insert(connection: sa.Connection, table: sa.Table, rows: Sequence[Sequence[Any]], prefix: str | None = None) -> int:
    """An INSERT of many rows, compiled by SQLAlchemy and run by the driver, which takes half the time; how many went in."""
    driver: Any = connection.connection.driver_connection
    together = len(rows) // _TOGETHER * _TOGETHER
    inserted = 0
    if together:
        values = [tuple(chain.from_iterable(rows[at : at + _TOGETHER])) for at in range(0, together, _TOGETHER)]
        inserted += driver.executemany(_insertion(table, prefix, _TOGETHER), values).rowcount
    if together < len(rows):
        inserted += driver.executemany(_insertion(table, prefix), list(map(tuple, rows[together:]))).rowcount
    return inserted


@cache
def _insertion(table: sa.Table, prefix: str | None = None, rows: int = 1) -> str:
    statement = sa.insert(table)
    one = str((statement if prefix is None else statement.prefix_with(prefix)).compile(dialect=SQLiteDialect_pysqlite()))
    before, values = one.split(" VALUES ")
    return f"{before} VALUES {', '.join([values] * rows)}"


def rows(connection: sa.Connection, statement: sa.Executable, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Compiled by SQLAlchemy and run by the driver: a tenth of the time of going through both."""
    return _run(connection, statement, values).fetchall()


def changed(connection: sa.Connection, statement: sa.Executable, values: Mapping[str, Any]) -> int:
    return _run(connection, statement, values).rowcount


def _run(connection: sa.Connection, statement: Any, values: Mapping[str, Any]) -> sqlite3.Cursor:
    driver: Any = connection.connection.driver_connection
    lists = {name: _padded(value) for name, value in values.items() if type(value) is list}
    if not lists:
        text, own = _compiled(statement, ())
        plain: sqlite3.Cursor = driver.execute(text, {**own, **values} if own else values)
        return plain
    lengths = tuple([(name, len(lists[name]) if name in lists else None) for name in values])
    compiled = _compiled if sum(map(len, lists.values())) <= _FEW else _compiled.__wrapped__  # that of many is long
    text, own = compiled(statement, lengths)
    given = {**own, **values}
    for name, some in lists.items():
        del given[name]
        given |= {f"{name}_{number}": one for number, one in enumerate(some, 1)}
    cursor: sqlite3.Cursor = driver.execute(text, given)
    return cursor


def _padded(some: list[Any]) -> list[Any]:
    """With the last value again and again, so that lists of few lengths, and few statements, are compiled."""
    return some + some[-1:] * ((1 << (len(some) - 1).bit_length()) - len(some)) if 1 < len(some) <= _FEW else some


@lru_cache(512)
def _compiled(statement: Any, lengths: tuple[tuple[str, int | None], ...]) -> tuple[str, dict[str, Any]]:
    """lengths: by parameter, where some are lists; None: it is none. The statement's text, and the values it brings itself."""
    compiled = statement.compile(dialect=_NAMED)
    own = {name: value for name, value in compiled.params.items() if value is not None}
    if lengths:
        some = statement.params({name: 0 if length is None else [""] * length for name, length in lengths})
        compiled = some.compile(dialect=_NAMED, compile_kwargs={"render_postcompile": True})
    return str(compiled), own


def texts(name: str) -> sa.Select[Any]:
    """Those of a parameter that is a JSON list."""
    return sa.select(sa.func.json_each(sa.bindparam(name)).table_valued("value").c.value)


def ours(engine: sa.Engine, error: Exception, busy_seconds: float) -> ConsentLedgerError:
    """What an error of SQLite's means."""
    text, database = str(error), _file(engine)
    if not isinstance(error, sqlite3.OperationalError):
        return IntegrityError(f"the database is not whole: {text}")
    if "locked" in text or "busy" in text:
        who = locks.holders(database, database.with_name(database.name + "-shm")) or "another process"
        return LedgerBusy(
            f"{who} has held the ledger's lock for {busy_seconds} seconds",
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


def _file(engine: sa.Engine) -> Path:
    return Path(engine.url.database or "")


def _free_bytes(folder: Path) -> int:
    try:
        status = os.statvfs(folder)
    except OSError:
        return _ROOM
    return status.f_bavail * status.f_frsize
