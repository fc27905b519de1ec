"""`consent fetch`: a snapshot from the server of a team's ledger."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import click
from ledger.cli.options import Span, Text, shown, trust_file
from ledger.cli.project import Project, names_a_ledger

import ledger
from ledger import times
from ledger.errors import UsageError

KEY = "CONSENT_API_KEY"


@click.command(epilog="Example: consent fetch https://consent.example.org/v1/snapshots/train-ai -o train-ai.parquet")
@click.argument("url")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="FILE", help="Its receipt goes beside it."
)
@trust_file
@click.option("--purpose", type=Text(), metavar="TOKEN", help="What it must be of. Default: what URL asks for.")
@click.option("--max-age", type=Span(), default="24h", show_default=True, help="How old the answers may be.")
@click.pass_obj
def command(
    ledger_path: Path | None, /, url: str, output: Path, trust: Path | None, purpose: str | None, max_age: timedelta
) -> None:
    """Fetch a snapshot and its receipt over HTTP, verify them against the trust file, and only then write FILE.

    The server's API key, with the scope read, is taken from the environment: CONSENT_API_KEY. The server itself is not trusted.
    """
    project = Project()
    if trust is None and not names_a_ledger(ledger_path):
        trust = project.trust()
    project.say()
    if trust is None:
        trust = (ledger_path or Path(os.environ.get("CONSENT_LEDGER") or "consent-ledger")) / "trust"
        if not trust.is_file():
            raise UsageError(
                f"there is no trust file {trust}", hint="name the one that the ledger's operator gave you: --trust FILE"
            )
    fetched = ledger.fetch_snapshot(url, output, trust=trust, purpose=purpose, max_age=max_age, key=os.environ.get(KEY) or None)
    when = times.text(fetched.header.as_of)
    click.echo(f"{shown(str(output))}: {fetched.purpose} as of {when}, digest {fetched.sha256}; verified", err=True)
