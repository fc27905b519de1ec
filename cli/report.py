"""`consent report`: runs and audits, told to someone who never saw a terminal."""

from __future__ import annotations

import json
from pathlib import Path

import click
from ledger.cli.options import Place, progress, shown

import ledger
from ledger import files
from ledger.errors import UsageError
from ledger.objects import Address
from ledger.statements.verify import load_trust, statement_path


@click.command(epilog="Example: consent report train/ -o report.html")
@click.argument("runs", nargs=-1, required=True, type=Place(path_type=Path), metavar="RUN...")
@click.option("-o", "--output", required=True, type=Place(path_type=Path), metavar="FILE", help="`-`: stdout.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "jsonld"]),
    default="html",
    show_default=True,
    help="For people, or for programs.",
)
@click.option(
    "--trust",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Whose keys count. Default: the trust file of the ledger in use.",
)
@click.pass_obj
def command(
    ledger_path: Path | None, runs: tuple[Path | Address, ...], output: Path | Address, form: str, trust: Path | None
) -> None:
    """Report on runs and audits: one page that loads nothing, with its signed statements and a check of them inside.

    RUN: the folder of a run or an audit, or its statement. The shards are not looked at.
    """
    if isinstance(output, Path) and output.is_dir():
        raise UsageError(f"{output} is a folder", hint="name the file to write, as in -o report.html")
    if isinstance(output, Path):
        _require_beside(output, runs)
    whose = None if trust is None else load_trust(trust)
    with ledger.open(ledger_path, finish=False) as book, progress("reading the log") as on_progress:
        report = ledger.report_on(book, *runs, trust=whose, on_progress=on_progress)
    text = report.html() if form == "html" else json.dumps(report.jsonld(), indent=2, ensure_ascii=False) + "\n"
    if str(output) == "-":
        click.echo(text, nl=False)
        return
    if isinstance(output, Path):
        files.make_folder(output.parent)
    files.publish_bytes(output, text.encode())
    number = len(report.facts.runs)
    click.echo(f"{shown(str(output))}: of {number} verified statement{'' if number == 1 else 's'}", err=True)


def _require_beside(output: Path, runs: tuple[Path | Address, ...]) -> None:
    """Raises UsageError where the report would replace a statement, or lie among shards, where no verifier lets it be."""
    place = output.resolve()
    for run in runs:
        if isinstance(run, Address):
            continue
        folder = run.resolve()
        if place.is_relative_to(folder) or place == statement_path(folder):
            raise UsageError(f"{output} would spoil what it reports on", hint="write it beside the shards, as in -o report.html")
