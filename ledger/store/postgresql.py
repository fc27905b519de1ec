"""PostgreSQL, by psycopg. Every transaction says itself what it needs: nothing rests on the session that it runs in, so that a
proxy may hand out another session for each.

- A writer is READ COMMITTED, and its first statement locks the head's row: whatever it reads after that is of after the lock.
  (Under REPEATABLE READ it would read the head as it was before it waited.)
- A reader is one REPEATABLE READ READ ONLY transaction.
- COMMIT counts only where the server says so: that of a transaction which failed is answered by ROLLBACK, and is no error.
- A commit is on disk before it is acknowledged, or nothing is written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects.postgresql import JSONB

from ledger.errors import ConsentLedgerError, IntegrityError, LedgerBusy, UsageError

try:
    import psycopg
except ImportError:  # an extra
    ERRORS: tuple[type[Exception], ...] = ()
else:
    ERRORS = (psycopg.Error,)

_CONNECTION = {
    "autocommit": True,  # transactions begin where `begin` below says, not where the driver guesses
    "prepare_threshold": None,  # a prepared statement belongs to a session
    "client_encoding": "utf8",
    # A server that is gone without a word is noticed, also while COMMIT waits for its answer.
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,
}
_READER = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_WRITER = """BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = {milliseconds};
SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')"""
_TYPES = {sa.Integer: "int4", sa.BigInteger: "int8", sa.LargeBinary: "bytea"}
_PASSWORDS = ("password", "sslpassword", "oauth_client_secret")


def parse(url: sa.URL) -> sa.URL:
    """The URL with our driver. Raises UsageError for one that holds a password, or what libpq does not know, and
    ConsentLedgerError where the driver is not installed."""
    if url.password is not None or any(name in url.query for name in _PASSWORDS):
        raise UsageError(
            "a database URL must not hold a password: it would stand in the list of processes and in ledger.toml",
            hint="leave it out, and put it in ~/.pgpass, in a service file, or in PGPASSWORD, where libpq finds it",
        )
    if not ERRORS:
        raise ConsentLedgerError(
            "PostgreSQL needs psycopg, which is not installed", hint="pip install 'consent-ledger[postgres]'"
        )
    # The driver's own settings are ours to make: some would read texts as other texts, or begin transactions elsewhere.
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()} - {"client_encoding"}
    if strange := sorted(url.query.keys() - known):
        raise UsageError(
            f"a database URL has no parameter {strange[0]!r:.60}", hint="those of libpq are taken, as in ?sslmode=verify-full"
        )
    return url.set(drivername="postgresql+psycopg")


def connect(url: sa.URL, busy_seconds: float, keep: bool = False) -> sa.Engine:
    """keep: asked in vain. A session belongs to the server, which may be in want of it."""
    arguments = {name: value for name, value in _CONNECTION.items() if name not in url.query}
    engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args=arguments, use_native_hstore=False)

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        writer = _WRITER.format(milliseconds=int(busy_seconds * 1000))
        connection.exec_driver_sql(writer if connection.get_execution_options().get("writer") else _READER)

    @event.listens_for(engine, "commit")
    def commit(connection: sa.Connection) -> None:
        done = connection.connection.cursor().execute("COMMIT").statusmessage
        if done != "COMMIT":
            raise psycopg.errors.InFailedSqlTransaction(f"COMMIT was answered by {done}")

    return engine


def lock(connection: sa.Connection) -> None:
    """Hold the row of the head, and see what the last holder committed. Raises ConsentLedgerError where COMMIT proves nothing."""
    connection.exec_driver_sql("SELECT id FROM head FOR UPDATE")
    if connection.exec_driver_sql("SELECT current_setting('fsync')").scalar() != "on":
        raise ConsentLedgerError(
            "the server runs with fsync = off: what it acknowledges may be lost, a no among it",
            hint="set fsync = on in postgresql.conf, and reload the server",
        )


def make(engine: sa.Engine) -> None:
    """Who runs the server has made it."""


def is_empty(engine: sa.Engine) -> bool:
    """Whether none of our tables is there, where names are looked up. Raises UsageError for another encoding than UTF-8."""
    with engine.connect() as connection, connection.begin():
        encoding = connection.exec_driver_sql("SELECT current_setting('server_encoding')").scalar()
        found = connection.exec_driver_sql("SELECT coalesce(to_regclass('head'), to_regclass('alembic_version'))").scalar()
    if encoding != "UTF8":
        raise UsageError(
            f"the database has the encoding {encoding}, and ids are UTF-8",
            hint="make one with: CREATE DATABASE consent TEMPLATE template0 ENCODING 'UTF8'",
        )
    return found is None


def bury(connection: sa.Connection) -> None:
    """What the server has not committed it has forgotten."""


def check_storage(connection: sa.Connection) -> None:
    """What is read is checked; `pg_amcheck` is who looks at the rest."""


def may_lag(connection: sa.Connection) -> bool:
    """A standby shows what it has replayed so far, even years after it was cut off."""
    return bool(connection.exec_driver_sql("SELECT pg_is_in_recovery()").scalar())


def shrink(engine: sa.Engine, busy_seconds: float) -> None:
    """Write the table anew, its indexes and statistics too, which hold ids as samples. Raises LedgerBusy.

    The server's write-ahead log, its archives and its standbys are out of reach.
    """
    with closing(engine.raw_connection()) as connection:
        cursor = connection.cursor()
        cursor.execute(f"SET lock_timeout = {int(busy_seconds * 1000) or 1}")
        try:
            cursor.execute("VACUUM (FULL, ANALYZE) openings")
        finally:
            cursor.execute("RESET lock_timeout")


def room(connection: sa.Connection) -> AbstractContextManager[None]:
    """The server has its own."""
    return nullcontext()


def insert(connection: sa.Connection, table: sa.Table, rows: Sequence[Sequence[Any]]) -> None:
    """By COPY, in its binary form."""
    columns = list(table.columns)
    names = ", ".join(column.name for column in columns)
    cursor = connection.connection.cursor()
    with cursor.copy(f"COPY {table.name} ({names}) FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types([_TYPES.get(type(column.type), "text") for column in columns])
        for row in rows:
            copy.write_row(row)
    if cursor.rowcount != len(rows):
        raise IntegrityError(f"the database took {cursor.rowcount} rows of {len(rows)} into table {table.name}")


def insert_new(connection: sa.Connection, column: sa.Column[str], rows: Sequence[Sequence[Any]]) -> bool:
    place = list(column.table.columns).index(column)
    some = sa.select(column).where(column.in_(texts("texts"))).limit(1)
    if connection.execute(some, {"texts": json.dumps([row[place] for row in rows])}).first() is not None:
        return False
    insert(connection, column.table, rows)
    return True


def rows(connection: sa.Connection, statement: sa.Executable, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """As the driver has them: to make SQLAlchemy's rows of them takes as long as to fetch them."""
    with connection.execute(statement, values) as found:
        cursor: Any = found.cursor
        return list(cursor.fetchall())


def changed(connection: sa.Connection, statement: sa.Executable, values: Mapping[str, Any]) -> int:
    return connection.execute(statement, values).rowcount


def texts(name: str) -> sa.Select[Any]:
    """Those of a parameter that is a JSON list."""
    return sa.select(sa.func.jsonb_array_elements_text(sa.cast(sa.bindparam(name, type_=sa.Text), JSONB)))


def ours(engine: sa.Engine, error: Exception, busy_seconds: float) -> ConsentLedgerError:
    """What an error of PostgreSQL's means, by its SQLSTATE."""
    state, text = getattr(error, "sqlstate", None) or "", _text(error)
    if state == "55P03":
        return LedgerBusy(
            f"another session has held the ledger's lock for {busy_seconds} seconds",
            hint="wait for it to finish, or end it: the view pg_stat_activity of the server says who it is",
        )
    for kinds, kind, says, hint in _MEANINGS:
        if re.match(kinds, state):
            return kind(f"{says}: {text}", hint=hint)
    if not state and isinstance(error, psycopg.OperationalError):
        return ConsentLedgerError(f"{_NO_CONNECTION}: {text}", hint=_UP)
    return ConsentLedgerError(f"the database failed: {text}", hint="look at the server's log, then run the command again")


_CREATE = "make it: CREATE DATABASE consent TEMPLATE template0 ENCODING 'UTF8'"
_PASSWORD = "a password belongs in ~/.pgpass, a service file or PGPASSWORD"  # noqa: S105 - words
_NO_CONNECTION = "the connection to the database failed"
_UP = "see that the server is up and reached by this URL, then run the command again"
_RESTORE = "run `consent fsck`; bring back the newest database that is whole"
_ROOM = "free some space or connections there, then run the command again"
_AGAIN = "run the command again"
_MEANINGS: tuple[tuple[str, type[ConsentLedgerError], str, str], ...] = (
    ("57P0[1-5]|08", ConsentLedgerError, _NO_CONNECTION, _UP),
    ("40", ConsentLedgerError, "the server ended this transaction for another's sake, and nothing was recorded", _AGAIN),
    ("28", ConsentLedgerError, "the server does not let you in", _PASSWORD),
    ("3D|3F", ConsentLedgerError, "the database is not there", _CREATE),
    (
        "25006|0A000",
        ConsentLedgerError,
        "the server can only be read from",
        "it is a standby or read-only: write to the primary",
    ),
    ("42501", ConsentLedgerError, "the database refuses", "let the owner of the tables run this, or GRANT what is missing"),
    ("53|58030", ConsentLedgerError, "the server has no room left", _ROOM),
    ("57014", ConsentLedgerError, "the server broke it off", "raise statement_timeout for this role, then run the command again"),
    ("42P01|42703|23|XX00[12]", IntegrityError, "the database is not whole", _RESTORE),
)
"""(SQLSTATE begins like this, what it is, what we say, what to do)."""


def _text(error: Exception) -> str:
    """One line, without the statement that psycopg adds."""
    diagnosis = getattr(error, "diag", None)
    lines = (diagnosis.message_primary if diagnosis is not None else None) or str(error)
    return " ".join(lines.split())[:400]
