"""What a report says: statements that were opened against trusted keys, and what the ledger adds to them.

Everything about rows and shards is of the statements. Of the ledger is what no statement signs: acts over time, and the no that
has waited longest. A purpose's text is of the ledger too, with the receipt of the act that declared it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from ledger import objects, receipts, status, times
from ledger.consent import ALL_PURPOSES, STATES, YES, Purpose, split_purpose
from ledger.errors import IntegrityError, UsageError, VerificationError
from ledger.log.trust import Trust
from ledger.objects import Place
from ledger.report.timeline import Timeline
from ledger.statements.audit_statement import AuditRecord
from ledger.statements.one_log import Histories
from ledger.statements.receipt import VerifiedAct
from ledger.statements.selection_statement import SelectionRecord
from ledger.statements.statement import RunRecord
from ledger.statements.verify import STATEMENT_SUFFIX, open_statement, read_statement, statement_path
from ledger.status import Status, Unanswered
from ledger.store.documents import purpose_of
from ledger.store.history import History
from ledger.store.opened import Erased, Opened

Record = RunRecord | AuditRecord


@dataclass(frozen=True)
class Shard:
    """rows_in is None in an audit, which does not know what was left out."""

    name: str
    sha256: str
    rows_in: int | None
    rows_kept: int


@dataclass(frozen=True)
class Run:
    """One run or audit. name: of its folder. text: the statement's file. logged: its entry in the log."""

    name: str
    text: str
    record: Record
    snapshot: VerifiedAct
    logged: VerifiedAct

    @property
    def is_run(self) -> bool:
        return isinstance(self.record, RunRecord)

    @property
    def rows_in(self) -> int:
        return self.record.rows_in if isinstance(self.record, RunRecord) else self.record.rows

    @property
    def rows_kept(self) -> int:
        return self.record.rows_kept if isinstance(self.record, RunRecord) else self.record.rows

    @property
    def rows_dropped(self) -> Mapping[str, int]:
        return self.record.rows_dropped if isinstance(self.record, RunRecord) else {}

    @property
    def shards(self) -> Sequence[Shard]:
        if isinstance(self.record, RunRecord):
            return [Shard(s.output, s.output_sha256, s.rows_in, s.rows_kept) for s in self.record.shards]
        return [Shard(s.name, s.sha256, None, s.rows) for s in self.record.shards]

    @property
    def tree_size(self) -> int:
        """Entries of the log that its answers were made from."""
        size: int = self.snapshot.act["tree_size"]
        return size


@dataclass(frozen=True)
class Declared:
    """A purpose, when it was declared, and the receipt of that act."""

    purpose: Purpose
    at: datetime
    receipt: str


@dataclass
class Acts:
    """What the ledger heard about one purpose, in any version. states: events by what they say. notices: events by the notice
    that was shown, ID@VERSION/LANGUAGE. frozen: tree size -> when its last entry was recorded, yeses and noes until then.
    """

    timeline: Timeline = field(default_factory=Timeline)
    states: Counter[str] = field(default_factory=Counter)
    notices: Counter[str] = field(default_factory=Counter)
    frozen: dict[int, tuple[datetime, int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """made_at: when the ledger was asked. purposes: by reference. acts, unanswered: by token."""

    made_at: datetime
    origin: str
    size: int
    runs: Sequence[Run]
    purposes: Mapping[str, Declared]
    acts: Mapping[str, Acts]
    unanswered: Mapping[str, Unanswered | None]


def open_runs(places: Sequence[str | Place], trust: Trust) -> list[Run]:
    """Folders of shards or their statements; shards are not looked at.

    Raises VerificationError for one that does not hold, UsageError for one that is named twice.
    """
    if not places:
        raise UsageError("there is nothing to report on", hint="name the folder of a run or an audit, or its statement")
    met: set[str] = set()
    runs, histories = [], Histories()
    for place in map(objects.place, places):
        path = place if place.name.endswith(STATEMENT_SUFFIX) else statement_path(place)
        try:
            data = read_statement(path)
            opened = open_statement(data, trust)
            record = opened.record
            assert opened.logged is not None, "one that is not in the log was refused"
            for act in (opened.snapshot, opened.logged):
                histories.meet(act.checkpoint, act.roots)
        except VerificationError as error:
            raise VerificationError(f"{path}: {error}", hint=error.hint or "`consent verify` says more") from error
        if isinstance(record, SelectionRecord):
            raise UsageError(
                f"{path} is of a selection, and reports are of runs and audits", hint="`consent verify` tells what it says"
            )
        if (digest := opened.logged.act["statement_sha256"]) in met:
            raise UsageError(f"{path} is named twice, or is a copy", hint="name each statement once: its rows would count twice")
        met.add(digest)
        runs.append(Run(path.name.removesuffix(STATEMENT_SUFFIX), data.decode(), record, opened.snapshot, opened.logged))
    return runs


def gather(
    history: History,
    runs: Sequence[Run],
    anchors: Sequence[tuple[Path, str]],
    on_progress: Callable[[int, int], None] | None,
) -> Facts:
    """What the ledger adds, in one pass over its log. Raises UsageError where it is not the runs' own, and IntegrityError."""
    _, head = history.head()
    for run in runs:
        if run.record.origin != head.origin:
            raise UsageError(
                f"{run.name!r:.200} is of the log {run.record.origin!r:.100}, and the ledger in use is {head.origin!r:.100}",
                hint="name its own ledger with --ledger",
            )
    seen = _Seen(runs)
    standing: Status = status.read(history, anchors, on_progress, seen.see)
    seen.require_acts()
    return Facts(
        made_at=standing.now,
        origin=standing.origin,
        size=standing.size,
        runs=runs,
        purposes={reference: _declared(history, seen.purposes[reference]) for reference in seen.references},
        acts=seen.acts,
        unanswered={token: standing.unanswered[token] for token in seen.acts},
    )


class _Seen:
    """What is kept of the log as it passes by."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.references = list(dict.fromkeys(run.record.purpose for run in runs))
        self.acts = {split_purpose(reference)[0]: Acts() for reference in self.references}
        self.purposes: dict[str, int] = {}
        self._runs = runs
        self._sizes = {token: {r.tree_size for r in runs if split_purpose(r.record.purpose)[0] == token} for token in self.acts}
        self._expected = {act.position: act.act for run in runs for act in (run.snapshot, run.logged)}

    def see(self, opened: Opened | Erased, document: dict[str, Any]) -> None:
        recorded_at = times.parse(document["recorded_at"])
        if isinstance(opened, Erased):
            pass
        elif opened.is_event:
            spoken = self.acts if ALL_PURPOSES in document["purposes"] else {split_purpose(p)[0] for p in document["purposes"]}
            # Canonical times sort as text.
            counts_from = times.parse(min(document.get("occurred_at", document["recorded_at"]), document["recorded_at"]))
            for token in self.acts.keys() & spoken:
                self.acts[token].states[document["state"]] += 1
                if "notice" in document:
                    self.acts[token].notices[document["notice"]] += 1
                self.acts[token].timeline.add(counts_from, document["state"] in YES)
        elif document["act"] == "purpose_declared":
            self.purposes[f"{document['token']}@{document['version']}"] = opened.position
        if self._expected.get(opened.position) == document:
            del self._expected[opened.position]
        for token, acts in self.acts.items():
            if opened.position + 1 in self._sizes[token]:
                acts.frozen[opened.position + 1] = recorded_at, acts.timeline.yes, acts.timeline.no

    def require_acts(self) -> None:
        """That the log holds what the statements' receipts show: else their log is another history of this one's name."""
        if self._expected:
            raise IntegrityError(
                f"the ledger's log does not have, at entry {min(self._expected)}, what a statement's receipt shows there",
                hint="keep the statement: it proves that the log was rolled back, or has shown two histories",
            )
        if missing := [reference for reference in self.references if reference not in self.purposes]:
            raise IntegrityError(f"the log does not declare the purpose {missing[0]!r:.200}, which a statement is about")


def _declared(history: History, position: int) -> Declared:
    opened = history.at(position)
    at, purpose = purpose_of(opened.document())
    return Declared(purpose, at, receipts.of_act(history, opened).decode().removesuffix("\n"))


def counted(acts: Acts) -> dict[str, int]:
    """Events by state, in the order of the states, without those that nobody said."""
    return {state: acts.states[state] for state in STATES if acts.states[state]}
