"""Files that are no files of acts, and those with a bad line: nothing is recorded, and the line is named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli.conftest import Refused

HEAD = "state,subject_id,purposes,occurred_at\n"
GOOD = "given,bob,train-ai,2026-01-01T00:00:00Z\n"


@pytest.mark.parametrize(
    ("data", "says", "hint"),
    [
        (b"\xef\xbb\xbf" + (HEAD + GOOD).encode(), ["byte order mark"], "UTF-8 without BOM"),
        (b"state,subject_id\ngiven,bob\n", ["'purposes' is missing"], "columns: event_id, state"),
        (b"state,subject_id,purposes,wen\ngiven,bob,train-ai,x\n", ["'wen' is unknown"], "occurred_at"),
        (b"State,subject_id,purposes\ngiven,bob,train-ai\n", ["'State' is unknown"], "columns: event_id, state"),
        (b"state,subject_id,purposes,state\nrefused,bob,train-ai,given\n", ["twice"], "columns: event_id, state"),
        (b"", ["empty"], "its first line names the columns"),
        (b"state;subject_id;purposes\ngiven;bob;train-ai\n", ["is unknown"], "columns: event_id, state"),
    ],
    ids=["BOM", "missing", "unknown", "other case", "twice", "empty", "semicolons"],
)
def test_a_csv_whose_head_is_wrong(refused: Refused, tmp_path: Path, data: bytes, says: list[str], hint: str) -> None:
    (tmp_path / "acts.csv").write_bytes(data)
    refused("import", "acts.csv", code=2, says=says, hint=hint)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('given,"bob,train-ai,2026-01-01T00:00:00Z\n', "not CSV"),
        ('given,"bob"x,train-ai,2026-01-01T00:00:00Z\n', "not CSV"),
        ("given,bob,train-ai\n", "3 values for 4 columns"),
        ("given,bob,train-ai,2026-01-01T00:00:00Z,\n", "5 values for 4 columns"),
        ("given,bob,train-ai;,2026-01-01T00:00:00Z\n", "purpose is empty"),
        ("given,bob,train-ai;nope,2026-01-01T00:00:00Z\n", "'nope' is not declared"),
    ],
)
def test_a_csv_with_a_broken_line(refused: Refused, tmp_path: Path, line: str, says: str) -> None:
    (tmp_path / "acts.csv").write_text(HEAD + GOOD + line + GOOD * 3, encoding="utf-8")
    refused("import", "acts.csv", code=1, says=["line 3:", says, "nothing was recorded"], hint="mend these lines")


def test_a_csv_with_a_line_that_is_not_utf8(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "acts.csv").write_bytes((HEAD + GOOD).encode() + b"given,b\xe9b,train-ai,2026-01-01T00:00:00Z\n")
    refused("import", "acts.csv", code=1, says=["line 3:", "not UTF-8", "save the file as UTF-8"], hint="mend these lines")
    (tmp_path / "acts.csv").write_bytes((HEAD + GOOD).encode("utf-16"))
    refused("import", "acts.csv", code=1, says=["line 1:", "not UTF-8", "save the file as UTF-8"], hint="mend these lines")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"state":"refused","subject_id":"bob","purposes":["train-ai"],"state":"given"}', "a key stands in an object twice"),
        ('{"state":"refused","subject_id":"bob","purposes":["train-ai"]', "not JSON"),
        ('["refused","bob"]', "not a JSON object"),
        ('{"state":"refused","subject_id":"bob"}', "'purposes' is missing"),
        ('{"state":"refused","subject_id":"bob","purposes":["train-ai"],"wen":"x"}', "'wen' is unknown"),
        ('{"state":"refused","subject_id":7,"purposes":["train-ai"]}', "must be text, not int"),
        ('{"state":"refused","subject_id":"bob","purposes":"train-ai"}', "must be a list"),
        ("[" * 100_000, "not JSON"),
        ('{"state":"refused","subject_id":"\\ud800","purposes":["train-ai"]}', "surrogate"),
    ],
)
def test_an_ndjson_with_a_broken_line(refused: Refused, tmp_path: Path, line: str, says: str) -> None:
    good = '{"state":"refused","subject_id":"cem","purposes":["train-ai"]}'
    (tmp_path / "acts.ndjson").write_text(f"{good}\n{line}\n{good}\n", encoding="utf-8")
    refused("import", "acts.ndjson", code=1, says=["line 2:", says, "nothing was recorded"], hint="mend these lines")


def test_a_parquet_that_is_none_or_not_of_acts(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "acts.parquet").write_bytes(b"PAR1 no PAR1")
    refused("import", "acts.parquet", code=2, says=["not a Parquet file of acts"], hint="write it anew")
    refused("import", "raw/a.parquet", code=2, says=["'user_id' is unknown"], hint="columns: event_id, state")
    naive = pa.table(
        {"state": ["given"], "subject_id": ["bob"], "purposes": [["train-ai"]], "occurred_at": pa.array([0], pa.timestamp("us"))}
    )
    pq.write_table(naive, tmp_path / "naive.parquet")
    refused("import", "naive.parquet", code=1, says=["row 1:", "occurred_at", "time zone"], hint="mend these lines")


def test_a_file_that_is_not_there_or_not_one(refused: Refused, tmp_path: Path) -> None:
    refused("import", "nothing.csv", code=1, says=["cannot read nothing.csv"], hint="nothing is there")
    refused("import", "raw", code=2, says=["raw", "format"], hint="--input-format")
    refused("import", "raw", "--input-format", "csv", code=1, says=["cannot read raw", "directory"], hint="name a file")
    (tmp_path / "acts.txt").write_text(HEAD + GOOD, encoding="utf-8")
    refused("import", "acts.txt", code=2, says=["acts.txt"], hint="--input-format")


def test_only_the_first_twenty_bad_lines_are_named(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "acts.csv").write_text(HEAD + GOOD + "maybe,bob,train-ai,\n" * 500, encoding="utf-8")
    outcome = refused("import", "acts.csv", code=1, says=["line 3:", "line 22:"], hint="mend these lines")
    assert outcome.err.count("  line ") == 20


def test_from_standard_input(refused: Refused, tmp_path: Path) -> None:
    refused("import", "-", code=2, says=["format"], hint="--input-format")
    before = (tmp_path / "consent-ledger" / "head").read_bytes()
    command = [sys.executable, "-m", "ledger.cli", "import", "-", "--input-format", "csv"]
    data = (HEAD + GOOD + "maybe,bob,train-ai,\n").encode()
    done = subprocess.run(command, cwd=tmp_path, input=data, capture_output=True, env={**os.environ}, check=False)
    assert done.returncode == 1
    assert b"line 3:" in done.stderr
    assert b"hint: " in done.stderr
    assert (tmp_path / "consent-ledger" / "head").read_bytes() == before
