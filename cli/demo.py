"""`consent demo`: the whole story on shards that it makes, every command really run."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import zipfile
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import click

from ledger.errors import ConsentLedgerError

PEOPLE = ("ann", "bob", "cem", "dee", "eve", "fay")
ACTS = """event_id,state,subject_id,category,content_id,purposes,occurred_at,channel
a1,given,ann,,,train-ai,{0},web
a2,given,bob,,,train-ai,{0},web
a3,withdrawn,bob,,post-00007,train-ai,{1},one-click
a4,given,cem,,,train-ai,{0},web
a5,withdrawn,cem,,,*,{1},one-click
a6,refused,dee,,,train-ai,{0},web
a7,given,eve,,,train-ai,{0},web
"""


@click.command(epilog="Example: consent demo")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A new folder to keep it all in. Default: one that is removed.",
)
def command(folder: Path | None) -> None:
    """Tell the whole story: record, filter, audit, withdraw, prove, and catch a tampered copy."""
    if folder is not None:
        folder.mkdir(parents=True)
        _tell(folder.resolve())
        return
    with tempfile.TemporaryDirectory(prefix="consent-demo-") as temporary:
        _tell(Path(temporary))


def _tell(folder: Path) -> None:
    where = Path.cwd()
    os.chdir(folder)
    known = os.environ.pop("CONSENT_LEDGER", None)
    try:
        _story()
    finally:
        os.chdir(where)
        if known is not None:
            os.environ["CONSENT_LEDGER"] = known


def _story() -> None:
    keys = "--subject user_id --content post_id"
    _say("A ledger is a folder: a database, a signed log, keys.")
    _run("init", 0)
    _say("Before anyone can agree, the purpose is declared, and with it who gets the data.")
    _run(
        "purpose add train-ai --title 'Train our model' --description 'Posts train a language model'"
        " --controller 'Example Forum' --contact privacy@forum.example --recipient 'Example Labs' --retention 'two years'",
        0,
    )

    _shards()
    days = [datetime.now(UTC) - timedelta(days=n) for n in (9, 2)]
    Path("acts.csv").write_text(ACTS.format(*(day.isoformat(timespec="seconds") for day in days)), encoding="utf-8")
    _say(
        "Seven acts of five people: ann, bob, cem and eve said yes; bob took one post back, cem everything; dee refused.\n"
        "Nobody ever heard of fay. Silence is no."
    )
    _run("import acts.csv", 0)
    _say("The raw shards hold posts of all six, so the audit says no: exit code 3.")
    _run(f"audit raw --purpose train-ai {keys}", 3)
    _say("Filtering keeps what is allowed, and signs what it did.")
    _run(f"filter raw -o train --purpose train-ai {keys}", 0)
    _run(f"audit train --purpose train-ai {keys}", 0)
    _say("Eve changes her mind. No login, no form, no reasons.")
    _run("withdraw eve", 0)
    _say("What was clean is clean no more: exit code 3.")
    _run(f"audit train --purpose train-ai {keys}", 3)
    _run(f"filter raw -o train --purpose train-ai {keys}", 0)
    _say("A link in Ann's mail lets her say no with one click, and nothing else; `consent serve` is what answers it.")
    _run("link ann --purpose train-ai", 0)
    _say("Ann wants proof of her act; it verifies alone, with nothing but the trust file.")
    _run("receipt a1 -o ann.json", 0)
    _run("verify ann.json --trust consent-ledger/trust", 0)
    _say("An auditor checks the finished shards the same way: signature, log, every digest.")
    _run("verify train --trust consent-ledger/trust", 0)
    _say("The log is published, commitments alone, so that others can watch that nothing in it is changed or taken back.")
    _run("log publish site", 0)
    _run("log monitor site --trust consent-ledger/trust --state seen", 0)
    _say("Dee asks what became of her posts: an export of all that is known of her, with the proof that none is in the release.")
    if find_spec("jinja2") is None:
        click.echo("(left out here: an export has a page, which needs the extra `web`)")
    else:
        _run("export dee -o dee.zip --run train", 0)
        _say("Whoever gets it needs nothing but Python, and a trust file from elsewhere.")
        _check("dee.zip")
    _say("Cem wants to be forgotten. What opens their entries is gone; the log goes on, and watches as before.")
    _run("erase cem --yes", 0)
    _run("log publish site", 0)
    _run("log monitor site --trust consent-ledger/trust --state seen", 0)
    _say("The old file again: nobody who was erased says yes by it.")
    _run("import acts.csv", 0)
    _say("Somebody swaps one byte of a shard. Refused: exit code 4.")
    shard = next(Path("train").glob("*.parquet"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    _run("verify train --trust consent-ledger/trust", 4)
    _say("And the ledger itself is what it signed.")
    _run("fsck", 0)
    _say("That is all of it: ask first, one act to say no, a stated purpose, and control that can be proved.")


def _shards() -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    Path("raw").mkdir()
    for number in range(2):
        ids = range(number * 6000, (number + 1) * 6000)
        pq.write_table(
            pa.table(
                {
                    "user_id": [PEOPLE[i % len(PEOPLE)] for i in ids],
                    "post_id": [f"post-{i:05d}" for i in ids],
                    "text": [f"What {PEOPLE[i % len(PEOPLE)]} wrote, number {i}" for i in ids],
                }
            ),
            f"raw/posts-{number}.parquet",
            compression="zstd",
            row_group_size=2000,
        )


def _say(text: str) -> None:
    click.echo("\n" + click.style("\n".join(f"# {line}" for line in text.splitlines()), bold=True))


def _check(file: str) -> None:
    """With the verifier that comes in an export, as a program of its own."""
    with zipfile.ZipFile(file) as archive:
        Path("verify.py").write_bytes(archive.read("verify.py"))
    click.echo(click.style(f"$ python3 verify.py --trust consent-ledger/trust {file}", fg="cyan"))
    command = (sys.executable, "-I", "-S", "verify.py", "--trust", "consent-ledger/trust", file)
    code = subprocess.run(command, check=False).returncode  # noqa: S603 - our own file
    if code:
        raise ConsentLedgerError(f"verify.py ended with {code}", hint="this is a bug: please report it")
    click.echo(f"[exit {code}]")


def _run(line: str, expected: int) -> None:
    from ledger.cli import run

    click.echo(click.style(f"$ consent {line}", fg="cyan"))
    code = run(shlex.split(line))
    if code != expected:
        raise ConsentLedgerError(
            f"`consent {line}` ended with {code} where the story has {expected}", hint="this is a bug: please report it"
        )
    click.echo(f"[exit {code}]")
