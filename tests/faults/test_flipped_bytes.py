"""A byte of any file that is kept is changed: whoever uses the file says so, or it reads exactly as before.

What stands in the ledger's folder, its database as it lies on the disk, snapshots, statements and shards. (The bytes of receipts
and audits, one by one, are in tests/statements; the values of the database's columns in tests/store/test_fsck.)

Which bytes is drawn by a seed that is printed; CONSENT_LEDGER_FAULTS=all takes every one, with one of its bits.
"""

from __future__ import annotations

import os
import random
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import ledger
from ledger.errors import ConsentLedgerError
from ledger.log import trust
from ledger.store.folder import Folder
from tests.conftest import yes
from tests.faults.harness import chance

IN_TEST, IN_SOAK = 40, 600


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger of more than one tile and level, with a notice, a snapshot, and a run with its statement."""
    where = tmp_path_factory.mktemp("kept")
    folder = where / "consent-ledger"
    with ledger.create(folder) as book:
        book.declare_purpose("train-ai", title="T", description="D", categories=["post"])
        book.add_notice(b"We ask.", notice_id="ask", language="en")
        book.record_all(yes(f"u{n}", event_id=f"e{n}", category="post" if n % 3 else None) for n in range(260))
        book.withdraw("u7")
        book.snapshot("train-ai", output=where / "answers.parquet")
        _shard(where / "raw" / "a.parquet")
        consent = ledger.ConsentFilter(book.look("train-ai"), ledger.Columns(subject="user_id", category="=post"))
        consent.filter_shards([where / "raw"], where / "train", key=book.run_key(), publish=book.publish, admit=book.admit)
    with closing(sqlite3.connect(folder / "ledger.db")) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return where


def _shard(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir()
    pq.write_table(pa.table({"user_id": [f"u{n}" for n in range(40)], "text": [f"said {n}" for n in range(40)]}), path)


def _database(where: Path) -> Any:
    """Every row of every table, once all was found whole."""
    folder = where / "consent-ledger"
    with ledger.open(folder):
        pass
    ledger.fsck(folder)
    with closing(sqlite3.connect(folder / "ledger.db")) as database:
        database.text_factory = bytes
        tables = [
            name.decode() for (name,) in database.execute("SELECT name FROM sqlite_master WHERE lower(type) = 'table' ORDER BY 1")
        ]
        # SQLite takes words and names of its schema in any case.
        return {table.lower(): sorted(database.execute(f"SELECT * FROM {table}").fetchall(), key=repr) for table in tables}


def _head(where: Path) -> Any:
    with ledger.open(where / "consent-ledger") as book:
        return book.checkpoint(), book.folder.read_anchors()[0][1]


def _configuration(where: Path) -> Any:
    with ledger.open(where / "consent-ledger") as book:
        return book.folder


def _trusted(where: Path) -> Any:
    """As its own ledger and as a relying party take it."""
    ledger.fsck(where / "consent-ledger")
    ledger.verify(where / "train", trust=where / "consent-ledger" / "trust")
    return trust.parse((where / "consent-ledger" / "trust").read_bytes().decode("utf-8", "surrogateescape"))


def _log_key(where: Path) -> Any:
    return Folder.open(where / "consent-ledger").log_key().to_pem(None)


def _run_key(where: Path) -> Any:
    with ledger.open(where / "consent-ledger") as book:
        return book.run_key().to_pem(None)


def _tag_key(where: Path) -> Any:
    ledger.fsck(where / "consent-ledger")
    return Folder.open(where / "consent-ledger").tag_key()


def _snapshot(where: Path) -> Any:
    found = ledger.load_snapshot(where / "answers.parquet", trust=where / "consent-ledger" / "trust")
    return found.sha256, found.rows(), found.receipt


def _verified(where: Path) -> Any:
    return ledger.verify(where / "train", trust=where / "consent-ledger" / "trust").checked


KEPT: dict[str, Callable[[Path], Any]] = {
    "consent-ledger/ledger.db": _database,
    "consent-ledger/head": _head,
    "consent-ledger/ledger.toml": _configuration,
    "consent-ledger/trust": _trusted,
    "consent-ledger/log.key": _log_key,
    "consent-ledger/run.key": _run_key,
    "consent-ledger/tag.key": _tag_key,
    "answers.parquet": _snapshot,
    "answers.parquet.receipt": _snapshot,
    "train/a.parquet": _verified,
    "train.intoto.jsonl": _verified,
}


@pytest.mark.parametrize("name", KEPT)
def test_some_bytes(kept: Path, name: str) -> None:
    _flip(kept, name, IN_TEST)


@pytest.mark.soak
@pytest.mark.parametrize("name", KEPT)
def test_many_bytes(kept: Path, name: str) -> None:
    _flip(kept, name, IN_SOAK)


def _flip(kept: Path, name: str, wanted: int) -> None:
    path, read = kept / name, KEPT[name]
    whole, before = path.read_bytes(), read(kept)
    rng = chance()
    every = os.environ.get("CONSENT_LEDGER_FAULTS") == "all" or wanted >= len(whole)
    became: Counter[str] = Counter()
    try:
        for at in range(len(whole)) if every else _drawn(rng, whole, wanted):
            flipped = bytearray(whole)
            flipped[at] ^= 1 << rng.randrange(8)
            path.write_bytes(flipped)
            became[_what_became(kept, read, before, (name, at, whole[at], flipped[at]))] += 1
            for beside in ("-wal", "-shm", "-journal"):
                path.with_name(path.name + beside).unlink(missing_ok=True)
    finally:
        path.write_bytes(whole)
    print(f"{name}: {sum(became.values())} of {len(whole)} bytes: {dict(became)}")
    assert any(outcome.startswith("refused") for outcome in became)


def _drawn(rng: random.Random, whole: bytes, wanted: int) -> list[int]:
    """Those that say something: a database has pages that are nearly empty."""
    return rng.sample([at for at, byte in enumerate(whole) if byte], wanted)


def _what_became(kept: Path, read: Callable[[Path], Any], before: Any, what: object) -> str:
    try:
        after = read(kept)
    except ConsentLedgerError as error:
        assert str(error), what
        return f"refused, {error.exit_code}"
    except Exception as error:
        raise AssertionError(f"{what}: {error!r}") from error
    assert after == before, f"nobody noticed {what}"
    return "reads as before"
