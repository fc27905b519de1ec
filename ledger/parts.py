"""`--part 3/64`: many processes filter their shares of one set into one folder, and whether all of them have.

The set is divided by the names of its shards, sorted as UTF-8 bytes: part K of N has every N-th from the K-th on. So all must
be told the same inputs. Each has a journal of its own beside the folder, whose last line says that the part is finished, of which
shards, and by which answers; while it is being run that line is another.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from ledger.errors import ShardError, UsageError
from ledger.log import canonical
from ledger.log.keys import PrivateKey
from ledger.objects import Address, Place
from ledger.shards.inputs import Input
from ledger.shards.journal import Journal, last_note

MOST = 100_000


@dataclass(frozen=True)
class Part:
    """One share of a run. number: from 1 to `of`."""

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of <= MOST:
            raise UsageError(f"there is no part {self.number}/{self.of}", hint=f"K/N, with K from 1 to N and N at most {MOST}")

    def share(self, inputs: Sequence[Input]) -> list[Input]:
        return sorted(inputs, key=lambda source: source.name.encode())[self.number - 1 :: self.of]

    def journal(self, folder: Place) -> Place:
        return folder.with_name(f"{folder.name}.part-{self.number}-of-{self.of}.journal.jsonl")

    def begin(self, journal: Journal) -> None:
        """From here on the part is not finished."""
        journal.note({"part": self.number, "of": self.of})

    def finish(self, journal: Journal, inputs: Sequence[Input], deciding: Mapping[str, str]) -> None:
        """inputs: of all parts. deciding: what must be the same for all."""
        names = sorted((source.name for source in inputs), key=str.encode)
        journal.note({
            "part": self.number, "of": self.of, "shards": [source.name for source in self.share(inputs)],
            "deciding": {**deciding, "inputs": sha256(canonical.encode({"names": names})).hexdigest()}})  # fmt: skip


def journals(folder: Place) -> dict[Part, Place]:
    """Those that stand beside a folder."""
    pattern = re.compile(re.escape(folder.name) + r"\.part-([1-9][0-9]{0,5})-of-([1-9][0-9]{0,5})\.journal\.jsonl")
    names = (
        [name for name, _ in folder.parent.below(recursive=False)]
        if isinstance(folder, Address)
        else [path.name for path in folder.parent.iterdir()]
    )
    found: dict[Part, Place] = {}
    for name in names:
        if (match := pattern.fullmatch(name)) and int(match[1]) <= int(match[2]) <= MOST:
            found[Part(int(match[1]), int(match[2]))] = folder.parent / name
    return found


def require_same_division(folder: Place, part: Part) -> None:
    """Raises UsageError where the folder's set was divided otherwise: shards of both would stand there."""
    if others := sorted({other.of for other in journals(folder)} - {part.of}):
        raise UsageError(
            f"{folder} was begun in {others[0]} parts, and this is one of {part.of}",
            hint=f"choose another folder with -o, or remove {folder.name}.part-*.journal.jsonl beside it to begin anew",
        )


def require_whole(folder: Place, names: Sequence[str], columns: Mapping[str, Any], key: PrivateKey) -> None:
    """Raises ShardError where journals of parts stand beside the folder, and it does not hold what all parts together make.

    names: of the shards that are there. columns: as `Columns.document()`. key: that of all parts; lines of others do not count.
    """
    found = journals(folder)
    if not found:
        return
    if len(divisions := sorted({part.of for part in found})) > 1:
        raise ShardError(f"{folder} was begun in {divisions[0]} parts and in {divisions[1]}", hint=_hint(folder))
    parts = [Part(number, divisions[0]) for number in range(1, divisions[0] + 1)]
    ends = {part.number: _end(part, found.get(part), key) for part in parts}
    if missing := [number for number, end in ends.items() if end is None]:
        raise ShardError(
            f"{folder} was begun in {divisions[0]} parts, and these are not finished, as this run key's journals tell: "
            f"{_listed(missing)}",
            hint=_hint(folder),
        )
    finished = {number: end for number, end in ends.items() if end is not None}
    said = {number: canonical.encode(end["deciding"]) for number, end in finished.items()}
    usual = Counter(said.values()).most_common(1)[0][0]
    if other := [number for number in said if said[number] != usual]:
        raise ShardError(
            f"{folder} was begun in {divisions[0]} parts, and these were not made of the same inputs as the others, "
            f"or not by the same answers and columns: {_listed(other)}",
            hint=_hint(folder),
        )
    if canonical.decode(usual)["columns"] != canonical.encode(dict(columns)).decode():
        raise UsageError(
            f"the parts of {folder} were filtered by other columns", hint="name those that `consent filter --part` was told"
        )
    made = {name for end in finished.values() for name in end["shards"]}
    if lost := sorted(made - {*names}):
        raise ShardError(f"{folder} lacks {lost[0]!r:.200}, which a part has made, and {len(lost) - 1} more", hint=_hint(folder))
    if strange := sorted({*names} - made):
        raise ShardError(f"{folder} holds {strange[0]!r:.200}, which no part has made", hint=_hint(folder))


def _end(part: Part, journal: Place | None, key: PrivateKey) -> dict[str, Any] | None:
    end = {} if journal is None else last_note(journal, key)
    return end if "shards" in end and (end["part"], end["of"]) == (part.number, part.of) else None


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:20])) + (f" and {len(numbers) - 20} more" if len(numbers) > 20 else "")


def _hint(folder: Place) -> str:
    return (
        f"run these parts again (`consent filter --part K/N -o {folder}`); "
        "to seal what is there all the same, move the parts' journals away"
    )
