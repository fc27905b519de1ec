"""Attesting shards that anybody wrote: what is sealed, and what never is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ledger import ConsentFilter, locks
from ledger.attest import Attestation
from ledger.errors import ShardError, SnapshotError, UsageError, VerificationError
from ledger.log.keys import PrivateKey
from ledger.shards.columns import Columns
from ledger.snapshot import Snapshot
from ledger.statements.audit_statement import AuditRecord
from ledger.statements.verify import open_statement, verify
from tests.shards.world import World


def attest(world: World, name: str = "out", subject: str = "s", snapshot: Snapshot | None = None, **options: Any) -> Attestation:
    consent = ConsentFilter(snapshot or world.snapshot, Columns(subject=subject))
    options = {"key": world.book.run_key(), "admit": world.book.admit, **options}
    return consent.attest_shards(world.root / name, **options)


def check(world: World, name: str = "out", **options: Any) -> str:
    return "\n".join(verify(world.root / name, trust=world.book.trust, **options).checked)


def test_a_clean_folder_gets_a_statement_that_verifies(world: World) -> None:
    world.shard("out/a.parquet", "yes", "later")
    world.shard("out/k=1/a.parquet", "yes")
    attested = attest(world, recipient="Lab")
    assert attested.audit.compliant
    assert attested.statement == world.root / "out.intoto.jsonl"
    assert "all 3 rows were allowed" in check(world)
    record = open_statement(attested.statement.read_bytes(), world.book.trust).record
    assert isinstance(record, AuditRecord)
    assert [(s.name, s.rows) for s in record.shards] == [("a.parquet", 2), ("k=1/a.parquet", 1)]
    assert (record.recipient, record.rests_on, record.columns) == ("Lab", {"assertion": 3}, {"subject": ["s"]})
    assert record.snapshot_sha256 == world.snapshot.sha256


def test_one_row_without_consent_and_there_is_none(world: World) -> None:
    world.shard("out/a.parquet", "yes", "later")
    world.shard("out/b.parquet", "yes", "no")
    size = world.book.status().size
    attested = attest(world)
    assert (attested.statement, attested.audit.rows_without_consent) == (None, 1)
    assert not (world.root / "out.intoto.jsonl").exists()
    assert world.book.status().size == size


@pytest.mark.parametrize("subjects", [(None,), ("",), ("stranger",), ("yes", None)])
def test_silence_is_no(world: World, subjects: tuple[Any, ...]) -> None:
    world.shard("out/a.parquet", *subjects)
    assert attest(world).statement is None


def test_a_folder_without_shards_is_not_clean_but_nothing(world: World) -> None:
    (world.root / "out").mkdir()
    (world.root / "out/readme").write_text("")
    with pytest.raises(UsageError, match="no shard"):
        attest(world)
    with pytest.raises(UsageError, match="is no folder"):
        attest(world, "absent")
    with pytest.raises(UsageError, match="is no folder"):
        attest(world, world.shard("a.parquet", "yes").name)


@pytest.mark.parametrize("name", ["_hidden.parquet", ".hidden.parquet", "_x/a.parquet", "A.PARQUET"])
def test_hidden_shards_are_audited_too(world: World, name: str) -> None:
    world.shard("out/a.parquet", "yes")
    world.shard(f"out/{name}", "no")
    assert attest(world).statement is None
    world.shard(f"out/{name}", "later")
    assert attest(world).statement is not None
    check(world)


@pytest.mark.parametrize("name", ["_metadata", "part-0", "_x/part", "notes.txt"])
def test_what_verify_would_refuse_is_not_sealed(world: World, name: str) -> None:
    """Parquet under other names is read by some, and was not audited."""
    world.shard("out/a.parquet", "yes")
    world.shard(f"out/{name}", "no")
    with pytest.raises(ShardError, match="holds"):
        attest(world)
    assert not (world.root / "out.intoto.jsonl").exists()


def test_a_link_is_not_sealed(world: World) -> None:
    world.shard("out/a.parquet", "yes")
    (world.root / "out/b.parquet").symlink_to(world.shard("elsewhere.parquet", "yes"))
    with pytest.raises(ShardError, match="symbolic link"):
        attest(world)


def test_a_shard_that_comes_while_others_are_audited_is_noticed(world: World) -> None:
    world.shard("out/a.parquet", "yes")

    def come(done: int, total: int) -> None:
        world.shard("out/late.parquet", "no")

    with pytest.raises(ShardError, match=r"late\.parquet"):
        attest(world, on_progress=come)
    assert not (world.root / "out.intoto.jsonl").exists()


def test_a_shard_that_changes_while_it_is_decided_is_noticed(world: World) -> None:
    path = world.shard("out/a.parquet", "yes")

    def change(done: int, total: int) -> None:
        shutil.copy(world.shard("other.parquet", "no"), path)

    with pytest.raises(ShardError, match="changed while it was read"):
        attest(world, on_progress=change)
    assert not (world.root / "out.intoto.jsonl").exists()


def test_the_statement_of_a_run_is_never_replaced(world: World) -> None:
    run = world.run(world.shard("raw/a.parquet", "yes", "no"))
    assert run.statement is not None
    before = run.statement.read_bytes()
    with pytest.raises(UsageError, match="not the statement of an audit"):
        attest(world)
    assert run.statement.read_bytes() == before
    run.statement.write_bytes(b"of another tool\n")
    with pytest.raises(UsageError, match="is no statement"):
        attest(world)


def test_an_earlier_audit_is_replaced_and_goes_where_the_folder_is_clean_no_more(world: World) -> None:
    world.shard("out/a.parquet", "yes", "later")
    first = attest(world).statement
    assert first is not None
    before = first.read_bytes()
    assert attest(world).statement == first
    assert first.read_bytes() != before
    world.book.withdraw("later")
    assert attest(world, snapshot=world.freeze("ai", "fresh")).statement is None
    with pytest.raises(VerificationError, match="there is no out"):
        check(world)


def test_a_run_takes_the_place_of_an_audit(world: World) -> None:
    world.shard("out/a.parquet", "yes")
    attest(world)
    world.run(world.shard("raw/a.parquet", "yes", "no"))
    assert "it is of a run" in check(world)


def test_a_changed_shard_has_no_statement_any_more(world: World) -> None:
    world.shard("out/a.parquet", "yes")
    attest(world)
    world.shard("out/a.parquet", "no")
    with pytest.raises(VerificationError, match="its digest is another"):
        check(world)


def test_a_statement_holds_for_another_folder_only_with_the_same_shards(world: World) -> None:
    world.shard("out/a.parquet", "yes")
    statement = attest(world).statement
    assert statement is not None
    shutil.copytree(world.root / "out", world.root / "same")
    world.shard("other/a.parquet", "no")
    world.shard("renamed/b.parquet", "yes")
    for name in ("same", "other", "renamed"):
        shutil.copy(statement, world.root / f"{name}.intoto.jsonl")
    check(world, "same")
    for name in ("other", "renamed"):
        with pytest.raises(VerificationError):
            check(world, name)


def test_other_columns_than_the_data_needs_stand_in_the_statement(world: World) -> None:
    """Whoever reads it sees whose yes was asked for: the moderator's, not the author's."""
    path = world.root / "out/a.parquet"
    path.parent.mkdir()
    pq.write_table(pa.table({"s": ["no"], "moderator": ["yes"]}), path)
    assert attest(world).statement is None
    assert attest(world, subject="moderator").statement is not None
    assert "by subject ['moderator']" in check(world)
    with pytest.raises(UsageError, match="nobody"):
        attest(world, subject="nobody")


def test_answers_that_are_unlogged_stale_or_swapped_seal_nothing(world: World) -> None:
    world.shard("out/a.parquet", "yes")
    with pytest.raises(UsageError, match="without a receipt"):
        attest(world, snapshot=world.book.look("ai"))
    with pytest.raises(UsageError, match="another snapshot"):
        attest(world, snapshot=world.book.look("ai"), publish=lambda frozen: world.book.snapshot("other"))
    stale = world.load(world.root / "ai.parquet")
    object.__setattr__(stale, "max_age", stale.max_age * 0)
    with pytest.raises(SnapshotError, match="old"):
        attest(world, snapshot=stale)
    assert not (world.root / "out.intoto.jsonl").exists()
    assert attest(world, snapshot=world.book.look("ai"), publish=world.book.publish).statement is not None
    check(world)


def test_a_strangers_key_makes_a_statement_that_nobody_trusts(world: World) -> None:
    world.shard("out/a.parquet", "yes")
    stranger = PrivateKey.generate()
    with pytest.raises(VerificationError, match="no statement of an admitted run key"):
        attest(world, key=stranger)
    assert not (world.root / "out.intoto.jsonl").exists()
    attest(world, key=stranger, admit=None)
    with pytest.raises(VerificationError, match="not signed by a key that is trusted"):
        check(world, allow_unlogged=True)


def test_while_another_writes_there_nothing_is_sealed(world: World) -> None:
    world.shard("out/a.parquet", "yes")
    with locks.exclusive(world.root / "out"), pytest.raises(ShardError, match="another run"):
        attest(world)


def test_what_a_killed_run_left_is_swept_and_not_sealed(world: World) -> None:
    world.shard("out/a.parquet", "yes")
    left = world.shard("out/.a.parquet.0123456789abcdef.tmp", "no")
    attest(world)
    assert not left.exists()
    check(world)


def test_shards_without_rows_are_clean(world: World) -> None:
    path = world.root / "out/a.parquet"
    path.parent.mkdir()
    pq.write_table(pa.table({"s": pa.array([], pa.string())}), path)
    assert attest(world).statement is not None
    assert "all 0 rows" in check(world)


def test_the_document_is_that_of_its_schema(world: World) -> None:
    world.shard("out/a.parquet", "yes")
    document = attest(world).document()
    assert document["statement"].endswith("out.intoto.jsonl")
    required = json.loads((Path(__file__).parents[2] / "schemas/attest.json").read_text())["required"]
    assert document.keys() == {*required}
