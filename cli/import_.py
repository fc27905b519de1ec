"""`consent import`: many acts from a file, all or nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
from ledger.cli.options import asking, output_format, progress, shown, write_json

import ledger


@click.command(epilog="Example: consent import consents.csv --source crm")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True), metavar="FILE|-")
@click.option("--source", metavar="NAME", help="Where the acts come from. Default: the file's name.")
@click.option(
    "--input-format", type=click.Choice(["csv", "ndjson", "parquet"]), help="Default: by the file's ending; needed for -."
)
@output_format
@click.pass_obj
def command(ledger_path: Path | None, file: Path, source: str | None, input_format: str | None, form: str) -> None:
    """Record the acts in a CSV, NDJSON or Parquet file. One bad line and nothing is recorded."""
    with ledger.open(ledger_path, passphrase=asking()) as book, progress("importing") as bar:
        report = book.import_file(
            sys.stdin.buffer if str(file) == "-" else file,
            source=source,
            form=input_format,
            on_progress=None if bar is None else partial(_rows_so_far, bar),
        )
    if form == "json":
        write_json(report.document())
    else:
        click.echo(
            f"{report.new:,} new, {report.repeated:,} repeated, {report.suppressed:,} suppressed, "
            f"{report.reversals:,} from no to yes, from {shown(report.source)}",
            err=True,
        )


def _rows_so_far(bar: Callable[[int, int], None], rows: int) -> None:
    bar(rows, 0)
