"""Ask links and forms: what they hold comes back, and nothing else opens as one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ledger
from ledger import asks, times, tokens
from ledger.asks import Ask, Form, mint, new_form, origin_of, site_of
from ledger.consent import Purpose
from ledger.errors import InvalidEvent, UsageError, VerificationError
from ledger.web.notice import notice_of
from ledger.web.words import languages

KEYS = [bytes(range(64)), bytes(64)]
IDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60)
TOKENS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,20}", fullmatch=True)
WHEN = datetime(2026, 5, 1, tzinfo=UTC)


@given(IDS, st.lists(TOKENS, min_size=1, max_size=20, unique=True), st.datetimes(timezones=st.just(UTC)), st.booleans())
def test_what_a_link_names_comes_back(subject: str, purposes: list[str], when: datetime, back: bool) -> None:
    ask = Ask(subject_id=subject, purposes=tuple(purposes), expires_at=when, return_url="https://a.example/x?y" if back else None)
    assert Ask.open(ask.seal(KEYS, "o"), KEYS, "o") == ask


def test_a_link_is_no_form_nor_a_link_of_another_kind_or_ledger() -> None:
    ask = Ask(subject_id="ann", purposes=("p",), expires_at=WHEN).seal(KEYS, "o")
    form = new_form(ask, purpose="p@1", language="en", shown="0" * 64, seen=7).seal(KEYS, "o")
    assert Form.open(form, KEYS, "o").seen == 7
    for use in ("no only", "ask form", ""):
        with pytest.raises(VerificationError):
            tokens.unseal(ask, KEYS, origin="o", use=use)
    with pytest.raises(VerificationError):
        Ask.open(form, KEYS, "o")
    with pytest.raises(VerificationError):
        Form.open(ask, KEYS, "o")
    with pytest.raises(VerificationError):
        Ask.open(ask, KEYS, "another")
    with pytest.raises(VerificationError):
        Ask.open(tokens.seal("0\0ann\0\0p", KEYS, origin="o", use="no only"), KEYS, "o")


def test_each_form_says_its_own_yes() -> None:
    forms = [new_form("link", purpose="p@1", language="en", shown="0" * 64, seen=7) for _ in range(50)]
    assert len({form.event_id for form in forms}) == 50
    opened = Form.open(forms[0].seal(KEYS, "o"), KEYS, "o")
    assert opened.event_id == forms[0].event_id


def test_a_minted_link_opens_and_ends(book: ledger.Ledger) -> None:
    before = times.now()
    url = mint(book, "ann", ["train-ai"], url="https://consent.example.org/")
    assert url.startswith("https://consent.example.org/ask/") and "ann" not in url
    ask = Ask.open(urlsplit(url).path.rpartition("/")[2], book.folder.link_keys(), book.origin)
    assert (ask.subject_id, ask.purposes, ask.return_url) == ("ann", ("train-ai",), None)
    assert before + asks.VALID <= ask.expires_at <= times.now() + asks.VALID


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"purposes": []}, "1 to 20"),
        ({"purposes": ["train-ai"] * 2}, "each once"),
        ({"purposes": [f"p{n}" for n in range(21)]}, "1 to 20"),
        ({"purposes": "train-ai"}, "1 to 20"),
        ({"purposes": ["*"]}, "not declared"),
        ({"purposes": ["train-ai@1"]}, "not declared"),
        ({"purposes": ["train"]}, "not declared"),
        ({"valid": timedelta(0)}, "24h"),
        ({"valid": timedelta(hours=25)}, "24h"),
        ({"valid": -timedelta(days=1)}, "24h"),
        ({"subject_id": ""}, "empty"),
        ({"subject_id": "a\0b"}, "NUL"),
        ({"subject_id": "x" * 513}, "512"),
        ({"url": "http://consent.example.org"}, "https"),
        ({"url": "javascript:alert(1)//"}, "no address"),
        ({"return_url": "http://app.example.org/"}, "https"),
        ({"return_url": "https://app.example.org/" + "x" * 500}, "no address"),
    ],
)
def test_a_link_that_makes_no_sense_is_refused(book: ledger.Ledger, changed: dict[str, Any], why: str) -> None:
    said: dict[str, Any] = {"subject_id": "ann", "purposes": ["train-ai"], "url": "https://c.example.org", **changed}
    with pytest.raises((UsageError, InvalidEvent), match=why):
        mint(book, said.pop("subject_id"), said.pop("purposes"), **said)


def test_what_has_no_room_in_a_link_is_refused(book: ledger.Ledger) -> None:
    long = [f"{n:02}" + "x" * 90 for n in range(20)]
    for token in long:
        book.declare_purpose(token, title="t", description="d")
    assert mint(book, "x" * 512, long[:9], url="https://c.example.org")
    with pytest.raises(UsageError, match="fit"):
        mint(book, "ann", long, url="https://c.example.org")


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://a.example", "https://a.example"),
        ("https://a.example:443/x", "https://a.example"),
        ("https://a.example:8443", "https://a.example:8443"),
        ("http://localhost:3000/back?x=1#y", "http://localhost:3000"),
        ("http://127.0.0.1", "http://127.0.0.1"),
    ],
)
def test_origins(url: str, origin: str) -> None:
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    "url",
    [
        "http://a.example",
        "https://",
        "https://*.example",
        "*",
        "'self'",
        "https://a.example; script-src *",
        "https://a.example https://b.example",
        "https://a.example,b.example",
        "https://user@a.example",
        "https://a.example@b.example/",
        "https://a.example\\@b.example/",
        "https://a.example:0",
        "https://a.example:x",
        "https://A.example",
        "https://ä.example",
        "https://[::1]",
        "https://a.example\n",
        'https://a.example/"onclick="x',
        "https://a.example/<b>",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "data:text/html,x",
        "//a.example",
        "",
    ],
)
def test_no_origins(url: str) -> None:
    for check in (origin_of, site_of):
        with pytest.raises(UsageError):
            check(url)


@given(st.text(max_size=60))
def test_whatever_passes_as_a_site_is_one_word_of_a_policy(text: str) -> None:
    for given_text in (text, "https://" + text, "http://localhost" + text):
        try:
            found = site_of(given_text)
        except UsageError:
            continue
        assert not set(found) & set(" ;,*'\"\t\r\n") and found.isascii()


def test_a_site_has_no_path() -> None:
    assert site_of("https://a.example:443") == "https://a.example"
    for text in ("https://a.example/", "https://a.example/x", "https://a.example?x"):
        with pytest.raises(UsageError, match="more than"):
            site_of(text)


def test_the_command_prints_an_address(book: ledger.Ledger, consent: Any) -> None:
    said = consent("--ledger", book.folder.path, "ask", "ann", "--purpose", "train-ai", "--valid", "1h")
    assert said.code == 0 and said.out.startswith("http://127.0.0.1:8080/ask/") and said.out.count("\n") == 1
    ask = Ask.open(said.out.strip().rpartition("/")[2], book.folder.link_keys(), book.origin)
    assert timedelta(minutes=59) < ask.expires_at - times.now() <= timedelta(hours=1)
    assert consent("--ledger", book.folder.path, "ask", "ann", "--purpose", "nothing").code == 2
    assert consent("--ledger", book.folder.path, "ask", "ann", "--purpose", "train-ai", "--valid", "2d").code == 2


FULL = Purpose(
    token="train-ai",
    version=2,
    title="Train <b>",
    description="Why & how",
    categories=("post", "photo"),
    recipients=("A", "B"),
    controller="Labs",
    contact="us@example.org",
    retention="a year",
    withdraw_url="https://labs.example/no",
)


@pytest.mark.parametrize("tag", languages())
def test_the_text_is_all_that_the_purpose_says(tag: str) -> None:
    words = languages()[tag]
    text = notice_of(FULL, words).text().decode()
    for part in ("Train <b>", "Why & how", "photo, post", "A; B", "Labs, us@example.org", "a year", "https://labs.example/no"):
        assert text.count(part) == 1, part
    assert notice_of(FULL, words).sha256 == notice_of(FULL, words).sha256


@pytest.mark.parametrize(
    "field", ["title", "description", "categories", "recipients", "controller", "contact", "retention", "withdraw_url"]
)
def test_every_field_that_a_person_goes_by_is_in_the_digest(field: str) -> None:
    fields = {name: getattr(FULL, name) for name in FULL.__slots__ if name != "accepts"}
    for value in (("other",) if field in ("categories", "recipients") else "other", () if field[-1] == "s" else None):
        if value is None and field in ("title", "description"):
            continue
        other = notice_of(Purpose(**{**fields, field: value}), languages()["en"])
        assert other.sha256 != notice_of(FULL, languages()["en"]).sha256
    assert notice_of(FULL, languages()["de"]).sha256 != notice_of(FULL, languages()["en"]).sha256
