"""A real Chromium, for the tests of pages and reports; and axe-core, which looks for barriers."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent
SCREENS = FOLDER.parents[1] / "docs" / "screens"
PHONE, DESKTOP = {"width": 375, "height": 812}, {"width": 1280, "height": 900}
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser of playwright's, for pages on loopback and files. Skips where Chromium is not installed."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_FLAGS)
        yield browser
        browser.close()


def barriers(page: Any) -> list[str]:
    """What axe-core finds against WCAG 2.2 AA and its best practices. Skips where it is not installed."""
    source = FOLDER / "node_modules" / "axe-core" / "axe.min.js"
    if not source.is_file():
        pytest.skip("axe-core is not installed: npm ci --prefix tests/browser")
    # Past the page's own policy, which lets no script in.
    session = page.context.new_cdp_session(page)
    session.send("Runtime.evaluate", {"expression": source.read_text(encoding="utf-8")})
    found = session.send(
        "Runtime.evaluate",
        {"expression": "axe.run().then(r => JSON.stringify(r.violations))", "awaitPromise": True, "returnByValue": True},
    )
    violations = json.loads(found["result"]["value"])
    return [f"{v['id']}: {v['help']} ({v['nodes'][0]['html']:.200})" for v in violations]


def screens(page: Any, name: str) -> None:
    """Keep how a page looks, at a phone's width and at a desktop's, in docs/screens; only where CONSENT_LEDGER_SCREENS is set.

    At either width nothing may lie beyond the right edge.
    """
    for what, size in (("phone", PHONE), ("desktop", DESKTOP)):
        page.set_viewport_size(size)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= size["width"], f"{name} is {width} wide on a {what}"
        if os.environ.get("CONSENT_LEDGER_SCREENS"):
            SCREENS.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=SCREENS / f"{name}-{what}.png", full_page=True)
