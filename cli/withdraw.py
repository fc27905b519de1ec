"""`consent withdraw`: a no, taken at once and without a reason."""

from __future__ import annotations

from pathlib import Path

import click
from ledger.cli.options import Text, asking, output_format
from ledger.cli.record import report

import ledger


@click.command(epilog="Example: consent withdraw u1")
@click.argument("subject", type=Text())
@click.option("--purpose", "purposes", multiple=True, metavar="TOKEN", help="Default: all purposes.")
@click.option("--content", "content_id", type=Text(), metavar="ID", help="Only this content item.")
@click.option("--category", type=Text(), metavar="K", help="Only this category.")
@click.option("--channel", metavar="C", help="web, one-click, ...")
@output_format
@click.pass_obj
def command(
    ledger_path: Path | None,
    subject: str,
    purposes: tuple[str, ...],
    content_id: str | None,
    category: str | None,
    channel: str | None,
    form: str,
) -> None:
    """Withdraw consent, for all purposes unless told otherwise."""
    with ledger.open(ledger_path, passphrase=asking()) as book:
        report(book.withdraw(subject, purposes=purposes, content_id=content_id, category=category, channel=channel), form)
