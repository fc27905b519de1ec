"""`consent purpose`: what content may be used for, declared before anyone can agree to it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import click
from ledger.cli.options import asking, output_format, shown, write_json

import ledger
from ledger.errors import UsageError


@click.group(epilog="Example: consent purpose list")
def command() -> None:
    """Declare and list purposes."""


@command.command(
    "add", epilog="Example: consent purpose add train-ai --title 'Train AI' --description 'Train our language model'"
)
@click.argument("token", required=False)
@click.option("--title", metavar="T", help="What it is called.")
@click.option("--description", metavar="D", help="What is done with the content, in plain words.")
@click.option("--category", "categories", multiple=True, metavar="K", help="A kind of content that it uses; none: any.")
@click.option("--recipient", "recipients", multiple=True, metavar="R", help="Who receives the data.")
@click.option("--controller", metavar="NAME", help="Who is responsible.")
@click.option("--contact", metavar="ADDRESS", help="Where questions go.")
@click.option("--retention", metavar="TEXT", help="How long the data is kept.")
@click.option("--withdraw-url", metavar="URL", help="Where to say no.")
@click.option("--basis", type=click.Choice(["consent", "licence"]), help="What a yes is. Default: consent.")
@click.option("--compatible", is_flag=True, help="A yes to the version before still counts.")
@click.option(
    "--from", "source", type=click.Path(path_type=Path, exists=True), metavar="FILE.toml", help="Take all of this from a file."
)
@click.pass_obj
def add(ledger_path: Path | None, /, token: str | None, source: Path | None, **given: Any) -> None:
    """Declare a purpose, or a new version of one."""
    fields = {name: value for name, value in given.items() if value}
    if source is not None:
        try:
            from_file = tomllib.loads(source.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise UsageError(f"{source} cannot be read as TOML: {error}") from error
        fields = {**from_file, **fields}
        token = token or fields.get("token")
    fields.pop("token", None)
    if not token or "title" not in fields or "description" not in fields:
        raise UsageError(
            "a purpose needs a token, a title and a description",
            hint="consent purpose add train-ai --title 'Train AI' --description 'Train our language model'",
        )
    with ledger.open(ledger_path, passphrase=asking()) as book:
        purpose = book.declare_purpose(token, **fields)
    click.echo(f"declared {purpose.reference}", err=True)


@command.command("list", epilog="Example: consent purpose list --format json")
@output_format
@click.pass_obj
def list_(ledger_path: Path | None, form: str) -> None:
    """The purposes declared, every version."""
    with ledger.open(ledger_path, finish=False) as book:
        purposes = book.purposes()
    if form == "json":
        write_json(
            [
                {
                    "purpose": p.reference,
                    "title": p.title,
                    "description": p.description,
                    "categories": list(p.categories),
                    "recipients": list(p.recipients),
                    "accepts": list(p.accepts),
                }
                for p in purposes
            ]
        )
        return
    for p in purposes:
        click.echo(f"{p.reference}  {shown(p.title)}  [{', '.join(map(shown, p.categories)) or 'any category'}]")
