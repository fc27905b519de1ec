"""`consent serve`: the ledger over HTTP."""

from __future__ import annotations

import gc
from pathlib import Path

import click
from ledger.cli.options import asking

import ledger
from ledger.asks import site_of
from ledger.errors import ConsentLedgerError


@click.command(epilog="Example: consent serve --port 8080")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0: any that is free.")
@click.option("--behind", metavar="ADDRESS", help="The server in front, or its network: its X-Forwarded-For says who asks.")
@click.option("--embed-in", multiple=True, metavar="ORIGIN", help="A site that may frame the consent page. Default: none may.")
@click.pass_obj
def command(ledger_path: Path | None, host: str, port: int, behind: str | None, embed_in: tuple[str, ...]) -> None:
    """Serve the pages where people say no, or yes, and the API, until it is interrupted.

    It speaks plain HTTP: for others than yourself, put a server in front of it that speaks HTTPS.
    """
    try:
        from ledger.web import server
    except ModuleNotFoundError as error:
        raise ConsentLedgerError(
            f"serving needs the package {error.name}", hint="install it with pip install 'consent-ledger[web]'"
        ) from error
    gc.set_threshold(50_000, 20, 50)  # other commands end before what they leave lying matters
    with ledger.open(ledger_path, passphrase=asking()) as book:
        server.serve(
            book,
            host=host,
            port=port,
            behind=behind,
            on_start=lambda url: click.echo(f"serving at {url} (end it with Ctrl-C)", err=True),
            embed_in=[site_of(origin) for origin in embed_in],
        )
