"""A real disk that is full, and a real folder that is read-only: exit code 1 that says so, nothing lost, nothing half there."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import ledger
from tests.cli.conftest import tree
from tests.conftest import Outcome, yes

KIB = 1 << 10


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """mounted("-t", "tmpfs", ...): a folder with a file system of its own; skips, saying so, where mounting is refused."""
    folders: list[Path] = []

    def mount(*arguments: str | Path) -> Path:
        folder = tmp_path / f"disk{len(folders)}"
        folder.mkdir()
        done = subprocess.run(["mount", *arguments, folder], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"mounting is refused here: {done.stderr.strip()}")
        folders.append(folder)
        return folder

    yield mount
    for folder in folders:
        subprocess.run(["umount", folder], check=True)


class Disk:
    """A file system of so many KiB."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._ballast = folder, folder / "ballast"

    def leave(self, kib: int) -> None:
        """So many KiB free, the rest full."""
        self.free()
        with self._ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4 * KIB)
            except OSError:
                file.truncate(max(0, file.tell() // (4 * KIB) * 4 * KIB - kib * KIB))

    def free(self) -> None:
        self._ballast.unlink(missing_ok=True)


@pytest.fixture
def disk(mounted: Callable[..., Path]) -> Disk:
    return Disk(mounted("-t", "tmpfs", "-o", "size=4m", "tmpfs"))


def is_full(outcome: Outcome) -> None:
    assert outcome.code == 1, outcome.err
    assert "full" in outcome.err or "No space left" in outcome.err, outcome.err
    assert "hint: " in outcome.err
    assert "Traceback" not in outcome.err
    assert "unexpected" not in outcome.err


ACTS = "event_id,state,subject_id,purposes,occurred_at\n" + "".join(
    f"i{n},given,u{n},train-ai,2026-01-01T00:00:00Z\n" for n in range(1500)
)
SPACE = (0, 4, 8, 16, 32, 36, 40, 48, 64, 80, 96, 128, 256, 512)
"""KiB left: from too little to open the ledger to enough for all but the last step."""


@pytest.mark.parametrize(
    "line",
    [
        ("withdraw", "ann"),
        ("import", "acts.csv"),
        ("snapshot", "--purpose", "train-ai", "-o", "disk0/s.parquet"),
        ("filter", "raw", "-o", "disk0/out", "--purpose", "train-ai", "--subject", "user_id"),
    ],
    ids=lambda line: line[0],
)
def test_the_ledgers_disk_is_full(
    disk: Disk, consent: Callable[..., Outcome], shard: Callable[..., Path], tmp_path: Path, line: tuple[str, ...]
) -> None:
    folder = disk.folder / "consent-ledger"
    with ledger.create(folder) as book:
        book.declare_purpose("train-ai", title="T", description="D")
        book.record_all([yes("ann", event_id="e1"), *(yes(f"p{n}") for n in range(500))])
    (tmp_path / "acts.csv").write_text(ACTS, encoding="utf-8")
    shard("raw/a.parquet", user_id=["ann"] * 4000, text=[f"{n:0100}" for n in range(4000)], row_group_size=1000)
    command = ("--ledger", str(folder), *line)
    failed = 0
    size = ledger.fsck(folder).size
    for kib in SPACE:
        disk.leave(kib)
        outcome = consent(*command)
        disk.free()
        now = ledger.fsck(folder).size
        if outcome.code == 0:
            break
        is_full(outcome)
        failed += 1
        if line[0] in ("withdraw", "import"):
            assert (now > size) == ("it was recorded" in outcome.err), outcome.err
        size = now
        assert not list(disk.folder.rglob("*.tmp"))
        assert not (disk.folder / "out.intoto.jsonl").exists()
        for whole in (disk.folder / "out").glob("*.parquet"):
            assert pq.read_table(whole).num_rows == 4000
    assert failed
    outcome = consent(*command)
    assert outcome.code == 0, outcome.err
    assert ledger.fsck(folder).size >= size
    with ledger.open(folder) as book:
        events = [event for _, event in book.events()]
        assert {"ann", "p0", "p499"} <= {event.subject_id for event in events}
        if line[0] == "import":
            assert sum(event.subject_id.startswith("u") for event in events) == 1500
        elif line[0] == "withdraw":
            # Said again it is recorded again, where the first was stored and only its anchor found no room.
            first, *then = [event.state for event in events if event.subject_id == "ann"]
            assert (first, set(then)) == ("given", {"withdrawn"})
        elif line[0] == "snapshot":
            ledger.load_snapshot(disk.folder / "s.parquet", trust=folder / "trust")
        else:
            ledger.verify(disk.folder / "out", trust=folder / "trust")


def test_the_outputs_disk_is_full(disk: Disk, told: Callable[..., Outcome], shard: Callable[..., Path], tmp_path: Path) -> None:
    """The first run's shards, its statement and the journal stand there; none is lost, and no half of another comes up."""
    for name in "abc":
        shard(
            f"raw/{name}.parquet", user_id=["ann"] * 4000, text=[secrets.token_hex(100) for _ in range(4000)], row_group_size=1000
        )
    line = ("filter", "raw", "-o", "disk0/out", "--purpose", "train-ai", "--subject", "user_id", "--workers", "1")
    for kib in (0, 4, 12, 40, 200, 700):
        disk.leave(kib)
        is_full(told(*line))
        left = tree(disk.folder)
        assert {name for name in left if name.endswith(".parquet")} <= {"out/a.parquet", "out/b.parquet"}
        assert not [name for name in left if name.endswith((".tmp", ".intoto.jsonl"))]
    disk.free()
    assert told(*line).code == 0
    assert told("verify", "disk0/out").code == 0
    assert ledger.fsck(tmp_path / "consent-ledger").events == 1


@pytest.fixture
def read_only(mounted: Callable[..., Path]) -> Callable[[Path], Path]:
    def mount(folder: Path) -> Path:
        seen = mounted("--bind", folder)
        subprocess.run(["mount", "-o", "remount,bind,ro", seen], check=True)
        return seen

    return mount


def test_a_ledger_that_is_read_only(told: Callable[..., Outcome], read_only: Callable[[Path], Path], tmp_path: Path) -> None:
    seen = read_only(tmp_path / "consent-ledger")
    before = tree(tmp_path)
    filtering = ("filter", "raw", "-o", "out", "--purpose", "train-ai", "--subject", "user_id")
    for line in (("withdraw", "ann"), ("show", "ann"), ("fsck",), ("snapshot", "--purpose", "train-ai", "-o", "s"), filtering):
        outcome = told("--ledger", seen, *line)
        assert outcome.code == 1, outcome.err
        assert "disk0/ledger.db cannot be written to" in outcome.err
        assert "hint: make disk0 writable for you" in outcome.err.replace(f"{tmp_path}/", "")
        assert tree(tmp_path) == before
    assert told("withdraw", "ann").code == 0


def test_an_output_that_is_read_only(told: Callable[..., Outcome], read_only: Callable[[Path], Path], tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    read_only(tmp_path / "there")
    before = tree(tmp_path)
    for output in ("disk0", "disk0/out"):
        outcome = told("filter", "raw", "-o", output, "--purpose", "train-ai", "--subject", "user_id")
        assert outcome.code == 1, outcome.err
        assert "Read-only file system" in outcome.err
        assert "hint: the file system is mounted read-only" in outcome.err
        assert {name for name in tree(tmp_path) if not name.startswith("consent-ledger")} == {
            name for name in before if not name.startswith("consent-ledger")
        }
    outcome = told("receipt", "e1", "-o", "disk0/e1.json")
    assert outcome.code == 1
    assert "hint: the file system is mounted read-only" in outcome.err
