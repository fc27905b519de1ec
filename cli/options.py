"""Options and output that several commands share."""

from __future__ import annotations

import getpass
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from warnings import catch_warnings

import click

from ledger import files, objects, times
from ledger.errors import ConsentLedgerError, UsageError

F = TypeVar("F", bound=Callable[..., Any])

PASSPHRASE_FILE = "CONSENT_LEDGER_PASSPHRASE_FILE"  # noqa: S105 - a name
PASSPHRASE = "CONSENT_LEDGER_PASSPHRASE"  # noqa: S105 - a name
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class Place(click.Path):
    """A file or folder, or an address in an object store."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return objects.place(value) if str(value).startswith(objects.SCHEME) else super().convert(value, param, ctx)


class Moment(click.ParamType[datetime]):
    """`now`, or ISO 8601 with a zone."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return times.now() if value == "now" else times.read(value)
        except ValueError as error:
            self.fail(f"{error}", param, ctx)


class Span(click.ParamType[timedelta]):
    """A length of time: `30m`, `24h`, `7d`."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        match = re.fullmatch(r"([0-9]{1,6})([mhd])", value)
        if match is None:
            self.fail(f"{value!r:.40} is no span; write for example 30m, 24h or 7d", param, ctx)
        return timedelta(**{_UNITS[match[2]]: int(match[1])})


class Share(click.ParamType[tuple[int, int]]):
    """K of N: `3/64`."""

    name = "part"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", value)
        if match is None:
            self.fail(f"{value!r:.40} is no part; write K/N, for example 3/64", param, ctx)
        return int(match[1]), int(match[2])


class Text(click.ParamType[str]):
    """Opaque text, `-` and everything else taken as it is."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)


output_format = click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="What is written to stdout."
)
trust_file = click.option(
    "--trust",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Whose keys count. Default: that of consent.toml, else of the ledger in use.",
)

workers_option = click.option("--workers", type=click.IntRange(1, 64), default=2, show_default=True, help="Shards at a time.")
run_key_option = click.option(
    "--run-key", type=click.Path(path_type=Path), metavar="FILE", help="Signs the statement. Default: the ledger's run.key."
)


def deciding_options(command: F) -> F:
    """By which answers a row is decided, and where a shard keeps its keys."""
    for option in reversed(
        [
            click.option(
                "--purpose", type=Text(), metavar="TOKEN", help="Compile the answers for this purpose from the ledger in use."
            ),
            click.option(
                "--snapshot",
                "snapshot_path",
                type=click.Path(path_type=Path),
                metavar="FILE",
                help="Take the answers from this snapshot. Default: that of consent.toml.",
            ),
            click.option(
                "--columns",
                type=Text(),
                metavar="NAME",
                help="Take --subject and what follows it from [columns.NAME] of consent.toml.",
            ),
            click.option(
                "--subject",
                multiple=True,
                type=Text(),
                metavar="COLUMN",
                help="Column of the person's id; several, or lists: all must allow.",
            ),
            click.option("--content", type=Text(), metavar="COLUMN", help="Column of the content item's id."),
            click.option(
                "--category", type=Text(), metavar="COLUMN", help="Column of the category; `=post` gives every row one."
            ),
            click.option("--created", type=Text(), metavar="COLUMN", help="Column of when the content was created."),
            click.option(
                "--created-unit", type=click.Choice(["s", "ms", "us", "ns"]), help="Unit where --created holds integers."
            ),
            click.option(
                "--subject-prefix", type=Text(), default="", metavar="P", help="Put before each subject id, as in reddit:."
            ),
            click.option("--content-prefix", type=Text(), default="", metavar="P", help="Put before each content id."),
            trust_file,
            click.option("--max-age", type=Span(), default="24h", show_default=True, help="How old the answers may be."),
            click.option("--max-source-age", type=Span(), help="How long ago each import source may have completed."),
        ]
    ):
        command = option(command)
    return command


def shard_options(command: F) -> F:
    """How filter and audit are told what to read and by which answers."""
    for option in (
        output_format,
        workers_option,
        deciding_options,
        click.argument("shards", nargs=-1, required=True, type=Place(path_type=Path), metavar="SHARD..."),
    ):
        command = option(command)
    return command


def asking(*, new: bool = False) -> Callable[[Path], str]:
    """Who is asked for the passphrases of protected keys: once for each, and only when it is to sign.

    The file that $CONSENT_LEDGER_PASSPHRASE_FILE names answers for all, else $CONSENT_LEDGER_PASSPHRASE; else whoever sits at the
    terminal, unseen. new: it is to be chosen, so that it is asked for twice.
    """

    @cache
    def ask(key: Path) -> str:
        if (told := _told()) is not None:
            return told
        try:
            if sys.stderr.isatty():
                with catch_warnings(action="error", category=getpass.GetPassWarning):  # it would be shown as it is typed
                    typed = getpass.getpass(f"{'New passphrase' if new else 'Passphrase'} of {shown(str(key))}: ")
                    if new and typed != getpass.getpass("The same again: "):
                        raise UsageError("the two passphrases differ, and nothing was changed", hint="run the command again")
                    return typed
        except (getpass.GetPassWarning, EOFError):
            pass
        raise ConsentLedgerError(
            f"{key} is protected by a passphrase, and there is no terminal to ask at"
            if not new
            else f"{key} is to be protected by a passphrase, and there is no terminal to ask at",
            hint=f"name a file that holds it, which only you may read, in {PASSPHRASE_FILE}",
        )

    return ask


def _told() -> str | None:
    """The passphrase that the environment tells, if it does."""
    if not (named := os.environ.get(PASSPHRASE_FILE)):
        return os.environ.get(PASSPHRASE) or None
    try:
        told = files.read_private(named).decode().removesuffix("\n")
    except UnicodeDecodeError:
        raise ConsentLedgerError(f"{named} is not UTF-8", hint="it holds the passphrase, and nothing else") from None
    if not told:
        raise ConsentLedgerError(f"{named} is empty", hint="it holds the passphrase, and nothing else")
    return told


def write_json(document: Any) -> None:
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def shown(text: str) -> str:
    """Foreign text for a terminal: what could move the cursor or hide is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on stderr where that is a terminal, else nothing. Yields a callback (done, total); total 0 is unknown."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    task = bar.add_task(what, total=None)

    def show(done: int, total: int) -> None:
        bar.start()  # not before there is progress: a passphrase may have to be asked for
        bar.update(task, completed=done, total=total or None)

    try:
        yield show
    finally:
        bar.stop()


def reasons_lines(counts: dict[str, int]) -> Iterator[str]:
    width = max((len(f"{n:,}") for n in counts.values()), default=0)
    for reason, n in sorted(counts.items(), key=lambda item: -item[1]):
        yield f"  {n:>{width},}  {reason}"


def columns_of(subject: tuple[str, ...], **named: Any) -> Any:
    """Columns from options. Raises UsageError without a subject."""
    from ledger import Columns

    if not subject:
        raise UsageError("no subject column is named", hint="name the column that holds the person's id, as in --subject user_id")
    return Columns(subject=subject, **named)
