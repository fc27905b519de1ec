"""The main job through the command line: exit codes, JSON, messages."""

from __future__ import annotations

import base64
import json
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow.parquet as pq
import pytest
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError as TheirVerificationError
from securesystemslib.signer import SSlibKey

from ledger import schemas
from ledger.log.note import Verifier

ROOT = Path(__file__).resolve().parents[2]
KEYS = ("--subject", "user_id", "--content", "post_id")

ACTS = """state,subject_id,content_id,purposes,occurred_at,channel
given,ann,,train-ai,2026-01-01T00:00:00Z,web
given,bob,,train-ai,2026-01-01T00:00:00Z,web
withdrawn,bob,p3,train-ai,2026-02-01T00:00:00Z,one-click
refused,cem,,train-ai,2026-02-01T00:00:00Z,web
"""


@pytest.fixture
def story(consent: Callable[..., Any], shard: Callable[..., Path], tmp_path: Path) -> Callable[..., Any]:
    shard(
        "raw/a.parquet", user_id=["ann", "bob", "bob", "cem", "dee"], post_id=["p1", "p2", "p3", "p4", "p5"], text=list("abcde")
    )
    (tmp_path / "acts.csv").write_text(ACTS, encoding="utf-8")
    assert consent("init").code == 0
    assert consent("purpose", "add", "train-ai", "--title", "T", "--description", "D").code == 0
    assert consent("import", "acts.csv").code == 0
    return consent


def test_filter_audit_withdraw_filter_verify(story: Callable[..., Any]) -> None:
    audit = story("audit", "raw", "--purpose", "train-ai", *KEYS, "--format", "json")
    assert audit.code == 3
    document = json.loads(audit.out)
    jsonschema.validate(document, schemas.load("audit"))
    assert document["reasons"] == {"withdrawn": 1, "refused": 1, "no_record": 1}

    run = story("filter", "raw", "-o", "train", "--purpose", "train-ai", *KEYS, "--format", "json", "--exclusions", "out.parquet")
    assert run.code == 0, run.err
    document = json.loads(run.out)
    jsonschema.validate(document, schemas.load("filter"))
    assert document["rows_in"] == 5
    assert document["rows_kept"] == 2
    assert pq.read_table("train/a.parquet")["text"].to_pylist() == ["a", "b"]
    dropped = pq.read_table("out.parquet").to_pylist()
    assert [(d["shard"], d["row"], d["reason"]) for d in dropped] == [
        ("a.parquet", 2, "withdrawn"),
        ("a.parquet", 3, "refused"),
        ("a.parquet", 4, "no_record"),
    ]
    assert story("audit", "train", "--purpose", "train-ai", *KEYS).code == 0
    assert story("audit", "train", "--purpose", "train-ai").code == 0, "its statement says which columns"
    assert story("audit", "raw", "--purpose", "train-ai").code == 2
    assert story("verify", "train").code == 0

    shown = story("show", "ann", "--format", "json")
    jsonschema.validate(json.loads(shown.out), schemas.load("show"))
    assert story("withdraw", "ann").code == 0
    assert story("audit", "train", "--purpose", "train-ai", *KEYS).code == 3
    assert story("filter", "raw", "-o", "train", "--purpose", "train-ai", *KEYS).code == 0
    assert pq.read_table("train/a.parquet")["text"].to_pylist() == ["b"]
    verified = story("verify", "train", "--trust", "consent-ledger/trust", "--format", "json")
    assert verified.code == 0
    jsonschema.validate(json.loads(verified.out), schemas.load("verify"))
    checked = story("fsck", "--format", "json")
    jsonschema.validate(json.loads(checked.out), schemas.load("fsck"))


def test_any_byte_of_shard_statement_receipt_or_snapshot_changed_is_exit_4(story: Callable[..., Any], tmp_path: Path) -> None:
    assert story("filter", "raw", "-o", "train", "--purpose", "train-ai", *KEYS).code == 0
    event_id = json.loads(story("show", "ann", "--format", "json").out)["events"][0]["event_id"]
    assert story("receipt", event_id, "-o", "ann.json").code == 0
    assert story("snapshot", "--purpose", "train-ai", "-o", "s.parquet").code == 0
    import os
    import random

    seed = int.from_bytes(os.urandom(4), "little")
    print(f"seed {seed}")
    rng = random.Random(seed)
    for path, what in (
        ("train/a.parquet", "train"),
        ("train.intoto.jsonl", "train"),
        ("ann.json", "ann.json"),
        ("s.parquet", "s.parquet"),
        ("s.parquet.receipt", "s.parquet"),
    ):
        good = Path(path).read_bytes()
        assert story("verify", what, "--trust", "consent-ledger/trust").code == 0
        for _ in range(25):
            bad = bytearray(good)
            bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
            Path(path).write_bytes(bytes(bad))
            assert story("verify", what, "--trust", "consent-ledger/trust").code == 4, (path, seed)
            if what == "s.parquet":
                outcome = story("filter", "raw", "-o", "other", "--snapshot", "s.parquet", *KEYS)
                assert outcome.code == 4, (path, seed, outcome.err)
                assert not Path("other").exists()
        for cut in (0, 1, len(good) // 2, len(good) - 1):
            Path(path).write_bytes(good[:cut])
            assert story("verify", what, "--trust", "consent-ledger/trust").code == 4, (path, cut)
        Path(path).write_bytes(good)


def test_a_renamed_swapped_extra_or_missing_shard_fails(story: Callable[..., Any], shard: Callable[..., Path]) -> None:
    shard("raw/b.parquet", user_id=["ann"], post_id=["p9"], text=["z"])
    assert story("filter", "raw", "-o", "train", "--purpose", "train-ai", *KEYS).code == 0
    a, b = Path("train/a.parquet"), Path("train/b.parquet")
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)
    assert story("verify", "train").code == 4
    a.write_bytes(first)
    b.write_bytes(second)
    assert story("verify", "train").code == 0
    b.rename("train/c.parquet")
    assert story("verify", "train").code == 4
    Path("train/c.parquet").rename(b)
    Path("train/extra.parquet").write_bytes(first)
    assert story("verify", "train").code == 4
    Path("train/extra.parquet").unlink()
    b.unlink()
    assert story("verify", "train").code == 4
    assert story("verify", "train.intoto.jsonl", "--signature-only").code == 0


def test_a_run_resumes_and_never_reuses_what_changed(story: Callable[..., Any]) -> None:
    assert story("filter", "raw", "-o", "train", "--purpose", "train-ai", *KEYS).code == 0
    shard = Path("train/a.parquet")
    first = shard.stat()
    assert story("filter", "raw", "-o", "train", "--purpose", "train-ai", *KEYS).code == 0
    assert shard.stat().st_ino == first.st_ino, "an unchanged shard is not written again"
    good = shard.read_bytes()
    shard.write_bytes(good[:-1] + b"x")
    assert story("filter", "raw", "-o", "train", "--purpose", "train-ai", *KEYS).code == 0
    assert shard.read_bytes() == good, "same input and answers, same bytes"
    assert story("withdraw", "bob").code == 0
    assert story("filter", "raw", "-o", "train", "--purpose", "train-ai", *KEYS).code == 0
    assert pq.read_table(shard)["text"].to_pylist() == ["a"]


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("filter raw -o out --purpose nope --subject user_id", 2, "declared: train-ai"),
        ("filter raw -o out --purpose train-ai --subject nope", 2, "'user_id'"),
        ("filter raw -o out --purpose train-ai", 2, "--subject"),
        ("filter raw -o raw --purpose train-ai --subject user_id", 2, "output folder"),
        ("filter nothing -o out --purpose train-ai --subject user_id", 2, "nothing"),
        ("filter raw -o out --snapshot none.parquet --subject user_id", 1, "consent snapshot"),
        ("record given u1 --purpose nope", 2, "declared: train-ai@1"),
        ("record given u1 --purpose '*'", 2, "no only"),
        ("record given u1 --purpose train-ai --content c --category k", 2, "not of both"),
        ("record given u1 --purpose train-ai --channel one-click", 2, "only say no"),
        ("record given u1 --purpose train-ai --actor controller", 2, "subject or a guardian"),
        ("record given u1 --purpose train-ai --occurred-at 2999-01-01T00:00:00Z", 2, "ahead of the ledger's clock"),
        ("record perhaps u1 --purpose train-ai", 2, "states:"),
        ("receipt nope -o x", 2, "consent show"),
        ("--ledger nowhere show u1", 2, "consent init"),
        ("init", 2, "new folder"),
        ("nonsense", 2, "No such command"),
        ("verify train --trust nowhere", 2, "--trust"),
    ],
)
def test_an_error_says_what_to_do_next(story: Callable[..., Any], line: str, code: int, says: str) -> None:
    outcome = story(*shlex.split(line))
    assert outcome.code == code, outcome.err
    assert says in outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.out == ""
    assert not Path("out").exists()


@pytest.mark.parametrize("arguments", [["--help"], ["verify", "--help"]])
def test_help_and_verify_import_neither_database_nor_engine(arguments: list[str]) -> None:
    code = (
        f"import sys; from ledger.cli import run; run({arguments}); "
        "bad = {'sqlmodel', 'sqlalchemy', 'duckdb', 'pyarrow', 'numpy'} & set(sys.modules); sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_the_demo_tells_the_whole_story(consent: Callable[..., Any]) -> None:
    outcome = consent("demo")
    assert outcome.code == 0
    assert [line for line in outcome.out.splitlines() if line.startswith("[exit ")] == [
        f"[exit {n}]" for n in (0, 0, 0, 3, 0, 0, 0, 3, *(0,) * 13, 4, 0)
    ]


def test_a_process_that_ends_says_nothing_but_what_the_command_says(tmp_path: Path) -> None:
    """DuckDB's bindings, where they were loaded, tell of whatever was not given back."""
    done = subprocess.run([sys.executable, "-m", "ledger.cli", "demo"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "whole: " in done.stderr.splitlines()[-1] and "leaked" not in done.stderr


def test_the_wheel_holds_the_package_alone_and_runs_the_demo(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("ledger", "cli", "schemas"):
        # Not what Python compiles meanwhile, for other tests: such files come and go.
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"ledger"}
    assert {"ledger/py.typed", "ledger/cli/__init__.py", "ledger/schemas/filter.json", "ledger/store/migrations/env.py"} <= set(
        names
    )
    environment = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = environment / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--constraint", str(_versions(tmp_path)), str(wheel)], check=True)
    listed = subprocess.run([python, "-m", "pip", "list", "--format", "json"], check=True, capture_output=True, text=True).stdout
    assert not {"pytest", "hypothesis", "mypy"} & {p["name"] for p in json.loads(listed)}
    told = subprocess.run([environment / "bin" / "consent", "demo"], cwd=tmp_path, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr


def _versions(folder: Path) -> Path:
    """The locked versions without hashes, which a wheel under test has none of."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    path = folder / "versions.txt"
    path.write_text("\n".join(line.removesuffix(" \\") for line in lines if "==" in line), encoding="utf-8")
    return path


def test_the_readme_runs(consent: Callable[..., Any], shard: Callable[..., Path], tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = [block.split("\n", 1) for block in readme.split("```")[1::2]]
    shard("raw/a.parquet", user_id=["ann", "u1"], post_id=["p1", "p2"])
    (tmp_path / "acts.csv").write_text(next(text for kind, text in blocks if kind == "csv"), encoding="utf-8")
    lines = next(text for kind, text in blocks if kind == "console").splitlines()
    for line in lines:
        outcome = consent(*shlex.split(line.removeprefix("$ consent ")))
        assert outcome.code == 0, (line, outcome.err)
    script = tmp_path / "readme.py"
    script.write_text(next(text for kind, text in blocks if kind == "python"), encoding="utf-8")
    subprocess.run([sys.executable, str(script)], check=True, cwd=tmp_path, stdout=subprocess.DEVNULL)
    assert pq.read_table("train-from-python/a.parquet").num_rows == 2


def test_another_library_verifies_the_run_statement(story: Callable[..., Any]) -> None:
    assert story("filter", "raw", "-o", "train", "--purpose", "train-ai", *KEYS).code == 0
    line = Path("train.intoto.jsonl").read_bytes().splitlines()[0]
    (vkey,) = [
        word[4:] for word in Path("consent-ledger/trust").read_text(encoding="utf-8").splitlines() if word.startswith("run ")
    ]
    public = Verifier.from_vkey(vkey).public
    key = SSlibKey(public.dsse_keyid, "ed25519", "ed25519", {"public": public.raw.hex()})
    Envelope.from_dict(json.loads(line)).verify([key], 1)
    bad = json.loads(line)
    bad["payload"] = base64.b64encode(base64.b64decode(bad["payload"]).replace(b'"rows_kept":2', b'"rows_kept":3')).decode()
    with pytest.raises(TheirVerificationError):
        Envelope.from_dict(bad).verify([key], 1)
