"""A run decided again: equal, different in every way that somebody could have made it, and without people who were erased."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ledger import ConsentFilter, files
from ledger.errors import IntegrityError, UsageError
from ledger.log import dsse
from ledger.recompute import Recomputed, recompute
from ledger.shards.columns import Columns
from ledger.statements.audit_statement import AuditRecord, audit_statement
from ledger.statements.statement import RunRecord, run_statement
from ledger.statements.verify import open_statement
from tests.shards.world import World

NAN = float("nan")


@pytest.fixture
def release(world: World) -> Path:
    folder = world.root / "in"
    folder.mkdir()
    posts = pa.table(
        {
            "s": ["yes", "no", "later", "yes", "stranger", "yes"],
            "f": [0.5, 1.5, NAN, -0.0, 2.5, None],
            "l": pa.array([[1.5, NAN], [], None, [None], [2.5], []], pa.list_(pa.field("element", pa.float32()))),
            "m": pa.array([{"a": 1, "b": "x"}, None, {"a": None, "b": None}, None, None, {"a": 2, "b": ""}]),
            "t": ["one", "two", "three", "four", "five", "six"],
        }
    )
    pq.write_table(posts, folder / "a.parquet", row_group_size=4, compression="zstd")
    pq.write_table(posts.slice(1, 3), folder / "b.parquet", row_group_size=1)
    ConsentFilter(world.book.look("ai"), Columns(subject="s")).filter_shards(
        [folder], world.root / "out", key=world.book.run_key(), publish=world.book.publish, admit=world.book.admit
    )
    return world.root / "out"


def again(world: World, release: Path, inputs: str | None = "in") -> Recomputed:
    data = release.with_name("out.intoto.jsonl").read_bytes()
    opened = open_statement(data, world.book.trust, allow_unlogged=True)
    return recompute(opened, world.book, shards=release, inputs=None if inputs is None else world.root / inputs)


def restate(world: World, release: Path, change: Callable[[RunRecord], RunRecord]) -> None:
    """An operator's statement of something else: signed, logged and all."""
    path = release.with_name("out.intoto.jsonl")
    record = open_statement(path.read_bytes(), world.book.trust).record
    assert isinstance(record, RunRecord)
    line = dsse.seal(run_statement(change(record)), world.book.run_key())
    path.write_bytes(line + b"\n" + world.book.admit(line))


def reshard(world: World, release: Path, name: str, change: Callable[[Any], Any], **counts: Any) -> None:
    """The output written otherwise, and a statement that names it."""
    path = release / name
    written = pq.read_table(path)
    pq.write_table(change(written).replace_schema_metadata(written.schema.metadata), path)

    def fit(record: RunRecord) -> RunRecord:
        shards = [replace(s, output_sha256=files.sha256_of(path), **counts) if s.output == name else s for s in record.shards]
        kept = sum(s.rows_kept for s in shards)
        return replace(record, shards=shards, rests_on={"assertion": kept})

    restate(world, release, fit)


def test_the_ledger_and_the_inputs_give_the_same(world: World, release: Path) -> None:
    world.book.withdraw("yes")  # what was said since is no part of it
    found = again(world, release)
    assert (found.rows, found.erased, found.header) == (9, 0, True)
    assert "EQUAL: all 9 rows" in found.sentences()[1]


def test_a_writer_of_another_version_makes_no_difference(world: World, release: Path) -> None:
    reshard(world, release, "a.parquet", lambda table: table)
    assert again(world, release).erased == 0


def set_value(table: Any, column: str, row: int, value: Any) -> Any:
    at = table.column_names.index(column)
    values = table[column].to_pylist()
    values[row] = value
    return table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))


@pytest.mark.parametrize(
    ("change", "row"),
    [
        (lambda table: set_value(table, "t", 1, "else"), "row 1 "),
        (lambda table: set_value(table, "f", 2, 0.0), "row 2 "),
        (lambda table: set_value(table, "f", 1, 7.0), "row 1 "),
        (lambda table: set_value(table, "l", 0, [1.5, 2.0]), "row 0 "),
        (lambda table: set_value(table, "m", 1, None), "row 1 "),
        (lambda table: table.take([0, 2, 1, 3]), "row 1 "),
        (lambda table: table.take([0, 1, 2, 2]), "row 3 "),
    ],
)
def test_one_value_of_the_output_is_another(world: World, release: Path, change: Callable[[Any], Any], row: str) -> None:
    reshard(world, release, "a.parquet", change)
    with pytest.raises(IntegrityError, match=f"DIFFERENT: {row}of 'a.parquet'"):
        again(world, release)


def test_a_row_too_few_and_a_row_that_was_never_allowed(world: World, release: Path) -> None:
    kept = shutil.copytree(release, world.root / "kept")
    reshard(world, release, "b.parquet", lambda table: table.slice(1), rows_kept=1, rows_dropped={"withdrawn": 1, "no_record": 1})
    with pytest.raises(IntegrityError, match=r"'b.parquet'|row 0"):
        again(world, release)
    shutil.copy(kept / "b.parquet", release / "b.parquet")
    source = pq.read_table(world.root / "in/b.parquet")
    reshard(world, release, "b.parquet", lambda table: source, rows_kept=3, rows_dropped={})
    with pytest.raises(IntegrityError, match=r"DIFFERENT: row 0 of 'b.parquet'"):
        again(world, release)


def test_other_reasons_than_those_that_were(world: World, release: Path) -> None:
    def blame(record: RunRecord) -> RunRecord:
        return replace(record, shards=[replace(s, rows_dropped={"expired": s.rows_in - s.rows_kept}) for s in record.shards])

    restate(world, release, blame)
    with pytest.raises(IntegrityError, match=r"says that \{'expired': 2\} were dropped, and \{'withdrawn': 1,"):
        again(world, release)


def test_other_answers_than_the_ledger_has(world: World, release: Path) -> None:
    restate(world, release, lambda record: replace(record, answers_sha256="0" * 64))
    with pytest.raises(IntegrityError, match="answers at the statement's snapshot are not"):
        again(world, release)


def test_what_the_rows_rest_on(world: World, release: Path) -> None:
    restate(world, release, lambda record: replace(record, rests_on={"session": record.rows_kept}))
    with pytest.raises(IntegrityError, match="rests_on"):
        again(world, release)


def test_another_input(world: World, release: Path) -> None:
    pq.write_table(pq.read_table(world.root / "in/b.parquet"), world.root / "in/b.parquet", compression="gzip")
    with pytest.raises(IntegrityError, match=r"input .*b.parquet is not the one"):
        again(world, release)
    with pytest.raises(UsageError, match="inputs"):
        again(world, release, None)


def test_an_audit_is_decided_again_without_inputs(world: World) -> None:
    world.shard("out/a.parquet", "yes", "later")
    ConsentFilter(world.snapshot, Columns(subject="s")).attest_shards(
        world.root / "out", key=world.book.run_key(), admit=world.book.admit
    )
    found = again(world, world.root / "out", None)
    assert (found.rows, found.header) == (2, True)
    path = world.shard("out/a.parquet", "yes", "no")
    opened = open_statement((world.root / "out.intoto.jsonl").read_bytes(), world.book.trust)
    assert isinstance(opened.record, AuditRecord) and path.exists()
    with pytest.raises(IntegrityError, match=r"row 1 of 'a.parquet' was not allowed: withdrawn"):
        recompute(opened, world.book, shards=world.root / "out", inputs=None)


def test_when_the_snapshot_was_compiled_is_told_where_the_log_does_not_tell(world: World) -> None:
    world.shard("out/a.parquet", "yes")
    as_of = datetime.now(UTC) - timedelta(microseconds=1)
    snapshot = world.book.snapshot("ai", output=world.root / "earlier.parquet", as_of=as_of)
    ConsentFilter(snapshot, Columns(subject="s")).attest_shards(
        world.root / "out", key=world.book.run_key(), admit=world.book.admit
    )
    found = again(world, world.root / "out", None)
    assert not found.header and "which the log does not tell" in found.sentences()[0]


def test_another_ledger(world: World, release: Path, tmp_path: Path) -> None:
    opened = open_statement(release.with_name("out.intoto.jsonl").read_bytes(), world.book.trust)
    with pytest.raises(UsageError, match="the ledger is"):
        recompute(opened, World(tmp_path / "x", "else").book, shards=release, inputs=world.root / "in")


def test_people_who_were_erased_since(world: World, release: Path) -> None:
    world.book.erase("later")
    found = again(world, release)
    assert (found.erased, found.erased_rows) == (1, 2) and "EQUAL EXCEPT FOR 1 ERASED" in found.sentences()[1]
    reshard(world, release, "a.parquet", lambda table: set_value(table, "t", 0, "else"))
    with pytest.raises(IntegrityError, match=r"DIFFERENT: row 0 of 'a.parquet'"):
        again(world, release)


def relog(world: World, record: Any) -> None:
    """A lying operator's audit of `out`: signed and logged."""
    line = dsse.seal(audit_statement(record), world.book.run_key())
    (world.root / "out.intoto.jsonl").write_bytes(line + b"\n" + world.book.admit(line))


def test_an_erasure_covers_no_row_that_somebody_else_forbade(world: World) -> None:
    """Rows of several people: one erased since says nothing of the no of another."""
    folder = world.root / "in"
    folder.mkdir()
    people = pa.array(
        [["yes", "later"], ["later", "no"], ["later"], ["later", "stranger"]], pa.list_(pa.field("element", pa.string()))
    )
    pq.write_table(pa.table({"s": people}), folder / "a.parquet")
    ConsentFilter(world.book.look("ai"), Columns(subject="s")).filter_shards(
        [folder], world.root / "out", key=world.book.run_key(), publish=world.book.publish, admit=world.book.admit
    )
    release = world.root / "out"
    honest = shutil.copytree(release, world.root / "honest")
    statement = release.with_name("out.intoto.jsonl").read_bytes()
    source = pq.read_table(folder / "a.parquet")
    for rows, dropped in (([0, 1, 2], {"no_record": 1}), ([0, 2, 3], {"withdrawn": 1})):
        reshard(world, release, "a.parquet", lambda _, rows=rows: source.take(rows), rows_kept=3, rows_dropped=dropped)  # type: ignore[misc]
        kept = (release / "a.parquet").read_bytes(), release.with_name("out.intoto.jsonl").read_bytes()
        (world.root / f"{rows}").write_bytes(kept[0])
        (world.root / f"{rows}.intoto.jsonl").write_bytes(kept[1])
    world.book.erase("later")
    for rows in ([0, 1, 2], [0, 2, 3]):
        (release / "a.parquet").write_bytes((world.root / f"{rows}").read_bytes())
        release.with_name("out.intoto.jsonl").write_bytes((world.root / f"{rows}.intoto.jsonl").read_bytes())
        with pytest.raises(IntegrityError, match="that others forbade"):
            again(world, release)
    shutil.copy(honest / "a.parquet", release / "a.parquet")
    release.with_name("out.intoto.jsonl").write_bytes(statement)
    assert (again(world, release).erased, again(world, release).erased_rows) == (1, 4)
    restate(world, release, lambda record: replace(record, rests_on={"import": 2}))
    assert again(world, release).erased == 1  # all that is kept is of one who was erased: what it rested on nobody can say


def test_an_erasure_covers_no_row_of_an_audit_that_somebody_else_forbade(world: World) -> None:
    (world.root / "out").mkdir()
    path = world.root / "out/a.parquet"
    pq.write_table(pa.table({"s": pa.array([["yes", "later"], ["later", "yes"], ["yes"]])}), path)
    ConsentFilter(world.snapshot, Columns(subject="s")).attest_shards(
        world.root / "out", key=world.book.run_key(), admit=world.book.admit
    )
    record = open_statement((world.root / "out.intoto.jsonl").read_bytes(), world.book.trust).record
    world.book.erase("later")
    assert (again(world, world.root / "out", None).erased_rows, record.rows) == (2, 3)  # type: ignore[union-attr]
    pq.write_table(pa.table({"s": pa.array([["yes", "later"], ["later", "no"], ["yes"]])}), path)
    opened = open_statement((world.root / "out.intoto.jsonl").read_bytes(), world.book.trust)
    with pytest.raises(IntegrityError, match=r"row 1 of 'a.parquet' was not allowed: withdrawn"):
        recompute(opened, world.book, shards=world.root / "out", inputs=None)
    assert isinstance(record, AuditRecord)
    pq.write_table(pa.table({"s": pa.array([["yes", "later"], ["later", "yes"], ["yes"]])}), path)
    relog(world, replace(record, rests_on={"session": 3}))
    with pytest.raises(IntegrityError, match="rests_on"):
        again(world, world.root / "out", None)


def test_more_rows_than_there_are(world: World, release: Path) -> None:
    """The sums of a statement add up, and so do those of this one: one row is told of another shard."""

    def move(record: RunRecord) -> RunRecord:
        first, second = record.shards
        shards = [
            replace(first, rows_in=first.rows_in + 1, rows_kept=first.rows_kept + 1),
            replace(second, rows_in=second.rows_in - 1, rows_kept=second.rows_kept - 1),
        ]
        return replace(record, shards=shards)

    restate(world, release, move)
    with pytest.raises(IntegrityError, match=r"says that 'a.parquet' has 7 rows, and it has 6"):
        again(world, release)


def test_more_rows_than_an_audit_met(world: World) -> None:
    world.shard("out/a.parquet", "yes", "later")
    world.shard("out/b.parquet", "yes")
    ConsentFilter(world.snapshot, Columns(subject="s")).attest_shards(
        world.root / "out", key=world.book.run_key(), admit=world.book.admit
    )
    record = open_statement((world.root / "out.intoto.jsonl").read_bytes(), world.book.trust).record
    assert isinstance(record, AuditRecord)
    relog(world, replace(record, shards=[replace(shard, rows=3 - shard.rows) for shard in record.shards]))
    with pytest.raises(IntegrityError, match=r"says that 'a.parquet' has 1 rows, and it has 2"):
        again(world, world.root / "out", None)


def test_the_command(world: World, release: Path, consent: Callable[..., Any]) -> None:
    trust = world.root / "trust"
    trust.write_text(world.book.trust_text())
    book = world.book.folder.path
    shutil.move(release, world.root / "moved")
    statement = world.root / "out.intoto.jsonl"
    moved = ("--trust", trust, "--shards", world.root / "moved")
    alone = consent("verify", statement, "--trust", trust, "--signature-only")
    assert alone.code == 0 and "the 2 subjects of these rows is committed by the operator, shards not checked" in alone.out
    built = consent("verify", statement, *moved)
    assert built.code == 0 and "the set of the 2 subjects of these rows is that of the shards" in built.out
    assert "not checked for it" not in built.out
    equal = consent("verify", statement, *moved, "--inputs", world.root / "in", "--ledger", book)
    assert equal.code == 0 and "EQUAL: all 9 rows were decided again" in equal.out
    for wrong in (
        ("verify", statement, "--trust", trust, "--ledger", book),
        ("verify", statement, *moved, "--inputs", world.root / "in"),
        ("verify", statement, statement, *moved),
        ("verify", statement, *moved, "--signature-only"),
        ("verify", statement, *moved, "--ledger", book),
        ("verify", "--trust", trust),
        ("verify", statement, "--trust", trust, "--source", "crm"),
        ("verify", statement, "--trust", trust, "--import", "x.csv"),
    ):
        assert consent(*wrong).code == 2, wrong
    restate(world, release, lambda record: replace(record, subjects={**(record.subjects or {}), "root": "0" * 64}))
    other = consent("verify", statement, *moved)
    assert other.code == 4 and "not the set that the statement commits to" in other.err


def test_a_row_that_has_no_subject_is_none_that_was_kept(world: World, release: Path, consent: Callable[..., Any]) -> None:
    (world.root / "trust").write_text(world.book.trust_text())
    reshard(world, release, "a.parquet", lambda table: set_value(table, "s", 0, None))
    for more in ((), ("--inputs", world.root / "in", "--ledger", world.book.folder.path)):
        found = consent("verify", release, "--trust", world.root / "trust", "--shards", release, *more)
        assert found.code == 4 and "a.parquet has rows without a subject" in found.err, found
