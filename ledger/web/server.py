"""A socket, and uvicorn on it. It logs nothing: paths and addresses are personal data."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Callable, Sequence

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ledger.book import Ledger
from ledger.errors import ConsentLedgerError, UsageError
from ledger.web.app import create_app

HEAD_SECONDS = 10
"""What the head of a request may take, from when it is waited for."""


def serve(
    book: Ledger,
    *,
    host: str,
    port: int,
    behind: str | None = None,
    embed_in: Sequence[str] = (),
    on_start: Callable[[str], None],
) -> None:
    """Until SIGINT or SIGTERM; what was begun is finished. on_start: is told the URL once connections are taken.

    behind: address or network of the server in front of this one, whose X-Forwarded-For says who asks: its last entry that is
    not itself of that network. embed_in: origins of sites that may frame the consent page. Raises UsageError for a `behind` that
    is neither, ConsentLedgerError where the address cannot be listened on, and KeyboardInterrupt at the end of SIGINT.
    """
    book.folder.log_key()  # without it, or its passphrase, no act can be recorded: better known now than at the first
    book.folder.tag_key()
    if behind is not None:
        try:
            ipaddress.ip_network(behind)
        except ValueError as error:
            raise UsageError(f"{behind!r:.80} is no address: {error}", hint="as in --behind 127.0.0.1 or 10.0.0.0/8") from error
    logging.getLogger("python_multipart.multipart").disabled = True  # it would repeat what was sent
    config = uvicorn.Config(
        create_app(book, embed_in=embed_in),
        http=_Connection,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=behind is not None,
        forwarded_allow_ips=behind,
        lifespan="on",
        timeout_keep_alive=10,
        timeout_graceful_shutdown=30,
        limit_concurrency=2000,
        h11_max_incomplete_event_size=16 << 10,
    )
    with _listening(host, port) as listening:
        address, number = listening.getsockname()[:2]
        _Server(config, lambda: on_start(f"http://{f'[{address}]' if ':' in address else address}:{number}")).run([listening])


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise ConsentLedgerError(
            f"cannot listen on {host} port {port}: {error.strerror or error}",
            hint="another program may have this port: choose another with --port",
        ) from error
    # What is accepted inherits it. asyncio does not set it on sockets made this way, and an answer of two segments then waits
    # some 40 ms for an acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


class _Connection(H11Protocol):
    """Closed where the head of a request takes too long: else a few thousand that send nothing keep everybody out."""

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def on_response_complete(self) -> None:
        self._wait()  # first: what was sent ahead is begun below
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._cancel()
        self._waiting = self.loop.call_later(HEAD_SECONDS, self._too_late)

    def _cancel(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()

    def _too_late(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


class _Server(uvicorn.Server):
    """Says when it has started."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            self._on_start()
