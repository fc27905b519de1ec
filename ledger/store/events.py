"""An event and its canonical document, and when two of them say the same.

The document has a closed set of fields: what is absent is absent, never null. Its purposes are resolved (`token@version`), its
notice too (`ID@V/LANG`), and its times have their canonical form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from ledger import times
from ledger.consent import Event, split_purpose
from ledger.errors import IntegrityError, InvalidEvent
from ledger.log import canonical
from ledger.store.notices import names_notice

_TEXTS = ("category", "content_id", "channel", "notice", "notice_sha256", "jurisdiction", "evidence_sha256", "reason")
_TIMES = ("occurred_at", "expires_at", "content_since")
_REQUIRED = frozenset(("event_id", "state", "subject_id", "purposes", "actor", "recorded_at", "recorded_by"))
_FIELDS = _REQUIRED.union(_TEXTS, _TIMES)
_RECORDED_TIMES = (*_TIMES, "recorded_at")


def content(event: Event) -> dict[str, Any]:
    """What the event says, as it was handed over: all but its id and what the ledger adds."""
    fields: dict[str, Any] = {
        "state": event.state, "subject_id": event.subject_id, "purposes": list(event.purposes), "actor": event.actor}  # fmt: skip
    for name in _TEXTS:
        if (value := getattr(event, name)) is not None:
            fields[name] = value
    for name in _TIMES:
        if (moment := getattr(event, name)) is not None:
            fields[name] = times.text(moment)
    return fields


def from_document(document: Mapping[str, Any]) -> Event:
    """Raises IntegrityError for a document that no event of this ledger can have."""
    if not document.keys() <= _FIELDS or not document.keys() >= _REQUIRED:
        raise IntegrityError(f"a recorded event has other fields than an event has: {', '.join(sorted(document))[:300]}")
    try:
        return Event(**{name: times.parse(value) if name in _RECORDED_TIMES else value for name, value in document.items()})
    except (InvalidEvent, ValueError, TypeError) as error:
        raise IntegrityError(f"a recorded event is none: {error}") from error


def differences(said: Mapping[str, Any], recorded: Mapping[str, Any]) -> list[str]:
    """The fields in which `content` of an event differs from a recorded document, when and by whom it was recorded apart.

    A purpose without a version says the same as any version of its token, a notice without version or language likewise: what
    they stood for was settled when the event was first recorded.
    """
    differing = [name for name in ("state", "subject_id", "actor", *_TEXTS, *_TIMES)
                 if said.get(name) != recorded.get(name) and name not in ("notice", "notice_sha256")]  # fmt: skip
    if not _same_purposes(said["purposes"], recorded["purposes"]):
        differing.append("purposes")
    if not _same_notice(said, recorded):
        differing.append("notice")
    return differing


def _same_purposes(said: Sequence[str], recorded: Sequence[str]) -> bool:
    if said == recorded:
        return True
    tokens = {split_purpose(reference)[0] for reference in recorded}
    return (all(reference in recorded or reference in tokens for reference in said)
            and all(reference in said or split_purpose(reference)[0] in said for reference in recorded))  # fmt: skip


def _same_notice(said: Mapping[str, Any], recorded: Mapping[str, Any]) -> bool:
    if "notice" not in said or "notice" not in recorded:
        return said.get("notice") == recorded.get("notice")
    return (names_notice(said["notice"], recorded["notice"])
            and said.get("notice_sha256", recorded["notice_sha256"]) == recorded["notice_sha256"])  # fmt: skip


def derived_id(said: Mapping[str, Any], file_sha256: str) -> str:
    """The id of an imported row that has none: that of its content, so that the same row comes out as a repeat.

    An undated act is one more act in each file that holds it, so the file's digest counts too.
    """
    digest = sha256(canonical.encode(said))
    if "occurred_at" not in said:
        digest.update(b"\n" + file_sha256.encode())
    return "import:" + digest.hexdigest()
