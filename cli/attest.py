"""`consent attest`: seal shards that any engine wrote, if they are clean."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from ledger.cli.audit import say
from ledger.cli.filter import consent_of, say_statement, signing
from ledger.cli.options import (
    Place,
    Text,
    asking,
    deciding_options,
    output_format,
    progress,
    run_key_option,
    workers_option,
    write_json,
)
from ledger.cli.project import completed

from ledger.objects import Address


@click.command(epilog="Example: consent attest train/ --snapshot answers.parquet --subject user_id --run-key run.key")
@click.argument("folder", type=Place(path_type=Path), metavar="DIR")
@deciding_options
@click.option("--recipient", type=Text(), metavar="R", help="Who the shards are for; signed into the statement.")
@run_key_option
@workers_option
@output_format
@click.pass_obj
def command(
    ledger_path: Path | None,
    /,
    folder: Path | Address,
    form: str,
    workers: int,
    recipient: str | None,
    run_key: Path | None,
    **told: Any,
) -> int:
    """Audit every shard of DIR and, where all rows are allowed, sign that as DIR.intoto.jsonl. Exit 3: some are not.

    DIR may be written by any engine. With a snapshot, a trust file and a run key no ledger is needed.
    """
    with ExitStack() as stack:
        passphrase = asking()
        book, consent = consent_of(stack, ledger_path, passphrase=passphrase, **completed(ledger_path, **told))
        key, admit = signing(book, run_key, passphrase)
        on_progress = stack.enter_context(progress("attesting"))
        attested = consent.attest_shards(
            folder,
            key=key,
            workers=workers,
            publish=None if book is None else book.publish,
            admit=admit,
            recipient=recipient,
            on_progress=on_progress,
        )
    if form == "json":
        write_json(attested.document())
    code: int = say(attested.audit, text=form == "text")
    if attested.statement is not None:
        say_statement(attested.statement, admit)
    else:
        click.echo("no statement; one that an earlier audit left here is removed", err=True)
    return code
