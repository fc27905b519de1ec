"""The application that `consent serve` runs: routes, each in a module of its own, behind one shield."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from ledger.book import Ledger
from ledger.errors import ConsentLedgerError
from ledger.web import api, ask, click, pages, refusals
from ledger.web.limits import FailedTokens
from ledger.web.shield import Application, Shield
from ledger.web.writer import Writer


@dataclass(frozen=True, kw_only=True)
class Service:
    """What the routes share. embed_in: origins of sites that may frame the consent page."""

    book: Ledger
    writer: Writer
    embed_in: Sequence[str] = ()
    failed: FailedTokens = field(default_factory=FailedTokens)
    freezing: threading.Lock = field(default_factory=threading.Lock)
    """Held while a snapshot is compiled for the API: one at a time."""


def create_app(book: Ledger, *, embed_in: Sequence[str] = ()) -> Application:
    """An ASGI application over a ledger. It records until its shutdown, and leaves the ledger open."""
    writer = Writer(book.append)
    service = Service(book=book, writer=writer, embed_in=tuple(embed_in))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        writer.close()

    app = FastAPI(
        title="consent-ledger",
        lifespan=lifespan,
        openapi_url="/v1/openapi.json",
        docs_url=None,  # those pages come from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    app.include_router(click.routes(book, writer, service.failed))
    app.include_router(ask.router)
    api.add(app)

    @app.get("/style.css", include_in_schema=False)
    async def style() -> Response:
        return Response(pages.style(), media_type="text/css", headers={"cache-control": "max-age=3600"})

    @app.get("/icon.svg", include_in_schema=False)
    async def icon() -> Response:
        return Response(pages.icon(), media_type="image/svg+xml", headers={"cache-control": "max-age=3600"})

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if refusals.concerns(request.scope):
            return refusals.answer(request, error)
        words = pages.words_for(request)
        what = "not_found" if error.status_code == 404 else "failed"
        return pages.page(
            "message.html",
            words,
            error.status_code,
            dict(error.headers or {}),
            title=words["common"][what],
            text=words["common"][what + "_text"],
        )

    @app.exception_handler(ConsentLedgerError)
    async def ledger_error(request: Request, error: Exception) -> Response:
        if refusals.concerns(request.scope):
            return refusals.answer(request, error)
        words = pages.words_for(request)
        title, text = words["common"]["failed"], words["common"]["failed_text"]
        return pages.page("message.html", words, 503, {"retry-after": "5"}, title=title, text=text)

    return Shield(app)
