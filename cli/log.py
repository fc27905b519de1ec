"""`consent log`: the log for others: published, cosigned, watched."""

from __future__ import annotations

from pathlib import Path

import click
from ledger.cli.options import output_format, progress, shown, write_json

import ledger
from ledger.errors import ConsentLedgerError


@click.group(epilog="Example: consent log publish /srv/www/log")
def command() -> None:
    """The log as others see it: publish it, have it cosigned, watch one."""


@command.command("publish", epilog="Example: consent log publish /srv/www/log")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.pass_obj
def publish(ledger_path: Path | None, folder: Path) -> None:
    """Write the log as static files (C2SP tlog-tiles) into DIR, for any web server. Only what is new is written.

    They hold commitments and no personal data.
    """
    with ledger.open(ledger_path) as book, progress("publishing") as on_progress:
        published = ledger.publish_log(book, folder, on_progress=on_progress)
    kind = "cosigned checkpoint" if published.cosigned else "checkpoint"
    click.echo(f"{shown(str(folder))}: {kind} of {published.size:,} entries, {published.written:,} files written", err=True)
    if published.beyond:
        click.echo(f"hint: {published.beyond:,} entries are beyond it: run `consent log cosign`, then publish again", err=True)


@command.command("monitor", epilog="Example: consent log monitor https://log.example.org/consent --trust trust --state seen")
@click.argument("where", metavar="URL_OR_DIR")
@click.option("--trust", required=True, type=click.Path(path_type=Path), metavar="FILE", help="Whose keys count.")
@click.option(
    "--state", required=True, type=click.Path(path_type=Path), metavar="FILE", help="What was seen last. Made on the first visit."
)
@output_format
def monitor(where: str, trust: Path, state: Path, form: str) -> None:
    """Read a published log whole, and check that it goes on from what was seen last.

    Any C2SP tile log whose key FILE names. Needs no ledger. Exit code 4: a fork, a rollback, a changed entry.
    """
    with progress("reading") as on_progress:
        seen = ledger.monitor_log(where, trust=trust, state=state, on_progress=on_progress)
    now = seen.checkpoint
    if form == "json":
        write_json(seen.document())
    else:
        before = "first visit" if seen.before is None else f"{seen.before.size:,} entries before"
        cosigned = f"cosigned by {', '.join(seen.witnesses)}" if seen.witnesses else "no cosignature of a witness that is trusted"
        click.echo(shown(f"{now.origin}: {before}, {now.size:,} now, root {now.root.hex()}; {cosigned}"))
    if seen.before is None:
        click.echo("hint: nothing was seen before, so that nothing could be compared: keep the state", err=True)
    click.echo("whole: the published entries are those that were signed", err=True)


@command.command("cosign", epilog="Example: consent log cosign --witness https://witness.example.org")
@click.option("--witness", "witnesses", multiple=True, required=True, metavar="URL", help="May be repeated.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, 3600, min_open=True),
    default=10,
    show_default=True,
    metavar="SECONDS",
    help="How long all of them together have.",
)
@click.pass_obj
def cosign(ledger_path: Path | None, witnesses: tuple[str, ...], timeout: float) -> None:
    """Have witnesses cosign the log's head (C2SP tlog-witness), and keep what they answer for `consent log publish`.

    Exit code 1: fewer than the quorum of the ledger's trust file. Exit code 4: a witness has seen another log.
    """
    with ledger.open(ledger_path) as book:
        cosigned = ledger.cosign_log(book, witnesses, timeout=timeout)
    for url, why in cosigned.missing:
        click.echo(f"warning: {shown(url)}: {shown(why)}", err=True)
    names = ", ".join(map(shown, cosigned.witnesses)) or "nobody"
    click.echo(f"the checkpoint of {cosigned.size:,} entries is cosigned by {names}", err=True)
    if not cosigned.enough:
        kept = "what was collected is kept" if cosigned.kept else "an earlier checkpoint, which enough have cosigned, is kept"
        raise ConsentLedgerError(
            f"that is not enough; {kept}", hint="run it again once the others answer, or name more witnesses: --witness URL"
        )
