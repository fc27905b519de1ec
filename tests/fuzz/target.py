"""What a target is, and the log on paper that its seeds are of."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.log import checkpoint, merkle
from ledger.log.checkpoint import sign_checkpoint
from ledger.log.cosignature import Witness
from ledger.log.keys import PrivateKey
from ledger.log.note import Verifier
from ledger.log.proof import TlogProof
from ledger.log.trust import Policy, Trust
from tests.statements.paper_log import PaperLog

ORIGIN = "paper.example/log"


def _key(word: str) -> PrivateKey:
    return PrivateKey(Ed25519PrivateKey.from_private_bytes(sha256(word.encode()).digest()))


LOG, RUN, WITNESS = _key("log"), _key("run"), _key("witness")
SEEN_BY = Witness("witness.example", WITNESS.public)
TRUST = Trust((Verifier.of(ORIGIN, LOG.public),), (Verifier.of(f"{ORIGIN}/run", RUN.public),))
WITNESSED = Trust(TRUST.log, TRUST.run, {}, Policy({"w": SEEN_BY}, {"g": (1, ("w",))}, "g"))
TRUST_LINES = f"log {TRUST.log[0].vkey}\nrun {TRUST.run[0].vkey}\n"


def paper() -> PaperLog:
    log = PaperLog(ORIGIN, LOG, RUN)
    log.fill(5)
    return log


@dataclass(frozen=True)
class Target:
    """read: what is fuzzed. allowed: what may come out of it. seeds: valid inputs to begin with."""

    read: Callable[[bytes], object]
    allowed: tuple[type[Exception], ...]
    seeds: Callable[[], list[bytes]]

    def __call__(self, data: bytes) -> None:
        with suppress(*self.allowed):
            self.read(data)


def of_text(read: Callable[[str], object]) -> Callable[[bytes], object]:
    """Of a parser that takes text: as its callers do, what is no UTF-8 never reaches it. Lone surrogates do, by JSON."""
    return lambda data: read(data.decode("utf-8", "surrogatepass")) if _decodes(data) else None


def _decodes(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def require(true: bool, what: str) -> None:
    """What a parser took must be what it says."""
    if not true:
        raise AssertionError(what)


def in_log(entry: bytes) -> TlogProof:
    """The proof of an entry that is alone in its log."""
    alone = checkpoint.Checkpoint(ORIGIN, 1, merkle.leaf_hash(entry))
    return TlogProof(0, (), sign_checkpoint(alone, LOG))
