"""`consent show`: what the ledger knows of one person, and what it answers."""

from __future__ import annotations

from pathlib import Path

import click
from ledger.cli.options import Text, output_format, shown, write_json

import ledger


@click.command(epilog="Example: consent show u1")
@click.argument("subject", type=Text())
@click.option("--content", "content_id", type=Text(), metavar="ID", help="Decide this content item too.")
@output_format
@click.pass_obj
def command(ledger_path: Path | None, subject: str, content_id: str | None, form: str) -> None:
    """A person's acts, in log order, and the decisions that now hold."""
    with ledger.open(ledger_path, finish=False) as book:
        document = book.show(subject, content_id=content_id)
    if form == "json":
        write_json(document)
        return
    for e in document["events"]:
        scope = e.get("content_id") or e.get("category") or "everything"
        click.echo(
            f"{e['position']:>8}  {e.get('occurred_at', e['recorded_at'])}  {e['state']:<9}  {shown(scope)}  "
            f"{', '.join(map(shown, e['purposes']))}  {shown(e['event_id'])}  signed by checkpoint {e['checkpoint_size']}"
        )
    if not document["events"]:
        click.echo("no event of this subject is known: silence is no", err=True)
    for d in document["decisions"]:
        scope = d["content_id"] or d["category"] or "everything"
        click.echo(f"{d['purpose']}  {shown(scope)}  {'allowed' if d['allowed'] else 'denied: ' + d['reason']}")
