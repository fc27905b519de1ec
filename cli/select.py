"""`consent select`: which rows of shards may be read where they are; no row is written."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from ledger.cli.filter import consent_of, say_rows, say_statement, signing
from ledger.cli.options import Place, Text, asking, progress, run_key_option, shard_options, shown
from ledger.cli.project import completed

import ledger
from ledger.objects import Address


@click.command(epilog="Example: consent select posts/ -o train.selection --purpose train-ai --subject user_id --content post_id")
@shard_options
@click.option("-o", "--output", required=True, type=Place(path_type=Path), metavar="DIR", help="The statement goes beside it.")
@click.option("--recipient", type=Text(), metavar="R", help="Who the rows are for; signed into the statement.")
@click.option("--min-kept", type=click.FloatRange(0, 1), default=0.0, metavar="SHARE", help="Fail where fewer rows are allowed.")
@run_key_option
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
        # The other processor's work while this one opens the ledger and its answers.
        digesting = stack.enter_context(ledger.Digesting(shards, output))
        passphrase = asking()
        book, consent = consent_of(stack, ledger_path, passphrase=passphrase, **completed(ledger_path, **told))
        key, admit = signing(book, run_key, passphrase)
        on_progress = stack.enter_context(progress("selecting"))
        selection = consent.select_shards(
            digesting,
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
    where = f"allowed in {len(record.shards)} shards, by {shown(str(output))}"
    say_rows(record, None if form == "text" else selection.document(), where)
    say_statement(selection.statement, admit)
