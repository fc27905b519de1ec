"""`consent record`: one act of one person."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click
from ledger.cli.options import Moment, Text, asking, output_format, shown, write_json

import ledger
from ledger import files, times
from ledger.consent import YES


@click.command(epilog="Example: consent record given u1 --purpose train-ai --channel web")
@click.argument("state", metavar="STATE")
@click.argument("subject", type=Text())
@click.option(
    "--purpose", "purposes", multiple=True, required=True, metavar="TOKEN", help="Token or token@version; `*` for a no to all."
)
@click.option("--content", "content_id", type=Text(), metavar="ID", help="Only this content item.")
@click.option("--category", type=Text(), metavar="K", help="Only this category.")
@click.option("--occurred-at", type=Moment(), help="When the person acted. Default: now.")
@click.option("--expires-at", type=Moment(), help="When a yes ends.")
@click.option("--content-since", type=Moment(), help="A yes for content created from then on.")
@click.option("--channel", metavar="C", help="web, api, one-click, ...")
@click.option("--actor", default="subject", show_default=True, metavar="A", help="subject, guardian, controller, authority")
@click.option("--notice", metavar="ID", help="The notice that was shown.")
@click.option("--evidence", type=click.Path(path_type=Path, exists=True), metavar="FILE", help="Its SHA-256 is recorded.")
@click.option("--jurisdiction", metavar="J")
@click.option("--reason", metavar="TEXT", help="Never required.")
@click.option("--event-id", metavar="ID", help="The act's own id; the same act again changes nothing.")
@output_format
@click.pass_obj
def command(
    ledger_path: Path | None,
    /,
    state: str,
    subject: str,
    form: str,
    evidence: Path | None,
    occurred_at: datetime | None,
    **fields: Any,
) -> None:
    """Record an act: given, renewed (yes); refused, withdrawn, objected, revoked (no)."""
    event = ledger.Event(
        state=state,
        subject_id=subject,
        # A no without a moment counts from its recording, whatever the clock did since: it is never older than a yes.
        occurred_at=occurred_at or (times.now() if state in YES else None),
        evidence_sha256=files.sha256_of(evidence) if evidence else None,
        **fields,
    )
    with ledger.open(ledger_path, passphrase=asking()) as book:
        report(book.record(event), form)


def report(recorded: Any, form: str) -> None:
    """What now holds."""
    if form == "json":
        write_json(recorded.document())
        return
    event = recorded.event
    word = "already recorded" if recorded.repeated else "recorded"
    click.echo(
        f"{word}: {event.state} by {shown(event.subject_id)} as {shown(event.event_id)}, entry {recorded.position}", err=True
    )
    for warning in recorded.warnings:
        click.echo(f"warning: {shown(warning)}", err=True)
    for d in recorded.decisions:
        scope = d["content_id"] or d["category"] or "everything"
        click.echo(f"{d['purpose']}  {shown(scope)}  {'allowed' if d['allowed'] else 'denied: ' + d['reason']}")
