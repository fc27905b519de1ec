"""Why one row is kept or dropped: its keys, the decision, and for each subject the acts that it follows from, in plain words.

It is decided as a run would decide it, and again by the reference (`ledger.consent.explain`); both must give the same reason.
The reference goes by the snapshot's rows: of all acts at one scope only the latest no and the latest yes can decide, and the
rows name both by their positions in the log. Where the answers were compiled to look, from the ledger at hand, the reference
goes by that ledger's own events as well, found by another way, and must name the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from ledger import times, words
from ledger.consent import ALLOWED, NO, REASONS, Event, Purpose, Row, Scope, split_purpose
from ledger.consent import Explanation as Rule
from ledger.consent import explain as explain_by_rule
from ledger.errors import IntegrityError, UsageError
from ledger.objects import Place
from ledger.shards.answers import Answers
from ledger.shards.columns import Columns, Keys
from ledger.shards.decide import decide
from ledger.shards.inputs import find_inputs
from ledger.shards.rewrite import ShardFile
from ledger.snapshot import NONE, Header
from ledger.store.documents import event_document

if TYPE_CHECKING:
    from ledger.book import Ledger
    from ledger.filter import ConsentFilter


@dataclass(frozen=True, kw_only=True)
class Act:
    """What a decision follows from. counts: the event as far as it decides. event: the whole of it, where the ledger is at hand
    and still has it."""

    position: int
    counts: Event
    event: Event | None

    def document(self) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "position": self.position,
            "answer": "yes" if self.counts.is_yes else "no",
            "counts_from": times.text(self.counts.counts_from),
        }
        for name in ("category", "content_id"):
            if (value := getattr(self.counts, name)) is not None:
                fields[name] = value
        for name in ("expires_at", "content_since"):
            if (moment := getattr(self.counts, name)) is not None:
                fields[name] = times.text(moment)
        if self.event is not None:
            fields["event"] = event_document(self.event)
        return fields


@dataclass(frozen=True, kw_only=True)
class SubjectAnswer:
    """One subject of the row. acts: see `ledger.consent.Answer`. sentence: all of it in plain words."""

    subject_id: str
    reason: str
    acts: Sequence[Act]
    sentence: str


@dataclass(frozen=True, kw_only=True)
class RowExplanation:
    """One row, numbered from 0 as in the exclusions of a run. keys: None is unknown. answers: none where the keys settle it."""

    shard: str
    row: int
    keys: Row
    purpose: str
    snapshot_sha256: str
    as_of: datetime
    decided_at: datetime
    reason: str
    sentence: str
    warnings: Sequence[str]
    answers: Sequence[SubjectAnswer]

    @property
    def allowed(self) -> bool:
        return self.reason == ALLOWED

    def document(self) -> dict[str, Any]:
        """The JSON of `consent explain` (schemas/explain.json)."""
        keys: dict[str, Any] = {"subjects": [subject or "" for subject in self.keys.subjects]}
        for name in ("category", "content_id"):
            if (value := getattr(self.keys, name)) is not None:
                keys[name] = value
        if self.keys.created is not None:
            keys["created"] = times.text(self.keys.created)
        return {
            "shard": self.shard,
            "row": self.row,
            "purpose": self.purpose,
            "snapshot_sha256": self.snapshot_sha256,
            "as_of": times.text(self.as_of),
            "decided_at": times.text(self.decided_at),
            "keys": keys,
            "allowed": self.allowed,
            "reason": self.reason,
            "sentence": self.sentence,
            "warnings": list(self.warnings),
            "answers": [
                {
                    "subject_id": answer.subject_id,
                    "allowed": answer.reason == ALLOWED,
                    "reason": answer.reason,
                    "sentence": answer.sentence,
                    "events": [act.document() for act in answer.acts],
                }
                for answer in self.answers
            ],
        }


def explain(consent: ConsentFilter, shard: str | Place, row: int, *, book: Ledger | None = None) -> RowExplanation:
    """Why a row of a shard (from 0) is kept or dropped now. book: the ledger that the snapshot is of, to look its events up.

    Raises UsageError for a row that is not there and for columns that cannot be keys, SnapshotError for a stale snapshot,
    IntegrityError where two ways of deciding do not agree.
    """
    snapshot, header = consent.snapshot, consent.snapshot.header
    decided_at = times.now()
    snapshot.check_age(decided_at)
    path, keys = _keys_of(shard, row, consent.columns, header.categories)
    found = _row(keys, consent.columns.subject_prefix)
    rows = snapshot.rows()
    events = _events(rows, [s for s in found.subjects if s], header.purpose)
    purpose = _purpose(header)
    by_rule = explain_by_rule(found, [e for _, e in events], purpose, header.as_of, decided_at)
    fast = REASONS[int(decide(keys, Answers(rows, decided_at), header.categories).codes[0])]
    if fast != by_rule.reason:
        raise IntegrityError(f"{path}, row {row}: a run decides {fast!r}, the rule {by_rule.reason!r}; this is a bug: report it")
    whole: Mapping[int, Event] = {}
    warnings = []
    if book is not None:
        subjects = [answer.subject_id for answer in by_rule.answers]
        whole = dict(book.events_of(subjects, checkpoint=header.checkpoint))
        if later := len(book.events_of(subjects)) - len(whole):
            warnings.append(f"the ledger has {later} later events of the row's subjects, which these answers do not know")
        if snapshot.receipt is None:
            _require_same(by_rule, events, explain_by_rule(
                found, whole.values(), _declared(book, header), header.as_of, decided_at), list(whole))  # fmt: skip
    answers = []
    for answer in by_rule.answers:
        acts = [_act(*events[i], whole) for i in answer.events]
        said = [(act.event or act.counts, f"entry {act.position}", act.event is not None) for act in acts]
        sentence = words.of_subject(answer.subject_id, answer.reason, said, found, consent.columns, header.purpose)
        answers.append(SubjectAnswer(subject_id=answer.subject_id, reason=answer.reason, acts=acts, sentence=sentence))
    return RowExplanation(
        shard=str(path),
        row=row,
        keys=found,
        purpose=header.purpose,
        snapshot_sha256=snapshot.sha256,
        as_of=header.as_of,
        decided_at=decided_at,
        reason=by_rule.reason,
        sentence=words.of_row(by_rule.reason, found, header.purpose, header.categories),
        warnings=warnings,
        answers=answers,
    )


def _keys_of(shard: str | Place, row: int, columns: Columns, categories: Sequence[str]) -> tuple[Place, Keys]:
    inputs = find_inputs([shard])
    if len(inputs) != 1:
        raise UsageError(f"{shard} means {len(inputs)} shards", hint="name the one that the row is in")
    path = inputs[0].path
    with ShardFile(path) as file:
        names = columns.check(file.schema_arrow, categories)
        if not 0 <= row < file.num_rows:
            last = f"its rows are 0 to {file.num_rows - 1}" if file.num_rows else "it has no rows"
            raise UsageError(f"{path} has no row {row}", hint=f"rows are numbered from 0 in the order of the file; {last}")
        group, before = 0, 0
        while row - before >= file.footer.rows[group]:
            before, group = before + file.footer.rows[group], group + 1
        keys = columns.read(file.read_keys(group, names).slice(row - before, 1))
        file.check_unchanged()
    return path, keys


def _row(keys: Keys, prefix: str) -> Row:
    """The one row that was read, for the reference."""
    # What is null or empty was read as empty, with the prefix before it.
    subjects: list[str | None] = [None if subject == prefix else subject for subject in keys.subjects.to_pylist()]
    if keys.missing[0] and all(subjects):
        subjects.append(None)  # a list that is empty, beside others that are not
    category, content = (None if column is None else column[0].as_py() for column in (keys.category, keys.content))
    created = None if keys.created is None or keys.created[0] == NONE else _moment(int(keys.created[0]))
    return Row(subjects, category, content, created)


def _moment(micros: int) -> datetime:
    """Nearest in the years 1 to 9999, before and after which no yes can begin."""
    try:
        return times.from_micros(micros)
    except OverflowError:
        return (datetime.max if micros > 0 else datetime.min).replace(tzinfo=UTC)


def _purpose(header: Header) -> Purpose:
    """By the snapshot's rows, which know only whether the version of a yes is accepted."""
    token, version = split_purpose(header.purpose)
    assert version is not None
    return Purpose(token=token, version=version, title="-", description="-", categories=header.categories)


def _declared(book: Ledger, header: Header) -> Purpose:
    return next(purpose for purpose in book.purposes() if purpose.reference == header.purpose)


def _events(rows: Any, subjects: Sequence[str], purpose: str) -> list[tuple[int, Event]]:
    """(position, event) in log order: of each scope of these subjects the latest no and the latest yes, as far as they decide."""
    token, version = split_purpose(purpose)
    assert version is not None
    events = []
    for row in rows.filter(pc.is_in(rows["subject_id"], value_set=pa.array(subjects, pa.string()))).to_pylist():
        scope = {
            Scope.EVERYTHING: {},
            Scope.CATEGORY: {"category": row["scope_id"]},
            Scope.CONTENT: {"content_id": row["scope_id"]},
        }[Scope(row["scope"])]
        common: dict[str, Any] = {"subject_id": row["subject_id"], **scope}
        if row["no_at"] != NONE:
            no = Event(state=NO[row["no_state"]], purposes=[purpose], recorded_at=times.from_micros(row["no_at"]), **common)
            events.append((row["no_position"], no))
        if row["yes_at"] != NONE:
            at, ends, since = (
                None if row[name] == NONE else times.from_micros(row[name])
                for name in ("yes_at", "yes_expires_at", "yes_content_since")
            )
            said_to = purpose if row["yes_accepted"] else f"{token}@{version + 1}"
            common |= {"occurred_at": at, "recorded_at": at, "expires_at": ends, "content_since": since}
            events.append((row["yes_position"], Event(state="given", purposes=[said_to], **common)))
    return sorted(events, key=lambda event: event[0])


def _act(position: int, counts: Event, whole: Mapping[int, Event]) -> Act:
    event = whole.get(position)
    if event is not None:
        names = ("subject_id", "category", "content_id", "is_yes", "counts_from", "expires_at", "content_since")
        for name in names if counts.is_yes else (*names, "state"):  # of a yes the snapshot does not say which
            if getattr(event, name) != getattr(counts, name):
                raise IntegrityError(f"entry {position} is not what the snapshot says of it ({name})", hint="run `consent fsck`")
    return Act(position=position, counts=counts, event=event)


def _require_same(by_rows: Rule, events: Sequence[tuple[int, Event]], by_events: Rule, positions: Sequence[int]) -> None:
    """Both by the positions of the deciding events."""
    one = [replace(answer, events=tuple(events[i][0] for i in answer.events)) for answer in by_rows.answers]
    other = [replace(answer, events=tuple(positions[i] for i in answer.events)) for answer in by_events.answers]
    if by_rows.reason != by_events.reason or one != other:
        raise IntegrityError(
            "the subject's events, found by their index, do not decide as the whole log does", hint="run `consent fsck`"
        )
