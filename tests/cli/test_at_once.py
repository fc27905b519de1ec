"""Processes at once: writers wait for each other, a run has its output folder for itself, and a killed one is in nobody's way."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ledger
from ledger import files, locks
from tests.cli.conftest import Refused, tree
from tests.conftest import Outcome
from tests.warm import Command, finished

FILTER = ("filter", "raw", "--purpose", "train-ai", "--subject", "user_id", "-o")


def at_once(where: Path, *lines: tuple[str, ...]) -> list[str]:
    """Each in a process and a working folder of its own; what they printed. All of them end with 0."""
    commands = []
    for number, line in enumerate(lines):
        mine = where / f"process{number}"
        mine.mkdir()
        commands.append(Command(mine, "--ledger", str(where / "consent-ledger"), *line))
    return [command.finish() for command in commands]


def test_appends_imports_snapshots_and_filters(told: Callable[..., Outcome], tmp_path: Path) -> None:
    for name in "ab":
        rows = "".join(f"{name}{n},given,{name}{n},train-ai,2026-01-01T00:00:00Z\n" for n in range(300))
        (tmp_path / f"{name}.csv").write_text("event_id,state,subject_id,purposes,occurred_at\n" + rows, encoding="utf-8")
    raw, train, frozen = (str(tmp_path / name) for name in ("raw", "train", "s.parquet"))
    at_once(
        tmp_path,
        ("record", "given", "bob", "--purpose", "train-ai"),
        ("withdraw", "cem"),
        ("import", str(tmp_path / "a.csv")),
        ("import", str(tmp_path / "b.csv")),
        ("snapshot", "--purpose", "train-ai", "-o", frozen),
        ("filter", raw, "--purpose", "train-ai", "--subject", "user_id", "-o", train),
        ("show", "ann"),
    )
    assert ledger.fsck(tmp_path / "consent-ledger").events == 603
    trust = tmp_path / "consent-ledger" / "trust"
    ledger.verify(train, frozen, trust=trust)
    assert (tmp_path / "consent-ledger" / "head").read_text(encoding="utf-8") == _head(tmp_path)


def _head(where: Path) -> str:
    with ledger.open(where / "consent-ledger") as book:
        return book.checkpoint()


def test_two_imports_of_one_file(told: Callable[..., Outcome], tmp_path: Path) -> None:
    rows = "".join(f"e{n}x,given,u{n},train-ai,2026-01-01T00:00:00Z\n" for n in range(500))
    (tmp_path / "acts.csv").write_text("event_id,state,subject_id,purposes,occurred_at\n" + rows, encoding="utf-8")
    line = ("import", str(tmp_path / "acts.csv"))
    said = sorted(text.partition(",")[0] for text in at_once(tmp_path, line, line))
    assert said == ["0 new", "500 new"]
    assert ledger.fsck(tmp_path / "consent-ledger").events == 501


def test_two_snapshots_into_one_file(told: Callable[..., Outcome], tmp_path: Path) -> None:
    """File and receipt are of one of them, whoever came last."""
    line = ("snapshot", "--purpose", "train-ai", "-o", str(tmp_path / "s.parquet"))
    at_once(tmp_path, *[line] * 4)
    ledger.load_snapshot(tmp_path / "s.parquet", trust=tmp_path / "consent-ledger" / "trust")
    assert not list(tmp_path.rglob("*.tmp"))


RUNNING = """
import sys
import ledger
with ledger.open("consent-ledger") as book:
    consent = ledger.ConsentFilter(book.look("train-ai"), ledger.Columns(subject="user_id"))
    def wait(done, total):
        print("working", flush=True)
        sys.stdin.readline()
    consent.filter_shards(["raw"], "out", key=book.run_key(), publish=book.publish, admit=book.admit, on_progress=wait)
print("done", flush=True)
"""


@pytest.fixture
def running(told: Callable[..., Outcome], tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A real run into `out`, stopped in the middle of its first shard."""
    with subprocess.Popen(
        [sys.executable, "-c", RUNNING], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        yield process
        process.kill()


def test_a_second_run_into_the_same_folder_is_refused(running: subprocess.Popen[str], refused: Refused, tmp_path: Path) -> None:
    who = [f"process {running.pid} ('python"] if Path("/proc/locks").exists() else []
    (tmp_path / "link").symlink_to("out")
    for output in ("out", "./raw/../out", "link"):
        says = ["another run: ", "is writing to", *who]
        refused(*FILTER, output, code=1, says=says, hint="wait for it to end, or choose another folder with -o")
    assert running.stdin is not None and running.stdout is not None
    running.stdin.write("\n" * 10)
    running.stdin.flush()
    while (line := running.stdout.readline()) == "working\n":
        pass
    assert line == "done\n"
    ledger.verify(tmp_path / "out", trust=tmp_path / "consent-ledger" / "trust")


def test_after_a_killed_run_the_next_goes_on_at_once(
    running: subprocess.Popen[str], told: Callable[..., Outcome], tmp_path: Path
) -> None:
    running.kill()
    running.wait()
    assert [path.name[:11] for path in (tmp_path / "out").iterdir()] == [".a.parquet."], "hidden from readers"
    strangers = [".a.parquet.tmp", ".a.parquet.0123456789abcdeg.tmp", ".keep"]
    for name in strangers:
        (tmp_path / "out" / name).write_bytes(b"not ours")
    (tmp_path / "out" / ".folder.0123456789abcdef.tmp").mkdir()
    (tmp_path / ".out.intoto.jsonl.0123456789abcdef.tmp").write_bytes(b"left by a killed run")
    (tmp_path / ".other.intoto.jsonl.0123456789abcdef.tmp").write_bytes(b"another run is about to publish it")
    assert told(*FILTER, "out").code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*strangers, ".folder.0123456789abcdef.tmp", "a.parquet"}
    assert not (tmp_path / ".out.intoto.jsonl.0123456789abcdef.tmp").exists()
    assert (tmp_path / ".other.intoto.jsonl.0123456789abcdef.tmp").exists()
    ledger.verify(tmp_path / "out", trust=tmp_path / "consent-ledger" / "trust")


def test_what_a_killed_writer_left_is_swept_by_the_next(told: Callable[..., Outcome], tmp_path: Path) -> None:
    folder = tmp_path / "consent-ledger"
    for name in (".head.0123456789abcdef.tmp", ".trust.0123456789abcdef.tmp"):
        (folder / name).write_bytes(b"x")
    (tmp_path / ".s.parquet.0123456789abcdef.tmp").write_bytes(b"x")
    (tmp_path / ".s.parquet.receipt.0123456789abcdef.tmp").write_bytes(b"x")
    (tmp_path / ".s.json.0123456789abcdef.tmp").write_bytes(b"x")
    assert told("snapshot", "--purpose", "train-ai", "-o", "s.parquet").code == 0
    left = {name for name in tree(tmp_path) if name.endswith(".tmp")}
    assert left == {"consent-ledger/.trust.0123456789abcdef.tmp", ".s.json.0123456789abcdef.tmp"}


def test_a_repeat_brings_an_anchor_up_to_the_head(told: Callable[..., Outcome], tmp_path: Path) -> None:
    """The writer before it may have been killed between its commit and the anchor."""
    head = tmp_path / "consent-ledger" / "head"
    before = head.read_bytes()
    line = ("record", "refused", "bob", "--purpose", "train-ai", "--event-id", "e9")
    assert told(*line).code == 0
    after = head.read_bytes()
    head.write_bytes(before)
    assert finished(tmp_path, *line)["repeated"]
    assert head.read_bytes() == after


def test_a_lock_ends_with_its_holder(tmp_path: Path) -> None:
    with locks.exclusive(tmp_path) as held:
        assert held
        assert locks.holders(tmp_path).startswith(f"process {os.getpid()} (")
        for seconds in (0, 0.1):
            with pytest.raises(ledger.LedgerBusy, match="is writing to"), locks.exclusive(tmp_path, seconds=seconds):
                pass
    with locks.exclusive(tmp_path, seconds=0) as held:
        assert held
    assert locks.holders(tmp_path, tmp_path / "nothing") == ""
    with pytest.raises(ledger.ConsentLedgerError, match="cannot open"), locks.exclusive(tmp_path / "nothing"):
        pass


def test_only_names_of_ours_are_swept(tmp_path: Path) -> None:
    target = tmp_path / ("x" * 60 + ".parquet")
    ours = files.temporary_beside(target)
    others = [files.temporary_beside(tmp_path / name) for name in ("y", "x" * 39, "x.x")]
    for path in (ours, *others):
        path.write_bytes(b"")
    (tmp_path / "link.tmp").symlink_to(others[0])
    files.sweep(target)
    assert not ours.exists()
    assert all(path.exists() for path in others)
    files.sweep(tmp_path / "nowhere" / "x")
    files.sweep_below(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["link.tmp"]
