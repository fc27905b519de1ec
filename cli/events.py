"""`consent events`: what was said, in log order, from where the reader left off."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import click
from ledger.cli.options import Span, output_format, shown, write_json

import ledger


@click.command(epilog="Example: consent events --after 0 --limit 100")
@click.option(
    "--after",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="N",
    help="Leave out the log's first N entries: the `next` of the page before.",
)
@click.option(
    "--expiring", type=Span(), metavar="SPAN", help="Only yeses that are in force now and end within this time, as in 30d."
)
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, metavar="N", help="Events on a page.")
@output_format
@click.pass_obj
def command(ledger_path: Path | None, /, after: int, expiring: timedelta | None, limit: int, form: str) -> None:
    """List events in log order, a page at a time. Pages that follow one another hold each event exactly once."""
    with ledger.open(ledger_path, finish=False) as book:
        page = book.page(after, limit=limit, expiring=expiring)
    document = page.document()
    if form == "json":
        write_json(document)
        return
    for e in document["events"]:
        # An item may be named `everything`.
        scope = next(
            (f"{what} {e[key]}" for what, key in (("content", "content_id"), ("category", "category")) if key in e), "everything"
        )
        click.echo(
            f"{e['position']:>8}  {e.get('occurred_at', e['recorded_at'])}  {e['state']:<9}  {shown(scope)}  "
            f"{', '.join(map(shown, e['purposes']))}  {shown(e['subject_id'])}  {shown(e['event_id'])}"
        )
    click.echo(f"next: --after {page.next}", err=True)
