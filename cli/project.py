"""What `consent.toml` adds to the options of a command. Options win, and stderr says which file had an effect."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import click
from ledger.cli.options import shown

from ledger import config
from ledger.config import Config
from ledger.errors import UsageError
from ledger.objects import Address


class Project:
    """The consent.toml of the working directory, read when it is first asked for something. Raises UsageError for a bad one."""

    def __init__(self) -> None:
        self._used: list[str] = []

    @cached_property
    def _config(self) -> Config | None:
        path = config.find()
        return None if path is None else config.load(path)

    def columns(self, name: str) -> dict[str, Any]:
        if self._config is None:
            raise UsageError(
                f"there is no {config.NAME} here or above that could have columns {name!r:.80}",
                hint="write one, or name the columns with --subject and --content",
            )
        self._used.append(f"columns {name}")
        return dict(self._config.columns_of(name))

    def imports(self, source: str) -> Mapping[str, Any] | None:
        """The table [import.SOURCE], where there is one."""
        if self._config is None or source not in self._config.imports:
            return None
        self._used.append(f"import {source}")
        return self._config.imports[source]

    def snapshot(self) -> Path | None:
        return None if self._config is None else self._take("snapshot", self._config.snapshot)

    def trust(self) -> Path | None:
        return None if self._config is None else self._take("trust", self._config.trust)

    def trust_for(self, paths: tuple[Path | Address, ...]) -> Path | None:
        """Unless one of the paths lies beside the file or below it: a bundle does not vouch for itself."""
        if self._config is None or self._config.trust is None:
            return None
        home = self._config.path.parent.resolve()
        here = [path for path in paths if isinstance(path, Path)]
        seen = [place for path in here for place in (Path(os.path.normpath(path.absolute())), path.resolve())]
        if any(place.is_relative_to(home) for place in seen):
            click.echo(f"trust of {shown(str(self._config.path))} does not count for what lies beside it", err=True)
            return None
        return self.trust()

    def say(self) -> None:
        """On stderr, what was taken."""
        if self._used and self._config is not None:
            click.echo(f"{shown(str(self._config.path))} says: {shown(', '.join(self._used))}", err=True)

    def _take(self, what: str, path: Path | None) -> Path | None:
        if path is not None:
            self._used.append(f"{what} {path}")
        return path


def names_a_ledger(ledger_path: Path | None) -> bool:
    """Whether --ledger or $CONSENT_LEDGER says which ledger is meant: its keys count then, not those of consent.toml."""
    return ledger_path is not None or bool(os.environ.get("CONSENT_LEDGER"))


def completed(
    ledger_path: Path | None,
    *,
    columns: str | None,
    purpose: str | None,
    snapshot_path: Path | None,
    trust: Path | None,
    **told: Any,
) -> dict[str, Any]:
    """The options of filter, audit and explain, with what consent.toml has for those that were not given.

    Trust is taken from it for a snapshot alone, and only where nothing says whose ledger is meant.
    """
    project = Project()
    if columns is not None:
        mapped = [name for name in config.COLUMN_KEYS if told[name]]
        if mapped:
            raise UsageError(
                f"--columns {shown(columns)} and --{mapped[0].replace('_', '-')} both say where the keys are",
                hint="leave one of them out",
            )
        told |= project.columns(columns)
    if purpose is None and snapshot_path is None:
        snapshot_path = project.snapshot()
    if trust is None and snapshot_path is not None and not names_a_ledger(ledger_path):
        trust = project.trust()
    project.say()
    return {"purpose": purpose, "snapshot_path": snapshot_path, "trust": trust, **told}
