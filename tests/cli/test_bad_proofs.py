"""Snapshots and proofs that do not prove: stale, edited, of another ledger or purpose, cut, padded, flipped, by a stranger."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import ledger
from tests.cli.conftest import Refused, damaged
from tests.conftest import Outcome, yes

KEYS = ("--subject", "user_id")
BY_SNAPSHOT = ("--snapshot", "s.parquet", *KEYS)
PURPOSE = ("--purpose", "train-ai", *KEYS)


@pytest.fixture
def proofs(told: Callable[..., Outcome]) -> Callable[..., Outcome]:
    """A snapshot with its receipt, a run with its statement, an act's receipt; all of them verify."""
    assert told("snapshot", "--purpose", "train-ai", "-o", "s.parquet").code == 0
    assert told("filter", "raw", "-o", "train", *BY_SNAPSHOT).code == 0
    assert told("receipt", "e1", "-o", "e1.json").code == 0
    for good in ("s.parquet", "train", "e1.json"):
        assert told("verify", good).code == 0
    return told


@pytest.fixture
def other(tmp_path: Path) -> ledger.Ledger:
    """Another ledger, whose keys nobody here trusts, with the same acts and a snapshot, a run and a receipt of its own."""
    with ledger.create(tmp_path / "other") as book:
        book.declare_purpose("train-ai", title="T", description="D")
        book.record(yes("ann", event_id="e1"))
        (tmp_path / "theirs.json").write_bytes(book.receipt("e1"))
        snapshot = book.snapshot("train-ai", output=tmp_path / "theirs.parquet")
        consent = ledger.ConsentFilter(snapshot, ledger.Columns(subject="user_id"))
        consent.filter_shards([tmp_path / "raw"], tmp_path / "theirs", key=book.run_key(), admit=book.admit)
        return book


SNAPSHOT_USES = (("filter", "raw", "-o", "out", *BY_SNAPSHOT), ("audit", "raw", *BY_SNAPSHOT))


def test_a_snapshot_that_is_not_there(refused: Refused) -> None:
    for command in SNAPSHOT_USES:
        refused(*command, code=1, says=["cannot read s.parquet"], hint="consent snapshot")


@pytest.mark.parametrize("missing", ["s.parquet", "s.parquet.receipt"])
def test_half_a_snapshot(proofs: Callable[..., Outcome], refused: Refused, tmp_path: Path, missing: str) -> None:
    (tmp_path / missing).unlink()
    for command in SNAPSHOT_USES:
        refused(*command, code=1, says=[f"cannot read {missing}"], hint="consent snapshot")
    outcome = proofs("verify", "s.parquet")
    assert outcome.code == 4
    assert "s.parquet" in outcome.err


@pytest.mark.parametrize("part", ["s.parquet", "s.parquet.receipt"])
def test_an_edited_snapshot(proofs: Callable[..., Outcome], refused: Refused, tmp_path: Path, part: str) -> None:
    for _, bad in damaged((tmp_path / part).read_bytes()):
        (tmp_path / part).write_bytes(bad)
        for command in (*SNAPSHOT_USES, ("verify", "s.parquet")):
            refused(*command, code=4, says=["s.parquet"], hint="anew")


def test_a_stale_snapshot(proofs: Callable[..., Outcome], refused: Refused) -> None:
    for command in SNAPSHOT_USES:
        refused(*command, "--max-age", "0m", code=1, says=["old; it may be"], hint="--max-age")


def test_a_snapshot_of_another_ledger(proofs: Callable[..., Outcome], refused: Refused, other: ledger.Ledger) -> None:
    theirs = ("--snapshot", "theirs.parquet", *KEYS)
    for command in (("filter", "raw", "-o", "out", *theirs), ("audit", "raw", *theirs), ("verify", "theirs.parquet")):
        refused(*command, code=4, says=["theirs.parquet", "not signed by a key that is trusted"], hint=other.origin)


def test_a_snapshot_of_another_purpose(proofs: Callable[..., Outcome], tmp_path: Path) -> None:
    with pytest.raises(ledger.UsageError, match=r"is of train-ai@1, not of 'caption'") as raised:
        ledger.load_snapshot(tmp_path / "s.parquet", trust=tmp_path / "consent-ledger" / "trust", purpose="caption")
    assert "`consent snapshot --purpose caption`" in (raised.value.hint or "")


def test_the_receipt_of_another_snapshot(proofs: Callable[..., Outcome], refused: Refused, tmp_path: Path) -> None:
    assert proofs("snapshot", "--purpose", "caption", "-o", "c.parquet").code == 0
    shutil.copy(tmp_path / "c.parquet.receipt", tmp_path / "s.parquet.receipt")
    for command in (*SNAPSHOT_USES, ("verify", "s.parquet")):
        refused(*command, code=4, says=["s.parquet"], hint="consent snapshot")


@pytest.mark.parametrize(
    ("part", "what"), [("e1.json", "e1.json"), ("train.intoto.jsonl", "train"), ("train/a.parquet", "train")]
)
def test_a_damaged_proof(proofs: Callable[..., Outcome], refused: Refused, tmp_path: Path, part: str, what: str) -> None:
    for _, bad in damaged((tmp_path / part).read_bytes()):
        (tmp_path / part).write_bytes(bad)
        refused("verify", what, code=4, says=[what], hint="")
        if part == "train.intoto.jsonl":
            refused("verify", part, "--signature-only", "--allow-unlogged", code=4, says=[part], hint="")


@pytest.mark.parametrize("line", [0, 1])
def test_a_statement_with_a_line_too_few_or_too_many(
    proofs: Callable[..., Outcome], refused: Refused, tmp_path: Path, line: int
) -> None:
    path = tmp_path / "train.intoto.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 2
    path.write_bytes(lines[line])
    refused("verify", "train", code=4, says=["train"], hint="")
    path.write_bytes(b"".join(lines) + lines[line])
    refused("verify", "train", code=4, says=["train"], hint="")


@pytest.mark.parametrize("name", ["theirs.json", "theirs"])
def test_a_proof_by_a_stranger(refused: Refused, other: ledger.Ledger, name: str) -> None:
    says = [name, "not signed by a key that is trusted" if name == "theirs.json" else "trusted"]
    refused("verify", name, code=4, says=says, hint="trust")


def test_a_statement_whose_key_is_not_trusted_any_more(proofs: Callable[..., Outcome], refused: Refused, tmp_path: Path) -> None:
    lines = (tmp_path / "consent-ledger" / "trust").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "logs-only").write_text("".join(line for line in lines if line.startswith("log ")), encoding="utf-8")
    refused("verify", "train", "--trust", "logs-only", code=4, says=["train", "trusted"], hint="trust")


def test_a_statement_beside_the_shards_of_another_run(proofs: Callable[..., Outcome], refused: Refused, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "raw", tmp_path / "copy")
    shutil.copy(tmp_path / "train.intoto.jsonl", tmp_path / "copy.intoto.jsonl")
    refused("verify", "copy", code=4, says=["copy"], hint="")


def test_a_receipt_of_other_bytes_than_its_own(proofs: Callable[..., Outcome], refused: Refused, tmp_path: Path) -> None:
    """One canonical byte form: the same document written otherwise is refused too."""
    document = json.loads((tmp_path / "e1.json").read_bytes())
    (tmp_path / "e1.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    refused("verify", "e1.json", code=4, says=["e1.json"], hint="")


def test_what_is_no_proof(refused: Refused, tmp_path: Path) -> None:
    refused("verify", "nothing", code=4, says=["nothing"], hint="")
    refused("verify", "raw", code=4, says=["raw"], hint="")
    refused("verify", "raw", "--trust", "nowhere", code=2, says=["there is no trust file nowhere"], hint="--trust")
    (tmp_path / "trust").write_text("log nonsense\n", encoding="utf-8")
    refused("verify", "raw", "--trust", "trust", code=4, says=["line 1", "trust"], hint="")
    refused("receipt", "nope", "-o", "x.json", code=2, says=["'nope'"], hint="consent show")
