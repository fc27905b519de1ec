"""HTML out of templates: everything that is filled in is escaped."""

from __future__ import annotations

from functools import cache
from typing import Any

from fastapi import Request
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from ledger.web.words import Words, languages, pick


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("ledger.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,  # else each page looks four files up
    )


def words_for(request: Request) -> Words:
    """Of `?lang=`, else of the browser's languages."""
    return pick(request.query_params.get("lang"), request.headers.get("accept-language"))


def page(template: str, words: Words, status: int = 200, headers: dict[str, str] | None = None, **values: Any) -> HTMLResponse:
    """values: what the template names. It always has `words` and `languages`."""
    text = _environment().get_template(template).render(words=words, languages=languages(), **values)
    return HTMLResponse(text, status, {"content-language": words.language, "vary": "accept-language", **(headers or {})})


def style() -> bytes:
    """The one style sheet of all pages."""
    return _source("style.css")


def icon() -> bytes:
    return _source("icon.svg")


def _source(name: str) -> bytes:
    return PackageLoader("ledger.web").get_source(_environment(), name)[0].encode()
