"""Opaque tokens for links: what only this ledger can make, and only it can read.

    token = base64url( key id[4] || AES-SIV(key, padded text; domain, key id, origin, use) )      RFC 5297

- The use (what its holder may do) and the ledger's origin are associated data: a token of one use or ledger opens as no other.
- It is deterministic: the same text under the same key is the same token, so a list of links can be made again.
- The text is padded to one of a few lengths, so that a token's length tells nearly nothing of it.
- Keys are never dropped when a new one comes: what was sent out stays good.
- Whatever does not open takes one decryption all the same, and raises the same error.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from ledger.errors import VerificationError

KEY_BYTES = 64
_DOMAIN = b"consent-ledger/token/v1"
_ID_BYTES = 4
_SIV_BYTES = 16
_LENGTHS = (96, 192, 384, 768, 1536)
"""Of padded texts."""
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,4096}")


def seal(text: str, keys: Sequence[bytes], *, origin: str, use: str) -> str:
    """A token that `unseal` opens with the same origin and use. keys: 64 bytes each, the newest first.

    Raises ValueError for a text of 1536 or more bytes, or one that has no UTF-8 form.
    """
    data = text.encode() + b"\x80"  # ISO/IEC 7816-4 padding
    length = next((n for n in _LENGTHS if len(data) <= n), None)
    if length is None:
        raise ValueError("the text is too long for a token")
    name = key_id(keys[0])
    sealed = AESSIV(keys[0]).encrypt(data.ljust(length, b"\0"), _bound(name, origin, use))
    return base64.urlsafe_b64encode(name + sealed).rstrip(b"=").decode()


def unseal(token: str, keys: Sequence[bytes], *, origin: str, use: str) -> str:
    """The text. Raises VerificationError, and tells no more, for what no key here has sealed for this origin and use."""
    raw = _decoded(token)
    name, sealed = raw[:_ID_BYTES], raw[_ID_BYTES:]
    for key in [key for key in keys if key_id(key) == name] or keys[:1]:
        try:
            data = AESSIV(key).decrypt(sealed, _bound(name, origin, use))
            return data.rstrip(b"\0").removesuffix(b"\x80").decode()
        except InvalidTag:
            continue
    raise VerificationError("no token of this ledger")


def key_id(key: bytes) -> bytes:
    """Four bytes that tell keys apart."""
    return sha256(b"consent-ledger/token-key/v1\n" + key).digest()[:_ID_BYTES]


def _bound(name: bytes, origin: str, use: str) -> list[bytes]:
    return [_DOMAIN, name, origin.encode(), use.encode()]


def _decoded(token: str) -> bytes:
    """Bytes of some token's length; for what is no token's form, those of none."""
    none = bytes(_ID_BYTES + _SIV_BYTES + _LENGTHS[0])
    if not _TOKEN.fullmatch(token):
        return none
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except ValueError:
        return none
    canonical = base64.urlsafe_b64encode(raw).rstrip(b"=").decode() == token
    return raw if canonical and len(raw) - _ID_BYTES - _SIV_BYTES in _LENGTHS else none
