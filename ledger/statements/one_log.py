"""Whether checkpoints of one origin, met in one call, are of one log.

Two different roots for one size are two histories: a log that tells people apart. For different sizes an inclusion proof shows
more than it is asked: the left siblings on the path of entry i are the right edge of the tree of i entries (RFC 9162 §2.1.3), so
that it also ties the trees of i and of i + 1 entries to its checkpoint. Where that does not reach, nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ledger.errors import VerificationError
from ledger.log.checkpoint import Checkpoint
from ledger.log.merkle import RightEdge, leaf_hash
from ledger.log.proof import TlogProof


def roots_shown(entry: bytes, proof: TlogProof, checkpoint: Checkpoint) -> dict[int, bytes]:
    """Size -> root of the trees that a verified inclusion proof shows to be prefixes of its checkpoint's, itself among them."""
    left, place, last = [], proof.index, checkpoint.size - 1
    for sibling in proof.hashes:
        if place & 1 or place == last:
            left.append(sibling)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        place, last = place >> 1, last >> 1
    edge = RightEdge(proof.index, reversed(left))
    roots = {edge.size: edge.root()}
    edge.append(leaf_hash(entry))
    return {**roots, edge.size: edge.root(), checkpoint.size: checkpoint.root}


class Histories:
    """The checkpoints met so far, by origin."""

    def __init__(self) -> None:
        self._met: dict[str, dict[int, dict[int, bytes]]] = {}
        self._witnessed: dict[str, set[int]] = {}

    def meet(self, checkpoint: Checkpoint, roots: Mapping[int, bytes], *, witnessed: bool = False) -> None:
        """roots: what `roots_shown` says. witnessed: whether those have cosigned it that the relying party demands, if any.

        Raises VerificationError where two checkpoints are of two histories.
        """
        trees = self._met.setdefault(checkpoint.origin, {})
        for known in trees.values():
            if any(known.get(size, root) != root for size, root in roots.items()):
                raise VerificationError(
                    f"two checkpoints of {checkpoint.origin!r:.100} are not of one log: it has shown two histories",
                    hint="keep both documents; they prove it",
                )
        trees.setdefault(checkpoint.size, {}).update(roots)
        if witnessed:
            self._witnessed.setdefault(checkpoint.origin, set()).add(checkpoint.size)

    def require_witnessed(self) -> None:
        """Raises VerificationError unless every checkpoint met is witnessed, or a prefix of one that is."""
        for origin, trees in self._met.items():
            if rest := sorted(trees.keys() - _shown(self._witnessed.get(origin, ()), trees)):
                raise VerificationError(
                    f"the checkpoints of log {origin!r:.100} met here (sizes {', '.join(map(str, rest))}) are not cosigned by "
                    "the witnesses that the trust file demands, nor shown to be part of one that is",
                    hint="name the log as it is published, --log DIR_OR_URL; or ask for receipts of a cosigned checkpoint "
                    "(`consent receipt --cosigned`)",
                )

    def sentences(self) -> list[str]:
        """For each origin whose checkpoints have several sizes: that they were compared, or that they were not."""
        return [_compared(origin, trees) for origin, trees in self._met.items() if len(trees) > 1]


def _compared(origin: str, trees: Mapping[int, Mapping[int, bytes]]) -> str:
    listed = ", ".join(map(str, sorted(trees)))
    if _shown([max(trees)], trees) == trees.keys():
        return f"the checkpoints of log {origin!r:.100} met here (sizes {listed}) are of one history"
    return f"NOT compared: the checkpoints of log {origin!r:.100} met here (sizes {listed}); no consistency proof is at hand"


def _shown(sizes: Collection[int], trees: Mapping[int, Mapping[int, bytes]]) -> set[int]:
    """Those of the trees that are shown to be prefixes of trees of these sizes, themselves among them."""
    shown = set(sizes)
    for size in sorted(trees, reverse=True):
        if any(size in trees[larger] for larger in shown):
            shown.add(size)
    return shown
