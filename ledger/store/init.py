"""How a ledger begins: a folder with keys, an empty database with a signed head, and the admission of the keys as first acts."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import insert

from ledger.log.checkpoint import Checkpoint, sign_checkpoint
from ledger.log.merkle import EMPTY_ROOT
from ledger.store import tables
from ledger.store.append import Transaction, append
from ledger.store.database import Store, require_no_database
from ledger.store.folder import Folder


def init(path: str | Path, *, recorded_by: str, origin: str | None = None, database: str | None = None,
         passphrase: bytes | None = None) -> Store:  # fmt: skip
    """A new ledger, open. Raises ConsentLedgerError where there is something already, UsageError for an impossible name or URL.

    Interrupted, it leaves a folder that is no ledger.
    """
    require_no_database(Path(path), database)
    folder = Folder.create(path, origin=origin, database=database, passphrase=passphrase)
    store = Store.create(folder)
    empty = sign_checkpoint(Checkpoint(folder.origin, 0, EMPTY_ROOT), folder.log_key())
    with store.writing() as connection:
        # Appending swaps the head and finds the anchor; from here on neither may ever be missing.
        connection.execute(insert(tables.head).values(id=1, note=empty))
        connection.commit()
    folder.write_anchors(empty)
    append(store, lambda transaction: _admit_keys(transaction, folder), recorded_by=recorded_by)
    folder.finish()
    return store


def _admit_keys(transaction: Transaction, folder: Folder) -> None:
    trust = folder.trust()
    for role, verifiers in (("log", trust.log), ("run", trust.run)):
        for verifier in verifiers:
            transaction.act({"act": "key_added", "role": role, "vkey": verifier.vkey})
