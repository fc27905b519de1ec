"""HTTP from servers that are not trusted: what they send is bounded in bytes, seconds and redirects.

- http and https alone. A redirect is followed within the same origin only, so that no key goes to another host.
- A server that sends its headers or its body drop by drop is cut off when the time is up.
- Of https the certificate must be good: by the system's authorities, or by those in the file that SSL_CERT_FILE names.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import IO, Any
from urllib.parse import urlsplit, urlunsplit

from ledger.errors import ConsentLedgerError, IntegrityError, UsageError

_MAX_REDIRECTS = 5
_GZIP = 31
"""zlib's wbits of RFC 1952."""


@dataclass(frozen=True)
class Answer:
    """kind: its content type, as the server calls it. url: where it came from in the end."""

    status: int
    kind: str
    body: bytes
    url: str


def checked(url: str, what: str, example: str) -> str:
    """The URL without a fragment. Raises UsageError for one that is none, or that would show a password."""
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and parts.hostname and url.isascii() and url.isprintable() and " " not in url
        _origin(url)
    except ValueError:
        fine = False
    if not fine:
        raise UsageError(f"this is no URL of {what}", hint=f"as in {example}")
    if "@" in parts.netloc:
        raise UsageError("a URL shows whatever password is in it", hint="name the server alone")
    return urlunsplit(parts._replace(fragment=""))


def ask(
    url: str,
    *,
    limit: int,
    ends: float,
    stalled: float,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Answer:
    """What the server answers, whatever its status is.

    body: is sent by POST. limit: of the answer, in bytes, unpacked. ends: by time.monotonic(). stalled: for how many seconds
    the server may send nothing. Raises ConsentLedgerError where it cannot be reached, takes too long or leads elsewhere,
    IntegrityError where it sends more than the limit.
    """
    request = urllib.request.Request(  # noqa: S310 - the scheme was checked
        url, data=body, headers={"Accept": "*/*", "User-Agent": "consent-ledger", **(headers or {})}
    )
    opener = urllib.request.OpenerDirector()
    cut = _Cut(ends)
    for handler in (
        urllib.request.ProxyHandler(),
        _Http(cut),
        _Https(cut),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        _WithinOrigin(),
    ):
        opener.add_handler(handler)
    try:
        with cut:
            try:
                answer = opener.open(request, timeout=max(0.01, min(stalled, ends - time.monotonic())))
            except urllib.error.HTTPError as error:
                answer = error
            with answer:
                kind = str(answer.headers.get("Content-Type", ""))
                return Answer(answer.status or 0, kind, _body(answer, limit, ends), answer.geturl())
    except (OSError, http.client.HTTPException, ValueError, AttributeError, zlib.error) as error:
        if time.monotonic() >= ends:
            raise _too_slow() from error
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise ConsentLedgerError(
                f"the server's certificate does not count here: {reason.verify_message:.200}",
                hint="look at the URL; where its certificates come from an authority of your own, name that one's certificate "
                "(PEM) in the environment variable SSL_CERT_FILE",
            ) from error
        raise ConsentLedgerError(
            f"the server could not be reached: {reason!s:.200}", hint="look at the URL and the network"
        ) from error


class _Cut:
    """Closes the connection at a moment, whatever is being read from it: a socket's own limit begins anew with each byte."""

    def __init__(self, ends: float) -> None:
        self._ends = ends
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(max(0.0, ends - time.monotonic()), self._now)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def watch(self, connected: socket.socket) -> None:
        self._sockets.append(connected)
        if time.monotonic() >= self._ends:
            self._now()

    def _now(self) -> None:
        for connected in self._sockets:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connected, socket.SHUT_RDWR)


class _Watched:
    """Of a connection: its socket is cut off in time."""

    sock: socket.socket

    def __init__(self, *arguments: Any, cut: _Cut, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._cut = cut

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        self._cut.watch(self.sock)


class _HttpConnection(_Watched, http.client.HTTPConnection):
    pass


class _HttpsConnection(_Watched, http.client.HTTPSConnection):
    pass


class _Http(urllib.request.HTTPHandler):
    def __init__(self, cut: _Cut) -> None:
        super().__init__()
        self._cut = cut

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_HttpConnection, cut=self._cut), req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, cut: _Cut) -> None:
        super().__init__()
        self._cut = cut

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_HttpsConnection, cut=self._cut), req)


class _WithinOrigin(urllib.request.HTTPRedirectHandler):
    max_redirections = _MAX_REDIRECTS

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        if _origin(newurl) != _origin(req.full_url) or "@" in urlsplit(newurl).netloc:
            raise ConsentLedgerError(
                "the server leads to another host, which is not followed",
                hint="name that URL itself, if you trust it",
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _body(answer: Any, limit: int, ends: float) -> bytes:
    parts: list[bytes] = []
    length = 0
    for part in _unpacked(answer):
        parts.append(part)
        length += len(part)
        if length > limit:
            raise IntegrityError(f"the server sends more than {limit:,} bytes, which no such file has")
        if time.monotonic() >= ends:
            raise _too_slow()
    if time.monotonic() >= ends:  # it may be an end that was made here
        raise _too_slow()
    return b"".join(parts)


def _too_slow() -> ConsentLedgerError:
    return ConsentLedgerError("the server took more than the time that it is given", hint="look at the network; try again later")


def _unpacked(answer: Any) -> Iterator[bytes]:
    """Some servers keep files compressed, and send them so whether that was asked for or not."""
    packed = answer.headers.get("Content-Encoding", "identity").lower() == "gzip"
    unpacking = zlib.decompressobj(_GZIP)
    left = answer.length  # None where the server does not say it
    while part := answer.read1(1 << 20):  # what is there: a whole MiB, byte by byte, would outlast every limit
        left = left and left - len(part)
        if not packed:
            yield part
            continue
        while True:
            some = unpacking.decompress(part, 1 << 20)
            yield some
            part = unpacking.unconsumed_tail
            if not part and len(some) < 1 << 20:
                break
    # http.client takes an end that comes too early for the end, where it is read piece by piece.
    if left or (packed and not unpacking.eof):
        raise http.client.IncompleteRead(b"")
