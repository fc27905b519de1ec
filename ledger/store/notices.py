"""Notices: the texts that people were shown, kept by the ledger, each in versions and languages. Referred to as `ID@V/LANG`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ledger.errors import InvalidEvent, UsageError

_REFERENCE = re.compile(r"([^@/]+)(?:@([1-9][0-9]*))?(?:/([^@/]+))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Notice:
    """One text in one language. Versions count up from 1 for each id and language."""

    declared_at: datetime
    notice_id: str
    version: int
    language: str
    sha256: str

    @property
    def reference(self) -> str:
        return f"{self.notice_id}@{self.version}/{self.language}"


def check_names(notice_id: str, language: str) -> None:
    """Raises UsageError where a reference could not name them."""
    for name, value in (("notice id", notice_id), ("language", language)):
        if not value or "@" in value or "/" in value:
            raise UsageError(f"the {name} {value!r:.60} must not be empty or hold @ or /")


def names_notice(reference: str, full: str) -> bool:
    """Whether a reference, maybe without version or language, names the notice `ID@V/LANG`."""
    said, known = _REFERENCE.fullmatch(reference), _REFERENCE.fullmatch(full)
    return bool(said and known) and all(a is None or a == b for a, b in zip(said.groups(), known.groups(), strict=True))  # type: ignore[union-attr]


def resolve_notice(reference: str, declared: Sequence[Notice], acted_at: datetime | None) -> Notice:
    """The notice that a reference names; without a version, the one that stood when the person acted, else the first.

    declared: in log order. Raises InvalidEvent for a reference that names none, or several languages.
    """
    named = [notice for notice in declared if names_notice(reference, notice.reference)]
    if not named:
        known = ", ".join(notice.reference for notice in declared[-20:]) or "none yet"
        raise InvalidEvent(f"notice {reference!r:.80} is not one that the ledger keeps",
                           hint=f"declared: {known}; declare one with `consent notice add`")  # fmt: skip
    languages = sorted({notice.language for notice in named})
    if len(languages) > 1:
        raise InvalidEvent(f"notice {reference!r:.80} has several languages",
                           hint=f"write which was shown: {named[0].notice_id}/LANG, where LANG is {' or '.join(languages)}")  # fmt: skip
    stood = [notice for notice in named if acted_at is None or notice.declared_at <= acted_at] or named[:1]
    return stood[-1]
