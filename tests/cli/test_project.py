"""consent.toml at the command line: what it adds, what wins over it, and what it must not do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

TOML = """
trust = "consent-ledger/trust"
snapshot = "s.parquet"

[columns.posts]
subject = "user_id"
content = "post_id"
"""
ACTS = """state,subject_id,content_id,purposes,occurred_at
given,ann,,train-ai,2026-01-01T00:00:00Z
given,bob,,train-ai,2026-01-01T00:00:00Z
withdrawn,bob,p3,train-ai,2026-02-01T00:00:00Z
"""


@pytest.fixture
def project(consent: Callable[..., Any], shard: Callable[..., Path], tmp_path: Path) -> Callable[..., Any]:
    """A ledger, a shard of which the first two of four rows are allowed, a snapshot and a consent.toml."""
    shard("raw/a.parquet", user_id=["ann", "bob", "bob", "cem"], post_id=["p1", "p2", "p3", "p4"])
    (tmp_path / "acts.csv").write_text(ACTS, encoding="utf-8")
    (tmp_path / "consent.toml").write_text(TOML, encoding="utf-8")
    assert consent("init").code == 0
    assert consent("purpose", "add", "train-ai", "--title", "T", "--description", "D").code == 0
    assert consent("import", "acts.csv").code == 0
    assert consent("snapshot", "--purpose", "train-ai", "-o", "s.parquet").code == 0
    return consent


def test_columns_snapshot_and_trust_come_from_it_and_stderr_says_so(project: Callable[..., Any], tmp_path: Path) -> None:
    says = (
        f"{tmp_path / 'consent.toml'} says: columns posts, snapshot {tmp_path / 's.parquet'}, trust {tmp_path / 'consent-ledger'}"
    )
    for line, code in (
        (["filter", "raw", "-o", "train"], 0),
        (["audit", "raw"], 3),
        (["explain", "raw/a.parquet", "--row", "2"], 0),
    ):
        outcome = project(*line, "--columns", "posts")
        assert outcome.code == code, outcome.err
        assert says in outcome.err
    assert pq.read_table("train/a.parquet")["post_id"].to_pylist() == ["p1", "p2"]


def test_options_win(project: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "consent.toml").write_text(TOML.replace("s.parquet", "none.parquet").replace("/trust", "/none"), encoding="utf-8")
    keys = ("--subject", "user_id", "--content", "post_id")
    assert project("audit", "raw", *keys).code == 1, "the snapshot that it names is missing"
    good = project("audit", "raw", *keys, "--snapshot", "s.parquet", "--trust", "consent-ledger/trust")
    assert good.code == 3
    assert "says" not in good.err
    assert project("audit", "raw", *keys, "--snapshot", "s.parquet").code == 4, "the trust file that it names is missing"
    assert project("--ledger", "consent-ledger", "audit", "raw", *keys, "--snapshot", "s.parquet").code == 3
    fresh = project("audit", "raw", "--columns", "posts", "--purpose", "train-ai")
    assert fresh.code == 3
    assert "says: columns posts\n" in fresh.err, "--purpose excludes the snapshot of consent.toml"


def test_a_file_that_is_not_asked_is_not_even_read(project: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "consent.toml").write_text("no TOML", encoding="utf-8")
    assert project("audit", "raw", "--purpose", "train-ai", "--subject", "user_id").code == 3
    assert project("show", "ann").code == 0
    asked = project("audit", "raw", "--purpose", "train-ai", "--columns", "posts")
    assert asked.code == 2
    assert "no TOML" in asked.err


@pytest.mark.parametrize(
    "option", ["--subject=x", "--content=x", "--category==x", "--created=x", "--created-unit=s", "--subject-prefix=x"]
)
def test_columns_by_name_and_by_option_exclude_each_other(project: Callable[..., Any], option: str) -> None:
    for command in (["filter", "raw", "-o", "out"], ["audit", "raw"], ["explain", "raw/a.parquet", "--row", "0"]):
        outcome = project(*command, "--columns", "posts", option)
        assert outcome.code == 2
        assert f"--columns posts and {option.split('=')[0]} both say" in outcome.err
    assert not Path("out").exists()


def test_columns_that_are_not_there(project: Callable[..., Any], tmp_path: Path) -> None:
    outcome = project("audit", "raw", "--columns", "photos")
    assert outcome.code == 2
    assert "no [columns.photos]" in outcome.err
    assert "hint: it has: posts" in outcome.err
    (tmp_path / "consent.toml").unlink()
    outcome = project("audit", "raw", "--columns", "posts")
    assert outcome.code == 2
    assert "there is no consent.toml here or above" in outcome.err


def test_a_stale_snapshot_from_it_is_refused_as_any(project: Callable[..., Any]) -> None:
    assert project("filter", "raw", "-o", "out", "--columns", "posts", "--max-age", "0m").code == 1
    assert not Path("out").exists()


def test_another_users_file_above_stops_the_command(project: Callable[..., Any], tmp_path: Path) -> None:
    """As one planted in /tmp would: its columns could name a person who said yes to everything."""
    if os.geteuid() != 0:
        pytest.skip("only root can make another user's file")
    os.chown(tmp_path / "consent.toml", 12345, 12345)
    for command in (["filter", "raw", "-o", "out", "--columns", "posts"], ["audit", "raw", "--subject", "user_id"]):
        outcome = project(*command)
        assert outcome.code == 2
        assert "belongs to another user" in outcome.err
    assert not Path("out").exists()
    assert project("audit", "raw", "--purpose", "train-ai", "--subject", "user_id").code == 3, "with options it goes on"


def test_verify_takes_trust_from_it_for_what_lies_elsewhere(
    project: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert project("filter", "raw", "-o", "train", "--columns", "posts").code == 0
    auditor = tmp_path / "auditor"
    auditor.mkdir()
    shutil.copy("consent-ledger/trust", auditor / "keys")
    (auditor / "consent.toml").write_text('trust = "keys"', encoding="utf-8")
    monkeypatch.chdir(auditor)
    outcome = project("verify", "../train")
    assert outcome.code == 0, outcome.err
    assert f"{auditor / 'consent.toml'} says: trust {auditor / 'keys'}" in outcome.err
    assert f"verified, by the keys in {auditor / 'keys'}" in outcome.err
    (auditor / "keys").write_text("", encoding="utf-8")
    assert project("verify", "../train").code == 4
    assert project("verify", "../train", "--trust", "../consent-ledger/trust").code == 0


def test_a_bundle_does_not_vouch_for_itself(project: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A delivery with shards, statement, its own trust file and a consent.toml that names it."""
    assert project("filter", "raw", "-o", "train", "--columns", "posts").code == 0
    bundle = tmp_path / "bundle"
    shutil.copytree("train", bundle / "train")
    shutil.copy("train.intoto.jsonl", bundle)
    shutil.copy("consent-ledger/trust", bundle / "trust")
    (bundle / "consent.toml").write_text('trust = "trust"', encoding="utf-8")
    (tmp_path / "link").symlink_to(bundle / "train")
    shutil.copy("train.intoto.jsonl", "link.intoto.jsonl")
    monkeypatch.chdir(bundle)
    for what in ("train", "train.intoto.jsonl", "../bundle/train", str(bundle / "train"), "../link"):
        outcome = project("verify", what)
        assert outcome.code == 2, (what, outcome.err)
        assert "no trust file" in outcome.err
        assert "does not count" in outcome.err
    assert project("verify", "train", "--trust", "trust").code == 0


def test_a_folders_own_trust_does_not_make_its_statement_name_the_columns(
    project: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delivery whose statement, by a key of its maker's, takes for the person a column that holds one who said yes."""
    maker = tmp_path / "delivery"
    (maker / "raw").mkdir(parents=True)
    raw = pq.read_table("raw/a.parquet")
    pq.write_table(raw.append_column("publisher", [["ann"] * raw.num_rows]), maker / "raw" / "a.parquet")
    (maker / "consent.toml").write_text('trust = "consent-ledger/trust"', encoding="utf-8")
    home = tmp_path / "consent-ledger"
    monkeypatch.chdir(maker)
    for line in (["init"], ["purpose", "add", "train-ai", "--title", "T", "--description", "D"]):
        assert project(*line).code == 0
    assert project("record", "given", "ann", "--purpose", "train-ai").code == 0
    assert project("filter", "raw", "-o", "train", "--purpose", "train-ai", "--subject", "publisher").code == 0
    assert project("audit", "train", "--purpose", "train-ai").code == 0, "by the maker's own ledger"
    monkeypatch.setenv("CONSENT_LEDGER", str(home))
    assert project("audit", "train", "--purpose", "train-ai").code == 4, "its run key is not trusted"
    assert project("--ledger", home, "audit", "train", "--purpose", "train-ai").code == 4
    assert project("audit", "train", "--purpose", "train-ai", "--subject", "user_id").code == 3
    monkeypatch.delenv("CONSENT_LEDGER")
    shutil.rmtree("consent-ledger/snapshots")
    Path("consent-ledger").rename("keys")
    (maker / "consent.toml").write_text('trust = "keys/trust"', encoding="utf-8")
    assert project("audit", "train", "--snapshot", tmp_path / "s.parquet").code == 4, "nor by the trust of its consent.toml"


def test_a_ledger_that_was_named_brings_its_own_trust(
    project: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "consent.toml").write_text('trust = "none"', encoding="utf-8")
    assert project("filter", "raw", "-o", "train", "--purpose", "train-ai", "--subject", "user_id").code == 0
    by = ("audit", "raw", "--snapshot", "s.parquet", "--subject", "user_id")
    assert project(*by).code == 4
    assert project("--ledger", "consent-ledger", *by).code == 3
    monkeypatch.setenv("CONSENT_LEDGER", "consent-ledger")
    assert project(*by).code == 3
    monkeypatch.chdir(tmp_path / "raw")
    monkeypatch.setenv("CONSENT_LEDGER", str(tmp_path / "consent-ledger"))
    assert project("verify", "../train").code == 0


def test_hostile_names_are_escaped(project: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "consent.toml").write_text('[columns."a\\u001b[31m\\n<b>"]\nsubject = "x\\u001b"\n', encoding="utf-8")
    outcome = project("audit", "raw", "--purpose", "train-ai", "--columns", "a\x1b[31m\n<b>")
    assert outcome.code == 2
    assert "\x1b" not in outcome.err + outcome.out
    outcome = project("audit", "raw", "--purpose", "train-ai", "--columns", "nope\x1b")
    assert outcome.code == 2
    assert "\x1b" not in outcome.err + outcome.out


def test_verify_stays_light_with_it(tmp_path: Path) -> None:
    (tmp_path / "consent.toml").write_text('trust = "none"\n[columns.posts]\nsubject = "x"\n', encoding="utf-8")
    code = (
        "import sys; from ledger.cli import run; assert run(['verify', '/nowhere']) == 2; "
        "bad = {'sqlmodel', 'sqlalchemy', 'duckdb', 'pyarrow', 'numpy'} & set(sys.modules); sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, stderr=subprocess.DEVNULL)


def test_the_json_is_on_stdout_alone(project: Callable[..., Any]) -> None:
    outcome = project("explain", "raw/a.parquet", "--row", "0", "--columns", "posts", "--format", "json")
    assert json.loads(outcome.out)["allowed"] is True
