"""`consent link` and `consent key new-link`, as a person runs them."""

from __future__ import annotations

import csv
import io
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

import ledger
from tests.cli.conftest import tree
from tests.conftest import Outcome

Refused = Callable[..., Outcome]
URL = re.compile(r"http://127\.0\.0\.1:8080/no/[A-Za-z0-9_-]+\n")


def test_one_link(told: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = told("link", "ann", "--purpose", "train-ai")
    assert (outcome.code, outcome.err) == (0, "")
    assert URL.fullmatch(outcome.out)
    assert told("link", "ann", "--purpose", "train-ai").out == outcome.out
    monkeypatch.setenv("CONSENT_URL", "https://consent.example.org/")
    other = told("link", "ann", "--purpose", "train-ai")
    assert other.out == outcome.out.replace("http://127.0.0.1:8080", "https://consent.example.org") and other.err == ""


def test_what_a_link_should_not_be_is_warned_of(told: Callable[..., Outcome]) -> None:
    unknown = told("link", "Ann", "--purpose", "train-ai")
    assert unknown.code == 0 and "differs from 'Ann' only in case" in unknown.err
    plain = told("link", "ann", "--purpose", "train-ai", "--url", "http://consent.example.org")
    assert plain.code == 0 and "plain HTTP" in plain.err and "https" in plain.err
    for base in ("http://[::1]:80", "http://localhost", "https://x"):
        assert told("link", "ann", "--purpose", "train-ai", "--url", base).err == ""


def test_a_table(told: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text('mail,subject_id\na@x.org,ann\n"b, c@x.org",bob\n')
    outcome = told("link", "--from", "people.csv", "-o", "links.csv", "--purpose", "train-ai", "--url", "https://c.example.org")
    assert (outcome.code, outcome.out) == (0, "")
    assert "2 links in links.csv" in outcome.err and "1 are for ids of which the ledger has no act" in outcome.err
    text = (tmp_path / "links.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [*rows[0]] == ["mail", "subject_id", "url", "List-Unsubscribe", "List-Unsubscribe-Post"]
    assert rows[1]["mail"] == "b, c@x.org"
    assert stat.S_IMODE((tmp_path / "links.csv").stat().st_mode) == 0o600
    again = told("link", "--from", "people.csv", "-o", "links.csv", "--purpose", "train-ai", "--url", "https://c.example.org")
    assert again.code == 0 and (tmp_path / "links.csv").read_text() == text


def test_revoking(told: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = told("link", "ann", "--purpose", "train-ai").out.strip()
    outcome = told("link", "--revoke", link)
    assert (outcome.code, outcome.out) == (0, "") and "revoked: it leads nowhere now" in outcome.err
    again = told("link", "--revoke", link.rpartition("/")[2])
    assert again.code == 0 and "before; nothing was recorded" in again.err
    other = told("link", "ann", "--purpose", "train-ai").out.strip()
    assert other != link
    monkeypatch.setattr("sys.stdin", io.StringIO(other + "\n"))
    assert told("link", "--revoke", "-").code == 0
    with ledger.open(tmp_path / "consent-ledger") as book:
        assert len(book.read(lambda history: history.acts("link_revoked"))) == 2


def test_a_new_key(told: Callable[..., Outcome], tmp_path: Path) -> None:
    old = told("link", "ann", "--purpose", "train-ai").out
    outcome = told("key", "new-link")
    assert (outcome.code, outcome.out) == (0, "") and "stay good" in outcome.err and "copy that file" in outcome.err
    assert told("link", "ann", "--purpose", "train-ai").out != old
    path = tmp_path / "consent-ledger" / "link.key"
    assert len(path.read_text().splitlines()) == 2 and stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("arguments", "code", "says", "hint"),
    [
        ([], 2, ["either"], "SUBJECT"),
        (["ann", "--revoke", "x"], 2, ["either"], "--revoke"),
        (["ann"], 2, ["--purpose"], "train-ai"),
        (["ann", "--purpose", "train"], 2, ["'train' is not declared"], "caption, train-ai"),
        (["ann", "--purpose", "train-ai@1"], 2, ["not declared"], "all versions"),
        (["a" * 513, "--purpose", "train-ai"], 2, ["longer than 512 bytes"], "512"),
        (["ann", "--purpose", "train-ai", "-o", "x.csv"], 2, ["go together"], "people.csv"),
        (["--from", "raw/a.parquet", "--purpose", "train-ai"], 2, ["go together"], "people.csv"),
        (["--from", "raw/a.parquet", "-o", "x.csv", "--purpose", "train-ai"], 1, ["not UTF-8"], "mend"),
        (["--from", "none.csv", "-o", "x.csv", "--purpose", "train-ai"], 1, ["cannot read none.csv"], "nothing is there"),
        (["ann", "--purpose", "train-ai", "--url", "consent.example.org"], 2, ["no address"], "https://"),
        (["--revoke", "http://127.0.0.1:8080/no/abc"], 2, ["no link of this ledger"], "whole URL"),
    ],
)
def test_what_cannot_be_is_refused(
    refused: Refused, told: Callable[..., Outcome], arguments: list[str], code: int, says: list[str], hint: str
) -> None:
    told("link", "ann", "--purpose", "train-ai")  # so that there is a key
    refused("link", *arguments, code=code, says=says, hint=hint)


def test_without_a_ledger_nothing_is_made(consent: Callable[..., Outcome], tmp_path: Path) -> None:
    outcome = consent("link", "ann", "--purpose", "train-ai")
    assert outcome.code == 2 and "no ledger" in outcome.err
    assert tree(tmp_path) == {}
