"""The pages' words: one file a language in `words/`, named by its tag (`de.toml`, `pt-BR.toml`). English is the measure.

A file is a table of texts in the sections and keys of `en.toml`. Texts may have `{places}` that a page fills in; what fills
them is escaped there.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

DEFAULT = "en"
_RANGE = re.compile(r"\s*([A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8}){0,3}|\*)\s*(?:;\s*q=([01](?:\.[0-9]{0,3})?)\s*)?")
_MAX_HEADER = 1000


@dataclass(frozen=True)
class Words:
    """language: a BCP 47 tag. name: as its speakers call it. texts: section -> key -> text."""

    language: str
    name: str
    texts: Mapping[str, Mapping[str, str]]

    def __getitem__(self, section: str) -> Mapping[str, str]:
        return self.texts[section]


@cache
def languages() -> Mapping[str, Words]:
    """By tag, English first, then by tag."""
    found = {}
    for file in resources.files(__package__).joinpath("words").iterdir():
        if file.name.endswith(".toml"):
            tag, texts = file.name.removesuffix(".toml"), tomllib.loads(file.read_text("utf-8"))
            found[tag] = Words(tag, texts.pop("name"), texts)
    return dict(sorted(found.items(), key=lambda item: (item[0] != DEFAULT, item[0])))


def pick(asked: str | None, accepted: str | None) -> Words:
    """asked: a tag that the reader chose, which comes first. accepted: an Accept-Language header (RFC 9110 §12.5.4).

    A language that is not there is looked up without its region (RFC 4647 §3.4), and English is for the rest.
    """
    for wanted in ([asked] if asked else []) + _accepted((accepted or "")[:_MAX_HEADER]):
        if (found := _lookup(wanted)) is not None:
            return found
    return languages()[DEFAULT]


def _accepted(header: str) -> list[str]:
    ranges = [match for part in header.split(",") if (match := _RANGE.fullmatch(part))]
    weighted = [(float(match[2]) if match[2] else 1.0, match[1]) for match in ranges]
    return [tag for weight, tag in sorted(weighted, key=lambda pair: -pair[0]) if weight > 0]


def _lookup(tag: str) -> Words | None:
    by_folded = {name.lower(): words for name, words in languages().items()}
    if tag == "*":
        return languages()[DEFAULT]
    folded = tag.lower()
    while folded:
        if folded in by_folded:
            return by_folded[folded]
        folded = folded.rpartition("-")[0]
    return None
