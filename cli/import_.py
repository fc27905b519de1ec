"""`consent import`: many acts from a file, all or nothing, or the good lines and a file of the bad ones."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
from ledger.cli.options import Text, asking, output_format, progress, shown, write_json
from ledger.cli.project import Project

import ledger


@click.command(epilog="Example: consent import consents.csv --source crm")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True), metavar="FILE|-")
@click.option(
    "--source",
    type=Text(),
    metavar="NAME",
    help="Where the acts come from; selects [import.NAME] of consent.toml. Default: the file's name.",
)
@click.option(
    "--input-format", type=click.Choice(["csv", "ndjson", "parquet"]), help="Default: by the file's ending; needed for -."
)
@click.option(
    "--rejects",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Record the good lines; the bad ones go to FILE, and why to FILE.why.",
)
@click.option("--dry-run", is_flag=True, help="Check everything, record nothing.")
@click.option(
    "--max-reversals", type=click.IntRange(0), metavar="N", help="Record nothing where more people would go from no to yes."
)
@output_format
@click.pass_obj
def command(
    ledger_path: Path | None,
    file: Path,
    source: str | None,
    input_format: str | None,
    rejects: Path | None,
    dry_run: bool,
    max_reversals: int | None,
    form: str,
) -> int:
    """Record the acts in a CSV, NDJSON or Parquet file. A bad line means that nothing is, unless --rejects is given."""
    columns = None if source is None else columns_of_source(source)
    with ledger.open(ledger_path, passphrase=asking()) as book, progress("importing") as bar:
        report = book.import_file(
            sys.stdin.buffer if str(file) == "-" else file,
            source=source,
            form=input_format,
            columns=columns,
            rejects=rejects,
            dry_run=dry_run,
            max_reversals=max_reversals,
            on_progress=None if bar is None else partial(_rows_so_far, bar),
        )
    if form == "json":
        write_json(report.document())
    else:
        told = "nothing was recorded, it would be: " if dry_run else ""
        click.echo(
            f"{told}{report.new:,} new, {report.repeated:,} repeated, {report.suppressed:,} suppressed, "
            f"{report.reversals:,} from no to yes, from {shown(report.source)}",
            err=True,
        )
    if not report.rejected:
        return 0
    click.echo(f"error: {report.rejected:,} lines were rejected; they are in {shown(str(rejects))}", err=True)
    click.echo(f"hint: {shown(str(rejects))}.why says why; mend the lines, and import that file", err=True)
    return 1


def columns_of_source(source: str) -> ledger.ImportColumns | None:
    """What consent.toml says of the source's table, where it does."""
    project = Project()
    table = project.imports(source)
    project.say()
    return None if table is None else ledger.ImportColumns.of(source, table)


def _rows_so_far(bar: Callable[[int, int], None], rows: int) -> None:
    bar(rows, 0)
