"""The gate before training: which rows come out, and that nothing else ever does."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger import ConsentFilter, blocks, gate, times
from ledger.errors import ConsentLedgerError, ShardError, SnapshotError, UsageError, VerificationError
from ledger.gate import Gate, open_shards
from ledger.log import dsse
from ledger.shards.columns import Columns
from ledger.statements.audit_statement import AuditRecord, audit_statement
from ledger.statements.verify import record_of, statement_path
from tests.shards.world import World


@pytest.fixture
def run(world: World) -> World:
    """`out`: of three shards the rows of yes and later."""
    for name in ("a", "b/a", "c"):
        world.shard(f"raw/{name}.parquet", "yes", "no", "later")
    world.run(world.root / "raw")
    return world


def opened(world: World, *names: str, **options: Any) -> Gate:
    paths = [world.root / name for name in names or ("out",)]
    return open_shards(paths, **{"trust": world.book.trust, "purpose": "ai", **options})


def subjects(rows: Any) -> list[str]:
    return [subject for batch in rows for subject in batch["s"].to_pylist()]


def test_rows_come_out_epoch_after_epoch(run: World) -> None:
    rows = opened(run)
    assert isinstance(next(iter(rows)), pa.RecordBatch)
    for _ in range(3):
        assert subjects(rows) == ["yes", "later"] * 3
    assert subjects(opened(run, purpose="ai@1", columns=["s"])) == ["yes", "later"] * 3
    assert subjects(open_shards(run.root / "out", trust=run.book.folder.path / "trust", purpose="ai")) == ["yes", "later"] * 3


def test_an_audit_is_as_good_as_a_run(run: World) -> None:
    run.shard("audited/a.parquet", "later")
    consent = ConsentFilter(run.snapshot, Columns(subject="s"))
    consent.attest_shards(run.root / "audited", key=run.book.run_key(), admit=run.book.admit)
    assert subjects(opened(run, "audited", "out")) == ["later", *["yes", "later"] * 3]


def test_workers_share_the_shards(run: World) -> None:
    rows = opened(run)
    parts = [pickle.loads(pickle.dumps(rows)).part(number, 4) for number in range(4)]
    assert [len(subjects(part)) for part in parts] == [2, 2, 2, 0]
    for number, of in ((4, 4), (-1, 4), (0, 0)):
        with pytest.raises(UsageError, match="no part"):
            rows.part(number, of)


def test_it_loads_no_database_torch_or_pandas(run: World) -> None:
    code = (
        "import sys, ledger; "
        f"print(sum(b.num_rows for b in ledger.open_shards({str(run.root / 'out')!r}, "
        f"trust={str(run.book.folder.path / 'trust')!r}, purpose='ai'))); "
        "print(sorted({'duckdb', 'sqlalchemy', 'sqlmodel', 'torch', 'click', 'pandas'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "6\n[]\n"


# What does not hold: refused before the first row


def test_without_a_statement(run: World) -> None:
    (run.root / "out.intoto.jsonl").unlink()
    with pytest.raises(VerificationError, match="cannot read"):
        opened(run)


def test_for_another_purpose(run: World) -> None:
    for purpose in ("other", "ai@2", "ai@", "", "a", "*"):
        with pytest.raises(UsageError, match="were decided for 'ai@1'"):
            opened(run, purpose=purpose)


def test_by_a_key_that_is_not_trusted(run: World) -> None:
    stranger = World(run.root, "stranger")
    try:
        with pytest.raises(VerificationError, match="trusted"):
            opened(run, trust=stranger.book.trust)
    finally:
        stranger.book.close()


def test_unlogged_only_where_that_is_allowed(run: World) -> None:
    path = run.root / "out.intoto.jsonl"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(VerificationError, match="not in the log"):
        opened(run)
    assert subjects(opened(run, allow_unlogged=True))


def test_answers_that_are_too_old(run: World, monkeypatch: pytest.MonkeyPatch) -> None:
    now = times.now()
    rows = opened(run)
    monkeypatch.setattr(times, "now", lambda: now + timedelta(hours=25))
    with pytest.raises(SnapshotError, match="seconds old; they may be 86400"):
        opened(run)
    with pytest.raises(SnapshotError, match="seconds old"):
        next(iter(rows))
    assert subjects(opened(run, max_age=timedelta(hours=26)))
    monkeypatch.setattr(times, "now", lambda: now - timedelta(hours=1))
    with pytest.raises(SnapshotError, match="has not come yet"):
        opened(run)


def test_the_age_that_the_answers_had_counts(run: World, monkeypatch: pytest.MonkeyPatch) -> None:
    now = times.now()
    monkeypatch.setattr(times, "now", lambda: now + timedelta(hours=20))
    run.run(run.root / "raw")
    monkeypatch.setattr(times, "now", lambda: now + timedelta(hours=25))
    with pytest.raises(SnapshotError, match="seconds old"):
        opened(run)


def test_an_age_beyond_all_measure_is_too_old(run: World) -> None:
    """BUG: OverflowError came out, which is none of ours."""
    ages = 2**53 - 1
    run.shard("old/a.parquet", "yes")
    consent = ConsentFilter(run.snapshot, Columns(subject="s"))
    consent.attest_shards(run.root / "old", key=run.book.run_key())
    path = statement_path(run.root / "old")
    _, record = record_of(path.read_bytes().splitlines()[0], run.book.trust)
    assert isinstance(record, AuditRecord)
    older = replace(record, age_seconds=ages, max_age_seconds=ages)
    path.write_bytes(dsse.seal(audit_statement(older), run.book.run_key()) + b"\n")
    for most in (timedelta(days=1), timedelta.max):
        with pytest.raises(SnapshotError, match="seconds old"):
            opened(run, "old", allow_unlogged=True, max_age=most)


@pytest.mark.parametrize("name", ["more.parquet", "_hidden.parquet", "_metadata", "x=1/part", "more.txt"])
def test_a_file_that_the_statement_does_not_name(run: World, name: str) -> None:
    run.shard(f"out/{name}", "no")
    with pytest.raises(VerificationError, match="does not name"):
        opened(run)


def test_a_shard_that_is_missing_changed_or_a_link(run: World) -> None:
    shard = run.root / "out/b/a.parquet"
    content = shard.read_bytes()
    shard.unlink()
    with pytest.raises(VerificationError, match="lacks"):
        opened(run)
    shard.symlink_to(run.root / "out/a.parquet")
    with pytest.raises(VerificationError, match="symbolic link"):
        opened(run)
    shard.unlink()
    run.shard("out/b/a.parquet", "no")
    with pytest.raises(VerificationError, match="its digest is another"):
        opened(run)
    shard.write_bytes(content)
    assert len(subjects(opened(run))) == 6


def test_parts_of_a_folder_and_nothing_at_all(run: World) -> None:
    for names in (("out/a.parquet",), ("absent",)):
        with pytest.raises(UsageError, match="is no folder"):
            opened(run, *names)
    with pytest.raises(VerificationError, match="cannot read"):
        opened(run, "out/b")
    with pytest.raises(UsageError, match="no folder of shards was named"):
        open_shards([], trust=run.book.trust, purpose="ai")


def test_one_folder_of_several_that_does_not_hold_and_no_row_comes(run: World) -> None:
    shutil.copytree(run.root / "out", run.root / "copy")
    with pytest.raises(VerificationError, match="cannot read"):
        opened(run, "out", "copy")


def test_a_column_that_is_not_there(run: World) -> None:
    with pytest.raises(UsageError, match="not one column 't'"):
        opened(run, columns=["s", "t"])


# After it was opened


def test_what_is_changed_after_it_was_hashed_never_comes_out(run: World) -> None:
    rows = opened(run)
    reading = iter(rows)
    assert subjects([next(reading)]) == ["yes", "later"]
    shard = run.root / "out/b/a.parquet"
    good = shard.read_bytes()
    pq.write_table(pa.table({"s": ["no", "no"]}), shard)
    with pytest.raises(VerificationError, match="was changed after it was verified"):
        next(reading)
    run.shard("other.parquet", "no").replace(shard)
    with pytest.raises(VerificationError, match="was changed"):
        subjects(rows)
    shard.write_bytes(good[:-1])
    with pytest.raises(VerificationError, match="was changed"):
        subjects(rows)
    shard.unlink()
    with pytest.raises(ConsentLedgerError, match="cannot read"):
        subjects(rows)
    shard.write_bytes(good)
    assert len(subjects(rows)) == 6, "the same bytes are the same shard"


def test_a_shard_rewritten_in_place_while_it_is_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Same file, same size, same times: what was hashed alone comes out, and the first new byte ends it."""
    monkeypatch.setattr(blocks, "BLOCK", 4096)
    monkeypatch.setattr(gate, "BATCH_ROWS", 100)
    path = world.root / "raw/a.parquet"
    path.parent.mkdir()
    table = pa.table({"s": ["yes"] * 20_000, "n": range(20_000)})
    pq.write_table(table, path, row_group_size=1000, compression="none", use_dictionary=False)
    world.run(path)
    shard = world.root / "out/a.parquet"
    reading = iter(opened(world))
    numbers = next(reading)["n"].to_pylist()
    before, status = shard.read_bytes(), shard.stat()
    with shard.open("r+b") as file:
        file.seek(len(before) // 2)
        file.write(bytes(byte ^ 1 for byte in before[len(before) // 2 : -10_000]))
    os.utime(shard, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(VerificationError, match="was changed"):
        for batch in reading:
            numbers += batch["n"].to_pylist()
    assert numbers == list(range(len(numbers)))
    assert 100 <= len(numbers) < 20_000


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_changed_byte_ends_it(run: World, data: st.DataObject) -> None:
    rows = opened(run).part(0, 3)
    shard = run.root / "out/a.parquet"
    good = shard.read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    shard.write_bytes(good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :])
    with pytest.raises(VerificationError, match="was changed"):
        subjects(rows)
    shard.write_bytes(good)


def test_large_shards_are_read_as_pyarrow_reads_them(world: World) -> None:
    path = world.root / "raw/a.parquet"
    path.parent.mkdir()
    blob = os.urandom(1 << 12)
    table = pa.table({"s": ["yes"] * 2000, "b": [blob[: 2000 + n] for n in range(2000)], "n": range(2000)})
    pq.write_table(table, path, row_group_size=300, compression="none", use_dictionary=False)
    assert path.stat().st_size > 3 << 20
    world.run(path)
    assert pa.Table.from_batches(opened(world)).equals(pq.read_table(world.root / "out/a.parquet"))
    assert pa.Table.from_batches(opened(world, columns=["n"]))["n"].to_pylist() == list(range(2000))


def test_a_shard_that_is_no_parquet_is_told(run: World) -> None:
    """It verifies: a statement says which bytes they are, not that they can be read."""
    rows = opened(run)
    broken = b"PAR1" + bytes(40) + b"PAR1"
    (run.root / "x").write_bytes(broken)
    shard = gate.GateShard(run.root / "x", "x", len(broken), hashlib.sha256(broken).digest())
    with pytest.raises(ShardError, match="cannot be read"):
        subjects(replace(rows, shards=[shard]))
