"""A cluster's job from end to end, as its people would run it: ranks at once, one seal, one entry in the log."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import ledger
from tests.conftest import Outcome

KEYS = ("--subject", "user_id", "--content", "post_id")
ELSEWHERE = ("--snapshot", "s.parquet", "--trust", "trust", *KEYS, "--run-key", "spark.key")


@pytest.fixture
def cluster(told: Callable[..., Outcome], shard: Callable[..., Path], tmp_path: Path) -> Callable[..., Outcome]:
    """What ranks are given: seven shards, a snapshot, a trust file and a run key that the ledger has admitted. No ledger."""
    for number in range(7):
        shard(f"raw/{number}.parquet", user_id=["ann", "bob"], post_id=["p1", "p2"], number=[number, number])
    (tmp_path / "raw/a.parquet").unlink()
    assert told("snapshot", "--purpose", "train-ai", "-o", "s.parquet").code == 0
    assert told("key", "add-run", "spark", "-o", "spark.key").code == 0
    shutil.copy(tmp_path / "consent-ledger/trust", tmp_path / "trust")
    (tmp_path / "consent-ledger").rename(tmp_path / "at-home")
    return told


def test_ranks_at_once_one_seal_one_entry(cluster: Callable[..., Outcome], tmp_path: Path) -> None:
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "ledger.cli", "filter", "raw", "-o", "train", *ELSEWHERE, "--part", f"{number}/4"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(1, 5)
    ]
    for rank in ranks:
        _, told = rank.communicate(timeout=120)
        assert rank.returncode == 0, told
        assert "of 4 is journalled" in told
    assert not (tmp_path / "train.intoto.jsonl").exists()

    sealed = cluster("attest", "train", *ELSEWHERE, "--recipient", "Lab", "--format", "json")
    assert sealed.code == 0, sealed.err
    assert "not logged: `consent admit`" in sealed.err
    assert json.loads(sealed.out)["rows"] == 7
    assert cluster("verify", "train", "--trust", "trust").code == 4
    assert cluster("verify", "train", "--trust", "trust", "--allow-unlogged").code == 0

    (tmp_path / "at-home").rename(tmp_path / "consent-ledger")
    logged = cluster("admit", "train")
    assert (logged.code, logged.err) == (0, "train.intoto.jsonl: logged; its receipt is the second line\n")
    size = ledger.fsck(tmp_path / "consent-ledger").size
    before = (tmp_path / "train.intoto.jsonl").read_bytes()
    again = cluster("admit", "train.intoto.jsonl")
    assert (again.code, again.err) == (0, "train.intoto.jsonl: was logged before; nothing was changed\n")
    assert ledger.fsck(tmp_path / "consent-ledger").size == size
    assert (tmp_path / "train.intoto.jsonl").read_bytes() == before
    verified = cluster("verify", "train", "--trust", "trust")
    assert verified.code == 0
    assert "it is of an audit" in verified.out
    # A line that was lost on the way comes back from the log.
    (tmp_path / "train.intoto.jsonl").write_bytes(before.splitlines(keepends=True)[0])
    assert "was logged before; its receipt is the second line" in cluster("admit", "train").err
    assert (tmp_path / "train.intoto.jsonl").read_bytes() == before
    assert pq.read_table(tmp_path / "train")["number"].to_pylist() == list(range(7))
    audited = cluster("audit", "train", "--purpose", "train-ai")
    assert audited.code == 0, "the columns are the statement's"


def test_a_part_that_was_killed_is_missed_by_name(cluster: Callable[..., Outcome]) -> None:
    for number in (1, 3):
        assert cluster("filter", "raw", "-o", "train", *ELSEWHERE, "--part", f"{number}/3").code == 0
    half = cluster("attest", "train", *ELSEWHERE)
    assert half.code == 1
    assert "error: train was begun in 3 parts, and these are not finished, as this run key's journals tell: 2\n" in half.err
    assert "hint: run these parts again" in half.err


def test_a_ledger_at_hand_logs_what_an_admitted_key_signs(cluster: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "at-home").rename(tmp_path / "consent-ledger")
    assert cluster("filter", "raw", "-o", "train", "--purpose", "train-ai", *KEYS, "--run-key", "spark.key").code == 0
    assert cluster("verify", "train").code == 0
    refused = cluster("attest", "train", "--purpose", "train-ai", *KEYS)
    assert refused.code == 2
    assert "not the statement of an audit" in refused.err
    (tmp_path / "train.intoto.jsonl").unlink()
    assert "logged\n" in cluster("attest", "train", "--purpose", "train-ai", *KEYS, "--run-key", "spark.key").err
    assert cluster("key", "end", "spark").err.startswith("spark: ended\n")
    assert cluster("key", "end", "spark").err.startswith("spark: was ended before; nothing was recorded\n")
    unlogged = cluster("attest", "train", "--purpose", "train-ai", *KEYS, "--run-key", "spark.key")
    assert unlogged.code == 0
    assert "not logged" in unlogged.err
    late = cluster("admit", "train")
    assert late.code == 4
    assert "no statement of an admitted run key" in late.err
    assert "admitted: " in late.err


def test_the_data_are_not_clean(cluster: Callable[..., Outcome], tmp_path: Path) -> None:
    outcome = cluster("attest", "raw", *ELSEWHERE)
    assert outcome.code == 3
    assert "raw/0.parquet: 1 of 2 rows without consent\n" in outcome.out
    assert "not compliant: 7 of 14 rows without consent\nno statement" in outcome.err
    assert not (tmp_path / "raw.intoto.jsonl").exists()
    document = json.loads(cluster("attest", "raw", *ELSEWHERE, "--format", "json").out)
    assert (document["compliant"], document["statement"]) == (False, None)


@pytest.mark.parametrize("part", ["0/3", "4/3", "3", "1/0", "a/b", "-1/3", "1/3/4", "1/1000000"])
def test_no_part(cluster: Callable[..., Outcome], part: str, tmp_path: Path) -> None:
    outcome = cluster("filter", "raw", "-o", "train", *ELSEWHERE, f"--part={part}")
    assert outcome.code == 2
    assert "no part" in outcome.err
    assert not (tmp_path / "train").exists()


def test_a_part_of_answers_that_are_compiled_now_is_refused(cluster: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "at-home").rename(tmp_path / "consent-ledger")
    size = ledger.fsck(tmp_path / "consent-ledger").size
    outcome = cluster("filter", "raw", "-o", "train", "--purpose", "train-ai", *KEYS, "--part", "1/3")
    assert outcome.code == 2
    assert "all are decided by the same answers" in outcome.err
    assert ledger.fsck(tmp_path / "consent-ledger").size == size


# Keys


def test_a_key_is_made_taken_from_a_file_or_from_its_public_half(told: Callable[..., Outcome], tmp_path: Path) -> None:
    made = told("key", "add-run", "spark")
    assert made.code == 0
    private = tmp_path / "consent-ledger/spark.key"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert made.out.startswith("run consent-ledger/")
    assert made.out in told("key", "show").out
    with ledger.create(tmp_path / "other") as other:
        theirs = other.trust.run[0].vkey
    by_file = told("key", "add-run", "ray", "--key", tmp_path / "other/run.key")
    assert by_file.code == 0
    assert by_file.out.rpartition("+")[2].strip() == theirs.rpartition("+")[2]
    assert told("key", "add-run", "ray", "--vkey", theirs).code == 0, "it is there already"
    taken = told("key", "add-run", "dask", "--vkey", theirs)
    assert taken.code == 2
    assert "in use as" in taken.err
    assert ledger.fsck(tmp_path / "consent-ledger").acts == 6


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["add-run", "run"], 2, "called run already"),
        (["add-run", "a b"], 2, "no name for a key"),
        (["add-run", "../x"], 2, "no name for a key"),
        (["add-run", "x", "--vkey", "x"], 4, "not a verifier key"),
        (["add-run", "x", "--key", "none"], 1, "cannot read none"),
        (["add-run", "x", "-o", "raw"], 1, "cannot create raw"),
        (["add-run", "log"], 1, "cannot create"),
        (["add-run", "x", "-o", "f", "--key", "g"], 2, "exclude each other"),
        (["end", "x"], 2, "no run key is called 'x'"),
    ],
)
def test_bad_keys_change_nothing(
    told: Callable[..., Outcome], tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    before = {path: path.read_bytes() for path in (tmp_path / "consent-ledger").iterdir() if path.suffix in ("", ".key")}
    outcome = told("key", *arguments)
    assert (outcome.code, said in outcome.err) == (code, True), outcome.err
    assert "hint: " in outcome.err
    for path, content in before.items():
        assert path.read_bytes() == content
    assert ledger.fsck(tmp_path / "consent-ledger").acts == 4


# Admitting


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "JSON"), (b"x\n", "JSON"), (b"{}\n", "DSSE"), (b"{}\n{}\n", "second line"), (None, "cannot read")],
)
def test_what_is_no_statement_is_not_logged(
    told: Callable[..., Outcome], tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = tmp_path / "x.intoto.jsonl"
    if content is not None:
        path.write_bytes(content)
    outcome = told("admit", "x.intoto.jsonl")
    assert outcome.code == 4
    assert said in outcome.err
    assert content is None or path.read_bytes() == content
    assert ledger.fsck(tmp_path / "consent-ledger").acts == 4


def test_the_second_line_of_another_history_is_kept(told: Callable[..., Outcome], tmp_path: Path) -> None:
    """It is what proves that there are two."""
    shutil.copytree(tmp_path / "consent-ledger", tmp_path / "fork")
    (tmp_path / "raw/a.parquet").rename(tmp_path / "a.parquet")
    assert told("--ledger", "fork", "filter", "a.parquet", "-o", "out", "--purpose", "train-ai", *KEYS).code == 0
    before = (tmp_path / "out.intoto.jsonl").read_bytes()
    outcome = told("admit", "out")
    assert outcome.code == 4
    assert "keep it, it is evidence" in outcome.err
    assert (tmp_path / "out.intoto.jsonl").read_bytes() == before
