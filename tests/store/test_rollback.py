"""A database that is not the newest is refused, by every way in."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from small_ledger import Sql, no, statement, yes

import ledger
from ledger import IntegrityError, Ledger, cli
from tests import postgres


@pytest.fixture
def keep() -> Keep:
    """Keep the database as it is; what that gives puts it back."""

    def kept(book: Ledger) -> Callable[[], None]:
        url = book.folder.database
        if url.startswith("sqlite"):
            backup = book.folder.path.parent / "backup.db"
            shutil.copy(book.folder.path / "ledger.db", backup)
            return lambda: _restore(book, backup)
        postgres.keep(url)
        return lambda: postgres.restore(url)

    return kept


def _restore(book: Ledger, backup: Path) -> None:
    for name in ("ledger.db-wal", "ledger.db-shm"):
        (book.folder.path / name).unlink(missing_ok=True)
    shutil.copy(backup, book.folder.path / "ledger.db")


Keep = Callable[[Ledger], Callable[[], None]]
USES: dict[str, Callable[[Ledger], object]] = {
    "open": lambda book: ledger.open(book.folder.path),
    "fsck": lambda book: ledger.fsck(book.folder.path),
    "record": lambda book: book.record(no()),
    "withdraw": lambda book: book.withdraw("u1"),
    "look": lambda book: book.look("train-ai"),
    "snapshot": lambda book: book.snapshot("train-ai"),
    "purpose": lambda book: book.declare_purpose("p", title="P", description="P"),
    "notice": lambda book: book.add_notice(b"n", notice_id="n", language="en"),
    "admit": lambda book: book.admit(statement(book)),
    "status": lambda book: book.status(),
}


@pytest.mark.parametrize("use", USES)
def test_the_database_of_yesterday_is_refused(book: Ledger, keep: Keep, use: str) -> None:
    book.record(yes("u1"))
    restore = keep(book)
    book.record(no("u1"))
    restore()
    with pytest.raises(IntegrityError, match="rolled back") as refused:
        USES[use](book)
    assert refused.value.exit_code == 4


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "u1"],
        ["record", "given", "u1", "--purpose", "train-ai"],
        ["withdraw", "u1"],
        ["purpose", "list"],
        ["fsck"],
        ["import", "acts.csv"],
        ["receipt", "e1", "-o", "r"],
        ["snapshot", "--purpose", "train-ai", "-o", "s"],
        ["key", "show"],
        ["status"],
        ["events"],
    ],
    ids=lambda a: a[0],
)
def test_every_command_exits_with_4(
    book: Ledger,
    keep: Keep,
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("acts.csv").write_text("state,subject_id,purposes\nrefused,u1,train-ai\n")
    book.record(yes("u1", event_id="e1"))
    restore = keep(book)
    book.record(no("u1"))
    restore()
    code = cli.run(["--ledger", str(book.folder.path), *arguments])
    assert (code, arguments[0]) == (4, arguments[0]), capsys.readouterr()


def test_the_last_rows_deleted(book: Ledger, sql: Sql) -> None:
    book.record(yes("u1"))
    head, size = sql("SELECT note FROM head")[0][0], sql("SELECT count(*) FROM entries")[0][0]
    tile = sql("SELECT hashes FROM tiles")[0][0]
    book.record(no("u1"))
    for table in ("entries", "openings"):
        sql(f"DELETE FROM {table} WHERE position >= ?", size)
    sql("DELETE FROM checkpoints WHERE size > ?", size)
    sql("UPDATE tiles SET hashes = ?", tile)
    sql("UPDATE head SET note = ?", head)
    with pytest.raises(IntegrityError, match="rolled back"):
        ledger.open(book.folder.path)
    with pytest.raises(IntegrityError, match="rolled back"):
        ledger.fsck(book.folder.path)


def test_only_the_entries_deleted(book: Ledger, sql: Sql) -> None:
    book.record(no("u1"))
    last = sql("SELECT max(position) FROM entries")[0][0]
    for table in ("entries", "openings"):
        sql(f"DELETE FROM {table} WHERE position = ?", last)
    for use in ("fsck", "look"):
        with pytest.raises(IntegrityError):
            USES[use](book)


@pytest.mark.parametrize("use", USES)
def test_an_anchor_that_was_removed(book: Ledger, use: str) -> None:
    (book.folder.path / "head").unlink()
    with pytest.raises(IntegrityError, match="head is missing"):
        USES[use](book)


@pytest.mark.parametrize(
    "edit",
    [
        lambda note: note.replace("\n4\n", "\n3\n", 1),
        lambda note: note[:-5] + "AAA=\n",
        lambda note: "",
        lambda note: note.replace("—", "-"),
        lambda note: "\ud800".join(note.split("\n")).encode("utf-8", "surrogatepass"),
        lambda note: "x" * (2 << 20),
    ],
)
def test_an_anchor_that_was_edited(book: Ledger, edit: Callable[[str], str | bytes]) -> None:
    book.record(yes())
    anchor = book.folder.path / "head"
    edited = edit(anchor.read_text())
    anchor.write_bytes(edited if isinstance(edited, bytes) else edited.encode())
    for use in USES.values():
        with pytest.raises(IntegrityError) as refused:
            use(book)
        assert refused.value.exit_code == 4


def test_an_anchor_of_another_ledger(book: Ledger, tmp_path: Path) -> None:
    with ledger.create(tmp_path / "other") as other:
        (book.folder.path / "head").write_text(other.checkpoint())
    with pytest.raises(IntegrityError):
        ledger.open(book.folder.path)


def _with_anchor(book: Ledger, anchor: str) -> Path:
    config = book.folder.path / "ledger.toml"
    config.write_text(config.read_text() + f"anchors = [{anchor!r}]\n")
    return config


@pytest.mark.parametrize("absolute", [True, False])
def test_a_further_anchor_counts(
    book: Ledger, keep: Keep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absolute: bool
) -> None:
    """Where the folder's own anchor went back together with the database, one that is kept elsewhere tells."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    _with_anchor(book, str(elsewhere / "head") if absolute else "../elsewhere/head")
    with pytest.raises(IntegrityError, match="missing"):
        ledger.open(book.folder.path)
    shutil.copy(book.folder.path / "head", elsewhere / "head")
    monkeypatch.chdir(elsewhere)
    with ledger.open(book.folder.path) as opened:
        opened.record(yes("u1"))
        restore, head = keep(opened), (opened.folder.path / "head").read_text()
        opened.record(no("u1"))
        assert (elsewhere / "head").read_text() == opened.checkpoint()
        restore()
    (book.folder.path / "head").write_text(head)
    with pytest.raises(IntegrityError, match="rolled back"):
        ledger.open(book.folder.path)


@pytest.mark.parametrize("anchors", ['"head2"', "5", "[5]", '{a = "b"}'])
def test_anchors_that_are_no_list_of_files(book: Ledger, anchors: str) -> None:
    config = book.folder.path / "ledger.toml"
    config.write_text(config.read_text() + f"anchors = {anchors}\n")
    with pytest.raises(IntegrityError):
        ledger.open(book.folder.path)


def test_a_checkpoint_met_elsewhere(book: Ledger, keep: Keep) -> None:
    book.record(yes())
    restore, old = keep(book), book.checkpoint()
    later = book.record_all([no()]).note
    book.check(old)
    restore()
    (book.folder.path / "head").write_text(old)
    book.check(old)
    with pytest.raises(IntegrityError, match="rolled back"):
        book.check(later)
    book.record(no("u9"))  # the two logs have parted
    with pytest.raises(IntegrityError):
        book.check(later)
