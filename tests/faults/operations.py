"""What is made to fail: the commands that write, each with what must hold of it after any fault.

To add one: a class with these members, and a line in OPERATIONS.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

import ledger
from ledger import files
from ledger.log import merkle, trust
from ledger.statements.receipt import open_event_receipt
from tests.conftest import yes
from tests.faults.harness import Ended, Host

EDGE = 256
"""Where a tile ends."""


class Operation(Protocol):
    command: str
    done: int
    """The exit code of one that nothing befell."""

    def prepare(self, where: Path) -> None:
        """A world before the command; `where` is an empty folder."""

    def line(self, where: Path) -> tuple[str, ...]:
        """The command, with absolute paths."""

    def learn(self, where: Path) -> None:
        """The world after a command that nothing befell."""

    def judge(self, where: Path, ended: Ended) -> str:
        """The world after a fault: what became of it, in a word or two."""

    def settle(self, where: Path, again: Ended) -> None:
        """The world after the fault and the same command again."""


def created(where: Path, people: int) -> Path:
    """A ledger of two keys, a purpose, and acts of so many people."""
    folder = where / "consent-ledger"
    with ledger.create(folder) as book:
        book.declare_purpose("train-ai", title="T", description="D")
        if people:
            book.record_all(yes(f"u{i}") for i in range(people))
    return folder


def names(where: Path) -> set[str]:
    # The file that an anchor replaced is of no meaning, and may be there or not.
    return {path.relative_to(where).as_posix() for path in where.rglob("*") if not path.is_dir() and path.suffix != ".spare"}


def size_of(where: Path) -> int:
    return ledger.fsck(where / "consent-ledger").size


def events_of(where: Path) -> list[str | None]:
    with ledger.open(where / "consent-ledger") as book:
        return [event.event_id for _, event in book.events()]


def acts_of(where: Path, kind: str) -> list[dict[str, Any]]:
    with ledger.open(where / "consent-ledger") as book:
        found: list[dict[str, Any]] = book.read(lambda history: [act for _, act in history.acts(kind)])
        return found


def json_of(ended: Ended) -> Any:
    return json.loads(ended.told.partition("\n}\n")[0] + "}")


class Append:
    """One act, recorded one entry before a tile's edge, and so over it with the entry that follows."""

    command, done = "record", 0
    people = EDGE - 4

    def prepare(self, where: Path) -> None:
        created(where, self.people)
        self._before = size_of(where)

    def line(self, where: Path) -> tuple[str, ...]:
        act = ("given", "ann", "--purpose", "train-ai", "--event-id", "e1", "--occurred-at", "2026-01-01T00:00:00Z")
        return ("--ledger", str(where / "consent-ledger"), "record", *act, "--format", "json")

    def learn(self, where: Path) -> None:
        self._names = names(where)

    def judge(self, where: Path, ended: Ended) -> str:
        size = size_of(where)
        stored = "e1" in events_of(where)
        assert size == self._before + stored, ended
        if ended.code == 0 or '"event_id": "e1"' in ended.told:
            assert stored, ended
        if ended.code == 1:
            assert stored == ("it was recorded" in ended.told), ended
            assert not (stored and "nothing was recorded" in ended.told), ended
        self._stored = stored
        return "stored" if stored else "not stored"

    def settle(self, where: Path, again: Ended) -> None:
        assert json_of(again)["repeated"] == self._stored, again
        assert size_of(where) == self._before + 1
        assert events_of(where).count("e1") == 1
        assert names(where) == self._names


class Import:
    """A file of some hundred acts, over a tile's edge: all of it, or nothing."""

    command, done = "import", 0
    rows, people = 300, 100

    def prepare(self, where: Path) -> None:
        created(where, self.people)
        lines = [f"i{n},{'given' if n % 3 else 'withdrawn'},p{n},train-ai,2026-01-01T00:00:00Z" for n in range(self.rows)]
        (where / "acts.csv").write_text("\n".join(["event_id,state,subject_id,purposes,occurred_at", *lines, ""]))
        self._before = size_of(where)

    def line(self, where: Path) -> tuple[str, ...]:
        return ("--ledger", str(where / "consent-ledger"), "import", str(where / "acts.csv"), "--format", "json")

    def learn(self, where: Path) -> None:
        self._names = names(where)

    def judge(self, where: Path, ended: Ended) -> str:
        size = size_of(where)
        self._stored = size > self._before
        assert size == self._before + (self.rows + 1 if self._stored else 0), ended
        if ended.code == 0 or '"new": ' in ended.told:
            assert self._stored, ended
        if ended.code == 1 and '"new": ' not in ended.told:
            assert self._stored == ("it was recorded" in ended.told), ended
        return "stored" if self._stored else "not stored"

    def settle(self, where: Path, again: Ended) -> None:
        report = json_of(again)
        assert (report["new"], report["repeated"]) == ((0, self.rows) if self._stored else (self.rows, 0)), again
        assert len(acts_of(where, "import_finished")) == 1 + self._stored
        assert size_of(where) == self._before + self.rows + 1 + self._stored
        events = events_of(where)
        assert len(set(events)) == len(events) == self.rows + self.people
        assert names(where) == self._names


class Filter:
    """One shard, over an earlier run's output, after someone has said no: the old shard or the new one, and no statement that
    speaks of another than the one that stands there."""

    command, done = "filter", 0

    def prepare(self, where: Path) -> None:
        folder = created(where, EDGE - 8)
        (where / "raw").mkdir()
        rows = {"user_id": [f"u{n % 300}" for n in range(600)], "text": [f"said {n}" for n in range(600)]}
        pq.write_table(pa.table(rows), where / "raw" / "a.parquet", row_group_size=200)
        with ledger.open(folder) as book:
            consent = ledger.ConsentFilter(book.look("train-ai"), ledger.Columns(subject="user_id"))
            consent.filter_shards([where / "raw"], where / "train", key=book.run_key(), publish=book.publish, admit=book.admit)
            shutil.rmtree(book.snapshots)  # so that those that stand there in the end are of the runs that are tried
            book.withdraw("u7")
        self._old = files.sha256_of(where / "train" / "a.parquet")
        self._before = size_of(where)

    def line(self, where: Path) -> tuple[str, ...]:
        what = (str(where / "raw"), "-o", str(where / "train"), "--purpose", "train-ai", "--subject", "user_id")
        return ("--ledger", str(where / "consent-ledger"), "filter", *what, "--workers", "1", "--format", "json")

    def learn(self, where: Path) -> None:
        self._new = files.sha256_of(where / "train" / "a.parquet")
        assert self._new != self._old
        assert "u7" not in pq.read_table(where / "train" / "a.parquet")["user_id"].to_pylist()
        self._names = self._named(where)

    def judge(self, where: Path, ended: Ended) -> str:
        folder, statement = where / "consent-ledger", where / "train.intoto.jsonl"
        size = size_of(where)
        shard = files.sha256_of(where / "train" / "a.parquet")
        assert shard in (self._old, self._new), "whole under its name: the one before, or the one to be"
        if statement.exists():
            ledger.verify(where / "train", trust=folder / "trust")
        if ended.code == 0:
            assert statement.exists() and shard == self._new, ended
        if ended.code == 1:
            told = ended.told
            statements = len(acts_of(where, "statement_made")) - 1
            if "it was recorded" in told:
                assert size > self._before, ended
            elif "nothing was recorded" in told or statements == 0:
                assert statements == 0, ended
            # One that the log has and nobody holds is of a run that failed later: the act names a digest that nothing has.
        return f"{'new' if shard == self._new else 'old'} shard, {'a' if statement.exists() else 'no'} statement"

    def settle(self, where: Path, again: Ended) -> None:
        made = json_of(again)
        assert [shard["output_sha256"] for shard in made["shards"]] == [self._new]
        assert files.sha256_of(where / "train" / "a.parquet") == self._new
        ledger.verify(where / "train", trust=where / "consent-ledger" / "trust")
        size_of(where)
        snapshots = sorted((where / "consent-ledger" / "snapshots").iterdir())
        for path in snapshots:
            if path.suffix == ".parquet":
                ledger.load_snapshot(path, trust=where / "consent-ledger" / "trust")
        assert self._named(where) == self._names, [path.name for path in snapshots]

    def _named(self, where: Path) -> list[str]:
        """Snapshots and the files of an index are named by their digest: each run's is another."""
        return sorted(re.sub("[0-9a-f]{64}", "DIGEST", name) for name in names(where) if "/snapshots/" not in name)


class AddRunKey:
    """A new private key, the act that admits it, and the trust file replaced."""

    command, done = "key", 0

    def prepare(self, where: Path) -> None:
        created(where, EDGE - 5)
        self._trust = (where / "consent-ledger" / "trust").read_text(encoding="utf-8")

    def line(self, where: Path) -> tuple[str, ...]:
        # What an error's hint says to do, where the key was made.
        option = "--key" if (where / "spark.key").exists() else "--output"
        return ("--ledger", str(where / "consent-ledger"), "key", "add-run", "spark", option, str(where / "spark.key"))

    def learn(self, where: Path) -> None:
        self._names = names(where)
        assert "/spark+" in (where / "consent-ledger" / "trust").read_text(encoding="utf-8")

    def judge(self, where: Path, ended: Ended) -> str:
        size_of(where)
        admitted = self._admitted(where)
        assert admitted <= 1, ended
        text = (where / "consent-ledger" / "trust").read_text(encoding="utf-8")
        listed = text != self._trust
        assert admitted or not listed, "trusted, and not in the log"
        assert text.startswith(self._trust) and text.count("\n") == self._trust.count("\n") + listed, ended
        if (where / "spark.key").exists():
            ledger.load_key(where / "spark.key")
            assert ended.code in (0, -9) or f"--key {where / 'spark.key'}" in ended.told, ended
        if ended.code == 0:
            assert admitted and listed, ended
        elif ended.code == 1:
            assert not ("nothing was recorded" in ended.told and admitted), ended
            assert not ("it was recorded" in ended.told and not admitted), ended
        return f"{'admitted' if admitted else 'not admitted'}, {'listed' if listed else 'not listed'}"

    def settle(self, where: Path, again: Ended) -> None:
        assert self._admitted(where) == 1
        assert (where / "consent-ledger" / "trust").read_text(encoding="utf-8").count("/spark+") == 1
        size_of(where)
        assert names(where) == self._names

    def _admitted(self, where: Path) -> int:
        return sum("/spark+" in act["vkey"] for act in acts_of(where, "key_added"))


class NewLinkKey:
    """A private file, in place of the one that is there: no key of links that were sent out is lost."""

    command, done = "key", 0

    def prepare(self, where: Path) -> None:
        folder = created(where, EDGE - 5)
        with ledger.open(folder) as book:
            book.links.renew_key()
        self._before = self._keys(where)

    def line(self, where: Path) -> tuple[str, ...]:
        return ("--ledger", str(where / "consent-ledger"), "key", "new-link")

    def learn(self, where: Path) -> None:
        self._names = names(where)

    def judge(self, where: Path, ended: Ended) -> str:
        size_of(where)
        keys = self._keys(where)
        assert keys[-1:] == self._before and len(keys) <= 2, ended
        assert len(keys) == 2 or ended.code != 0, ended
        return f"{len(keys)} keys"

    def settle(self, where: Path, again: Ended) -> None:
        assert self._keys(where)[-1:] == self._before
        assert names(where) == self._names

    def _keys(self, where: Path) -> list[str]:
        path = where / "consent-ledger" / "link.key"
        assert path.stat().st_mode & 0o777 == 0o600
        return path.read_text(encoding="utf-8").splitlines()


class ImportWithRejects(Import):
    """The same with a bad row, which goes to a file that is new."""

    done = 1

    def prepare(self, where: Path) -> None:
        super().prepare(where)
        with (where / "acts.csv").open("a", encoding="utf-8") as file:
            file.write("bad,perhaps,nobody,train-ai,2026-01-01T00:00:00Z\n")

    def line(self, where: Path) -> tuple[str, ...]:
        return (*super().line(where), "--rejects", str(where / "bad.csv"))

    def learn(self, where: Path) -> None:
        super().learn(where)
        self._rejected = {name: (where / name).read_bytes() for name in ("bad.csv", "bad.csv.why")}

    def judge(self, where: Path, ended: Ended) -> str:
        outcome = super().judge(where, ended)
        for name, content in self._rejected.items():
            path = where / name
            assert not path.exists() or path.read_bytes() == content, ended
            assert path.exists() or not self._stored, "recorded, and what was rejected is nowhere"
        return outcome


class Publish:
    """The log as static files, over what was published before: a checkpoint, and all that it speaks of."""

    command, done = "log", 0

    def prepare(self, where: Path) -> None:
        from ledger.cli import run

        folder = created(where, 200)
        assert run(["--ledger", str(folder), "log", "publish", str(where / "published")]) == 0
        with ledger.open(folder) as book:
            book.record_all(yes(f"v{i}") for i in range(100))
        self._sizes = (self._published(where), size_of(where))

    def line(self, where: Path) -> tuple[str, ...]:
        return ("--ledger", str(where / "consent-ledger"), "log", "publish", str(where / "published"))

    def learn(self, where: Path) -> None:
        assert self._published(where) == self._sizes[1]
        self._names = names(where)

    def judge(self, where: Path, ended: Ended) -> str:
        assert size_of(where) == self._sizes[1]
        size = self._published(where)
        assert size in self._sizes, ended
        assert size == self._sizes[1] or ended.code != 0, ended
        return "new checkpoint" if size == self._sizes[1] else "old checkpoint"

    def settle(self, where: Path, again: Ended) -> None:
        assert self._published(where) == self._sizes[1]
        assert names(where) == self._names

    def _published(self, where: Path) -> int:
        """The size of the checkpoint that stands there, once every entry and tile that it speaks of was found to fit."""
        keys = trust.parse((where / "consent-ledger" / "trust").read_text(encoding="utf-8"))
        head = keys.open_unwitnessed((where / "published" / "checkpoint").read_text(encoding="utf-8"))
        entries: list[bytes] = []
        for number in range(-(-head.size // EDGE)):
            width = min(EDGE, head.size - EDGE * number)
            bundle = self._tile(where, "entries", number, width)
            hashes = self._tile(where, "0", number, width)
            mine = []
            while bundle:
                length = int.from_bytes(bundle[:2], "big")
                mine.append(bundle[2 : 2 + length])
                bundle = bundle[2 + length :]
            assert len(mine) == width
            assert b"".join(merkle.leaf_hash(entry) for entry in mine) == hashes
            entries += mine
        edge = merkle.RightEdge()
        edge.extend([merkle.leaf_hash(entry) for entry in entries])
        assert edge.root() == head.root
        return head.size

    def _tile(self, where: Path, level: str, number: int, width: int) -> bytes:
        folder = where / "published" / "tile" / level
        name = f"{number:03}" if width == EDGE else f"{number:03}.p/{width}"
        return (folder / name).read_bytes()


class Erase:
    """A person with several acts: either all of it is there, or the act of the erasure is and no byte of theirs."""

    command, done = "erase", 0
    who = "ann-who-wants-to-be-forgotten"

    def prepare(self, where: Path) -> None:
        folder = created(where, 240)
        with ledger.open(folder) as book:
            book.record_all(
                [
                    yes(self.who, event_id="first-of-hers"),
                    yes(self.who, event_id="second-of-hers", content_id="hers"),
                    yes("bob"),
                ]
            )
            book.withdraw(self.who)
        with closing(sqlite3.connect(folder / "ledger.db")) as database:
            rows = database.execute("SELECT salt, event_id FROM openings WHERE subject_id = ?", (self.who,)).fetchall()
        assert len(rows) == 3
        salts = [bytes(salt) for salt, _ in rows]
        self._traces = [self.who.encode(), *(event_id.encode() for _, event_id in rows), *salts]
        self._traces += [salt.hex().encode() for salt in salts] + [base64.b64encode(salt) for salt in salts]

    def line(self, where: Path) -> tuple[str, ...]:
        return ("--ledger", str(where / "consent-ledger"), "erase", self.who, "--yes")

    def learn(self, where: Path) -> None:
        self._names = names(where)
        assert not self._found(where)

    def judge(self, where: Path, ended: Ended) -> str:
        events = len(events_of(where))  # opens it, by which what was begun is finished
        size_of(where)
        erased = len(acts_of(where, "subject_erased"))
        assert erased in (0, 1), ended
        assert events == (241 if erased else 244), ended
        assert erased or ended.code != 0, ended
        if erased:
            assert not self._found(where), ended
        return "erased" if erased else "not erased"

    def settle(self, where: Path, again: Ended) -> None:
        assert len(events_of(where)) == 241
        assert not self._found(where)
        size_of(where)
        assert names(where) == self._names

    def _found(self, where: Path) -> list[tuple[str, bytes]]:
        folder = where / "consent-ledger"
        read = [(name, (folder / name).read_bytes()) for name in names(folder)]
        return [(name, trace) for name, content in read for trace in self._traces if trace in content]


class RotateKey:
    """The log's key replaced by another, over a tile's edge: at every moment one that may sign is there, and a no is taken."""

    command, done = "key", 0

    def prepare(self, where: Path) -> None:
        folder = created(where, EDGE - 4)
        with ledger.open(folder) as book:
            self._receipt = book.record(yes("ann", event_id="e1")).receipt
        self._trust = (folder / "trust").read_text(encoding="utf-8")
        self._key = (folder / "log.key").read_bytes()
        self._before = size_of(where)

    def line(self, where: Path) -> tuple[str, ...]:
        return ("--ledger", str(where / "consent-ledger"), "key", "rotate")

    def learn(self, where: Path) -> None:
        self._names = names(where)
        self._require_new(where, 1)

    def judge(self, where: Path, ended: Ended) -> str:
        folder = where / "consent-ledger"
        size = size_of(where)
        self._stored = size > self._before
        assert size == self._before + 2 * self._stored, ended
        assert self._rotations(where) == self._stored, ended
        assert self._stored or (folder / "trust").read_text(encoding="utf-8") == self._trust, ended
        assert self._stored or (folder / "log.key").read_bytes() == self._key, ended
        if ended.code == 0:
            self._require_new(where, 1)
        if ended.code == 1:
            assert not ("nothing was recorded" in ended.told and self._stored), ended
            assert not ("it was recorded" in ended.told and not self._stored), ended
        self._finished = self._stored and not (folder / "log.key.next").exists()
        self._require_no_is_taken(where)
        return f"{'stored' if self._stored else 'not stored'}, {'finished' if self._finished else 'not finished'}"

    def settle(self, where: Path, again: Ended) -> None:
        assert ("is finished: " in again.told) == (self._stored and not self._finished), again
        self._require_new(where, 1 + self._finished)
        self._require_no_is_taken(where)
        assert names(where) == self._names

    def _require_new(self, where: Path, rotations: int) -> None:
        folder = where / "consent-ledger"
        assert self._rotations(where) == rotations
        assert size_of(where) == self._before + 2 * rotations
        assert (folder / "log.key").stat().st_mode & 0o777 == 0o600
        old = self._key.splitlines()[1]
        assert [name for name in names(folder) if old in (folder / name).read_bytes()] == [], "the old private key"
        keys = trust.parse((folder / "trust").read_text(encoding="utf-8"))
        assert len(keys.log) == rotations + 1
        assert sorted(keys.until.values()) == [self._before + 2 * n for n in range(1, rotations + 1)]

    def _require_no_is_taken(self, where: Path) -> None:
        """By whoever comes next, instead of the same command again."""
        copied = where.with_name("next")
        shutil.rmtree(copied, ignore_errors=True)
        shutil.copytree(where, copied)
        with ledger.open(copied / "consent-ledger") as book:
            book.withdraw("ann")
            assert not book.show("ann")["decisions"][0]["allowed"]
        size_of(copied)
        assert not (copied / "consent-ledger" / "log.key.next").exists() or not self._stored
        keys = trust.parse((copied / "consent-ledger" / "trust").read_text(encoding="utf-8"))
        assert open_event_receipt(self._receipt, keys).event["event_id"] == "e1"
        shutil.rmtree(copied)

    def _rotations(self, where: Path) -> int:
        return sum(act["role"] == "log" for act in acts_of(where, "key_ended"))


OPERATIONS: tuple[type[Operation], ...] = (
    Append,
    Import,
    ImportWithRejects,
    Filter,
    AddRunKey,
    NewLinkKey,
    RotateKey,
    Publish,
    Erase,
)


def whole(operation: Operation, host: Host, folder: Path) -> Path:
    """A world before the command, in a folder of its own."""
    where = folder / f"{operation.command}-whole"
    where.mkdir()
    operation.prepare(where)
    return where
