"""`consent copy`: the same log in another database, and one that can be written to."""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_ledger import no, run, yes

import ledger
from ledger import IntegrityError, Ledger, UsageError, cli
from ledger.errors import ConsentLedgerError
from ledger.store import copying

TABLES = ("entries", "openings", "tiles", "checkpoints", "notices")
Database = Callable[[], str | None]


@pytest.fixture
def full(book: Ledger) -> Ledger:
    """With more than one tile, several checkpoints, a notice, every kind of scope, and an anchor elsewhere."""
    book.add_notice(b"Wir bitten.", notice_id="ask", language="de")
    book.record_all(yes(f"u{i}", content_id=f"ü{i}" if i % 2 else None, event_id=f"e{i}") for i in range(600))
    book.withdraw("u1")
    book.withdraw("u2", category="post")
    return book


@pytest.fixture(params=["to sqlite", "to postgresql"])
def other(request: pytest.FixtureRequest) -> str | None:
    if request.param == "to sqlite":
        return None
    made: str = request.getfixturevalue("new_database")()
    return made


def _rows(database: str) -> dict[str, list[tuple[object, ...]]]:
    return {table: sorted(run(database, f"SELECT * FROM {table}"), key=lambda row: row[:2]) for table in TABLES}


def test_the_same_bytes_and_the_same_checkpoints(full: Ledger, tmp_path: Path, other: str | None) -> None:
    before, receipt, head = _rows(full.folder.database), full.receipt("e7"), full.checkpoint()
    whole = ledger.fsck(full.folder.path)
    new = tmp_path / "new"
    assert ledger.copy(full.folder.path, new, database=other) == whole == ledger.fsck(new)
    with ledger.open(new) as moved:
        assert moved.checkpoint() == head == (new / "head").read_text()
        assert _rows(moved.folder.database) == before
        assert moved.receipt("e7") == receipt
        assert moved.purposes() == full.purposes()
        recorded = moved.withdraw("u3")
        assert recorded.position == whole.size
        full.check(head)
        moved.check(head)
    for key in ("log.key", "run.key", "tag.key"):
        assert (new / key).read_bytes() == (full.folder.path / key).read_bytes()
        assert stat.S_IMODE((new / key).stat().st_mode) == 0o600
    assert stat.S_IMODE(new.stat().st_mode) == 0o700
    assert not (new / copying.PENDING).exists()
    assert ledger.fsck(new).size == whole.size + 1
    with ledger.open(new) as moved:
        copies = [one.what for one in moved.erase("u1").unreached if one.kind == "backup"]
    assert any(str(full.folder.path) in what for what in copies)  # FROM still has all that TO has erased


def test_the_old_one_can_be_read_and_not_written_to(full: Ledger, tmp_path: Path, other: str | None) -> None:
    head = full.checkpoint()
    ledger.copy(full.folder.path, tmp_path / "new", database=other)
    with ledger.open(full.folder.path) as old:
        for again in (old, full):  # opened since, and opened before
            for write in (
                lambda book=again: book.withdraw("u1"),
                lambda book=again: book.snapshot("train-ai"),
                lambda book=again: book.declare_purpose("p", title="P", description="P"),
            ):
                with pytest.raises(ConsentLedgerError, match="moved") as refused:
                    write()
                assert refused.value.exit_code == 1
            assert again.events_of(["u1"])
            assert again.checkpoint() == head
    ledger.fsck(full.folder.path)
    with pytest.raises(ConsentLedgerError, match="moved"):
        ledger.copy(full.folder.path, tmp_path / "third")
    assert not (tmp_path / "third").exists()


def test_the_old_one_does_not_tell_what_holds_now(full: Ledger, tmp_path: Path, other: str | None) -> None:
    """Whoever goes on using it would find a yes, and fresh, where the new one has a no."""
    assert full.show("u4")["decisions"][0]["allowed"]
    ledger.copy(full.folder.path, tmp_path / "new", database=other)
    with ledger.open(tmp_path / "new") as new:
        new.withdraw("u4")
    with ledger.open(full.folder.path) as old:
        for again in (old, full):
            for ask in (
                lambda book=again: book.look("train-ai"),
                lambda book=again: book.show("u4"),
                lambda book=again: book.page(expiring=timedelta(days=1)),
                again.status,
            ):
                with pytest.raises(ConsentLedgerError, match="moved") as refused:
                    ask()
                assert refused.value.exit_code == 1
    pq.write_table(pa.table({"s": ["u4"]}), tmp_path / "shard.parquet")
    for where, code in ((full.folder.path, 1), (tmp_path / "new", 3)):
        line = ["--ledger", str(where), "audit", str(tmp_path / "shard.parquet"), "--purpose", "train-ai", "--subject", "s"]
        assert cli.run(line) == code


def test_a_backup_of_the_old_database_does_not_go_on(full: Ledger, tmp_path: Path) -> None:
    """As if it had never been moved: the folder knows better."""
    ledger.copy(full.folder.path, tmp_path / "new")
    run(full.folder.database, "UPDATE head SET id = 1")
    with ledger.open(full.folder.path) as old, pytest.raises(ConsentLedgerError, match="moved"):
        old.withdraw("u1")
    with pytest.raises(IntegrityError, match="table head"):
        ledger.fsck(full.folder.path)


def test_there_and_back_again(full: Ledger, tmp_path: Path, new_database: Callable[[], str]) -> None:
    before = _rows(full.folder.database)
    ledger.copy(full.folder.path, tmp_path / "b", database=new_database())
    ledger.copy(tmp_path / "b", tmp_path / "c")
    with ledger.open(tmp_path / "c") as back:
        assert _rows(back.folder.database) == before
        back.withdraw("u9")


def test_anchors_elsewhere_go_along(full: Ledger, tmp_path: Path, other: str | None) -> None:
    (tmp_path / "elsewhere").write_text(full.checkpoint())
    config = full.folder.path / "ledger.toml"
    config.write_text(config.read_text() + 'anchors = ["../elsewhere"]\n')
    (tmp_path / "deeper").mkdir()
    ledger.copy(full.folder.path, tmp_path / "deeper" / "new", database=other)
    with ledger.open(tmp_path / "deeper" / "new") as moved:
        moved.withdraw("u1")
        assert (tmp_path / "elsewhere").read_text() == moved.checkpoint()
    (tmp_path / "elsewhere").unlink()
    with pytest.raises(IntegrityError, match="missing"):
        ledger.open(tmp_path / "deeper" / "new")


def test_a_ledger_that_is_not_whole_is_not_copied(full: Ledger, tmp_path: Path, other: str | None) -> None:
    run(full.folder.database, "UPDATE openings SET subject_id = 'x' WHERE event_id = 'e9'")
    with pytest.raises(IntegrityError, match="subject_id"):
        ledger.copy(full.folder.path, tmp_path / "new", database=other)
    assert not (tmp_path / "new").exists()
    run(full.folder.database, "UPDATE openings SET subject_id = 'u9' WHERE event_id = 'e9'")
    full.withdraw("u1")
    ledger.copy(full.folder.path, tmp_path / "new", database=other)


def test_what_is_there_is_not_written_over(full: Ledger, tmp_path: Path, new_database: Callable[[], str]) -> None:
    taken = new_database()
    ledger.create(tmp_path / "neighbour", database=taken).close()
    for target, database in ((tmp_path / "new", taken), (tmp_path / "neighbour", None), (full.folder.path, None)):
        with pytest.raises(UsageError, match="there"):
            ledger.copy(full.folder.path, target, database=database)
    assert not (tmp_path / "new").exists()
    ledger.fsck(tmp_path / "neighbour")
    full.withdraw("u1")


def test_a_writer_that_waits_meanwhile_does_not_go_on(
    full: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str | None
) -> None:
    """It opened the ledger before, and gets the lock once the copy lets go of it: its no must not go where nobody looks."""
    outcome: list[BaseException | None] = []

    def write() -> None:
        try:
            with ledger.open(full.folder.path) as second:
                waiting.set()
                second.record(no("u5", event_id="late"))
            outcome.append(None)
        except ConsentLedgerError as error:
            outcome.append(error)

    waiting, thread = threading.Event(), threading.Thread(target=write)
    real = copying.make_folder

    def then(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        thread.start()
        assert waiting.wait(10)

    monkeypatch.setattr(copying, "make_folder", then)
    ledger.copy(full.folder.path, tmp_path / "new", database=other)
    thread.join()
    assert "moved" in str(outcome[0])
    with ledger.open(tmp_path / "new") as moved:
        assert "late" not in [e.event_id for _, e in moved.events()]


def test_of_two_ledgers_that_are_copied_into_one_folder_the_first_stays(full: Ledger, tmp_path: Path) -> None:
    """The second takes its time over the check: it may neither write into what stands there by then, nor remove it."""
    with ledger.create(tmp_path / "first") as first:
        first.declare_purpose("train-ai", title="Training", description="Training of models")
    came: list[int] = []

    def meanwhile(done: int, total: int) -> None:
        if not came:
            came.append(ledger.copy(tmp_path / "first", tmp_path / "new").size)
            with ledger.open(tmp_path / "new") as moved:
                moved.withdraw("ann")

    with pytest.raises(UsageError, match="is there already"):
        ledger.copy(full.folder.path, tmp_path / "new", on_progress=meanwhile)
    assert ledger.fsck(tmp_path / "new").size == came[0] + 1
    full.withdraw("u1")


@pytest.mark.parametrize("step", ["make_folder", "_fill", "_digest"])
def test_a_copy_that_fails_leaves_the_old_one_as_it_was(
    full: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(copying, step, fail)
    with pytest.raises(KeyboardInterrupt):
        ledger.copy(full.folder.path, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    monkeypatch.undo()
    full.withdraw("u1")
    ledger.copy(full.folder.path, tmp_path / "new")


def test_the_command(full: Ledger, tmp_path: Path, other: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["copy", str(full.folder.path), str(tmp_path / "new"), *(["--database", other] if other else [])]
    assert cli.run(line) == 0
    assert "moved 606 entries" in capsys.readouterr().err
    assert cli.run(line) == 2
    assert cli.run(["--ledger", str(full.folder.path), "withdraw", "u1"]) == 1
    assert "was moved" in capsys.readouterr().err
    assert cli.run(["--ledger", str(tmp_path / "new"), "withdraw", "u1"]) == 0
