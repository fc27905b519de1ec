"""Whom the relying party trusts: a text of lines `log VKEY` and `run VKEY`, with comments (`#`) and empty lines.

Nothing else is ever trusted: no key that comes with what it is to verify. A word that is not known, such as C2SP tlog-policy's
`witness` and `quorum`, is refused: to pass over a demand of the relying party would be to trust more than it does.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from ledger.errors import VerificationError
from ledger.log.note import Verifier

MAX_TRUST = 1 << 20
"""Characters."""

# By white space of ASCII alone: str.split takes control characters for some too.
_WORD = re.compile(r"[^ \t\r]+")


@dataclass(frozen=True)
class Trust:
    """log: keys that sign checkpoints. run: keys that sign statements."""

    log: tuple[Verifier, ...]
    run: tuple[Verifier, ...]


def parse(text: str) -> Trust:
    """Raises VerificationError, which names the line."""
    if len(text) > MAX_TRUST:
        raise VerificationError(f"a trust file of {len(text)} characters is longer than the {MAX_TRUST} that are allowed")
    keys: dict[str, list[Verifier]] = {"log": [], "run": []}
    for number, line in enumerate(text.split("\n"), start=1):
        words = _WORD.findall(line)
        if not words or words[0].startswith("#"):
            continue
        if words[0] not in keys or len(words) != 2:
            raise VerificationError(
                f"line {number} of the trust file is not understood: {line.strip()!r:.100}", hint=_hint(words[0], keys)
            )
        try:
            keys[words[0]].append(Verifier.from_vkey(words[1]))
        except VerificationError as error:
            raise VerificationError(f"line {number} of the trust file: {error}", hint=error.hint) from error
    return Trust(tuple(keys["log"]), tuple(keys["run"]))


def _hint(word: str, known: Collection[str]) -> str:
    if word in known:
        return f"the line reads `{word} VKEY`, and a comment has a line of its own"
    return f"a line begins with {' or '.join(known)}, or with # for a comment"
