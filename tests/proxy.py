"""A server in front of another, which fails requests as it is told to."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


class Request:
    """method, path (with its query), headers, body. number: of the requests since the proxy began, from 0."""

    def __init__(self, method: str, path: str, headers: Any, body: bytes, number: int) -> None:
        self.method, self.path, self.headers, self.body, self.number = method, path, headers, body, number

    @property
    def is_copy(self) -> bool:
        return "x-amz-copy-source" in self.headers


Trouble = Callable[[Request], str | int | bytes | None]
"""None: pass it on. A number: answer with this status. Bytes: answer 200 with them. `reset`, `cut` (the answer's second half),
`spoil` (the word `content` in what is uploaded), `bare` (the answer, without its ETag)."""


_CODES = {403: b"AccessDenied", 404: b"NoSuchKey", 500: b"InternalError", 503: b"SlowDown"}


class Proxy:
    def __init__(self, endpoint: str) -> None:
        self.behind = urlsplit(endpoint).netloc
        self.trouble: Trouble = lambda request: None
        self.requests: list[Request] = []


@contextmanager
def before(endpoint: str) -> Iterator[tuple[Proxy, str]]:
    """The proxy and its own endpoint."""
    proxy = Proxy(endpoint)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            body = self._body()
            with lock:
                request = Request(self.command, self.path, self.headers, body, len(proxy.requests))
                proxy.requests.append(request)
            told = proxy.trouble(request)
            if told == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
            elif isinstance(told, int):
                self._answer(told, [], b"" if self.command == "HEAD" else b"<Error><Code>%s</Code></Error>" % _CODES[told])
            elif isinstance(told, bytes):
                self._answer(200, [], told)
            else:
                if told == "spoil":
                    body = body.replace(b"content", b"c0ntent")
                self._pass_on(body, cut=told == "cut", without=("etag",) if told == "bare" else ())

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _any

        def _body(self) -> bytes:
            if self.headers.get("transfer-encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("content-length") or 0))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def _pass_on(self, body: bytes, *, cut: bool, without: tuple[str, ...]) -> None:
            passed = {n: v for n, v in self.headers.items() if n.lower() not in ("transfer-encoding", "expect")}
            connection = http.client.HTTPConnection(proxy.behind, timeout=30)
            connection.request(self.command, self.path, body=body or None, headers=passed)
            answer = connection.getresponse()
            content = answer.read()
            headers = [(n, v) for n, v in answer.getheaders() if n.lower() not in ("transfer-encoding", "connection", *without)]
            self._answer(answer.status, headers, content, cut=cut)
            connection.close()

        def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, *, cut: bool = False) -> None:
            self.send_response_only(status)
            for name, value in headers:
                self.send_header(name, value)
            if not any(name.lower() == "content-length" for name, _ in headers):
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if cut else content)
            if cut:
                self.close_connection = True

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield proxy, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
