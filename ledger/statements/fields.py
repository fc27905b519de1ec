"""The shape of documents: closed sets of fields, and what each may hold.

A check takes a field's name and its value, as `canonical.decode` returns it, and raises VerificationError, which names the field.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ledger import consent, times
from ledger.errors import InvalidEvent, VerificationError

Check = Callable[[str, Any], None]

MAX_LONG_TEXT = 1 << 20
"""Bytes, of a text that holds a document."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


def closed(name: str, value: Any, required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> None:
    """Exactly these fields: all that are required, and of the optional ones those that are there."""
    object_of(required, optional)(name, value)


def object_of(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    checks = {**required, **(optional or {})}

    def check_object(name: str, value: Any) -> None:
        if not isinstance(value, dict):
            raise VerificationError(f"{name} is not an object")
        if not required.keys() <= value.keys():
            raise VerificationError(f"{name} lacks {', '.join(sorted(required.keys() - value.keys()))}")
        if not value.keys() <= checks.keys():
            unknown = map(repr, sorted(value.keys() - checks.keys()))
            raise VerificationError(f"{name} has fields that it may not have: {', '.join(unknown)[:200]}")
        for field, item in value.items():
            checks[field](f"{name}.{field}", item)

    return check_object


def list_of(check: Check) -> Check:
    """A list that is not empty."""

    def check_list(name: str, value: Any) -> None:
        if not isinstance(value, list) or not value:
            raise VerificationError(f"{name} is not a list with something in it")
        for number, item in enumerate(value):
            check(f"{name}[{number}]", item)

    return check_list


def one_of(*words: str) -> Check:
    def check_word(name: str, value: Any) -> None:
        if value not in words:
            raise VerificationError(f"{name} is {value!r:.80}, not {' or '.join(words)}")

    return check_word


def counts_by(words: Collection[str]) -> Check:
    """Numbers by word, each at least 1: what is not there is not listed. None at all is allowed."""

    def check_counts(name: str, value: Any) -> None:
        if not isinstance(value, dict):
            raise VerificationError(f"{name} is not an object")
        for word, number in value.items():
            if word not in words:
                raise VerificationError(f"{name} has {word!r:.80}, which is unknown")
            if not isinstance(number, int) or number < 1:
                raise VerificationError(f"{name}.{word} is {number!r:.80}, not a number of at least 1")

    return check_counts


def text_by_name(name: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise VerificationError(f"{name} is not an object")
    for key, item in value.items():
        text(f"{name} has a key that", key)
        text(f"{name}.{key:.80}", item)


def count(name: str, value: Any) -> None:
    if not isinstance(value, int) or value < 0:
        raise VerificationError(f"{name} is {value!r:.80}, not a number of at least 0")


def version(name: str, value: Any) -> None:
    if not isinstance(value, int) or value < 1:
        raise VerificationError(f"{name} is {value!r:.80}, not a number of at least 1")


def identifier(name: str, value: Any) -> None:
    """1 to 512 bytes of UTF-8 without NUL."""
    _as_consent(consent.check_id, name, value)


def text(name: str, value: Any) -> None:
    """1 to 4096 bytes of UTF-8."""
    _as_consent(consent.check_text, name, value)


def long_text(name: str, value: Any) -> None:
    if not isinstance(value, str) or not 0 < len(value.encode()) <= MAX_LONG_TEXT:
        raise VerificationError(f"{name} is not a text of 1 to {MAX_LONG_TEXT} bytes")


def sha256(name: str, value: Any) -> None:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise VerificationError(f"{name} is not 64 lower-case hexadecimal digits")


def moment(name: str, value: Any) -> None:
    """YYYY-MM-DDThh:mm:ss.ffffffZ, and a moment that exists."""
    try:
        # Written back, too: newer Pythons read 24:00 as midnight of the next day.
        canonical = isinstance(value, str) and times.text(times.parse(value)) == value
    except ValueError:
        canonical = False
    if not canonical:
        raise VerificationError(f"{name} is {value!r:.80}, not a time of the form YYYY-MM-DDThh:mm:ss.ffffffZ")


def purpose(name: str, value: Any) -> None:
    """TOKEN@VERSION."""
    identifier(name, value)
    if consent.split_purpose(value)[1] is None:
        raise VerificationError(f"{name} is {value!r:.80}, not a purpose with its version, TOKEN@VERSION")


def purpose_or_all(name: str, value: Any) -> None:
    if value != consent.ALL_PURPOSES:
        purpose(name, value)


def _as_consent(check: Callable[[str, object], None], name: str, value: Any) -> None:
    try:
        check(name, value)
    except InvalidEvent as error:
        raise VerificationError(str(error)) from error
