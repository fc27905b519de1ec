"""The log's key is replaced by another, which the one before it vouches for.

1. With the writer's lock held: the new key is written to `log.key.next`. Acts say that the old key ended and the new one was
   added; the checkpoint of these acts, the old key's last, is signed by both. COMMIT decides.
2. The trust file says `log OLD until SIZE` and `log NEW`.
3. `log.key.next` becomes `log.key`; the old private key is gone.

Whoever dies on the way leaves a head that both have signed, and `log.key.next`: the next that takes the lock to append does the
rest. Before COMMIT the old key goes on, and `log.key.next` is nothing yet. The acts tell what happened; what extends trust is
the trust file alone, and it is extended only to a key whose private half lies in the folder.
"""

from __future__ import annotations

from pathlib import Path

from ledger import files, locks
from ledger.errors import ConsentLedgerError, IntegrityError
from ledger.log import note
from ledger.log.note import Verifier
from ledger.log.trust import Trust
from ledger.store.folder import LOG_KEY, NEXT_LOG_KEY, Folder

_Line = tuple[bytes, bytes]
"""Of a signature: the key's id and the signature itself."""


def is_begun(folder: Folder) -> bool:
    return (folder.path / NEXT_LOG_KEY).exists()


def begin(folder: Folder, pem: bytes) -> None:
    """Write the key that is to replace the log's. For the holder of the writer's lock: what is there was never committed."""
    path = folder.path / NEXT_LOG_KEY
    files.sweep(path)
    with files.publishing_private(path) as file:
        file.write(pem)


def finish(folder: Folder, head: str, size: int) -> None:
    """Do what is left of a replacement that was committed, if one was. For the holder of the writer's lock, where one is begun.

    head, size: the log's. Raises ConsentLedgerError where a key cannot be read, or renamed.
    """
    with locks.exclusive(folder.path) as held:
        trust = folder.log_trust()
        if len(_own(head, trust)) < 2:
            return  # nothing was committed: no head is signed by the next key alone before all is done
        if unknown := _strangers(head, trust):
            successor = Verifier.of(folder.origin, folder.load(NEXT_LOG_KEY).public)
            if (signature := dict(unknown).get(successor.key_id)) is None:
                return
            successor.public.verify(signature, note.parse(head)[0].encode())
            if held:
                files.sweep(folder.path / "trust")
            folder.write_successor(successor, size)
        elif trust.is_current(folder.load(LOG_KEY).public):
            return  # the head is of the replacement before this one
        _rename(folder.path)


def require_finished(head: str, trust: Trust) -> None:
    """Before a checkpoint beyond this head is signed by the old key alone. Raises IntegrityError."""
    if _strangers(head, trust):
        raise IntegrityError(
            "the last checkpoint handed the log over to a new key, which is not here",
            hint=f"put {NEXT_LOG_KEY}, or the newer {LOG_KEY} and trust, back from your backup. Where the new key is lost and no "
            "trust file that names it was handed out, make another: consent key rotate",
        )


def _own(head: str, trust: Trust) -> list[_Line]:
    """The lines under the log's name."""
    names = {key.name for key in trust.log}
    return [(key_id, signature) for name, key_id, signature in note.parse(head)[1] if name in names]


def _strangers(head: str, trust: Trust) -> list[_Line]:
    """Those of them that are of no key in the ledger's trust file."""
    known = {key.key_id for key in trust.log}
    return [line for line in _own(head, trust) if line[0] not in known]


def _rename(path: Path) -> None:
    try:
        (path / NEXT_LOG_KEY).replace(path / LOG_KEY)
    except OSError as error:
        raise ConsentLedgerError(f"cannot replace {path / LOG_KEY}: {error.strerror}", hint=files.advice(error)) from error
    files.sync_folder(path)
