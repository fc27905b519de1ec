"""What some of the log says of a purpose: the events that count, and what else a snapshot needs of these entries.

Each entry is read in log order and hashed against its opening; whoever asks checks all of them against the signed root.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from ledger import times
from ledger.errors import IntegrityError
from ledger.folding import ACTS, Acts
from ledger.log.entry import SALT_BYTES
from ledger.log.merkle import RightEdge
from ledger.store import second
from ledger.store.alike import Said
from ledger.store.documents import completed_at
from ledger.store.erased import Erasures
from ledger.store.history import History
from ledger.store.opened import Erased

_NO_SALT = bytes(SALT_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """before, after: the hashes of the tree's right edge there. acts: those of events that count, of `folding.ACTS`.
    salts: of each entry. others: (position, document) of what is no event. gone: (position, position of the act that erased
    it). erasures: where those stand of which it was shown that none of these entries is open in spite of it. left_out: how many
    events of the purpose count later only."""

    before: Sequence[bytes]
    after: Sequence[bytes]
    acts: pa.Table
    salts: bytes
    others: Sequence[tuple[int, Mapping[str, Any]]]
    gone: Sequence[tuple[int, int]]
    erasures: Sequence[int]
    left_out: int

    def completed(self) -> dict[str, datetime]:
        """When each import source last completed, as these entries have it."""
        sources: dict[str, datetime] = {}
        for _, document in self.others:
            if document["act"] == "import_finished":
                source = document.get("source", "")
                sources[source] = max(sources.get(source, times.EPOCH), completed_at(document))
        return sources


def read(
    history: History,
    first: int,
    end: int,
    *,
    token: str,
    accepts: Sequence[int],
    as_of: datetime,
    on_progress: Callable[[int], None] = lambda position: None,
) -> Spoken:
    """Of the entries first..end-1. The tree before them is taken as it is stored. Raises IntegrityError."""
    edge = RightEdge(first, history.edge(first))
    before, erasures = edge.hashes, Erasures(history)
    acts, salts, others, gone = Acts(token, accepts, as_of), list[bytes](), list[tuple[int, Mapping[str, Any]]](), []
    for some in history.stretches((), end, first):
        on_progress(some.first)
        edge.extend(some.leaves)
        salts += [salt or _NO_SALT for salt in some.salts]
        plain = {some.first + at: said for at, said in enumerate(some.said) if isinstance(said, Said)}
        if plain:
            acts.add_alike(list(plain), list(plain.values()))
        for at in erasures.concerned(some.tags):
            if isinstance(said := some.said[at], Said):
                erasures.said(some.first + at, some.tags[at], said.document())
        for at in range(len(some.said)) if len(plain) < len(some.said) else ():
            said, position = some.said[at], some.first + at
            if isinstance(said, Erased):
                gone.append((position, said.act))
            elif not isinstance(said, Said):
                document = said.document()
                if said.is_event:
                    erasures.said(position, said.tag, document)
                    acts.add(position, document)
                else:
                    others.append((position, document))
    return Spoken(
        before=list(before),
        after=list(edge.hashes),
        acts=acts.table(),
        salts=b"".join(salts),
        others=others,
        gone=gone,
        erasures=sorted(erasures.acts),
        left_out=acts.left_out,
    )


def whole(history: History, folder: Path, size: int, on_progress: Callable[[int], None], **what: Any) -> Spoken:
    """Of the first `size` entries, half of them by a second process where that is quicker. what: as `read` takes it."""
    asked = {"token": what["token"], "accepts": list(what["accepts"]), "as_of": times.text(what["as_of"])}
    with second.beside(folder, __name__, size, **asked) as (middle, other):
        found = read(history, 0, middle, **what, on_progress=lambda position: on_progress(position * size // middle))
        rest = None if other is None else _parsed(other.answer())
    if middle == size:
        return found
    if rest is None or rest.before != found.after or rest.erasures != found.erasures:
        rest = read(history, middle, size, **what, on_progress=on_progress)
        if rest.before != found.after:
            raise IntegrityError("the stored tiles are not those of the entries", hint="run `consent fsck`")
    return Spoken(
        before=found.before,
        after=rest.after,
        acts=pa.concat_tables([found.acts, rest.acts]),
        salts=found.salts + rest.salts,
        others=[*found.others, *rest.others],
        gone=[*found.gone, *rest.gone],
        erasures=found.erasures,
        left_out=found.left_out + rest.left_out,
    )


def second_half(
    connection: object, history: History, folder: object, out: IO[bytes], *, first: int, end: int, as_of: str, **what: Any
) -> None:
    """What `whole` has a second process do."""
    spoken = read(history, first, end, as_of=times.parse(as_of), **what)
    fields = {name: getattr(spoken, name) for name in ("others", "gone", "erasures", "left_out")}
    edges = {name: [part.hex() for part in getattr(spoken, name)] for name in ("before", "after")}
    out.write(json.dumps({**fields, **edges}).encode() + b"\n")
    out.write(len(spoken.salts).to_bytes(8, "little") + spoken.salts)
    with pa.ipc.new_stream(out, ACTS) as stream:
        stream.write_table(spoken.acts)


def _parsed(answer: bytes | None) -> Spoken | None:
    if answer is None:
        return None
    head = answer.index(b"\n") + 1
    fields, salts = json.loads(answer[:head]), head + 8 + int.from_bytes(answer[head : head + 8], "little")
    return Spoken(
        before=[bytes.fromhex(part) for part in fields["before"]],
        after=[bytes.fromhex(part) for part in fields["after"]],
        acts=pa.ipc.open_stream(pa.py_buffer(answer).slice(salts)).read_all(),
        salts=answer[head + 8 : salts],
        others=[(position, document) for position, document in fields["others"]],
        gone=[(position, act) for position, act in fields["gone"]],
        erasures=fields["erasures"],
        left_out=fields["left_out"],
    )
