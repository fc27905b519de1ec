"""`consent key`: the public halves, whose statements the log takes, and who may use the HTTP API."""

from __future__ import annotations

from pathlib import Path

import click
from ledger.cli.options import asking, shown

import ledger
from ledger import api_keys, files, times
from ledger.errors import ConsentLedgerError, UsageError
from ledger.log.keys import PrivateKey
from ledger.log.note import Verifier


@click.group(epilog="Example: consent key show")
def command() -> None:
    """The ledger's keys."""


@command.command("show", epilog="Example: consent key show > trust")
@click.pass_obj
def show(ledger_path: Path | None) -> None:
    """Print the trust file: the lines to hand to whoever verifies."""
    with ledger.open(ledger_path, finish=False) as book:
        click.echo(book.trust_text(), nl=False)


@command.command("add-run", epilog="Example: consent key add-run spark -o spark.key")
@click.argument("name")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Where the new private key goes.")
@click.option("--key", "key_path", type=click.Path(path_type=Path), metavar="FILE", help="Admit the key in this file.")
@click.option("--vkey", metavar="VKEY", help="Admit a key by its public half alone, NAME+ID+KEY.")
@click.pass_obj
def add_run(ledger_path: Path | None, name: str, output: Path | None, key_path: Path | None, vkey: str | None) -> None:
    """Admit a run key: what it signs elsewhere, `consent admit` logs here. Makes a new key unless one is named.

    The new private key is NAME.key in the ledger's folder, or FILE; only you may read it.
    """
    if sum(option is not None for option in (output, key_path, vkey)) > 1:
        raise UsageError("--output, --key and --vkey exclude each other", hint="leave all out, and a key is made")
    passphrase = asking()
    with ledger.open(ledger_path, passphrase=passphrase) as book:
        made = pem = None
        if vkey is not None:
            public = Verifier.from_vkey(vkey).public
        elif key_path is not None:
            public = ledger.load_key(key_path, passphrase=passphrase).public
        else:
            book.keys.check_new(name)
            key = PrivateKey.generate()
            made, pem, public = output or book.folder.path / f"{name}.key", key.to_pem(), key.public
        if (private := key_path or made) is not None:
            files.sweep(private)  # what an attempt that was killed has left
        try:
            if made is not None and pem is not None:
                files.create_private(made, pem)
            line = book.keys.add(name, public)
        except ConsentLedgerError as error:
            if made is not None and _holds(made, pem):  # it may have been recorded
                raise type(error)(f"{error}; the new key is in {made}", hint=f"run it again with --key {made}") from error
            raise
    click.echo(f"run {line}")
    kept = "" if made is None else f"; its private half is in {shown(str(made))}"
    click.echo(f"admitted, and added to the trust file{kept}", err=True)
    click.echo("hint: hand the trust file out anew (`consent key show`): who verifies goes by its own copy", err=True)


def _holds(path: Path, content: bytes | None) -> bool:
    try:
        return files.read_private(path) == content
    except ConsentLedgerError:
        return False


@command.command("rotate", epilog="Example: consent key rotate")
@click.pass_obj
def rotate(ledger_path: Path | None) -> None:
    """Replace the key that signs the log by a new one. Both sign the last checkpoint of the old one; it signs none after it.

    The new key has the old one's passphrase, if it has one. What was broken off, this finishes. Prints the trust file's lines.
    """
    with ledger.open(ledger_path, passphrase=asking()) as book:
        rotated = book.keys.rotate()
        where = book.folder.path / "log.key"
    click.echo(f"log {rotated.old} until {rotated.size}\nlog {rotated.new}")
    done = "the replacement that was begun before is finished: " if rotated.resumed else ""
    click.echo(
        f"{done}the log's key was replaced at {rotated.size:,} entries; the new one is in {shown(str(where))}, "
        "and the old private key is removed",
        err=True,
    )
    click.echo(
        "hint: hand the trust file out anew (`consent key show`), and copy the new key to where you keep copies of the keys",
        err=True,
    )


@command.command("protect", epilog="Example: consent key protect")
@click.pass_obj
def protect(ledger_path: Path | None) -> None:
    """Protect log.key and run.key by a passphrase, where they have none: it is asked for twice, and from then on to sign."""
    with ledger.open(ledger_path, passphrase=asking()) as book:
        done = book.keys.protect(asking(new=True))
    click.echo("\n".join(f"{shown(str(path))} is protected now" for path in done) or "they have a passphrase already", err=True)
    if done:
        click.echo("hint: copies of them that you keep elsewhere, and backups, have none yet: replace them", err=True)


@command.command("end", epilog="Example: consent key end spark")
@click.argument("name")
@click.pass_obj
def end(ledger_path: Path | None, name: str) -> None:
    """End a run key: from here on nothing that it signs is logged, and the trust file does not list it any more.

    What was logged before stays logged. Who verifies goes by its own trust file: tell them.
    """
    with ledger.open(ledger_path, passphrase=asking()) as book:
        ended = book.keys.end(name)
    click.echo(f"{name}: {'ended' if ended else 'was ended before; nothing was recorded'}", err=True)
    click.echo(
        "hint: tell those who verify to take its line out where the key was lost, and to keep it where it was not", err=True
    )


@command.command("new-link", epilog="Example: consent key new-link")
@click.pass_obj
def new_link(ledger_path: Path | None) -> None:
    """Make links under a new key from here on. Those that were sent out stay good."""
    with ledger.open(ledger_path, finish=False) as book:
        book.links.renew_key()
        where = book.folder.path / "link.key"
    click.echo(f"a new key was added to {shown(str(where))}; links made under those before it stay good", err=True)
    click.echo("hint: copy that file to where you keep copies of the keys: without it no link works", err=True)


@command.command("add-api", epilog="Example: consent key add-api crm --scope record")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(api_keys.SCOPES),
    help="What it may do: record acts, read them and ask for decisions, publish snapshots. May be repeated.",
)
@click.pass_obj
def add_api(ledger_path: Path | None, name: str, scopes: tuple[str, ...]) -> None:
    """Make a key for the HTTP API, and print it. It is shown this once: the ledger keeps its digest alone.

    What it records is marked `api:NAME`.
    """
    with ledger.open(ledger_path, finish=False) as book:
        key = api_keys.add(book.folder.path, name, scopes)
    click.echo(key)
    click.echo("hint: keep it where its program alone reads it; it is not shown again", err=True)


@command.command("end-api", epilog="Example: consent key end-api crm")
@click.argument("name")
@click.pass_obj
def end_api(ledger_path: Path | None, name: str) -> None:
    """End a key of the HTTP API: a running server refuses it from its next request on. Its name is not given again."""
    with ledger.open(ledger_path, finish=False) as book:
        ended = api_keys.end(book.folder.path, name)
    click.echo(f"{name}: {'ended' if ended else 'was ended before'}", err=True)


@command.command("list-api", epilog="Example: consent key list-api")
@click.pass_obj
def list_api(ledger_path: Path | None) -> None:
    """List the keys of the HTTP API: name, scopes, since when, until when."""
    with ledger.open(ledger_path, finish=False) as book:
        keys = api_keys.listed(book.folder.path)
    for key in keys:
        ended = f"  ended {times.text(key.ended)}" if key.ended else ""
        click.echo(f"{key.name}  {','.join(key.scopes)}  since {times.text(key.created)}{ended}")
