"""People whom new acts take from no to yes: what an operator wants to hear of before it is so.

A person counts where at one scope (everything, one category or one item) and for one purpose their latest no is followed by a
strictly later yes that is new, and no yes that stood there before, and has not run out, had answered that no already. A no to
everything is one to each category and item too. A no on all
purposes is one for each; a no for one purpose and a yes for another are no reversal. It does not matter in which order the acts
were recorded, nor whether the no was there before or is new itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby, islice

import sqlalchemy as sa

from ledger.consent import ALL_PURPOSES, NO, YES, split_purpose
from ledger.store.history import INDEXED
from ledger.store.opened import Opened, checked
from ledger.store.tables import Opening

_PEOPLE = 500
_openings = Opening.__table__  # type: ignore[attr-defined]
_SCOPE = (_openings.c.subject_id, _openings.c.category, _openings.c.content_id)
_OPENED = INDEXED.add_columns(*_SCOPE).order_by(_SCOPE[0], _SCOPE[1].nulls_first(), _SCOPE[2].nulls_first(), _openings.c.position)
_Scoped = tuple[tuple[str, str | None, str | None], Opened]


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


def reversals(
    connection: sa.Connection, first: int, recorded_at: str, turning: Iterable[int] | None = None
) -> Iterator[Reversal]:
    """One a person, of the acts from position `first` on, recorded at that moment. In bounded memory.

    turning: positions of acts, one a person, of all whom what they say from `first` on may take there; so that of the others only
    those are looked at who said no before.
    """
    if turning is None:
        people = _yes_and_no(connection, first)
    else:
        people = chain(_yes_and_no(connection, first, before=first), _at(connection, first, turning))
    while batch := list(islice(people, _PEOPLE)):
        for subject_id, rows in groupby(_by_scope(connection, batch), key=lambda row: row[0][0]):
            found = None
            whole = _Scope()  # what was said of everything comes first
            for (_, *finer), of_scope in groupby(rows, key=lambda row: row[0]):
                scope = whole if finer == [None, None] else _Scope(dict(whole.noes), dict(whole.before))
                for _, opened in of_scope:
                    scope.add(opened, first)
                found = found or scope.reversal(recorded_at)
            if found is not None:
                yield Reversal(subject_id, *found)


def _yes_and_no(connection: sa.Connection, first: int, *, before: int | None = None) -> Iterator[str]:
    """Subjects with a yes from position `first` on, who ever said no, or did so before a position."""
    noes = _openings.alias()
    of = [noes.c.state.in_(NO)]
    if before is not None:
        some = sa.select(_openings.c.position).where(_openings.c.position < before, _openings.c.subject_id.is_not(None))
        if connection.scalar(some.limit(1)) is None:  # a new ledger: nobody needs to be looked for
            return
        of.append(noes.c.position < before)
    # Of an expression, or SQLite would go over the index of all subjects there ever were, a row at a time.
    subject = sa.func.coalesce(_openings.c.subject_id, "").label("subject_id")
    fresh = sa.select(subject).where(_openings.c.position >= first, _openings.c.state.in_(YES)).distinct().subquery()
    refused = sa.exists().where(noes.c.subject_id == fresh.c.subject_id, *of)
    with connection.execute(sa.select(fresh.c.subject_id).where(refused), execution_options={"yield_per": 500}) as rows:
        yield from rows.scalars()


def _at(connection: sa.Connection, first: int, positions: Iterable[int]) -> Iterator[str]:
    """Subjects of the events at these positions, but for those who said no before position `first`."""
    noes = _openings.alias()
    refused = sa.exists().where(noes.c.subject_id == _openings.c.subject_id, noes.c.position < first, noes.c.state.in_(NO))
    some = sa.select(_openings.c.subject_id).where(_openings.c.position.in_(sa.bindparam("positions", expanding=True)), ~refused)
    remaining = iter(positions)
    while batch := list(islice(remaining, _PEOPLE)):
        yield from connection.scalars(some, {"positions": batch}).all()


def _by_scope(connection: sa.Connection, subjects: Sequence[str]) -> Iterator[_Scoped]:
    """((subject, category, content), event) of these subjects; those of one scope follow one another, everything first."""
    with connection.execute(_OPENED.where(_SCOPE[0].in_(subjects)), execution_options={"yield_per": 500}) as rows:
        for row in rows:
            yield (row[6], row[7], row[8]), checked(*row[:6])
