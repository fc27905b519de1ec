"""Events and acts as the canonical documents that the log commits to: a closed set of fields, absent never null."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from operator import attrgetter
from typing import Any

from ledger import times
from ledger.consent import Event, Purpose, check_id, check_text, split_purpose
from ledger.errors import IntegrityError, UsageError, VerificationError
from ledger.log import canonical
from ledger.log.keys import PublicKey
from ledger.log.note import Verifier

TIMES = ("occurred_at", "recorded_at", "expires_at", "content_since")
TEXTS = (
    "event_id",
    "state",
    "subject_id",
    "category",
    "content_id",
    "recorded_by",
    "channel",
    "actor",
    "notice",
    "notice_sha256",
    "jurisdiction",
    "evidence_sha256",
    "reason",
)
EVENT_FIELDS = frozenset((*TIMES, *TEXTS, "purposes"))
# RFC 8785 orders the fields by name; and asks for the very escapes that Python writes, see canonical.
_BETWEEN = (
    ("actor", "category", "channel"),
    ("content_since",),
    ("evidence_sha256", "expires_at", "jurisdiction", "notice", "notice_sha256"),
    ("purposes", "reason", "recorded_at", "recorded_by", "state"),
)
_SAME = tuple(name for names in _BETWEEN for name in names)
_same = attrgetter(*_SAME)
_quoted = json.encoder.encode_basestring
_PURPOSE_TEXTS = ("token", "title", "description", "controller", "contact", "retention", "withdraw_url", "basis")


def event_document(event: Event) -> dict[str, Any]:
    document: dict[str, Any] = {"purposes": list(event.purposes)}
    for name in TEXTS:
        if (value := getattr(event, name)) is not None:
            document[name] = value
    for name in TIMES:
        if (value := getattr(event, name)) is not None:
            document[name] = times.text(value)
    return document


def event_bytes(event: Event) -> bytes:
    """canonical.encode(event_document(event)), at a fifth of its cost.

    Of the many acts of an import most fields say the same, and are written once; what differs from act to act is put between.
    """
    occurred_at = None if event.occurred_at is None else times.text(event.occurred_at)
    return written(said_alike(event), event.subject_id, event.event_id, event.content_id, occurred_at)


def said_alike(event: Event) -> tuple[str, str, str, str]:
    """What an event's canonical form has before, between and after its content_id, event_id, occurred_at and subject_id."""
    return _same_for_many(_same(event))


def written(
    alike: tuple[str, str, str, str], subject_id: str, event_id: str | None, content_id: str | None, occurred_at: str | None
) -> bytes:
    """The canonical form. Raises UnicodeEncodeError for a text that has none."""
    first, second, third, last = alike
    text = first
    if content_id is not None:
        text += f'"content_id":{_quoted(content_id)},'
    text += second
    if event_id is not None:
        text += f'"event_id":{_quoted(event_id)},'
    text += third
    if occurred_at is not None:
        text += f'"occurred_at":"{occurred_at}",'
    return f"{text}{last}{_quoted(subject_id)}}}".encode()


@lru_cache(maxsize=256)
def _same_for_many(values: tuple[Any, ...]) -> tuple[str, str, str, str]:
    """What stands before, between and after content_id, event_id, occurred_at and the last field's value."""
    written = {name: "" if value is None else f'"{name}":{_value(value)},' for name, value in zip(_SAME, values, strict=True)}
    first, second, third, last = ("".join(written[name] for name in names) for names in _BETWEEN)
    return "{" + first, second, third, last + '"subject_id":'


def _value(value: Any) -> str:
    if isinstance(value, datetime):
        return f'"{times.text(value)}"'
    return _quoted(value) if isinstance(value, str) else f"[{','.join(map(_quoted, value))}]"


def event_of(document: Mapping[str, Any]) -> Event:
    """Raises IntegrityError for a document that is no event."""
    if not document.keys() <= EVENT_FIELDS:
        raise IntegrityError(f"an event has fields that events do not have: {sorted(document.keys() - EVENT_FIELDS)!r:.80}")
    try:
        event = _made(document)
    except Exception as error:  # whatever the constructor finds wrong with it
        raise IntegrityError(f"a stored event is none: {error}") from error
    if list(event.purposes) != document["purposes"] or not _is_recorded(event):
        raise IntegrityError("a stored event is not in canonical order, or lacks its id or recording")
    return event


def read_event(data: bytes) -> tuple[dict[str, Any], Event]:
    """(document, event_of(document)) of canonical bytes. Raises VerificationError, or IntegrityError for what is no event."""
    # What an event is written as is its canonical form: bytes that come back from it need no other look.
    if len(data) <= canonical.MAX_BYTES:
        with contextlib.suppress(Exception):  # what is wrong with it is said below, as of any document
            document = json.loads(data)
            event = _made(document)
            if event_bytes(event) == data and _is_recorded(event):
                return document, event
    document = canonical.decode(data)
    return document, event_of(document)


def _made(document: Mapping[str, Any]) -> Event:
    return Event(**{**document, **{name: times.parse(document[name]) for name in TIMES if name in document}})


def _is_recorded(event: Event) -> bool:
    return None not in (event.event_id, event.recorded_at, event.recorded_by)


def same_content(given: Event, stored: Event) -> str | None:
    """The first field in which a repeat differs from what is stored, or None.

    When it was recorded, and by whom, is no content. A purpose or notice given without its version equals the stored one.
    """
    for name in (*TEXTS, *TIMES):
        if name in ("event_id", "recorded_at", "recorded_by", "notice", "notice_sha256"):
            continue
        if getattr(given, name) != getattr(stored, name):
            return name
    if not _same_purposes(given.purposes, stored.purposes):
        return "purposes"
    if (given.notice is None) != (stored.notice is None):
        return "notice"
    if given.notice is not None and stored.notice is not None:
        (name, _, language), (stored_name, _, stored_language) = given.notice.partition("/"), stored.notice.partition("/")
        if name not in (stored_name, split_purpose(stored_name)[0]) or language not in ("", stored_language):
            return "notice"
    return "notice_sha256" if given.notice_sha256 not in (None, stored.notice_sha256) else None


def _same_purposes(given: Sequence[str], stored: Sequence[str]) -> bool:
    """Whether they may be the stored ones. One that is given without its version stands for at most one that is stored."""
    rest = set(stored) - set(given)
    unversioned = [p for p in given if p not in stored and split_purpose(p)[1] is None]
    if len(unversioned) + sum(p in stored for p in given) != len(given):
        return False
    tokens = {split_purpose(p)[0] for p in stored}
    left = [split_purpose(p)[0] for p in rest]
    return tokens >= set(unversioned) >= set(left) and len(set(left)) == len(left)


def purpose_document(purpose: Purpose) -> dict[str, Any]:
    document: dict[str, Any] = {name: value for name in _PURPOSE_TEXTS if (value := getattr(purpose, name))}
    document["version"] = purpose.version
    for name in ("categories", "recipients"):
        if values := list(getattr(purpose, name)):
            document[name] = values
    if older := [v for v in purpose.accepts if v != purpose.version]:
        document["accepts"] = older
    return document


def completed_at(act: Mapping[str, Any]) -> datetime:
    """When an import, by its `import_finished`, brought its source up to date: times.EPOCH where it did not.

    Rows that were set aside may be noes: an import with rejects completes nothing.
    """
    return times.EPOCH if act["rejected"] else times.parse(act["recorded_at"])


def purpose_of(act: Mapping[str, Any]) -> tuple[datetime, Purpose]:
    """(declared at, purpose) from an act. Raises IntegrityError."""
    fields = {name: value for name, value in act.items() if name not in ("act", "recorded_at", "recorded_by")}
    try:
        return times.parse(act["recorded_at"]), Purpose(**fields)
    except (TypeError, KeyError, ValueError) as error:
        raise IntegrityError(f"a stored purpose is none: {error}") from error


@dataclass(frozen=True)
class RunKeys:
    """standing: by name, added and not ended. ended: public half -> the name that it had. log: those that sign the log or did."""

    standing: Mapping[str, Verifier]
    ended: Mapping[PublicKey, str]
    log: Sequence[Verifier]


def run_keys(acts: Iterable[Mapping[str, Any]]) -> RunKeys:
    """What acts about keys come to, in log order. Raises IntegrityError where one does not follow from those before."""
    standing: dict[str, Verifier] = {}
    ended: dict[PublicKey, str] = {}
    log: list[Verifier] = []
    for act in acts:
        try:
            key = Verifier.from_vkey(act["vkey"])
        except (VerificationError, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(f"a stored act {act.get('act')!r:.40} names no key: {error}") from error
        if act["act"] == "key_added" and act["role"] == "log":
            log.append(key)
        elif act["act"] == "key_ended" and act["role"] == "log" and key in log:
            pass  # what it signs from there on is refused by the trust file's `until`
        elif act["act"] == "key_added" and key.public not in ended and key.name not in standing:
            standing[key.name] = key
        elif act["act"] == "key_ended" and standing.get(key.name) == key:
            ended[key.public] = standing.pop(key.name).name
        else:
            raise IntegrityError(f"a stored act {act['act']!r:.40} of the key {key.name!r:.80} does not follow from those before")
    return RunKeys(standing, ended, log)


def check_purpose(purpose: Purpose) -> None:
    """What a purpose must say. Raises UsageError."""
    for name in ("title", "description", "controller", "contact", "retention", "withdraw_url"):
        if (value := getattr(purpose, name)) is not None:
            check_text(name, value)
    for category in purpose.categories:
        check_id("category", category)
    for recipient in purpose.recipients:
        check_text("recipient", recipient)
    if purpose.basis not in ("consent", "licence"):
        raise UsageError(f"basis {purpose.basis!r:.40} is unknown", hint="consent or licence")


def check_no_wider(purpose: Purpose, older: Purpose) -> None:
    """Whoever agreed to the use of posts has said nothing of photos. Raises UsageError."""
    wider = sorted(set(purpose.categories) - set(older.categories))
    if older.categories and (wider or not purpose.categories):
        raise UsageError(
            f"{purpose.reference} uses {', '.join(map(repr, wider)) or 'any category'}, which a yes to {older.reference} "
            "does not speak of, so it is not compatible with it",
            hint="declare it without --compatible, and ask anew; or declare another purpose for what is new",
        )
