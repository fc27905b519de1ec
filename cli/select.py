"""`consent select`: which rows of shards may be read where they are; no row is written."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from ledger.cli.filter import consent_of, signing
from ledger.cli.options import Place, Text, asking, progress, reasons_lines, shard_options, shown, write_json
from ledger.cli.project import completed

from ledger.objects import Address


@click.command(epilog="Example: consent select posts/ -o train.selection --purpose train-ai --subject user_id --content post_id")
@shard_options
@click.option("-o", "--output", required=True, type=Place(path_type=Path), metavar="DIR", help="The statement goes beside it.")
@click.option("--recipient", type=Text(), metavar="R", help="Who the rows are for; signed into the statement.")
@click.option("--min-kept", type=click.FloatRange(0, 1), default=0.0, metavar="SHARE", help="Fail where fewer rows are allowed.")
@click.option(
    "--run-key", type=click.Path(path_type=Path), metavar="FILE", help="Signs the statement. Default: the ledger's run.key."
)
@click.pass_obj
def command(
    ledger_path: Path | None,
    /,
    shards: tuple[Path | Address, ...],
    output: Path | Address,
    form: str,
    workers: int,
    recipient: str | None,
    min_kept: float,
    run_key: Path | None,
    **told: Any,
) -> None:
    """Write which rows of Parquet shards are allowed, as bitmaps of row positions, and a signed statement; the shards stay.

    `ledger.open_shards(SHARDS, selection=DIR, ...)` yields those rows alone. After a withdrawal, select again into the same DIR:
    shards that were not changed are not hashed anew.
    """
    with ExitStack() as stack:
        passphrase = asking()
        book, consent = consent_of(stack, ledger_path, passphrase=passphrase, **completed(ledger_path, **told))
        key, admit = signing(book, run_key, passphrase)
        on_progress = stack.enter_context(progress("selecting"))
        selection = consent.select_shards(
            shards,
            output,
            key=key,
            workers=workers,
            publish=None if book is None else book.publish,
            admit=admit,
            recipient=recipient,
            min_kept=min_kept,
            on_progress=on_progress,
        )
    record = selection.record
    for warning in record.warnings:
        click.echo(f"warning: {shown(warning)}", err=True)
    if form == "json":
        write_json(selection.document())
    else:
        click.echo(
            f"{record.rows_kept:,} of {record.rows_in:,} rows allowed in {len(record.shards)} shards, by {shown(str(output))}"
        )
        for line in reasons_lines(dict(record.rows_dropped)):
            click.echo(line)
        if record.unmapped:
            click.echo(f"  {record.unmapped:,} of these only because a column is not mapped")
    logged = "logged" if admit is not None else "not logged: `consent admit` does that where the ledger is"
    click.echo(f"statement: {shown(str(selection.statement))}, {logged}", err=True)
