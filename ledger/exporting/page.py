"""The export's page and its README, out of `templates/`: escaped, without scripts, and loading nothing."""

from __future__ import annotations

import re
from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ledger.consent import Event, Purpose
from ledger.exporting import words
from ledger.exporting.gathering import Gathered
from ledger.report.words import moment, visible

_LINK = re.compile(r"https?://[\x21-\x7e]+")


def html(found: Gathered) -> str:
    style = _source("export.css")
    policy = f"default-src 'none'; style-src 'sha256-{_digest(style)}'; base-uri 'none'; form-action 'none'"
    return (
        _environment()
        .get_template("export.html")
        .render(found=found, style=Markup(style), policy=policy, notice_of=_notice_of(found), link=_link)  # noqa: S704 - own file
    )


def readme(found: Gathered) -> str:
    """Not HTML: nothing in it is escaped, and all that is not ours is shown on its line."""
    template = _environment().overlay(autoescape=False).get_template("README.txt")
    return template.render(found=found)


def _notice_of(found: Gathered) -> object:
    """notice(event): the text that was shown, None where it is no text."""

    def notice(event: Event) -> str | None:
        try:
            return None if event.notice_sha256 is None else found.notices[event.notice_sha256].decode()
        except UnicodeDecodeError:
            return None

    return notice


def _link(purpose: Purpose) -> str | None:
    """Where a person can say no; nothing but an address of the web, as what stands there is the declarer's."""
    return purpose.withdraw_url if purpose.withdraw_url and _LINK.fullmatch(purpose.withdraw_url) else None


def _multiline(text: str) -> str:
    """A notice as it was shown, in its own lines."""
    return "\n".join(map(visible, text.replace("\r\n", "\n").split("\n")))


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("ledger.exporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {"moment": moment, "visible": visible, "multiline": _multiline}
    made.globals["words"] = words
    return made


@cache
def _source(name: str) -> str:
    return files("ledger.exporting").joinpath("templates", name).read_text("utf-8")


def _digest(text: str) -> str:
    return b64encode(sha256(text.encode()).digest()).decode()
