"""People whom new acts take from no to yes: what an operator wants to hear of before it is so.

A person counts where at one scope (everything, one category or one item) and for one purpose their latest no is followed by a
strictly later yes that is new, and no yes that stood there before, and has not run out, had answered that no already. A no to
everything is one to each category and item too. A no on all
purposes is one for each; a no for one purpose and a yes for another are no reversal. It does not matter in which order the acts
were recorded, nor whether the no was there before or is new itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby, islice

from ledger.consent import ALL_PURPOSES, YES, split_purpose
from ledger.store.history import History
from ledger.store.opened import Opened

_PEOPLE = 500


@dataclass(frozen=True, slots=True)
class Reversal:
    """One person. no_position: of the no; yes_event_id: of the new yes that answers it."""

    subject_id: str
    no_position: int
    yes_event_id: str


@dataclass(slots=True)
class _Scope:
    """Of one scope, by purpose: (t, position) of the latest no, (t, expires_at) of the latest old yes, (t, event_id) of the new.

    Times are canonical text, which sorts as the moments do.
    """

    noes: dict[str, tuple[str, int]] = field(default_factory=dict)
    before: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    new: dict[str, tuple[str, str]] = field(default_factory=dict)

    def add(self, opened: Opened, first: int) -> None:
        event = opened.document()
        t = min(event.get("occurred_at", event["recorded_at"]), event["recorded_at"])
        for purpose in event["purposes"]:
            token = purpose if purpose == ALL_PURPOSES else split_purpose(purpose)[0]
            if event["state"] not in YES:
                self.noes[token] = max(self.noes.get(token, ("", 0)), (t, opened.position))
            elif opened.position >= first:
                self.new[token] = max(self.new.get(token, ("", "")), (t, event["event_id"]))
            elif token not in self.before or self.before[token][0] <= t:
                self.before[token] = (t, event.get("expires_at"))

    def reversal(self, now: str) -> tuple[int, str] | None:
        """(position of the no, id of the yes)."""
        of_all = self.noes.get(ALL_PURPOSES, ("", 0))
        for token, (yes_at, event_id) in self.new.items():
            no_at, position = max(self.noes.get(token, ("", 0)), of_all)
            stood_at, ends = self.before.get(token, ("", None))
            if "" < no_at < yes_at and not (stood_at > no_at and (ends is None or ends > now)):
                return position, event_id
        return None


def reversals(history: History, first: int, recorded_at: str) -> Iterator[Reversal]:
    """One a person, of the acts from position `first` on, recorded at that moment. In bounded memory."""
    people = history.yes_since_and_no(first)
    while batch := list(islice(people, _PEOPLE)):
        for subject_id, rows in groupby(history.by_scope(batch), key=lambda row: row[0][0]):
            found = None
            whole = _Scope()  # what was said of everything comes first
            for (_, *finer), of_scope in groupby(rows, key=lambda row: row[0]):
                scope = whole if finer == [None, None] else _Scope(dict(whole.noes), dict(whole.before))
                for _, opened in of_scope:
                    scope.add(opened, first)
                found = found or scope.reversal(recorded_at)
            if found is not None:
                yield Reversal(subject_id, *found)
