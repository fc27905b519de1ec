"""Proofs that stand alone (C2SP tlog-proof v1): an entry's place, its inclusion proof and the checkpoint it leads to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ledger.errors import VerificationError
from ledger.log import canonical, merkle
from ledger.log.checkpoint import MAX_SIZE, Checkpoint
from ledger.log.note import MAX_NOTE, Verifier
from ledger.log.trust import Trust

HEADER = "c2sp.org/tlog-proof@v1"
MAX_PROOF = 2 * MAX_NOTE
"""Characters."""
MAX_HASHES = 63
"""The height of the largest tree whose size a checkpoint can tell."""

_INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})")


@dataclass(frozen=True)
class TlogProof:
    """index: the entry's place, from 0. hashes: the leaf's sibling first. checkpoint: the note. extra: nothing vouches for it."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: str
    extra: bytes | None = None

    def format(self) -> str:
        """Empty extra data is left out, like none."""
        extra = [f"extra {canonical.encode_base64(self.extra)}"] if self.extra else []
        hashes = [canonical.encode_base64(value) for value in self.hashes]
        return "\n".join([HEADER, *extra, f"index {self.index}", *hashes, "", self.checkpoint])


def parse(text: str) -> TlogProof:
    """Exactly what format writes; the checkpoint is not looked at yet. Raises VerificationError."""
    if len(text) > MAX_PROOF:
        raise VerificationError(f"a proof of {len(text)} characters is longer than the {MAX_PROOF} that are allowed")
    head, blank, checkpoint = text.partition("\n\n")
    header, *lines = head.split("\n")
    if header != HEADER or not blank or not checkpoint:
        raise VerificationError(f"not a proof: it begins with {HEADER}, and after an empty line comes a checkpoint")
    extra = None
    if lines and lines[0].startswith("extra "):
        extra = canonical.decode_base64(lines.pop(0).removeprefix("extra "))
        if not extra:
            raise VerificationError("the proof has an `extra` line with nothing in it")
    match = _INDEX.fullmatch(lines.pop(0)) if lines else None
    if not match or int(match[1]) > MAX_SIZE:
        raise VerificationError("the proof has no line `index N` where there must be one")
    if len(lines) > MAX_HASHES:
        raise VerificationError(f"a proof of {len(lines)} hashes; {MAX_HASHES} are allowed")
    hashes = tuple(canonical.decode_base64(line) for line in lines)
    if any(len(value) != merkle.HASH_BYTES for value in hashes):
        raise VerificationError("the proof holds something that is not a SHA-256 hash")
    return TlogProof(int(match[1]), hashes, checkpoint, extra)


def verify_entry(entry: bytes, proof: TlogProof | str, trusted: Trust | Sequence[Verifier]) -> Checkpoint:
    """The checkpoint, as it is trusted, of a log that holds the entry at proof.index. Raises VerificationError."""
    if isinstance(proof, str):
        proof = parse(proof)
    trust = trusted if isinstance(trusted, Trust) else Trust(tuple(trusted), ())
    checkpoint = trust.open(proof.checkpoint)
    merkle.verify_inclusion(merkle.leaf_hash(entry), proof.index, checkpoint.size, proof.hashes, checkpoint.root)
    return checkpoint
