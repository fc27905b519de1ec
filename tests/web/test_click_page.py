"""The page behind a link in a real browser, without JavaScript: one press says no, by mouse or keyboard; nothing bars the way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ledger
from tests.browser import barriers, screens
from tests.conftest import yes

PURPOSE = {
    "title": "Training our writing assistant",
    "description": "We train a language model on posts and captions, so that it can suggest better wording to all members.",
    "categories": ["post", "caption"],
    "controller": "Example Community e.V.",
    "contact": "privacy@example.org",
    "recipients": ["Example Compute GmbH, Frankfurt", "University of Example"],
    "retention": "24 months",
}


class Site:
    def __init__(self, book: ledger.Ledger, served: Any, browser: Any) -> None:
        self.book, self.served, self.browser = book, served, browser
        self.contexts: list[Any] = []

    def open(self, subject: str = "ann", purpose: str = "train-ai", **options: Any) -> Any:
        """The page of a link, as a browser with these options shows it."""
        options = {"java_script_enabled": False, "locale": "en-GB", **options}
        self.contexts.append(self.browser.new_context(**options))
        page = self.contexts[-1].new_page()
        page.on("request", lambda request: self.asked.append(request.url))
        self.asked: list[str] = []
        page.goto(self.book.links.make(subject, purpose=purpose, base=self.served.url))
        return page

    def clicks(self) -> list[str]:
        return [event.subject_id for _, event in self.book.events() if event.recorded_by == "web:link"]


@pytest.fixture
def site(book: ledger.Ledger, serve: Callable[..., Any], chromium: Any) -> Iterator[Site]:
    book.declare_purpose("train-ai", **PURPOSE)
    book.record(yes("ann"))
    made = Site(book, serve(book.folder.path), chromium)
    yield made
    for context in made.contexts:
        context.close()


def test_one_press_of_the_one_button_says_no(site: Site) -> None:
    page = site.open()
    assert page.get_by_role("button").count() == 1
    for text in (PURPOSE["title"], PURPOSE["description"], PURPOSE["controller"], *PURPOSE["recipients"], "caption", "24 months"):
        assert page.get_by_text(text, exact=True).is_visible()
    assert page.get_by_text("Models that were already trained stay as they are").is_visible()
    assert site.clicks() == []
    page.get_by_role("button", name="Say no").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Your no is recorded"
    position = max(position for position, _ in site.book.events())
    assert f"as entry {position} of the log" in page.get_by_role("status").inner_text()
    assert page.get_by_role("button").count() == 0
    assert site.clicks() == ["ann"]
    assert all(url.startswith(site.served.url) for url in site.asked), "nothing comes from elsewhere"
    page.reload()
    assert page.get_by_role("status").is_visible()
    assert site.clicks() == ["ann"]


def test_by_keyboard_alone(site: Site) -> None:
    page = site.open()
    page.keyboard.press("Tab")
    focused = page.locator(":focus")
    assert focused.inner_text() == "Say no", "it is the first thing that one comes to"
    page.keyboard.press("Enter")
    page.get_by_role("status").wait_for()
    assert site.clicks() == ["ann"]
    page.keyboard.press("Tab")
    assert page.locator(":focus").inner_text() == "Keep the receipt"


def test_the_receipt_is_kept(site: Site, tmp_path: Path) -> None:
    page = site.open()
    page.get_by_role("button").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Keep the receipt").click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    assert path.name == "consent-receipt.json"
    assert json.loads(path.read_bytes())["event"]["subject_id"] == "ann"
    assert ledger.verify(path, trust=site.book.folder.path / "trust").checked


def test_in_another_language_before_and_after(site: Site) -> None:
    page = site.open()
    page.get_by_role("link", name="Deutsch").click()
    assert page.locator("html").get_attribute("lang") == "de"
    page.get_by_role("button", name="Nein sagen").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Ihr Nein ist festgehalten"
    page.get_by_role("link", name="English").click()
    assert page.get_by_role("button", name="Say no").is_visible()
    assert site.clicks() == ["ann"]


def test_nothing_bars_the_way(site: Site) -> None:
    for language, scheme, name in (
        ("en", "light", "click"),
        ("de", "light", "click-de"),
        ("en", "dark", "click-dark"),
        ("de", "dark", None),
    ):
        page = site.open(name or "bob", color_scheme=scheme, locale=language, java_script_enabled=True)  # for axe-core alone
        assert page.locator("html").get_attribute("lang") == language
        for what in ("", "-done"):
            assert barriers(page) == []
            if name is not None:
                screens(page, name + what)
            page.set_viewport_size({"width": 320, "height": 640})
            assert page.evaluate("document.documentElement.scrollWidth") <= 320
            if not what:
                page.get_by_role("button").click()
                page.get_by_role("status").wait_for()
        page.goto(f"{site.served.url}/no/nowhere")
        assert barriers(page) == []


def test_a_purposes_texts_are_texts(site: Site) -> None:
    hostile = "<script>document.title='owned'</script><b>bold</b>"
    site.book.declare_purpose(
        "hostile", title=hostile, description=hostile + "x" * 3000, recipients=[hostile], retention="ü" * 900
    )
    page = site.open(purpose="hostile", java_script_enabled=True, viewport={"width": 320, "height": 640})
    for _ in range(2):
        assert page.locator("main script, main b").count() == 0
        assert "owned" not in page.evaluate("document.title").replace(hostile, "")
        assert page.get_by_text(hostile).first.is_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        if page.get_by_role("button").count():
            page.get_by_role("button").click()
            page.get_by_role("status").wait_for()
    assert site.clicks() == ["ann"]
