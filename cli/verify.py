"""`consent verify`: check proofs with nothing but a trust file; with shards, inputs and a ledger also what they speak of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
from ledger.cli.options import Place, Text, output_format, shown, trust_file, write_json
from ledger.cli.project import Project, names_a_ledger

from ledger.errors import UsageError
from ledger.objects import Address
from ledger.statements.verify import STATEMENT_SUFFIX, Verified, verify

_ONE = "name one statement, or the folder that it stands beside"


@click.command(epilog="Example: consent verify train/ --trust trust")
@click.argument("paths", nargs=-1, type=Place(path_type=Path), metavar="FILE|DIR...")
@trust_file
@click.option("--signature-only", is_flag=True, help="Check the statement alone, not the shards that it speaks of.")
@click.option("--allow-unlogged", is_flag=True, help="Accept a statement that the log does not hold.")
@click.option(
    "--shards",
    type=Place(path_type=Path),
    metavar="DIR",
    help="Where the statement's shards are; the set of their subjects is built from them, too.",
)
@click.option(
    "--inputs",
    type=Place(path_type=Path),
    metavar="DIR",
    help="Where the run's inputs are: decide every row again, with --shards and --ledger.",
)
@click.option(
    "--ledger",
    "book_path",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The ledger to decide again by, or to look up --import in.",
)
@click.option(
    "--import",
    "imported",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Whether every line of this file is in the log, as `consent import` records it.",
)
@click.option("--source", type=Text(), metavar="NAME", help="With --import: as for `consent import`.")
@click.option("--input-format", type=click.Choice(["csv", "ndjson", "parquet"]), help="With --import: as for `consent import`.")
@click.option("--log", metavar="DIR_OR_URL", help="The log as it is published: what is verified must be part of it.")
@output_format
@click.pass_obj
def command(
    ledger_path: Path | None,
    paths: tuple[Path | Address, ...],
    trust: Path | None,
    signature_only: bool,
    allow_unlogged: bool,
    shards: Path | Address | None,
    inputs: Path | Address | None,
    book_path: Path | None,
    imported: Path | None,
    source: str | None,
    input_format: str | None,
    log: str | None,
    form: str,
) -> None:
    """Verify statements with their shards, receipts, memberships and snapshots. Needs no database; no network without --log."""
    _require_fit(paths, signature_only, shards, inputs, book_path, imported, source, input_format)
    if imported is not None:
        _tell([_lines(book_path or ledger_path, imported, source, input_format)], form)
        return
    if trust is None and not names_a_ledger(book_path or ledger_path):
        project = Project()
        trust = project.trust_for(paths)
        project.say()
    trust = trust or (book_path or ledger_path or Path(os.environ.get("CONSENT_LEDGER") or "consent-ledger")) / "trust"
    if not trust.is_file():
        raise UsageError(f"there is no trust file {trust}", hint="name one with --trust: whose keys count is yours to say")
    verified = verify(*paths, trust=trust, signature_only=signature_only, allow_unlogged=allow_unlogged, shards=shards, log=log)
    checked = list(verified.checked)
    if shards is not None:
        checked += _by_rows(verified, shards, inputs, book_path)
    _tell(checked, form)
    click.echo(f"verified, by the keys in {shown(str(trust))}", err=True)


def _require_fit(
    paths: tuple[Any, ...],
    signature_only: bool,
    shards: Any,
    inputs: Any,
    book_path: Path | None,
    imported: Path | None,
    source: str | None,
    input_format: str | None,
) -> None:
    if imported is not None and (paths or shards or inputs):
        raise UsageError("--import is verified alone", hint="consent verify --import FILE --ledger DIR")
    if imported is None and (source is not None or input_format is not None):
        raise UsageError("--source and --input-format say how a file was imported", hint="name it with --import")
    if imported is None and not paths:
        raise UsageError("there is nothing to verify", hint="consent verify --help")
    if shards is not None and (len(paths) != 1 or signature_only):
        raise UsageError("--shards is for one statement, and not with --signature-only", hint=_ONE)
    if imported is None and (inputs is not None or book_path is not None) and (shards is None or book_path is None):
        raise UsageError("deciding again needs --shards, --ledger and, of a run, --inputs", hint=_ONE)


def _by_rows(verified: Verified, shards: Path | Address, inputs: Path | Address | None, book_path: Path | None) -> list[str]:
    if len(verified.statements) != 1:
        raise UsageError("--shards is for a statement", hint=_ONE)
    from ledger import membership  # needs pyarrow

    [(path, opened)] = verified.statements.items()
    record, told = opened.record, []
    if record.subjects is None:
        told.append(f"{path}: the statement commits to no set of subjects")
    else:
        membership.require_set(record, membership.count(record, shards, path.with_name(path.name.removesuffix(STATEMENT_SUFFIX))))
        told.append(
            f"{path}: the set of the {record.subjects['count']} subjects of these rows is that of the shards, built from them"
        )
    if book_path is not None:
        import ledger
        from ledger.recompute import recompute

        with ledger.open(book_path, finish=False) as book:
            told += [f"{path}: {line}" for line in recompute(opened, book, shards=shards, inputs=inputs).sentences()]
    return told


def _lines(book_path: Path | None, file: Path, source: str | None, input_format: str | None) -> str:
    from ledger.cli.import_ import columns_of_source

    import ledger
    from ledger.store.imported import look_up

    columns = None if source is None else columns_of_source(source)
    with ledger.open(book_path, finish=False) as book:
        found = book.read(look_up, book.folder.tag_key(), file, source, input_format, columns)
        return f"{file}: {found.sentence()}"


def _tell(checked: list[str], form: str) -> None:
    if form == "json":
        write_json({"verified": True, "checked": checked})
    else:
        for line in checked:
            click.echo(shown(line))
