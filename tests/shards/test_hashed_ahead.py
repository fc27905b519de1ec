"""Inputs of a run that are hashed while its command starts: the run is the same, and what was changed since is seen."""

from __future__ import annotations

import mmap
import os
import threading
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ledger.cli import run as consent

from ledger import ConsentFilter, Digesting, verify
from ledger.errors import ShardError
from ledger.run import Run
from ledger.shards import fingerprint, rewrite
from ledger.shards.columns import Columns
from ledger.shards.fingerprint import hashed
from tests.shards.world import World

NAMES = ("a.parquet", "b/a.parquet", "c.parquet")
ALL: Any = {"compression": "none", "use_dictionary": False, "write_statistics": False}


def write(path: Path, *people: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"s": people, "t": ["same"] * len(people)}), path, **ALL)


@pytest.fixture
def raw(world: World) -> Path:
    """`a` is copied, the others are rewritten."""
    write(world.root / "raw" / NAMES[0], "yes", "later")
    for name in NAMES[1:]:
        write(world.root / "raw" / name, "yes", "no", "later", "nobody")
    time.sleep(0.06)  # what was written a moment before might be written once more under the same time
    return world.root / "raw"


@pytest.fixture
def anew(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Files that a run has hashed by itself."""
    read: list[object] = []
    monkeypatch.setattr(rewrite, "hashed", lambda file: read.append(file) or hashed(file))
    return read


def filtered(world: World, inputs: Any, output: str = "out", **options: Any) -> Run:
    by = ConsentFilter(world.snapshot, Columns(subject="s"))
    return by.filter_shards(inputs, world.root / output, key=world.book.run_key(), admit=world.book.admit, **options)


def done(digesting: Digesting) -> Digesting:
    for told in digesting._told.values():
        told.result(timeout=10)
    return digesting


def test_a_run_is_the_same_and_hashes_nothing_itself(world: World, raw: Path, anew: list[object]) -> None:
    plain = filtered(world, [raw], "plain")
    assert len(anew) == 3
    with Digesting([raw], world.root / "ahead", by_block=False) as digesting:
        ahead = filtered(world, done(digesting), "ahead")
    assert len(anew) == 3
    assert ahead.record.shards == plain.record.shards
    for shard in ahead.record.shards:
        assert shard.input_sha256 == sha256((raw / shard.input).read_bytes()).hexdigest()
        assert shard.output_sha256 == sha256((world.root / "ahead" / shard.output).read_bytes()).hexdigest()
    assert world.read("ahead/c.parquet") == ["yes", "later"]
    verify(world.root / "ahead", trust=world.book.trust)


def test_nor_are_shards_hashed_ahead_that_may_be_known(world: World, raw: Path) -> None:
    filtered(world, [raw])
    with Digesting([raw], world.root / "out", by_block=False) as digesting:
        assert not digesting._told
    (world.root / "out.intoto.jsonl").unlink()
    with Digesting([raw], world.root / "out", by_block=False) as digesting:
        assert not digesting._told, "a run that was broken off"
        filtered(world, digesting)
    verify(world.root / "out", trust=world.book.trust)


def test_a_folder_may_be_named_by_dots(world: World, raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (world.root / "out").mkdir()
    monkeypatch.chdir(world.root / "out")
    with Digesting([raw], ".", by_block=False) as digesting:
        assert len(done(digesting)._told) == 3
        filtered(world, digesting)
    with Digesting([raw], ".", by_block=False) as digesting:
        assert not digesting._told


def touched(path: Path) -> None:
    path.write_bytes(path.read_bytes())


def replaced(path: Path) -> None:
    write(path.with_name("other"), "yes", "no", "no", "no")
    path.with_name("other").replace(path)


def rewritten(path: Path) -> None:
    """As long, and as old."""
    there = path.stat()
    path.write_bytes(path.read_bytes().replace(b"nobody", b"yes---"))
    os.utime(path, ns=(there.st_atime_ns, there.st_mtime_ns))


@pytest.mark.parametrize("change", [touched, replaced, rewritten])
def test_one_that_was_touched_since_is_hashed_anew(
    world: World, raw: Path, anew: list[object], change: Callable[[Path], None]
) -> None:
    with Digesting([raw], world.root / "out", by_block=False) as digesting:
        done(digesting)
        change(raw / NAMES[2])
        record = filtered(world, digesting).record
    assert len(anew) == 1
    assert record.shards[2].input_sha256 == sha256((raw / NAMES[2]).read_bytes()).hexdigest()
    verify(world.root / "out", trust=world.book.trust)


@pytest.mark.parametrize(
    ("name", "was", "is_now"),
    [(NAMES[0], b"same", b"else"), (NAMES[0], b"yes", b"nay"), (NAMES[1], b"same", b"else"), (NAMES[1], b"no\x05", b"ok\x05")],
    ids=["copied", "no longer copied", "rewritten", "a key"],
)
def test_what_is_written_between_the_digest_and_the_decision_is_refused_whatever_the_times_say(
    world: World, raw: Path, name: str, was: bytes, is_now: bytes, anew: list[object]
) -> None:
    path = raw / name
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[:] = bytes(memory)
        time.sleep(0.06)
        with Digesting([raw], world.root / "out", by_block=False) as digesting:
            there = done(digesting) and path.stat()
            assert was in bytes(memory)
            memory[:] = bytes(memory).replace(was, is_now)
            assert (there.st_mtime_ns, there.st_ctime_ns) == (path.stat().st_mtime_ns, path.stat().st_ctime_ns)
            with pytest.raises(ShardError, match="changed while it was read"):
                filtered(world, digesting)
    assert not anew
    assert not (world.root / "out" / name).exists() and not (world.root / "out.intoto.jsonl").exists()


def test_nothing_is_begun_once_a_worker_has_come(world: World, raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From then on the workers have the processors."""
    began, go_on, seen = threading.Event(), threading.Event(), list[object]()

    def slow(file: Any) -> Any:
        seen.append(file)
        began.set()
        go_on.wait()
        return hashed(file)

    monkeypatch.setattr(fingerprint, "hashed", slow)
    with Digesting([raw], world.root / "out", by_block=False) as digesting:
        began.wait()
        assert digesting.hashed(digesting.inputs[2]) is None
        go_on.set()
        first = digesting.hashed(digesting.inputs[0])
        assert first is not None and first.sha256 == sha256((raw / NAMES[0]).read_bytes()).hexdigest()
        assert digesting.hashed(digesting.inputs[1]) is None
    assert len(seen) == 1


def test_digests_for_the_other_use_are_not_taken(world: World, raw: Path, anew: list[object]) -> None:
    with Digesting([raw], world.root / "out") as digesting:
        filtered(world, done(digesting))
        assert len(anew) == 3
    by = ConsentFilter(world.snapshot, Columns(subject="s"))
    with Digesting([raw], world.root / "sel", by_block=False) as digesting:
        made = by.select_shards(done(digesting), world.root / "sel", key=world.book.run_key(), admit=world.book.admit)
        assert [digesting.of(source) for source in digesting.inputs] == [None] * 3
    assert made.record.rows_kept == 6
    verify(world.root / "sel", trust=world.book.trust, shards=raw)


def test_a_part_takes_them_for_its_share(world: World, raw: Path, anew: list[object]) -> None:
    snapshot = world.book.publish(world.snapshot)
    for number in (1, 2):
        with Digesting([raw], world.root / "out", by_block=False) as digesting:
            by = ConsentFilter(snapshot, Columns(subject="s"))
            by.filter_shards(done(digesting), world.root / "out", key=world.book.run_key(), part=(number, 2))
    assert not anew
    assert world.read("out/c.parquet") == ["yes", "later"]


def test_the_command(world: World, raw: Path, anew: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world.root)
    monkeypatch.setenv("CONSENT_LEDGER", "ledger")
    begun: list[Digesting] = []
    begin = Digesting.__init__
    monkeypatch.setattr(Digesting, "__init__", lambda self, *a, **b: begun.append(self) or begin(self, *a, **b))
    monkeypatch.setattr(Digesting, "__enter__", done)
    threads = threading.active_count()
    assert consent(["filter", "raw", "-o", "train", "--purpose", "ai", "--subject", "s"]) == 0
    assert len(begun) == 1 and not anew
    assert consent(["verify", "train"]) == 0
    part = ["filter", "raw", "-o", "parts", "--snapshot", "ai.parquet", "--subject", "s", "--part", "1/2"]
    assert consent(part) == 0
    assert len(begun) == 1, "most of the inputs are others' work"
    assert threading.active_count() == threads


@pytest.mark.parametrize("lacking", ["nothing", "raw/none.parquet", "raw/none*.parquet"])
def test_what_is_not_there_is_told_as_ever(
    world: World, raw: Path, lacking: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world.root)
    monkeypatch.setenv("CONSENT_LEDGER", "ledger")
    told = []
    for part in ([], ["--part", "1/2"]):
        answers = ["--snapshot", "ai.parquet", "--subject", "s", *part]
        told.append((consent(["filter", str(raw), lacking, "-o", "train", *answers]), capsys.readouterr()))
    assert told[0] == told[1] and told[0][0] == 2 and lacking in told[0][1].err
    assert not (world.root / "train").exists()


def test_one_that_is_no_shard_is_told_by_its_name(
    world: World, raw: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world.root)
    monkeypatch.setenv("CONSENT_LEDGER", "ledger")
    (raw / "d.parquet").write_bytes(b"")
    (raw / "e.parquet").symlink_to("nowhere")
    told = ["filter", "raw", "-o", "train", "--purpose", "ai", "--subject", "s"]
    assert consent(told) == 1
    assert "raw/d.parquet" in capsys.readouterr().err
    (raw / "d.parquet").unlink()
    assert consent(told) == 1
    assert "raw/e.parquet" in capsys.readouterr().err
    assert not (world.root / "train").exists()
