"""`consent admit`: log what a run key signed elsewhere."""

from __future__ import annotations

from pathlib import Path

import click
from ledger.cli.options import asking, shown

import ledger
from ledger import files
from ledger.errors import VerificationError
from ledger.statements.verify import read_statement, statement_path


@click.command(epilog="Example: consent admit train.intoto.jsonl")
@click.argument("statement", type=click.Path(path_type=Path), metavar="STATEMENT")
@click.pass_obj
def command(ledger_path: Path | None, /, statement: Path) -> None:
    """Log a statement, of a run, an audit or a selection, that an admitted run key has signed, and add the receipt to its file.

    STATEMENT is the file, or the folder of shards that it stands beside. The shards need not be here.
    """
    path = statement_path(statement) if statement.is_dir() else statement
    data = read_statement(path)
    envelope, _, receipt = data.partition(b"\n")
    with ledger.open(ledger_path, passphrase=asking()) as book:
        before = book.logged(envelope)
        if receipt and not before:
            raise VerificationError(
                f"{path} has a second line, and this log does not hold the statement",
                hint="that line is of another log, or of another history of this one: keep it, it is evidence",
            )
        whole = envelope + b"\n" + book.admit(envelope)
    if data != whole:
        files.publish_bytes(path, whole)
    done = "was logged before" if before else "logged"
    changed = "its receipt is the second line" if data != whole else "nothing was changed"
    click.echo(f"{shown(str(path))}: {done}; {changed}", err=True)
