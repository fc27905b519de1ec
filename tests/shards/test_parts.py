"""Parts of a run into one folder: what each does, what keeps them apart, and when all of them are there."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from ledger import ConsentFilter, locks, parts
from ledger.attest import Attestation
from ledger.errors import ShardError, UsageError
from ledger.log.keys import PrivateKey
from ledger.parts import Part
from ledger.run import Run
from ledger.shards.columns import Columns
from ledger.shards.inputs import find_inputs
from ledger.statements.verify import verify
from tests.shards.world import World

SHARDS = ("a", "b/c", "b/d", "e", "f")


def raw(world: World) -> Path:
    for name in SHARDS:
        world.shard(f"raw/{name}.parquet", "yes", "no", "later")
    return world.root / "raw"


def part(world: World, number: int, of: int = 3, source: str = "raw", **options: Any) -> Run:
    return world.run(world.root / source, part=(number, of), **options)


def attest(world: World, **options: Any) -> Attestation:
    consent = ConsentFilter(options.pop("snapshot", world.snapshot), Columns(subject=options.pop("subject", "s")))
    return consent.attest_shards(world.root / "out", **{"key": world.book.run_key(), "admit": world.book.admit, **options})


def test_the_set_is_divided_by_name_and_each_shard_is_in_one_part(world: World) -> None:
    inputs = find_inputs([raw(world)])
    shares = [Part(number, 3).share(list(reversed(inputs))) for number in (1, 2, 3)]
    assert [[source.name for source in share] for share in shares] == [
        ["a.parquet", "e.parquet"],
        ["b/c.parquet", "f.parquet"],
        ["b/d.parquet"],
    ]


@pytest.mark.parametrize("numbers", [(0, 3), (4, 3), (1, 0), (1, 100_001)])
def test_there_is_no_such_part(world: World, numbers: tuple[int, int]) -> None:
    raw(world)
    with pytest.raises(UsageError, match="no part"):
        part(world, *numbers)


def test_all_parts_together_are_sealed(world: World) -> None:
    raw(world)
    for number in (3, 1, 2):
        run = part(world, number)
        assert (run.statement, run.document()["statement"]) == (None, None)
    assert not (world.root / "out.intoto.jsonl").exists()
    assert attest(world).statement is not None
    assert "all 10 rows were allowed" in verify(world.root / "out", trust=world.book.trust).checked[0]
    assert attest(world).statement is not None, "and again"


def test_more_parts_than_shards(world: World) -> None:
    raw(world)
    for number in range(1, 8):
        part(world, number, 7)
    assert attest(world).statement is not None


def test_half_a_job_is_not_sealed_as_if_it_were_whole(world: World) -> None:
    raw(world)
    part(world, 2)
    with pytest.raises(ShardError, match=r"begun in 3 parts.* not finished.*: 1, 3") as refused:
        attest(world)
    assert "--part K/N" in str(refused.value.hint)
    part(world, 1)
    with pytest.raises(ShardError, match=r"not finished.*: 3"):
        attest(world)
    assert not (world.root / "out.intoto.jsonl").exists()
    for journal in world.root.glob("out.part-*"):
        journal.unlink()
    assert attest(world).statement is not None, "what is there is clean, and nothing says that more belongs to it"


def test_a_part_that_is_run_again_is_not_finished_until_it_is(world: World) -> None:
    raw(world)
    for number in (1, 2, 3):
        part(world, number)

    def fail(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        part(world, 2, on_progress=fail)
    with pytest.raises(ShardError, match=r"not finished.*: 2"):
        attest(world)
    part(world, 2)
    assert attest(world).statement is not None


def test_a_finished_part_is_resumed_and_not_redone(world: World) -> None:
    raw(world)
    part(world, 1)
    before = (world.root / "out/a.parquet").stat().st_mtime_ns
    part(world, 1)
    assert (world.root / "out/a.parquet").stat().st_mtime_ns == before


def test_a_statement_goes_before_a_part_replaces_a_shard(world: World) -> None:
    raw(world)
    for number in (1, 2, 3):
        part(world, number)
    statement = attest(world).statement
    assert statement is not None
    there: list[bool] = []
    part(world, 1, on_progress=lambda done, total: there.append(statement.exists()))
    assert there[0] is False
    world.run(world.root / "raw")
    part(world, 1)
    assert not statement.exists(), "a run's goes as well"


def test_parts_by_other_answers_do_not_mix(world: World) -> None:
    raw(world)
    part(world, 1)
    part(world, 2)
    world.book.withdraw("later")
    fresh = world.freeze("ai", "fresh")
    part(world, 3, snapshot=fresh)
    with pytest.raises(ShardError, match="not by the same answers and columns: 3"):
        attest(world, snapshot=fresh)
    for number in (1, 2):
        part(world, number, snapshot=fresh)
    assert attest(world, snapshot=fresh).statement is not None


def test_even_without_journals_mixed_answers_are_decided_anew(world: World) -> None:
    raw(world)
    part(world, 1)
    world.book.withdraw("later")
    fresh = world.freeze("ai", "fresh")
    for number in (2, 3):
        part(world, number, snapshot=fresh)
    for journal in world.root.glob("out.part-*"):
        journal.unlink()
    attested = attest(world, snapshot=fresh)
    assert (attested.statement, attested.audit.rows_without_consent) == (None, 2)


def test_parts_of_other_inputs_do_not_mix(world: World) -> None:
    raw(world)
    part(world, 1)
    part(world, 2)
    world.shard("raw/z.parquet", "yes")
    part(world, 3)
    with pytest.raises(ShardError, match=r"not made of the same inputs.*: 3"):
        attest(world)


def test_other_columns_than_the_parts_seal_nothing(world: World) -> None:
    raw(world)
    for number in (1, 2, 3):
        part(world, number)
    with pytest.raises(UsageError, match="by other columns"):
        attest(world, subject="t")


def test_a_shard_that_is_lost_or_came_is_noticed(world: World) -> None:
    raw(world)
    for number in (1, 2, 3):
        part(world, number)
    shard = world.root / "out/b/c.parquet"
    shard.rename(world.root / "aside")
    with pytest.raises(ShardError, match=r"lacks 'b/c\.parquet'"):
        attest(world)
    (world.root / "aside").rename(shard)
    world.shard("out/more.parquet", "yes")
    with pytest.raises(ShardError, match=r"'more\.parquet', which no part has made"):
        attest(world)


def test_another_division_is_refused(world: World) -> None:
    raw(world)
    part(world, 1)
    with pytest.raises(UsageError, match=r"begun in 3 parts, and this is one of 2"):
        part(world, 1, 2)
    (world.root / "out.part-1-of-2.journal.jsonl").write_bytes(b"")
    with pytest.raises(ShardError, match="in 2 parts and in 3"):
        attest(world)


def test_lines_of_another_key_do_not_count(world: World) -> None:
    raw(world)
    stranger = PrivateKey.generate()
    consent = ConsentFilter(world.snapshot, Columns(subject="s"))
    for number in (1, 2, 3):
        consent.filter_shards([world.root / "raw"], world.root / "out", key=stranger, part=(number, 3))
    with pytest.raises(ShardError, match=r"not finished.*: 1, 2, 3"):
        attest(world)
    assert consent.attest_shards(world.root / "out", key=stranger).statement is not None


@pytest.mark.parametrize("damage", [b"", b"x\n", b'{"payload":"{}","sig":""}\n', b"\xff\n", b"{"])
def test_a_torn_last_line_is_no_end(world: World, damage: bytes) -> None:
    raw(world)
    for number in (1, 2, 3):
        part(world, number)
    journal = Part(2, 3).journal(world.root / "out")
    journal.write_bytes(journal.read_bytes() + damage if damage else b"")
    with pytest.raises(ShardError, match=r"not finished.*: 2"):
        attest(world)


def test_a_part_of_one_folder_says_nothing_about_another(world: World) -> None:
    raw(world)
    for name in ("out", "out.b", "xout"):
        part(world, 1, output=name)
    assert parts.journals(world.root / "out").keys() == {Part(1, 3)}


def test_what_a_part_needs(world: World) -> None:
    raw(world)
    consent = ConsentFilter(world.snapshot, Columns(subject="s"))
    with pytest.raises(UsageError, match="a part needs a run key"):
        consent.filter_shards([world.root / "raw"], world.root / "out", part=(1, 3))
    with pytest.raises(UsageError, match="a part needs"):
        part(world, 1, snapshot=world.book.look("ai"), publish=world.book.publish)
    world.shard("out/strange.parquet", "yes")
    with pytest.raises(UsageError, match="shards that this run does not make"):
        part(world, 1)


# At once


def test_parts_share_the_folder_and_keep_others_out(world: World) -> None:
    raw(world)
    refused: list[str] = []

    def others(done: int, total: int) -> None:
        if done == 0 or refused:
            return
        part(world, 2)
        for work in (lambda: attest(world), lambda: world.run(world.root / "raw"), lambda: part(world, 1)):
            with pytest.raises(ShardError, match="another run") as error:
                work()
            refused.append(str(error.value))

    part(world, 1, on_progress=others)
    assert len(refused) == 3
    part(world, 3)
    assert attest(world).statement is not None


def test_while_a_run_or_an_attestation_is_there_no_part_begins(world: World) -> None:
    raw(world)
    (world.root / "out").mkdir()
    with locks.exclusive(world.root / "out"), pytest.raises(ShardError, match="another run"):
        part(world, 1)
    part(world, 1)


def test_no_part_sweeps_what_may_be_anothers(world: World) -> None:
    raw(world)
    live = world.root / "out/.a.parquet.0123456789abcdef.tmp"
    part(world, 1)
    live.write_bytes(b"of another part, which is at work")
    for number in (1, 2, 3):
        part(world, number)
    assert live.exists()
    assert attest(world).statement is not None
    assert not live.exists(), "whoever is alone may"


def test_by_a_link_to_the_folder_half_a_job_is_not_whole_either(world: World) -> None:
    raw(world)
    part(world, 1)
    (world.root / "link").symlink_to("out")
    consent = ConsentFilter(world.snapshot, Columns(subject="s"))
    with pytest.raises(ShardError, match="not finished"):
        consent.attest_shards(world.root / "link", key=world.book.run_key())


def test_a_part_that_fails_leaves_the_folder_to_the_others(world: World) -> None:
    raw(world)

    def fail(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        part(world, 1, on_progress=fail)
    assert (world.root / "out").is_dir()
    assert not list((world.root / "out").rglob("*.tmp"))
