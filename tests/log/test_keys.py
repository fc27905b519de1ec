from __future__ import annotations

import base64
import pickle

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from securesystemslib.signer import SSlibKey

from ledger.errors import ConsentLedgerError, VerificationError
from ledger.log.keys import PrivateKey, PublicKey, is_key_name


def test_a_key_reads_back_from_its_pem() -> None:
    key = PrivateKey.generate()
    pem = key.to_pem()
    assert pem.startswith(b"-----BEGIN PRIVATE KEY-----\n")
    again = PrivateKey.from_pem(pem)
    assert again.public == key.public
    key.public.verify(again.sign(b"message"), b"message")


def test_a_key_reads_back_from_its_encrypted_pem() -> None:
    key = PrivateKey.generate()
    pem = key.to_pem(b"open sesame")
    assert pem.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    assert PrivateKey.from_pem(pem, b"open sesame").public == key.public


def of_another_kind() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


SHORT = b"-----BEGIN PRIVATE KEY-----\n%s\n-----END PRIVATE KEY-----\n" % base64.b64encode(
    bytes.fromhex("302d020100300506032b65700421041f") + bytes(31)
)
"""A key of 31 bytes: the crypto library calls it an internal error."""


@pytest.mark.parametrize(
    "pem, passphrase, message",
    [
        (b"", None, "cannot be read"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", None, "cannot be read"),
        (PrivateKey.generate().to_pem(b"right"), b"wrong", "cannot be read"),
        (PrivateKey.generate().to_pem(b"right"), None, "protected by a passphrase"),
        (SHORT, None, "cannot be read"),
        (PrivateKey.generate().to_pem(), b"none needed", "has none"),
        (of_another_kind(), None, "not an Ed25519 key"),
    ],
)
def test_a_pem_that_is_no_key_is_refused_without_being_shown(pem: bytes, passphrase: bytes | None, message: str) -> None:
    with pytest.raises(ConsentLedgerError, match=message) as raised:
        PrivateKey.from_pem(pem, passphrase)
    assert "AAAA" not in f"{raised.value} {raised.value.hint}"


def test_a_private_key_is_never_shown_or_pickled() -> None:
    key = PrivateKey.generate()
    assert repr(key).startswith("<ledger.log.keys.PrivateKey object")
    with pytest.raises(TypeError):
        pickle.dumps(key)


def test_a_signature_holds_for_its_key_and_message_only() -> None:
    key = PrivateKey.generate()
    signature = key.sign(b"message")
    key.public.verify(signature, b"message")
    for public, sig, message in [
        (key.public, signature, b"massage"),
        (key.public, signature[:-1], b"message"),
        (key.public, signature + b"\0", b"message"),
        (key.public, b"", b"message"),
        (PrivateKey.generate().public, signature, b"message"),
        (PublicKey(b"\xff" * 32), signature, b"message"),
    ]:
        with pytest.raises(VerificationError):
            public.verify(sig, message)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_public_key_has_32_bytes(length: int) -> None:
    with pytest.raises(VerificationError):
        PublicKey(bytes(length))


def test_rfc8032_test_2() -> None:
    # RFC 8032 §7.1, TEST 2
    seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    key = PrivateKey(Ed25519PrivateKey.from_private_bytes(seed))
    assert key.public.raw.hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert key.sign(b"\x72").hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )


def test_the_dsse_key_id_is_the_one_of_securesystemslib() -> None:
    public = PrivateKey.generate().public
    assert SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(public.raw)).keyid == public.dsse_keyid


@pytest.mark.parametrize("name", ["a", "example.com/log", "é", "consent-ledger/0f/run", "a#b"])
def test_key_names(name: str) -> None:
    assert is_key_name(name)
    assert PrivateKey.generate().public.vkey(name).startswith(f"{name}+")


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "a+b", "a\n", "a\tb", "a\u00a0b", "a\u2003b", "a\u2028", "a\x00", "a\x7f", "\ud800", "a\u0085"]
)
def test_what_cannot_be_a_key_name(name: str) -> None:
    assert not is_key_name(name)
    with pytest.raises(ValueError, match="key name"):
        PrivateKey.generate().public.vkey(name)
