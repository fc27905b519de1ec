"""`consent snapshot`: freeze the answers for one purpose."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click
from ledger.cli.options import Moment, asking, output_format, progress, write_json

import ledger
from ledger import times


@click.command(epilog="Example: consent snapshot --purpose train-ai -o train-ai.parquet")
@click.option("--purpose", required=True, metavar="TOKEN", help="The purpose, in its current version.")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="FILE", help="Its receipt goes beside it."
)
@click.option("--tree-size", type=click.IntRange(1), metavar="N", help="Only the log's first N entries.")
@click.option("--as-of", type=Moment(), help="Only acts that count by then. Default: now.")
@output_format
@click.pass_obj
def command(
    ledger_path: Path | None, purpose: str, output: Path, tree_size: int | None, as_of: datetime | None, form: str
) -> None:
    """Compile a snapshot: one file and its receipt, which workers open without a database."""
    with ledger.open(ledger_path, passphrase=asking()) as book, progress("compiling") as on_progress:
        snapshot = book.snapshot(purpose, output=output, tree_size=tree_size, as_of=as_of, on_progress=on_progress)
    if form == "json":
        write_json(
            {
                "path": str(output),
                "purpose": snapshot.purpose,
                "snapshot_sha256": snapshot.sha256,
                "file_sha256": snapshot.file_sha256,
                "as_of": times.text(snapshot.header.as_of),
                "known_until": times.text(snapshot.header.known_until),
                "checkpoint": snapshot.header.checkpoint,
                **({} if snapshot.earlier is None else {"earlier_size": snapshot.earlier}),
            }
        )
    else:
        click.echo(f"{output}: {snapshot.purpose} as of {times.text(snapshot.header.as_of)}, digest {snapshot.sha256}", err=True)
        if snapshot.earlier is not None:
            click.echo(f"from the snapshot of {snapshot.earlier} entries and {snapshot.size - snapshot.earlier} since", err=True)
