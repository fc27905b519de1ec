"""Witnesses: others who cosign a checkpoint once they have seen that it continues the last one that they cosigned.

They are asked over C2SP tlog-witness, all at once and within one limit of time. What they answer is kept in the ledger's folder,
in the file `cosigned`: the newest checkpoint with a line for each witness. It is public; `consent log publish` publishes it.

- Only what verifies is kept, by the witnesses that the ledger's own trust file names.
- A checkpoint that enough have cosigned is never replaced by one that fewer have, and never by an older one.
- A witness that has seen another log under this name is an integrity failure: one of the two was shown something else.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from ledger import download, files, locks
from ledger.errors import ConsentLedgerError, IntegrityError, UsageError, VerificationError
from ledger.log import canonical, merkle, note
from ledger.log import trust as trust_lines
from ledger.log.checkpoint import Checkpoint
from ledger.log.cosignature import add_checkpoint, cosigners
from ledger.log.trust import Policy
from ledger.store.folder import Folder

if TYPE_CHECKING:
    from ledger.book import Ledger
    from ledger.store.history import History

TIMEOUT = 10.0
_MAX_ANSWER = 64 << 10
_TRIES = 3
"""Of one witness: each tells the size that the next goes out from."""
_SIZE = re.compile(rb"(0|[1-9][0-9]{0,18})\n?")


@dataclass(frozen=True)
class Cosigned:
    """note: the newest checkpoint that is kept, with its cosignatures; None where no witness has ever answered. size: of the
    checkpoint that was sent. witnesses: that cosigned it now, by their names in the trust file. missing: (URL, why) of those
    that did not. enough: whether the quorum is met or, without one, all have answered. kept: whether note is what was sent."""

    note: str | None
    size: int
    witnesses: tuple[str, ...]
    missing: tuple[tuple[str, str], ...]
    enough: bool
    kept: bool


def cosign_log(book: Ledger, witnesses: Sequence[str], *, timeout: float = TIMEOUT) -> Cosigned:
    """Ask witnesses, by the URLs below which they answer, to cosign the head; timeout: seconds for all of them.

    Raises IntegrityError, once what was collected is kept, where a witness has seen another log; UsageError where the ledger's
    trust file names no witness.
    """
    urls = list(dict.fromkeys(download.checked(url, "a witness", "https://witness.example.org").rstrip("/") for url in witnesses))
    trust = trust_lines.parse(book.trust_text())
    if trust.policy is None or not trust.policy.witnesses:
        raise UsageError(
            f"{book.folder.path / 'trust'} names no witness, so that no cosignature can be verified",
            hint="add a line `witness NAME VKEY` for each, and a line `quorum NAME`, or `quorum none` if none is demanded",
        )
    if not urls:
        raise UsageError("no witness is named", hint="name each by its URL: --witness https://witness.example.org")
    asking = _Asking(book, trust.policy, time.monotonic() + timeout)
    lines: dict[str, str] = {}
    missing: list[tuple[str, str]] = []
    contradictions: list[_Contradiction] = []
    for url, answer in asking.all(urls):
        if isinstance(answer, dict):
            lines |= answer
        elif isinstance(answer, _Contradiction):
            contradictions.append(answer)
        else:
            missing.append((url, answer))
    kept, enough = _keep(book.folder, trust.policy, asking.note, lines)
    if contradictions:
        raise IntegrityError(
            "; ".join(f"witness {found.url} has seen another log under this name: {found.what}" for found in contradictions),
            hint=f"the ledger was restored from a backup or forked, or the witness errs; what was asked and answered is in "
            f"{', '.join(str(found.keep(book.folder.path)) for found in contradictions)}",
        )
    return Cosigned(
        note=kept,
        size=asking.head.size,
        witnesses=tuple(name for name in trust.policy.witnesses if name in lines),
        missing=tuple(missing),
        enough=enough if trust.policy.quorum is not None else not missing,
        kept=kept is not None and note.parse(kept)[0] == note.parse(asking.note)[0],
    )


def covering(folder: Folder, position: int) -> str:
    """The cosigned checkpoint, which must cover the entry at that position. Raises UsageError where it does not."""
    cosigned = folder.cosigned()
    if cosigned is None or folder.log_trust().open(cosigned).size <= position:
        raise UsageError(
            "no checkpoint that covers this entry was cosigned yet", hint="have the log's head cosigned: `consent log cosign`"
        )
    return cosigned


@dataclass(frozen=True)
class _Contradiction:
    url: str
    what: str
    request: bytes
    answer: bytes

    def keep(self, folder: Path) -> Path:
        """Neither is personal; the answer is not signed, so that it is a hint and no proof."""
        data = self.request + b"\n" + f"{self.url}: {self.what}\n".encode() + self.answer
        path = folder / f"refused-{sha256(data).hexdigest()[:16]}"
        files.publish_bytes(path, data)
        return path


class _Asking:
    """One checkpoint on its way to several witnesses."""

    def __init__(self, book: Ledger, policy: Policy, ends: float) -> None:
        self._book, self._policy, self._ends = book, policy, ends
        self.note = book.checkpoint()
        self.head = book.folder.log_trust().open(self.note)
        known = book.folder.cosigned()
        # Most have seen what was cosigned the last time; the others say what they have.
        self._guess = 0 if known is None else min(book.folder.log_trust().open(known).size, self.head.size)

    def all(self, urls: Sequence[str]) -> Iterator[tuple[str, dict[str, str] | _Contradiction | str]]:
        """(URL, its lines by the witness's name, or a contradiction, or why there is none), in the order of the answers."""
        answers: SimpleQueue[tuple[str, dict[str, str] | _Contradiction | str]] = SimpleQueue()
        for url in urls:
            # A daemon: neither a name that does not resolve nor a slow witness holds up the end of the program.
            threading.Thread(target=lambda url=url: answers.put((url, self._one(url))), daemon=True).start()
        waiting = set(urls)
        while waiting:
            try:
                url, answer = answers.get(timeout=max(0.0, self._ends - time.monotonic()))
            except Empty:
                break
            waiting.discard(url)
            yield url, answer
        for url in sorted(waiting):
            yield url, _TOO_LATE

    def _one(self, url: str) -> dict[str, str] | _Contradiction | str:
        try:
            return self._ask(url)
        except ConsentLedgerError as error:
            if time.monotonic() >= self._ends:
                return _TOO_LATE
            return f"{error}" + (f" ({error.hint})" if error.hint else "")
        except Exception as error:  # a thread must always answer
            return f"unexpected {type(error).__name__}: {error!s:.200}"

    def _ask(self, url: str) -> dict[str, str] | _Contradiction | str:
        old = self._guess
        for _ in range(_TRIES):
            request = self._request(old)
            answer = download.ask(
                f"{url}/add-checkpoint",
                limit=_MAX_ANSWER,
                ends=self._ends,
                stalled=self._ends - time.monotonic(),
                body=request,
                headers={"Content-Type": "text/plain; charset=utf-8"},
            )
            if answer.status == 200:
                return self._lines(answer.body)
            told = _SIZE.fullmatch(answer.body) if answer.kind.startswith("text/x.tlog.size") else None
            if answer.status == 409 and told and (known := int(told[1])) != old:
                if known > self.head.size:
                    return self._ahead(url, known, request, answer.body)
                old = known
            elif answer.status in (409, 422) and old and (told or answer.status == 422 or old == self.head.size):
                # The proof was verified before it was sent: what does not fit is the tree that the witness has.
                what = f"it answers {answer.status} to a proof that this log continues its first {old} entries"
                return _Contradiction(url, what, request, answer.body)
            else:
                break
        return _WHY.get(answer.status, f"it answers {answer.status}")

    def _ahead(self, url: str, known: int, request: bytes, answer: bytes) -> _Contradiction | str:
        now = self._book.folder.log_trust().open(self._book.checkpoint()).size
        if known <= now:
            return f"it has cosigned {known} entries already: another `consent log cosign` was ahead"
        return _Contradiction(url, f"it has cosigned {known} entries, and this ledger has {now}", request, answer)

    def _request(self, old: int) -> bytes:
        """C2SP tlog-witness: the size that the witness knows, the proof from there, the checkpoint."""
        proof: list[bytes] = []
        if 0 < old < self.head.size:
            proof = self._book.read(_proof, old, self.head)
        return add_checkpoint(old, proof, self.note)

    def _lines(self, body: bytes) -> dict[str, str]:
        """The verified lines of an answer, by the witness's name in the trust file. Raises VerificationError."""
        try:
            answered = self.note + body.decode()
        except UnicodeDecodeError as error:
            raise VerificationError("its answer is no line of a signature") from error
        text, signatures = note.parse(answered)
        own_text, own = note.parse(self.note)
        if text != own_text:
            raise VerificationError("its answer is no line of a signature")
        found = _by_name(answered, self._policy)
        if not found:
            who = ", ".join(f"{name!r:.60} (key {key_id.hex()})" for name, key_id, _ in signatures[len(own) :][:5])
            raise VerificationError(
                f"its cosignature is by {who or 'nobody'}, which the ledger's trust file does not name",
                hint="add a line `witness NAME VKEY` with the key that its operator gave you, and run the command again",
            )
        return found


_TOO_LATE = "it did not answer in time"
_WHY = {
    403: "it does not know this log's key (403): have its operator add it",
    404: "it does not know this log (404): have its operator add it",
    409: "it refuses, and does not say which size it knows (409)",
}


def _proof(history: History, old: int, head: Checkpoint) -> list[bytes]:
    """From the stored tiles; verified, as whoever refuses it must be able to say that it is not for the proof's sake."""
    proof = merkle.consistency_proof(old, head.size, history.node)
    merkle.verify_consistency(old, merkle.root(old, history.node), head.size, head.root, proof)
    return proof


def _by_name(cosigned: str, policy: Policy) -> dict[str, str]:
    """The lines of a note by which the policy's witnesses cosigned it. Raises VerificationError where one is false."""
    found = cosigners(cosigned, tuple(policy.witnesses.values()))
    lines = {}
    for name, key_id, signature in note.parse(cosigned)[1]:
        for own_name, witness in policy.witnesses.items():
            if witness in found and (witness.name, witness.key_id) == (name, key_id):
                lines[own_name] = f"— {name} {canonical.encode_base64(key_id + signature)}\n"
    return lines


def _keep(folder: Folder, policy: Policy, head: str, lines: dict[str, str]) -> tuple[str | None, bool]:
    """(what the file holds from now on, whether what was collected is enough)."""
    path, own = folder.path / "cosigned", folder.log_trust()
    with locks.exclusive(folder.path) as held:
        if held:
            files.sweep(path)
        there = folder.cosigned()
        merged = lines
        if there is not None and note.parse(there)[0] == note.parse(head)[0]:
            merged = {**_by_name(there, policy), **lines}
        new = head + "".join(merged[name] for name in policy.witnesses if name in merged)
        enough = policy.is_met(new)
        if not merged:
            return there, enough
        if there is not None:
            older = own.open(there).size > own.open(head).size
            if older or (policy.is_met(there) and not enough):
                return there, enough
        files.publish_bytes(path, new.encode())
        return new, enough
