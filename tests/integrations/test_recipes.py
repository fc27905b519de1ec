"""The recipes of docs/integrations.md, run: commands in a shell, the asset check in Dagster itself."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import ledger
from tests.conftest import ROOT, yes

TEXT = (ROOT / "docs" / "integrations.md").read_text(encoding="utf-8")
COLUMNS = ledger.Columns(subject="user_id", content="post_id")


def _recipe(heading: str, language: str) -> str:
    section = re.split(r"^#+ ", TEXT.partition(f"\n### {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    found = re.findall(rf"```{language}\n(.*?)```", section, flags=re.DOTALL)
    assert len(found) == 1, heading
    return str(found[0])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A ledger in which ann said yes, posts of hers and of bob's in raw/, and `consent` on the path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CONSENT_LEDGER", raising=False)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("DAGSTER_HOME", "")
    with ledger.create("consent-ledger") as book:
        book.declare_purpose("train-ai", title="T", description="D")
        book.record(yes("ann"))
        Path("raw").mkdir()
        pq.write_table(pa.table({"user_id": ["ann", "bob"], "post_id": ["1", "2"]}), "raw/posts.parquet")
        Path("trust").write_bytes(Path("consent-ledger/trust").read_bytes())
    yield tmp_path


def _sh(command: str) -> int:
    return subprocess.run(["sh", "-c", command], capture_output=True, timeout=120).returncode


def _filtered() -> None:
    """train/ with its statement, and the answers that made it."""
    with ledger.open("consent-ledger") as book:
        snapshot = book.snapshot("train-ai", output="answers.parquet")
        ledger.ConsentFilter(snapshot, COLUMNS).filter_shards(["raw"], "train", key=book.run_key(), admit=book.admit)


def _withdrawn() -> None:
    with ledger.open("consent-ledger") as book:
        book.withdraw("ann")
        book.snapshot("train-ai", output="answers.parquet")


def _airflow_commands() -> list[str]:
    """In the order in which the tasks follow one another."""
    tree = ast.parse(_recipe("Airflow", "python"))
    commands = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            told = {keyword.arg: keyword.value for keyword in node.value.keywords}
            name = node.targets[0]
            assert isinstance(name, ast.Name)
            commands[name.id] = ast.literal_eval(told["bash_command"])
    chain = next(node.value for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.BinOp))
    return [commands[name] for name in ast.unparse(chain).split(" >> ")]


def test_the_commands_of_the_airflow_tasks_run_in_their_order(folder: Path) -> None:
    commands = _airflow_commands()
    assert [_sh(command) for command in commands] == [0, 0, 0]
    assert pq.read_table("train/posts.parquet")["user_id"].to_pylist() == ["ann"]
    (folder / "train" / "posts.parquet").write_bytes((folder / "raw" / "posts.parquet").read_bytes())
    assert _sh(commands[-1]) == 4


@pytest.mark.parametrize("job", ["clean", "withdrawn", "tampered"])
def test_the_job_passes_only_what_people_still_say_yes_to(folder: Path, job: str) -> None:
    steps = yaml.safe_load(_recipe("A job of continuous integration", "yaml"))["jobs"]["consent"]["steps"]
    commands = [step["run"] for step in steps if step.get("run", "").startswith("consent ")]
    assert len(commands) == 2
    _filtered()
    if job == "withdrawn":
        _withdrawn()
    if job == "tampered":
        (folder / "train" / "posts.parquet").write_bytes((folder / "raw" / "posts.parquet").read_bytes())
    (folder / "consent-ledger").rename(folder / "elsewhere")  # the job has no ledger
    assert [_sh(command) for command in commands] == {"clean": [0, 0], "withdrawn": [0, 3], "tampered": [4, 4]}[job]


@pytest.fixture
def dagster() -> Any:
    with warnings.catch_warnings(action="ignore"):
        import dagster

    return dagster


def _materialized(dagster: Any) -> tuple[bool, set[str]]:
    """Whether all went well, and which assets were made."""
    names: dict[str, Any] = {"__name__": "recipe"}
    with warnings.catch_warnings(action="ignore"):
        exec(compile(_recipe("Dagster", "python"), "docs/integrations.md", "exec"), names)
        with dagster.DagsterInstance.ephemeral(tempdir=str(Path.cwd() / "dagster")) as instance:
            result = dagster.materialize(
                [names["training_shards"], names["only_consented_rows"], names["model"]],
                instance=instance,
                raise_on_error=False,
            )
    made = {event.asset_key.to_user_string() for event in result.get_asset_materialization_events()}
    return result.success, made


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        ((_filtered,), (True, {"training_shards", "model"})),
        ((_filtered, _withdrawn), (False, {"training_shards"})),
        ((), (False, {"training_shards"})),  # no answers: nothing is known
    ],
    ids=["clean", "withdrawn", "no answers"],
)
def test_nothing_is_made_from_shards_that_the_asset_check_does_not_pass(
    folder: Path, dagster: Any, prepare: tuple[Callable[[], None], ...], expected: tuple[bool, set[str]]
) -> None:
    for step in prepare:
        step()
    assert _materialized(dagster) == expected
