"""`consent explain`: why one row is kept or dropped."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from ledger.cli.filter import consent_of
from ledger.cli.options import Place, deciding_options, output_format, shown, write_json
from ledger.cli.project import completed

import ledger
from ledger import times
from ledger.objects import Address


@click.command(epilog="Example: consent explain posts/a.parquet --row 7 --purpose train-ai --subject user_id --content post_id")
@click.argument("shard", type=Place(path_type=Path))
@click.option("--row", type=click.IntRange(0), required=True, metavar="N", help="From 0, as in the exclusions of a run.")
@deciding_options
@output_format
@click.pass_obj
def command(ledger_path: Path | None, /, shard: Path | Address, row: int, form: str, **told: Any) -> None:
    """Say why a row is kept or dropped: its keys, the reason, and for each subject the event that decides."""
    with ExitStack() as stack:
        book, consent = consent_of(stack, ledger_path, decides=False, **completed(ledger_path, **told))
        explanation = ledger.explain(consent, shard, row, book=book)
    for warning in explanation.warnings:
        click.echo(f"warning: {shown(warning)}", err=True)
    if form == "json":
        write_json(explanation.document())
        return
    keys = explanation.keys
    named = [f"subject {shown(s) if s else 'unknown'}" for s in keys.subjects] or ["no subject"]
    named += [f"{what} {shown(v)}" for what, v in (("content", keys.content_id), ("category", keys.category)) if v is not None]
    named += [f"created {times.text(keys.created)}"] if keys.created is not None else []
    click.echo(f"{shown(explanation.shard)}, row {row}: {', '.join(named)}")
    click.echo(f"for {shown(explanation.purpose)}, by what was known at {times.text(explanation.as_of)}")
    answers = explanation.answers
    if len(answers) == 1:
        click.echo(f"{shown(explanation.sentence)} {shown(answers[0].sentence)}")
    else:
        click.echo(shown(explanation.sentence))
        for answer in answers:
            click.echo(f"  {answer.reason}: {shown(answer.sentence)}")
