"""The stored tree, every hash of which is traced to a signed root before it is used."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, bindparam, select

from ledger.errors import IntegrityError, VerificationError
from ledger.log import merkle, tiles
from ledger.log.checkpoint import Checkpoint, open_checkpoint
from ledger.log.merkle import HASH_BYTES, RightEdge
from ledger.log.note import Verifier
from ledger.log.tiles import HEIGHT, WIDTH, TileReader
from ledger.store import tables
from ledger.store.folder import Anchor

_MAX_KEPT = 4096
"""Tiles, of 8 KiB each."""

_TILE = select(tables.tiles.c.hashes).where(
    tables.tiles.c.level == bindparam("tile_level"), tables.tiles.c.index == bindparam("tile_index")
)


def stored_tiles(connection: Connection) -> TileReader:
    """Tiles as they are stored. Reading raises IntegrityError for one that is not there."""

    def read(level: int, index: int) -> bytes:
        hashes = connection.execute(_TILE, {"tile_level": level, "tile_index": index}).scalar()
        if not isinstance(hashes, bytes):
            raise IntegrityError(f"table tiles: tile {index} of level {level} is missing")
        return hashes

    return read


class Tree:
    """The tree of one checkpoint. Raises IntegrityError where what is stored does not hash to the checkpoint's root.

    The tiles at the right edge hash to the root; any other tile hashes to its place in the tile above it, and so up to the edge.
    """

    def __init__(self, read: TileReader, checkpoint: Checkpoint) -> None:
        self.size = checkpoint.size
        self._read = read
        self._kept: dict[tuple[int, int], bytes] = {}
        self._edge_tiles = {(level, index): _exactly(read(level, index), width, level, index)
                            for level, index, width in _edge_places(self.size)}  # fmt: skip
        self.node = tiles.node_reader(self.tile)
        self.edge = RightEdge(self.size, self._edge_hashes())
        if self.edge.root() != checkpoint.root:
            raise IntegrityError(f"table tiles: the stored tree of {self.size} entries has not the root that its checkpoint signs")

    def tile(self, level: int, index: int) -> bytes:
        """A tile, traced to the root; the partial ones of this size, though more may be stored by now."""
        edge = self._edge_tiles.get((level, index))
        if edge is not None:
            return edge
        kept = self._kept.get((level, index))
        if kept is None:
            if index >= self.size >> HEIGHT * (level + 1):
                raise IntegrityError(f"a tree of {self.size} entries has no tile {index} of level {level}")
            kept = _exactly(self._read(level, index), WIDTH, level, index)
            above = self.tile(level + 1, index // WIDTH)
            if _root(kept) != _hash(above, index % WIDTH):
                raise IntegrityError(f"table tiles, column hashes: tile {index} of level {level} does not lead to the signed root")
            if len(self._kept) >= _MAX_KEPT:
                self._kept.clear()
            self._kept[level, index] = kept
        return kept

    def leaf(self, position: int) -> bytes:
        """The leaf hash at a position, as the signed root has it."""
        index, place = divmod(position, WIDTH)
        return _hash(self.tile(0, index), place)

    def _edge_hashes(self) -> Iterable[bytes]:
        """The roots of the perfect subtrees that the size consists of, the largest first."""
        # Their hashes all lie in partial tiles, so nothing is read that the root does not cover.
        start = 0
        for height in reversed(range(self.size.bit_length())):
            if self.size >> height & 1:
                yield self.node(height, start >> height)
                start += 1 << height


def require_extends(tree: Tree, checkpoint: Checkpoint, anchors: Iterable[Anchor], verifiers: Iterable[Verifier]) -> None:
    """Raises IntegrityError unless the tree, whose checkpoint this is, extends what every anchor signs."""
    known = tuple(verifiers)
    for anchor in anchors:
        try:
            signed = open_checkpoint(anchor.note, known)
        except VerificationError as error:
            raise IntegrityError(f"the anchor {anchor.path} is not a checkpoint of this ledger: {error}") from error
        if signed.origin != checkpoint.origin:
            raise IntegrityError(f"the anchor {anchor.path} is of another log, {signed.origin!r:.80}")
        if signed.size > checkpoint.size:
            raise IntegrityError(
                f"the database has {checkpoint.size} entries, but the anchor {anchor.path} signs {signed.size}: it was rolled back",
                hint="restore the database as it was when that anchor was written, or later")  # fmt: skip
        if not signed.size:
            continue  # every tree extends the empty one
        proof = merkle.consistency_proof(signed.size, checkpoint.size, tree.node)
        try:
            merkle.verify_consistency(signed.size, signed.root, checkpoint.size, checkpoint.root, proof)
        except VerificationError as error:
            raise IntegrityError(f"the database does not extend the anchor {anchor.path}: {error}") from error


def _edge_places(size: int) -> Iterable[tuple[int, int, int]]:
    """(level, index, width) of the partial tiles."""
    level = 0
    while size:
        if size % WIDTH:
            yield level, size // WIDTH, size % WIDTH
        size //= WIDTH
        level += 1


def _exactly(hashes: bytes, width: int, level: int, index: int) -> bytes:
    if len(hashes) != width * HASH_BYTES:
        raise IntegrityError(f"table tiles, column hashes: tile {index} of level {level} has {len(hashes)} bytes, not {width} hashes")
    return hashes


def _root(tile: bytes) -> bytes:
    edge = RightEdge()
    edge.extend(tile[start : start + HASH_BYTES] for start in range(0, len(tile), HASH_BYTES))
    return edge.root()


def _hash(tile: bytes, place: int) -> bytes:
    return tile[place * HASH_BYTES : (place + 1) * HASH_BYTES]
