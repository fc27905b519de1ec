"""A run again is a full run: whatever changed in the ledger, and whatever was broken off, edited or replaced in between."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import rerun, times
from ledger.consent import Event
from ledger.errors import UsageError
from ledger.filter import ConsentFilter
from ledger.folding import compile_rows
from ledger.log import canonical, dsse
from ledger.log.keys import PrivateKey
from ledger.rerun import Indexed, begin
from ledger.shards import index_folder
from ledger.shards.answers import Answers
from ledger.shards.columns import Columns
from ledger.shards.held import meet
from ledger.shards.index_folder import IndexFolder
from ledger.shards.journal import Journal
from ledger.shards.publish import HashingSink
from ledger.shards.rewrite import ShardFile
from ledger.shards.subject_index import Hasher, Known
from ledger.shards.subjects import KeptSubjects, SubjectText, tree_of
from ledger.snapshot import Header, Snapshot, freeze
from ledger.statements.statement import run_of
from ledger.statements.verify import statement_path, verify
from tests.shards.deciding import ANSWERS, act
from tests.shards.test_decide import SUBJECTS, T0, day, document, events, rows
from tests.shards.world import World

KEY = PrivateKey.generate()
COLUMNS = Columns(subject=("subject", "others"), content="content", category="category", created="created")
SCHEMA = pa.schema(
    [
        ("subject", pa.string()),
        ("others", pa.list_(pa.string())),
        ("category", pa.string()),
        ("content", pa.string()),
        ("created", pa.timestamp("us")),
    ]
)
NOTE = "x\n7\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n— x AAAA\n"


class Killed(BaseException):
    """As by a signal: nothing but `finally` runs."""


class Deaths:
    """Ends the process, as it were, at the n-th of the moments between which something is on disk and something is not yet."""

    def __init__(self, stack: ExitStack, at: int | None) -> None:
        self.left = at
        for owner, name in (
            (HashingSink, "publish"),
            (IndexFolder, "write"),
            (IndexFolder, "keep_only"),
            (Journal, "finish"),
            (Journal, "note"),
        ):
            original = getattr(owner, name)

            def dying(*args: Any, original: Any = original, **options: Any) -> Any:
                self.step()
                done = original(*args, **options)
                self.step()
                return done

            stack.enter_context(mock.patch.object(owner, name, dying))

    def step(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Killed


def table(drawn: list[dict[str, Any]]) -> pa.Table:
    columns = {name: [row[name] for row in drawn] for name in SCHEMA.names}
    columns["others"] = [row["others"] if row["others"] is not None else ["ann"] for row in drawn]
    columns["created"] = [row["created"] and row["created"].replace(tzinfo=None) for row in drawn]
    return pa.table(columns, SCHEMA)


def snapshot_of(history: list[Event], accepts: tuple[int, ...], now: datetime) -> Snapshot:
    compiled = compile_rows(enumerate(map(document, history)), "ai", accepts, now)
    header = Header("x", "ai@2", (), NOTE, now, now, {})
    return replace(freeze(header, compiled)[0], receipt=b"receipt\n")


def filtered(
    snapshot: Snapshot, raw: Path, output: Path, now: datetime, begun: datetime | None = None, **options: Any
) -> tuple[dict[str, Any], list[str]]:
    """The statement's payload, and which files were opened. begun: when what hangs on the answers alone was, before the run."""
    opened: list[str] = []
    original = ShardFile.__init__

    def noting(self: ShardFile, path: Any, **known: Any) -> None:
        opened.append(str(path))
        original(self, path, **known)

    if begun is not None:
        with mock.patch.object(times, "now", lambda: begun):
            begin(snapshot, output)
    with mock.patch.object(times, "now", lambda: now), mock.patch.object(ShardFile, "__init__", noting):
        ConsentFilter(snapshot, COLUMNS, now).filter_shards([raw], output, key=KEY, workers=1, **options)
    payload = dsse.open_envelope(statement_path(output).read_bytes().split(b"\n")[0], [KEY.public], limit=1 << 20)
    return canonical.decode(payload), opened


def same_as_a_full_run(statement: dict[str, Any], output: Path, snapshot: Snapshot, raw: Path, now: datetime) -> None:
    """Bytes and statement, but for the run's id and the seed of its set of subjects, whose root is that of the output."""
    fresh = Path(tempfile.mkdtemp(dir=output.parent))
    full, _ = filtered(snapshot, raw, fresh / "out", now)
    assert {p.name: p.read_bytes() for p in output.iterdir()} == {p.name: p.read_bytes() for p in (fresh / "out").iterdir()}
    shutil.rmtree(fresh)
    people = SubjectText(COLUMNS)
    for path in sorted(output.iterdir()):
        with ShardFile(path) as shard:
            people.add(shard)
    said = statement["predicate"]["subjects"]
    assert people.tree(bytes.fromhex(said["seed"])).root().hex() == said["root"]
    assert run_of(statement).digests == {
        p.name: index_folder.sha256(p.read_bytes()).hexdigest() for p in output.iterdir()
    }
    for one in (statement, full):
        one["predicate"] |= {"run_id": "", "subjects": {"count": one["predicate"]["subjects"]["count"]}}
    assert statement == full


def flip(path: Path, where: float, bit: int) -> None:
    """A bit of a file, which a run that was killed may not have come to."""
    data = bytearray(path.read_bytes() if path.exists() else b"")
    if data:
        data[int(where * len(data))] ^= 1 << bit
        path.write_bytes(data)


def in_its_place(path: Path, data: bytes) -> None:
    """Other bytes under the same name and the same time, as far as anybody can set one."""
    before = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@st.composite
def harms(draw: st.DrawFn) -> tuple[Any, ...]:
    """What befalls the files between two runs."""
    of_index, of_others = ["index", "lost", "swapped", "salt", "truncated"], ["journal", "output", "replaced", "input", "dropped"]
    kind = draw(st.sampled_from(of_index + of_others))
    return kind, draw(st.floats(0, 0.999)), draw(st.integers(0, 7)), draw(st.integers(0, 99))


def harm(kind: str, where: float, bit: int, pick: int, out: Path, raw: Path) -> None:
    time.sleep(0.02)  # a clock's tick: within one nobody can tell that a file was written again
    held = sorted(path for path in index_folder.index_folder(out).glob("*") if path.name != "salt")
    outputs, inputs = sorted(out.iterdir()), sorted(raw.iterdir())
    if not outputs:
        return
    one, output = held[pick % len(held)] if held else None, outputs[pick % len(outputs)]
    if kind == "index" and one:
        flip(one, where, bit)
    elif kind == "truncated" and one:
        one.write_bytes(one.read_bytes()[: int(where * one.stat().st_size)])
    elif kind == "lost" and one:
        one.unlink()
    elif kind == "swapped" and one:
        shutil.copyfile(held[int(where * len(held))], out.parent / "t")
        (out.parent / "t").replace(one)
    elif kind == "salt":
        flip(index_folder.index_folder(out) / "salt", where, bit)
    elif kind == "journal":
        flip(out.with_name("out.journal.jsonl"), where, bit)
    elif kind == "output":
        data = bytearray(output.read_bytes())
        data[int(where * len(data))] ^= 1 << bit
        in_its_place(output, bytes(data))
    elif kind == "replaced":
        shutil.copyfile(outputs[int(where * len(outputs))], out.parent / "t")
        (out.parent / "t").replace(output)
    elif kind == "dropped":
        output.unlink()
    elif kind == "input":
        source = inputs[pick % len(inputs)]
        was = pq.read_table(source)
        turned = was.take(pa.array(np.roll(np.arange(len(was)), 1)))
        pq.write_table(turned, out.parent / "t")
        in_its_place(source, (out.parent / "t").read_bytes())
        (out.parent / "t").unlink()


HISTORIES = given(
    history=st.lists(events(), max_size=30),
    shards=st.lists(st.lists(rows, min_size=1, max_size=8), min_size=1, max_size=5),
    steps=st.lists(
        st.tuples(
            st.integers(0, 12),  # more acts
            st.integers(0, 6),  # days later
            st.sampled_from([(2,), (1, 2)]),  # which yeses are accepted
            st.none() | st.sampled_from(SUBJECTS),  # erased
            st.none() | st.integers(0, 30),  # dies
            st.none() | st.integers(-1, 6),  # begun so many days before
            st.none() | harms(),
        ),
        min_size=2,
        max_size=5,
    ),
)


def a_run_again_is_a_full_run(history: list[Event], shards: Any, steps: Any) -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        stack.enter_context(mock.patch.object(index_folder, "_FINE", -(1 << 62)))
        stack.enter_context(mock.patch.object(index_folder, "_COARSE", -(1 << 62)))
        raw, out = Path(folder, "raw"), Path(folder, "out")
        raw.mkdir()
        for number, drawn in enumerate(shards):
            pq.write_table(table(drawn), raw / f"{number}.parquet", row_group_size=3)
        known, now, erased = 0, T0, set[str]()
        for more, later, accepts, gone, dies, ahead, harmed in steps:
            known, now = known + more, now + timedelta(days=later, seconds=1)
            erased |= {gone} if gone else set()
            acts = [e for e in history[:known] if e.subject_id not in erased]
            snapshot = snapshot_of(acts, accepts, now)
            begun = None if ahead is None else now - timedelta(days=ahead)
            if dies is not None:
                with ExitStack() as deaths, suppress(Killed):
                    Deaths(deaths, dies)
                    filtered(snapshot, raw, out, now, begun)
            else:
                statement, _ = filtered(snapshot, raw, out, now, begun)
                same_as_a_full_run(statement, out, snapshot, raw, now)
            if harmed is not None and index_folder.index_folder(out).is_dir() and out.is_dir() and any(out.iterdir()):
                harm(*harmed, out, raw)
        statement, _ = filtered(snapshot, raw, out, now)
        same_as_a_full_run(statement, out, snapshot, raw, now)
        statement, opened = filtered(snapshot, raw, out, now)
        assert opened == [], "nothing had changed"
        same_as_a_full_run(statement, out, snapshot, raw, now)


@settings(deadline=None, max_examples=8)
@HISTORIES
def test_a_run_again_is_a_full_run(history: list[Event], shards: Any, steps: Any) -> None:
    a_run_again_is_a_full_run(history, shards, steps)


@pytest.mark.soak
@settings(deadline=None, max_examples=40)
@HISTORIES
def test_a_run_again_is_a_full_run_of_many(history: list[Event], shards: Any, steps: Any) -> None:
    a_run_again_is_a_full_run(history, shards, steps)


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards that were written just now count as settled."""
    monkeypatch.setattr(index_folder, "_FINE", -(1 << 62))
    monkeypatch.setattr(index_folder, "_COARSE", -(1 << 62))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The shards that were opened since it was cleared."""
    names: list[str] = []
    original = ShardFile.__init__

    def noting(self: ShardFile, path: Any, **known: Any) -> None:
        names.append(Path(path).name)
        original(self, path, **known)

    monkeypatch.setattr(ShardFile, "__init__", noting)
    return names


def four(world: World) -> Path:
    for name, people in {"a": ["yes", "no"], "b": ["later", "x", "later"], "c": ["x"], "d": ["yes", "later"]}.items():
        world.shard(f"in/{name}.parquet", *people)
    return world.root / "in"


def test_one_withdrawal_opens_the_shards_of_that_person_alone(world: World, settled: None, opened: list[str]) -> None:
    raw = four(world)
    world.run(raw)
    world.book.withdraw("later", purposes=["ai"])
    opened.clear()
    again = world.run(raw, snapshot=world.freeze("ai", "then"))
    assert set(opened) == {"b.parquet", "d.parquet"}
    assert world.read("out/d.parquet") == ["yes"] and world.read("out/b.parquet") == []
    assert (again.record.rows_in, again.record.rows_kept) == (8, 2)
    world.yes("later")
    world.yes("x")
    opened.clear()
    world.run(raw, snapshot=world.freeze("ai", "third"))
    assert set(opened) == {"b.parquet", "c.parquet", "d.parquet"}, "of a stranger who became known, too"
    verify(world.root / "out", trust=world.book.trust)


def test_a_yes_that_runs_out_is_a_change_of_the_same_snapshot(world: World, settled: None, opened: list[str]) -> None:
    world.yes("short", expires_at=times.now() + timedelta(seconds=60))
    raw = four(world)
    world.shard("in/e.parquet", "short")
    snapshot = world.freeze("ai", "then")
    world.run(raw, snapshot=snapshot)
    assert world.read("out/e.parquet") == ["short"]
    opened.clear()
    later = times.now() + timedelta(seconds=61)
    with mock.patch.object(times, "now", lambda: later):
        ConsentFilter(snapshot, Columns(subject="s")).filter_shards([raw], world.root / "out", key=world.book.run_key())
    assert set(opened) == {"e.parquet"} and world.read("out/e.parquet") == []


def test_what_was_begun_is_taken_by_one_run_where_it_is_of_its_answers_and_index(
    world: World, settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.yes("short", expires_at=times.now() + timedelta(seconds=60))
    raw, made = four(world), list[Indexed]()
    world.shard("in/e.parquet", "short")
    snapshot = world.freeze("ai", "then")
    world.run(raw, snapshot=snapshot)
    original = Indexed.__init__

    def noting(self: Indexed, *of: Any) -> None:
        original(self, *of)
        made.append(self)

    with mock.patch.object(Indexed, "__init__", noting):
        for late, salt, own in ((0, b"", 0), (0, b"s" * 32, 1), (61, b"", 1)):
            made.clear()
            begin(snapshot, world.root / "out")
            for begun in list(rerun._begun.values()):
                begun.result()
            if salt:
                (world.root / "out.index" / "salt").write_bytes(salt)
            later = times.now() + timedelta(seconds=late)
            with mock.patch.object(times, "now", lambda later=later: later):
                world.run(raw, snapshot=snapshot)
                assert len(made) == 1 + own
                world.run(raw, snapshot=snapshot)
                assert len(made) == 1 + own + 1, "it was for one run"
            assert world.read("out/e.parquet") == ([] if late else ["short"])
        made.clear()
        monkeypatch.chdir(world.root / "out")
        begin(snapshot, Path())
        ConsentFilter(snapshot, Columns(subject="s")).filter_shards([raw], ".", key=world.book.run_key())
        assert len(made) == 1, "a folder without a name is that one"


def test_what_was_written_a_moment_ago_is_read_again(world: World, opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Within one tick of the clock it could be written twice."""
    monkeypatch.setattr(index_folder, "_FINE", 1 << 62)
    raw = four(world)
    world.run(raw)
    opened.clear()
    world.run(raw)
    assert set(opened) == {"a.parquet", "b.parquet", "c.parquet", "d.parquet"}


def test_the_index_is_private_and_what_it_does_not_need_goes(world: World, settled: None) -> None:
    raw = four(world)
    for number in range(3):
        world.run(raw, snapshot=world.freeze("ai", f"s{number}"))
        world.book.withdraw(f"other-{number}", purposes=["ai"])
    index = world.root / "out.index"
    assert oct(index.stat().st_mode)[-3:] == "700"
    assert {oct(path.stat().st_mode)[-3:] for path in index.iterdir()} == {"600"}
    kinds = sorted(path.suffix for path in index.iterdir())
    assert kinds == ["", ".answers", ".kept", ".run", *[".subjects"] * 4, ".tree"]
    held = b"".join(path.read_bytes() for path in index.iterdir() if path.suffix != ".run")
    assert not any(name in held for name in (b"yes", b"later", b"other-"))


def test_an_index_that_was_lost_is_made_again(world: World, settled: None, opened: list[str]) -> None:
    raw = four(world)
    first = world.run(raw)
    shutil.rmtree(world.root / "out.index")
    again = world.run(raw)
    assert again.record.shards == first.record.shards
    world.book.withdraw("later", purposes=["ai"])
    opened.clear()
    world.run(raw, snapshot=world.freeze("ai", "then"))
    assert set(opened) == {"b.parquet", "d.parquet"}


@pytest.mark.parametrize("make", ["file", "link"])
def test_something_else_of_that_name_is_left_alone(world: World, make: str) -> None:
    index = world.root / "out.index"
    (world.root / "mine").mkdir()
    index.write_text("mine") if make == "file" else index.symlink_to(world.root / "mine")
    with pytest.raises(UsageError, match=r"out\.index is where a run keeps its index"):
        world.run(four(world))
    assert not (world.root / "out").exists() and not list((world.root / "mine").iterdir())


def test_exclusions_tell_of_all_rows_again(world: World, settled: None) -> None:
    raw = four(world)
    world.run(raw)
    world.run(raw, exclusions=world.root / "dropped.parquet")
    assert pq.read_table(world.root / "dropped.parquet").num_rows == 3


def test_a_line_of_another_key_spares_nothing(world: World, settled: None, opened: list[str]) -> None:
    raw = four(world)
    consent = ConsentFilter(world.snapshot, Columns(subject="s"))
    consent.filter_shards([raw], world.root / "out", key=PrivateKey.generate())
    opened.clear()
    world.run(raw)
    assert {"a.parquet", "b.parquet", "c.parquet", "d.parquet"} <= set(opened)


def test_metadata_that_was_dropped_is_still_told(world: World, settled: None) -> None:
    raw = four(world)
    shard = pq.read_table(raw / "a.parquet").replace_schema_metadata({"notes": "x"})
    pq.write_table(shard, raw / "a.parquet")
    first = world.run(raw, drop_metadata=["notes", "none"])
    again = world.run(raw, drop_metadata=["notes", "none"])
    assert first.record.warnings == again.record.warnings and "'none'" in again.record.warnings[-1]


def test_hashes_do_not_change_from_release_to_release() -> None:
    """An index of an older release would else be taken for what it is not."""
    hasher = Hasher(bytes(range(32)))
    known = Known.of(ANSWERS, hasher)
    assert known.is_exact and len(known.keys) == ANSWERS.unknown
    ids = pa.array(["yes", "é", "u" * 600, ""], pa.large_string())
    assert [f"{h:016x}" for h in hasher.ids(ids).tolist()] == IDS
    assert index_folder.sha256(known.packed()).hexdigest() == PACKED


IDS = ["242fa87fac90d3de", "317c67ffb2de9c4e", "b0cab9fb931d3c30", "348b10886da1288e"]
PACKED = "947ecee85d49e4e991f1214b4e1e7d63a09736cb79f9a68d9feb1ee1945f6062"


def test_meet() -> None:
    keys = np.array([2, 5, 9, 2**64 - 1], np.uint64)
    for some in ([], [1], [9, 10], [5, 6, 7, 8], [2**64 - 1], [0, 2, 3, 5, 6, 9, 10], [1, 3, 4, 6, 7, 2**64 - 2]):
        assert meet(np.array(some, np.uint64), keys).tolist() == [int(key) in some for key in keys]
        assert meet(keys, np.array(some, np.uint64)).tolist() == [key in keys.tolist() for key in some]


@pytest.mark.parametrize("people", [1, 2, 3, 40, 3000])
def test_the_root_at_the_cost_of_what_changed(people: int) -> None:
    """Against the tree that is made of all of them, over and over: people come, go, and have more rows or fewer."""
    random = np.random.default_rng(people)
    names = [f"p{number}" for number in range(people + 20)]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        journal = Journal(Path(folder, "journal"), KEY)
        run: dict[str, Any] = {}
        seeds = set()
        for step in range(6):
            known = [name for name in names if random.random() < 0.9 or step == 5]
            history = [act("given", name, 0) for name in known]
            answers = Answers(compile_rows(enumerate(history), "ai", (1,), day(9)), day(9))
            indexed = Indexed(IndexFolder.of(out), answers)
            indexed.run = run
            counted = KeptSubjects(answers)
            rows = {name: 3 + (hash((name, step // 2)) % 50 == 0) for name in known if random.random() < 0.98}
            counted.add(np.repeat(answers.subjects(pa.array(list(rows), pa.large_string())), list(rows.values())))
            said = indexed.commit(counted)
            text = pa.array(list(rows), pa.large_string())
            expected = tree_of(text, np.array(list(rows.values()), np.int64), bytes.fromhex(said["seed"])).root()
            assert (said["root"], said["count"]) == (expected.hex(), len(rows))
            indexed.end(journal, {}, counted.rows, day(9))
            (left,) = out.with_name("out.index").glob("*.run")
            run = indexed.folder.read_run(left.stem) or {}
            seeds.add(said["seed"])
        assert len(seeds) < 6 or people == 1, "the tree was carried on"
