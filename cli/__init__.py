"""`consent`: a client of the public names of `ledger`. One file a command, each imported only when it runs.

Data goes to stdout; progress, verdict and `error:` / `hint:` lines to stderr. Exit codes: 0 done, compliant, verified;
1 operation failed, nothing is known; 2 usage; 3 rows without consent were found, or a limit is exceeded; 4 integrity failure;
130 interrupted.
"""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from pathlib import Path

import click

from ledger.errors import ConsentLedgerError

COMMANDS = {
    "init": "init",
    "purpose": "purpose",
    "notice": "notice",
    "record": "record",
    "withdraw": "withdraw",
    "ask": "ask",
    "import": "import_",
    "show": "show",
    "events": "events",
    "status": "status",
    "snapshot": "snapshot",
    "fetch": "fetch",
    "filter": "filter",
    "select": "select",
    "audit": "audit",
    "attest": "attest",
    "explain": "explain",
    "receipt": "receipt",
    "export": "export",
    "verify": "verify",
    "admit": "admit",
    "report": "report",
    "log": "log",
    "fsck": "fsck",
    "copy": "copy",
    "erase": "erase",
    "backup": "backup",
    "link": "link",
    "serve": "serve",
    "key": "key",
    "demo": "demo",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(f"ledger.cli.{COMMANDS[name]}").command
        return command


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Example: consent demo",
)
@click.option(
    "--ledger",
    "ledger_path",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The ledger's folder. Default: $CONSENT_LEDGER, else ./consent-ledger.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="consent-ledger")
@click.pass_context
def cli(ctx: click.Context, ledger_path: Path | None, debug: bool) -> None:
    """Record who said yes, filter Parquet shards by it, and prove it. Silence is no."""
    ctx.obj = ledger_path


class _WithoutPandas:
    """pyarrow imports pandas, where it is installed, at almost any call: 0.4 s, and no command has a use for it."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError(f"no command needs {fullname}", name=fullname)


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit with its code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    # Neither libraries nor rows by the hundred thousand are garbage: looking for it among them takes a tenth of a command.
    gc.set_threshold(1_000_000, 20, 50)
    sys.meta_path.insert(0, _WithoutPandas())
    code = run(arguments)
    # Nor is what is left at the end, which Python looks through once more: a tenth of a second, where libraries were loaded.
    if "duckdb" not in sys.modules:  # it tells on stderr of whatever it was not given back
        gc.freeze()
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run a command; its exit code."""
    debug = "--debug" in arguments
    try:
        result = cli.main(arguments, prog_name="consent", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        click.echo(f"error: {error.format_message()}", err=True)
        if isinstance(error, click.UsageError):
            click.echo(f"hint: {error.ctx.command_path if error.ctx else 'consent'} --help", err=True)
            return 2
        return 1
    except ConsentLedgerError as error:
        if debug:
            raise
        click.echo(f"error: {_shown(str(error))}", err=True)
        if error.hint:
            click.echo(f"hint: {_shown(error.hint)}", err=True)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("error: interrupted", err=True)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except Exception as error:
        if debug:
            raise
        click.echo(f"error: unexpected {type(error).__name__}: {_shown(str(error))}", err=True)
        click.echo("hint: run it again with --debug for the traceback; nothing may be concluded from this run", err=True)
        return 1


def _shown(message: str) -> str:
    """A message may hold names and values of others; its own lines stay lines."""
    from ledger.cli.options import shown

    return "\n".join(map(shown, message.split("\n")))
