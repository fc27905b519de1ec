"""RFC 8785 over a closed set of values: text, integers within 2^53-1, lists and objects.

- One value has one byte form, and a reader takes no other: decode re-encodes what it read and compares. That refuses duplicate
  keys, another order, white space, needless escapes, `-0` and a byte order mark at once.
- null, true, false and fractions have no byte form here: what is absent is absent.
- Text that has no UTF-8 form (a lone surrogate) has no canonical form either.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

import rfc8785

from ledger.errors import VerificationError

MAX_INTEGER = 2**53 - 1
MAX_BYTES = 1 << 20
MAX_DEPTH = 32
"""Objects and lists within each other, the outermost counted."""

# RFC 8785 §3.2.2.2 asks for the very escapes that Python writes, so that only the order of keys remains: see encode.
_JSON = json.JSONEncoder(ensure_ascii=False, check_circular=False, allow_nan=False, sort_keys=True, separators=(",", ":"))


def encode(document: Mapping[str, object]) -> bytes:
    """The canonical bytes of an object. Raises ValueError where it has none."""
    value: dict[str, Any] = dict(document)
    if _check(value, MAX_DEPTH):
        return _JSON.encode(value).encode()
    return rfc8785.dumps(value)


def decode(data: bytes, *, limit: int = MAX_BYTES) -> dict[str, Any]:
    """The object whose canonical bytes these are, at most `limit` of them. Raises VerificationError."""
    if len(data) > limit:
        raise VerificationError(f"a document of {len(data)} bytes is longer than the {limit} that are allowed")
    try:
        value = json.loads(data.decode())
    except (ValueError, RecursionError) as error:  # what is not UTF-8 or not JSON, a number of 5,000 digits, 10,000 brackets
        raise VerificationError(f"not a JSON document: {_short(error)}") from error
    if not isinstance(value, dict):
        raise VerificationError("not a JSON object")
    try:
        canonical = encode(value)
    except ValueError as error:
        raise VerificationError(f"the document has no canonical form: {_short(error)}") from error
    if canonical != data:
        raise VerificationError("the document is not in its canonical form (RFC 8785)")
    return value


def encode_base64(data: bytes) -> str:
    """RFC 4648 §4, padded."""
    return binascii.b2a_base64(data, newline=False).decode()


def decode_base64(text: str) -> bytes:
    """Only what encode_base64 writes: no other alphabet, white space, missing padding or stray bits. Raises VerificationError."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise VerificationError(f"not base64: {text!r:.60}") from error
    if encode_base64(data) != text:
        raise VerificationError(f"base64 that does not encode back to itself: {text!r:.60}")
    return data


def _check(value: object, depth: int) -> bool:
    """Whether every key is ASCII. Keys are ordered by UTF-16 units (RFC 8785 §3.2.3); for ASCII that is Python's own order."""
    if isinstance(value, str):
        return True
    if isinstance(value, int) and not isinstance(value, bool):
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise ValueError("an integer beyond 2^53-1")
        return True
    if not isinstance(value, dict | list):
        raise ValueError(f"a value of type {type(value).__name__}; allowed are text, integers, lists and objects")
    if not depth:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    ascii_keys = True
    if isinstance(value, dict):
        try:
            ascii_keys = "".join(value).isascii()
        except TypeError:
            raise ValueError("a key that is no text") from None
        value = list(value.values())
    for item in value:
        if type(item) is not str:  # most are
            ascii_keys &= _check(item, depth - 1)
    return ascii_keys


def _short(error: Exception) -> str:
    return f"{error!s:.100}"
