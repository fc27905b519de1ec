"""Events and acts as the canonical documents that the log commits to: a closed set of fields, absent never null."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ledger import times
from ledger.consent import Event, Purpose, check_id, check_text, split_purpose
from ledger.errors import IntegrityError, UsageError, VerificationError
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


def event_of(document: Mapping[str, Any]) -> Event:
    """Raises IntegrityError for a document that is no event."""
    if not document.keys() <= EVENT_FIELDS:
        raise IntegrityError(f"an event has fields that events do not have: {sorted(document.keys() - EVENT_FIELDS)!r:.80}")
    try:
        event = Event(**{**document, **{name: times.parse(document[name]) for name in TIMES if name in document}})
    except Exception as error:  # whatever the constructor finds wrong with it
        raise IntegrityError(f"a stored event is none: {error}") from error
    if list(event.purposes) != document["purposes"] or None in (event.event_id, event.recorded_at, event.recorded_by):
        raise IntegrityError("a stored event is not in canonical order, or lacks its id or recording")
    return event


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
