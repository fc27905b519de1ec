"""Ed25519 keys (RFC 8032): PKCS#8 PEM at rest, verifier key strings (C2SP signed-note) and DSSE key ids to the outside."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.errors import ConsentLedgerError, VerificationError
from ledger.log import canonical

PUBLIC_KEY_BYTES = 32
ED25519 = b"\x01"
"""The signature type of C2SP signed-note."""
COSIGNATURE = b"\x04"
"""That of C2SP tlog-cosignature: an Ed25519 key that cosigns checkpoints, and nothing else."""

# C2SP signed-note: no Unicode space and no plus. No control character and no lone surrogate either: a name stands in a note.
_NAME = re.compile(r"[^\s+\x00-\x1f\x7f\ud800-\udfff]+")


def is_key_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


@lru_cache(maxsize=16)
def _public(raw: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(raw)


@dataclass(frozen=True)
class PublicKey:
    """raw: the 32 bytes of RFC 8032 §5.1.5. Raises VerificationError for another length."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != PUBLIC_KEY_BYTES:
            raise VerificationError(f"an Ed25519 public key has {PUBLIC_KEY_BYTES} bytes, not {len(self.raw)}")

    def verify(self, signature: bytes, message: bytes) -> None:
        """Raises VerificationError unless this key signed exactly this message."""
        try:
            _public(self.raw).verify(signature, message)
        except (InvalidSignature, ValueError) as error:  # ValueError: the bytes are no key to the crypto library
            raise VerificationError("the signature does not fit the key and the text") from error

    def key_id(self, name: str, kind: bytes = ED25519) -> bytes:
        """Four bytes, by C2SP signed-note. Raises ValueError for what cannot be a key name."""
        if not is_key_name(name):
            raise ValueError(f"a key name has at least one character, no space and no plus: {name!r:.60}")
        return sha256(name.encode() + b"\n" + kind + self.raw).digest()[:4]

    def vkey(self, name: str, kind: bytes = ED25519) -> str:
        """The verifier key string NAME+KEY_ID+KEY. Raises ValueError for what cannot be a key name."""
        return f"{name}+{self.key_id(name, kind).hex()}+{canonical.encode_base64(kind + self.raw)}"

    @property
    def dsse_keyid(self) -> str:
        """The key id that securesystemslib computes, and without which it does not verify."""
        document = {"keytype": "ed25519", "keyval": {"public": self.raw.hex()}, "scheme": "ed25519"}
        return sha256(canonical.encode(document)).hexdigest()


class PrivateKey:
    """Signs; never printed, compared or pickled."""

    __slots__ = ("_key", "public")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = PublicKey(key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> PrivateKey:
        return cls(Ed25519PrivateKey.generate())

    @staticmethod
    def is_protected(pem: bytes) -> bool:
        """Whether a passphrase is needed: RFC 5958 in PEM (RFC 7468 §11), or the header of RFC 1421 that OpenSSL once wrote."""
        return b"ENCRYPTED" in pem

    @classmethod
    def from_pem(cls, pem: bytes, passphrase: bytes | None = None) -> PrivateKey:
        """Raises ConsentLedgerError where this is no Ed25519 key, or not with this passphrase."""
        try:
            key = serialization.load_pem_private_key(pem, passphrase)
        except TypeError as error:  # how cryptography says that a passphrase is missing, or given and not needed
            if passphrase is None:
                raise ConsentLedgerError("the private key is protected by a passphrase, and none was given") from error
            raise ConsentLedgerError("a passphrase was given, but the private key has none") from error
        except (ValueError, UnsupportedAlgorithm, InternalError) as error:  # InternalError: a key of another length
            if passphrase is not None:
                raise ConsentLedgerError(
                    "the passphrase is wrong, or the private key cannot be read", hint="give the passphrase that protects it"
                ) from error
            raise ConsentLedgerError(
                "the private key cannot be read", hint="a key begins with -----BEGIN PRIVATE KEY-----"
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise ConsentLedgerError("the private key is not an Ed25519 key", hint="openssl genpkey -algorithm ed25519 makes one")
        return cls(key)

    def to_pem(self, passphrase: bytes | None = None) -> bytes:
        """PKCS#8; encrypted where there is a passphrase, which must not be empty (ValueError)."""
        protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if passphrase is not None:
            protection = serialization.BestAvailableEncryption(passphrase)
        return self._key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)

    def derived(self, label: bytes) -> bytes:
        """32 bytes that only who has this key can make. Nothing of the key shows in them."""
        return hmac.digest(self._key.private_bytes_raw(), label, "sha256")
