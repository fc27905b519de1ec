"""`consent receipt`: an act's own proof."""

from __future__ import annotations

from pathlib import Path

import click
from ledger.cli.options import Text

import ledger
from ledger import files


@click.command(epilog="Example: consent receipt EVENT_ID -o receipt.json")
@click.argument("event_id", type=Text())
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path, allow_dash=True), metavar="FILE", help="`-` is stdout."
)
@click.option("--cosigned", is_flag=True, help="By the checkpoint that witnesses have cosigned, for those who demand them.")
@click.pass_obj
def command(ledger_path: Path | None, event_id: str, output: Path, cosigned: bool) -> None:
    """Write an event's receipt: the event, its opening and its proof. It verifies alone."""
    with ledger.open(ledger_path, finish=False) as book:
        receipt = book.receipt(event_id, cosigned=cosigned)
    if str(output) == "-":
        click.echo(receipt, nl=False)
    else:
        files.publish_bytes(output, receipt)
        click.echo(f"wrote {output}", err=True)
