"""Who may write to a folder of shards: a run or an attestation alone, or the parts of one run together.

- Alone: nobody else writes there meanwhile, so that a statement speaks of shards that stay, and every hidden temporary below
  the folder is of a process that was killed: those are removed.
- Together: the folder's lock is shared, which keeps those out who must be alone, and each part holds its own journal, so that
  no part is run twice at once. Temporaries may be another part's that is at work, so that they stay until someone is alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ledger import files, locks
from ledger.errors import LedgerBusy, ShardError
from ledger.objects import Address, Place
from ledger.statements.verify import statement_path

_OTHER = "wait for it to end, or choose another folder with -o"


@contextlib.contextmanager
def alone(folder: Place) -> Iterator[None]:
    """The folder, for this process alone; made where it is not there, and not left behind empty by one that failed.

    Raises ShardError where another is writing to it. What a killed one left under hidden names is removed. A store has no
    locks: of two at once, one may take away what the other has uploaded and not yet published, which then fails.
    """
    if isinstance(folder, Address):
        files.make_folder(folder)
        files.sweep_below(folder)
        files.sweep_below(folder.with_name(f"{folder.name}.journal"))
        files.sweep(statement_path(folder))
        yield
        return
    made = not folder.exists()
    files.make_folder(folder)
    with contextlib.ExitStack() as stack:
        try:
            held = stack.enter_context(locks.exclusive(folder, seconds=0))
        except LedgerBusy as error:
            raise ShardError(f"another run: {error}", hint=_OTHER) from error
        try:
            if held:
                files.sweep_below(folder)
                files.sweep(statement_path(folder))
            yield
        except BaseException:
            if made:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            raise


@contextlib.contextmanager
def together(folder: Place, journal: Place) -> Iterator[None]:
    """The folder with other parts, and this part's journal alone; both are made where they are not there.

    Raises ShardError where a run that is no part writes to the folder, or this part is being run by another. A store has no
    locks: two of one part write the same bytes under the same keys.
    """
    files.make_folder(folder)
    if isinstance(folder, Address) or isinstance(journal, Address):
        files.sweep_below(journal)
        yield
        return
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locks.shared(folder, seconds=0))
            files.make_file(journal)
            stack.enter_context(locks.exclusive(journal, seconds=0))
        except LedgerBusy as error:
            raise ShardError(f"another run: {error}", hint=_OTHER) from error
        yield
