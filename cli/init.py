"""`consent init`."""

from __future__ import annotations

from pathlib import Path

import click

import ledger


@click.command(epilog="Example: consent init consent-ledger")
@click.argument("folder", required=False, type=click.Path(path_type=Path), metavar="[DIR]")
@click.option("--origin", metavar="NAME", help="The log's name, unique in the world. Default: one is made up.")
@click.option(
    "--database", metavar="URL", help="As in postgresql+psycopg://ann@db/consent, without a password. Default: a SQLite file."
)
@click.pass_obj
def command(ledger_path: Path | None, folder: Path | None, origin: str | None, database: str | None) -> None:
    """Create a ledger: database, log, keys and trust file in a new folder."""
    path = folder or ledger.ledger_path(ledger_path)
    with ledger.create(path, origin=origin, database=database) as book:
        click.echo(f"created {path} with origin {book.origin}", err=True)
        click.echo(
            f"hint: hand {path / 'trust'} to those who verify; next: consent purpose add train-ai --title ... --description ...",
            err=True,
        )
