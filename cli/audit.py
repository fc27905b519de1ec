"""`consent audit`: are these shards clean?"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from ledger.cli.filter import consent_of
from ledger.cli.options import progress, reasons_lines, shard_options, shown, write_json


@click.command(epilog="Example: consent audit train/ --purpose train-ai --subject user_id --content post_id")
@shard_options
@click.pass_obj
def command(ledger_path: Path | None, /, shards: tuple[Path, ...], form: str, workers: int, **told: Any) -> int:
    """Check finished shards row by row. Exit 0: every row's people said yes; 3: some did not."""
    with ExitStack() as stack:
        _, consent = consent_of(stack, ledger_path, write=False, **told)
        on_progress = stack.enter_context(progress("auditing"))
        audit = consent.audit_shards(shards, workers=workers, on_progress=on_progress)
    for warning in audit.warnings:
        click.echo(f"warning: {shown(warning)}", err=True)
    document = audit.document()
    if form == "json":
        write_json(document)
    else:
        for shard in audit.shards:
            click.echo(f"{shown(shard.path)}: {shard.rows_without_consent:,} of {shard.rows:,} rows without consent")
        for line in reasons_lines(document["reasons"]):
            click.echo(line)
    click.echo(
        "compliant"
        if audit.compliant
        else f"not compliant: {audit.rows_without_consent:,} of {audit.rows:,} rows without consent",
        err=True,
    )
    return 0 if audit.compliant else 3
