"""A run that commits to its subjects, made by hand: what makes them in the program is tested elsewhere."""

from __future__ import annotations

import hmac
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from standalone import Naive

import ledger
from ledger import times
from ledger.consent import NO
from ledger.log import dsse
from ledger.snapshot import NONE, load_snapshot
from ledger.statements.decided import BASES
from ledger.statements.statement import run_statement
from ledger.statements.verify import open_statement
from tests.report.stories import Story


def naive_row(row: dict[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {"scope": ("everything", "category", "content")[row["scope"]]}
    if row["scope_id"]:
        said["scope_id"] = row["scope_id"]
    if row["no_position"] >= 0:
        said |= {"no_at": moment(row["no_at"]), "no_state": NO[row["no_state"]], "no_position": row["no_position"]}
    if row["yes_position"] >= 0:
        said |= {"yes_at": moment(row["yes_at"]), "yes_position": row["yes_position"], "yes_accepted": int(row["yes_accepted"])}
        said["yes_basis"] = BASES[row["yes_basis"]]
        said |= {name: moment(row[name]) for name in ("yes_expires_at", "yes_content_since") if row[name] != NONE}
    return said


def moment(micros: int) -> str:
    return times.text(times.from_micros(micros))


class Committed:
    """The run of a story, stated again with trees of its subjects, and what makes memberships of them."""

    def __init__(self, story: Story, lie: dict[str, Any] | None = None) -> None:
        """lie: what the run's tree says of somebody instead."""
        self.book, self.path = story.book, story.train.with_name("train.intoto.jsonl")
        opened = open_statement(self.path.read_bytes(), story.book.trust)
        (file,) = (story.folder / "consent-ledger" / "snapshots").glob("*.parquet")
        rows = load_snapshot(file, trust=story.book.trust).rows().to_pylist()
        first = {e.subject_id: position for position, e in reversed([*story.book.events()])}
        seed, tag_key, said = bytes(32), story.book.folder.tag_key(), {}
        for subject, position in first.items():
            salt = story.book.read(lambda history, at: history.at(at).salt, position)
            secret = hmac.digest(tag_key, b"secret\n" + salt, "sha256")
            theirs = [naive_row(row) for row in rows if row["subject_id"] == subject]
            if theirs:
                said[subject] = {"rows": theirs}, hmac.digest(secret, seed, "sha256")
        self.known = Naive(said, seed)
        fields = {k: v for k, v in opened.snapshot.act.items() if k not in ("act", "recorded_at", "recorded_by")}
        self.snapshot = self.act("snapshot_compiled", **{**fields, **self.known.fields})
        counts: dict[str, Any] = {}
        for path in story.train.rglob("*.parquet"):
            for subject in pq.read_table(path)["user_id"].to_pylist():
                counts[subject] = {"rows": counts.get(subject, {"rows": 0})["rows"] + 1}
        self.kept = Naive({subject: (rows, b"") for subject, rows in (counts | (lie or {})).items()})
        record = replace(
            opened.record,
            snapshot_receipt=self.snapshot.decode(),
            subjects={"root": self.kept.root().hex(), "seed": self.kept.seed.hex(), "count": len(counts)},
        )
        line = dsse.seal(run_statement(record), story.book.run_key())
        self.logged = story.book.admit(line)
        self.path.write_bytes(line + b"\n" + self.logged)

    def act(self, kind: str, **fields: Any) -> bytes:
        """The receipt's line."""
        return self.book._logged(lambda tx: tx.act(kind, "user:ann", **fields)).removesuffix(b"\n")

    def in_run(self, run: Path, subject_id: str, trust: Any) -> bytes:
        return self.kept.membership(subject_id, self.logged.removesuffix(b"\n"))

    def in_snapshot(self, book: ledger.Ledger, statement: bytes, subject_id: str, trust: Any) -> bytes:
        return self.known.membership(subject_id, self.snapshot)
