"""`consent erase`: a person's events are gone, and the log says that they were there."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import click
from ledger.cli.options import Text, asking, output_format, shown, write_json

import ledger
from ledger.errors import UsageError

_NAMED = 20
"""Of each kind of what is out of reach."""


@click.command(epilog="Example: consent erase u1 --yes")
@click.argument("subject", type=Text(), required=False)
@click.option("--basis", metavar="TEXT", help="Why, as the log keeps it; name nobody in it. Default: request of the subject.")
@click.option(
    "--reapply",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="JOURNAL",
    help="Erase anew whom this order journal names, after a backup was put back.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@output_format
@click.pass_obj
def command(ledger_path: Path | None, subject: str | None, basis: str | None, reapply: Path | None, yes: bool, form: str) -> int:
    """Erase a person's events for good, and hold back every yes of before that comes in again."""
    if (subject is None) == (reapply is None) or (reapply and basis):
        raise UsageError("name either one person or, with --reapply, an order journal", hint="consent erase u1 --yes")
    if reapply is not None:
        _confirm(yes, f"the orders of {reapply} will be carried out anew")
        return _report(ledger.reapply(reapply, ledger_path, passphrase=asking()), form)
    assert subject is not None
    with ledger.open(ledger_path, passphrase=asking()) as book:
        if events := book.erasable(subject):
            _confirm(yes, f"{_counted(events)} of {subject!r:.200} will be erased for good")
        return _report([book.erase(subject, basis=basis)], form)


def _counted(events: int) -> str:
    return f"{events:,} event{'' if events == 1 else 's'}"


def _confirm(yes: bool, what: str) -> None:
    click.echo(shown(what), err=True)
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("there is no terminal to ask at, and nothing was erased", hint="say --yes")
    if not click.confirm("Erase?", err=True):
        raise click.Abort


def _report(found: Sequence[ledger.Erased], form: str) -> int:
    if form == "json":
        write_json({"erased": [one.document() for one in found]})
    elif not found:
        click.echo("nothing is left to erase", err=True)
    for one in found if form == "text" else ():
        said = "was erased before" if one.already else "erased"
        click.echo(f"{said}: {_counted(one.events)}, as entry {one.position} of {one.erased_at} says", err=True)
        click.echo("not reached:")
        for kind, some in groupby(one.unreached, key=lambda part: part.kind):
            parts = list(some)
            for part in parts[:_NAMED]:
                at = "" if part.position is None else f", entry {part.position}, sha256 {part.sha256}"
                click.echo(f"  {shown(part.what)}{at}")
            if len(parts) > _NAMED:
                click.echo(f"  and {len(parts) - _NAMED:,} more of kind {kind}: --format json names them")
    unscrubbed = [one.unscrubbed for one in found if one.unscrubbed]
    if not unscrubbed:
        return 0
    click.echo("error: the events are erased, but the database's files may still hold parts of them", err=True)
    click.echo(shown(unscrubbed[0]), err=True)
    click.echo("hint: end what reads the ledger, and run the command again", err=True)
    return 1
