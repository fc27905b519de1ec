"""What a pass over the log checks of its erasures: each is complete, and nothing that it ended stands.

> The entry of an event that has no opening is named by exactly one erasure after it, of those that it names none has an opening,
> and before it no other event with its tag has one. After it stands no yes of that tag that counts from up to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ledger.consent import YES
from ledger.errors import IntegrityError
from ledger.store.history import History
from ledger.store.opened import Erased, Opened

_WHOLE = "run `consent fsck`"


class Erasures:
    """acts: by position, of the whole log; they were looked up, and the pass must meet the same."""

    def __init__(self, history: History) -> None:
        self.acts = dict(history.erasures())
        self._ended: dict[bytes, list[tuple[int, str]]] = {}
        for position, act in self.acts.items():
            self._ended.setdefault(bytes.fromhex(act["tag"]), []).append((position, act["recorded_at"]))
        self._met: dict[int, Mapping[str, Any]] = {}
        self._gone: dict[int, list[int]] = {}

    def concerned(self, tags: Sequence[bytes | None]) -> list[int]:
        """Which of these events must be shown to `said`: those of somebody who was erased."""
        ended = self._ended
        return [] if ended.keys().isdisjoint(tags) else [at for at, tag in enumerate(tags) if tag in ended]

    def see(self, opened: Opened | Erased, document: Mapping[str, Any]) -> None:
        """Of every entry, in log order; document: of one that has an opening. Raises IntegrityError."""
        if isinstance(opened, Erased):
            self.gone(opened.position, opened.act)
        else:
            self.said(opened.position, opened.tag, document)

    def gone(self, position: int, act: int) -> None:
        """The same of an entry whose opening was erased by the act at a position."""
        self._gone.setdefault(act, []).append(position)

    def said(self, position: int, tag: bytes | None, document: Mapping[str, Any]) -> None:
        """The same of an entry that has an opening."""
        if tag is None:
            if document["act"] == "subject_erased":
                self._met[position] = document
            return
        for act, at in self._ended.get(tag, ()):
            # Canonical times sort as text.
            counts_from = min(document.get("occurred_at", document["recorded_at"]), document["recorded_at"])
            if position < act or (document["state"] in YES and counts_from <= at):
                raise IntegrityError(f"entry {position} is open, and entry {act} has erased that person", hint=_WHOLE)

    def found(self) -> dict[str, Any]:
        """Of a pass over some of the log, as JSON: what `adopt` reads."""
        return {"acts": sorted(self.acts), "met": list(self._met.items()), "gone": list(self._gone.items())}

    def adopt(self, rest: Mapping[str, Any]) -> bool:
        """Add what another pass has found of all the entries after these; False: it knew of other erasures."""
        if rest["acts"] != sorted(self.acts):
            return False
        self._met.update((position, act) for position, act in rest["met"])
        for act, positions in rest["gone"]:
            self._gone.setdefault(act, []).extend(positions)
        return True

    def beyond(self, size: int) -> list[int]:
        """After a pass over the first `size` entries: the erasures after these that have taken some of them."""
        return sorted(act for act in self._gone if act >= size)

    def settle(self, size: int) -> None:
        """After a pass over the first `size` entries, whose root was checked. Raises IntegrityError."""
        if self._met != {position: act for position, act in self.acts.items() if position < size}:
            raise IntegrityError("the log holds other erasures than table openings has it", hint=_WHOLE)
        for position, act in self.acts.items():
            if self._gone.get(position, []) != [p for p in act["positions"] if p < size]:
                raise IntegrityError(f"the events that are gone are not those that entry {position} names", hint=_WHOLE)
