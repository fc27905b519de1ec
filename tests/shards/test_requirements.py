"""R1 to R11: what a filter of shards must hold, each end to end. Finer tests stand in the module that each docstring names."""

from __future__ import annotations

import decimal
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ledger import times
from ledger.errors import ShardError, SnapshotError, UsageError
from ledger.filter import ConsentFilter
from ledger.shards.columns import Columns
from ledger.shards.rewrite import ShardFile
from ledger.shards.thrift import BINARY, I32
from tests.shards.rewriting import chunk, patch, require_same, shard_of
from tests.shards.test_large import measured
from tests.shards.test_no_byte_survives import CANARIES, CANARY, KEEP
from tests.shards.world import World

ROWS = len(KEEP)


def moved_clock(monkeypatch: pytest.MonkeyPatch, **by: float) -> None:
    real = times.now
    monkeypatch.setattr(times, "now", lambda: real() + timedelta(**by))


def placed(world: World, table: pa.Table, name: str = "in/a.parquet", **options: Any) -> Path:
    path = world.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return shard_of(path, table, **options)


def by_keep() -> list[str]:
    return ["yes" if kept else "no" for kept in KEEP]


def left_behind(world: World) -> dict[str, bytes]:
    """Everything that runs have written, by name."""
    written = [*world.root.glob("out*"), *(world.root / "out").rglob("*"), world.root / "dropped.parquet"]
    return {path.name: path.read_bytes() for path in written if path.is_file()}


def test_r1_a_row_is_decided_by_its_own_keys_in_its_own_place(world: World) -> None:
    """test_hostile_keys, test_decide: every type of key, slices, hidden values, colliding hashes."""
    keys = [("yes", "no", None, "", "later", "Yes", "yes ")[row % 7] for row in range(200)]
    source = placed(world, pa.table({"s": keys, "row": range(200)}), row_group_size=23)
    run = world.run(source, exclusions=world.root / "dropped.parquet")
    assert world.read("out/a.parquet") == [key for key in keys if key in ("yes", "later")]
    rows = pq.read_table(world.root / "out" / "a.parquet")["row"].to_pylist()
    dropped = pq.read_table(world.root / "dropped.parquet")["row"].to_pylist()
    assert (rows, sorted([*rows, *dropped])) == (sorted(rows), list(range(200)))
    assert run.record.rows_in == run.record.rows_kept + sum(run.record.rows_dropped.values())


def test_r2_any_reader_sees_the_inputs_schema(world: World) -> None:
    """test_rewrite_types, test_rewrite_layouts, test_engines."""
    schema = pa.schema(
        [
            pa.field("s", pa.string(), metadata={"PARQUET:field_id": "7"}),
            pa.field("d", pa.dictionary(pa.int16(), pa.string(), ordered=True)),
            pa.field("v", pa.list_view(pa.float16())),
            pa.field("n", pa.null()),
        ],
        metadata={"publisher": "p"},
    )
    columns = [
        pa.array(by_keep()),
        pa.array(by_keep()).dictionary_encode().cast(schema.types[1]),
        pa.nulls(ROWS, schema.types[2]),
    ]
    source = placed(world, pa.table([*columns, pa.nulls(ROWS)], schema=schema), compression={"s": "gzip", "d": "brotli"})
    world.run(source)
    require_same(source, world.root / "out" / "a.parquet", KEEP)
    assert pq.read_schema(world.root / "out" / "a.parquet").equals(pq.read_schema(source), check_metadata=True)


def test_r2_what_cannot_be_carried_is_refused_before_anything_is_written(world: World) -> None:
    """Although the first shard is sound, and the second is so but for its last row group."""
    placed(world, pa.table({"s": ["yes"]}), "in/a.parquet")
    second = placed(world, pa.table({"s": ["yes", "no"], "when": pa.array([1, 2], pa.timestamp("us"))}), "in/b.parquet")
    world.run(world.root / "in")
    before = left_behind(world)
    whole = second.read_bytes()
    with pytest.MonkeyPatch.context() as clock:
        moved_clock(clock, seconds=5)
        for change, says in (
            (lambda column: column.update({4: (I32, 3)}), "compressed with LZO"),
            (lambda column: column.update({4: (I32, 77)}), "compressed with codec 77"),
            (lambda column: column[2][1].values.append(11), "encoding 11"),
        ):
            second.write_bytes(whole)
            patch(second, lambda fields, change=change: change(chunk(fields, 0, 1)))
            with pytest.raises(ShardError, match=rf"b\.parquet: column 'when' of type INT64 \(TIMESTAMP\).*{says}") as refused:
                world.run(world.root / "in")
            assert refused.value.hint
            assert left_behind(world) == before, "the earlier run's shards, journal and statement stand"


@pytest.mark.parametrize("coded", [True, False], ids=["dictionary", "plain"])
def test_r3_no_byte_of_a_dropped_value_survives(world: World, coded: bool) -> None:
    """test_no_byte_survives, test_tables, test_metadata. Here all types of payload at once, and all that a run writes."""
    source = placed(
        world,
        pa.table({"s": by_keep(), **CANARIES}),
        compression="none",
        use_dictionary=coded,
        write_page_index=True,
        bloom_filter_options={"string": {"ndv": 100}},
    )
    assert source.read_bytes().count(CANARY) > len(CANARIES)
    run = world.run(source, exclusions=world.root / "dropped.parquet", recipient="Lab")
    assert run.record.rows_kept == KEEP.sum()
    written = left_behind(world)
    assert {"a.parquet", "dropped.parquet", "out.intoto.jsonl", "out.journal.jsonl"} <= written.keys()
    for name, content in written.items():
        assert CANARY not in content and CANARY[::-1] not in content, name
    table = pq.read_table(world.root / "dropped.parquet")
    assert table.column_names == ["shard", "row", "reason", "snapshot_sha256"]


def number(text: str) -> int:
    return int.from_bytes(text.encode().ljust(8, b"\0"), "little")


KEYS: dict[str, Any] = {
    "string": lambda ids: pa.array(ids),
    "large_string": lambda ids: pa.array(ids, pa.large_string()),
    "string_view": lambda ids: pa.array(ids, pa.string_view()),
    "binary": lambda ids: pa.array([i.encode() for i in ids]),
    "dictionary": lambda ids: pa.array(ids).dictionary_encode(),
    "dictionary, ordered": lambda ids: (
        pa.array(ids).dictionary_encode().cast(pa.dictionary(pa.int8(), pa.string(), ordered=True))
    ),
    "list": lambda ids: pa.array([[i] for i in ids]),
    "list of dictionaries": lambda ids: pa.array([[i] for i in ids], pa.list_(pa.dictionary(pa.int8(), pa.string()))),
    "list_view": lambda ids: pa.array([[i] for i in ids], pa.list_view(pa.string())),
    "fixed_size_list": lambda ids: pa.array([[i] for i in ids], pa.list_(pa.string(), 1)),
    "int64": lambda ids: pa.array([number(i) for i in ids], pa.int64()),
    "uint64": lambda ids: pa.array([number(i) for i in ids], pa.uint64()),
    "list of integers": lambda ids: pa.array([[number(i)] for i in ids]),
    "decimal": lambda ids: pa.array([decimal.Decimal(number(i)) for i in ids], pa.decimal128(38, 0)),
}


@pytest.mark.parametrize("kind", KEYS)
def test_r3_no_byte_of_a_dropped_key_survives(world: World, kind: str) -> None:
    ids = [("yes", "no", "CANARY")[row % 3] for row in range(ROWS)]
    world.yes(str(number("yes")))
    world.freeze("ai", "again")
    source = placed(world, pa.table({"s": KEYS[kind](ids)}), compression="none", use_dictionary="dictionary" in kind)
    there = source.read_bytes()
    assert CANARY in there or CANARY[::-1] in there
    run = world.run(
        source, snapshot=world.book.snapshot("ai", output=world.root / "b.parquet"), exclusions=world.root / "dropped.parquet"
    )
    assert run.record.rows_kept == ids.count("yes")
    for name, content in left_behind(world).items():
        assert CANARY not in content and CANARY[::-1] not in content, name


def test_r4_a_failure_leaves_nothing_or_a_whole_file(world: World) -> None:
    """test_publish, test_rewrite_failures; processes killed at random moments in tests/test_soak.py."""
    good = placed(world, pa.table({"s": ["yes", "no"]}), "in/a.parquet")
    bad = placed(
        world, pa.table({"s": by_keep(), "x": by_keep()}), "in/b.parquet", write_page_checksum=True, use_dictionary=False
    )
    world.run(world.root / "in")
    content = bytearray(bad.read_bytes())
    content[pq.read_metadata(bad).row_group(2).column(1).data_page_offset + 40] ^= 1
    bad.write_bytes(content)
    good.write_bytes(good.read_bytes())
    with pytest.raises(ShardError, match="cannot be read"):
        world.run(world.root / "in", workers=1)
    assert not (world.root / "out.intoto.jsonl").exists(), "an earlier statement is withdrawn first"
    assert sorted(path.name for path in (world.root / "out").iterdir()) == ["a.parquet", "b.parquet"]
    assert world.read("out/b.parquet") == ["yes"] * int(KEEP.sum())


def test_r5_same_input_same_bytes_and_finished_shards_are_skipped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """test_rewrite_layouts (in another process), test_hostile_runs (what makes a shard be done again)."""
    source = placed(world, pa.table({"s": by_keep(), "n": range(ROWS)}))
    first = world.run(source)
    again = world.run(source, output="elsewhere")
    assert [s.output_sha256 for s in first.record.shards] == [s.output_sha256 for s in again.record.shards]
    status = (world.root / "out" / "a.parquet").stat()
    world.run(source)
    assert (world.root / "out" / "a.parquet").stat().st_ino == status.st_ino, "skipped: not written again"
    placed(world, pa.table({"s": by_keep()[::-1], "n": range(ROWS)}))
    world.run(source)
    assert world.read("out/a.parquet") == ["yes"] * int(KEEP.sum())


def test_r6_memory_is_bounded_by_a_row_group(world: World) -> None:
    """test_large measures two gigabytes. Here: eight row groups of 16 MiB take about as much as two."""
    rows, group = 4096, 16 << 20
    keys, text = pa.array(["yes", "no"] * (rows // 2)), pa.array([os.urandom(group // rows) for _ in range(rows)])
    peaks = []
    for groups in (2, 8):
        table = pa.concat_tables([pa.table({"s": keys, "t": text})] * groups)
        source = placed(world, table, f"in/{groups}.parquet", row_group_size=rows, use_dictionary=False)
        line = (source, "-o", world.root / f"out{groups}", "--purpose", "ai", "--subject", "s")
        peaks.append(measured(world, "filter", *line).peak)
    assert peaks[1] - peaks[0] < 2 * group


def test_r7_the_record_of_dropped_rows_holds_no_content(world: World) -> None:
    source = placed(world, pa.table({"s": ["yes", "no", "stranger", None], "t": ["a", "b", "c", "d"]}), row_group_size=3)
    run = world.run(source, exclusions=world.root / "dropped.parquet")
    digest = run.record.snapshot_sha256
    assert pq.read_table(world.root / "dropped.parquet").to_pylist() == [
        {"shard": "a.parquet", "row": row, "reason": reason, "snapshot_sha256": digest}
        for row, reason in ((1, "withdrawn"), (2, "no_record"), (3, "subject_missing"))
    ]


def test_r8_what_is_stale_unreadable_or_changed_stops_the_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """test_rewrite_failures (changes of every kind), test_hostile_runs (snapshots)."""
    source = placed(world, pa.table({"s": by_keep(), "n": range(ROWS)}))
    done = []

    def touch(rows: int, total: int) -> None:
        if not done:
            done.append(rows)
            os.utime(source)

    with pytest.raises(ShardError, match="changed while it was read"):
        world.run(source, on_progress=touch)
    assert not (world.root / "out").exists()
    with ShardFile(source) as shard:
        shard.read_bits(0)
        mapped = Path("/proc/self/maps").read_text(encoding="utf-8")
    assert str(source) not in mapped, "read, never mapped"
    moved_clock(monkeypatch, days=2)
    with pytest.raises(SnapshotError, match="old"):
        world.run(source)


def test_r9_statistics_and_bloom_filters_never_decide_a_row(world: World) -> None:
    """A shard whose minimum, maximum and number of nulls are lies, and whose bloom filter knows nobody."""
    source = placed(world, pa.table({"s": by_keep()}), bloom_filter_options={"s": {"ndv": 10}}, write_page_index=True)
    metadata = pq.read_metadata(source)

    def lie(fields: Any) -> None:
        for group in range(3):
            statistics = chunk(fields, group, 0)[12][1]
            for field in (1, 2, 5, 6):
                statistics[field] = BINARY, b"yes"
            statistics[3] = (6, ROWS)
            chunk(fields, group, 0)[12] = (12, dict(sorted(statistics.items())))

    start = chunk_offset(source)
    content = bytearray(source.read_bytes())
    content[start + 24 : start + 40] = bytes(16)
    source.write_bytes(content)
    patch(source, lie)
    lied = pq.read_metadata(source).row_group(0).column(0).statistics
    assert (metadata.num_rows, lied.min, lied.max) == (ROWS, "yes", "yes")
    world.run(source)
    assert world.read("out/a.parquet") == ["yes"] * int(KEEP.sum())
    audit = ConsentFilter(world.snapshot, Columns(subject="s")).audit_shards([source])
    assert audit.rows_without_consent == int((~KEEP).sum())


def chunk_offset(path: Path) -> int:
    """Where the bloom filter of the first column chunk stands."""
    found: list[int] = []
    copy = path.with_name(".copy")
    copy.write_bytes(path.read_bytes())
    patch(copy, lambda fields: found.append(chunk(fields, 0, 0)[14][1]))
    copy.unlink()
    return found[0]


@pytest.mark.parametrize("table", ["_delta_log", ".hoodie"])
def test_r10_a_folder_means_its_shards_and_no_tables(world: World, table: str) -> None:
    """test_inputs, test_hostile_runs."""
    for name in ("in/year=1/a.parquet", "in/year=2/a.parquet", "in/_tmp/x.parquet", "in/.x.parquet"):
        placed(world, pa.table({"s": ["yes", "no"]}), name)
    world.run(world.root / "in")
    written = sorted(path.relative_to(world.root / "out").as_posix() for path in (world.root / "out").rglob("*.parquet"))
    assert written == ["year=1/a.parquet", "year=2/a.parquet"]
    placed(world, pa.table({"s": ["no"]}), "out/foreign.parquet")
    with pytest.raises(UsageError, match=r"foreign\.parquet"):
        world.run(world.root / "in")
    (world.root / "in" / table).mkdir()
    with pytest.raises(ShardError, match="is a table of"):
        world.run(world.root / "in", output="other")


def test_r11_nonsense_is_told(world: World) -> None:
    source = placed(world, pa.table({"s": ["yes", "no"], "title": ["A", "B"]}))
    consent = ConsentFilter(world.snapshot, Columns(subject="title", subject_prefix="x:"))
    (warning,) = consent.filter_shards([source], world.root / "out").record.warnings
    assert "no id in a.parquet is known" in warning and "title" in warning and "'x:'" in warning
    with pytest.raises(ShardError, match="1 of 2 rows were kept"):
        world.run(source, min_kept=0.6)
    assert not (world.root / "out.intoto.jsonl").exists()
    assert world.run(source, min_kept=0.5).record.rows_kept == 1
    assert np.all(np.array([key == "yes" for key in by_keep()]) == KEEP)
