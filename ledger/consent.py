"""The words and the rule. This module is the reference: every faster path is tested against `decide`,
and `explain` is the same rule with the events that it went by.

> A no stands until the same person answers it with a later yes that is at least as specific. Silence is no.

* An event counts from t = min(occurred_at, recorded_at); for a moment T the events with t <= T count.
* A yes or a no *matches* a row when its subject is the row's, its purposes hold the purpose (a no: or `*`), and its
  scope is everything, the row's category, or the row's content item. Everything < category < content.
* Of the yeses at one scope only the latest counts (by t, then log position). It is *in force* while the time is
  before expires_at, for an accepted version of the purpose, and, where it says content_since, for content created
  at or after that moment.
* *Allowed*: at least one matching yes is in force, and every matching no is followed by a strictly later matching
  yes, in force, whose scope is at least as specific. A tie is a no.
* A row with several subjects needs every one of them. A purpose that lists categories allows no other.
* Unknown fails closed. Of a row whose content item is unknown, item-level yeses count for nothing, and a subject with
  any item-level no is denied unless a later yes for that same item, in force and without content_since, answers it.
  The same for category.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from operator import attrgetter

from ledger.errors import InvalidEvent

YES = ("given", "renewed")
NO = ("refused", "withdrawn", "objected", "revoked")
STATES = YES + NO
ACTORS = ("subject", "guardian", "controller", "authority")
ONE_CLICK = "one-click"
ALL_PURPOSES = "*"
MAX_ID_BYTES = 512
MAX_TEXT_BYTES = 4096
_IDS = f"an id is 1 to {MAX_ID_BYTES} bytes of UTF-8 without NUL"

ALLOWED = "allowed"
REASONS = (ALLOWED, "subject_missing", "category_excluded", *NO, "not_covered", "notice_changed", "expired", "no_record")
"""Every reason a row can get, `allowed` first. The order is the code by which faster paths name them."""


class Scope(IntEnum):
    """What an event speaks of; a greater one is more specific."""

    EVERYTHING = 0
    CATEGORY = 1
    CONTENT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One act of one person. Checked on construction for all that needs no ledger; raises InvalidEvent.

    purposes: `token` or `token@version`, or `*` alone (a no only). notice: the id of a notice that the ledger keeps.
    Times are aware datetimes, and held in UTC. event_id, recorded_at and recorded_by are filled in by the ledger when absent.
    """

    state: str
    subject_id: str
    purposes: Sequence[str]
    category: str | None = None
    content_id: str | None = None
    occurred_at: datetime | None = None
    expires_at: datetime | None = None
    content_since: datetime | None = None
    channel: str | None = None
    actor: str = "subject"
    notice: str | None = None
    notice_sha256: str | None = None
    jurisdiction: str | None = None
    evidence_sha256: str | None = None
    reason: str | None = None
    event_id: str | None = None
    recorded_at: datetime | None = None
    recorded_by: str | None = None

    def __post_init__(self) -> None:
        # Millions are made at once: whatever is plain text, or absent, is passed over by these few looks.
        for name in _NO_TEXT if _TEXT_OR_NONE.issuperset(map(type, _texts(self))) else self.__slots__:
            if (value := getattr(self, name)) is not None and type(value) is not str:
                object.__setattr__(self, name, _plain(name, value))
        if self.state not in STATES:
            raise InvalidEvent(f"state {self.state!r:.60} is unknown", hint="states: " + ", ".join(STATES))
        check_id("subject_id", self.subject_id)
        if self.category is not None:
            check_id("category", self.category)
        if self.content_id is not None:
            check_id("content_id", self.content_id)
        if self.event_id is not None:
            check_id("event_id", self.event_id)
        if self.channel is not None:
            check_text("channel", self.channel)
        if self.notice is not None:
            check_text("notice", self.notice)
        if self.jurisdiction is not None:
            check_text("jurisdiction", self.jurisdiction)
        if self.reason is not None:
            check_text("reason", self.reason)
        if self.recorded_by is not None:
            check_text("recorded_by", self.recorded_by)
        if self.evidence_sha256 is not None:
            _check_sha256("evidence_sha256", self.evidence_sha256)
        if self.notice_sha256 is not None:
            _check_sha256("notice_sha256", self.notice_sha256)
        if self.actor not in ACTORS:
            raise InvalidEvent(f"actor {self.actor!r:.60} is unknown", hint="actors: " + ", ".join(ACTORS))
        if not isinstance(self.purposes, str):
            object.__setattr__(self, "purposes", tuple([_plain("purpose", purpose) for purpose in self.purposes]))
        if isinstance(self.purposes, str) or not self.purposes:
            raise InvalidEvent("purposes must be a list that names at least one purpose")
        for purpose in self.purposes:
            check_id("purpose", purpose)
        if len(self.purposes) > 1:
            object.__setattr__(self, "purposes", tuple(sorted(set(self.purposes))))
        if self.category is not None and self.content_id is not None:
            raise InvalidEvent(
                "an event speaks of a category or of one content item, not of both", hint="record two events, one for each"
            )
        for name in _MOMENTS:
            moment = getattr(self, name)
            if moment is not None and (not isinstance(moment, datetime) or moment.tzinfo is not UTC):
                raise InvalidEvent(f"{name} must be a datetime with a time zone")
        is_yes = self.is_yes
        if ALL_PURPOSES in self.purposes and (is_yes or len(self.purposes) > 1):
            raise InvalidEvent("`*` (all purposes) stands alone and is for a no only", hint="name each purpose that is agreed to")
        if is_yes:
            self._check_yes()
        elif self.expires_at is not None or self.content_since is not None:
            raise InvalidEvent(
                "expires_at and content_since are for a yes only: a no has no end and no beginning in the past",
                hint="leave them out; a later yes answers a no",
            )

    def _check_yes(self) -> None:
        if self.occurred_at is None:
            raise InvalidEvent("a yes needs occurred_at: an undated yes is no yes", hint="say when the person said it")
        if self.actor not in ("subject", "guardian"):
            raise InvalidEvent(
                f"a yes comes from the subject or a guardian, not from {self.actor!r}",
                hint="nobody else can say yes for a person",
            )
        if self.actor == "guardian" and (self.evidence_sha256 is None or self.expires_at is None):
            raise InvalidEvent(
                "a guardian's yes needs evidence and expires_at", hint="give the evidence's digest, and when the yes ends"
            )
        if self.channel == ONE_CLICK:
            raise InvalidEvent("one click can only say no", hint="record a yes through a channel that shows the notice")
        if self.expires_at is not None and self.expires_at <= self.occurred_at:
            raise InvalidEvent("expires_at is not after occurred_at", hint="a yes ends after it was given; mend either moment")

    def filled_in(self, **fields: object) -> Event:
        """A copy with what the ledger itself gives an event; that is not checked again, and all else was."""
        event, fill = object.__new__(Event), object.__setattr__
        for put, value in zip(_puts, _values(self), strict=True):
            put(event, value)
        for name, value in fields.items():
            fill(event, name, value)
        return event

    @property
    def is_yes(self) -> bool:
        return self.state in YES

    @property
    def scope(self) -> Scope:
        if self.content_id is not None:
            return Scope.CONTENT
        return Scope.CATEGORY if self.category is not None else Scope.EVERYTHING

    @property
    def counts_from(self) -> datetime:
        """t: the earlier of the act and its recording."""
        assert self.recorded_at is not None, "an event counts once it is recorded"
        return min(self.occurred_at or self.recorded_at, self.recorded_at)

    def names(self, token: str) -> bool:
        """Whether the event speaks of the purpose, in any version."""
        return any(p == ALL_PURPOSES or split_purpose(p)[0] == token for p in self.purposes)


_MOMENTS = ("occurred_at", "recorded_at", "expires_at", "content_since")
_NO_TEXT = ("purposes", "occurred_at", "expires_at", "content_since", "recorded_at")
_TEXT_OR_NONE = {str, type(None)}
_values = attrgetter(*Event.__slots__)
_puts = [getattr(Event, name).__set__ for name in Event.__slots__]
_texts = attrgetter(*(name for name in Event.__slots__ if name not in _NO_TEXT))


def _plain(name: str, value: object) -> object:
    """Text and moments as themselves. An Enum of texts formats as its own name, so that a no would be recorded for another
    purpose; moments of one time zone are compared by the clock on the wall, which shows some hours twice."""
    if isinstance(value, str):
        return str.__str__(value)
    if type(value) is datetime and value.tzinfo is UTC:
        return value
    if isinstance(value, datetime) and value.tzinfo is not None and value.utcoffset() is not None:
        try:
            moment = value.astimezone(UTC)
        except OverflowError as error:
            raise InvalidEvent(f"{name} lies beyond the calendar") from error
        return datetime.combine(moment.date(), moment.time(), UTC)
    return value


def check_id(name: str, value: object) -> None:
    """Ids are opaque: 1 to 512 bytes of UTF-8, no NUL, never normalised. Raises InvalidEvent."""
    if not isinstance(value, str):
        raise InvalidEvent(f"{name} must be text, not {type(value).__name__}")
    if not value:
        raise InvalidEvent(f"{name} is empty", hint=_IDS)
    if "\0" in value:
        raise InvalidEvent(f"{name} holds a NUL", hint=_IDS)
    if _utf8_length(name, value) > MAX_ID_BYTES:
        raise InvalidEvent(f"{name} is longer than {MAX_ID_BYTES} bytes", hint=_IDS)


def check_text(name: str, value: object) -> None:
    """Free text: 1 to 4096 bytes of UTF-8. Raises InvalidEvent."""
    if not isinstance(value, str) or not value:
        raise InvalidEvent(f"{name} must be text, and not empty")
    if _utf8_length(name, value) > MAX_TEXT_BYTES:
        raise InvalidEvent(f"{name} is longer than {MAX_TEXT_BYTES} bytes")


def _utf8_length(name: str, value: str) -> int:
    try:
        return len(value) if value.isascii() else len(value.encode())
    except UnicodeEncodeError:
        raise InvalidEvent(f"{name} holds a lone surrogate, which is no text") from None


def _check_sha256(name: str, value: object) -> None:
    if not (isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")):
        raise InvalidEvent(f"{name} is not 64 lower-case hexadecimal digits")


def split_purpose(reference: str) -> tuple[str, int | None]:
    """`train-ai@2` -> ("train-ai", 2); `train-ai` -> ("train-ai", None). A version is a plain positive number."""
    token, at, version = reference.rpartition("@")
    if at and version.isascii() and version.isdigit() and not version.startswith("0"):
        return token, int(version)
    return reference, None


def lookalike(subject_id: str) -> str:
    """What two ids share that differ only in case, surrounding space or Unicode normalisation."""
    if not subject_id.isascii():
        subject_id = unicodedata.normalize("NFKC", subject_id)
    return subject_id.strip().casefold()


@dataclass(frozen=True, slots=True, kw_only=True)
class Purpose:
    """What content may be used for: one declared version. accepts: the versions whose yes counts for this one."""

    token: str
    version: int
    title: str
    description: str
    categories: Sequence[str] = ()
    recipients: Sequence[str] = ()
    controller: str | None = None
    contact: str | None = None
    retention: str | None = None
    withdraw_url: str | None = None
    basis: str = "consent"
    accepts: Sequence[int] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "accepts", tuple(sorted({*self.accepts, self.version})))
        object.__setattr__(self, "categories", tuple(sorted(set(self.categories))))
        object.__setattr__(self, "recipients", tuple(self.recipients))

    @property
    def reference(self) -> str:
        return f"{self.token}@{self.version}"


@dataclass(frozen=True, slots=True)
class Row:
    """The keys of one row. None is unknown: a null or empty value, or a column that was not mapped."""

    subjects: Sequence[str | None]
    category: str | None = None
    content_id: str | None = None
    created: datetime | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One subject's reason, and the events of the history that it follows from, by their places in it.

    `allowed`: the yeses in force, latest first, of which every no that matches is followed by one. A no's state: the latest no
    that stands. `not_covered`, `notice_changed`, `expired`: the latest yes of which that is true. `no_record`: none.
    """

    subject_id: str
    reason: str
    events: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """A row's reason, and the answer of each of its subjects in order: none where the row's own keys settle it
    (`subject_missing`, `category_excluded`)."""

    reason: str
    answers: Sequence[Answer] = ()


def decide(row: Row, history: Iterable[Event], purpose: Purpose, as_of: datetime, decided_at: datetime | None = None) -> str:
    """The reason for one row: `allowed`, or the first of REASONS that applies to the first subject that does not allow it.

    history: events in log order, of any subject. as_of: the moment T up to which events count. decided_at: when
    expiry is judged (as_of unless told).
    """
    return explain(row, history, purpose, as_of, decided_at).reason


def explain(
    row: Row, history: Iterable[Event], purpose: Purpose, as_of: datetime, decided_at: datetime | None = None
) -> Explanation:
    """The reason for one row with the events that it follows from; the arguments are those of `decide`."""
    if not row.subjects or not all(row.subjects):
        return Explanation("subject_missing")
    if purpose.categories and row.category not in purpose.categories:
        return Explanation("category_excluded")
    events = list(history)
    answers = []
    for subject in row.subjects:
        assert subject is not None
        counted = [
            (t, i, e)
            for i, e in enumerate(events)
            if e.subject_id == subject and e.names(purpose.token) and (t := e.counts_from) <= as_of
        ]
        answers.append(_answer(subject, row, counted, purpose, decided_at or as_of))
    return Explanation(next((a.reason for a in answers if a.reason != ALLOWED), ALLOWED), tuple(answers))


_Counted = tuple[datetime, int, Event]


def _answer(subject: str, row: Row, counted: list[_Counted], purpose: Purpose, decided_at: datetime) -> Answer:
    matching = [c for c in counted if _matches(c[2], row)]
    yeses = _latest_yes_per_scope(matching)
    in_force = [c for c in yeses if _failure(c[2], row, purpose, decided_at) is None]
    standing = [
        c for c in matching if not c[2].is_yes and not any(t > c[0] and yes.scope >= c[2].scope for t, _, yes in in_force)
    ]
    for scope, known in ((Scope.CONTENT, row.content_id), (Scope.CATEGORY, row.category)):
        if not known:
            standing += _standing_of_unknown(scope, counted, purpose, decided_at)
    if standing:
        latest = max(standing, key=_lateness)
        return Answer(subject, latest[2].state, (latest[1],))
    if in_force:
        return Answer(subject, ALLOWED, tuple(i for _, i, _ in sorted(in_force, key=_lateness, reverse=True)))
    for reason in ("not_covered", "notice_changed", "expired"):
        if failed := [c for c in yeses if _failure(c[2], row, purpose, decided_at) == reason]:
            return Answer(subject, reason, (max(failed, key=_lateness)[1],))
    return Answer(subject, "no_record")


def _lateness(counted: _Counted) -> tuple[datetime, Scope, int]:
    """By time, then the more specific, then the later in the log."""
    t, i, event = counted
    return t, event.scope, i


def _matches(event: Event, row: Row) -> bool:
    if event.scope is Scope.CONTENT:
        return event.content_id == row.content_id
    return event.scope is Scope.EVERYTHING or event.category == row.category


def _latest_yes_per_scope(counted: Iterable[_Counted]) -> list[_Counted]:
    latest: dict[tuple[str | None, str | None], _Counted] = {}
    for c in counted:
        key = (c[2].category, c[2].content_id)
        if c[2].is_yes and (key not in latest or latest[key][:2] < c[:2]):
            latest[key] = c
    return list(latest.values())


def _failure(yes: Event, row: Row, purpose: Purpose, decided_at: datetime) -> str | None:
    """Why a yes is not in force for the row, or None when it is."""
    if yes.content_since is not None and (row.created is None or row.created < yes.content_since):
        return "not_covered"
    return _lapsed(yes, purpose, decided_at)


def _lapsed(yes: Event, purpose: Purpose, decided_at: datetime) -> str | None:
    versions = {version for token, version in map(split_purpose, yes.purposes) if token == purpose.token}
    if not versions & set(purpose.accepts):
        return "notice_changed"
    if yes.expires_at is not None and decided_at >= yes.expires_at:
        return "expired"
    return None


def _standing_of_unknown(scope: Scope, counted: list[_Counted], purpose: Purpose, decided_at: datetime) -> list[_Counted]:
    """The noes at one scope that nothing for the same item (or category) answers: the row may be any of them."""
    of_scope = [c for c in counted if c[2].scope is scope]
    if not of_scope:
        return []
    answers = [
        c for c in _latest_yes_per_scope(of_scope) if c[2].content_since is None and _lapsed(c[2], purpose, decided_at) is None
    ]
    return [
        no
        for no in of_scope
        if not no[2].is_yes
        and not any(t > no[0] and (yes.category, yes.content_id) == (no[2].category, no[2].content_id) for t, _, yes in answers)
    ]


def resolve_purposes(
    references: Sequence[str], declared: Mapping[str, Sequence[tuple[datetime, Purpose]]], acted_at: datetime | None
) -> tuple[str, ...]:
    """Each reference with its version. Without one it means the version that stood when the person acted.

    declared: per token its (declared at, purpose), oldest first. Whoever acted before the first declaration means the
    first version; a later version is never assumed. Raises InvalidEvent for an undeclared purpose or version.
    """
    resolved = []
    for reference in references:
        if reference == ALL_PURPOSES:
            resolved.append(reference)
            continue
        token, version = (reference, None) if reference in declared else split_purpose(reference)
        versions = declared.get(token, ())
        if not versions or (version is not None and all(p.version != version for _, p in versions)):
            known = ", ".join(sorted(p.reference for vs in declared.values() for _, p in vs)) or "none yet"
            raise InvalidEvent(
                f"purpose {reference!r:.80} is not declared", hint=f"declared: {known}; declare one with `consent purpose add`"
            )
        if version is None:
            stood = [p for at, p in versions if acted_at is None or at <= acted_at] or [versions[0][1]]
            version = stood[-1].version
        resolved.append(f"{token}@{version}")
    return tuple(sorted(set(resolved)))


def check_against(event: Event, declared: Mapping[str, Sequence[tuple[datetime, Purpose]]], now: datetime) -> None:
    """What only a ledger can check: that no yes is dated ahead of its clock, and that a category is one that a
    purpose lists. event.purposes are resolved. Raises InvalidEvent."""
    if event.is_yes and event.occurred_at is not None and event.occurred_at > now:
        raise InvalidEvent(
            "a yes may not be dated ahead of the ledger's clock",
            hint=f"the clock says {now:%Y-%m-%dT%H:%M:%SZ}; record a yes once it was said",
        )
    if event.category is None:
        return
    if ALL_PURPOSES in event.purposes:
        spoken_of = [p for versions in declared.values() for _, p in versions]
    else:
        tokens = {split_purpose(reference)[0] for reference in event.purposes}
        spoken_of = [p for token in tokens for _, p in declared[token]]
    if any(not p.categories for p in spoken_of):
        return
    listed = sorted({c for p in spoken_of for c in p.categories})
    if event.category not in listed:
        raise InvalidEvent(
            f"category {event.category!r:.80} is listed by no purpose of this event",
            hint="listed: " + (", ".join(listed) or "none"),
        )
