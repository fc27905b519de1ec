"""`consent link`: links by which people say no with one click."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import urlsplit

import click
from ledger.cli.options import Text, asking, progress, shown

import ledger
from ledger.errors import UsageError

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@click.command(epilog="Example: consent link u1 --purpose train-ai --url https://consent.example.org")
@click.argument("subject", type=Text(), required=False)
@click.option("--purpose", type=Text(), metavar="TOKEN", help="What the link says no to, in every version. No @VERSION here.")
@click.option(
    "--url",
    "base",
    envvar="CONSENT_URL",
    default="http://127.0.0.1:8080",
    show_default=True,
    metavar="BASE",
    help="Where people reach `consent serve`. Also $CONSENT_URL.",
)
@click.option("--from", "people", type=click.Path(path_type=Path), metavar="FILE.csv", help="A link for each subject_id in it.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE.csv", help="Where the links of --from go.")
@click.option("--revoke", "revoked", type=Text(), metavar="LINK", help="End this link, URL or token; `-` reads it from stdin.")
@click.pass_obj
def command(
    ledger_path: Path | None,
    subject: str | None,
    purpose: str | None,
    base: str,
    people: Path | None,
    output: Path | None,
    revoked: str | None,
) -> None:
    """Make a link by which whoever holds it says no for SUBJECT with one click, and can do nothing else.

    With --from, a CSV file for a mail merge: its columns, url, and the two headers of RFC 8058.
    """
    if sum(given is not None for given in (subject, people, revoked)) != 1:
        raise UsageError(
            "either whom a link is for, or a table of people, or a link to end", hint="give one of SUBJECT, --from and --revoke"
        )
    if (people is None) != (output is None):
        raise UsageError("--from and --output go together", hint="as in consent link --from people.csv -o links.csv")
    with ledger.open(ledger_path, passphrase=asking()) as book:
        if revoked is not None:
            _revoke(book, sys.stdin.readline().strip() if revoked == "-" else revoked)
            return
        if purpose is None:
            declared = ", ".join(sorted({p.token for p in book.purposes()})) or "none yet"
            raise UsageError("say what the link says no to, with --purpose", hint=f"declared: {declared}")
        if subject is not None:
            click.echo(book.links.make(subject, purpose=purpose, base=base))
            for warning in book.links.warnings(subject):
                click.echo(f"warning: {shown(warning)}", err=True)
        elif people is not None and output is not None:
            with progress("making links") as bar:
                told = None if bar is None else lambda rows: bar(rows, 0)
                made = book.links.make_all(people, output, purpose=purpose, base=base, on_progress=told)
            click.echo(f"{made.rows:,} links in {shown(str(output))}, which only you may read", err=True)
            if made.unseen:
                click.echo(
                    f"warning: {made.unseen:,} are for ids of which the ledger has no act: are they as the shards have them?",
                    err=True,
                )
    if not base.startswith("https:") and urlsplit(base).hostname not in _LOOPBACK:
        click.echo("warning: this is plain HTTP: whoever sees a link on its way can use it", err=True)
        click.echo("hint: mail programs take https only (RFC 8058): put a server in front, and name it with --url", err=True)


def _revoke(book: ledger.Ledger, link: str) -> None:
    ended = book.links.revoke(link)
    click.echo("revoked: it leads nowhere now" if ended else "was revoked before; nothing was recorded", err=True)
