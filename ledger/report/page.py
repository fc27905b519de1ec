"""The report as one HTML file that loads nothing: style, scripts and signed documents stand in it, under a policy of its own."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ledger.consent import split_purpose
from ledger.report import chart, words
from ledger.report.facts import Facts, counted
from ledger.report.figures import figures

SCRIPTS = ("log.js", "statements.js", "figures.js", "shown.js", "check.js")
ONE_MONTH = timedelta(days=30)
"""GDPR, Article 12(3): a request is answered within one month."""


def html(facts: Facts) -> str:
    shown = figures(facts)
    style = _source("report.css")
    scripts = [_source(name).replace("STYLE_SHA256", sha256(style.encode()).hexdigest()) for name in SCRIPTS]
    policy = (
        f"default-src 'none'; script-src {' '.join(map(_hash, scripts))}; style-src {_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    references = list(facts.purposes)
    return (
        _environment()
        .get_template("report.html")
        .render(
            facts=facts,
            figures=shown,
            figure=_figures(shown),
            bar=_bars(shown),
            policy=policy,
            style=Markup(style),  # noqa: S704 - own files
            scripts=[Markup(script) for script in scripts],  # noqa: S704
            evidence=_embedded(
                {
                    "statements": [run.text for run in facts.runs],
                    "purposes": [declared.receipt for declared in facts.purposes.values()],
                }
            ),
            purpose_of=lambda run: references.index(run.record.purpose),
            token_of=lambda reference: split_purpose(reference)[0],
            over_time=lambda token: Markup(chart.over_time(facts.acts[token], f"time-{list(facts.acts).index(token)}")),  # noqa: S704
            points=lambda token: chart.table(facts.acts[token]),
            counted=counted,
            one_month=ONE_MONTH,
            words=words,
        )
    )


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("ledger.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


@cache
def _source(name: str) -> str:
    return files("ledger.report").joinpath("templates", name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _embedded(document: Mapping[str, Any]) -> Markup:
    """JSON inside an element: nothing in it ends the element or begins another."""
    text = json.dumps(document, ensure_ascii=True, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704


def _figures(shown: Mapping[str, str]) -> Any:
    """figure(NAME): what is signed, marked so that the check finds it."""

    def figure(name: str, tag: str = "span") -> Markup:
        return Markup('<{0} data-figure="{1}">{2}</{0}>').format(Markup(tag), name, shown[name])  # noqa: S704 - a tag of the template

    return figure


def _bars(shown: Mapping[str, str]) -> Any:
    """bar(PART, WHOLE, KIND): as long as the one figure is a part of the other. KIND: its class."""

    def bar(part: str, whole: str, kind: str) -> Markup:
        number = {name: int(shown[name].replace(",", "")) for name in (part, whole)}
        length = 100 * number[part] / number[whole] if number[whole] else 0.0
        return Markup(
            '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
            '<rect class="{}" data-part="{}" data-whole="{}" width="{:.3f}" height="10"/></svg>'
        ).format(kind, part, whole, length)

    return bar
