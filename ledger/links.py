"""Links that say no, and only no: whoever holds one withdraws one person's consent to one purpose, with one click.

    BASE/no/TOKEN        TOKEN: `PURPOSE "\\n" SUBJECT`, sealed (see `tokens`) for the use "no only"

- A token says all that a click needs. So a link works for as long as its key is kept: whatever happens to other keys, to what is
  known of the person, and to the purpose.
- The same link made again is the same, until it is revoked: then it is another, `PURPOSE/1`, `PURPOSE/2`, ...
- Revoking is an act of the log, so that nobody's link is silenced unseen.
- A click is recorded, and dated by the log's clock. One that comes again within REPEAT, with no yes of the person recorded in
  between, is answered by the one before. A later one is recorded anew: a yes that was given in between may not have arrived yet,
  and would answer the earlier one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from ledger import person, receipts, tokens
from ledger.consent import ONE_CLICK, Event, check_id, split_purpose
from ledger.errors import InvalidEvent, UsageError, VerificationError
from ledger.store.append import Transaction
from ledger.store.folder import Folder
from ledger.store.history import History

USE = "no only"
PATH = "/no/"
RECORDED_BY = "web:link"
REPEAT = timedelta(seconds=10)
ONE_CLICK_BODY = ("List-Unsubscribe", "One-Click")
"""RFC 8058 §3.1: the field that a POST to a link says no by."""
_BASE = re.compile(r"https?://[A-Za-z0-9._~%!$&'()*+;=:@/\[\]-]+")
_LATEST = 1000
_TOGETHER = 500
_TEXT = re.compile(r"([^\n/]+)(?:/([1-9][0-9]{0,8}))?\n(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Link:
    """What a token says. number: how many for the same were revoked before it."""

    subject_id: str
    purpose: str
    number: int = 0

    def token(self, keys: Sequence[bytes], origin: str) -> str:
        """keys: as of `tokens.seal`."""
        number = f"/{self.number}" if self.number else ""
        return tokens.seal(f"{self.purpose}{number}\n{self.subject_id}", keys, origin=origin, use=USE)


def open_token(token: str, keys: Sequence[bytes], origin: str) -> Link | None:
    """None for what is no token of a link of this ledger."""
    try:
        text = tokens.unseal(token, keys, origin=origin, use=USE)
    except VerificationError:
        return None
    found = _TEXT.fullmatch(text)
    return Link(found[3], found[1], int(found[2] or 0)) if found else None


def url(base: str, token: str) -> str:
    """base: where `consent serve` is reached. Raises UsageError for one that is no such address."""
    if not _BASE.fullmatch(base):
        raise UsageError(f"{base!r:.200} is no address of a server", hint="as in https://consent.example.org")
    return base.rstrip("/") + PATH + token


def headers(link: str) -> dict[str, str]:
    """The two headers of a message (RFC 8058 §3.1) that let its reader's mail program say no by this URL."""
    return {"List-Unsubscribe": f"<{link}>", "List-Unsubscribe-Post": "=".join(ONE_CLICK_BODY)}


def digest(token: str) -> str:
    """What the log calls a token by."""
    return sha256(token.encode(errors="replace")).hexdigest()


class Revoked:
    """The tokens that were revoked. The log only grows, so that each look reads what is new since the last."""

    def __init__(self) -> None:
        self._digests: set[str] = set()
        self._read = 0

    def look(self, history: History) -> Revoked:
        for position, act in history.acts("link_revoked", first=self._read):
            self._digests.add(act["token_sha256"])
            self._read = position + 1
        return self

    def __contains__(self, token: str) -> bool:
        return digest(token) in self._digests


def say_no(tx: Transaction, clicked: Sequence[Link]) -> list[tuple[int, Event]]:
    """Record clicks, or find them said just now: the position and event of each, in their order."""
    standing: dict[tuple[str, str], tuple[int, Event]] = {}
    first = tx.history.size_at(tx.recorded_at - REPEAT)
    for position, event in tx.history.events_since(first, {link.subject_id for link in clicked}):
        if event.is_yes:
            standing = {said: no for said, no in standing.items() if said[0] != event.subject_id}
        elif event.recorded_by == RECORDED_BY and tx.recorded_at - event.counts_from < REPEAT:
            standing |= {(event.subject_id, split_purpose(purpose)[0]): (position, event) for purpose in event.purposes}
    new = {(link.subject_id, link.purpose): _no(link, tx.recorded_at) for link in clicked}
    new = {said: no for said, no in new.items() if said not in standing}
    for said, stored in zip(new, tx.events(new.values(), RECORDED_BY), strict=True):
        if isinstance(stored, InvalidEvent):
            raise stored
        standing[said] = stored.position, stored.event
    return [standing[link.subject_id, link.purpose] for link in clicked]


def _no(link: Link, moment: datetime) -> Event:
    return Event(state="withdrawn", subject_id=link.subject_id, purposes=(link.purpose,), occurred_at=moment, channel=ONE_CLICK)


def receipt(history: History, link: Link) -> bytes | None:
    """That of the last click by this link or another for the same; None where there was none lately."""
    for position, event in history.newest_of(link.subject_id, _LATEST):
        if _is_click(event, link):
            return receipts.of_event(history, history.at(position))
    return None


def _is_click(event: Event, link: Link) -> bool:
    return event.recorded_by == RECORDED_BY and not event.is_yes and event.names(link.purpose)


@dataclass(frozen=True, kw_only=True)
class Made:
    """rows: links that were made. unseen: those for ids that no act in the ledger has."""

    rows: int
    unseen: int


@dataclass(frozen=True)
class Links:
    """The links of one ledger."""

    folder: Folder
    append: Callable[[Callable[[Transaction], None]], object]
    read: Callable[..., Any]
    recorded_by: str

    def maker(self, purpose: str) -> Callable[[str], str]:
        """What gives each subject's token for a purpose, as things stand now. Raises UsageError for one that is not declared;
        what it returns raises InvalidEvent for what is no id."""

        def work(history: History) -> tuple[list[str], Revoked]:
            return sorted(history.purposes()), Revoked().look(history)

        declared, revoked = self.read(work, as_it_stands=True)
        if purpose not in declared:
            raise UsageError(
                f"purpose {purpose!r:.120} is not declared",
                hint=f"declared: {', '.join(declared) or 'none yet'}; a link is for all versions of one",
            )
        keys, origin = self.folder.link_keys(), self.folder.origin

        def make(subject_id: str) -> str:
            check_id("subject_id", subject_id)
            link = Link(subject_id, purpose)
            while (token := link.token(keys, origin)) in revoked:
                link = replace(link, number=link.number + 1)
            return token

        return make

    def make(self, subject_id: str, *, purpose: str, base: str) -> str:
        """A link's URL. Raises as `maker` and `url` do."""
        url(base, "")
        return url(base, self.maker(purpose)(subject_id))

    def make_all(
        self, people: Path, output: Path, *, purpose: str, base: str, on_progress: Callable[[int], None] | None = None
    ) -> Made:
        """A CSV file with a link, and its headers, for each person of another one. Raises as `maker`, `url` and `mailing.write`
        do; then nothing is written."""
        url(base, "")
        from ledger import mailing  # with pyarrow, which nothing else here needs

        make, unseen, asked = self.maker(purpose), 0, list[str]()

        def count_unseen(history: History) -> int:
            return len(asked) - sum(map(set(history.seen(set(asked))).__contains__, asked))

        def values(subject_id: str) -> list[str]:
            nonlocal unseen
            link = url(base, make(subject_id))
            asked.append(subject_id)
            if len(asked) == _TOGETHER:
                unseen += self.read(count_unseen)
                asked.clear()
            return [link, *headers(link).values()]

        rows = mailing.write(people, output, ["url", *headers("")], values, on_progress)
        return Made(rows=rows, unseen=unseen + self.read(count_unseen))

    def warnings(self, subject_id: str) -> list[str]:
        """What is odd about an id: a click for one that nobody's content has closes nothing."""
        found: list[str] = self.read(person.warnings, subject_id)
        return found

    def renew_key(self) -> None:
        """Make links under a new key from here on. Those that were sent out stay good."""
        self.folder.add_link_key()

    def open(self, token: str) -> Link | None:
        """What a token says, revoked or not; None for what is no token of a link of this ledger."""
        return open_token(token, self.folder.link_keys(make=False), self.folder.origin)

    def revoke(self, link: str) -> bool:
        """From here on a link leads nowhere. link: its URL or its token. False where it was revoked before.

        Raises UsageError for what is no link of this ledger.
        """
        token = link.partition("?")[0].rpartition(PATH)[2]
        if self.open(token) is None:
            raise UsageError("this is no link of this ledger", hint="give its whole URL, or its token, as it was sent out")
        revoked: list[int] = []

        def plan(tx: Transaction) -> None:
            if token not in Revoked().look(tx.history):
                revoked.append(tx.act("link_revoked", self.recorded_by, token_sha256=digest(token)))

        self.append(plan)
        return bool(revoked)
