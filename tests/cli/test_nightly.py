"""The nightly job of docs/operations.md, as it stands there, with real commands over several nights."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")

# The clock is moved for the processes of this test alone: Python imports `sitecustomize` at its start, from PYTHONPATH.
CLOCK = """
import datetime, pathlib
from ledger import times
days = float(pathlib.Path(__file__).with_name("days").read_text())
real = times.now
times.now = lambda: real() + datetime.timedelta(days=days)
"""
DATE = '#!/bin/sh\nexec /bin/date -d "+$(cat {folder}/days) days" "$@"\n'


def _block(language: str, beginning: str) -> str:
    """The first block of the page in this language that begins so."""
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    return next(block for block in blocks if block.startswith(beginning))


class Nights:
    """A folder as the page describes it, the script of the page, and a clock that is moved a day each night."""

    def __init__(self, path: Path) -> None:
        self.path, self._clock = path / "srv", path / "clock"
        for folder in (self.path, self.path / "export", self._clock):
            folder.mkdir()
        (self._clock / "sitecustomize.py").write_text(CLOCK)
        (self._clock / "date").write_text(DATE.format(folder=self._clock))
        (self._clock / "date").chmod(0o755)
        self.script = self.path / "nightly.sh"
        self.script.write_text(_block("sh", "#!/bin/sh"))
        (self.path / "consent.toml").write_text(_block("toml", "trust"))
        self._env = {name: value for name, value in os.environ.items() if name != "CONSENT_LEDGER"}
        self._env["PATH"] = os.pathsep.join([str(self._clock), str(Path(sys.executable).parent), os.environ["PATH"]])
        self._env["PYTHONPATH"] = str(self._clock)
        self.day(0)
        self.consent("init")
        self.consent("purpose", "add", "train-ai", "--title", "T", "--description", "D")

    def day(self, number: float) -> None:
        (self._clock / "days").write_text(str(number))

    def consent(self, *arguments: str, code: int = 0) -> str:
        line = [Path(sys.executable).parent / "consent", *arguments]
        ended = subprocess.run(line, cwd=self.path, env=self._env, capture_output=True, text=True)
        assert ended.returncode == code, ended.stderr
        return ended.stdout + ended.stderr

    def export(self, *rows: str) -> None:
        (self.path / "export" / "crm.csv").write_text("\n".join(["customer,name,optin,changed", *rows, ""]))

    def deliver(self, name: str, *people: str) -> None:
        (self.path / "raw" / name).mkdir(parents=True)
        table = pa.table({"user_id": list(people), "post_id": [f"{name}-{i}" for i in range(len(people))]})
        pq.write_table(table, self.path / "raw" / name / "a.parquet")

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["sh", self.script, self.path], env=self._env, start_new_session=True)

    def run(self, day: float) -> int:
        self.day(day)
        (self.path / "alerts.log").write_text("")
        return self.start().wait()

    def alerts(self) -> list[str]:
        """`1 import`, as the code and the command."""
        found = re.findall(r"exit (\d+): .*: consent (\w+)", (self.path / "alerts.log").read_text())
        return [f"{code} {command}" for code, command in found]

    def people(self, name: str) -> list[str]:
        people: list[str] = pq.read_table(self.path / "train" / name)["user_id"].to_pylist()
        return people


@pytest.fixture
def nights(tmp_path: Path) -> Iterator[Nights]:
    yield Nights(tmp_path)


ANN = "ann,Ann,yes,2026-01-05 10:00:00"
BOB = "bob,Bob,yes,2026-01-06 10:00:00"


def test_a_week_of_nights(nights: Nights) -> None:
    nights.export(ANN, BOB, "cem,Cem,,")
    nights.deliver("d0", "ann", "bob", "cem")
    assert (nights.run(0), nights.alerts()) == (0, [])
    assert nights.people("d0") == ["ann", "bob"]

    # A withdrawal arrives: new shards are without the person, and the audit finds the old ones.
    nights.export(ANN, "bob,Bob,no,2026-11-01 10:00:00", "cem,Cem,,")
    nights.deliver("d1", "bob", "ann", "bob")
    assert (nights.run(1), nights.alerts()) == (3, ["3 audit"])
    assert nights.people("d1") == ["ann"]
    again = ("filter", "raw/d0", "-o", "train/d0", "--snapshot", "snapshot.parquet", "--columns", "posts", "--max-age", "24h")
    nights.consent(*again)
    assert nights.people("d0") == ["ann"]
    nights.consent("verify", "train/d0", "train/d1")

    # The export breaks off within a line: nothing of it is recorded, and for one night the answers are young enough.
    nights.export("dee,Dee,yes,2026-01-06 10:00:00", 'eve,"Eve')
    nights.deliver("d2", "ann", "dee")
    assert (nights.run(2), nights.alerts()) == (1, ["1 import"])
    assert nights.people("d2") == ["ann"]
    nights.deliver("d3", "ann")
    assert (nights.run(3), nights.alerts()) == (3, ["1 import", "1 filter", "3 status"])
    assert not (nights.path / "train" / "d3").exists()

    # Whole again, but for one line. Nobody's yes gets ahead of what that line may say.
    nights.export(ANN, "dee,Dee,yes,2026-01-06 10:00:00", "dee,Dee,nope,2026-11-01 10:00:00")
    assert nights.run(4) == 3
    assert nights.alerts() == ["1 import", "1 filter", "3 status"], "an import with rejects leaves its source stale"
    (rejects,) = (nights.path / "rejects").glob("*.csv")
    rejects.write_text(rejects.read_text().replace("nope", "no"))
    nights.consent("import", str(rejects), "--source", "crm")
    nights.export(ANN)
    assert (nights.run(4.2), nights.alerts()) == (0, [])
    assert nights.people("d3") == ["ann"]

    # An old snapshot, without a night: refused.
    nights.deliver("d4", "ann")
    nights.day(6)
    by_hand = ("filter", "raw/d4", "-o", "train/d4", "--snapshot", "snapshot.parquet", "--columns", "posts")
    assert "old" in nights.consent(*by_hand, code=1)
    assert not (nights.path / "train" / "d4").exists()


def test_a_table_that_makes_too_many_say_yes_again(nights: Nights) -> None:
    nights.export(*(f"u{i},U,no,2026-01-05 10:00:00" for i in range(60)))
    nights.deliver("d0", "u1", "ann")
    assert nights.run(0) == 0
    # Someone touched each row, and the column that says when people agreed is the row's.
    nights.export(*(f"u{i},U,yes,2026-11-05 10:00:00" for i in range(60)))
    assert nights.run(1) == 1
    assert nights.alerts() == ["1 import"]
    assert "60 people from no to yes" in (nights.path / "nightly.log").read_text()
    assert nights.people("d0") == []


def test_a_night_that_was_killed_is_done_by_the_next(nights: Nights) -> None:
    nights.export(ANN, BOB)
    nights.deliver("d0", "ann", "bob", "cem")
    head = nights.path / "consent-ledger" / "head"
    before = head.read_bytes()
    process = nights.start()
    while head.read_bytes() == before:  # until the import has committed
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with (nights.path / "nightly.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until its commands are gone too: the job's lock is theirs as well
    assert nights.run(1) == 0
    assert nights.people("d0") == ["ann", "bob"]
    nights.consent("verify", "train/d0")
    nights.consent("fsck")


def test_an_integrity_failure_ends_the_night(nights: Nights) -> None:
    nights.export(ANN)
    nights.deliver("d0", "ann")
    (nights.path / "consent-ledger" / "head").unlink()
    assert (nights.run(0), nights.alerts()) == (4, ["4 import"])
    assert not (nights.path / "snapshot.parquet").exists()
    assert not list((nights.path / "train").iterdir())
