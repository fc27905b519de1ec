"""`consent notice`: the text that people were shown, kept by the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import click
from ledger.cli.options import asking

import ledger


@click.group(epilog="Example: consent notice add notice.txt --id signup --language en")
def command() -> None:
    """Keep the notices that people are shown."""


@command.command("add", epilog="Example: consent notice add notice.txt --id signup --language en")
@click.argument("file", type=click.File("rb"))
@click.option("--id", "notice_id", required=True, metavar="ID", help="What events call it.")
@click.option("--language", required=True, metavar="L", help="As in en or de-AT.")
@click.pass_obj
def add(ledger_path: Path | None, file: BinaryIO, notice_id: str, language: str) -> None:
    """Keep a notice's text; the same id again is its next version."""
    with ledger.open(ledger_path, passphrase=asking()) as book:
        reference = book.add_notice(file.read(), notice_id=notice_id, language=language)
    click.echo(f"kept {reference}", err=True)
