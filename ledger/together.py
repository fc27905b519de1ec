"""Single acts, recorded together: who has the turn to write records those of all who wait, under one signature and one sync.

Each act is what its sender would have had recorded alone: it is validated again, in the writer's transaction, and becomes what it
can become by itself: recorded, found there, or refused. Who sends one could sign it themselves: the secret of the queue follows
from the log's private key.

- An act has its id before it is handed over. Where whoever took it is gone, its sender looks for that id with the writer's lock
  held, and records it if it is not there: nothing is lost after it was acknowledged, and nothing is recorded twice.
- Where the transaction fails, those who were taken along are let go, and each finds out alone.
"""

from __future__ import annotations

import json
import marshal
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache

import sqlalchemy as sa

from ledger import person, times, told, turns
from ledger.consent import Event
from ledger.errors import ConsentLedgerError, EventConflict, InvalidEvent, Suppressed
from ledger.log.keys import PrivateKey
from ledger.person import Recorded
from ledger.store import database
from ledger.store.append import Stored, Transaction, Unanchored, append, told_that_it_was_recorded
from ledger.store.documents import EVENT_FIELDS, TIMES, event_document, event_of
from ledger.store.folder import Folder
from ledger.store.history import History
from ledger.told import Found
from ledger.turns import Lost, Turn, Waiting

QUEUE_SECONDS: float = 10
"""How long to wait for somebody to take it; then it is recorded by the database's own lock."""
_VERSION = b"consent-ledger/turns/v3\n"
"""Another one for whatever is handed over in another form: processes of both versions then go by the database's lock."""
_LATE_SECONDS = 0.002
"""How long at most to wait, with the writer's lock held, for as many as came along the last time: they are being answered just
now, and without them the same is done for fewer."""
_came_along = 0
"""The last time that this process had the turn, whatever the ledger. Where one writes alone, nobody is waited for."""
_MUCH = turns.MAX_BYTES // 2
_RECORDING = frozenset(("recorded_at", "recorded_by"))
_SAID = EVENT_FIELDS - _RECORDING
_REFUSALS = {kind.__name__: kind for kind in (ConsentLedgerError, InvalidEvent, EventConflict, Suppressed)}


@dataclass(frozen=True)
class Act:
    """event: with its id. now: it is dated by the log's clock. again: it may be recorded already, and is that act then."""

    event: Event
    recorded_by: str
    now: bool
    again: bool = False

    def message(self) -> bytes:
        document = event_document(self.event)
        said = {name: document[name] for name in document if name not in _RECORDING}
        return json.dumps([said, self.recorded_by, self.now]).encode()

    def follows(self, moment: datetime) -> bool:
        at = self.event.occurred_at
        return self.event.is_yes and not self.now and at is not None and at > moment

    @classmethod
    def of_message(cls, message: bytes) -> Act:
        """Raises an exception, of whatever kind, for what is none."""
        document, recorded_by, now = json.loads(message)
        if not document.keys() <= _SAID or type(now) is not bool:
            raise ValueError("this is no act")
        event = Event(**{**document, **{name: times.parse(document[name]) for name in TIMES if name in document}})
        if event.event_id is None or not isinstance(recorded_by, str):
            raise ValueError("this is no act")
        return cls(event, recorded_by, now)


_Outcome = Stored | InvalidEvent


def record(engine: sa.Engine, folder: Folder, event: Event, recorded_by: str, *, now: bool = False) -> Recorded:
    """Record one act. now: dated by the log's clock. Raises InvalidEvent, and as `append` does."""
    key = folder.key_at_hand()  # a passphrase may have to be asked for
    given = event.event_id is not None
    act = Act(event if given else event.filled_in(event_id=secrets.token_hex(16)), recorded_by, now)
    found = None
    try:
        if os.access(folder.path, os.W_OK):  # else it is refused, as it is where nobody else writes
            name, secret = _queue(folder, key)
            found = turns.ask(name, secret, act.message(), QUEUE_SECONDS, 2 * database.BUSY_SECONDS)
    except Lost:
        act = replace(act, again=True)
    if isinstance(found, bytes):
        database.linger(engine, begin=False)  # with many who write it is long until it is our turn again
        recorded = _read_answer(found)
    else:
        with database.held(engine):
            recorded = _Writing(engine, folder, key, act).record(found)
    # What we named ourselves nobody recorded before.
    return replace(recorded, repeated=False) if recorded.repeated and not given else recorded


def _queue(folder: Folder, key: PrivateKey) -> tuple[bytes, bytes]:
    """The queue's name and secret: those of this folder as it is configured, and of who has the log's key."""
    status = folder.path.stat()
    settings = (status.st_dev, status.st_ino, folder.origin, folder.database, folder.moved_to)
    return _queue_of(key, (*settings, *(str(anchor.absolute()) for anchor in folder.anchors)))


@lru_cache(maxsize=4)
def _queue_of(key: PrivateKey, of: tuple[str | int | None, ...]) -> tuple[bytes, bytes]:
    place = json.dumps(of).encode()
    name = key.derived(_VERSION + b"name\n" + place).hex()
    return f"consent-ledger/{name}".encode(), key.derived(_VERSION + b"secret\n" + place)


class _Writing:
    """One act of ours, and those of others that come along."""

    def __init__(self, engine: sa.Engine, folder: Folder, key: PrivateKey, act: Act) -> None:
        self._engine, self._folder, self._key, self._act = engine, folder, key, act
        self._others: list[tuple[Waiting, Act]] = []
        self._outcomes: list[tuple[_Outcome, Sequence[str]]] = []
        self._told: list[Found | ConsentLedgerError] = []
        self._purposes = "[]"

    def record(self, turn: Turn | None) -> Recorded:
        try:
            self._append(turn)
        finally:
            if turn is not None and (turn.pass_on() or self._others):
                database.linger(self._engine)
        try:
            for (waiting, _), one in zip(self._others, self._told[1:], strict=True):
                waiting.answer(_refusal(one) if isinstance(one, ConsentLedgerError) else _answer(one))
        finally:
            self._let_go()
        ours = self._told[0]
        if isinstance(ours, ConsentLedgerError):
            raise ours
        with told_that_it_was_recorded():
            return ours.recorded()

    def _append(self, turn: Turn | None) -> None:
        try:
            append(self._engine, self._folder, lambda tx: self._plan(tx, turn), read_back=self._read_back, key=self._key)
        except Unanchored as error:
            self._told = [error] * len(self._outcomes)
        except BaseException as error:
            alone = not self._others
            self._let_go()
            if alone or not isinstance(error, Exception):
                raise
            # It may be of an act that came along. Whether ours was recorded is not known either.
            self._act, self._outcomes = replace(self._act, again=True), []
            self._append(None)

    def _let_go(self) -> None:
        for waiting, _ in self._others:
            waiting.close()
        self._others = []

    def _plan(self, tx: Transaction, turn: Turn | None) -> None:
        self._purposes = told.purposes_text(person.current_purposes(tx.declared))
        # With the lock held: whoever is taken along now waits for nothing but this transaction.
        global _came_along
        acts = [self._act, *self._taken(turn)]
        ends = time.monotonic() + _LATE_SECONDS
        while turn is not None and len(self._others) < _came_along and turn.comes(ends - time.monotonic()):
            acts += self._taken(turn)
        # Who comes later goes with the next one: a no would be dated before it was said, and answered by a yes from in between.
        tx.begin_now()
        warnings = person.warnings_of(tx.history, [act.event.subject_id for act in acts])
        self._outcomes += zip(_record_all(tx, acts), warnings, strict=True)
        _came_along = min(len(self._others), turns.TOGETHER)

    def _taken(self, turn: Turn | None) -> list[Act]:
        """The acts of those who wait by now, but for yeses that are dated ahead: who sent one finds out alone."""
        acts: list[Act] = []
        for waiting in turn.waiting() if turn is not None else ():
            try:
                act = Act.of_message(waiting.asked)
            except Exception:  # whatever is wrong with it, its sender will find out
                waiting.close()
                continue
            if act.follows(times.now()):
                waiting.close()
            elif waiting.take():
                self._others.append((waiting, act))
                acts.append(act)
        return acts

    def _read_back(self, history: History) -> None:
        """What everyone will be told."""
        stored = [outcome for outcome, _ in self._outcomes if isinstance(outcome, Stored)]
        try:
            with told_that_it_was_recorded():
                now, opened = history.now(), history.opened_of({each.event.subject_id for each in stored})
        except ConsentLedgerError as error:
            self._told = [outcome if isinstance(outcome, InvalidEvent) else error for outcome, _ in self._outcomes]
            return
        self._told = []
        for outcome, warnings in self._outcomes:
            try:
                if isinstance(outcome, InvalidEvent):
                    raise outcome
                with told_that_it_was_recorded():
                    theirs, about = opened[outcome.event.subject_id], {"now": now, "purposes": self._purposes}
                    found = Found.of(history, theirs, outcome.position, repeated=outcome.repeated, warnings=warnings, **about)
                self._told.append(found)
            except ConsentLedgerError as error:
                self._told.append(error)


def _record_all(tx: Transaction, acts: Sequence[Act]) -> list[_Outcome]:
    """What becomes of each, in order; those by one sender, which are most of them, in one go."""
    outcomes: list[_Outcome] = []
    rest = list(acts)
    while rest:
        by = rest[0].recorded_by
        some = []
        while rest and rest[0].recorded_by == by:
            some.append(_dated(tx, rest.pop(0)))
        outcomes += tx.events(some, by)
    return outcomes


def _dated(tx: Transaction, act: Act) -> Event:
    if not act.now:
        return act.event
    moment = tx.recorded_at
    if act.again and (found := tx.history.events([act.event.event_id or ""])):
        moment = found[0][1].occurred_at or moment
    # Of a yes it is to be checked that it ends later.
    return replace(act.event, occurred_at=moment) if act.event.is_yes else act.event.filled_in(occurred_at=moment)


def _answer(found: Found) -> bytes:
    """As it was found; where that is too much to hand over, as it is told."""
    message = found.message()
    if len(message) < _MUCH:
        return message
    try:
        with told_that_it_was_recorded():
            recorded = found.recorded()
    except ConsentLedgerError as error:
        return _refusal(error)
    return marshal.dumps({**recorded.document(), "receipt": recorded.receipt}, told.FORM)


def _refusal(error: ConsentLedgerError) -> bytes:
    kind = type(error).__name__
    kind = kind if kind in _REFUSALS else "ConsentLedgerError"
    return marshal.dumps({"error": kind, "said": str(error), "hint": error.hint}, told.FORM)


def _read_answer(said: bytes) -> Recorded:
    """Raises what a refusal says, and as `Found.recorded`. It bears the seal: it is of somebody who can sign."""
    answer = marshal.loads(said)  # noqa: S302 - it was sealed
    if isinstance(answer, tuple):
        with told_that_it_was_recorded():
            return Found.of_message(answer).recorded()
    if "error" in answer:
        raise _REFUSALS[answer["error"]](answer["said"], hint=answer["hint"])
    return Recorded(
        event=event_of(answer["event"]),
        position=answer["position"],
        repeated=answer["repeated"],
        warnings=tuple(answer["warnings"]),
        decisions=tuple(answer["decisions"]),
        receipt=answer["receipt"],
    )
