"""A decision in plain words. Ids are shown quoted, escaped and cut."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from ledger.consent import ALL_PURPOSES, ALLOWED, NO, Event, Row, Scope, split_purpose

if TYPE_CHECKING:
    from ledger.shards.columns import Columns

Said = tuple[Event, str, bool]
"""An event, where it stands, and whether it is the whole event or only what decides of it."""


def of_row(reason: str, row: Row, purpose: str, categories: Sequence[str]) -> str:
    """The verdict, and why where the row's own keys settle it."""
    if reason == "subject_missing":
        return "denied: subject_missing. The row names no subject, or one of them is null or empty: nobody can have said yes."
    if reason == "category_excluded":
        what = "unknown" if row.category is None else _quoted(row.category)
        return f"denied: category_excluded. {purpose} uses {', '.join(map(_quoted, categories))}; the row's category is {what}."
    return "allowed." if reason == ALLOWED else f"denied: {reason}."


def of_subject(subject: str, reason: str, said: Sequence[Said], row: Row, columns: Columns, purpose: str) -> str:
    """One subject's answer. said: the events that it follows from."""
    who = f"subject {_quoted(subject)}"
    if reason == "no_record":
        return f"No yes of {who} to this is known. Silence is no."
    event, where, whole = said[0]
    if reason in NO:
        return f"{_no(who, event, where, whole)}; it stands because {_why_it_stands(event, row, columns)}."
    first = _yes(who, event, where, whole)
    if reason == ALLOWED:
        others = [_yes(who, *other) for other in said[1:]]
        return " ".join(f"{yes}, {_until(e)}." for yes, (e, _, _) in zip([first, *others], said, strict=True))
    if reason == "expired":
        assert event.expires_at is not None
        return f"{first}, and that ended on {_on(event.expires_at)}."
    if reason == "notice_changed":
        versions = [p for p in event.purposes if split_purpose(p)[0] == split_purpose(purpose)[0]] if whole else []
        return f"{first}, but to {' and '.join(versions) or 'another version of the purpose'}, which {purpose} does not accept."
    assert event.content_since is not None
    age = f"was created on {_on(row.created)}" if row.created is not None else f"is of unknown age{_unmapped(columns.created)}"
    return f"{first}, but only to content created since {_on(event.content_since)}; this row's {age}."


def _no(who: str, event: Event, where: str, whole: bool) -> str:
    speaker = f"{who[0].upper()}{who[1:]} said no"
    if whole and event.actor != "subject":
        speaker = f"Someone else ({event.actor}) said no for {who}"
    elif event.state == "revoked":
        speaker = f"Someone else said no for {who}"
    return f"{speaker} to {_what(event, whole)} on {_on(event.counts_from)} ({_where(event, where, whole)})"


def _yes(who: str, event: Event, where: str, whole: bool) -> str:
    speaker = f"{who[0].upper()}{who[1:]} said yes"
    if whole and event.actor != "subject":
        speaker = f"A {event.actor} said yes for {who}"
    notice = f", shown notice {_quoted(event.notice)}" if whole and event.notice is not None else ""
    return f"{speaker} to {_what(event, whole)} on {_on(event.counts_from)}{notice} ({_where(event, where, whole)})"


def _why_it_stands(event: Event, row: Row, columns: Columns) -> str:
    for scope, known, mapped, what in (
        (Scope.CONTENT, row.content_id, columns.content, "content item"),
        (Scope.CATEGORY, row.category, columns.category, "category"),
    ):
        if event.scope is scope and not known:
            return (
                f"the row's {what} is unknown{_unmapped(mapped)}, so that it may be this one, and no later yes to it is in force"
            )
    return "no later yes at least as specific is in force"


def _until(event: Event) -> str:
    until = "without an end" if event.expires_at is None else f"until {_on(event.expires_at)}"
    return until if event.content_since is None else f"for content created since {_on(event.content_since)}, {until}"


def _unmapped(column: str | None) -> str:
    return " (no column is mapped)" if column is None else ""


def _what(event: Event, whole: bool) -> str:
    scope = "everything" if event.category is None else f"category {_quoted(event.category)}"
    if event.content_id is not None:
        scope = f"content item {_quoted(event.content_id)}"
    if not whole:
        return scope
    return f"{scope} for {'all purposes' if ALL_PURPOSES in event.purposes else ', '.join(event.purposes)}"


def _where(event: Event, where: str, whole: bool) -> str:
    parts = [where]
    if whole:
        assert event.event_id is not None
        parts.append(f"event {_quoted(event.event_id)}")
        if event.channel is not None:
            parts.append(f"by {_quoted(event.channel)}")
    return ", ".join(parts)


def _on(moment: datetime) -> str:
    return f"{moment.replace(tzinfo=None).isoformat(sep=' ', timespec='seconds')} UTC"


def _quoted(text: str) -> str:
    quoted = repr(text)
    return quoted if len(quoted) <= 200 else f"{quoted[:200]}…{quoted[0]}"
