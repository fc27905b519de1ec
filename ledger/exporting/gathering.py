"""What the ledger has of one person, read in one transaction, each piece with its receipt; and runs, with what they prove."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ledger import person, receipts, times
from ledger.consent import ALL_PURPOSES, Event, Purpose
from ledger.errors import IntegrityError
from ledger.log import canonical, merkle
from ledger.log.cosignature import add_checkpoint
from ledger.log.entry import subject_tag
from ledger.statements.receipt import VerifiedAct
from ledger.statements.verify import Record
from ledger.store.documents import event_of, purpose_of
from ledger.store.history import History


@dataclass(frozen=True)
class Run:
    """A run or an audit whose statement was opened. in_run, in_snapshot: membership documents, None where there can be none,
    and why: see `missing`."""

    data: bytes
    record: Record
    snapshot: VerifiedAct
    logged: VerifiedAct
    in_run: bytes | None
    in_snapshot: bytes | None
    missing: Sequence[str] = ()

    @property
    def rows(self) -> int | None:
        """How many of the rows that were kept are of the person; None: there is no proof of it."""
        return None if self.in_run is None else self._said(self.in_run).get("rows", 0)

    @property
    def known(self) -> list[dict[str, Any]] | None:
        """What its snapshot said of the person, as rows; None: there is no proof of it."""
        return None if self.in_snapshot is None else self._said(self.in_snapshot).get("rows", [])

    @staticmethod
    def _said(membership: bytes) -> dict[str, Any]:
        said: dict[str, Any] = canonical.decode(membership.removesuffix(b"\n"), limit=2 << 20).get("said", {})
        return said


@dataclass(frozen=True)
class Entry:
    """An entry of the log, what it says, and its receipt as a file has it."""

    position: int
    document: dict[str, Any]
    receipt: bytes


@dataclass(frozen=True)
class Gathered:
    """events: in log order; said: the same as events of the rule. acts: declarations that the rest names, and erasures.

    purposes: every version that is named, by reference; current: those of them that stand. notices: texts by digest.
    consistency: size -> the proof that the log of the checkpoint continues the one of that size (C2SP tlog-witness's form).
    """

    made_at: datetime
    origin: str
    subject_id: str
    checkpoint: str
    size: int
    events: Sequence[Entry]
    said: Sequence[Event]
    acts: Sequence[Entry]
    purposes: Mapping[str, Purpose]
    current: Sequence[str]
    decisions: Sequence[dict[str, Any]]
    notices: Mapping[str, bytes]
    consistency: Mapping[int, bytes]
    runs: Sequence[Run]

    @property
    def erasures(self) -> list[dict[str, Any]]:
        return [entry.document for entry in self.acts if entry.document["act"] == "subject_erased"]


def gather(
    history: History,
    origin: str,
    subject_id: str,
    anchors: Sequence[tuple[Path, str]],
    tag_key: Callable[[], bytes],
    runs: Sequence[Run],
    cosigned: str | None = None,
) -> Gathered:
    """cosigned: the newest checkpoint that witnesses have cosigned; that of the whole log is given out with their lines.

    tag_key: asked for only where somebody was erased. Raises IntegrityError where the ledger is not whole."""
    note, head = history.check_anchors(anchors)
    if cosigned is not None and history.open(cosigned).size == head.size:
        history.check_extends(cosigned, head, "the ledger's cosigned checkpoint")
        note = cosigned
    events = [_event(history, position) for position, _ in history.events_of(subject_id)]
    said = [event_of(entry.document) for entry in events]
    decisions = person.decisions(history, subject_id, said, None)
    current = sorted(versions[-1][1].reference for versions in history.purposes().values())
    named = {p for event in said for p in event.purposes if p != ALL_PURPOSES} | {*current, *(run.record.purpose for run in runs)}
    texts = {(event.notice, event.notice_sha256) for event in said if event.notice_sha256 is not None}
    acts, purposes = [], {}
    for position, act in history.acts("purpose_declared", "notice_declared", "subject_erased"):
        if act["act"] == "purpose_declared":
            purpose = purpose_of(act)[1]
            wanted = purpose.reference in named
            if wanted:
                purposes[purpose.reference] = purpose
        elif act["act"] == "notice_declared":
            wanted = (f"{act['notice_id']}@{act['version']}/{act['language']}", act["sha256"]) in texts
        else:
            wanted = act["tag"] == subject_tag(tag_key(), subject_id).hex()
        if wanted:
            acts.append(_act(history, position))
    if missing := sorted(named - purposes.keys()):
        raise IntegrityError(f"the log has no declaration of purpose {missing[0]!r:.120}, which it names")
    sizes = {history.covering(entry.position)[0] for entry in (*events, *acts)}
    sizes |= {act.checkpoint.size for run in runs for act in (run.snapshot, run.logged)}
    return Gathered(
        made_at=history.now(),
        origin=origin,
        subject_id=subject_id,
        checkpoint=note,
        size=head.size,
        events=events,
        said=said,
        acts=acts,
        purposes=purposes,
        current=current,
        decisions=decisions,
        notices={sha256: history.notice(sha256) for _, sha256 in texts if sha256 is not None},
        consistency={size: _continues(history, size, head.size, note) for size in sorted(sizes) if size < head.size},
        runs=runs,
    )


def _event(history: History, position: int) -> Entry:
    opened = history.at(position)
    if opened.tag is None:
        raise IntegrityError(f"entry {position} is listed as an event and is none", hint="run `consent fsck`")
    return Entry(position, opened.document(), receipts.of_event(history, opened))


def _act(history: History, position: int) -> Entry:
    opened = history.at(position)
    return Entry(position, opened.document(), receipts.of_act(history, opened))


def _continues(history: History, old: int, new: int, note: str) -> bytes:
    return add_checkpoint(old, merkle.consistency_proof(old, new, history.node), note)


def said_by_rows(rows: Sequence[Mapping[str, Any]], subject_id: str, purpose: Purpose) -> list[Event]:
    """The rows of a snapshot as the acts that they stand for: of each scope the latest no and the latest yes."""
    events = []
    for row in rows:
        scope = {"category": "category", "content": "content_id"}.get(row["scope"])
        common: dict[str, Any] = {"subject_id": subject_id} | ({} if scope is None else {scope: row["scope_id"]})
        for answer in ("no", "yes"):
            if f"{answer}_at" not in row:
                continue
            at = times.parse(row[f"{answer}_at"])
            fields = {**common, "occurred_at": at, "recorded_at": at, "purposes": [purpose.reference]}
            if answer == "yes":
                for name in ("expires_at", "content_since"):
                    if f"yes_{name}" in row:
                        fields[name] = times.parse(row[f"yes_{name}"])
                if not row["yes_accepted"]:
                    fields["purposes"] = [f"{purpose.token}@{max(purpose.accepts) + 1}"]
            events.append(Event(state=row["no_state"] if answer == "no" else "given", **fields))
    return events
