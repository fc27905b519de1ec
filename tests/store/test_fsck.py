"""Whatever is changed behind the ledger's back is found: by fsck, or already when the ledger is opened."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from small_ledger import no, yes

import ledger
from ledger.errors import ConsentLedgerError, IntegrityError

TABLES = {
    "entries": ("position", "entry", "tag", "body"),
    "openings": (
        "position",
        "salt",
        "canonical",
        "act",
        "event_id",
        "subject_id",
        "lookalike",
        "state",
        "category",
        "content_id",
    ),
    "tiles": ("level", "number", "hashes"),
    "checkpoints": ("size", "note", "recorded_at"),
    "head": ("id", "note"),
    "notices": ("sha256", "text"),
    "alembic_version": ("version_num",),
}
COLUMNS = [(table, column) for table, columns in TABLES.items() for column in columns]
SAMPLES = 6


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with events of every scope, more than one tile and level, checkpoints, notices and two purposes."""
    path = tmp_path_factory.mktemp("whole") / "ledger"
    with ledger.create(path) as book:
        book.declare_purpose("train-ai", title="Training", description="Training of models")
        book.add_notice(b"We ask.", notice_id="ask", language="en")
        book.add_notice(b"Wir bitten.", notice_id="ask", language="de")
        book.record_all(
            yes(f"u{i}", content_id=f"c{i}" if i % 3 else None, category=None if i % 3 else "post") for i in range(300)
        )
        book.record(no("U1"))
        book.record(yes("ü2", notice="ask/de", occurred_at=datetime(2026, 2, 1, tzinfo=UTC)))
        book.withdraw("u3")
    assert ledger.fsck(path).events == 303
    with closing(sqlite3.connect(path / "ledger.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.fixture
def chance() -> random.Random:
    seed = int.from_bytes(os.urandom(8))
    print("seed", seed)
    return random.Random(seed)


class Copy:
    """A copy of the ledger, to be changed."""

    def __init__(self, whole: Path, path: Path) -> None:
        self.path = path
        self._whole = whole
        shutil.copytree(whole, path)

    def connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path / "ledger.db")
        connection.text_factory = bytes
        return connection

    def renew(self) -> None:
        for name in ("ledger.db", "ledger.db-wal", "ledger.db-shm"):
            (self.path / name).unlink(missing_ok=True)
        shutil.copy(self._whole / "ledger.db", self.path / "ledger.db")

    def assert_refused(self, what: object) -> None:
        try:
            ledger.open(self.path).close()
            ledger.fsck(self.path)
        except ConsentLedgerError as error:
            # A later number of the schema is what a newer version writes: refused too, but no sign of damage.
            assert error.exit_code == 4 or "newer version" in str(error)
            assert str(error)
        else:
            pytest.fail(f"nobody noticed {what}")


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Iterator[Copy]:
    yield Copy(whole, tmp_path / "ledger")


def _flipped(value: Any, chance: random.Random) -> tuple[Any, str]:
    """The value with one bit of it changed, and the SQL that stores it with its type."""
    if isinstance(value, int):
        return value ^ 1 << chance.randrange(40), "?"
    raw = bytearray(value)
    bit = chance.randrange(len(raw) * 8)
    raw[bit // 8] ^= 1 << bit % 8
    return bytes(raw), "?"


def _stores_text(column: str) -> bool:
    return column in (
        "act",
        "event_id",
        "subject_id",
        "lookalike",
        "state",
        "category",
        "content_id",
        "note",
        "sha256",
        "version_num",
    )


def _rows(connection: sqlite3.Connection, table: str, column: str, null: bool) -> list[int]:
    found = connection.execute(f"SELECT rowid FROM {table} WHERE {column} IS {'' if null else 'NOT'} NULL")
    return [rowid for (rowid,) in found]


@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=lambda value: value)
def test_one_bit_of_any_column_is_found(copy: Copy, chance: random.Random, table: str, column: str) -> None:
    tried = 0
    for _ in range(SAMPLES * 10):
        with closing(copy.connect()) as connection:
            rowid = chance.choice(_rows(connection, table, column, False))
            (value,) = connection.execute(f"SELECT {column} FROM {table} WHERE rowid = ?", (rowid,)).fetchone()
            changed, place = _flipped(value, chance)
            place = "CAST(? AS TEXT)" if _stores_text(column) else place
            try:
                with connection:
                    connection.execute(f"UPDATE {table} SET {column} = {place} WHERE rowid = ?", (changed, rowid))
            except sqlite3.IntegrityError:
                continue  # a key that is taken
        copy.assert_refused((table, column, rowid, value, changed))
        copy.renew()
        tried += 1
        if tried == SAMPLES:
            return
    assert tried


@pytest.mark.parametrize(
    ("table", "column"),
    [c for c in COLUMNS if c[1] in ("position", "level", "number", "size", "recorded_at", "id")],
    ids=lambda value: value,
)
@pytest.mark.parametrize("step", [1, -1])
def test_an_integer_moved_by_one_is_found(copy: Copy, chance: random.Random, table: str, column: str, step: int) -> None:
    for _ in range(2):
        with closing(copy.connect()) as connection:
            rowid = chance.choice(_rows(connection, table, column, False))
            try:
                with connection:
                    connection.execute(f"UPDATE {table} SET {column} = {column} + ? WHERE rowid = ?", (step, rowid))
            except sqlite3.IntegrityError:
                # The neighbour has it: swap the two.
                with connection:
                    (key,) = connection.execute(f"SELECT {column} FROM {table} WHERE rowid = ?", (rowid,)).fetchone()
                    for old, new in ((key, -9), (key + step, key), (-9, key + step)):
                        connection.execute(f"UPDATE OR IGNORE {table} SET {column} = ? WHERE {column} = ?", (new, old))
        copy.assert_refused((table, column, rowid, step))
        copy.renew()


@pytest.mark.parametrize(
    ("table", "column"),
    [("entries", "tag"), ("entries", "body"), *(("openings", c) for c in TABLES["openings"][3:])],
    ids=lambda value: value,
)
def test_null_for_a_value_and_a_value_for_null_are_found(copy: Copy, chance: random.Random, table: str, column: str) -> None:
    for null in (True, False):
        for _ in range(3):
            with closing(copy.connect()) as connection, connection:
                rowid = chance.choice(_rows(connection, table, column, null))
                value = (
                    None
                    if not null
                    else bytes(32)
                    if table == "entries"
                    else chance.choice(["", "u1", "given", "purpose_declared"])
                )
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (value, rowid))
            copy.assert_refused((table, column, rowid, value))
            copy.renew()


@pytest.mark.parametrize("table", TABLES)
def test_any_row_deleted_is_found(copy: Copy, chance: random.Random, table: str) -> None:
    with closing(copy.connect()) as connection:
        rowids = _rows(connection, table, TABLES[table][0], False)
    for rowid in rowids if len(rowids) < 10 else [rowids[0], rowids[-1], *chance.sample(rowids, SAMPLES)]:
        with closing(copy.connect()) as connection, connection:
            connection.execute(f"DELETE FROM {table} WHERE rowid = ?", (rowid,))
        copy.assert_refused((table, rowid))
        copy.renew()


@pytest.mark.parametrize("table", TABLES)
def test_a_row_added_is_found(copy: Copy, chance: random.Random, table: str) -> None:
    keys = {
        "entries": [-1, 100_000],
        "openings": [-1, 100_000],
        "tiles": [-1, 2, 9],
        "checkpoints": [-1, 0, 5, 100_000],
        "head": [0, 2],
        "notices": [b"0" * 64],
        "alembic_version": [b"0001", b"0002"],
    }[table]
    for key in keys:
        with closing(copy.connect()) as connection, connection:
            names = TABLES[table]
            row = list(connection.execute(f"SELECT {', '.join(names)} FROM {table} ORDER BY random() LIMIT 1").fetchone())
            if table == "openings":
                row[names.index("event_id")] = None
            row[0] = key
            marks = ", ".join("CAST(? AS TEXT)" if _stores_text(name) else "?" for name in names)
            try:
                connection.execute(f"INSERT INTO {table} VALUES ({marks})", row)
            except sqlite3.IntegrityError:
                continue  # the table itself refuses it
        copy.assert_refused((table, row))
        copy.renew()


def test_checkpoints_signed_while_the_clock_stood_still_cannot_be_dropped(tmp_path: Path, clock: Any) -> None:
    clock.set(clock.now)
    with ledger.create(tmp_path / "still") as book:
        for i in range(3):
            book.record(no(f"u{i}", purposes=["*"]))
    with closing(sqlite3.connect(tmp_path / "still" / "ledger.db")) as connection, connection:
        connection.execute("DELETE FROM checkpoints WHERE size = 4")
    with pytest.raises(IntegrityError):
        ledger.fsck(tmp_path / "still")


def test_a_damaged_file_is_found(copy: Copy, chance: random.Random) -> None:
    data = bytearray((copy.path / "ledger.db").read_bytes())
    for name, damaged in (("cut", data[: len(data) // 2]), ("head", b"\xff" * 100 + data[100:]), ("none", b"")):
        copy.renew()
        (copy.path / "ledger.db").write_bytes(damaged)
        copy.assert_refused(name)
    page = 4096 * chance.randrange(1, len(data) // 4096)
    copy.renew()
    (copy.path / "ledger.db").write_bytes(data[:page] + os.urandom(4096) + data[page + 4096 :])
    copy.assert_refused(page)


@pytest.mark.parametrize("table", TABLES)
def test_a_table_gone_is_found(copy: Copy, table: str) -> None:
    with closing(copy.connect()) as connection, connection:
        connection.execute(f"DROP TABLE {table}")
    copy.assert_refused(table)


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("head", "note"),
        ("checkpoints", "note"),
        ("alembic_version", "version_num"),
        ("tiles", "hashes"),
        ("openings", "canonical"),
        ("openings", "salt"),
        ("entries", "entry"),
        ("entries", "tag"),
        ("notices", "text"),
        ("checkpoints", "recorded_at"),
    ],
    ids=lambda value: value,
)
@pytest.mark.parametrize("value", [7, "text", b"bytes", 2**62, 1.5], ids=lambda value: type(value).__name__)
def test_a_value_of_another_type_is_found(copy: Copy, table: str, column: str, value: Any) -> None:
    with closing(copy.connect()) as connection, connection:
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = (SELECT max(rowid) FROM {table})", (value,))
    copy.assert_refused((table, column, value))


def test_a_purpose_hidden_by_its_index_decides_nothing(copy: Copy) -> None:
    """A yes to an older version counts again where the newer one is hidden: the column is signed by nothing."""
    with ledger.open(copy.path) as book:
        book.declare_purpose("train-ai", title="Training", description="Other training")
        assert book.look("train-ai").purpose == "train-ai@2"
        with closing(copy.connect()) as connection, connection:
            connection.execute("UPDATE openings SET act = 'key_added' WHERE position = (SELECT max(position) FROM openings)")
        with pytest.raises(IntegrityError, match="declares train-ai"):
            book.look("train-ai")


def test_a_no_hidden_in_the_index_still_counts(copy: Copy) -> None:
    with closing(copy.connect()) as connection, connection:
        connection.execute("UPDATE openings SET state = 'given', subject_id = 'x', event_id = NULL WHERE state = 'refused'")
    with ledger.open(copy.path) as book:
        rows = book.look("train-ai").rows().to_pylist()
    assert any(row["subject_id"] == "U1" and row["no_position"] >= 0 for row in rows)
    copy.assert_refused("the index")


def test_progress_and_report(whole: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = ledger.fsck(whole, on_progress=lambda done, total: seen.append((done, total)))
    assert report.size == report.events + report.acts
    assert seen
    assert report.document()["whole"] is True
