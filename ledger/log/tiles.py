"""Tiles (C2SP tlog-tiles): the tree's hashes, 256 to a tile, each tile the eight levels above its hashes.

A tile is up to 256 hashes, 32 bytes each, one after another. Tile (level, index) holds those of the perfect subtrees over
256**level leaves each, from subtree number index * 256 on. The last tile of a level may be partial: it grows, and nothing above
counts it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import sha256

from ledger.errors import IntegrityError, VerificationError
from ledger.log.merkle import HASH_BYTES, Node, RightEdge

WIDTH = 256
HEIGHT = 8
MAX_LEVEL = 63
MAX_INDEX = 2**64 - 1

TileReader = Callable[[int, int], bytes]
"""read(level, index) is the stored bytes of a tile."""

_PATH = re.compile(r"tile/([0-9]{1,2})/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([0-9]{1,3}))?")


def tile_path(level: int, index: int, width: int = WIDTH) -> str:
    """Where a tile of that many hashes is served. Raises ValueError where there can be no such tile."""
    if not 0 <= level <= MAX_LEVEL:
        raise ValueError(f"there are no tiles of level {level}")
    return f"tile/{level}/{_place(index, width)}"


def entries_path(index: int, width: int = WIDTH) -> str:
    """Where the bundle of that many entries is served. Raises ValueError where there can be no such bundle."""
    return f"tile/entries/{_place(index, width)}"


def parse_tile_path(path: str) -> tuple[int, int, int]:
    """(level, index, width) of exactly what tile_path writes. Raises VerificationError."""
    match = _PATH.fullmatch(path)
    if not match:
        raise VerificationError(f"not the path of a tile: {path!r:.100}")
    level, index, width = int(match[1]), int(re.sub(r"[x/]", "", match[2])), int(match[3] or WIDTH)
    try:
        canonical = tile_path(level, index, width)
    except ValueError as error:
        raise VerificationError(f"not the path of a tile: {error}") from error
    if canonical != path:
        raise VerificationError(f"not the path of a tile, which would be {canonical}: {path!r:.100}")
    return level, index, width


def extend(size: int, leaf_hashes: Sequence[bytes], read: TileReader) -> dict[tuple[int, int], bytes]:
    """The new content of every tile that changes when leaves are added to a tree of `size`.

    Only the partial tiles at the right edge are read. Raises IntegrityError where one has not the width that `size` gives it.
    """
    changed: dict[tuple[int, int], bytes] = {}
    level, added = 0, b"".join(leaf_hashes)
    while added:
        index, width = divmod(size, WIDTH)
        hashes = _stored(read, level, index, width) + added
        roots = []
        for start in range(0, len(hashes), WIDTH * HASH_BYTES):
            tile = changed[level, index] = hashes[start : start + WIDTH * HASH_BYTES]
            if len(tile) == WIDTH * HASH_BYTES:
                roots.append(_perfect_root(tile))
            index += 1
        level, size, added = level + 1, size // WIDTH, b"".join(roots)
    return changed


def node_reader(read: TileReader) -> Node:
    """The tree's perfect subtrees, hashed up from the tiles. It raises IntegrityError where a tile does not reach that far."""

    def node(level: int, index: int) -> bytes:
        tile_level, height = divmod(level, HEIGHT)
        tile_index, start = divmod(index << height, WIDTH)
        end = start + (1 << height)
        hashes = read(tile_level, tile_index)[start * HASH_BYTES : end * HASH_BYTES]
        if len(hashes) != HASH_BYTES << height:
            raise IntegrityError(f"tile {tile_index} of level {tile_level} ends before its hash {end}")
        return _perfect_root(hashes)

    return node


class Growing:
    """A tree as its leaves come, and its tiles: each once it is full, and at any time those that are not.

    Of a level only the hashes of its open tile are kept.
    """

    def __init__(self) -> None:
        self.size = 0
        self._open: list[tuple[list[bytes], RightEdge]] = []

    @classmethod
    def stored(cls, size: int, read: TileReader) -> Growing:
        """That of the first `size` leaves, from its tiles, which may have grown since. Raises IntegrityError."""
        tree, level = cls(), 0
        tree.size = size
        while count := size >> HEIGHT * level:
            index, width = divmod(count, WIDTH)
            stored = read(level, index) if width else b""
            hashes = [stored[start : start + HASH_BYTES] for start in range(0, width * HASH_BYTES, HASH_BYTES)]
            if len(stored) < width * HASH_BYTES:
                raise IntegrityError(f"tile {index} of level {level} ends before its hash {width}")
            edge = RightEdge()
            edge.extend(hashes)
            tree._open.append((hashes, edge))
            level += 1
        return tree

    def extend(self, leaf_hashes: Sequence[bytes]) -> dict[tuple[int, int], bytes]:
        """Add leaves on the right: the tiles that they complete, each after those below it."""
        full: dict[tuple[int, int], bytes] = {}
        start = 0
        while start < len(leaf_hashes):
            some, level = leaf_hashes[start : start + WIDTH - self.size % WIDTH], 0
            start += len(some)
            self.size += len(some)
            while True:
                if level == len(self._open):
                    self._open.append(([], RightEdge()))
                hashes, edge = self._open[level]
                hashes += some
                edge.extend(some)
                if len(hashes) < WIDTH:
                    break
                full[level, (self.size >> HEIGHT * (level + 1)) - 1] = b"".join(hashes)
                self._open[level] = [], RightEdge()
                some, level = edge.hashes, level + 1
        return full

    def partial(self) -> dict[tuple[int, int], bytes]:
        """The tiles at the right edge that are not full, without those that are empty."""
        return {
            (level, self.size >> HEIGHT * (level + 1)): b"".join(hashes) for level, (hashes, _) in enumerate(self._open) if hashes
        }

    def root(self) -> bytes:
        return RightEdge(self.size, [hash_ for _, edge in reversed(self._open) for hash_ in edge.hashes]).root()


def _stored(read: TileReader, level: int, index: int, width: int) -> bytes:
    if not width:
        return b""
    hashes = read(level, index)
    if len(hashes) != width * HASH_BYTES:
        raise IntegrityError(f"tile {index} of level {level} has {len(hashes)} bytes where its tree has {width} hashes there")
    return hashes


@lru_cache(maxsize=128)
def _perfect_root(hashes: bytes) -> bytes:
    """The root over a power of two of hashes. Of the last tiles most parts stay as they are from one append to the next."""
    digest = sha256
    while len(hashes) > HASH_BYTES:
        pairs = range(0, len(hashes), 2 * HASH_BYTES)
        hashes = b"".join([digest(b"\x01" + hashes[start : start + 2 * HASH_BYTES]).digest() for start in pairs])
    return hashes


def _place(index: int, width: int) -> str:
    """`x001/x234/067`, and for a partial tile also `.p/WIDTH`."""
    if not 0 <= index <= MAX_INDEX:
        raise ValueError(f"there is no tile number {index}")
    if not 1 <= width <= WIDTH:
        raise ValueError(f"there are no tiles of {width} hashes")
    digits = str(index)
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[start : start + 3] for start in range(0, len(digits), 3)]
    path = "/".join([f"x{group}" for group in groups[:-1]] + groups[-1:])
    return path if width == WIDTH else f"{path}.p/{width}"
