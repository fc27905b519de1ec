"""`consent export`: all that the ledger has of one person, with proofs."""

from __future__ import annotations

from pathlib import Path

import click
from ledger.cli.options import Text, shown

import ledger


@click.command(epilog="Example: consent export u1 -o u1.zip --run train")
@click.argument("subject", type=Text())
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="FILE", help="The ZIP to write.")
@click.option(
    "--run",
    "runs",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="A folder of shards, or its statement: what was decided for the person, and whether anything of theirs is in it. "
    "Repeatable.",
)
@click.pass_obj
def command(ledger_path: Path | None, subject: str, output: Path, runs: tuple[Path, ...]) -> None:
    """Write all that the ledger has of one person into a ZIP: for people and courts, with receipts and what checks them.

    It holds a page, a document for programs, and verify.py, which needs bare Python and a trust file from elsewhere.
    """
    with ledger.open(ledger_path, finish=False) as book:
        found = ledger.export_subject(book, subject, output, runs=runs)
    acts, releases = len(found.events), len(found.runs)
    click.echo(
        f"{shown(str(output))}: {acts} act{'' if acts == 1 else 's'} and {releases} release{'' if releases == 1 else 's'}; "
        "it holds personal data; its reader needs your trust file from elsewhere (`consent key show`)",
        err=True,
    )
