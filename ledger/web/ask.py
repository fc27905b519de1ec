"""The consent page: each purpose by itself, in the words that are kept with the answer, with a No and a Yes that are alike.

- GET and HEAD change nothing. Nothing pressed is nothing recorded: silence is no.
- A no is always recorded, whatever else comes with it, for as long as the ledger knows its link: after the link has run out, from
  another site, from an old page, again and again.
- A yes is recorded only
    - before the link has run out,
    - from a form that this server made for this link, and once,
    - while the purpose and the text are still what the form showed,
    - where the log holds no later no of this person for this purpose (or for all): an old page never outlives one,
    - from the page itself, as far as the browser says where a press came from.
  All but the last is decided by the writer, with the log's lock held. Where it does not hold, the page says so and asks again.
- What stands is shown only until the link runs out: addresses stay in histories.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from ledger import times
from ledger.asks import Ask, Form, digest, new_form, origin_of
from ledger.consent import ALLOWED, NO, Event, Purpose, Row, Scope, decide, split_purpose
from ledger.errors import UsageError, VerificationError
from ledger.store.append import Transaction
from ledger.store.history import History
from ledger.web import pages
from ledger.web.notice import Notice, keep, notice_of
from ledger.web.shield import POLICY
from ledger.web.words import Words, languages

BY = "session:ask"
"""Who hands in what is pressed: a session of the person's own."""
CHANNEL = "web"
_OWN_SITE = (None, "same-origin", "none")
"""Sec-Fetch-Site of a press on the page itself; browsers that do not say it are told apart by the form alone."""
RECORDED, REPEATED, CHANGED, EXPIRED, ELSEWHERE, UNREADABLE = (
    "recorded",
    "repeated",
    "changed",
    "expired",
    "elsewhere",
    "unreadable",
)
_STATUS = {CHANGED: 409, EXPIRED: 410, ELSEWHERE: 403, UNREADABLE: 400}

router = APIRouter()


@dataclass(frozen=True)
class Press:
    """A press of a button. form: of a yes, where this server made it for this link."""

    yes: bool
    purposes: Sequence[str]
    form: Form | None


@dataclass(frozen=True)
class Section:
    """One purpose on the page. standing: a key of the words, of what the person's answer is now."""

    token: str
    notice: Notice
    standing: str | None
    form: str


@router.api_route("/ask/{token}", methods=["GET", "HEAD"], include_in_schema=False)
async def show(token: str, request: Request) -> Response:
    return await run_in_threadpool(_page, request, token, _open(request, token))


@router.post("/ask/{token}", include_in_schema=False)
async def answer(token: str, request: Request) -> Response:
    received = times.now()  # and not once a thread is free: a no from in between would look earlier than this yes
    return await run_in_threadpool(_answer, request, token, _open(request, token), await request.body(), received)


def _answer(request: Request, token: str, ask: Ask, body: bytes, received: datetime) -> Response:
    service = request.app.state.service
    press = read(body, token, ask, service.book.folder.link_keys(make=False), service.book.origin)
    if press is None:
        return _page(request, token, ask, UNREADABLE)
    if press.yes and request.headers.get("sec-fetch-site") not in _OWN_SITE:
        return _page(request, token, ask, ELSEWHERE, press.purposes)
    outcome = service.writer.submit(lambda tx: record(tx, ask, press, received)).result()
    if outcome in _STATUS or received >= ask.expires_at:
        # After the end of the link the page shows no answer, so that this is where a no is confirmed.
        return _page(request, token, ask, outcome, press.purposes)
    query = f"?lang={pages.words_for(request).language}" if "lang" in request.query_params else ""
    return RedirectResponse(f"/ask/{token}{query}", 303)  # to where on the page, the form's own address says


def read(body: bytes, token: str, ask: Ask, keys: Sequence[bytes], origin: str) -> Press | None:
    """What a body says; None: nothing. Of a yes and a no at once it is the no."""
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=20)
    except ValueError:
        return None
    answers, named = ({value for name, value in fields if name == field} for field in ("answer", "purpose"))
    purposes = [purpose for purpose in ask.purposes if purpose in named]
    if not purposes or not answers & {"yes", "no"}:
        return None
    if "no" in answers:
        return Press(False, purposes, None)
    form = _form([value for name, value in fields if name == "form"], token, keys, origin)
    if answers != {"yes"} or form is None or named != {split_purpose(form.purpose)[0]}:
        form = None
    return Press(True, purposes, form)


def _form(given: Sequence[str], token: str, keys: Sequence[bytes], origin: str) -> Form | None:
    try:
        form = Form.open(given[0], keys, origin=origin) if len(given) == 1 else None
    except VerificationError:
        return None
    return form if form is not None and form.link == digest(token) else None


def record(tx: Transaction, ask: Ask, press: Press, received: datetime) -> str:
    """What became of a press; by the rules above. received: when it came in, by the machine's clock."""
    events = tx.history.events_of(ask.subject_id)
    if not press.yes:
        for token in press.purposes:
            tx.event(_no(ask.subject_id, token, "withdrawn" if _said_yes(events, token) else "refused", tx.recorded_at), BY)
        return RECORDED
    form = press.form
    if received >= ask.expires_at:
        return EXPIRED
    if form is None or form.language not in languages():
        return CHANGED
    if tx.history.event(form.event_id) is not None:
        return REPEATED
    token, _ = split_purpose(form.purpose)
    purpose = tx.declared[token][-1][1]
    notice = notice_of(purpose, languages()[form.language])
    if (notice.purpose, notice.sha256) != (form.purpose, form.shown):
        return CHANGED
    if any(position >= form.seen and not event.is_yes and event.names(token) for position, event in events):
        return CHANGED
    # What was said since the page was made, and a no among it, may be gone.
    erased = tx.ended.last(ask.subject_id)
    if erased is not None and (erased[0] >= form.seen or received <= erased[1]):
        return CHANGED
    tx.event(
        Event(
            state="given",
            subject_id=ask.subject_id,
            purposes=[form.purpose],
            occurred_at=received,
            channel=CHANNEL,
            actor="subject",
            notice=keep(tx, notice, BY),
            notice_sha256=notice.sha256,
            event_id=form.event_id,
        ),
        BY,
    )
    return RECORDED


def _no(subject_id: str, token: str, state: str, recorded_at: datetime) -> Event:
    # Dated by the log's clock: by the machine's, a yes that came before could look later.
    return Event(state=state, subject_id=subject_id, purposes=[token], occurred_at=recorded_at, channel=CHANNEL)


def _said_yes(events: Sequence[tuple[int, Event]], token: str) -> bool:
    """Whether there is a yes that no later no, to everything, took back."""
    spoken = [event for _, event in events if event.names(token) and (event.is_yes or event.scope is Scope.EVERYTHING)]
    return bool(spoken) and spoken[-1].is_yes


def standing(purpose: Purpose, subject_id: str, events: Sequence[Event], now: datetime) -> str:
    """What a person's answer to a purpose is, for content that none of their acts names by itself: a key of the words."""
    about = [event for event in events if event.scope is not Scope.CONTENT and event.names(purpose.token)]
    kinds: set[str | None] = {*purpose.categories} or {None, *(event.category for event in about)}
    reasons = {
        decide(
            Row([subject_id], kind, None, now),
            [event for event in about if kind is not None or event.scope is Scope.EVERYTHING],
            purpose,
            now,
        )
        for kind in kinds
    }
    if reasons == {ALLOWED}:
        return "stands_yes"
    if ALLOWED in reasons:
        return "stands_partly"
    if reasons & set(NO):
        return "stands_no"
    return "stands_none" if reasons == {"no_record"} else "stands_lapsed"


def _open(request: Request, token: str) -> Ask:
    """Raises the HTTPException of an unknown path, or 429 from an address that brought too many such."""
    service = request.app.state.service
    try:
        return Ask.open(token, service.book.folder.link_keys(make=False), service.book.origin)
    except VerificationError:
        raise service.failed.leads_nowhere(request) from None


def _page(request: Request, token: str, ask: Ask, outcome: str | None = None, about: Sequence[str] = ()) -> Response:
    """about: the purposes that the outcome is of."""
    service, words = request.app.state.service, pages.words_for(request)
    live = times.now() < ask.expires_at
    sections = service.book.read(
        _sections, service.book.origin, service.book.folder.link_keys(make=False), token, ask, words, live, as_it_stands=True
    )
    status = _STATUS.get(outcome or "", 200 if live or outcome else 410)
    policy = POLICY.format(" ".join(service.embed_in) or "'none'")
    values: dict[str, Any] = {
        "sections": sections,
        "live": live,
        "outcome": outcome,
        "about": about,
        "back": ask.return_url if _may_go_back(ask, service.embed_in) else None,
    }
    return pages.page("ask.html", words, status, {"content-security-policy": policy}, **values)


def _sections(
    history: History, origin: str, keys: Sequence[bytes], token: str, ask: Ask, words: Words, live: bool
) -> list[Section]:
    """In one transaction: what is shown of the log, and how long the log was."""
    seen, declared = history.head()[1].size, history.purposes()
    if any(name not in declared for name in ask.purposes):
        raise HTTPException(404)
    events = [event for _, event in history.events_of(ask.subject_id)]
    now = history.now()
    sections = []
    for name in ask.purposes:
        purpose = declared[name][-1][1]
        notice = notice_of(purpose, words)
        form = new_form(token, purpose=notice.purpose, language=notice.language, shown=notice.sha256, seen=seen)
        stands = standing(purpose, ask.subject_id, events, now) if live else None
        sections.append(Section(name, notice, stands, form.seal(keys, origin)))
    return sections


def _may_go_back(ask: Ask, embed_in: Sequence[str]) -> bool:
    try:
        return ask.return_url is not None and origin_of(ask.return_url) in embed_in
    except UsageError:
        return False
