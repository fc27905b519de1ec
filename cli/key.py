"""`consent key`: the public halves."""

from __future__ import annotations

from pathlib import Path

import click

import ledger


@click.group(epilog="Example: consent key show")
def command() -> None:
    """The ledger's keys."""


@command.command("show", epilog="Example: consent key show > trust")
@click.pass_obj
def show(ledger_path: Path | None) -> None:
    """Print the trust file: the lines to hand to whoever verifies."""
    with ledger.open(ledger_path) as book:
        click.echo(book.trust_text(), nl=False)
