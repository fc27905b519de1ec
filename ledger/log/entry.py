"""What the log holds of an act: 32 bytes that commit to it and tell nothing about it.

    tag   = HMAC-SHA256(K_tag, "subject\\n" || subject_id)
    body  = SHA-256("consent-ledger/body/v1\\n" || salt || canonical event)
    entry = SHA-256("consent-ledger/event/v1\\n" || tag || body)              of an event
    entry = SHA-256("consent-ledger/act/v1\\n" || salt || canonical act)      of any other act

The salt keeps the commitment from being guessed. Tag and body stay when an event is erased, so that its entry still follows.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from hashlib import sha256

from ledger.errors import VerificationError

SALT_BYTES = 32
ENTRY_BYTES = 32
SECRET = b"secret\n"
# Begun once: to copy what hashes takes less than to make it. None of them is ever fed itself.
_BODY = sha256(b"consent-ledger/body/v1\n")
_EVENT = sha256(b"consent-ledger/event/v1\n")
_INNER, _OUTER = bytes(byte ^ 0x36 for byte in range(256)), bytes(byte ^ 0x5C for byte in range(256))


def subject_tag(key: bytes, subject_id: str) -> bytes:
    """Raises ValueError for an id that has no UTF-8 form."""
    return hmac.digest(key, b"subject\n" + subject_id.encode(), "sha256")


def subject_tagger(key: bytes) -> Callable[[str], bytes]:
    """`subject_tag` under one key, for many: HMAC whose two halves are begun once, at a third of the time."""
    before_text, before_hash = hmac_blocks(key)
    inner, outer = sha256(before_text + b"subject\n"), sha256(before_hash)

    def tag(subject_id: str) -> bytes:
        text, whole = inner.copy(), outer.copy()
        text.update(subject_id.encode())
        whole.update(text.digest())
        return whole.digest()

    return tag


def hmac_blocks(key: bytes) -> tuple[bytes, bytes]:
    """What HMAC with SHA-256 (RFC 2104) hashes before the text, and before the hash of that."""
    block = (sha256(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
    return block.translate(_INNER), block.translate(_OUTER)


def subject_secret(key: bytes, salt: bytes) -> bytes:
    """What blinds the value of a subject in the set of a snapshot's subjects. salt: of the first of its events there.

    Nobody has it any more once that event is erased.
    """
    if len(salt) != SALT_BYTES:
        raise _wrong(salt, "salt")
    return hmac.digest(key, SECRET + salt, "sha256")


def event_tag(key: bytes, event_id: str) -> bytes:
    """What stays of the id of an erased event, so that it is known when it comes again."""
    return hmac.digest(key, b"event\n" + event_id.encode(), "sha256")


def event_body(salt: bytes, canonical: bytes) -> bytes:
    """Raises VerificationError for a salt of another length, with which another event could have the same body."""
    if len(salt) != SALT_BYTES:
        raise _wrong(salt, "salt")
    whole = _BODY.copy()
    whole.update(salt + canonical)
    return whole.digest()


def event_entry(tag: bytes, body: bytes) -> bytes:
    """Raises VerificationError for a tag or a body of another length."""
    if len(tag) != 32:
        raise _wrong(tag, "tag")
    if len(body) != 32:
        raise _wrong(body, "body")
    whole = _EVENT.copy()
    whole.update(tag + body)
    return whole.digest()


def opens_event(entry: bytes, tag: bytes | None, body: bytes | None, salt: bytes | None, canonical: bytes | None) -> bool:
    """Whether the body is that of the event, and the entry that of tag and body; of what is no bytes at all it is not."""
    try:
        if len(salt) != SALT_BYTES or len(tag) != 32:  # type: ignore[arg-type]
            return False
        inner, outer = _BODY.copy(), _EVENT.copy()
        inner.update(salt + canonical)  # type: ignore[operator]
        outer.update(tag + body)  # type: ignore[operator]
        return inner.digest() == body and outer.digest() == entry
    except TypeError:
        return False


def act_entry(salt: bytes, canonical: bytes) -> bytes:
    """Raises VerificationError for a salt of another length."""
    if len(salt) != SALT_BYTES:
        raise _wrong(salt, "salt")
    return sha256(b"consent-ledger/act/v1\n" + salt + canonical).digest()


def _wrong(value: bytes, word: str) -> VerificationError:
    return VerificationError(f"the {word} has {len(value)} bytes, not 32")
