"""The log as static files (C2SP tlog-tiles), for any web server: `checkpoint`, `tile/LEVEL/…` and `tile/entries/…`.

Entries are commitments of 32 bytes, so that what is published tells nothing of anybody.

- What is read from the database is hashed against the signed root before a file gets its name.
- No file is ever written over, but for `checkpoint`: a tile or bundle of that name can have one content alone. Partial ones stay:
  whoever reads by an older checkpoint still asks for them.
- `checkpoint` comes last and in one step, and only where it extends the one that is there. Killed at any moment and run again,
  the folder is complete.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ledger import files, locks
from ledger.errors import IntegrityError, UsageError, VerificationError
from ledger.log import bundle, merkle, note, tiles
from ledger.log.checkpoint import Checkpoint
from ledger.log.merkle import HASH_BYTES, RightEdge, leaf_hash
from ledger.log.note import MAX_NOTE
from ledger.log.tiles import HEIGHT, WIDTH
from ledger.published import CHECKPOINT, of_folder
from ledger.store.history import History

if TYPE_CHECKING:
    from ledger.book import Ledger

_ENTRY = 32
_TILE_BYTES = WIDTH * HASH_BYTES
_BUNDLE_BYTES = WIDTH * (2 + _ENTRY)

Progress = Callable[[int, int], None]
"""progress(bundles looked at, bundles in all)."""


@dataclass(frozen=True)
class Published:
    """size, root: of the checkpoint that is published now. written: files. cosigned: whether it is one that witnesses have
    cosigned. beyond: how many entries the ledger has that it does not cover."""

    size: int
    root: bytes
    written: int
    cosigned: bool
    beyond: int


def publish_log(book: Ledger, folder: str | Path, *, on_progress: Progress | None = None) -> Published:
    """Bring a folder of published files up to date; a new one is made.

    What is published is the newest checkpoint that witnesses have cosigned, where there is one that is not older than what is
    published already; else the head. Raises UsageError where the folder holds something else, IntegrityError where it holds
    another log, one that the ledger does not continue, or a file of other content.
    """
    folder = Path(folder)
    if not folder.exists():
        files.make_folder(folder)
    with locks.exclusive(folder) as held:
        writing = _Writing(folder)
        there = writing.checkpoint()
        if held:
            writing.sweep()
        anchors = book.folder.read_anchors()
        cosigned = book.folder.cosigned()

        def work(history: History) -> Published:
            head_note, head = history.check_anchors(anchors)
            old = _opened(history, there, folder)
            _require_continues(history, old, head, f"the ledger does not continue the log that is published in {folder}")
            chosen, chosen_note, is_cosigned = head, head_note, False
            if cosigned is not None:
                found = history.open(cosigned)
                _require_continues(history, found, head, "the ledger does not continue its cosigned checkpoint")
                if old is None or found.size >= old.size:
                    chosen, chosen_note, is_cosigned = found, cosigned, True
            _write(history, chosen, old, writing, on_progress)
            writing.sync()
            if there is None or chosen != old or len(note.parse(chosen_note)[1]) > len(note.parse(there)[1]):
                files.publish_bytes(folder / CHECKPOINT, chosen_note.encode())
                writing.count += 1
            return Published(chosen.size, chosen.root, writing.count, is_cosigned, head.size - chosen.size)

        published: Published = book.read(work)
        return published


def _opened(history: History, there: str | None, folder: Path) -> Checkpoint | None:
    if there is None:
        return None
    try:
        return history.open(there)
    except VerificationError as error:
        raise IntegrityError(
            f"{folder / CHECKPOINT} is not of this ledger's log: {error}", hint="it is left as it is: publish to another folder"
        ) from error


def _require_continues(history: History, earlier: Checkpoint | None, head: Checkpoint, otherwise: str) -> None:
    """By a proof, as readers will ask for one. Raises IntegrityError."""
    if earlier is None or not earlier.size:
        return
    if earlier.size > head.size:
        raise IntegrityError(
            f"{otherwise}: that has {earlier.size} entries, the ledger {head.size}",
            hint="a backup of the ledger was restored; bring back the newest database",
        )
    proof = merkle.consistency_proof(earlier.size, head.size, history.node)
    try:
        merkle.verify_consistency(earlier.size, earlier.root, head.size, head.root, proof)
    except VerificationError as error:
        raise IntegrityError(
            f"{otherwise}: {error}", hint="keep both: two signed checkpoints that contradict prove it"
        ) from error


def _write(
    history: History, checkpoint: Checkpoint, old: Checkpoint | None, writing: _Writing, on_progress: Progress | None
) -> None:
    """Every tile and bundle of the tree that is not there."""
    full, rest = divmod(checkpoint.size, WIDTH)
    # The roots over each full bundle, and the entries of the last that is not full: with these the signed root is checked first,
    # and then every bundle that is read against its own root.
    roots = [history.node(HEIGHT, index) for index in range(full)]
    last = list(history.entries(full * WIDTH, checkpoint.size))
    edge = RightEdge()
    edge.extend(roots)
    tree = RightEdge(full * WIDTH, edge.hashes)
    tree.extend(map(leaf_hash, last))
    if tree.root() != checkpoint.root:
        raise IntegrityError("the stored tiles and entries have not the root that was signed", hint="run `consent fsck`")
    seen = 0 if old is None else old.size // WIDTH
    for index, entries in _missing(history, writing, full, seen, on_progress):
        leaves = [leaf_hash(entry) for entry in entries]
        subtree = RightEdge()
        subtree.extend(leaves)
        if subtree.root() != roots[index]:
            raise IntegrityError(f"entries {index * WIDTH} to {index * WIDTH + WIDTH - 1} are not what was signed")
        writing.put(tiles.entries_path(index), bundle.encode(entries))
        writing.put(tiles.tile_path(0, index), b"".join(leaves))
    if last:
        writing.put(tiles.entries_path(full, rest), bundle.encode(last))
        writing.put(tiles.tile_path(0, full, rest), b"".join(map(leaf_hash, last)))
    upper = tiles.Growing()
    for (level, index), hashes in (*upper.extend(roots).items(), *upper.partial().items()):
        writing.put(tiles.tile_path(level + 1, index, len(hashes) // HASH_BYTES), hashes)


def _missing(
    history: History, writing: _Writing, full: int, seen: int, on_progress: Progress | None
) -> Iterator[tuple[int, list[bytes]]]:
    """(index, entries) of the full bundles to write. Of the `seen` first, which the published checkpoint covers, those that are
    there count as they are."""
    start = 0
    while start < full:
        if start < seen and writing.has(start):
            start += 1
            continue
        end = start + 1
        while end < full and not (end < seen and writing.has(end)):
            end += 1
        entries = history.entries(start * WIDTH, end * WIDTH)
        for index in range(start, end):
            if on_progress is not None:
                on_progress(index, full)
            yield index, list(islice(entries, WIDTH))
        next(entries, None)  # its end, so that it closes what it reads from
        start = end


class _Writing:
    """The files of one folder. count: those that were written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changed: set[Path] = set()
        self._made: set[Path] = set()
        self.count = 0

    def sweep(self) -> None:
        """What a killed one has left. Only where it is a log's folder: nothing else is looked through."""
        files.sweep(self._folder / CHECKPOINT)
        if (self._folder / "tile").is_dir():
            files.sweep_below(self._folder / "tile")

    def checkpoint(self) -> str | None:
        """What is published. Raises UsageError where something else is in the folder."""
        data = of_folder(self._folder / CHECKPOINT, MAX_NOTE)
        if data is None:
            names = {path.name for path in self._folder.iterdir()}
            if other := sorted(name for name in names if name != "tile" and not name.startswith(f".{CHECKPOINT}.")):
                raise UsageError(
                    f"{self._folder} holds {other[0]!r:.100} and no log", hint="a log is published in a new folder: name another"
                )
            return None
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise IntegrityError(f"{self._folder / CHECKPOINT} is no checkpoint", hint="publish to another folder") from error

    def has(self, index: int) -> bool:
        """Whether a full bundle and its tile are there."""
        return self._is_there(tiles.entries_path(index), _BUNDLE_BYTES) and self._is_there(tiles.tile_path(0, index), _TILE_BYTES)

    def put(self, name: str, data: bytes) -> None:
        """Write a file where there is none. Raises IntegrityError where one of other content is."""
        path = self._folder / name
        if self._is_there(name, len(data)):
            if of_folder(path, len(data)) != data:
                raise self._other(path)
            return
        self._make(path.parent)
        files.publish_bytes(path, data, sync=False)
        self._changed.add(path.parent)
        self.count += 1

    def sync(self) -> None:
        """Make the names durable: the checkpoint that speaks of them comes after."""
        for folder in sorted(self._changed):
            files.sync_folder(folder)

    def _make(self, folder: Path) -> None:
        """Folders of this log's own: through a link, files would be written elsewhere."""
        if folder in self._made or folder == self._folder:
            return
        self._make(folder.parent)
        if folder.is_symlink():
            raise IntegrityError(f"{folder} is a symbolic link, through which nothing is written", hint="remove it")
        files.make_folder(folder)
        self._made.add(folder)

    def _is_there(self, name: str, size: int) -> bool:
        path = self._folder / name
        try:
            status = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        if not stat.S_ISREG(status.st_mode) or status.st_size != size:
            raise self._other(path)
        return True

    def _other(self, path: Path) -> IntegrityError:
        return IntegrityError(
            f"{path} is not what this log has there",
            hint="it is not written over: if it is damaged, remove it, and the next `consent log publish` writes it anew",
        )
