"""Signed statements (DSSE v1.0.2 with in-toto's payload type): one envelope, one canonical line.

- The form is exact, so that there is one envelope for a payload and its signatures.
- A signature by a key that is not known is ignored; a signature by a known key must verify, or the envelope is refused.
- An envelope that no known key signed is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger.errors import VerificationError
from ledger.log import canonical
from ledger.log.keys import PrivateKey, PublicKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAX_SIGNATURES = 16


def pae(payload_type: str, payload: bytes) -> bytes:
    """The pre-authentication encoding: what is signed (DSSE protocol.md). Lengths are in bytes."""
    encoded = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(encoded), encoded, len(payload), payload)


def seal(payload: bytes, key: PrivateKey) -> bytes:
    """The envelope with this key's signature, without a newline."""
    signature = {"keyid": key.public.dsse_keyid, "sig": canonical.encode_base64(key.sign(pae(PAYLOAD_TYPE, payload)))}
    return canonical.encode({"payload": canonical.encode_base64(payload), "payloadType": PAYLOAD_TYPE, "signatures": [signature]})


def open_envelope(line: bytes, keys: Sequence[PublicKey], *, limit: int = 64 << 20) -> bytes:
    """The payload, once a known key has signed it. `limit` bounds the line, in bytes. Raises VerificationError."""
    envelope = canonical.decode(line, limit=limit)
    if envelope.keys() != {"payload", "payloadType", "signatures"} or envelope["payloadType"] != PAYLOAD_TYPE:
        raise VerificationError(f"not a DSSE envelope with a payload of type {PAYLOAD_TYPE}")
    payload = _base64(envelope["payload"])
    message = pae(PAYLOAD_TYPE, payload)
    known = {key.dsse_keyid: key for key in keys}
    signed = False
    for keyid, signature in _signatures(envelope["signatures"]):
        if keyid in known:
            known[keyid].verify(signature, message)
            signed = True
    if not signed:
        raise VerificationError(
            "the envelope is not signed by a key that is trusted", hint="trust a key only if its owner handed it to you"
        )
    return payload


def _signatures(values: object) -> list[tuple[str, bytes]]:
    if not isinstance(values, list) or len(values) > MAX_SIGNATURES:
        raise VerificationError(f"the envelope's signatures are not a list of at most {MAX_SIGNATURES}")
    signatures = []
    for value in values:
        if not isinstance(value, dict) or value.keys() != {"keyid", "sig"} or not isinstance(value["keyid"], str):
            raise VerificationError("a signature of an envelope has exactly `keyid` and `sig`")
        signatures.append((value["keyid"], _base64(value["sig"])))
    return signatures


def _base64(value: object) -> bytes:
    if not isinstance(value, str):
        raise VerificationError("the envelope holds something else where there must be base64")
    return canonical.decode_base64(value)
