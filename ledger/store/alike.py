"""Of the many events of a log most say the same, but for who, which item, the id, when, and when it was recorded: a *form*.

> One event of a form goes the whole way: it is parsed, made, checked, and written out again. Of the others only what differs is
> looked at, and only where it is so plain that it needs no escape in JSON. Whatever is not plain goes the whole way too.

So what is read here is what `documents.read_event` reads of the same bytes, and nothing else is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

from ledger.consent import Event
from ledger.errors import ConsentLedgerError
from ledger.log import canonical
from ledger.store.documents import read_event

MAX_PLAIN = 128
"""Characters of an id that are looked at here: in UTF-8 they are no more bytes than an id may have."""
_MAX_FORMS = 4096
_PLAIN = r'[^"\\\x00-\x1f]'
_SAME = rf'":"{_PLAIN}*",'
_D = "[0-9]"
# Digit by digit: it is matched faster than where they are counted.
_MOMENT = rf"{_D * 4}-{_D * 2}-{_D * 2}T(?:[01][0-9]|2[0-3]):{_D * 2}:{_D * 2}\.{_D * 6}Z"
_EVENT = re.compile(
    rf'(\{{(?:"(?:actor|category|channel){_SAME})*)'
    rf'(?:"content_id":"({_PLAIN}{{1,{MAX_PLAIN}}})",)?'
    rf'((?:"content_since{_SAME})?)'
    rf'"event_id":"({_PLAIN}{{1,{MAX_PLAIN}}})",'
    rf'((?:"(?:evidence_sha256|expires_at|jurisdiction|notice|notice_sha256){_SAME})*)'
    rf'(?:"occurred_at":"({_MOMENT})",)?'
    rf'("purposes":\[[^\]\\\x00-\x1f]*\],(?:"reason{_SAME})?)'
    rf'"recorded_at":"({_MOMENT})",'
    rf'((?:"(?:recorded_by|state){_SAME})*)'
    rf'"subject_id":"({_PLAIN}{{1,{MAX_PLAIN}}})"\}}'
)
_match = _EVENT.fullmatch
_ID, _WHEN, _NOTHING = rf"({_PLAIN}{{1,{MAX_PLAIN}}})", f"({_MOMENT})", "((?!))?"
_moment = datetime.fromisoformat


_Key = tuple[str, str, str, str, str, bool, bool]


@dataclass(frozen=True, eq=False)
class Form:
    """What its events say alike; itself alone equals it. document, event: of the first that was met. ends: expires_at of a yes.
    key: what they are written as but for what differs, and whether they lack a content_id and a moment."""

    document: dict[str, Any]
    event: Event
    ends: str | None
    key: _Key

    @cached_property
    def match(self) -> Callable[[str], re.Match[str] | None]:
        """Of its events alone: their content_id, event_id, occurred_at, recorded_at and subject_id."""
        first, second, third, fourth, last, no_content, undated = self.key
        content_id = _NOTHING if no_content else f'"content_id":"{_ID}",'
        occurred_at = _NOTHING if undated else f'"occurred_at":"{_WHEN}",'
        parts = (
            re.escape(first) + content_id + re.escape(second) + f'"event_id":"{_ID}",',
            re.escape(third) + occurred_at + re.escape(fourth) + f'"recorded_at":"{_WHEN}",',
            re.escape(last) + rf'"subject_id":"{_ID}"\}}',
        )
        return re.compile("".join(parts)).fullmatch


class Said(NamedTuple):
    """An event, as its form and what differs."""

    form: Form
    subject_id: str
    event_id: str
    content_id: str | None
    occurred_at: str | None
    recorded_at: str

    def document(self) -> dict[str, Any]:
        """What `canonical.decode` makes of its bytes."""
        document = self.form.document.copy()
        document["subject_id"] = self.subject_id
        document["event_id"] = self.event_id
        if self.content_id is not None:
            document["content_id"] = self.content_id
        if self.occurred_at is not None:
            document["occurred_at"] = self.occurred_at
        document["recorded_at"] = self.recorded_at
        return document

    def event(self) -> Event:
        """What `event_of` makes of that document."""
        return self.form.event.filled_in(
            subject_id=self.subject_id,
            event_id=self.event_id,
            content_id=self.content_id,
            occurred_at=None if self.occurred_at is None else _moment(self.occurred_at),
            recorded_at=_moment(self.recorded_at),
        )


# As `Said(...)` does, in half of the time.
_said = tuple.__new__
_forms: dict[_Key, Form] = {}
_last: Form | None = None
_again: Form | None = None
"""The form of the last event; and that of the last two, where they have the same: the next is likely to have it too, which is
found in half of the time."""
_recorded: str | None = None
"""The last moment of a recording that was read: all of a transaction have the same."""


def read(data: bytes) -> Said | None:
    """An event from its canonical bytes; None for what is not plain, or no event: `read_event` tells which."""
    global _recorded, _last, _again
    try:
        text = data.decode()
    except (UnicodeDecodeError, AttributeError):  # AttributeError: no bytes at all
        return None
    if len(data) > canonical.MAX_BYTES:
        return None
    form = _again
    if form is not None and (found := form.match(text)) is not None:
        content_id, event_id, occurred_at, recorded_at, subject_id = found.groups()
    elif (found := _match(text)) is not None:
        first, content_id, second, event_id, third, occurred_at, fourth, recorded_at, last, subject_id = found.groups()
        key = first, second, third, fourth, last, content_id is None, occurred_at is None
        form = _forms.get(key)
        _again, _last = form if form is _last else None, form
    else:
        return None
    if form is None:
        try:
            document, event = read_event(data)
        except ConsentLedgerError:
            return None
        form = Form(document, event, document.get("expires_at") if event.is_yes else None, key)
        if len(_forms) >= _MAX_FORMS:
            _forms.clear()
        _forms[key] = form
    else:
        try:
            if occurred_at is not None:
                _moment(occurred_at)
            if recorded_at != _recorded:
                _moment(recorded_at)
                _recorded = recorded_at
        except ValueError:
            return None
        # Canonical times sort as text.
        if form.ends is not None and occurred_at is not None and occurred_at >= form.ends:
            return None
    return _said(Said, (form, subject_id, event_id, content_id, occurred_at, recorded_at))
