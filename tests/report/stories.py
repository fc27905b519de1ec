"""A ledger, what people said, and real runs of the filter: what reports are made of."""

from __future__ import annotations

import html.parser
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import ledger
from tests.conftest import yes

SPOKEN = datetime(2026, 3, 1, tzinfo=UTC)
PURPOSE = {
    "title": "Train our model",
    "description": "A model that answers questions about gardening",
    "controller": "Garden Forum GmbH",
    "contact": "privacy@garden.example",
    "recipients": ["Garden Forum GmbH", "Model Lab AB"],
    "categories": ["post", "photo"],
    "retention": "24 months",
    "withdraw_url": "https://garden.example/no",
}


@dataclass
class Story:
    """book: closed with the test. train: the folder of the run; its statement stands beside it."""

    folder: Path
    book: ledger.Ledger
    train: Path

    @property
    def trust(self) -> str:
        return self.book.trust_text()

    @property
    def statement(self) -> bytes:
        return self.train.with_name(f"{self.train.name}.intoto.jsonl").read_bytes()

    @property
    def predicate(self) -> dict[str, Any]:
        return predicate_of(self.statement)

    def write(self, name: str, *runs: Path) -> Path:
        """The report in a file."""
        path = self.folder / name
        path.write_text(ledger.report_on(self.book, *(runs or [self.train])).html(), encoding="utf-8")
        return path


def predicate_of(statement: bytes) -> dict[str, Any]:
    from base64 import b64decode

    found: dict[str, Any] = json.loads(b64decode(json.loads(statement.split(b"\n")[0])["payload"]))["predicate"]
    return found


def tell(folder: Path, *, names: Sequence[str] = ("a.parquet", "b/b.parquet"), **purpose: Any) -> Story:
    """Ten people; four kinds of answer; two shards. names: of the shards."""
    book = ledger.create(folder / "consent-ledger")
    book.declare_purpose("train-ai", **{**PURPOSE, **purpose})
    book.add_notice(b"May we?", notice_id="n", language="en")
    evidence = "0" * 64
    book.record_all(
        [
            *(yes(f"u{i}", category=None, occurred_at=SPOKEN + timedelta(days=i), notice="n") for i in range(6)),
            yes("u6", evidence_sha256=evidence, occurred_at=SPOKEN),
            yes("u7", occurred_at=SPOKEN, expires_at=SPOKEN + timedelta(days=9)),
            *(
                ledger.Event(state=state, subject_id=subject, purposes=["train-ai"], occurred_at=SPOKEN + timedelta(days=30))
                for state, subject in (("withdrawn", "u0"), ("refused", "u8"), ("objected", "u9"))
            ),
        ]
    )
    people = [f"u{i}" for i in range(12)] * 3
    for name in names:
        path = folder / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = {"user_id": [*people, None], "kind": ["post", "photo", "talk"] * 12 + ["post"], "row": list(range(37))}
        pq.write_table(pa.table(rows), path, row_group_size=10)
        people = people[5:] + people[:5]
    return Story(folder, book, run(book, folder, "train"))


def run(book: ledger.Ledger, folder: Path, name: str, source: str = "raw") -> Path:
    consent = ledger.ConsentFilter(book.snapshot("train-ai"), ledger.Columns(subject="user_id", category="kind"))
    consent.filter_shards([folder / source], folder / name, key=book.run_key(), admit=book.admit)
    return folder / name


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    text: str = ""


class Page(html.parser.HTMLParser):
    """Every element of a page, in order, with its own text; a parser of its own kind, not the browser's."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs)))
        if tag not in ("meta", "input", "rect", "line", "polyline", "br"):
            self._open.append(self.elements[-1])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if self._open and self._open[-1].tag == tag:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open:
            self._open[-1].text += data

    @property
    def figures(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for element in self.elements:
            if (name := element.attributes.get("data-figure")) is not None:
                found.setdefault(name, set()).add(element.text)
        return found

    @property
    def evidence(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = json.loads(next(e for e in self.elements if e.attributes.get("id") == "evidence").text)
        return found


@dataclass
class Skeleton:
    """Tags and attribute names of a page: what data must never add to."""

    tags: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, page: Page) -> Skeleton:
        return cls([f"{e.tag} {' '.join(sorted(e.attributes))}" for e in page.elements])
