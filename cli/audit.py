"""`consent audit`: are these shards clean?"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from ledger.cli.filter import consent_of
from ledger.cli.options import progress, reasons_lines, shard_options, shown, write_json
from ledger.cli.project import completed

import ledger
from ledger.errors import VerificationError
from ledger.objects import Address
from ledger.statements.verify import load_trust, open_statement, read_statement, statement_path, verify


@click.command(epilog="Example: consent audit train/ --purpose train-ai --subject user_id --content post_id")
@shard_options
@click.pass_obj
def command(ledger_path: Path | None, /, shards: tuple[Path | Address, ...], form: str, workers: int, **told: Any) -> int:
    """Check finished shards row by row. Exit 0: every row's people said yes; 3: some did not.

    A folder with a statement beside it needs no columns: they are taken from the statement where its signature is trusted and
    the folder is the one that it speaks of.
    """
    with ExitStack() as stack:
        # By the keys of the ledger or of --trust: a folder whose consent.toml vouched for its statement could name any column.
        trust = told["trust"]
        told = completed(ledger_path, **told)
        if not told["subject"]:
            told |= _stated_columns(ledger_path, shards, trust)
        _, consent = consent_of(stack, ledger_path, **told)
        on_progress = stack.enter_context(progress("auditing"))
        audit = consent.audit_shards(shards, workers=workers, on_progress=on_progress)
    if form == "json":
        write_json(audit.document())
    return say(audit, text=form == "text")


def say(audit: ledger.Audit, *, text: bool) -> int:
    """The counts as text, where that is asked for, and the verdict; the exit code."""
    for warning in audit.warnings:
        click.echo(f"warning: {shown(warning)}", err=True)
    if text:
        for shard in audit.shards:
            click.echo(f"{shown(shard.path)}: {shard.rows_without_consent:,} of {shard.rows:,} rows without consent")
        for line in reasons_lines(audit.document()["reasons"]):
            click.echo(line)
    verdict = "compliant" if audit.compliant else "not compliant"
    click.echo(f"{verdict}: {audit.rows_without_consent:,} of {audit.rows:,} rows without consent", err=True)
    return 0 if audit.compliant else 3


def _stated_columns(ledger_path: Path | None, shards: tuple[Path | Address, ...], trust: Path | None) -> dict[str, Any]:
    """The columns that the folder's own statement was made with. Another's could name a column whose people said yes."""
    path = statement_path(shards[0])
    if len(shards) > 1 or not path.is_file():
        return {}
    known = load_trust(trust or ledger.ledger_path(ledger_path) / "trust")
    try:
        verify(shards[0], trust=known, allow_unlogged=True)
    except VerificationError as error:
        raise VerificationError(str(error), hint="name the columns yourself: --subject COLUMN") from error
    stated = open_statement(read_statement(path), known, allow_unlogged=True).record
    return {**stated.columns, "subject": tuple(stated.columns["subject"])}
