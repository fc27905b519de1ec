"""Selections: which rows come out by position, and that nothing but the allowed ones ever does."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from ledger.cli import run as consent

import ledger
from ledger import ConsentFilter, Digesting, blocks, membership, selected, times
from ledger import select as select_module
from ledger.blocks import digests
from ledger.errors import ConsentLedgerError, IntegrityError, ShardError, SnapshotError, UsageError, VerificationError
from ledger.gate import Gate, open_shards
from ledger.log import dsse
from ledger.log.keys import PrivateKey
from ledger.report.facts import open_runs
from ledger.select import Selection
from ledger.shards import positions
from ledger.shards.columns import Columns
from ledger.statements.selection_statement import SelectionRecord, selection_statement
from ledger.statements.verify import record_of, statement_path, verify
from tests.shards.world import World

NAMES = ("a.parquet", "b/a.parquet", "c.parquet")


def select(world: World, *inputs: Path, output: str = "sel", columns: Columns | None = None, **options: Any) -> Selection:
    by = ConsentFilter(options.pop("snapshot", world.snapshot), columns or Columns(subject="s"))
    told = {"key": world.book.run_key(), "admit": world.book.admit, **options}
    return by.select_shards(inputs or [world.root / "raw"], world.root / output, **told)


@pytest.fixture
def made(world: World) -> World:
    """`sel`: of three shards of `raw` the rows of yes and later."""
    for name in NAMES:
        world.shard(f"raw/{name}", "yes", "no", "later", "nobody")
    time.sleep(0.06)  # what was written a moment before a selection might be written once more under the same time
    select(world)
    return world


def opened(world: World, *paths: str, **options: Any) -> Gate:
    told = {"trust": world.book.trust, "purpose": "ai", "selection": world.root / "sel", **options}
    return open_shards([world.root / path for path in paths or ("raw",)], **told)


def subjects(rows: Any) -> list[str]:
    return [subject for batch in rows for subject in batch["s"].to_pylist()]


def test_the_allowed_rows_come_out_epoch_after_epoch_and_the_shards_stay(made: World) -> None:
    before = {path: path.read_bytes() for path in (made.root / "raw").rglob("*.parquet")}
    rows = opened(made)
    for _ in range(2):
        assert subjects(rows) == ["yes", "later"] * 3
    assert subjects(opened(made, columns=["s"], purpose="ai@1")) == ["yes", "later"] * 3
    assert before == {path: path.read_bytes() for path in (made.root / "raw").rglob("*.parquet")}
    assert sorted(p.relative_to(made.root / "sel").as_posix() for p in (made.root / "sel").rglob("*") if p.is_file()) == sorted(
        name + suffix for name in NAMES for suffix in (".rows", ".blocks")
    )


def test_what_the_statement_says(made: World) -> None:
    said = select(made).document()
    assert (said["rows_in"], said["rows_kept"], said["rows_dropped"]) == (12, 6, {"no_record": 3, "withdrawn": 3})
    opened_ = verify(made.root / "sel", trust=made.book.trust).statements[made.root / "sel.intoto.jsonl"]
    assert isinstance(opened_.record, SelectionRecord)
    assert opened_.record.subjects is not None
    assert opened_.record.subjects["count"] == 2
    assert opened_.logged is not None
    assert opened_.logged.act["predicate_type"] == "urn:consent-ledger:selection:v1"
    made.book.fsck()


def test_parts_and_some_of_the_shards(made: World) -> None:
    rows = pickle.loads(pickle.dumps(opened(made)))
    assert [len(subjects(rows.part(number, 4))) for number in range(4)] == [2, 2, 2, 0]
    assert len(subjects(opened(made, "raw/a.parquet", "raw/c.parquet"))) == 4
    made.shard("other/x.parquet", "yes")
    with pytest.raises(UsageError, match="does not speak of"):
        opened(made, "raw/a.parquet", "other/x.parquet")


def test_it_loads_no_database_torch_or_pandas(made: World) -> None:
    code = (
        "import sys, ledger; "
        f"print(sum(b.num_rows for b in ledger.open_shards({str(made.root / 'raw')!r}, selection={str(made.root / 'sel')!r}, "
        f"trust={str(made.book.folder.path / 'trust')!r}, purpose='ai'))); "
        "print(sorted({'duckdb', 'sqlalchemy', 'sqlmodel', 'torch', 'click', 'pandas'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "6\n[]\n"


# What does not hold


def test_without_a_statement_or_by_strangers_or_for_another_purpose(made: World) -> None:
    for purpose in ("other", "ai@2", "*"):
        with pytest.raises(UsageError, match="were decided for 'ai@1'"):
            opened(made, purpose=purpose)
    stranger = World(made.root, "stranger")
    with pytest.raises(VerificationError, match="trusted"):
        opened(made, trust=stranger.book.trust)
    stranger.book.close()
    statement = made.root / "sel.intoto.jsonl"
    line = statement.read_bytes().splitlines(keepends=True)[0]
    statement.write_bytes(line)
    with pytest.raises(VerificationError, match="not in the log"):
        opened(made)
    assert subjects(opened(made, allow_unlogged=True))
    statement.unlink()
    with pytest.raises(VerificationError, match="cannot read"):
        opened(made)


def test_a_run_is_no_selection_and_a_selection_no_run(made: World) -> None:
    made.run(made.root / "raw")
    with pytest.raises(UsageError, match="not of a selection"):
        opened(made, selection=made.root / "out")
    with pytest.raises(UsageError, match="is of a selection"):
        open_shards(made.root / "sel", trust=made.book.trust, purpose="ai")
    for taken in ("raw", "out"):
        with pytest.raises(UsageError, match=r"would be replaced by one|lies in"):
            select(made, output=taken)
    with pytest.raises(UsageError, match="is not the statement of a run"):
        made.run(made.root / "raw", output="sel")
    with pytest.raises(UsageError, match="reports are of runs"):
        open_runs([made.root / "sel"], made.book.trust)
    with pytest.raises(UsageError, match="no shards of its own"):
        membership.in_run(made.root / "sel", "yes", made.book.trust)


def test_answers_that_are_too_old(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    now = times.now()
    rows = opened(made)
    monkeypatch.setattr(times, "now", lambda: now + timedelta(hours=25))
    with pytest.raises(SnapshotError, match="seconds old"):
        opened(made)
    with pytest.raises(SnapshotError, match="seconds old"):
        next(iter(rows))
    assert subjects(opened(made, max_age=timedelta(hours=26)))


def _rewritten(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table, path, compression="none")


def _sorted(path: Path) -> None:
    pq.write_table(pq.read_table(path).sort_by("s"), path)


def _appended(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"PAR1")


def _replaced(path: Path) -> None:
    pq.write_table(pa.table({"s": ["no", "no", "no", "no"]}), path)


@pytest.mark.parametrize("change", [_rewritten, _sorted, _appended, _replaced, Path.unlink])
def test_a_shard_that_is_not_the_one_that_was_decided(made: World, change: Callable[[Path], object]) -> None:
    rows = opened(made)
    path = made.root / "raw/b/a.parquet"
    content = path.read_bytes()
    change(path)
    reading = iter(rows)
    assert subjects([next(reading)]) == ["yes", "later"]
    with pytest.raises((VerificationError, ShardError)):
        next(reading)
    if path.exists():
        with pytest.raises(VerificationError, match="not the shard that the selection is of"):
            opened(made)
        with pytest.raises(VerificationError):
            verify(made.root / "sel", trust=made.book.trust, shards=made.root / "raw")
    path.write_bytes(content)
    assert len(subjects(opened(made))) == 6
    verify(made.root / "sel", trust=made.book.trust, shards=made.root / "raw")


def test_a_shard_that_came_since(made: World) -> None:
    made.shard("raw/new.parquet", "yes")
    with pytest.raises(UsageError, match=r"does not speak of 'new.parquet'"):
        opened(made)


@pytest.mark.parametrize("suffix", [".rows", ".blocks"])
def test_the_files_of_a_selection_are_missing_torn_foreign_or_swapped(made: World, suffix: str) -> None:
    made.shard("raw2/a.parquet", "no", "yes", "yes", "yes")
    select(made, made.root / "raw2", output="sel2")
    path = made.root / f"sel/a.parquet{suffix}"
    good = path.read_bytes()
    rows = opened(made)
    others = [(made.root / f"sel2/a.parquet{suffix}").read_bytes(), (made.root / "sel/a.parquet.rows").read_bytes()]
    for bad in [good[:-1], good + b"\0", b"", good * 1000, *(other for other in others if other != good)]:
        path.write_bytes(bad)
        for attempt in (lambda: subjects(rows), lambda: opened(made), lambda: verify(made.root / "sel", trust=made.book.trust)):
            with pytest.raises(VerificationError):
                attempt()
    path.unlink()
    with pytest.raises(VerificationError):
        opened(made)
    path.symlink_to(made.root / f"sel2/a.parquet{suffix}")
    with pytest.raises(VerificationError):
        opened(made)


def test_positions_that_their_signer_gets_wrong(made: World) -> None:
    """A run key that signs another count, or rows beyond the shard, is found out when they are read."""
    path, key = statement_path(made.root / "sel"), made.book.run_key()
    _, record = record_of(path.read_bytes().splitlines()[0], made.book.trust)
    assert isinstance(record, SelectionRecord)
    first, *rest = record.shards
    for fields in ({"rows_in": 2, "rows_dropped": {}}, {"rows_kept": 3, "rows_in": 5}, {"size": first.size + (1 << 20)}):
        other = replace(first, **fields)
        lied = replace(record, shards=[other, *rest], rests_on={"assertion": sum(s.rows_kept for s in (other, *rest))})
        path.write_bytes(dsse.seal(selection_statement(lied), key) + b"\n")
        with pytest.raises((VerificationError, ShardError)):
            subjects(opened(made, allow_unlogged=True))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_changed_byte_lets_a_row_out_that_was_not_allowed(made: World, data: st.DataObject) -> None:
    """Of shard, positions, blocks and statement, whichever is changed, before the gate is opened or after."""
    files = [made.root / "raw/a.parquet", made.root / "sel/a.parquet.rows", made.root / "sel/a.parquet.blocks"]
    files.append(made.root / "sel.intoto.jsonl")
    path = data.draw(st.sampled_from(files))
    good = path.read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    before = opened(made, "raw/a.parquet") if path.suffix != ".jsonl" else None
    path.write_bytes(good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :])
    came: list[str] = []
    try:
        with pytest.raises(ConsentLedgerError):
            for batch in before or opened(made, "raw/a.parquet"):
                came += batch["s"].to_pylist()
    finally:
        path.write_bytes(good)
    assert came == []


# As a run would keep them


@st.composite
def _shards(draw: st.DrawFn) -> tuple[list[list[str | None]], int]:
    ids = st.sampled_from(["yes", "later", "no", "nobody", "", None])
    runs = st.lists(st.tuples(ids, st.integers(1, 400)), min_size=0, max_size=12)
    rows = [[who for who, times_ in draw(runs) for _ in range(times_)] for _ in range(draw(st.integers(1, 2)))]
    return rows, draw(st.integers(1, 500))


@settings(
    max_examples=20,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(drawn=_shards(), dictionary=st.booleans(), batch=st.integers(1, 300))
def test_a_selection_yields_what_a_run_keeps(
    made: World, drawn: tuple[list[list[str | None]], int], dictionary: bool, batch: int
) -> None:
    shards, group = drawn
    folder, before = made.root / "drawn", selected._ROWS
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*"):
        old.unlink()
    for number, rows in enumerate(shards):
        column = pa.array(rows, pa.string())
        numbers, lists = pa.array(range(len(rows)), pa.int64()), pa.array([["x"]] * len(rows), pa.list_(pa.string()))
        table = pa.table({"s": column.dictionary_encode() if dictionary else column, "n": numbers, "x": lists})
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=group)
    names = {f"{number}.parquet" for number in range(len(shards))}
    for output in ("drawn-out", "drawn-sel"):
        for old in (made.root / output).glob("*"):
            if old.name.partition(".parquet")[0] + ".parquet" not in names:
                old.unlink()
    run = made.run(folder, output="drawn-out").record
    selection = select(made, folder, output="drawn-sel").record
    assert (run.rows_in, run.rows_kept, run.rows_dropped, run.rests_on) == (
        selection.rows_in,
        selection.rows_kept,
        selection.rows_dropped,
        selection.rests_on,
    )
    selected._ROWS = batch
    try:
        rows_ = opened(made, "drawn", selection=made.root / "drawn-sel")
        schema = pq.read_schema(folder / "0.parquet")
        got = pa.Table.from_batches(list(rows_), schema=schema)
    finally:
        selected._ROWS = before
    kept = pa.concat_tables(pq.read_table(made.root / "drawn-out" / name) for name in sorted(names))
    assert got.to_pylist() == kept.to_pylist()


def test_no_entry_of_a_dictionary_is_of_a_row_that_is_left_out(world: World) -> None:
    path = world.root / "raw/a.parquet"
    path.parent.mkdir()
    text = pa.array(["kept", "secret", "kept too"] * 50).dictionary_encode()
    table = pa.table({"s": ["yes", "no", "later"] * 50, "t": text})
    pq.write_table(table, path)
    select(world)
    for batch in opened(world):
        assert set(batch["t"].dictionary.to_pylist()) == {"kept", "kept too"}
    nested = pa.StructArray.from_arrays([text], names=["d"])
    pq.write_table(pa.table({"s": ["yes", "no", "later"] * 50, "t": nested}), path)
    select(world)
    with pytest.raises(ShardError, match="would still carry"):
        opened(world)
    assert len(subjects(opened(world, columns=["s"]))) == 100
    # pyarrow reads the field by that name as well.
    pq.write_table(pa.table({"s": ["yes", "no", "later"] * 50, "t": nested, "t.d": ["x"] * 150}), path)
    select(world)
    with pytest.raises(ShardError, match="would still carry"):
        opened(world, columns=["t.d"])


def test_row_groups_without_an_allowed_row_are_not_read(world: World) -> None:
    """Nor are they in the way: what was overwritten there never comes to be decoded."""
    path = world.root / "raw/a.parquet"
    path.parent.mkdir()
    blobs = [os.urandom(3000) for _ in range(2000)]
    pq.write_table(
        pa.table({"s": ["yes"] * 1000 + ["no"] * 1000, "b": blobs}),
        path,
        row_group_size=1000,
        compression="none",
        use_dictionary=False,
    )
    select(world)
    whole = pa.Table.from_batches(opened(world))
    assert whole["b"].to_pylist() == blobs[:1000]
    second = pq.ParquetFile(path).metadata.row_group(1).column(1)
    with path.open("r+b") as file:
        file.seek(second.data_page_offset + (1 << 20) + 1000)
        file.write(b"\xff" * 100)
    assert pa.Table.from_batches(opened(world)).equals(whole)
    with pytest.raises(VerificationError, match="its digest is another"):
        verify(world.root / "sel", trust=world.book.trust, shards=world.root / "raw")


@pytest.fixture
def many_groups(world: World) -> Path:
    """A shard of 20 row groups of 1,000 rows, numbered, of which every third row is allowed; none of group 7 is."""
    path = world.root / "raw/a.parquet"
    path.parent.mkdir()
    people = ["no" if number // 1000 == 7 or number % 3 else "yes" for number in range(20_000)]
    pq.write_table(
        pa.table({"s": people, "n": range(20_000), "b": [os.urandom(500) for _ in range(20_000)]}), path, row_group_size=1000
    )
    select(world)
    return path


def test_rows_of_many_row_groups_come_in_their_order(world: World, many_groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [number for number in range(20_000) if number % 3 == 0 and number // 1000 != 7]
    for rows in (16_384, 256, 999):
        monkeypatch.setattr(selected, "_ROWS", rows)
        for _ in range(2):
            batches = opened(world)
            assert [n for batch in batches for n in batch["n"].to_pylist()] == expected
            assert max(batch.num_rows for batch in batches) <= rows


def test_columns_come_in_the_order_in_which_pyarrow_has_them(world: World) -> None:
    """Whichever is decoded first, and whatever a name means: a column, a field, or both."""
    path = world.root / "raw/a.parquet"
    path.parent.mkdir()
    people = ["yes", "no", "later"] * 50
    fields = {"s": people, "n": range(150), "wide": [os.urandom(99)] * 150, "t": [{"a": i, "b": "x" * i} for i in range(150)]}
    for more in ({}, {"t.a": people}):
        table = pa.table(fields | more).replace_schema_metadata({"pandas": "{}"})
        pq.write_table(table, path, row_group_size=40)
        select(world)
        ways = [None, ["s"], ["n", "wide"], ["wide", "n", "s"], ["t"], ["wide", "t", "s"], [], *([["t.a", "s"]] if more else [])]
        for columns in ways:
            bare = pq.ParquetFile(path).read(columns=columns)
            got = pa.Table.from_batches(opened(world, columns=columns))
            assert got.schema.names == next(pq.ParquetFile(path).iter_batches(columns=columns)).schema.names
            assert got.schema.metadata == bare.schema.metadata
            assert got.num_rows == 100
            for name in got.schema.names:
                kept = [value for value, who in zip(bare[name].to_pylist(), people, strict=True) if who != "no"]
                assert got[name].to_pylist() == kept


def test_who_stops_early_leaves_no_thread_and_no_file(world: World, many_groups: Path) -> None:
    before = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    rows = iter(open_shards(world.root / "raw", selection=world.root / "sel", trust=world.book.trust, purpose="ai"))
    assert next(rows)["n"].to_pylist()[0] == 0
    rows.close()  # type: ignore[attr-defined]
    assert (threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))) == before


def test_what_stands_before_a_changed_block_comes_out_first(world: World, many_groups: Path) -> None:
    chunk = pq.ParquetFile(many_groups).metadata.row_group(16).column(0)
    with many_groups.open("r+b") as file:
        file.seek(chunk.data_page_offset + 100)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    seen: list[int] = []
    with pytest.raises(VerificationError, match="it was changed"):
        for batch in open_shards(world.root / "raw", selection=world.root / "sel", trust=world.book.trust, purpose="ai"):
            seen += batch["n"].to_pylist()
    assert seen == [number for number in range(seen[-1] + 1) if number % 3 == 0 and number // 1000 != 7]
    assert max(seen) < 17_000


# Again, after a no


def test_a_no_since_is_heeded_once_it_is_selected_again(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made.book.withdraw("later", purposes=["ai"])
    assert subjects(opened(made)) == ["yes", "later"] * 3, "what was signed is what was known then"
    fresh = made.freeze("ai", "fresh")
    hashed: list[object] = []
    monkeypatch.setattr(select_module.blocks, "digests", lambda file: hashed.append(file) or digests(file))
    _replaced(made.root / "raw/c.parquet")
    again = select(made, snapshot=fresh).record
    assert len(hashed) == 1, "the one that was changed"
    assert subjects(opened(made)) == ["yes"] * 2
    assert again.rows_kept == 2
    verify(made.root / "sel", trust=made.book.trust, shards=made.root / "raw")


def test_a_change_beside_the_key_columns_is_selected_anew(world: World) -> None:
    (world.root / "raw").mkdir()
    path, same = world.root / "raw/a.parquet", np.zeros(200_000, np.int64)

    def write(seed: int) -> int:
        text = np.random.default_rng(seed).integers(0, 1 << 60, len(same))
        rows = pa.table({"s": ["yes", "no"] * (len(same) // 2), "before": same, "text": text, "after": same})
        pq.write_table(rows, path, compression="none", use_dictionary=False, write_statistics=False)
        return path.stat().st_size

    size = write(1)
    select(world)
    assert write(2) == size
    assert select(world).record.shards[0].sha256 == sha256(path.read_bytes()).hexdigest()
    assert set(subjects(opened(world))) == {"yes"}


def test_what_another_key_has_signed_is_hashed_anew(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[object] = []
    monkeypatch.setattr(select_module.blocks, "digests", lambda file: hashed.append(file) or digests(file))
    select(made)
    assert not hashed
    select(made, key=PrivateKey.generate(), admit=None)
    assert len(hashed) == 3
    (made.root / "sel/a.parquet.blocks").write_bytes(bytes(32))
    select(made)
    assert len(hashed) == 6
    assert len(subjects(opened(made))) == 6


def test_one_that_fails_leaves_no_statement(made: World) -> None:
    good = (made.root / "raw/c.parquet").read_bytes()
    with pytest.raises(ShardError, match="fewer than the least share"):
        select(made, min_kept=0.9)
    assert not (made.root / "sel.intoto.jsonl").exists()
    with pytest.raises(VerificationError, match="cannot read"):
        opened(made)
    (made.root / "raw/c.parquet").write_bytes(good[:-1])
    with pytest.raises(ShardError):
        select(made)
    (made.root / "raw/c.parquet").write_bytes(good)
    select(made)
    assert len(subjects(opened(made))) == 6


def test_a_folder_that_holds_something_else(made: World) -> None:
    (made.root / "sel/more.parquet.rows").write_bytes(b"")
    with pytest.raises(VerificationError, match="does not name"):
        verify(made.root / "sel", trust=made.book.trust)
    with pytest.raises(UsageError, match="holds files that this selection does not make"):
        select(made)
    with pytest.raises(UsageError, match="a ledger's own folder"):
        select(made, output="ledger")


# Hashed before


def far_apart(path: Path, *people: str) -> None:
    """A shard whose keys stand in another block than its head and its footer, which are the same whatever the keys' order."""
    blobs = pa.array([bytes([number]) * (1 << 20) for number in range(len(people))])
    path.parent.mkdir(exist_ok=True)
    plain: Any = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    pq.write_table(pa.table({"b": blobs, "s": people, "c": blobs}), path, **plain)


def test_what_is_decided_is_what_was_hashed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the file system says of times: what is put there after it was hashed, and before its keys are read, is refused."""
    path = world.root / "raw/a.parquet"
    far_apart(path, "yes", "no")

    def then_changed(file: Any) -> Any:
        told = digests(file)
        far_apart(path, "no", "yes")
        return told

    monkeypatch.setattr(select_module.ShardFile, "check_unchanged", lambda self: None)
    monkeypatch.setattr(select_module.blocks, "digests", then_changed)
    with pytest.raises(ShardError, match=r"a.parquet: it was changed while it was read"):
        select(world)
    assert not (world.root / "sel.intoto.jsonl").exists()


def test_nor_is_a_shard_taken_for_what_it_was_by_its_times(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    path = world.root / "raw/a.parquet"
    far_apart(path, "yes", "no")
    select(world)
    far_apart(path, "no", "yes")
    monkeypatch.setattr(select_module, "settled", lambda known, since: known)
    assert select(world).record.shards[0].sha256 == sha256(path.read_bytes()).hexdigest()
    assert subjects(opened(world)) == ["yes"]
    assert next(iter(opened(world)))["b"][0].as_py()[0] == 1


def told_of(digesting: Digesting) -> dict[str, Any]:
    return {source.name: digesting.of(source) for source in digesting.inputs}


def test_shards_are_hashed_before_the_answers_are_there(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    output, hashed = made.root / "ahead", list[object]()
    monkeypatch.setattr(blocks, "digests", lambda file: hashed.append(file) or digests(file))
    by = ConsentFilter(made.snapshot, Columns(subject="s"))
    with Digesting([made.root / "raw"], output) as digesting:
        while not all(told.done() for told in digesting._told.values()):
            time.sleep(0.001)
        by.select_shards(digesting, output, key=made.book.run_key(), admit=made.book.admit)
    assert len(hashed) == 3
    assert subjects(opened(made, selection=output)) == ["yes", "later"] * 3
    verify(output, trust=made.book.trust, shards=made.root / "raw")
    with Digesting([made.root / "raw"], output) as digesting:
        assert told_of(digesting) == dict.fromkeys(NAMES), "they may be known by what stands there"


@pytest.mark.parametrize("change", [_replaced, _appended, lambda path: path.write_bytes(path.read_bytes())])
def test_a_shard_that_was_touched_since_is_hashed_anew(made: World, change: Callable[[Path], object]) -> None:
    path, output = made.root / "raw/c.parquet", made.root / "ahead"
    by = ConsentFilter(made.snapshot, Columns(subject="s"))
    with Digesting([made.root / "raw"], output) as digesting:
        while not all(told.done() for told in digesting._told.values()):
            time.sleep(0.001)
        content = path.read_bytes()
        change(path)
        assert [name for name, told in told_of(digesting).items() if told is None] == ["c.parquet"]
        if change is _appended:
            path.write_bytes(content)
        record = by.select_shards(digesting, output, key=made.book.run_key(), admit=made.book.admit).record
    assert {shard.name: shard.sha256 for shard in record.shards}["c.parquet"] == sha256(path.read_bytes()).hexdigest()
    verify(output, trust=made.book.trust, shards=made.root / "raw")


def test_what_was_written_just_before_is_not_taken_as_hashed(world: World) -> None:
    """It could be written once more under the same time."""
    path = world.root / "raw/a.parquet"
    world.shard("raw/a.parquet", "yes")
    now = time.time_ns()
    os.utime(path, ns=(now, now))
    with Digesting([path], world.root / "ahead") as digesting:
        assert told_of(digesting) == {"a.parquet": None}


def test_who_leaves_waits_for_no_shard(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    began, go_on = threading.Event(), threading.Event()

    def slow(file: Any) -> Any:
        began.set()
        go_on.wait()
        return digests(file)

    monkeypatch.setattr(blocks, "digests", slow)
    threads = threading.active_count()
    with Digesting([made.root / "raw"], made.root / "ahead") as digesting:
        began.wait()
        assert [digesting.of(source) for source in digesting.inputs[1:]] == [None, None], "left to who asks, and not begun"
        first = digesting._told[NAMES[0]]
        digesting._over.set()
        go_on.set()
        assert first.result() is None, "nor gone on with"
    assert threading.active_count() == threads


def test_a_pipe_is_left_to_who_reads_it(made: World) -> None:
    os.mkfifo(made.root / "raw/d.parquet")
    with Digesting([made.root / "raw"], made.root / "ahead") as digesting:
        for told in digesting._told.values():
            told.result(timeout=10)
        told = told_of(digesting)
    assert told["d.parquet"] is None
    with (made.root / "raw/c.parquet").open("rb") as file:
        assert told["c.parquet"] == digests(file)
    with pytest.raises(UsageError, match="does not exist"):
        Digesting([made.root / "none"], made.root / "ahead")


# By the command line


def test_commands(made: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(made.root)
    monkeypatch.setenv("CONSENT_LEDGER", "ledger")
    told = ["raw", "-o", "again", "--purpose", "ai", "--subject", "s"]
    assert consent(["select", *told, "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["rows_kept"], document["statement"]) == (6, "again.intoto.jsonl")
    assert consent(["select", *told]) == 0
    said = capsys.readouterr()
    assert "6 of 12 rows allowed in 3 shards, by again" in said.out
    assert "statement: again.intoto.jsonl, logged" in said.err
    assert consent(["verify", "again"]) == 0
    assert "NOT looked at: the 3 shards" in capsys.readouterr().out
    assert consent(["verify", "again.intoto.jsonl", "--shards", "raw"]) == 0
    said = capsys.readouterr()
    assert "holds exactly the 3 shards that the selection is of" in said.out
    assert "the set of the 2 subjects of these rows is that of the shards" in said.out
    assert consent(["verify", "again.intoto.jsonl", "--signature-only"]) == 0
    assert "NOT looked at: the files of the selection" in capsys.readouterr().out
    assert consent(["verify", "again", "--shards", "raw", "--ledger", "ledger"]) == 2
    assert consent(["status"]) == 0
    assert "ai: 2 logged runs" not in (out := capsys.readouterr().out)
    assert "ai: 3 logged runs; every no is answered" in out
    assert consent(["export", "yes", "-o", "e.zip", "--run", "again"]) == 2
    assert consent(["report", "again", "-o", "r.html"]) == 2
    assert consent(["select", *told, "--min-kept", "0.9"]) == 1
    assert consent(["verify", "again"]) == 4
    _replaced(made.root / "raw/a.parquet")
    assert consent(["select", *told]) == 0
    made.shard("raw/a.parquet", "yes")
    assert consent(["verify", "again", "--shards", "raw"]) == 4


def test_unlogged_until_it_is_admitted(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made.root)
    select(made, admit=None)
    with pytest.raises(VerificationError, match="not in the log"):
        opened(made)
    assert consent(["--ledger", "ledger", "admit", "sel"]) == 0
    assert len(subjects(opened(made))) == 6


def test_a_set_of_subjects_that_the_shards_have_not(made: World) -> None:
    _, record = record_of((made.root / "sel.intoto.jsonl").read_bytes().splitlines()[0], made.book.trust)
    assert record.subjects is not None
    membership.require_set(record, membership.count(record, made.root / "raw", made.root / "sel"))
    other = replace(record, subjects={**record.subjects, "count": 3})
    with pytest.raises(IntegrityError, match="not the set"):
        membership.require_set(other, membership.count(other, made.root / "raw", made.root / "sel"))


# Positions alone


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_positions_are_read_as_they_were_written(data: st.DataObject) -> None:
    masks = []
    for _ in range(data.draw(st.integers(0, 3))):
        rows, share = data.draw(st.integers(0, 150_000)), data.draw(st.sampled_from([0.0, 0.0001, 0.5, 0.999, 1.0]))
        masks.append(np.random.default_rng(data.draw(st.integers(0, 99))).random(rows) < share)
    whole = np.concatenate([np.zeros(0, bool), *masks])
    encoded = positions.encode(masks)
    assert len(encoded) <= positions.limit(len(whole))
    read = positions.Positions(encoded, len(whole), int(whole.sum()))
    first = 0
    for mask in masks:
        assert (read.mask(first, len(mask)) == mask).all()
        assert read.count(first, len(mask)) == mask.sum()
        first += len(mask)


def test_real_speeches(world: World, shared: Path) -> None:
    speeches = shared / "data" / "speeches"
    columns = Columns(subject="user_id", content="content_id", category="category", created="created_at")
    with ledger.create(world.root / "real") as book:
        book.declare_purpose("train-ai", title="T", description="D", categories=["address", "inaugural", "scene"])
        book.declare_purpose("search", title="S", description="D")
        book.import_file(shared / "data" / "consents.csv")
        by = ConsentFilter(book.snapshot("train-ai", output=world.root / "s.parquet"), columns)
        run = by.filter_shards([speeches], world.root / "kept", key=book.run_key(), admit=book.admit)
        selection = by.select_shards([speeches], world.root / "sel", key=book.run_key(), admit=book.admit)
        assert run.record.rows_dropped == selection.record.rows_dropped
        rows = open_shards(speeches, selection=world.root / "sel", trust=book.trust, purpose="train-ai")
        kept = pa.concat_tables(pq.read_table(world.root / "kept" / s.output) for s in run.record.shards)
        assert sum(batch.num_rows for batch in rows) == run.record.rows_kept > 0
        assert pa.Table.from_batches(list(rows)).to_pylist() == kept.to_pylist()
