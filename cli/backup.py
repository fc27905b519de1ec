"""`consent backup`."""

from __future__ import annotations

from pathlib import Path

import click
from ledger.cli.options import asking, progress, shown

import ledger


@click.command(epilog="Example: consent backup /backup/2026-07-01")
@click.argument("target", type=click.Path(path_type=Path), metavar="DIR")
@click.pass_obj
def command(ledger_path: Path | None, target: Path) -> None:
    """Copy the ledger whole, keys included, into a new folder that can be put in its place. Others may write meanwhile.

    The copy is checked as `consent fsck` does. It is as secret as the ledger, and erasures do not reach it.
    """
    with progress("checking") as on_progress:
        report = ledger.backup(target, ledger_path, passphrase=asking(), on_progress=on_progress)
    click.echo(
        f"backed up {report.size:,} entries to {shown(str(target))}, root {report.root.hex()}; the copy is whole", err=True
    )
    click.echo("hint: it holds the ledger's private keys: keep it where nobody else reads it", err=True)
