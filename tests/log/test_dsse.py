from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError as TheirVerificationError
from securesystemslib.signer import SSlibKey

from ledger.errors import VerificationError
from ledger.log import canonical, dsse
from ledger.log.keys import PrivateKey

PAYLOAD = '{"subject":[],"_type":"https://in-toto.io/Statement/v1","é":1}'.encode()


@pytest.fixture(scope="module")
def vectors(shared: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((shared / "vectors/dsse/dsse_vectors.json").read_text())
    return found


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return PrivateKey.generate()


@pytest.fixture(scope="module")
def sealed(key: PrivateKey) -> bytes:
    return dsse.seal(PAYLOAD, key)


def test_published_pre_authentication_encodings(vectors: dict[str, Any]) -> None:
    for case in [vectors, *vectors["extra_derived_pae"]]:
        assert dsse.pae(case["payloadType"], case["payload_utf8"].encode()) == case["pae_utf8"].encode()


def test_an_envelope_of_another_kind_is_refused(vectors: dict[str, Any], key: PrivateKey) -> None:
    # the published one: ECDSA, another payload type, and no key id
    with pytest.raises(VerificationError, match="not a DSSE envelope with a payload of type"):
        dsse.open_envelope(canonical.encode(vectors["envelope"]), [key.public])


def test_an_envelope_reads_back(sealed: bytes, key: PrivateKey) -> None:
    assert b"\n" not in sealed
    assert dsse.open_envelope(sealed, [PrivateKey.generate().public, key.public]) == PAYLOAD
    assert dsse.open_envelope(dsse.seal(b"", key), [key.public]) == b""


def theirs(key: PrivateKey) -> SSlibKey:
    return SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(key.public.raw))


def test_securesystemslib_verifies_it_unchanged(sealed: bytes, key: PrivateKey) -> None:
    envelope = Envelope.from_dict(json.loads(sealed))
    assert envelope.payload == PAYLOAD
    assert list(envelope.verify([theirs(key)], 1)) == [key.public.dsse_keyid]
    with pytest.raises(TheirVerificationError):
        envelope.verify([theirs(PrivateKey.generate())], 1)
    envelope.payload += b" "
    with pytest.raises(TheirVerificationError):
        envelope.verify([theirs(key)], 1)


def altered(sealed: bytes, **fields: object) -> bytes:
    return canonical.encode(json.loads(sealed) | fields)


def signature(key: PrivateKey, message: bytes) -> dict[str, str]:
    return {"keyid": key.public.dsse_keyid, "sig": canonical.encode_base64(key.sign(message))}


def test_an_unknown_key_is_ignored_and_a_known_one_must_verify(sealed: bytes, key: PrivateKey) -> None:
    second = PrivateKey.generate()
    [ours] = json.loads(sealed)["signatures"]
    bad, good = signature(second, b"another"), signature(second, dsse.pae(dsse.PAYLOAD_TYPE, PAYLOAD))
    for signatures in ([bad, ours], [ours, bad]):
        line = altered(sealed, signatures=signatures)
        assert dsse.open_envelope(line, [key.public]) == PAYLOAD
        with pytest.raises(VerificationError, match="does not fit"):
            dsse.open_envelope(line, [key.public, second.public])
    assert dsse.open_envelope(altered(sealed, signatures=[good, ours]), [key.public, second.public]) == PAYLOAD
    assert dsse.open_envelope(altered(sealed, signatures=[good, ours]), [second.public]) == PAYLOAD


def test_nobody_known_signed(sealed: bytes, key: PrivateKey) -> None:
    for line, keys in [
        (sealed, []),
        (sealed, [PrivateKey.generate().public]),
        (altered(sealed, signatures=[]), [key.public]),
    ]:
        with pytest.raises(VerificationError, match="not signed by a key that is trusted"):
            dsse.open_envelope(line, keys)


def test_a_signature_is_over_the_type_too(key: PrivateKey, sealed: bytes) -> None:
    for message in (PAYLOAD, dsse.pae("text/plain", PAYLOAD), dsse.pae(dsse.PAYLOAD_TYPE, PAYLOAD + b" ")):
        with pytest.raises(VerificationError, match="does not fit"):
            dsse.open_envelope(altered(sealed, signatures=[signature(key, message)]), [key.public])


@pytest.mark.parametrize(
    "fields",
    [
        {"payloadType": "application/json"},
        {"payloadType": 1},
        {"payload": 1},
        {"payload": ["AA=="]},
        {"payload": "AB=="},
        {"payload": "A-_="},
        {"more": "unauthenticated"},
        {"signatures": "none"},
        {"signatures": {}},
        {"signatures": ["AA=="]},
        {"signatures": [{"keyid": "a"}]},
        {"signatures": [{"sig": "AA=="}]},
        {"signatures": [{"keyid": 1, "sig": "AA=="}]},
        {"signatures": [{"keyid": ["a"], "sig": "AA=="}]},
        {"signatures": [{"keyid": "a", "sig": 1}]},
        {"signatures": [{"keyid": "a", "sig": "AB=="}]},
        {"signatures": [{"keyid": "a", "sig": "AA==", "cert": "x"}]},
    ],
)
def test_an_envelope_has_one_form(sealed: bytes, key: PrivateKey, fields: dict[str, Any]) -> None:
    if isinstance(fields.get("signatures"), list):  # beside ours, so that nothing else is wrong
        fields = {"signatures": json.loads(sealed)["signatures"] + fields["signatures"]}
    with pytest.raises(VerificationError) as raised:
        dsse.open_envelope(altered(sealed, **fields), [key.public])
    assert "not signed" not in str(raised.value)


def test_a_field_that_is_missing_is_refused(sealed: bytes, key: PrivateKey) -> None:
    for name in ("payload", "payloadType", "signatures"):
        document = json.loads(sealed)
        del document[name]
        with pytest.raises(VerificationError):
            dsse.open_envelope(canonical.encode(document), [key.public])


@pytest.mark.parametrize(
    "change", [lambda line: line + b"\n", lambda line: b" " + line, lambda line: line.replace(b'":"', b'": "', 1)]
)
def test_a_line_that_is_not_canonical_is_refused(sealed: bytes, key: PrivateKey, change: Any) -> None:
    with pytest.raises(VerificationError):
        dsse.open_envelope(change(sealed), [key.public])


def test_the_number_of_signatures_is_bounded(sealed: bytes, key: PrivateKey) -> None:
    [ours] = json.loads(sealed)["signatures"]
    unknown = {"keyid": "unknown", "sig": "AA=="}
    assert dsse.open_envelope(altered(sealed, signatures=[ours] + [unknown] * 15), [key.public]) == PAYLOAD
    with pytest.raises(VerificationError, match="at most 16"):
        dsse.open_envelope(altered(sealed, signatures=[ours] + [unknown] * 16), [key.public])


def test_the_length_is_bounded(sealed: bytes, key: PrivateKey) -> None:
    assert dsse.open_envelope(sealed, [key.public], limit=len(sealed)) == PAYLOAD
    with pytest.raises(VerificationError, match="longer"):
        dsse.open_envelope(sealed, [key.public], limit=len(sealed) - 1)
    large = b"x" * (1 << 20)
    assert dsse.open_envelope(dsse.seal(large, key), [key.public]) == large
