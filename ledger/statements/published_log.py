"""A published log as the one that everybody is shown: whether the checkpoints of documents are prefixes of it.

Its checkpoint counts by the relying party's trust, with the witnesses that are demanded. The tiles are not trusted: what they
hold must lead to the checkpoint's root, or to a proof that holds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from ledger.errors import IntegrityError, VerificationError
from ledger.log import merkle, tiles
from ledger.log.checkpoint import Checkpoint
from ledger.log.trust import Trust

Tile = Callable[[int, int, int], bytes]
"""tile(level, index, size) is that of a tree of `size`."""


class ShownLog:
    """note: what is published as its checkpoint. Raises VerificationError unless it counts."""

    def __init__(self, note: str, tile: Tile, trust: Trust) -> None:
        self.checkpoint = trust.open(note)
        size = self.checkpoint.size
        self._node = tiles.node_reader(lru_cache(maxsize=1024)(lambda level, index: tile(level, index, size)))
        self.roots = {size: self.checkpoint.root}

    def check(self, met: Checkpoint) -> None:
        """Raises VerificationError unless the published log goes on from a checkpoint that was met."""
        ours = self.checkpoint
        if met.origin != ours.origin:
            raise VerificationError(
                f"the published log is {ours.origin!r:.100}, and a checkpoint met here is of {met.origin!r:.100}",
                hint="name the log that the documents are of, and verify those of another in another call",
            )
        if self.roots.get(met.size) == met.root:
            return
        if met.size > ours.size:
            raise VerificationError(
                f"the published log has {ours.size} entries, and a checkpoint met here has signed {met.size}",
                hint="ask its operator to publish it anew (`consent log publish`); until then nothing shows that it is the same",
            )
        try:
            proof = merkle.consistency_proof(met.size, ours.size, self._node) if met.size else []
            merkle.verify_consistency(met.size, met.root, ours.size, ours.root, proof)
        except IntegrityError as error:
            raise VerificationError(
                f"the log {ours.origin!r:.100} of {ours.size} entries is published otherwise than it is shown here: nothing "
                f"proves that the tree of {met.size} entries is part of it ({error})",
                hint=error.hint
                or "keep the document and a copy of the published files: unless those were damaged, the log has "
                "shown two histories",
            ) from error
        self.roots[met.size] = met.root
