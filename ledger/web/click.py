"""The page behind a link: what the purpose is, and the one button that says no (RFC 8058).

- GET and HEAD change nothing, however often a scanner of mails fetches them, and tell nothing of what the person has said.
- A POST of `List-Unsubscribe=One-Click`, urlencoded or multipart, says no: without cookies, login, reason or redirect, from
  wherever it comes. It is answered by 200 only once it is in the log. The button sends the same.
- Said again, it is answered the same; see `links` for when it is recorded anew.
- What is no token, a token of another ledger and a revoked one are one and the same 404, after the same work: one decryption, one
  look at what was revoked. From an address that had too many of them they are a 429; good ones are answered all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from ledger import links
from ledger.book import Ledger
from ledger.consent import Event, Purpose
from ledger.links import Link
from ledger.store.append import Transaction
from ledger.store.history import History
from ledger.web import pages
from ledger.web.limits import FailedTokens
from ledger.web.writer import Writer

MAX_FORM_BYTES = 8 << 10
"""RFC 8058's has some 26, or 200 as multipart."""
Declared = Mapping[str, Sequence[tuple[datetime, Purpose]]]
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


def routes(book: Ledger, writer: Writer, failed: FailedTokens) -> APIRouter:
    clicks = _Clicks(book, writer, failed)
    router = APIRouter()
    router.add_route(links.PATH + "{token}", clicks.page, methods=["GET", "POST"], include_in_schema=False)
    router.add_route(links.PATH + "{token}/receipt", clicks.receipt, methods=["GET"], include_in_schema=False)
    return router


@dataclass(frozen=True)
class _Asked:
    """link: what the token says. refusal: where it is known to lead nowhere, and was counted as that."""

    token: str
    link: Link | None
    refusal: HTTPException | None


class _Clicks:
    def __init__(self, book: Ledger, writer: Writer, failed: FailedTokens) -> None:
        self._book, self._links, self._writer = book, book.links, writer
        self._revoked = links.Revoked()
        self._failed = failed

    async def page(self, request: Request) -> Response:
        if request.method == "POST" and await _says_no(request):
            return await self._say_no(request)
        return await self._show(request, 400 if request.method == "POST" else 200)

    async def receipt(self, request: Request) -> Response:
        asked = self._open(request)

        def work(history: History) -> tuple[bool, bytes | None]:
            good = self._purpose(asked, history, history.purposes()) is not None
            return good, links.receipt(history, asked.link) if good and asked.link is not None else None

        good, found = await run_in_threadpool(self._book.read, work)
        if not good:
            raise self._nowhere(request, asked)
        if found is None:
            raise HTTPException(404)
        names = {"content-disposition": 'attachment; filename="consent-receipt.json"'}
        return Response(found, media_type="application/json", headers=names)

    async def _show(self, request: Request, status: int) -> Response:
        asked = self._open(request)

        def work(history: History) -> Purpose | None:
            return self._purpose(asked, history, history.purposes())

        purpose = await run_in_threadpool(self._book.read, work, as_it_stands=True)
        if purpose is None:
            raise self._nowhere(request, asked)
        return pages.page("click.html", pages.words_for(request), status, purpose=purpose, refused=status != 200)

    async def _say_no(self, request: Request) -> Response:
        asked = self._open(request)
        said = await asyncio.wrap_future(self._writer.submit_to(self._record, asked))
        if said is None:
            raise self._nowhere(request, asked)
        purpose, position, event = said
        return pages.page(
            "clicked.html", pages.words_for(request), purpose=purpose, position=position, event=event, token=asked.token
        )

    def _record(self, tx: Transaction, some: Sequence[_Asked]) -> Sequence[tuple[Purpose, int, Event] | None]:
        """None: it leads nowhere."""
        purposes = [self._purpose(asked, tx.history, tx.declared) for asked in some]
        good = [
            asked.link for asked, purpose in zip(some, purposes, strict=True) if purpose is not None and asked.link is not None
        ]
        said = iter(links.say_no(tx, good))
        return [None if purpose is None else (purpose, *next(said)) for purpose in purposes]

    def _open(self, request: Request) -> _Asked:
        """Raises HTTPException for what is known to lead nowhere, from an address that brought too much of it."""
        token = str(request.path_params["token"])
        link = self._links.open(token)
        refusal = self._failed.leads_nowhere(request) if link is None or token in self._revoked else None
        if refusal is not None and refusal.status_code != 404:
            raise refusal
        return _Asked(token, link, refusal)

    def _purpose(self, asked: _Asked, history: History, declared: Declared) -> Purpose | None:
        """The purpose, as it now is, of a link that leads somewhere."""
        revoked, link = asked.token in self._revoked.look(history), asked.link
        return None if revoked or link is None or link.purpose not in declared else declared[link.purpose][-1][1]

    def _nowhere(self, request: Request, asked: _Asked) -> HTTPException:
        return asked.refusal or self._failed.leads_nowhere(request)


async def _says_no(request: Request) -> bool:
    """Whether the body is what RFC 8058 §3.2 asks for."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _FORMS or len(await request.body()) > MAX_FORM_BYTES:
        return False
    try:
        form = await request.form(max_files=0, max_fields=10, max_part_size=MAX_FORM_BYTES)
    except (HTTPException, LookupError, ValueError):  # the last two for a charset that is none
        return False
    name, value = links.ONE_CLICK_BODY
    return value in [text.strip() for text in form.getlist(name) if isinstance(text, str)]
