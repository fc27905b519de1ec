"""Kill `key rotate` before each step that makes something durable, and go on: `python dying_rotation.py FOLDER`.

Prints how often it died, and how often what was begun was then finished, or redone.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

import ledger
from ledger.statements.receipt import open_event_receipt


def dying_at(step: int) -> None:
    left = [step]

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os._exit(9)
            return real(*arguments, **named)

        return call

    for owner, names in ((os, ("fsync", "replace", "rename", "unlink")), (sa.RootTransaction, ("commit",))):
        for name in names:
            setattr(owner, name, counted(getattr(owner, name)))


def rotates(path: Path, step: int) -> bool:
    """Whether it came to its end."""
    child = os.fork()
    if child == 0:
        try:
            with ledger.open(path) as book:
                dying_at(step)
                book.keys.rotate()
        except BaseException as error:
            sys.stderr.write(f"step {step}: {error!r}\n")
            os._exit(8)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9), code
    return code == 0


def main(folder: Path) -> None:
    step, died, finished, redone = 0, 0, 0, 0
    whole = False
    while not whole:
        step += 1
        path = folder / f"at{step}"
        shutil.copytree(folder / "ledger", path)
        whole = rotates(path, step)
        died += not whole
        with ledger.open(path) as book:
            before, begun = book.trust, (path / "log.key.next").exists()
            if step % 2:  # an act comes first, or the command once more
                book.withdraw("u1")
                assert book.show("u1")["decisions"][0]["allowed"] is False
            rotated = book.keys.rotate()
            finished += rotated.resumed
            redone += begun and not rotated.resumed and len(book.trust.until) == 1
            assert not (path / "log.key.next").exists()
            assert not list(path.glob(".log.key*")), list(path.iterdir())
            book.withdraw("u2")
            assert book.trust.run == before.run
            for _, event in book.events():
                assert event.event_id is not None
                open_event_receipt(book.receipt(event.event_id), book.trust)
        ledger.fsck(path)
        shutil.rmtree(path)
    print(died, finished, redone)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
