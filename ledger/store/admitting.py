"""What an event is recorded as: its purposes and notice with their versions, its id and recording filled in.

It depends on what was declared and kept so far and on the clock, and on nothing else of the ledger: a second process that is told
these comes to the same.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ledger import times
from ledger.consent import Event, Purpose, check_against, resolve_purposes, split_purpose
from ledger.errors import InvalidEvent
from ledger.store.documents import purpose_document, purpose_of
from ledger.store.short import Forms


@dataclass(frozen=True, slots=True)
class Admission:
    """Of one transaction. declared: by token, the oldest first. notices: the acts that keep them. began: by the machine's clock;
    recorded_at: by the log's, which may have jumped ahead, and never goes back."""

    declared: Mapping[str, Sequence[tuple[datetime, Purpose]]]
    notices: Sequence[Mapping[str, Any]]
    began: datetime
    recorded_at: datetime

    def document(self) -> dict[str, Any]:
        """As JSON, for `of`."""
        purposes = [
            {**purpose_document(purpose), "recorded_at": times.text(at)}
            for versions in self.declared.values()
            for at, purpose in versions
        ]
        moments = {"began": times.text(self.began), "recorded_at": times.text(self.recorded_at)}
        return {"purposes": purposes, "notices": [dict(act) for act in self.notices], **moments}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Admission:
        declared: dict[str, list[tuple[datetime, Purpose]]] = {}
        for at, purpose in map(purpose_of, document["purposes"]):
            declared.setdefault(purpose.token, []).append((at, purpose))
        return cls(declared, document["notices"], times.parse(document["began"]), times.parse(document["recorded_at"]))

    def forms(self, recorded_by: str, file_sha256: str) -> Forms:
        """For the acts of one import."""
        declared = [at for versions in self.declared.values() for at, _ in versions]
        kept = [times.parse(act["recorded_at"]) for act in self.notices]
        return Forms(lambda event: self.admit(event, recorded_by), declared + kept, self.began, file_sha256)

    def admit(self, event: Event, recorded_by: str) -> Event:
        """Raises InvalidEvent."""
        purposes = resolve_purposes(event.purposes, self.declared, event.occurred_at)
        notice, notice_sha256 = self._notice(event.notice, event.occurred_at) if event.notice is not None else (None, None)
        if event.notice_sha256 not in (None, notice_sha256):
            raise InvalidEvent("notice_sha256 is not the digest of the notice that the event names")
        admitted = event.filled_in(
            purposes=purposes,
            notice=notice,
            notice_sha256=notice_sha256,
            recorded_at=self.recorded_at,
            recorded_by=recorded_by,
            event_id=event.event_id or secrets.token_hex(16),
        )
        # By the machine's clock: no yes may be of later, wherever the log's has jumped to.
        check_against(admitted, self.declared, self.began)
        return admitted

    def _notice(self, reference: str, acted_at: datetime | None) -> tuple[str, str]:
        """`ID`, `ID/LANGUAGE` or `ID@VERSION/LANGUAGE` -> (full reference, sha256).

        Without a version it is the one that was kept when the person acted, or the first: nobody saw a later text.
        """
        name, _, language = reference.partition("/")
        notice_id, version = split_purpose(name)
        fitting = [
            act
            for act in self.notices
            if act["notice_id"] == notice_id
            and (not language or act["language"] == language)
            and (version is None or act["version"] == version)
        ]
        if not fitting or len({act["language"] for act in fitting}) > 1:
            why = "is in several languages" if fitting else "is not kept here"
            known = ", ".join(sorted({f"{act['notice_id']}/{act['language']}" for act in self.notices})) or "none"
            raise InvalidEvent(f"notice {reference!r:.80} {why}", hint=f"kept: {known}; add one with `consent notice add`")
        first, *later = sorted(fitting, key=lambda a: int(a["version"]))
        seen = [a for a in later if acted_at is None or times.parse(a["recorded_at"]) <= acted_at]
        act = seen[-1] if seen else first
        return f"{act['notice_id']}@{act['version']}/{act['language']}", act["sha256"]
