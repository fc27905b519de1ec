"""How a ledger stands: its head and anchors, what people said, which sources came in, and which noes no run has heeded yet.

> A no is *answered* for a purpose once a logged run of that purpose was decided by a snapshot in which the no counts: the
> snapshot's prefix of the log holds it, and its moment is not before the no's. Whatever does not show that answers nothing.

All of it comes from one pass over the log, in bounded memory: each opening is hashed against its entry, the entries against
the signed root. The acts that are needed before the pass reaches them are looked up first, and the pass must find the same.
"""

from __future__ import annotations

from calendar import monthrange
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ledger import times
from ledger.consent import ALL_PURPOSES, NO, STATES, split_purpose
from ledger.errors import IntegrityError
from ledger.log import merkle
from ledger.log.merkle import RightEdge
from ledger.store.documents import completed_at
from ledger.store.erased import Erasures
from ledger.store.history import History
from ledger.store.opened import Erased, Opened

COUNTS = ("new", "repeated", "suppressed", "reversals", "rejected")
_ACTS = ("purpose_declared", "snapshot_compiled", "statement_made")


@dataclass(kw_only=True)
class Source:
    """An import source. counts: over all of its imports."""

    name: str
    completed_at: datetime
    imports: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def ever_completed(self) -> bool:
        return self.completed_at > times.EPOCH


@dataclass(frozen=True, kw_only=True)
class Unanswered:
    """A no that no run of a purpose has answered."""

    position: int
    event_id: str
    state: str
    recorded_at: datetime

    @property
    def due_at(self) -> datetime:
        """One month after it came in, as Article 12(3) of the GDPR has it; at that month's end where it has no such day."""
        at = self.recorded_at
        year, month = at.year + at.month // 12, at.month % 12 + 1
        return at.replace(year=year, month=month, day=min(at.day, monthrange(year, month)[1]))


@dataclass(frozen=True, kw_only=True)
class Status:
    """At `now`. said: purpose with its version (or `*`) -> events by state; one for two purposes stands with both.

    runs: token -> logged runs that say which snapshot decided them. unanswered: token -> the no that has waited longest, if any.
    """

    now: datetime
    origin: str
    size: int
    root: bytes
    recorded_at: datetime
    anchors: Sequence[tuple[Path, int]]
    events: int
    said: Mapping[str, Mapping[str, int]]
    sources: Sequence[Source]
    runs: Mapping[str, int]
    unanswered: Mapping[str, Unanswered | None]

    def exceeded(self, *, max_source_age: timedelta | None = None, max_unanswered: timedelta | None = None) -> list[str]:
        """What is over a limit, in sentences."""
        found = []
        if max_source_age is not None:
            # A ledger that nothing was imported into is not up to date with its sources: silence is no.
            found += [] if self.sources else ["no import source has ever completed"]
            found += [
                f"import source {source.name!r:.80} "
                + (f"last completed {_whole(age)} ago" if source.ever_completed else "never completed without rejects")
                + f", and the limit is {max_source_age}"
                for source in self.sources
                if (age := self.now - source.completed_at) > max_source_age
            ]
        if max_unanswered is not None:
            found += [
                f"the no of entry {no.position} has waited {_whole(age)} for a run of {token}, and the limit is {max_unanswered}"
                for token, no in self.unanswered.items()
                if no is not None and (age := self.now - no.recorded_at) > max_unanswered
            ]
        return found

    def document(self, exceeded: Sequence[str]) -> dict[str, Any]:
        """The JSON of `consent status` (schemas/status.json)."""
        return {
            "origin": self.origin,
            "head": {"size": self.size, "root": self.root.hex(), "recorded_at": times.text(self.recorded_at)},
            "anchors": [{"path": str(path), "size": size} for path, size in self.anchors],
            "events": self.events,
            "purposes": [{"purpose": purpose, "states": dict(states)} for purpose, states in self.said.items()],
            "sources": [
                {
                    "source": source.name,
                    "completed_at": times.text(source.completed_at),
                    "age_seconds": self._age(source.completed_at),
                    "imports": source.imports,
                    **{name: source.counts[name] for name in COUNTS},
                }
                for source in self.sources
            ],
            "unanswered": [
                {"purpose": token, "runs": self.runs[token], **({} if no is None else {"oldest": self._oldest(no)})}
                for token, no in self.unanswered.items()
            ],
            "exceeded": list(exceeded),
        }

    def _oldest(self, no: Unanswered) -> dict[str, Any]:
        return {
            "position": no.position,
            "event_id": no.event_id,
            "state": no.state,
            "recorded_at": times.text(no.recorded_at),
            "age_seconds": self._age(no.recorded_at),
            "due_at": times.text(no.due_at),
        }

    def _age(self, moment: datetime) -> int:
        return int((self.now - moment).total_seconds())


def _whole(age: timedelta) -> timedelta:
    return timedelta(seconds=age // timedelta(seconds=1))


def read(
    history: History,
    anchors: Sequence[tuple[Path, str]],
    on_progress: Callable[[int, int], None] | None,
    see: Callable[[Opened | Erased, dict[str, Any]], None] = lambda opened, document: None,
) -> Status:
    """anchors: read before this transaction began. on_progress: entries read, entries in all. see: is shown every entry as the
    pass goes by, before the root of them all is checked; of an erased one only when it was recorded. Raises IntegrityError.
    """
    _, head = history.check_anchors(anchors)
    looked_up = sorted((act for kind in _ACTS for act in history.acts(kind)), key=lambda act: act[0])
    looked_up = [(position, act) for position, act in looked_up if position < head.size]
    tokens = sorted({act["token"] for _, act in looked_up if act["act"] == "purpose_declared"})
    runs, answered = _runs(looked_up, tokens)
    met, edge, events, recorded_at = [], RightEdge(), 0, None
    said: dict[str, Counter[str]] = {}
    sources: dict[str, Source] = {}
    unanswered: dict[str, Unanswered | None] = dict.fromkeys(tokens)
    erasures = Erasures(history)
    for opened in history.opened(head.size):
        edge.append(merkle.leaf_hash(opened.entry))
        if isinstance(opened, Erased):
            document = {"recorded_at": times.text(history.recorded_at(opened.position + 1) or times.EPOCH)}
        else:
            document = opened.document()
        see(opened, document)
        erasures.see(opened, document)
        recorded_at = document["recorded_at"]
        if isinstance(opened, Erased):
            pass
        elif opened.is_event:
            events += 1
            for purpose in document["purposes"]:
                said.setdefault(purpose, Counter())[document["state"]] += 1
            if document["state"] in NO:
                for token in _spoken_of(document["purposes"], tokens):
                    if unanswered[token] is None and not _is_answered(opened.position, document, answered[token]):
                        unanswered[token] = _unanswered(opened.position, document)
        elif document["act"] in _ACTS:
            met.append((opened.position, document))
        elif document["act"] == "import_finished":
            _import(sources, document)
        if on_progress is not None and opened.position % 8192 == 0:
            on_progress(opened.position, head.size)
    if edge.root() != head.root:
        raise IntegrityError("the entries do not have the root that the head has signed", hint="run `consent fsck`")
    erasures.settle(head.size)
    if met != looked_up:  # they were found by a column that nothing has signed
        raise IntegrityError("the log holds other acts than table openings has it", hint="run `consent fsck`")
    assert recorded_at is not None, "a log begins with the acts that admit its keys"
    return Status(
        now=history.now(),
        origin=head.origin,
        size=head.size,
        root=head.root,
        recorded_at=times.parse(recorded_at),
        anchors=[(path, history.open(note).size) for path, note in anchors],
        events=events,
        said={purpose: {s: said[purpose][s] for s in STATES if said[purpose][s]} for purpose in sorted(said)},
        sources=[sources[name] for name in sorted(sources)],
        runs=runs,
        unanswered=unanswered,
    )


_Covered = tuple[int, datetime]
"""Of a snapshot: the size of its prefix, and its moment."""


def _runs(acts: Sequence[tuple[int, dict[str, Any]]], tokens: Sequence[str]) -> tuple[dict[str, int], dict[str, list[_Covered]]]:
    """Per token how many logged runs say what decided them, and what their snapshots cover: only those that no other outdoes."""
    compiled: dict[str, tuple[str, _Covered]] = {}
    runs = dict.fromkeys(tokens, 0)
    answered: dict[str, list[_Covered]] = {token: [] for token in tokens}
    for _, act in acts:
        if act["act"] == "snapshot_compiled":
            token = split_purpose(act["purpose"])[0]
            compiled[act["snapshot_sha256"]] = token, (act["tree_size"], times.parse(act["as_of"]))
        elif act["act"] == "statement_made" and act.get("snapshot_sha256") in compiled:
            token, covered = compiled[act["snapshot_sha256"]]
            runs[token] += 1
            if not any(size >= covered[0] and as_of >= covered[1] for size, as_of in answered[token]):
                answered[token] = [c for c in answered[token] if c[0] > covered[0] or c[1] > covered[1]] + [covered]
    return runs, answered


def _spoken_of(purposes: Sequence[str], tokens: Sequence[str]) -> Sequence[str]:
    return tokens if ALL_PURPOSES in purposes else sorted({split_purpose(purpose)[0] for purpose in purposes})


def _is_answered(position: int, no: Mapping[str, Any], answered: Sequence[_Covered]) -> bool:
    # Canonical times sort as text.
    counts_from = times.parse(min(no.get("occurred_at", no["recorded_at"]), no["recorded_at"]))
    return any(position < size and counts_from <= as_of for size, as_of in answered)


def _unanswered(position: int, no: Mapping[str, Any]) -> Unanswered:
    return Unanswered(position=position, event_id=no["event_id"], state=no["state"], recorded_at=times.parse(no["recorded_at"]))


def _import(sources: dict[str, Source], act: Mapping[str, Any]) -> None:
    name = act.get("source", "")
    source = sources.setdefault(name, Source(name=name, completed_at=times.EPOCH))
    source.completed_at = max(source.completed_at, completed_at(act))
    source.imports += 1
    source.counts.update({count: act[count] for count in COUNTS})
