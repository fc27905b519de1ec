"""The consent page in a real Chromium, without JavaScript: by mouse, by keyboard, on a phone, in a frame."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

import ledger
from ledger.web.words import languages
from tests.browser import barriers, screens
from tests.web.asking import allowed, path_of, run_out, states, words_in


class Site:
    """A host application, whose one page frames what it is told to. To the browser it is another site than 127.0.0.1."""

    def __init__(self) -> None:
        site = self
        self.frames = self.sandbox = ""

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                frame = f"<iframe {site.sandbox} src='{site.frames}' width=700 height=900></iframe>"
                body = f"<!doctype html><title>App</title><h1>The app</h1>{frame}"
                self.send_response(200)
                self.send_header("content-type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://localhost:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def sites() -> Iterator[tuple[Site, Site]]:
    made = Site(), Site()
    yield made
    for site in made:
        site.close()


@pytest.fixture
def asked(book: ledger.Ledger) -> ledger.Ledger:
    book.declare_purpose(
        "train-ai",
        title="Train our language model",
        description="Your posts help to train a model that writes text. It is offered to customers.",
        categories=["photo", "post"],
        recipients=["Example Labs GmbH", "Example Cloud Ltd, which runs the computers"],
        controller="Example Labs GmbH, Musterstrasse 1, Berlin",
        contact="privacy@labs.example",
        retention="two years, then your posts are removed from the training set",
    )
    book.declare_purpose(
        "search",
        title="Show your posts in search",
        description="Others find your posts in our own search.",
        controller="Example Labs GmbH, Musterstrasse 1, Berlin",
        withdraw_url="https://labs.example/settings/search",
    )
    return book


@pytest.fixture
def tab(chromium: Any) -> Iterator[Any]:
    context = chromium.new_context(java_script_enabled=False, locale="en-GB")
    yield context.new_page()
    context.close()


def _section(place: Any, number: int) -> Any:
    return place.locator("section").nth(number)


def _press(place: Any, number: int, name: str) -> None:
    _section(place, number).get_by_role("button", name=name, exact=True).click()


def _said(place: Any, number: int) -> str:
    return words_in(_section(place, number).inner_text())


_LOOKS = """buttons => buttons.map(b => {
  const r = b.getBoundingClientRect(), s = getComputedStyle(b), look = {width: Math.round(r.width), height: Math.round(r.height)};
  for (const name of ['color', 'backgroundColor', 'fontFamily', 'fontSize', 'fontWeight', 'fontStyle', 'borderTopWidth',
    'borderTopColor', 'borderTopStyle', 'borderRadius', 'padding', 'opacity', 'textDecorationLine', 'textTransform', 'boxShadow',
    'cursor', 'outlineStyle', 'visibility', 'filter', 'transform', 'letterSpacing'])
    look[name] = s[name];
  return look;
})"""


def test_two_purposes_answered_differently_then_changed(asked: ledger.Ledger, serve: Callable[..., Any], tab: Any) -> None:
    served = serve(asked.folder.path)
    path = path_of(asked, "ann", ["train-ai", "search"])
    tab.goto(served.url + path)
    assert tab.locator("input:checked, input[type=checkbox], input[type=radio], [autofocus]").count() == 0
    assert tab.locator("section").count() == tab.locator("h2").count() == 2
    _press(tab, 0, "No")
    assert tab.url == served.url + path + "#purpose-1-answer"
    _press(tab, 1, "Yes")
    assert "Your answer now: no." in _said(tab, 0) and "Your answer now: yes." in _said(tab, 1)
    assert not allowed(asked, "ann") and allowed(asked, "ann", "search")
    tab.reload()
    assert states(asked, "ann") == ["refused", "given"], "a reload presses nothing"
    _press(tab, 1, "No")
    assert "Your answer now: no." in _said(tab, 1) and not allowed(asked, "ann", "search")


def test_going_back_to_an_old_yes_after_a_no_elsewhere(asked: ledger.Ledger, serve: Callable[..., Any], tab: Any) -> None:
    served = serve(asked.folder.path)
    tab.goto(served.url + path_of(asked, "ann"))
    _press(tab, 0, "Yes")
    assert allowed(asked, "ann")
    other = tab.context.new_page()
    other.goto(served.url + path_of(asked, "ann"))
    asked.withdraw("ann")
    for tries in range(2):
        _press(other, 0, "Yes")
        if tries == 0:
            assert "was not recorded" in _said(other, 0) and not allowed(asked, "ann")
            screens(other, "ask-changed-en")
            other.reload()  # the browser sends the press again
            assert "was not recorded" in _said(other, 0) and not allowed(asked, "ann")
    assert allowed(asked, "ann"), "read again, and said again"
    assert states(asked, "ann") == ["given", "withdrawn", "given"]
    asked.withdraw("ann")
    tab.go_back()
    assert not allowed(asked, "ann")


@pytest.mark.parametrize("tag", languages())
def test_what_is_seen_is_what_is_kept(asked: ledger.Ledger, serve: Callable[..., Any], tab: Any, tag: str) -> None:
    served = serve(asked.folder.path)
    tab.goto(served.url + path_of(asked, "ann", ["train-ai", "search"]) + f"?lang={tag}")
    yes = languages()[tag]["ask"]["yes"]
    for number in range(2):
        seen = words_in(tab.locator(".notice").nth(number).inner_text())
        _press(tab, number, yes)
        event = asked.events_of(["ann"])[-1][1]
        assert words_in(_kept(asked, event.notice_sha256)) == seen
        assert f"lang={tag}" in tab.url


@pytest.mark.parametrize("tag", languages())
def test_no_is_as_large_as_yes_and_nothing_bars_the_way(
    asked: ledger.Ledger, serve: Callable[..., Any], chromium: Any, tag: str
) -> None:
    served = serve(asked.folder.path)
    url = served.url + path_of(asked, "ann", ["train-ai", "search"]) + f"?lang={tag}"
    for scheme, width in (("light", 375), ("dark", 1280), ("light", 260)):
        page = chromium.new_page(color_scheme=scheme, viewport={"width": width, "height": 800})
        page.goto(url)
        for number in range(2):
            buttons = _section(page, number).locator("button")
            assert [b.get_attribute("value") for b in buttons.all()] == ["no", "yes"]
            no, yes = buttons.evaluate_all(_LOOKS)
            assert no == yes and no["height"] >= 44 and no["width"] >= 44, (scheme, width)
        assert barriers(page) == []
        page.close()
    page = chromium.new_page(color_scheme="light")
    page.goto(url)
    screens(page, f"ask-{tag}")
    _press(page, 0, languages()[tag]["ask"]["no"])
    _press(page, 1, languages()[tag]["ask"]["yes"])
    assert barriers(page) == []
    screens(page, f"ask-answered-{tag}")
    page.goto(served.url + run_out(asked, "ann") + f"?lang={tag}")
    assert barriers(page) == []
    screens(page, f"ask-run-out-{tag}")
    page.close()


def test_by_keyboard_alone(asked: ledger.Ledger, serve: Callable[..., Any], tab: Any) -> None:
    served = serve(asked.folder.path)
    tab.goto(served.url + path_of(asked, "ann", ["train-ai", "search"]))
    tab.keyboard.press("Enter")  # nothing has the focus: nothing is pressed
    assert states(asked, "ann") == []
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**#purpose-1-answer")
    assert states(asked, "ann") == ["refused"], "the first that is reached is a No"
    for _ in range(20):
        tab.keyboard.press("Tab")
        focused = tab.locator("section").nth(1).locator("button[value=yes]:focus")
        if focused.count():
            break
    tab.keyboard.press("Space")
    tab.wait_for_url("**#purpose-2-answer")
    assert states(asked, "ann") == ["refused", "given"] and allowed(asked, "ann", "search")


def test_in_a_frame_of_a_site_that_was_named_and_of_no_other(
    asked: ledger.Ledger, serve: Callable[..., Any], tab: Any, sites: tuple[Site, Site]
) -> None:
    named, other = sites
    served = serve(asked.folder.path, "--embed-in", named.url)
    frames = served.url + path_of(asked, "ann", ["train-ai", "search"], return_url=named.url + "/done")
    named.frames = other.frames = frames
    tab.goto(named.url)
    frame = tab.frame_locator("iframe")
    _press(frame, 0, "Yes")
    frame.get_by_text("Your answer now: yes.").wait_for()
    _press(frame, 1, "No")
    frame.get_by_text("Your answer now: no.").wait_for()
    assert allowed(asked, "ann") and not allowed(asked, "ann", "search")
    assert tab.context.cookies() == [], "no cookie is set, nor needed"
    frame.get_by_role("link", name="Back to where you came from").click()
    tab.wait_for_url(named.url + "/done")

    tab.goto(other.url)
    tab.wait_for_load_state()
    assert tab.frame_locator("iframe").locator("button").count() == 0, "the browser shows nothing of it"
    assert all("May your content" not in f.content() for f in tab.frames)


@pytest.mark.parametrize(("allows", "answer"), [("", "yes"), (" allow-same-origin", "yes"), ("", "no")])
def test_in_a_sandbox_that_makes_it_a_site_of_its_own_it_says_no_alone(
    asked: ledger.Ledger, serve: Callable[..., Any], tab: Any, sites: tuple[Site, Site], allows: str, answer: str
) -> None:
    served = serve(asked.folder.path, "--embed-in", sites[0].url)
    sites[0].frames, sites[0].sandbox = served.url + path_of(asked, "ann"), f"sandbox='allow-forms{allows}'"
    tab.goto(sites[0].url)
    frame = tab.frame_locator("iframe")
    _press(frame, 0, answer.title())
    refused = answer == "yes" and not allows
    frame.get_by_text("seems to come from another site" if refused else f"Your answer now: {answer}.").wait_for()
    assert states(asked, "ann") == ([] if refused else ["given" if answer == "yes" else "refused"])


def test_a_frame_needs_to_be_named_at_all(
    asked: ledger.Ledger, serve: Callable[..., Any], tab: Any, sites: tuple[Site, Site]
) -> None:
    served = serve(asked.folder.path)
    sites[0].frames = served.url + path_of(asked, "ann")
    tab.goto(sites[0].url)
    assert tab.frame_locator("iframe").locator("button").count() == 0
    tab.goto(sites[0].frames)
    assert tab.locator("button").count() == 2, "by itself it opens"


def test_a_link_that_ran_out_offers_a_no_alone(asked: ledger.Ledger, serve: Callable[..., Any], tab: Any) -> None:
    served = serve(asked.folder.path)
    tab.goto(served.url + run_out(asked, "ann"))
    assert [b.inner_text() for b in tab.locator("button").all()] == ["No"]
    _press(tab, 0, "No")
    assert "Your no is recorded." in _said(tab, 0)
    assert states(asked, "ann") == ["refused"]


def _kept(book: ledger.Ledger, sha256: str | None) -> str:
    from tests.web.test_ask import _kept as kept

    return kept(book, sha256)
