"""`consent copy`."""

from __future__ import annotations

from pathlib import Path

import click
from ledger.cli.options import progress

import ledger


@click.command(epilog="Example: consent copy consent-ledger /srv/consent-ledger --database postgresql+psycopg://ann@db/consent")
@click.argument("source", type=click.Path(path_type=Path), metavar="FROM")
@click.argument("target", type=click.Path(path_type=Path), metavar="TO")
@click.option("--database", metavar="URL", help="TO's database. Default: a SQLite file in TO.")
def command(source: Path, target: Path, database: str | None) -> None:
    """Move a ledger into another folder and database, with the same checkpoints. FROM can only be read afterwards."""
    with progress("checking") as on_progress:
        report = ledger.copy(source, target, database=database, on_progress=on_progress)
    click.echo(f"moved {report.size:,} entries to {target}, root {report.root.hex()}; {source} can only be read now", err=True)
    click.echo(f"hint: use {target} from now on, with --ledger or $CONSENT_LEDGER", err=True)
