"""Signed notes (C2SP signed-note): a text and the signatures of those who stand for it.

- A signature by a key that is not known is ignored, even where the name or the id alone is known.
- A signature by a known key must verify, or the whole note is refused.
- A note that no known key signed is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ledger.errors import VerificationError
from ledger.log import canonical
from ledger.log.keys import ED25519, PrivateKey, PublicKey, is_key_name

MAX_NOTE = 1 << 20
"""Characters."""
MAX_SIGNATURES = 100
"""C2SP asks readers to take at least 16."""
KEY_ID_BYTES = 4

_CONTROL_OR_SURROGATE = re.compile(r"[\x00-\x09\x0b-\x1f\ud800-\udfff]")
_KEY_ID = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True)
class Verifier:
    """A public key under the name that it signs notes with, as the relying party pinned it."""

    name: str
    key_id: bytes
    public: PublicKey

    @classmethod
    def of(cls, name: str, public: PublicKey) -> Verifier:
        """Raises ValueError for what cannot be a key name."""
        return cls(name, public.key_id(name), public)

    @classmethod
    def from_vkey(cls, vkey: str) -> Verifier:
        """NAME+KEY_ID+KEY of an Ed25519 key, whose id must be the one that follows from the others. Raises VerificationError."""
        return cls.of(*read_vkey(vkey, ED25519, "an Ed25519 key"))

    @property
    def vkey(self) -> str:
        return self.public.vkey(self.name)


def read_vkey(vkey: str, kind: bytes, what: str) -> tuple[str, PublicKey]:
    """The name and the key of NAME+KEY_ID+KEY, which must be of that signature type. Raises VerificationError."""
    name, _, rest = vkey.partition("+")
    key_id, _, encoded = rest.partition("+")
    if not is_key_name(name) or not _KEY_ID.fullmatch(key_id) or not encoded:
        raise VerificationError(f"not a verifier key: {vkey!r:.100}", hint="it reads NAME+KEY_ID+KEY")
    data = canonical.decode_base64(encoded)
    if data[:1] != kind:
        raise VerificationError(f"the verifier key of {name!r:.60} is not {what}")
    public = PublicKey(data[1:])
    if public.key_id(name, kind).hex() != key_id:
        raise VerificationError(f"the verifier key of {name!r:.60} does not have the id {key_id} that it gives itself")
    return name, public


def sign(text: str, name: str, *keys: PrivateKey) -> str:
    """The note of a text, which ends with a newline and holds no other control character; one line a key, in their order.

    Raises ValueError.
    """
    if not text.endswith("\n") or _CONTROL_OR_SURROGATE.search(text):
        raise ValueError("the text of a note ends with a newline and holds no other control character")
    lines = [signature_line(name, key.public.key_id(name), key.sign(text.encode())) for key in keys]
    return "\n".join([text, "".join(lines)])


def signature_line(name: str, key_id: bytes, signature: bytes) -> str:
    """Ended by a newline."""
    return f"— {name} {canonical.encode_base64(key_id + signature)}\n"


def open_note(note: str, verifiers: Sequence[Verifier]) -> str:
    """The text, once a known key has signed it. Raises VerificationError."""
    return open_with_signers(note, verifiers)[0]


def open_with_signers(note: str, verifiers: Sequence[Verifier]) -> tuple[str, tuple[Verifier, ...]]:
    """The text, and those of the verifiers that signed it, at least one. Raises VerificationError."""
    text, signatures = parse(note)
    message = text.encode()
    signers = []
    for name, key_id, signature in signatures:
        for verifier in verifiers:
            if (verifier.name, verifier.key_id) == (name, key_id):
                verifier.public.verify(signature, message)
                signers.append(verifier)
    if not signers:
        raise VerificationError("the note is not signed by a key that is trusted", hint=_who_signed(signatures, verifiers))
    return text, tuple(signers)


def parse(note: str) -> tuple[str, list[tuple[str, bytes, bytes]]]:
    """The text, and of each signature the key's name, the key's id and the signature itself: nothing of it is verified.

    Raises VerificationError for what is no note.
    """
    if len(note) > MAX_NOTE:
        raise VerificationError(f"a note of {len(note)} characters is longer than the {MAX_NOTE} that are allowed")
    if _CONTROL_OR_SURROGATE.search(note):
        raise VerificationError("the note holds a character that no note may hold")
    before, blank, after = note.rpartition("\n\n")
    if not blank or not after.endswith("\n"):
        raise VerificationError("not a signed note: a text, an empty line, and lines of signatures")
    lines = after.removesuffix("\n").split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise VerificationError(f"a note with {len(lines)} signatures; {MAX_SIGNATURES} are allowed")
    return before + "\n", [_parse_signature(line) for line in lines]


def _parse_signature(line: str) -> tuple[str, bytes, bytes]:
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    if dash != "—" or not is_key_name(name):
        raise VerificationError(f"not a signature line: {line!r:.100}")
    data = canonical.decode_base64(encoded)
    if len(data) <= KEY_ID_BYTES:
        raise VerificationError(f"a signature line without a signature: {line!r:.100}")
    return name, data[:KEY_ID_BYTES], data[KEY_ID_BYTES:]


def _who_signed(signatures: Sequence[tuple[str, bytes, bytes]], verifiers: Sequence[Verifier]) -> str:
    signers = ", ".join(f"{name!r:.60} (key {key_id.hex()})" for name, key_id, _ in signatures[:5])
    known = {verifier.name for verifier in verifiers}
    if any(name in known for name, _, _ in signatures):
        return f"it bears signatures of {signers}; if a key that you trust was replaced, ask its owner for the new trust file"
    return f"it bears signatures of {signers}; trust a key only if its owner handed it to you"
