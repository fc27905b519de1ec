"""Checkpoints (C2SP tlog-checkpoint): the log's name, its size and its root, signed as a note under that name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from ledger.errors import VerificationError
from ledger.log import canonical, note
from ledger.log.keys import PrivateKey
from ledger.log.merkle import EMPTY_ROOT, HASH_BYTES
from ledger.log.note import Verifier

MAX_SIZE = 2**63 - 1

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True)
class Checkpoint:
    """extensions: further lines of the body, which say nothing about the tree; this log writes none."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def body(self) -> str:
        return "".join(f"{line}\n" for line in (self.origin, self.size, canonical.encode_base64(self.root), *self.extensions))


def parse(body: str) -> Checkpoint:
    """Raises VerificationError."""
    lines = body.split("\n")
    if len(lines) < 4 or lines.pop() or not all(lines):
        raise VerificationError("not a checkpoint: at least three lines, none empty, each ended by a newline")
    origin, size, encoded, *extensions = lines
    if not _SIZE.fullmatch(size) or int(size) > MAX_SIZE:
        raise VerificationError(f"not the size of a tree: {size!r:.60}")
    root = canonical.decode_base64(encoded)
    if len(root) != HASH_BYTES or (size == "0" and root != EMPTY_ROOT):
        raise VerificationError(f"not the root of a tree of {size}: {encoded!r:.60}")
    return Checkpoint(origin, int(size), root, tuple(extensions))


def sign_checkpoint(checkpoint: Checkpoint, *keys: PrivateKey) -> str:
    """The note, with a signature line of each key. Raises ValueError where the origin cannot be a key name, VerificationError
    for what no reader would take."""
    body = checkpoint.body()
    parse(body)
    return note.sign(body, checkpoint.origin, *keys)


def open_checkpoint(
    note_text: str, verifiers: Sequence[Verifier], *, until: Mapping[Verifier, int] = MappingProxyType({})
) -> Checkpoint:
    """The checkpoint, once a known key whose name is its origin has signed it. Raises VerificationError.

    until: keys that were replaced, and the size of the last checkpoint that they may sign.
    """
    body, signers = note.open_with_signers(note_text, verifiers)
    checkpoint = parse(body)
    own = [signer for signer in signers if signer.name == checkpoint.origin]
    if not own:
        # a key that is trusted for one log must not speak for another
        raise VerificationError(f"the checkpoint of {checkpoint.origin!r:.60} is signed by {signers[0].name!r:.60} only")
    if all(checkpoint.size > until.get(signer, MAX_SIZE) for signer in own):
        raise VerificationError(
            f"the checkpoint of {checkpoint.size} entries is signed by a key that was replaced at {until[own[0]]}",
            hint="ask the log's operator for the new trust file: nothing else says which key came after it",
        )
    return checkpoint
