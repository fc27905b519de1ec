"""What tests of the consent page share: links, and the page as a client reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import ledger
from ledger import times
from ledger.asks import Ask, mint
from ledger.consent import Event, Row, decide


def path_of(book: ledger.Ledger, subject: str, purposes: Sequence[str] = ("train-ai",), **options: Any) -> str:
    """/ask/TOKEN"""
    return mint(book, subject, list(purposes), url="https://c.example.org", **options).removeprefix("https://c.example.org")


def run_out(book: ledger.Ledger, subject: str, purposes: Sequence[str] = ("train-ai",)) -> str:
    ask = Ask(subject_id=subject, purposes=tuple(purposes), expires_at=times.now() - timedelta(microseconds=1))
    return "/ask/" + ask.seal(book.folder.link_keys(), book.origin)


@dataclass
class Section:
    notice: str = ""
    said: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)

    def press(self, answer: str) -> dict[str, str]:
        return {**self.fields, "answer": answer}


class Page(HTMLParser):
    """sections: in order. notice: the text of a section's notice; said: the section's other text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sections: list[Section] = []
        self.inputs: list[dict[str, str | None]] = []
        self.scripts = 0
        self._in: list[str] = []
        self._depth = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.scripts += tag == "script" or any(name.startswith("on") for name in given)
        if tag == "section":
            self.sections.append(Section())
            self._in.append("section")
        elif tag == "div" and "section" in self._in:
            self._in.append("notice" if given.get("class") == "notice" else "div")
        elif tag == "input":
            self.inputs.append(given)
            self.sections[-1].fields[given["name"] or ""] = given["value"] or ""
        elif tag == "button":
            self.sections[-1].buttons.append((given["name"] or "", given["value"] or ""))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("section", "div") and self._in:
            self._in.pop()

    def handle_data(self, data: str) -> None:
        if "notice" in self._in:
            self.sections[-1].notice += " " + data
        elif "section" in self._in:
            self.sections[-1].said += " " + data


def words_in(text: str) -> str:
    return " ".join(text.split())


def states(book: ledger.Ledger, subject: str) -> list[str]:
    return [event.state for _, event in book.events_of([subject])]


def allowed(book: ledger.Ledger, subject: str, token: str = "train-ai") -> bool:
    """By the reference rule, over all that is recorded."""
    purpose = [p for p in book.purposes() if p.token == token][-1]
    events: list[Event] = [event for _, event in book.events_of([subject])]
    kind = purpose.categories[0] if purpose.categories else None
    now = book.read(lambda history: history.now())
    return decide(Row([subject], kind, "an item", now), events, purpose, now) == "allowed"
