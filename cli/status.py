"""`consent status`: how the ledger stands, and whether something has waited too long."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click
from ledger.cli.options import Span, output_format, progress, shown, write_json

import ledger
from ledger import times

if TYPE_CHECKING:
    from ledger.status import Unanswered


@click.command(epilog="Example: consent status --max-source-age 24h --max-unanswered 7d")
@click.option("--max-source-age", type=Span(), help="How long ago each import source may have completed.")
@click.option("--max-unanswered", type=Span(), help="How long a no may wait for a run of each purpose.")
@output_format
@click.pass_obj
def command(ledger_path: Path | None, /, max_source_age: timedelta | None, max_unanswered: timedelta | None, form: str) -> int:
    """Head, anchors, events by purpose and state, import sources, and the no that has waited longest. Exit 3: over a limit."""
    with ledger.open(ledger_path, finish=False) as book, progress("reading the log") as on_progress:
        status = book.status(on_progress=on_progress)
    exceeded = status.exceeded(max_source_age=max_source_age, max_unanswered=max_unanswered)
    if form == "json":
        write_json(status.document(exceeded))
    else:
        for line in _lines(status):
            click.echo(line)
    for sentence in exceeded:
        click.echo(f"exceeded: {shown(sentence)}", err=True)
    return 3 if exceeded else 0


def _lines(status: ledger.Status) -> Iterator[str]:
    last = times.text(status.recorded_at)
    yield f"log {shown(status.origin)}: {status.size:,} entries, root {status.root.hex()}, last recorded {last}"
    for path, size in status.anchors:
        yield f"anchor {shown(str(path))}: {size:,} entries, which the log continues"
    yield f"{status.events:,} events"
    for purpose, states in status.said.items():
        yield f"  {shown(purpose)}: " + ", ".join(f"{n:,} {state}" for state, n in states.items())
    if not status.sources:
        yield "no import source has ever completed"
    for source in status.sources:
        counts = ", ".join(f"{n:,} {name}" for name, n in source.counts.items() if n) or "nothing new"
        completed = (
            f"last completed {times.text(source.completed_at)}" if source.ever_completed else "never completed without rejects"
        )
        yield f"source {shown(source.name)}: {completed}, {source.imports:,} imports ({counts})"
    for token, no in status.unanswered.items():
        waits = "every no is answered"
        if no is not None:
            where = f"entry {no.position}, {no.state}, event {shown(no.event_id)}"
            waits = f"the oldest unanswered no is {where}, recorded {times.text(no.recorded_at)}, {_waited(status, no)}"
        yield f"{shown(token)}: {status.runs[token]:,} logged runs; {waits}"


def _waited(status: ledger.Status, no: Unanswered) -> str:
    """How long, against the month that Article 12(3) of the GDPR gives."""
    days = (status.now - no.recorded_at).days
    due = f"{times.text(no.due_at)[:10]} (one month, GDPR art. 12(3))"
    return f"{days} days ago; " + (f"OVERDUE since {due}" if status.now > no.due_at else f"due by {due}")
