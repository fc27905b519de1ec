"""`consent ask`: a link to the page where one person answers."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import click
from ledger.cli.options import Span, Text, asking

import ledger
from ledger import asks


@click.command(epilog="Example: consent ask u1 --purpose train-ai --url https://consent.example.org")
@click.argument("subject", type=Text())
@click.option("--purpose", "purposes", multiple=True, required=True, metavar="TOKEN", help="Asked by itself; may be repeated.")
@click.option("--valid", type=Span(), default="15m", show_default=True, help="How long a yes can be said; 24h at most.")
@click.option(
    "--url", default="http://127.0.0.1:8080", show_default=True, metavar="BASE", help="Where `consent serve` is reached."
)
@click.option("--return-url", metavar="URL", help="The way back, shown where its site is one of --embed-in of `consent serve`.")
@click.pass_obj
def command(
    ledger_path: Path | None, subject: str, purposes: tuple[str, ...], valid: timedelta, url: str, return_url: str | None
) -> None:
    """Print the address of the page that asks a person who is there and known to you.

    Whoever opens it answers as that person: hand it to nobody else.
    """
    with ledger.open(ledger_path, passphrase=asking()) as book:
        click.echo(asks.mint(book, subject, purposes, url=url, valid=valid, return_url=return_url))
