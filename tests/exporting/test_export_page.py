"""The page of an export in a real Chromium: it loads nothing, runs nothing, and has no barriers."""

from __future__ import annotations

import sys
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from committed import Committed

import ledger
from tests.browser import barriers, screens
from tests.conftest import yes
from tests.report.stories import tell


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page(chromium: Any, tmp_path: Path, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    story = tell(tmp_path)
    monkeypatch.setitem(sys.modules, "ledger.membership", Committed(story))
    story.book.record(yes("u1", content_id="photo 1", expires_at=datetime(2031, 1, 1, tzinfo=UTC), reason="I like your garden"))
    story.book.withdraw("u1", category="photo")
    for subject in ("u1", "w" * 512):
        ledger.export_subject(story.book, subject, tmp_path / "x.zip", runs=[story.train])
        with zipfile.ZipFile(tmp_path / "x.zip") as archive:
            archive.extract("index.html", tmp_path)
        look(chromium, tmp_path / "index.html", scheme, subject)
    story.book.close()


def look(chromium: Any, path: Path, scheme: str, subject: str) -> None:
    context = chromium.new_context(color_scheme=scheme)
    page = context.new_page()
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: errors.append(message.text))
    page.goto(path.as_uri())
    assert (asked, errors) == ([path.as_uri()], [])
    assert page.locator("script, img, iframe, link, object, form").count() == 0
    assert [heading.strip() for heading in page.locator("h2").all_inner_texts()] == [
        *("What was said", "What holds now", "Where their content went", "How to change it", "How to check this")
    ]
    assert page.get_by_role("link", name="https://garden.example/no").get_attribute("href") == "https://garden.example/no"
    assert barriers(page) == []
    if subject == "u1":
        page.locator("summary").first.click()
        assert page.get_by_text("May we?").is_visible()
        assert barriers(page) == []
    screens(page, f"export-{subject[:2]}" if scheme == "light" else f"export-{subject[:2]}-{scheme}")
    page.emulate_media(media="print")
    assert page.pdf()[:5] == b"%PDF-"
    context.close()
