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
from ledger import times
from ledger.errors import UsageError, VerificationError
from ledger.objects import Address
from ledger.statements.verify import load_trust, open_statement, read_statement, statement_path, verify


@click.command(epilog="Example: consent audit train/ --purpose train-ai --subject user_id --content post_id")
@click.option("--stale", "by_index", is_flag=True, help="Tell by the index that a run has left; no shard is read.")
@shard_options
@click.pass_obj
def command(
    ledger_path: Path | None, /, shards: tuple[Path | Address, ...], by_index: bool, form: str, workers: int, **told: Any
) -> int:
    """Check finished shards row by row. Exit 0: every row's people said yes; 3: some did not.

    A folder with a statement beside it needs no columns: they are taken from the statement where its signature is trusted and
    the folder is the one that it speaks of.
    """
    if by_index:
        return _stale(ledger_path, shards, form, **told)
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


def _stale(ledger_path: Path | None, shards: tuple[Path | Address, ...], form: str, **told: Any) -> int:
    """By what has changed since a run: which of its shards hold people who are answered otherwise now."""
    if len(shards) != 1 or isinstance(shards[0], Address):
        raise UsageError("an index is of one folder of this machine", hint="name that folder alone, or leave out --stale")
    trust = load_trust(told["trust"] or ledger.ledger_path(ledger_path) / "trust")
    with ExitStack() as stack:
        told = completed(ledger_path, **told)
        if not told["subject"]:
            stated = open_statement(read_statement(statement_path(shards[0])), trust, allow_unlogged=True).record
            told |= {**stated.columns, "subject": tuple(stated.columns["subject"])}
        _, consent = consent_of(stack, ledger_path, beside=shards[0], decides=False, **told)
        found = consent.stale_shards(shards[0], trust=trust)
    if form == "json":
        write_json(found.document())
    else:
        for shard in found.shards:
            of = "people whose answer changed" if shard.is_known else "whomever: it is not the file that the run made"
            click.echo(f"{shown(shard.path)}: up to {shard.rows:,} rows of {of}, since {times.text(shard.since)}")
    verdict = "no shard is stale"
    if found.shards:
        verdict = f"{len(found.shards):,} of {found.of:,} shards are stale, up to {found.rows:,} rows"
    click.echo(f"{verdict}; a run would do {found.to_redo:,} again", err=True)
    run = f"the run of {times.text(found.decided_at)} has left"
    click.echo(f"this is by the index that {run}: no shard was read, as each is without --stale", err=True)
    return 3 if found.shards else 0


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
