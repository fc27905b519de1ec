"""Acts of an import in short: what an act says as many others do is made and admitted once, and so is what it is written as.

> Acts have one *form* when they say the same but for who, which item, when, and the id, and when nothing was declared between the
> moments that they say. One act of a form goes the whole way; of another that has it only what differs is checked. An act in
> which something of that is not plain (not text of a length that any id may have, no moment in UTC) is not taken in short.

So an act in short stands for the event that `acts.act_of` makes, and for the one that `Transaction.admit` makes of that.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple

from ledger import times
from ledger.consent import Event
from ledger.errors import InvalidEvent
from ledger.store import acts
from ledger.store.alike import MAX_PLAIN
from ledger.store.documents import said_alike, written

_DIFFERING = ("event_id", "subject_id", "content_id", "occurred_at")
_ALIKE = tuple(name for name in acts.COLUMNS if name not in (*_DIFFERING, "purposes"))
_MAX_FORMS = 4096
_FEW = 64
"""Rows of a chunk that are looked at twice."""


@dataclass(frozen=True, slots=True)
class Form:
    """given, admitted: of one of its acts, with what each is written as but for what differs."""

    given: Event
    admitted: Event
    given_alike: tuple[str, str, str, str]
    alike: tuple[str, str, str, str]
    is_yes: bool
    state: str
    category: str | None
    ends: str | None


class Short(NamedTuple):
    """An act that was admitted. moment: its occurred_at, as it is written. canonical: `event_bytes` of it as it is
    recorded."""

    form: Form
    subject_id: str
    event_id: str
    content_id: str | None
    moment: str
    canonical: bytes

    @property
    def is_yes(self) -> bool:
        return self.form.is_yes

    @property
    def state(self) -> str:
        return self.form.state

    @property
    def category(self) -> str | None:
        return self.form.category

    def event(self) -> Event:
        """As it was given."""
        return self._of(self.form.given)

    def recorded(self) -> Event:
        """As it is recorded."""
        return self._of(self.form.admitted)

    def _of(self, event: Event) -> Event:
        return event.filled_in(
            subject_id=self.subject_id, event_id=self.event_id, content_id=self.content_id, occurred_at=times.parse(self.moment)
        )


def given(event: Event | Short) -> Event:
    return event.event() if type(event) is Short else event  # type: ignore[return-value]


def recorded(event: Event | Short) -> Event:
    return event.recorded() if type(event) is Short else event  # type: ignore[return-value]


class Forms:
    """Those of one import, in one transaction.

    admit: what the transaction makes of an event; raises InvalidEvent. changes: when something was declared, so that the same
    words mean another version. now: no yes may be of later.
    """

    def __init__(self, admit: Callable[[Event], Event], changes: Sequence[datetime], now: datetime, file_sha256: str) -> None:
        # Canonical times sort as text.
        self._admit, self._changes, self._now = admit, sorted(map(times.text, changes)), times.text(now)
        self._file_sha256 = file_sha256
        self._forms: dict[tuple[Any, ...], Form | None] = {}

    def shorts(self, columns: Mapping[str, Sequence[Any]], count: int) -> list[Short | None]:
        """The acts of `count` rows, None where one must be looked at as a whole.

        columns: the values of `acts.act_of`, by name; a moment may be canonical text.
        """
        nothing = (None,) * count
        names = ("subject_id", "event_id", "content_id", "occurred_at", "purposes")
        differing = [columns.get(name, nothing) for name in names]
        alike = zip(*(columns.get(name, nothing) for name in _ALIKE), strict=True)
        rows = list(zip(*differing, alike, strict=True))
        shorts = [self._short(*values, columns, row) for row, values in enumerate(rows)]  # type: ignore[call-arg]
        # The first of a form, which others have had since.
        firsts = [row for row, short in enumerate(shorts) if short is None]
        for row in firsts if len(firsts) <= _FEW else ():
            shorts[row] = self._short(*rows[row], columns, row)  # type: ignore[call-arg]
        return shorts

    def _short(
        self,
        subject_id: Any,
        event_id: Any,
        content_id: Any,
        moment: Any,
        purposes: Any,
        same: tuple[Any, ...],
        columns: Mapping[str, Sequence[Any]],
        row: int,
    ) -> Short | None:
        if type(purposes) is not list or not _is_id(subject_id) or not (content_id is None or _is_id(content_id)):
            return None
        if type(moment) is not str or not (event_id is None or _is_id(event_id)):
            return None
        key = (same, *purposes, content_id is None, bisect_right(self._changes, moment))
        try:
            form = self._forms.get(key)
        except TypeError:  # something that is no value of an act
            return None
        if form is None:
            form = self._learn(key, {name: values[row] for name, values in columns.items()})
            if form is None:
                return None
        if form.is_yes and (moment > self._now or (form.ends is not None and form.ends <= moment)):
            return None
        try:
            if event_id is None:
                data = written(form.given_alike, subject_id, None, content_id, moment)
                event_id = acts.DERIVED + sha256(data).hexdigest()
            return Short(
                form, subject_id, event_id, content_id, moment, written(form.alike, subject_id, event_id, content_id, moment)
            )
        except UnicodeEncodeError:
            return None

    def _learn(self, key: tuple[Any, ...], values: Mapping[str, Any]) -> Form | None:
        """The form of an act that is the second to have it: where each act has one of its own, none is worth its making."""
        if key not in self._forms:
            if len(self._forms) >= _MAX_FORMS:
                self._forms.clear()
            self._forms[key] = None
            return None
        try:
            event = acts.act_of(dict(values), self._file_sha256)
            admitted = self._admit(event)
        except InvalidEvent:
            return None
        ends = None if event.expires_at is None else times.text(event.expires_at)
        form = Form(event, admitted, said_alike(event), said_alike(admitted), event.is_yes, event.state, event.category, ends)
        self._forms[key] = form
        return form


def _is_id(value: object) -> bool:
    return type(value) is str and 0 < len(value) <= MAX_PLAIN and "\0" not in value


def moment(value: object) -> str | None:
    """One that a row says, as canonical text; None where it must be looked at whole."""
    try:
        if type(value) is str:
            value = times.read(value)
        return times.text(value) if type(value) is datetime and value.tzinfo is UTC else None
    except (ValueError, OverflowError):
        return None
