"""Whom the relying party trusts: lines of text, with comments (`#`) and empty lines; C2SP tlog-policy's words, and `run`.

    log VKEY [URL] [until SIZE]      a key that signs checkpoints; until: it was replaced when the log had SIZE entries
    run VKEY                         a key that signs statements
    witness NAME VKEY [URL]          a witness, by a name that the lines below use
    group NAME K MEMBER...           met where K of its members are; K is a number, `any` or `all`
    quorum NAME                      the witness or group without which no checkpoint counts; `none`: none is needed

Nothing else is ever trusted: no key that comes with what it is to verify. A line that is not understood is refused, and so are
witnesses of which no `quorum` line says how many are demanded: to pass over a demand would be to trust more than the relying
party does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ledger.errors import VerificationError
from ledger.log import checkpoint, cosignature, note
from ledger.log.checkpoint import MAX_SIZE, Checkpoint
from ledger.log.cosignature import Witness
from ledger.log.keys import PublicKey
from ledger.log.note import Verifier

MAX_TRUST = 1 << 20
"""Characters."""

# By white space of ASCII alone: str.split takes control characters for some too.
_WORD = re.compile(r"[^ \t\r]+")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_URL = re.compile(r"https?://[\x21-\x7e]+")
_NONE = "none"
_FORMS = {
    "log": "log VKEY [URL] [until SIZE]",
    "run": "run VKEY",
    "witness": "witness NAME VKEY [URL]",
    "group": "group NAME K MEMBER...",
    "quorum": "quorum NAME",
}


@dataclass(frozen=True)
class Policy:
    """Which witnesses must have cosigned. groups: name -> (how many, of which members), each after those that it names.

    quorum: a name of either; None: no cosignature is demanded.
    """

    witnesses: Mapping[str, Witness]
    groups: Mapping[str, tuple[int, tuple[str, ...]]]
    quorum: str | None

    def is_met(self, note: str) -> bool:
        """Whether enough witnesses have cosigned it. Raises VerificationError where a cosignature of one of them is false."""
        cosigners = cosignature.cosigners(note, tuple(self.witnesses.values()))
        met = {name for name, witness in self.witnesses.items() if witness in cosigners}
        for name, (threshold, members) in self.groups.items():
            if sum(member in met for member in members) >= threshold:
                met.add(name)
        return self.quorum is None or self.quorum in met


@dataclass(frozen=True)
class Trust:
    """log: keys that sign checkpoints. run: keys that sign statements. policy: None where no witness is named.

    until: of a log key that was replaced, the size of the last checkpoint that it may sign.
    """

    log: tuple[Verifier, ...]
    run: tuple[Verifier, ...]
    until: Mapping[Verifier, int] = field(default_factory=dict)
    policy: Policy | None = None

    def open(self, note: str) -> Checkpoint:
        """A checkpoint that a trusted log key has signed, and the witnesses that are demanded. Raises VerificationError."""
        found = self.open_unwitnessed(note)
        if self.policy is not None and not self.policy.is_met(note):
            raise VerificationError(
                f"the checkpoint of {found.size} entries is not cosigned by the witnesses that the trust file demands "
                f"(quorum {self.policy.quorum!r:.60})",
                hint="ask the log's operator for one that is: `consent log cosign`",
            )
        return found

    def open_unwitnessed(self, note: str) -> Checkpoint:
        """The same without asking for witnesses: whoever calls this finds out otherwise whether the checkpoint is witnessed."""
        return checkpoint.open_checkpoint(note, self.log, until=self.until)

    def cosigned_by(self, note: str) -> tuple[str, ...]:
        """The witnesses that cosigned a note, by their names here. Raises VerificationError as `Policy.is_met` does."""
        if self.policy is None:
            return ()
        cosigners = cosignature.cosigners(note, tuple(self.policy.witnesses.values()))
        return tuple(name for name, witness in self.policy.witnesses.items() if witness in cosigners)

    def is_current(self, public: PublicKey) -> bool:
        """Whether it is a log key that was not replaced."""
        return public in [key.public for key in self.log if key not in self.until]

    def signed_once(self, note_text: str) -> str:
        """A checkpoint that `open` takes, with one signature line: of the log keys that may sign it, that of the oldest.

        So the last checkpoint of a key that was replaced, which its successor has signed too, verifies for those who have not
        heard of the successor yet.
        """
        text, signatures = note.parse(note_text)
        size = checkpoint.parse(text).size

        def ends(line: tuple[str, bytes, bytes]) -> int:
            known = [self.until.get(key, MAX_SIZE) for key in self.log if (key.name, key.key_id) == line[:2]]
            return min((until for until in known if until >= size), default=MAX_SIZE + 1)

        return "\n".join([text, note.signature_line(*min(signatures, key=ends))])

    def knows(self, name: str, key_id: bytes) -> bool:
        """Whether a signature line is of a log key or of a witness that is named here, so that it was verified on opening."""
        witnesses = () if self.policy is None else self.policy.witnesses.values()
        return any((key.name, key.key_id) == (name, key_id) for key in (*self.log, *witnesses))


def parse(text: str) -> Trust:
    """Raises VerificationError, which names the line."""
    if len(text) > MAX_TRUST:
        raise VerificationError(f"a trust file of {len(text)} characters is longer than the {MAX_TRUST} that are allowed")
    read = _Reading()
    for number, line in enumerate(text.split("\n"), start=1):
        words = _WORD.findall(line)
        if not words or words[0].startswith("#"):
            continue
        try:
            understood = words[0] in _FORMS and getattr(read, words[0])(words[1:])
        except VerificationError as error:
            raise VerificationError(f"line {number} of the trust file: {error}", hint=error.hint) from error
        if not understood:
            raise VerificationError(
                f"line {number} of the trust file is not understood: {line.strip()!r:.100}", hint=_hint(words[0])
            )
    return read.trust()


class _Reading:
    """One method a word; each says whether it understood the rest of its line."""

    def __init__(self) -> None:
        self._log: list[Verifier] = []
        self._run: list[Verifier] = []
        self._until: dict[Verifier, int] = {}
        self._witnesses: dict[str, Witness] = {}
        self._groups: dict[str, tuple[int, tuple[str, ...]]] = {}
        self._quorum: list[str] = []

    def log(self, words: list[str]) -> bool:
        vkey, rest = words[:1], words[1:]
        rest = rest[1:] if rest and _URL.fullmatch(rest[0]) else rest
        if not vkey or (rest and (len(rest) != 2 or rest[0] != "until" or not _NUMBER.fullmatch(rest[1]))):
            return False
        key = Verifier.from_vkey(vkey[0])
        if rest:
            # Named twice, the stricter line holds.
            self._until[key] = min(int(rest[1]), self._until.get(key, MAX_SIZE))
        self._log.append(key)
        return True

    def run(self, words: list[str]) -> bool:
        if len(words) == 1:
            self._run.append(Verifier.from_vkey(words[0]))
        return len(words) == 1

    def witness(self, words: list[str]) -> bool:
        if len(words) not in (2, 3) or (len(words) == 3 and not _URL.fullmatch(words[2])):
            return False
        self._require_new(words[0])
        witness = Witness.from_vkey(words[1])
        if any(witness.public == other.public for other in self._witnesses.values()):
            raise VerificationError(f"witness {words[0]!r:.60} has the key of another: it would count twice")
        self._witnesses[words[0]] = witness
        return True

    def group(self, words: list[str]) -> bool:
        if len(words) < 3:
            return False
        name, threshold, *members = words
        self._require_new(name)
        if unknown := [member for member in members if member not in self._witnesses and member not in self._groups]:
            raise VerificationError(f"group {name!r:.60} has a member {unknown[0]!r:.60} that no line before names")
        if len(set(members)) != len(members):
            raise VerificationError(f"group {name!r:.60} names a member twice")
        needed = {"any": "1", "all": str(len(members))}.get(threshold, threshold)
        if not _NUMBER.fullmatch(needed) or not 1 <= int(needed) <= len(members):
            raise VerificationError(f"group {name!r:.60} cannot need {threshold!r:.20} of {len(members)} members")
        self._groups[name] = int(needed), tuple(members)
        return True

    def quorum(self, words: list[str]) -> bool:
        if len(words) != 1:
            return False
        if self._quorum:
            raise VerificationError("there is one quorum, and a line before names it")
        if words[0] != _NONE and words[0] not in self._witnesses and words[0] not in self._groups:
            raise VerificationError(f"quorum {words[0]!r:.60} is no witness or group that a line before names")
        self._quorum = words
        return True

    def trust(self) -> Trust:
        own = {key.public for key in self._log}
        if same := [name for name, witness in self._witnesses.items() if witness.public in own]:
            raise VerificationError(f"witness {same[0]!r:.60} has the log's own key: it would vouch for itself")
        if (self._witnesses or self._groups) and not self._quorum:
            raise VerificationError(
                "the trust file names witnesses, and does not say how many of them must have cosigned",
                hint="add a line `quorum NAME` of a witness or a group, or `quorum none`",
            )
        policy = None
        if self._quorum:
            policy = Policy(self._witnesses, self._groups, None if self._quorum == [_NONE] else self._quorum[0])
        return Trust(tuple(self._log), tuple(self._run), self._until, policy)

    def _require_new(self, name: str) -> None:
        if name == _NONE or name in self._witnesses or name in self._groups:
            raise VerificationError(f"the name {name!r:.60} is taken")


def _hint(word: str) -> str:
    if word in _FORMS:
        return f"the line reads `{_FORMS[word]}`, and a comment has a line of its own"
    return f"a line begins with {', '.join(_FORMS)}, or with # for a comment"
