"""Where an erased person may be all the same: what left the ledger's database and folder before. A list for whoever erases."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ledger import files, times
from ledger.store.folder import Folder
from ledger.store.history import History

_ALWAYS = (
    ("rejects", "files of rejected rows that imports wrote"),
    ("exclusions", "exclusion files of runs: shard and row number of each dropped row"),
    ("receipts", "receipts and exports that were handed out"),
    ("sources", "the systems that the acts came from: import files, queues, logs of a web server"),
)
_SERVER = ("server", "the database server's write-ahead log, its archives, standbys and backups")


@dataclass(frozen=True, kw_only=True)
class Unreached:
    """kind: snapshot, statement, backup, or one of the standing ones. position, sha256: of the act that tells of it."""

    kind: str
    what: str
    position: int | None = None
    sha256: str | None = None

    def document(self) -> dict[str, Any]:
        fields = {"kind": self.kind, "what": self.what, "position": self.position, "sha256": self.sha256}
        return {name: value for name, value in fields.items() if value is not None}


def of(
    connection: sa.Connection, history: History, folder: Folder, first: int, erased: int, removed: Collection[str]
) -> list[Unreached]:
    """first: the position of the first erased event. erased: of the act. removed: digests of files that are gone."""
    found, spoke = [], set()
    for position, act in history.acts("snapshot_compiled", "statement_made", first=first):
        if act["act"] == "statement_made":
            if position < erased or act.get("snapshot_sha256") in spoke:  # or by a copy of before
                what = "a run or an audit that may have kept the person's rows"
                found.append(Unreached(kind="statement", what=what, position=position, sha256=act["statement_sha256"]))
        elif position < erased and act["tree_size"] > first:
            spoke.add(act["snapshot_sha256"])
            if act["file_sha256"] not in removed:
                what = f"a snapshot of {act['purpose']} of {act['as_of']}, wherever it was written to"
                found.append(Unreached(kind="snapshot", what=what, position=position, sha256=act["file_sha256"]))
    found += [Unreached(kind="backup", what=what) for what in _backups(noted(folder.path))]
    standing = (*_ALWAYS, *([_SERVER] if connection.dialect.name != "sqlite" else []))
    return found + [Unreached(kind=kind, what=what) for kind, what in standing]


def noted(folder: Path) -> Path:
    """What names the copies of a ledger, in its folder. Lines of JSON: path, at (when), size (entries)."""
    return folder / "backups"


def note(folder: Path, path: Path, size: int) -> None:
    """Add a copy, durably. For the holder of the writer's lock."""
    files.make_file(noted(folder))
    with noted(folder).open("r+b") as file:
        if file.seek(0, os.SEEK_END) and file.seek(-1, os.SEEK_END) is not None and file.read(1) != b"\n":
            file.write(b"\n")  # of a writer that was killed
        file.write(json.dumps({"path": str(path), "at": times.text(times.now()), "size": size}).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _backups(path: Path) -> Iterator[str]:
    """Of lines of JSON that `consent backup` and `consent copy` write; what is none of these is named by its file."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                said = json.loads(line)
                yield f"{said['path']} of {said['at']}, {said['size']} entries"
            except (ValueError, KeyError, TypeError):
                yield f"what {path} says in a line that cannot be read"
