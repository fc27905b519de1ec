"""`consent fsck`: is the ledger what it signed?"""

from __future__ import annotations

from pathlib import Path

import click
from ledger.cli.options import output_format, progress, write_json

import ledger


@click.command(epilog="Example: consent fsck")
@output_format
@click.pass_obj
def command(ledger_path: Path | None, form: str) -> None:
    """Re-derive every commitment, tile, root and signature from the stored bytes, and name the first thing that is wrong."""
    with progress("checking") as on_progress:
        report = ledger.fsck(ledger_path, on_progress=on_progress)
    if form == "json":
        write_json(report.document())
    else:
        erased = f", {report.erased:,} erased" if report.erased else ""
        click.echo(
            f"whole: {report.size:,} entries ({report.events:,} events, {report.acts:,} other acts{erased}), "
            f"root {report.root.hex()}",
            err=True,
        )
