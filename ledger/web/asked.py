"""What a request asks, taken strictly: a yes never comes out of something mistyped.

- A body is one JSON object, in UTF-8, of text and lists of it: no key twice (of two states, which one?), no null (of a yes whose
  end is null, when does it end?), no number that stands for text, no field that is not known.
- Times are RFC 3339 with a zone, to the microsecond at most.
- An id in a path is the bytes that stand there, percent-decoded exactly once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from fastapi import Request

from ledger.consent import Event, check_id
from ledger.errors import UsageError
from ledger.log import canonical
from ledger.web.refusals import Refused

EVENT_TEXTS = (
    "state",
    "subject_id",
    "content_id",
    "category",
    "channel",
    "actor",
    "notice",
    "jurisdiction",
    "evidence_sha256",
    "reason",
    "event_id",
)
EVENT_TIMES = ("occurred_at", "expires_at", "content_since")
EVENT_FIELDS = frozenset((*EVENT_TEXTS, *EVENT_TIMES, "purposes"))
CHANNEL = "api"
"""Of an event that names none."""
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})")
_PERCENT = re.compile(rb"(?:[^%]|%[0-9A-Fa-f]{2})*", re.DOTALL)
_NUMBER = re.compile(r"[0-9]{1,16}")
_JSON = re.compile(r'application/json\s*(?:;\s*charset\s*=\s*"?utf-8"?\s*)?', re.IGNORECASE)


async def raw(request: Request) -> bytes:
    """The body of a request that says it is JSON, and has no query. Raises Refused, UsageError."""
    numbers(request)
    if not _JSON.fullmatch(request.headers.get("content-type", "")):
        raise Refused(415, "the body must be JSON", "send it with the header Content-Type: application/json")
    return await request.body()


async def body(request: Request) -> dict[str, Any]:
    """The object that a request brings. Raises Refused, UsageError."""
    return parsed(await raw(request))


def parsed(data: bytes) -> dict[str, Any]:
    """A JSON object, strictly. Raises UsageError."""
    try:
        value = json.loads(data.decode(), object_pairs_hook=_each_once)
        if not isinstance(value, dict):
            raise UsageError("the body must be a JSON object")
        canonical.encode(value)  # which has no form for null, true, false, fractions, surrogates and what is nested deeply
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"the body cannot be taken: {error!s:.200}", hint="a JSON object of texts and lists; leave out what does not apply"
        ) from error
    return value


def event(fields: Mapping[str, Any]) -> Event:
    """The act that a body tells of. Raises InvalidEvent, UsageError."""
    _known(fields, EVENT_FIELDS)
    given: dict[str, Any] = {name: text(name, fields[name]) for name in EVENT_TEXTS if name in fields}
    given |= {name: moment(name, fields[name]) for name in EVENT_TIMES if name in fields}
    for name in ("state", "subject_id", "purposes"):
        if name not in fields:
            raise UsageError(f"{name} is missing")
    given["purposes"] = texts("purposes", fields["purposes"])
    return Event(**{"channel": CHANNEL, **given})


def only(fields: Mapping[str, Any], *names: str) -> list[str]:
    """The texts of a body that has these fields and no others. Raises UsageError."""
    _known(fields, names)
    return [text(name, fields.get(name)) for name in names]


def text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{name} must be text" if value is not None else f"{name} is missing")
    return value


def texts(name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise UsageError(f"{name} must be a list of texts")
    return tuple(text(f"each of {name}", item) for item in value)


def moment(name: str, value: object) -> datetime:
    try:
        if _TIME.fullmatch(text(name, value)):
            return datetime.fromisoformat(str(value)).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise UsageError(f"{name} is no time with a zone: {value!r:.60}", hint="as in 2026-01-31T12:00:00Z")


def known(what: str, fields: Mapping[str, Any], names: Collection[str]) -> None:
    """Raises UsageError for a field that is not among these."""
    if unknown := sorted(fields.keys() - set(names)):
        raise UsageError(f"{what} has no field {unknown[0]!r:.80}", hint="fields: " + ", ".join(sorted(names)))


def _known(fields: Mapping[str, Any], names: Collection[str]) -> None:
    known("the body", fields, names)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a key twice")
    return found


def id_after(request: Request, prefix: bytes) -> str:
    """The id that stands in a path after a prefix. Raises UsageError for what is no id, Refused where the prefix is not there."""
    path: bytes = request.scope["raw_path"].partition(b"?")[0]
    if not path.startswith(prefix):  # written in another way, so that what is an id in it cannot be said
        raise Refused(404, "there is nothing here", "see /v1/openapi.json")
    encoded = path.removeprefix(prefix)
    try:
        if not _PERCENT.fullmatch(encoded):
            raise ValueError
        found = unquote_to_bytes(encoded).decode()
    except ValueError:
        raise UsageError(
            "the id in the path is not percent-encoded UTF-8", hint="encode each byte but letters and digits, / among them"
        ) from None
    check_id("subject_id", found)
    return found


def numbers(request: Request, **limits: tuple[int, int, int]) -> list[int]:
    """Whole numbers out of a query, each (default, least, most); no other parameters, none twice. Raises UsageError."""
    given = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
    query = dict(given)
    known("the query", query, limits)
    if len(query) != len(given):
        raise UsageError("the query has a parameter twice")
    found = []
    for name, (default, least, most) in limits.items():
        value = query.get(name)
        if value is not None and not (_NUMBER.fullmatch(value) and least <= int(value) <= most):
            raise UsageError(f"{name} must be a whole number from {least} to {most}, not {value!r:.40}")
        found.append(default if value is None else int(value))
    return found
