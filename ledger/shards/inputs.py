"""Which shards are meant by the files, folders and globs that were named.

- A folder means every `*.parquet` under it, sorted by the path from there, which is kept as the shard's name in the output (the
  sets of a Hive layout repeat file names). A glob's matches are named by their path from its last fixed folder.
- Names that begin with `_` or `.` are skipped at every level below what was named, as some readers do; others take such a
  shard, or one called `*.PARQUET`, so that an audit does.
- A table of Delta Lake, Iceberg or Hudi is refused, and so is any part of one: only its own log knows which files, and which
  rows of them, are still in it. Read as plain files, its deleted rows would come back.
- No two inputs share an output name.
- A store has no folders: `s3://bucket/posts` means the objects whose keys begin with `posts/`, by the same rules. A key that
  would be an unsafe path (`a//b`, `..`) is refused, and so is an address that is object and folder at once. There are no globs.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ledger import files, objects
from ledger.errors import ShardError, UsageError
from ledger.objects import Address, Place

_TABLES = {"_delta_log": "Delta Lake", ".hoodie": "Hudi"}
_ICEBERG = ".metadata.json"  # an older name of a compressed one ends with .gz

Clear: TypeAlias = set[tuple[Address, tuple[tuple[str, str], ...]]]
"""Folders that are known to be no tables, each with the way to its store: another way may lead to another store."""


@dataclass(frozen=True)
class Input:
    """A shard: where it is, and its relative name in the output, with forward slashes."""

    path: Place
    name: str


def find_inputs(paths: Sequence[str | Place], *, hidden: bool = False) -> list[Input]:
    """Every shard that the paths mean, in the order of the paths. hidden: with those that are else skipped.

    Raises UsageError where a path means nothing or two shards would get one name, ShardError for what must not be read as
    plain files or cannot be looked at.
    """
    if not paths:
        raise UsageError("no shard was named")
    named: dict[str, Input] = {}
    clear: Clear = set()
    looked_at: set[Path] = set()
    try:
        for path in paths:
            found = list(_inputs(path, hidden, clear))
            if not found:
                raise UsageError(
                    f"there is no shard in {path}",
                    hint="a shard is a *.parquet file; names of files and folders that begin with _ or . are skipped",
                )
            for shard in found:
                if isinstance(shard.path, Path):
                    _refuse_table_above(shard.path, looked_at)
                if named.setdefault(shard.name, shard) is not shard:
                    raise UsageError(
                        f"{named[shard.name].path} and {shard.path} would both be written as {shard.name}",
                        hint="name the folder above them instead: paths below it are kept in the output",
                    )
    except OSError as error:
        raise ShardError(f"cannot read {error.filename}: {error.strerror}", hint=files.advice(error)) from error
    return list(named.values())


def _inputs(named: str | Place, hidden: bool, clear: Clear) -> Iterator[Input]:
    path, text = objects.place(named), str(named)
    if isinstance(path, Address):
        yield from _objects(path, hidden, clear)
    elif path.is_dir():
        yield from (_named(shard, name) for name, shard in _shards(path, hidden))
    elif path.exists():
        yield _input(path, path.parent)
    elif glob.has_magic(text):
        yield from _matches(text, hidden)
    else:
        raise UsageError(f"{text} does not exist", hint="look at the name: a shard is a file, a folder or a glob")


def _matches(pattern: str, hidden: bool) -> Iterator[Input]:
    parts = Path(pattern).parts
    root = Path(*parts[: next(number for number, part in enumerate(parts) if glob.has_magic(part))])
    # Unlike Path.glob, this follows links to folders.
    for match in sorted(map(Path, glob.iglob(pattern, recursive=True, include_hidden=hidden))):  # noqa: PTH207
        if not hidden and any(_skipped(part) for part in match.relative_to(root).parts):
            continue
        if not match.is_dir():
            if _is_shard(match.name, hidden):
                yield _input(match, root)
        # A final `**` matches the folders and, one by one, what is in them.
        elif parts[-1] != "**":
            yield from (_input(shard, root) for _, shard in _shards(match, hidden))


def _objects(address: Address, hidden: bool, clear: Clear) -> Iterator[Input]:
    found = dict(address.below())
    if address.is_file():
        if found:
            raise UsageError(f"{address} is an object, and a folder as well", hint="move one of them away, or copy what is meant")
    elif not found:
        if glob.has_magic(address.key):
            raise UsageError(f"{address} is a glob, and none is looked for in a store", hint="name a folder or an object")
        raise UsageError(f"{address} does not exist", hint="look at the name: a shard is an object, or a folder of them")
    for above in address.parents:
        if (above, above.options) not in clear:
            marks = [mark for mark in _TABLES if (above / mark).exists()]
            marks += [f"metadata/{name}" for name, _ in (above / "metadata").below(recursive=False)]
            _refuse_tables(above, marks, hidden)
            clear.add((above, above.options))
    _refuse_tables(address, found, hidden)
    if not found:
        yield _named(address, address.name)
    for name in sorted((name for name, is_object in found.items() if is_object), key=str.encode):
        if _is_shard(name, hidden) and (hidden or not any(map(_skipped, name.split("/")))):
            yield _named(address / name, name)


def _refuse_tables(root: Address, names: Iterable[str], hidden: bool) -> None:
    """names: from the root, of what is in it. What is below a folder that is passed over is, too."""
    for name in names:
        parts = name.split("/")
        for at, part in enumerate(parts):
            if part in _TABLES:
                raise _table("/".join([str(root), *parts[:at]]), _TABLES[part])
            if part == "metadata" and len(parts) == at + 2 and _ICEBERG in parts[-1]:
                raise _table("/".join([str(root), *parts[:at]]), "Iceberg")
            if not hidden and _skipped(part):
                break


def _input(path: Path, root: Path) -> Input:
    return _named(path, path.relative_to(root).as_posix())


def _named(path: Place, name: str) -> Input:
    if isinstance(path, Address) and objects.unsafe(name):
        raise ShardError(f"the name of {name!r} has a part that is empty, `.` or `..`", hint="copy the object to another key")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ShardError(f"the name of {name!r} is not UTF-8: no statement could speak of it", hint="rename it") from error
    if "\\" in name:
        raise ShardError(f"the name of {name!r} has a backslash: no statement could speak of it", hint="rename it")
    return Input(path, name)


def _shards(folder: Path, hidden: bool) -> list[tuple[str, Path]]:
    """Each with its name from there, in UTF-8 order, whatever the folders' depths. Links to folders are followed."""
    return sorted(_walk(folder, "", hidden, frozenset()))


def _walk(folder: Path, below: str, hidden: bool, above: frozenset[tuple[int, int]]) -> Iterator[tuple[str, Path]]:
    status = folder.stat()
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        raise ShardError(f"{folder} leads back to a folder above it")
    _refuse_table(folder)
    with os.scandir(folder) as entries:
        for entry in entries:
            if hidden or not _skipped(entry.name):
                if entry.is_dir():
                    yield from _walk(folder / entry.name, f"{below}{entry.name}/", hidden, above | {identity})
                elif _is_shard(entry.name, hidden):
                    yield f"{below}{entry.name}", folder / entry.name


def _is_shard(name: str, hidden: bool) -> bool:
    return (name.lower() if hidden else name).endswith(".parquet")


def _skipped(name: str) -> bool:
    return name.startswith(("_", "."))


def _refuse_table_above(path: Path, looked_at: set[Path]) -> None:
    """looked_at: folders that are known not to be in one."""
    if path.parent not in looked_at or path.is_symlink():
        for folder in path.resolve().parents:
            _refuse_table(folder)
        if not path.is_symlink():
            looked_at.add(path.parent)


def _refuse_table(folder: Path) -> None:
    for mark, kind in _TABLES.items():
        if (folder / mark).is_dir():
            raise _table(folder, kind)
    if next((folder / "metadata").glob(f"*{_ICEBERG}*"), None) is not None:
        raise _table(folder, "Iceberg")


def _table(folder: str | Path, kind: str) -> ShardError:
    return ShardError(
        f"{folder} is a table of {kind}: some of its files and rows may be deleted, which only its log tells",
        hint="write the table as it stands to plain Parquet files with its own engine, and name those",
    )
