"""`consent filter`: only rows whose people said yes reach the output."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import click
from ledger.cli.options import (
    Place,
    Share,
    Text,
    asking,
    columns_of,
    progress,
    reasons_lines,
    run_key_option,
    shard_options,
    shown,
    write_json,
)
from ledger.cli.project import completed

import ledger
from ledger.cores import at_once
from ledger.errors import UsageError
from ledger.objects import Address


@click.command(epilog="Example: consent filter posts/ -o train/ --purpose train-ai --subject user_id --content post_id")
@shard_options
@click.option(
    "-o", "--output", required=True, type=Place(path_type=Path), metavar="DIR", help="The statement goes beside it."
)
@click.option(
    "--exclusions",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Parquet: shard, row number and reason of what was dropped.",
)
@click.option("--recipient", type=Text(), metavar="R", help="Who the output is for; signed into the statement.")
@click.option("--min-kept", type=click.FloatRange(0, 1), default=0.0, metavar="SHARE", help="Fail where fewer rows are kept.")
@click.option(
    "--drop-metadata",
    multiple=True,
    type=Text(),
    metavar="KEY",
    help="Leave out this key of the shards' metadata, which may hold values of dropped rows.",
)
@click.option(
    "--part",
    type=Share(),
    metavar="K/N",
    help="Filter the K-th of N shares of the shards alone; `consent attest` seals the set.",
)
@run_key_option
@click.pass_obj
def command(
    ledger_path: Path | None,
    /,
    shards: tuple[Path | Address, ...],
    output: Path | Address,
    form: str,
    workers: int,
    exclusions: Path | None,
    recipient: str | None,
    min_kept: float,
    drop_metadata: tuple[str, ...],
    part: tuple[int, int] | None,
    run_key: Path | None,
    **told: Any,
) -> None:
    """Filter Parquet shards: files, folders or globs. Same schema, only allowed rows, and a signed statement."""
    with ExitStack() as stack:
        # The other processor's work while this one opens the ledger and its answers. Of a part's inputs most are others' work.
        digesting = stack.enter_context(ledger.Digesting(shards, output, by_block=False)) if part is None else None
        passphrase = asking()
        told = completed(ledger_path, **told)
        book, consent = consent_of(stack, ledger_path, passphrase=passphrase, beside=output if part is None else None, **told)
        key, admit = signing(book, run_key, passphrase)
        on_progress = stack.enter_context(progress("filtering"))
        run = consent.filter_shards(
            digesting or shards,
            output,
            workers=workers,
            key=key,
            publish=None if book is None or part is not None else book.publish,
            admit=admit,
            recipient=recipient,
            min_kept=min_kept,
            exclusions=exclusions,
            drop_metadata=drop_metadata,
            part=part,
            on_progress=on_progress,
        )
    where = f"kept in {len(run.record.shards)} shards of {shown(str(output))}"
    say_rows(run.record, None if form == "text" else run.document(), where)
    if part is None:
        click.echo(f"statement: {run.statement}", err=True)
    else:
        click.echo(
            f"part {part[0]} of {part[1]} is journalled; once all are, `consent attest {shown(str(output))}` makes the statement",
            err=True,
        )


def say_rows(record: Any, document: dict[str, Any] | None, where: str) -> None:
    """Of a run or a selection: warnings, and its JSON, or else how many rows are left, and why the others are not."""
    for warning in record.warnings:
        click.echo(f"warning: {shown(warning)}", err=True)
    if document is not None:
        write_json(document)
        return
    click.echo(f"{record.rows_kept:,} of {record.rows_in:,} rows {where}")
    for line in reasons_lines(dict(record.rows_dropped)):
        click.echo(line)
    if record.unmapped:
        click.echo(f"  {record.unmapped:,} of these only because a column is not mapped")


def say_statement(statement: object, admit: object) -> None:
    logged = "logged" if admit is not None else "not logged: `consent admit` does that where the ledger is"
    click.echo(f"statement: {shown(str(statement))}, {logged}", err=True)


def signing(
    book: ledger.Ledger | None, run_key: Path | None, passphrase: Callable[[Path], str]
) -> tuple[Any, Callable[[bytes], bytes] | None]:
    """The key that signs statements, and who logs them: the ledger in use, where it has admitted that key."""
    if run_key is not None:
        key = ledger.load_key(run_key, passphrase=passphrase)
        return key, book.admit if book is not None and book.keys.admits(key.public) else None
    if book is None:
        raise UsageError("no run key is at hand", hint="name one with --run-key, or a ledger with --ledger")
    return book.run_key(), book.admit


def consent_of(
    stack: ExitStack,
    ledger_path: Path | None,
    *,
    purpose: str | None,
    snapshot_path: Path | None,
    trust: Path | None,
    max_age: timedelta,
    max_source_age: timedelta | None,
    passphrase: Callable[[Path], str] | None = None,
    beside: Path | Address | None = None,
    decides: bool = True,
    **columns: Any,
) -> tuple[Any, Any]:
    """The ledger in use (None where none is needed) and the filter that the options describe.

    beside: the folder of a run, which may have left its index. decides: whether rows will be decided, by the thousand.
    """
    if (purpose is None) == (snapshot_path is None):
        raise UsageError(
            "name the answers with --purpose TOKEN or --snapshot FILE, one of them",
            hint="`consent purpose list` has the purposes",
        )
    mapped = columns_of(**columns)
    path, book = ledger.ledger_path(ledger_path), None

    def opened() -> ledger.Ledger | None:
        if purpose is None and trust is not None and not path.is_dir():
            return None
        return stack.enter_context(ledger.open(path, passphrase=passphrase, finish=passphrase is not None))

    if snapshot_path is not None:
        from ledger.rerun import begin
        from ledger.snapshot import receipt_path
        from ledger.store.folder import Folder

        load = partial(ledger.load_snapshot, snapshot_path, trust=trust or Folder.open(path).trust(), max_age=max_age)
        # What reads the database is imported while the answers are read, and all is made that hangs on them alone: each takes
        # half a second.
        snapshot, book = at_once(lambda: begin(load(), beside, decides=decides), opened)
        if not receipt_path(snapshot_path).exists():  # opening a ledger goes on with erasures, which take snapshots away
            snapshot = load()
        if book is not None and snapshot.header.origin != book.origin:
            book = None  # another ledger's answers, trusted by --trust: nothing of theirs is logged here
        elif book is not None:
            book.check(snapshot.header.checkpoint)
    else:
        book = opened()
        assert book is not None and purpose is not None
        snapshot = book.look(purpose)
    if max_source_age is not None:
        snapshot.check_sources(max_source_age)
    return book, ledger.ConsentFilter(snapshot, mapped)
