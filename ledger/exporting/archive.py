"""A ZIP whose bytes follow from what is in it: names sorted, no time of its own, its owner's alone."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

from ledger import files

_NO_TIME = (1980, 1, 1, 0, 0, 0)


def write(path: Path, content: Mapping[str, bytes]) -> None:
    """Whole or not at all, readable by its owner alone; in place of what has the name. content: name -> bytes."""
    files.make_folder(path.parent)
    with files.publishing_private(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name in sorted(content):
            entry = zipfile.ZipInfo(name, _NO_TIME)
            entry.create_system, entry.external_attr = 3, 0o100600 << 16  # of Unix: a file of its owner's alone
            archive.writestr(entry, content[name], zipfile.ZIP_DEFLATED, 9)
