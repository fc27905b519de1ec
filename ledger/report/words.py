"""How a report writes numbers, moments and foreign text, which `figures.js` does alike; and its longer sentences."""

from __future__ import annotations

import os
import shlex
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime

REASONS: Mapping[str, tuple[str, str]] = {
    "allowed": ("Kept", "A yes was in force for every person the row concerns, and no later no stood against it."),
    "subject_missing": ("Nobody named", "The row does not say whose content it is, so nobody can have said yes."),
    "category_excluded": (
        "Another kind of content",
        "The purpose lists the kinds of content it uses, and this is not one of them.",
    ),
    "refused": ("Refused", "The person was asked and said no."),
    "withdrawn": ("Withdrawn", "The person had said yes and took it back."),
    "objected": ("Objected", "The person objected to this use."),
    "revoked": ("Revoked", "Someone other than the person, such as an authority, said no."),
    "not_covered": ("Not covered", "The person said yes, but only to newer content than this, or its age is unknown."),
    "notice_changed": ("Purpose changed", "The person said yes to another version of the purpose."),
    "expired": ("Expired", "The yes had an end, and it had passed."),
    "no_record": ("No answer known", "No yes of the person is known. Silence is no."),
}
"""Of each reason a short name, and what it means."""

BASES: Mapping[str, tuple[str, str]] = {
    "session": ("Signed-in session", "The person said yes themselves while signed in to the service."),
    "evidence": ("Evidence kept elsewhere", "The ledger holds the digest of a document, such as a signed form."),
    "import": ("Import", "The yes came with a file from another system, which vouches for it."),
    "assertion": ("Bare assertion", "Whoever runs the ledger recorded the yes; nothing else backs it."),
}
"""What a yes rests on, the strongest first."""

STATES: Mapping[str, str] = {
    "given": "yes",
    "renewed": "yes, renewed",
    "refused": "no, refused",
    "withdrawn": "no, withdrawn",
    "objected": "no, objected",
    "revoked": "no, revoked",
}

LIMITS = (
    "That people really said what the ledger was told. Whoever runs the ledger can record a yes that nobody gave; "
    "the person who asks for their acts can catch that, this report cannot.",
    "That a model was trained on these shards, or on nothing else.",
    "That nothing of a person is in a model which was trained before they said no.",
    "That each row really belongs to the person whose id it carries.",
    "That this page was not rewritten by someone who also rewrote its check. The signed statement inside it can be checked by "
    "other programs, which owe nothing to this page.",
)
"""What a report does not prove."""

_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def count(number: int) -> str:
    return f"{number:,}"


def moment(value: datetime) -> str:
    at = value.astimezone(UTC)
    return f"{at.day} {_MONTHS[at.month - 1]} {at.year}, {at.hour:02}:{at.minute:02}:{at.second:02} UTC"


def day(value: datetime) -> str:
    at = value.astimezone(UTC)
    return f"{at.day} {_MONTHS[at.month - 1][:3]} {at.year}"


def span(seconds: int) -> str:
    """Its two largest units."""
    parts = []
    for name, size in _UNITS:
        number, seconds = divmod(seconds, size)
        if number:
            parts.append(f"{number:,} {name}{'' if number == 1 else 's'}")
    return " ".join(parts[:2]) or "less than a second"


def share(part: int, whole: int) -> str:
    """In per cent, rounded down: never more than it is."""
    if not whole:
        return "none"
    tenths = part * 1000 // whole
    return f"{tenths // 10}.{tenths % 10} %"


def visible(text: str) -> str:
    """Foreign text, with what could hide, or turn the reading direction, written out."""
    return "".join(f"⟨U+{ord(c):04X}⟩" if unicodedata.category(c) in _HIDDEN else c for c in text)


def quoted(name: str) -> str:
    """A name as a shell takes it, on one line and with nothing hidden; no option of the command that it is given to."""
    name = f"./{name}" if name.startswith("-") else name
    if not any(unicodedata.category(c) in _HIDDEN for c in name):
        return shlex.quote(name)
    plain = (c if c.isprintable() and c not in "'\\" else "".join(f"\\x{byte:02x}" for byte in os.fsencode(c)) for c in name)
    return f"$'{''.join(plain)}'"
