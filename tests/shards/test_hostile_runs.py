"""Snapshots, folders and runs that try to turn a no into a yes."""

from __future__ import annotations

import pickle
import shutil
import struct
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ledger import times
from ledger.consent import Event
from ledger.errors import ConsentLedgerError, IntegrityError, SnapshotError, UsageError, VerificationError
from ledger.filter import ConsentFilter
from ledger.shards.columns import Columns
from ledger.shards.thrift import I32
from tests.shards.deciding import T0
from tests.shards.rewriting import patch
from tests.shards.world import World


def copied(source: Path, target: Path, receipt_of: Path | None = None) -> Path:
    shutil.copy(source, target)
    receipt = receipt_of or source
    shutil.copy(receipt.with_name(receipt.name + ".receipt"), target.with_name(target.name + ".receipt"))
    return target


def moved_clock(monkeypatch: pytest.MonkeyPatch, **by: float) -> None:
    real = times.now
    monkeypatch.setattr(times, "now", lambda: real() + timedelta(**by))


def test_a_snapshot_is_opened_by_its_own_receipt_alone(world: World, tmp_path: Path) -> None:
    mine, other = tmp_path / "ai.parquet", tmp_path / "elsewhere.parquet"
    world.freeze("other")
    assert world.load(mine).sha256 == world.snapshot.sha256
    with pytest.raises(VerificationError):
        world.load(copied(tmp_path / "other.parquet", other, receipt_of=mine))
    for edit in (lambda d: d + b"x", lambda d: d[:-1], lambda d: bytes([*d[:60], d[60] ^ 1, *d[61:]])):
        copied(mine, other).write_bytes(edit(mine.read_bytes()))
        with pytest.raises(VerificationError):
            world.load(other)
    copied(mine, other).with_name("elsewhere.parquet.receipt").unlink()
    with pytest.raises(SnapshotError):
        world.load(other)
    strange = World(tmp_path, "strange")
    with pytest.raises(VerificationError):
        world.load(strange.root / "ai.parquet")
    strange.book.close()


def test_a_snapshot_that_is_stale_or_of_the_future_is_refused(world: World, tmp_path: Path) -> None:
    path, now = tmp_path / "ai.parquet", times.now()
    for options in (
        {"now": now + timedelta(hours=24, seconds=1)},
        {"now": now - timedelta(hours=1)},
        {"max_age": timedelta(seconds=-1)},
    ):
        with pytest.raises(SnapshotError):
            world.load(path, **options)
    old = world.book.snapshot("ai", output=tmp_path / "old.parquet", as_of=now - timedelta(days=2))
    with pytest.raises(SnapshotError):
        world.load(tmp_path / "old.parquet")
    with pytest.raises(SnapshotError):
        world.run(world.shard("in/a.parquet", "yes"), snapshot=old)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="not come yet"):
        world.book.snapshot("ai", output=tmp_path / "ahead.parquet", as_of=now + timedelta(hours=1))


def test_a_filter_that_lives_long_does_not_keep_a_snapshot_alive(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """BUG (stale becomes a yes): the age is judged at the filter's own decided_at, so it never grows."""
    consent, table = ConsentFilter(world.snapshot, Columns(subject="s")), pa.table({"s": ["yes"]})
    assert consent(table).num_rows == 1
    moved_clock(monkeypatch, days=30)
    for made in (consent, pickle.loads(pickle.dumps(consent))):
        with pytest.raises(SnapshotError, match="old"):
            made(table)


def test_a_pickled_filter_refuses_a_file_that_was_changed_since(world: World, tmp_path: Path) -> None:
    path, table = copied(tmp_path / "ai.parquet", tmp_path / "moved.parquet"), pa.table({"s": ["yes", "no", "stranger"]})
    sealed = pickle.dumps(ConsentFilter(world.load(path), Columns(subject="s")))
    assert pickle.loads(sealed)(table)["s"].to_pylist() == ["yes"]
    world.freeze("other")
    copied(tmp_path / "other.parquet", path)
    later = replace(pickle.loads(sealed), decided_at=times.now())
    with pytest.raises(IntegrityError, match="changed after it was opened"):
        later(table)


def test_what_an_erasure_has_taken_away_decides_nothing_more(world: World) -> None:
    """BUG (a no becomes a yes): in the same process the answers of before stood for every later moment."""
    snapshot, source = world.book.snapshot("ai"), world.shard("in/a.parquet", "yes", "no")
    assert world.run(source, snapshot=snapshot).record.rows_kept == 1
    world.book.erase("yes")
    consent = ConsentFilter(snapshot, Columns(subject="s"))
    for decide in (
        lambda: world.run(source, output="other", snapshot=snapshot),
        lambda: consent.filter_shards([source], world.root / "unsigned"),
        lambda: consent.audit_shards([world.root / "out"]),
        lambda: consent.select_shards([source], world.root / "selected", key=world.book.run_key()),
        lambda: consent(pa.table({"s": ["yes"]})),
    ):
        with pytest.raises(SnapshotError, match="cannot read"):
            decide()


def test_a_run_keeps_nobody_who_refused_and_says_so_twice(world: World) -> None:
    world.shard("in/a.parquet", "yes", "no", "later", "stranger")
    world.shard("in/sub/a.parquet", "no")
    world.shard("in/none.parquet")
    for _ in range(2):
        run = world.run(world.root / "in")
        assert [world.read(f"out/{name}.parquet") for name in ("a", "sub/a", "none")] == [["yes", "later"], [], []]
        assert (run.record.rows_in, run.record.rows_kept) == (5, 2)
        assert run.record.rows_dropped == {"no_record": 1, "withdrawn": 2}


def test_empty_row_groups_and_bounds_keep_rows_in_place(world: World) -> None:
    path = world.root / "in" / "a.parquet"
    path.parent.mkdir()
    groups = [["no"], [], ["yes", "no", "yes"], ["stranger"], [], ["later"]]
    with pq.ParquetWriter(path, pa.schema([("s", pa.string()), ("n", pa.int64())])) as writer:
        for number, group in enumerate(groups):
            writer.write_table(pa.table({"s": pa.array(group, pa.string()), "n": pa.array([number] * len(group), pa.int64())}))
    world.run(path)
    out = pq.ParquetFile(world.root / "out" / "a.parquet")
    kept = [out.read_row_group(group).to_pydict() for group in range(out.num_row_groups)]
    assert kept == [{"s": ["yes", "yes"], "n": [2, 2]}, {"s": ["later"], "n": [5]}]


def test_a_finished_shard_is_done_again_after_a_withdrawal_an_expiry_an_edit_or_other_columns(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = world.shard("in/a.parquet", "yes", "no", "later", "short")
    world.yes("short", expires_at=times.now() + timedelta(hours=2))
    first = world.freeze("ai", "first")
    world.run(source, snapshot=first)
    assert world.read("out/a.parquet") == ["yes", "later", "short"]
    world.shard("out/a.parquet", "no")
    world.run(source, snapshot=first)
    assert world.read("out/a.parquet") == ["yes", "later", "short"]
    world.book.withdraw("later")
    second = world.freeze("ai", "second")
    world.run(source, snapshot=second)
    assert world.read("out/a.parquet") == ["yes", "short"]
    moved_clock(monkeypatch, hours=3)
    world.run(source, snapshot=second)
    assert world.read("out/a.parquet") == ["yes"]
    consent = ConsentFilter(second, Columns(subject="s", subject_prefix="x:"))
    consent.filter_shards([source], world.root / "out", key=world.book.run_key())
    assert world.read("out/a.parquet") == []


def test_a_finished_shard_is_done_again_where_other_categories_are_listed(world: World) -> None:
    """BUG (latent): what a purpose lists is part of neither answers_sha256 nor the journal's line, only its name is; two ledgers
    that share a run key may declare train-ai@1 differently."""
    source = world.root / "in" / "a.parquet"
    source.parent.mkdir()
    pq.write_table(pa.table({"s": ["yes"], "k": ["photo"]}), source)
    for categories, expected in (((), 1), (("post",), 0)):
        frozen = replace(world.snapshot, header=replace(world.snapshot.header, categories=categories))
        consent = ConsentFilter(frozen, Columns(subject="s", category="k"))
        run = consent.filter_shards([source], world.root / "out", key=world.book.run_key())
        assert run.record.rows_kept == expected


@pytest.mark.parametrize("output", ["in", "in/sub", ".", "link", "in/../in", "in/sub/.."])
def test_the_output_is_not_where_an_input_is(world: World, output: str) -> None:
    world.shard("in/a.parquet", "yes", "no")
    world.shard("in/sub/b.parquet", "no")
    (world.root / "link").symlink_to(world.root / "in")
    with pytest.raises(UsageError):
        world.run(world.root / "in", output=output)
    assert (world.read("in/a.parquet"), world.read("in/sub/b.parquet")) == (["yes", "no"], ["no"])


def test_a_link_in_the_output_does_not_lead_back_to_an_input(world: World) -> None:
    """BUG (an input is overwritten): only the output folder was resolved, not the names in it."""
    world.shard("in/sub/a.parquet", "yes", "no")
    (world.root / "out").mkdir()
    (world.root / "out" / "sub").symlink_to(world.root / "in" / "sub")
    with pytest.raises(ConsentLedgerError):
        world.run(world.root / "in")
    assert world.read("in/sub/a.parquet") == ["yes", "no"]


def test_a_linked_folder_of_unfiltered_shards_in_the_output_is_refused(world: World) -> None:
    """BUG (refused people's rows are read with the output): rglob does not follow links to folders, readers do."""
    source = world.shard("in/a.parquet", "yes", "no")
    world.shard("elsewhere/n.parquet", "no")
    (world.root / "out").mkdir()
    (world.root / "out" / "more").symlink_to(world.root / "elsewhere")
    with pytest.raises(UsageError, match="holds shards"):
        world.run(source)


def test_a_link_under_a_shards_name_is_replaced_and_not_followed(world: World) -> None:
    source = world.shard("in/a.parquet", "yes", "no")
    (world.root / "out").mkdir()
    (world.root / "out" / "a.parquet").symlink_to(source)
    world.run(source)
    assert (world.read("in/a.parquet"), world.read("out/a.parquet")) == (["yes", "no"], ["yes"])
    assert not (world.root / "out" / "a.parquet").is_symlink()


@pytest.mark.parametrize(
    "exclusions", ["in/a.parquet", "out/a.parquet", "out/dropped.parquet", "out.intoto.jsonl", "out.journal.jsonl"]
)
def test_the_list_of_exclusions_takes_no_shards_place(world: World, exclusions: str) -> None:
    """BUG (an input, or an output shard that the statement names, is overwritten)."""
    source = world.shard("in/a.parquet", "yes", "no")
    with pytest.raises(UsageError):
        world.run(source, exclusions=world.root / exclusions)
    assert world.read("in/a.parquet") == ["yes", "no"]


def allowed(world: World, subject: str) -> list[bool]:
    shown = [d["allowed"] for d in world.book.show(subject)["decisions"] if d["purpose"] == "ai@1"]
    frozen = ConsentFilter(world.book.look("ai"), Columns(subject="s")).decide(pa.table({"s": [subject]})).keep.to_pylist()
    return [*shown, *frozen]


def test_a_withdrawal_closes_whatever_was_said_before(world: World) -> None:
    world.book.withdraw("yes")
    world.yes("yes", content_id="c")
    world.yes("yes")
    world.book.withdraw("yes")
    assert not any(allowed(world, "yes"))


def test_a_withdrawal_counts_although_the_clock_was_set_back_since_the_yes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """BUG (a no becomes a yes): withdraw() dates the act by the clock before it has the lock; where the clock was set back,
    or a yes came in between, that is before the yes, which then answers it. An undated no counts from its recording."""
    world.yes("careful")
    with monkeypatch.context() as patch:
        moved_clock(patch, hours=-1)
        world.book.withdraw("careful")
    assert not any(allowed(world, "careful"))


def test_a_no_recorded_while_the_clock_was_ahead_is_not_forgotten_when_it_is_put_right(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Was a bug: its t was then after as_of, which left it out. To refuse to answer is right as well."""
    with monkeypatch.context() as patch:
        moved_clock(patch, hours=2)
        world.book.record(Event(state="withdrawn", subject_id="yes", purposes=["*"]))
    try:
        answers = allowed(world, "yes")
    except ConsentLedgerError:
        return
    assert not any(answers)


@pytest.mark.parametrize(
    ("converted", "bits"), [(15, 8), (16, 16), (11, 8), (12, 16)], ids=["INT_8", "INT_16", "UINT_8", "UINT_16"]
)
@pytest.mark.parametrize("nested", [False, True])
def test_an_integer_that_calls_itself_narrower_than_it_is_does_not_wrap_to_another_id(
    world: World, converted: int, bits: int, nested: bool
) -> None:
    """BUG (a no becomes a yes): 300, annotated as an 8-bit integer, was read as 44, and so the row of somebody who said nothing
    was kept for the yes of 44."""
    world.yes("44")
    ids = pa.array([44 + 2**bits, 44, 44 - 2**bits, 44 + 2**20], pa.int32())
    source = world.root / "in" / "a.parquet"
    source.parent.mkdir()
    table = pa.table({"s": pa.ListArray.from_arrays(pa.array(range(5), pa.int32()), ids) if nested else ids, "n": range(4)})
    pq.write_table(table, source, store_schema=False)

    def narrow(fields: Any) -> None:
        element = next(e for e in fields[2][1].values if e.get(1) == (I32, 1))
        element[6] = I32, converted
        element.pop(10, None)

    patch(source, narrow)
    world.run(source, snapshot=world.freeze("ai", "again"))
    assert pq.ParquetFile(world.root / "out" / "a.parquet").read(["n"])["n"].to_pylist() == [1]


def test_a_moment_in_int96_that_is_out_of_range_is_unknown_and_does_not_wrap(world: World) -> None:
    """BUG (a no becomes a yes): in microseconds it wrapped around to 2024, which content_since then covered."""
    world.book.record(
        Event(state="given", subject_id="new", purposes=["ai"], occurred_at=T0, content_since=T0 - timedelta(days=4000))
    )
    source = world.root / "in" / "a.parquet"
    source.parent.mkdir()
    table = pa.table({"s": ["new"] * 3, "t": pa.array([1, 10**18, 1_760_000_000 * 10**9], pa.timestamp("ns"))})
    pq.write_table(table, source, use_deprecated_int96_timestamps=True, use_dictionary=False, compression="none")
    content = source.read_bytes()
    at = content.index(struct.pack("<QI", 1, 2_440_588))
    source.write_bytes(content[:at] + struct.pack("<QI", 0, 215_964_571) + content[at + 12 :])
    assert pq.read_table(source, coerce_int96_timestamp_unit="us")["t"][0].as_py().year == 2024, "pyarrow's own reading wraps"
    consent = ConsentFilter(world.freeze("ai", "again"), Columns(subject="s", created="t"))
    run = consent.filter_shards([source], world.root / "out", key=world.book.run_key())
    assert run.record.rows_dropped == {"not_covered": 2}


def test_a_statement_speaks_of_the_snapshot_that_decided(world: World) -> None:
    """BUG (a no becomes a yes): `publish` logged another snapshot, and the statement named that one."""
    old, source = replace(world.snapshot, receipt=None), world.shard("in/a.parquet", "yes", "later")
    world.book.withdraw("later")
    with pytest.raises(UsageError, match="another snapshot"):
        world.run(source, snapshot=old, publish=lambda _: world.freeze("ai", "new"))
    assert not (world.root / "out").exists()
    world.run(source, snapshot=old, publish=world.book.publish)


def test_a_limit_that_is_no_number_is_refused(world: World) -> None:
    for share in (float("nan"), -0.1, 80):
        with pytest.raises(UsageError, match="min_kept"):
            world.run(world.shard("in/a.parquet", "no"), min_kept=share)


def test_one_key_to_drop_may_be_told_as_text(world: World) -> None:
    source = world.root / "a.parquet"
    pq.write_table(pa.table({"s": ["yes"]}).replace_schema_metadata({"geo": "secret", "e": "stays"}), source)
    assert world.run(source, drop_metadata="geo").record.dropped_metadata == ("geo",)
    data = (world.root / "out/a.parquet").read_bytes()
    assert b"secret" not in data and b"stays" in data


@pytest.mark.parametrize(
    "content", [b"", b"mine", b'{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":[]}\n']
)
def test_another_tools_statement_is_not_removed(world: World, content: bytes) -> None:
    """BUG (a file that is not the run's is deleted): provenance of other tools stands under the same name."""
    there = world.root / "out.intoto.jsonl"
    there.write_bytes(content)
    with pytest.raises(UsageError, match="not the statement of a run"):
        world.run(world.shard("in/a.parquet", "yes"))
    assert there.read_bytes() == content and not (world.root / "out").exists()
    there.unlink()
    for _ in range(2):
        world.run(world.root / "in")
