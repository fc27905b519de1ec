"""The set of subjects that a statement commits to, against one that is built from the shards' rows by hand."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ledger import ConsentFilter
from ledger.errors import IntegrityError
from ledger.log.prefix_tree import PrefixTree
from ledger.run import Run
from ledger.shards.columns import Columns
from ledger.shards.rewrite import ShardFile
from ledger.shards.subjects import SubjectText
from ledger.statements.verify import VerifiedStatement, open_statement
from tests.shards.world import World


def root_by_hand(seed: str, rows: dict[str, int]) -> str:
    def digest(data: bytes) -> bytes:
        return hashlib.sha256(data).digest()

    return (
        PrefixTree(
            (
                digest(b"consent-ledger/index/v1\n" + bytes.fromhex(seed) + subject.encode()),
                digest(b"consent-ledger/value/v1\n" + b'{"rows":%d}' % number),
            )
            for subject, number in rows.items()
        )
        .root()
        .hex()
    )


def stated(run: Run, world: World) -> VerifiedStatement:
    assert isinstance(run.statement, Path)
    return open_statement(run.statement.read_bytes(), world.book.trust)


def require_set(opened: VerifiedStatement, rows: dict[str, int]) -> None:
    subjects, logged = opened.record.subjects, opened.logged
    assert subjects is not None and logged is not None
    assert subjects["count"] == len(rows) and subjects["root"] == root_by_hand(subjects["seed"], rows)
    assert (logged.act["subjects_root"], logged.act["subjects_seed"]) == (subjects["root"], subjects["seed"])


def test_a_run_commits_to_the_subjects_of_kept_rows(world: World) -> None:
    a = world.shard("in/a.parquet", "yes", "no", "yes", "stranger")
    b = world.shard("in/b.parquet", "later", "yes")
    require_set(stated(world.run(a, b), world), {"yes": 3, "later": 1})
    # One again into the same folder goes on from the tree of the last, and so with its seed.
    first, second = (stated(world.run(a, b, output=name), world).record.subjects for name in ("out", "other"))
    assert first is not None and second is not None and first["seed"] != second["seed"]


def test_nothing_kept_is_the_empty_set(world: World) -> None:
    require_set(stated(world.run(world.shard("in/a.parquet", "no")), world), {})


def test_a_shard_that_a_second_run_skips_contributes(world: World) -> None:
    """As after a crash: the first shard is there and journalled, the second is not."""
    a, b = world.shard("in/a.parquet", "yes", "later"), world.shard("in/b.parquet", "yes")
    world.run(a, b)
    (world.root / "out/b.parquet").unlink()
    first = (world.root / "out/a.parquet").stat()

    again = world.run(a, b)
    then = (world.root / "out/a.parquet").stat()
    assert (then.st_ino, then.st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    require_set(stated(again, world), {"yes": 2, "later": 1})


def lists(world: World) -> Path:
    path = world.root / "in/lists.parquet"
    path.parent.mkdir(exist_ok=True)
    several = [["yes", "later", "yes"], ["yes"], ["yes", "no"], [], None, ["later", None]]
    table = pa.table({"s": pa.array(several, pa.list_(pa.string())), "t": ["later", "yes", "yes", "yes", "yes", "later"]})
    pq.write_table(table, path, row_group_size=4)
    return path


@pytest.mark.parametrize(
    ("subject", "expected"), [("s", {"yes": 2, "later": 1}), ("t", {"yes": 4, "later": 2}), (("s", "t"), {"yes": 2, "later": 1})]
)
def test_each_subject_counts_once_a_row(world: World, subject: Any, expected: dict[str, int]) -> None:
    columns = Columns(subject=subject)
    run = ConsentFilter(world.snapshot, columns).filter_shards(
        [lists(world)], world.root / "out", key=world.book.run_key(), admit=world.book.admit
    )
    require_set(stated(run, world), expected)
    text = SubjectText(columns)
    with ShardFile(world.root / "out/lists.parquet") as shard:
        text.add(shard)
    ids, rows = text.counts()
    assert dict(zip(ids.to_pylist(), rows.tolist(), strict=True)) == expected


def test_ids_are_those_of_the_ledger_prefix_included(world: World) -> None:
    world.yes("p:7")
    path = world.root / "in/n.parquet"
    path.parent.mkdir()
    pq.write_table(pa.table({"s": pa.array([7, 8, 7], pa.int32())}), path)
    columns = Columns(subject="s", subject_prefix="p:")
    run = ConsentFilter(world.freeze("ai", "newer"), columns).filter_shards(
        [path], world.root / "out", key=world.book.run_key(), admit=world.book.admit
    )
    require_set(stated(run, world), {"p:7": 2})


def test_an_audit_commits_to_all_subjects(world: World) -> None:
    world.shard("out/a.parquet", "yes", "later")
    world.shard("out/b.parquet", "yes")
    made = ConsentFilter(world.snapshot, Columns(subject="s")).attest_shards(
        world.root / "out", key=world.book.run_key(), admit=world.book.admit
    )
    assert isinstance(made.statement, Path)
    require_set(open_statement(made.statement.read_bytes(), world.book.trust), {"yes": 2, "later": 1})


def test_text_is_added_up_over_many_row_groups(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.shards.subjects._MERGE", 3)
    subjects = [f"u{number % 7}" for number in range(50)]
    path = world.root / "x.parquet"
    pq.write_table(pa.table({"s": subjects}), path, row_group_size=4)
    text = SubjectText(Columns(subject="s"))
    with ShardFile(path) as shard:
        text.add(shard)
    ids, rows = text.counts()
    assert dict(zip(ids.to_pylist(), rows.tolist(), strict=True)) == Counter(subjects)


def test_a_row_without_a_subject_is_no_kept_row(world: World) -> None:
    path = world.root / "x.parquet"
    pq.write_table(pa.table({"s": ["yes", None]}), path)
    with ShardFile(path) as shard, pytest.raises(IntegrityError, match="without a subject"):
        SubjectText(Columns(subject="s")).add(shard)
