"""`consent verify`: check proofs with nothing but a trust file."""

from __future__ import annotations

import os
from pathlib import Path

import click
from ledger.cli.options import Place, output_format, shown, trust_file, write_json
from ledger.cli.project import Project, names_a_ledger

from ledger.errors import UsageError
from ledger.objects import Address
from ledger.statements.verify import verify


@click.command(epilog="Example: consent verify train/ --trust trust")
@click.argument("paths", nargs=-1, required=True, type=Place(path_type=Path), metavar="FILE|DIR...")
@trust_file
@click.option("--signature-only", is_flag=True, help="Check the statement alone, not the shards that it speaks of.")
@click.option("--allow-unlogged", is_flag=True, help="Accept a statement that the log does not hold.")
@click.option("--log", metavar="DIR_OR_URL", help="The log as it is published: what is verified must be part of it.")
@output_format
@click.pass_obj
def command(
    ledger_path: Path | None,
    paths: tuple[Path | Address, ...],
    trust: Path | None,
    signature_only: bool,
    allow_unlogged: bool,
    log: str | None,
    form: str,
) -> None:
    """Verify statements with their shards, receipts and snapshots. Needs neither database nor, without --log, network."""
    if trust is None and not names_a_ledger(ledger_path):
        project = Project()
        trust = project.trust_for(paths)
        project.say()
    trust = trust or (ledger_path or Path(os.environ.get("CONSENT_LEDGER") or "consent-ledger")) / "trust"
    if not trust.is_file():
        raise UsageError(f"there is no trust file {trust}", hint="name one with --trust: whose keys count is yours to say")
    verified = verify(*paths, trust=trust, signature_only=signature_only, allow_unlogged=allow_unlogged, log=log)
    if form == "json":
        write_json({"verified": True, "checked": list(verified.checked)})
    else:
        for line in verified.checked:
            click.echo(shown(line))
    click.echo(f"verified, by the keys in {shown(str(trust))}", err=True)
