"""What holds for every request and every answer, whatever stands behind it.

- A body is read whole before anything sees it: up to a limit, within a time. Of a request that broke off nothing is done.
- Answers load nothing from elsewhere, run no script, send no referrer, and are kept in no cache. A route may say otherwise of
  a header by setting it.
- An error that nobody expected is answered by 500 and told by its type alone: messages may hold ids of people.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.responses import PlainTextResponse, Response

from ledger.web import refusals

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 1 << 20
DRAINED_BYTES = 4 << 20
"""So much of a body that is too large is read and dropped: whoever still sends when the connection closes misses the answer."""
MAX_BODY_SECONDS = 10
POLICY = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors {}"
"""Content-Security-Policy; what may frame the page goes in."""
_HEADERS = {
    "content-security-policy": POLICY.format("'none'"),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-robots-tag": "noindex, nofollow",
    "cache-control": "no-store",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class Shield:
    """Around the whole application."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                there = {name.lower() for name, _ in message["headers"]}
                more = [(n.encode(), v.encode()) for n, v in _HEADERS.items() if n.encode() not in there]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        refused, body = await _body(scope, receive)
        if refused is not None:
            await refused(scope, receive, sending)
        if body is None:
            return
        try:
            await self._application(scope, _replaying(body, receive), sending)
        except Exception as error:
            print(f"error: unexpected {type(error).__name__}", file=sys.stderr)  # noqa: T201 - the server's own log
            if not begun:
                failed = _refusal(scope, 500, "something went wrong here; nothing is known of what was asked")
                await failed(scope, receive, sending)


async def _body(scope: MutableMapping[str, Any], receive: Receive) -> tuple[Response | None, bytes | None]:
    """What refuses a request; else its body, or None where it broke off: half of it may say yes, and the rest no."""
    headers = dict(scope["headers"])
    if b"content-length" in headers and b"transfer-encoding" in headers:  # RFC 9112 §6.1: where does the next request begin?
        return _refusal(scope, 400, "a body has one length, or comes in chunks", {"connection": "close"}), None
    length = headers.get(b"content-length", b"0")
    too_large = not length.isdigit() or len(length) > 10 or int(length) > MAX_BODY_BYTES
    parts: list[bytes] = []
    seen = 0
    try:
        async with asyncio.timeout(MAX_BODY_SECONDS):
            more = True
            while more and seen <= DRAINED_BYTES:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None, None
                seen += len(message.get("body", b""))
                too_large |= seen > MAX_BODY_BYTES
                if not too_large:
                    parts.append(message.get("body", b""))
                more = message.get("more_body", False)
    except TimeoutError:
        if not too_large:
            return _refusal(scope, 408, "the body took too long", {"connection": "close"}), None
    if too_large:
        return _refusal(scope, 413, f"a body has at most {MAX_BODY_BYTES} bytes", {"connection": "close"}), None
    return None, b"".join(parts)


def _refusal(scope: MutableMapping[str, Any], status: int, error: str, headers: dict[str, str] | None = None) -> Response:
    if refusals.concerns(scope):
        return refusals.written(status, error, headers=headers)
    return PlainTextResponse(error + "\n", status, headers)


def _replaying(body: bytes, receive: Receive) -> Receive:
    told = False

    async def replay() -> Message:
        nonlocal told
        if not told:
            told = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replay
