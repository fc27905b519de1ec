"""The HTTP API for other programs: record acts, ask what holds, share snapshots and log statements over them.

Each route says which scope its key needs; no scope implies another. What is asked is taken strictly (`ledger.web.asked`), and
answered in the documents of `schemas/`.
"""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.convertors import Convertor, register_url_convertor
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response

from ledger import asks, links, person, snapshots, times
from ledger.api_keys import ADMIN, READ, RECORD, ApiKey
from ledger.errors import EventConflict, LedgerBusy, UsageError, VerificationError
from ledger.snapshot import receipt_path
from ledger.snapshots import Kept
from ledger.store.append import Stored, Transaction, told_that_it_was_recorded
from ledger.store.documents import event_document
from ledger.web import asked, decisions, openapi, refusals
from ledger.web.access import needs
from ledger.web.openapi import documented, parameter
from ledger.web.refusals import Refused

Recorder = Annotated[ApiKey, Depends(needs(RECORD))]
Reader = Annotated[ApiKey, Depends(needs(READ))]
Admin = Annotated[ApiKey, Depends(needs(ADMIN))]

PARQUET = "application/vnd.apache.parquet"
MAX_PAGE = 1000
_SHA256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_ID = {"type": "string", "minLength": 1, "maxLength": 512, "pattern": "^[^\\u0000]+$"}
_COUNT = {"type": "integer", "minimum": 0, "maximum": 9007199254740991}


class _Anything(Convertor[str]):
    """`path` takes no line end, and an id may have one."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("anything", _Anything())
router = APIRouter()


def add(app: FastAPI) -> None:
    """The routes, and what describes them."""
    app.include_router(router)
    app.state.api_routes = router.routes
    app.openapi = cache(lambda: openapi.document(router.routes))  # type: ignore[method-assign]
    app.add_exception_handler(Refused, refusals.answer)


@router.post(
    "/v1/events",
    summary="Record one act of one person",
    **documented(RECORD, asks="event-request", gives={201: "record", 200: "record"}, fails=(409,)),
)
async def record(request: Request, key: Recorder) -> Response:
    """Answered once it is durable and signed. 200: it was recorded before, under its event_id. A no without a moment that comes
    again after a yes is recorded anew, under another. `warnings` and `decisions` are for keys that have the scope `read` too, and
    empty for others."""
    service = request.app.state.service
    event = asked.event(await asked.body(request))
    reads = READ in key.scopes

    def act(tx: Transaction) -> tuple[list[str], Stored]:
        warnings = person.warnings(tx.history, event.subject_id) if reads else []
        stored = tx.event(event, key.recorded_by)
        if stored.repeated and not event.is_yes and event.occurred_at is None and tx.answered([stored.event.event_id or ""]):
            # Said again after a yes, it is a new no, whatever id its caller thinks it has: as a repeat it would be lost.
            stored = tx.event(event.filled_in(event_id=None), key.recorded_by)
        return warnings, stored

    try:
        warnings, stored = await asyncio.wrap_future(service.writer.submit(act))
    except EventConflict as error:
        if reads:
            raise
        # In which field they differ would tell, guess by guess, what the other act is.
        raise Refused(409, "another act is recorded under this event_id", error.hint) from error
    now: list[dict[str, Any]] = []
    if reads:
        with told_that_it_was_recorded():
            now = (await run_in_threadpool(service.book.show, event.subject_id))["decisions"]
    document = {
        "event": event_document(stored.event),
        "position": stored.position,
        "repeated": stored.repeated,
        "warnings": warnings,
        "decisions": now,
    }
    return JSONResponse(document, 200 if stored.repeated else 201)


@router.get(
    "/v1/events",
    summary="A page of the log's events",
    **documented(
        READ,
        gives={200: "events"},
        parameters=[
            parameter("after", "query", {**_COUNT, "default": 0}, "Leave out the log's first so many entries: `next` of a page."),
            parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": MAX_PAGE}, "Events."),
        ],
    ),
)
def events(request: Request, key: Reader) -> Response:
    """Pages that follow one another hold each event exactly once."""
    after, limit = asked.numbers(request, after=(0, 0, 2**53 - 1), limit=(MAX_PAGE, 1, MAX_PAGE))
    return JSONResponse(request.app.state.service.book.page(after, limit=limit).document())


@router.get(
    "/v1/subjects/{subject_id:anything}",
    summary="A person's acts, and what holds now",
    **documented(
        READ,
        gives={200: "show"},
        parameters=[parameter("subject_id", "path", _ID, "The id, each byte but letters and digits percent-encoded, `/` too.")],
    ),
)
def subject(request: Request, key: Reader) -> Response:
    """Nobody is unknown: of someone who never said anything there are no events, and every decision is no."""
    asked.numbers(request)
    return JSONResponse(request.app.state.service.book.show(asked.id_after(request, b"/v1/subjects/")))


@router.post(
    "/v1/decisions",
    summary="Whether rows are allowed now",
    **documented(READ, asks="decisions-request", gives={200: "decisions"}),
)
async def decide(request: Request, key: Reader) -> Response:
    """By the rule itself, at one moment. For many rows take a snapshot."""
    purpose, rows = decisions.rows(await asked.body(request))
    book = request.app.state.service.book
    return JSONResponse(await run_in_threadpool(book.read, decisions.decided, purpose, rows, as_it_stands=True))


@router.post(
    "/v1/snapshots",
    summary="Freeze the answers for a purpose, as they are now",
    **documented(ADMIN, asks="snapshot-request", gives={201: "published-snapshot"}),
)
async def freeze(request: Request, key: Admin) -> Response:
    """Logged, and handed out from then on. One at a time."""
    (purpose,) = asked.only(await asked.body(request), "purpose")
    return JSONResponse(await run_in_threadpool(_freeze, request, purpose, key), 201)


def _freeze(request: Request, purpose: str, key: ApiKey) -> dict[str, Any]:
    service = request.app.state.service
    if not service.freezing.acquire(blocking=False):
        raise LedgerBusy("another snapshot is being compiled", hint="try again once it is done")
    try:
        made = service.book.acting_for(key.recorded_by).snapshot(purpose)
        return _told(snapshots.told(made.path, service.book.trust))
    finally:
        service.freezing.release()


@router.get("/v1/snapshots", summary="The snapshots that are handed out", **documented(READ, gives={200: "snapshots"}))
def listed(request: Request, key: Reader) -> Response:
    """The newest first."""
    asked.numbers(request)
    return JSONResponse({"snapshots": [_told(one) for one in _kept(request)]})


@router.get(
    "/v1/snapshots/{snapshot_sha256}.parquet",
    summary="A snapshot's file",
    **documented(
        READ,
        gives={200: PARQUET},
        fails=(404,),
        parameters=[parameter("snapshot_sha256", "path", _SHA256, "As it is listed.")],
    ),
)
def file(request: Request, key: Reader) -> Response:
    """It counts only with its receipt, and only for who trusts the ledger's key."""
    return FileResponse(_one(request).path, media_type=PARQUET)


@router.get(
    "/v1/snapshots/{snapshot_sha256}.parquet.receipt",
    summary="A snapshot's receipt",
    **documented(
        READ,
        gives={200: "act-receipt"},
        fails=(404,),
        parameters=[parameter("snapshot_sha256", "path", _SHA256, "As it is listed.")],
    ),
)
def receipt(request: Request, key: Reader) -> Response:
    """That the log has the snapshot, signed."""
    return FileResponse(receipt_path(_one(request).path), media_type="application/json")


@router.get(
    "/v1/snapshots/{purpose}",
    summary="The newest snapshot for a purpose",
    **documented(
        READ,
        gives={307: None},
        fails=(404,),
        parameters=[parameter("purpose", "path", {"type": "string", "minLength": 1}, "TOKEN or TOKEN@VERSION.")],
    ),
)
def newest(request: Request, key: Reader) -> Response:
    """Leads to its file; a token means its current version. This is the URL that a team shares: `consent fetch`."""
    asked.numbers(request)
    purpose = request.path_params["purpose"]
    current = {declared.token: declared.reference for declared in request.app.state.service.book.purposes()}  # the latest wins
    reference = current.get(purpose, purpose)
    found = next((one for one in _kept(request) if one.purpose == reference), None)
    if found is None:
        raise Refused(
            404, "there is no snapshot for this purpose", "one is made by POST /v1/snapshots; GET /v1/snapshots lists them"
        )
    return RedirectResponse(f"{found.snapshot_sha256}.parquet", 307)


@router.post(
    "/v1/statements",
    summary="Log a statement that a run key signed elsewhere",
    **documented(RECORD, asks="envelope", gives={200: "act-receipt"}),
)
async def log_statement(request: Request, key: Recorder) -> Response:
    """The body is the first line of a statement's file, the answer its second. One that is logged already is not logged again."""
    envelope, _, rest = (await asked.raw(request)).partition(b"\n")
    if rest:
        raise UsageError("the body has more than one line", hint="send the statement's first line: the second one is the answer")
    book = request.app.state.service.book.acting_for(key.recorded_by)
    try:
        return Response(await run_in_threadpool(book.admit, envelope), media_type="application/json")
    except VerificationError as error:
        raise Refused(422, str(error), error.hint) from error


@router.post(
    "/v1/links",
    summary="Make a link by which a person says no with one click",
    **documented(RECORD, asks="link-request", gives={201: "link"}),
)
async def link(request: Request, key: Recorder) -> Response:
    """The same link again for the same person and purpose. It does not run out; put it into every message."""
    subject_id, purpose = asked.only(await asked.body(request), "subject_id", "purpose")
    make = await run_in_threadpool(request.app.state.service.book.links.maker, purpose)
    token = make(subject_id)
    return JSONResponse({"url": links.PATH + token}, 201)


@router.post(
    "/v1/asks",
    summary="Make a link to the page where a person answers",
    **documented(RECORD, asks="ask-request", gives={201: "ask"}),
)
async def ask(request: Request, key: Recorder) -> Response:
    """For a person whom you have logged in, now: whoever opens it answers as they."""
    fields = await asked.body(request)
    asked.known("the body", fields, ("subject_id", "purposes", "return_url"))
    subject_id, purposes = asked.text("subject_id", fields.get("subject_id")), asked.texts("purposes", fields.get("purposes"))
    back = asked.text("return_url", fields["return_url"]) if "return_url" in fields else None
    expires_at = times.now() + asks.VALID
    url = await run_in_threadpool(asks.mint, request.app.state.service.book, subject_id, purposes, url="", return_url=back)
    return JSONResponse({"url": url, "expires_at": times.text(expires_at)}, 201)


def _kept(request: Request) -> list[Kept]:
    """None of before an erasure: their files are there until it is finished, and it may have been killed."""
    book = request.app.state.service.book
    erased = book.read(lambda history: history.last_erasure())
    return [one for one in snapshots.kept(book.snapshots, book.trust) if one.position > erased]


def _one(request: Request) -> Kept:
    """By comparing with those that there are: nothing that was asked becomes a path."""
    asked.numbers(request)
    asked_for = request.path_params["snapshot_sha256"]
    found = next((one for one in _kept(request) if one.snapshot_sha256 == asked_for), None)
    if found is None:
        raise Refused(404, "there is no such snapshot", "GET /v1/snapshots lists them")
    return found


def _told(one: Kept) -> dict[str, Any]:
    url = f"/v1/snapshots/{one.snapshot_sha256}.parquet"
    return {
        "purpose": one.purpose,
        "snapshot_sha256": one.snapshot_sha256,
        "file_sha256": one.file_sha256,
        "tree_size": one.tree_size,
        "as_of": times.text(one.as_of),
        "url": url,
        "receipt_url": f"{url}.receipt",
    }
