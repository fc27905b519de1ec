"""Cosignatures of checkpoints by witnesses (C2SP tlog-cosignature, v1).

A witness signs a checkpoint only once it has seen that it continues the last one that it signed. So a log whose checkpoints are
cosigned by witnesses that do not conspire with it shows everybody the same entries.

    signed    = "cosignature/v1\\ntime " || decimal seconds since 1970 || "\\n" || the checkpoint's text
    signature = u64 big-endian seconds || Ed25519 signature
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ledger.errors import VerificationError
from ledger.log import canonical, note
from ledger.log.keys import COSIGNATURE, PrivateKey, PublicKey

_TIME_BYTES = 8


@dataclass(frozen=True)
class Witness:
    """A witness's public key under the name that it cosigns with, as the relying party pinned it."""

    name: str
    public: PublicKey

    @classmethod
    def from_vkey(cls, vkey: str) -> Witness:
        """NAME+KEY_ID+KEY of a key of type 0x04. Raises VerificationError."""
        return cls(*note.read_vkey(vkey, COSIGNATURE, "the key of a witness (type 4)"))

    @property
    def vkey(self) -> str:
        return self.public.vkey(self.name, COSIGNATURE)

    @property
    def key_id(self) -> bytes:
        return self.public.key_id(self.name, COSIGNATURE)

    def signed_at(self, text: str, signature: bytes) -> int:
        """When this witness cosigned the text, in seconds since 1970. Raises VerificationError where it did not."""
        seconds, signed = int.from_bytes(signature[:_TIME_BYTES], "big"), signature[_TIME_BYTES:]
        if not 0 < seconds < 2**63:
            raise VerificationError(f"the cosignature of {self.name!r:.60} says no time")
        self.public.verify(signed, _message(text, seconds))
        return seconds


def cosign(text: str, name: str, key: PrivateKey, seconds: int) -> str:
    """The signature line, ended by a newline. Raises ValueError for what cannot be a key name."""
    signature = seconds.to_bytes(_TIME_BYTES, "big") + key.sign(_message(text, seconds))
    return f"— {name} {canonical.encode_base64(key.public.key_id(name, COSIGNATURE) + signature)}\n"


def add_checkpoint(old: int, proof: Sequence[bytes], note_text: str) -> bytes:
    """What a witness that knows `old` entries is sent (C2SP tlog-witness): the proof from there, and the checkpoint."""
    return "\n".join([f"old {old}", *map(canonical.encode_base64, proof), "", note_text]).encode()


def cosigners(note_text: str, witnesses: tuple[Witness, ...]) -> dict[Witness, int]:
    """Those of these witnesses that cosigned a note, and when, in seconds since 1970.

    Lines of others are passed over. Raises VerificationError where the line of one of these does not verify.
    """
    text, signatures = note.parse(note_text)
    by_key = {(witness.name, witness.key_id): witness for witness in witnesses}
    found = {}
    for name, key_id, signature in signatures:
        if (witness := by_key.get((name, key_id))) is not None:
            found[witness] = witness.signed_at(text, signature)
    return found


def _message(text: str, seconds: int) -> bytes:
    return f"cosignature/v1\ntime {seconds}\n{text}".encode()
