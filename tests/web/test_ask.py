"""The consent page over HTTP: what it records, and that nothing turns a no into a yes."""

from __future__ import annotations

import itertools
import re
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ledger
from ledger import times
from ledger.asks import Ask, Form, digest, new_form
from ledger.consent import Event, Purpose
from ledger.store.append import Transaction
from ledger.web import ask as asking_page
from ledger.web.ask import CHANGED, EXPIRED, RECORDED, REPEATED, Press, read, record, standing
from ledger.web.notice import notice_of
from ledger.web.words import languages
from tests.conftest import yes
from tests.web.asking import Page, allowed, path_of, run_out, states, words_in

URLENCODED = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A served ledger with three purposes: book, client."""
    from tests.served import Served

    folder = tmp_path_factory.mktemp("ask") / "consent-ledger"
    with ledger.create(folder) as book:
        book.declare_purpose(
            "train-ai",
            title="Train a <model>",
            description="It learns from what you wrote.\n\nIt is ours & public.",
            categories=["post"],
            recipients=["Labs", "<script>alert(1)</script>"],
            controller="Example Labs",
            contact="privacy@labs.example",
            retention="two years",
            withdraw_url="https://labs.example/no",
        )
        book.declare_purpose("search", title="Search", description="Others can find it.")
        book.declare_purpose("bare", title="Bare", description="Says little.")
        served = Served(folder, "--embed-in", "https://app.example.org", "--embed-in", "http://localhost:3000")
        try:
            yield World(book, served.client, served)
        finally:
            served.stop()


class World:
    def __init__(self, book: ledger.Ledger, client: Any, served: Any) -> None:
        self.book, self.client, self.served = book, client, served

    def page(self, path: str, **options: Any) -> Page:
        answer = self.client.get(path, **options)
        assert answer.status_code in (200, 410), answer.text
        return Page(answer.text)

    def size(self) -> int:
        size: int = self.book.read(lambda history: history.head()[1].size)
        return size


def test_looking_changes_nothing_and_nothing_is_chosen(world: World) -> None:
    path, before = path_of(world.book, "looker", ["train-ai", "search"]), world.size()
    for _ in range(3):
        answer = world.client.get(path)
        assert answer.status_code == 200 and world.client.head(path).status_code == 200
    assert world.client.head(path).content == b""
    assert world.size() == before
    page = Page(answer.text)
    assert [section.fields["purpose"] for section in page.sections] == ["train-ai", "search"]
    assert all(section.buttons == [("answer", "no"), ("answer", "yes")] for section in page.sections)
    assert page.inputs and all(given["type"] == "hidden" and "checked" not in given for given in page.inputs)
    assert page.scripts == 0
    assert "looker" not in answer.text and "<script" not in answer.text
    assert "You have not answered yet" in page.sections[0].said


@pytest.mark.parametrize("tag", languages())
def test_a_yes_is_recorded_with_the_very_text_that_was_shown(world: World, tag: str) -> None:
    subject, path = f"reader-{tag}", path_of(world.book, f"reader-{tag}") + f"?lang={tag}"
    before = times.now()
    shown = world.page(path).sections[0]
    answer = world.client.post(path, data=shown.press("yes"))
    assert answer.status_code == 303 and answer.headers["location"] == path
    [(_, event)] = world.book.events_of([subject])
    assert (event.state, event.purposes, event.channel, event.actor) == ("given", ("train-ai@1",), "web", "subject")
    assert event.recorded_by == "session:ask", "what a yes rests on is a session of the person's own"
    assert event.occurred_at is not None and before <= event.occurred_at <= times.now()
    assert event.notice == f"ask.train-ai@1/{tag}"
    kept = _kept(world.book, event.notice_sha256)
    assert words_in(shown.notice) == words_in(kept)
    assert "<script>alert(1)</script>" in kept and "Example Labs" in kept and "https://labs.example/no" in kept
    assert allowed(world.book, subject)
    assert languages()[tag]["ask"]["stands_yes"] in words_in(world.page(path).sections[0].said)


def test_one_text_is_kept_once_and_another_is_its_next_version(book: ledger.Ledger, serve: Callable[..., Any]) -> None:
    world = World(book, serve(book.folder.path).client, None)
    for n in range(3):
        path = path_of(book, f"u{n}")
        assert world.client.post(path, data=world.page(path).sections[0].press("yes")).status_code == 303
    book.declare_purpose("train-ai", title="Train", description="Train a model", compatible=True)
    path = path_of(book, "u3")
    assert world.client.post(path, data=world.page(path).sections[0].press("yes")).status_code == 303
    book.declare_purpose("train-ai", title="Train", description="Train two models", compatible=True)
    for n in (4, 5):
        path = path_of(book, f"u{n}")
        assert world.client.post(path, data=world.page(path).sections[0].press("yes")).status_code == 303
    found = {e.subject_id: (e.purposes[0], e.notice) for _, e in book.events()}
    assert [found[f"u{n}"] for n in range(6)] == [
        *[("train-ai@1", "ask.train-ai@1/en")] * 3,
        ("train-ai@2", "ask.train-ai@1/en"),
        *[("train-ai@3", "ask.train-ai@2/en")] * 2,
    ]
    assert "Train two models" in _kept(book, _sha(book, "u4"))
    book.fsck()


def test_each_purpose_is_answered_by_itself(world: World) -> None:
    path = path_of(world.book, "both", ["train-ai", "search"])
    page = world.page(path)
    assert world.client.post(path, data=page.sections[0].press("no")).headers["location"] == path
    assert world.client.post(path, data=page.sections[1].press("yes")).headers["location"] == path
    assert [(e.state, e.purposes) for _, e in world.book.events_of(["both"])] == [
        ("refused", ("train-ai@1",)),
        ("given", ("search@1",)),
    ]
    assert not allowed(world.book, "both") and allowed(world.book, "both", "search")
    page = world.page(path)
    assert "Your answer now: no." in page.sections[0].said and "Your answer now: yes." in page.sections[1].said


def test_a_no_after_a_yes_takes_it_back_and_is_recorded_each_time(world: World) -> None:
    path = path_of(world.book, "fickle")
    old = world.page(path).sections[0]
    for answer in ("no", "no"):
        assert world.client.post(path, data=old.press(answer)).status_code == 303
    assert world.client.post(path, data=world.page(path).sections[0].press("yes")).status_code == 303
    assert world.client.post(path, data=old.press("no")).status_code == 303, "the very same press as before"
    assert states(world.book, "fickle") == ["refused", "refused", "given", "withdrawn"]
    assert not allowed(world.book, "fickle")


ACTS = ("look", "first", "last", "no", "withdraw")
"""Open the page; press Yes on the first page that was opened, on the last; press No on the last; say no elsewhere."""


def test_no_order_of_pages_presses_and_noes_lets_a_yes_outlive_a_later_no(world: World) -> None:
    """A look, then all orders of up to four acts that end with a press of Yes, and of up to three that end with a no. What is
    recorded is what the rules say, and the reference rule agrees."""
    orders = [order for order in itertools.product(ACTS, repeat=4) if order[-1] in ("first", "last")]
    orders += [order for order in itertools.product(ACTS, repeat=3) if order[-1] in ("no", "withdraw")]
    # While one page was opened, the first is the last.
    orders = [order for order in orders if "last" not in order[: (*order, "look").index("look")]]

    def play(order: tuple[str, ...]) -> None:
        subject = "order-" + "-".join(order)
        path = path_of(world.book, subject)
        said: list[str] = []
        pages: list[tuple[dict[str, str], int]] = []
        used: set[str] = set()
        for act in ("look", *order):
            if act == "look":
                pages.append((world.page(path).sections[0].press("yes"), len(said)))
            elif act == "withdraw":
                world.book.withdraw(subject)
                said.append("no")
            elif act == "no":
                pressed = {**pages[-1][0], "answer": "no"}
                assert world.client.post(path, data=pressed).status_code == 303, order
                said.append("no")
            else:
                pressed, seen = pages[0 if act == "first" else -1]
                answer = world.client.post(path, data=pressed)
                if pressed["form"] in used:
                    assert answer.status_code == 303, order
                elif "no" in said[seen:]:
                    assert answer.status_code == 409 and "was not recorded" in answer.text, order
                else:
                    assert answer.status_code == 303, order
                    used.add(pressed["form"])
                    said.append("yes")
        assert ["yes" if s == "given" else "no" for s in states(world.book, subject)] == said, order
        stands = said[-1:] == ["yes"]
        assert allowed(world.book, subject) == stands, order
        assert ("Your answer now: yes." in world.page(path).sections[0].said) == stands, order

    with ThreadPoolExecutor(12) as pool:
        for _ in pool.map(play, orders):
            pass


@pytest.mark.parametrize("scope", [{}, {"category": "post"}, {"content_id": "c1"}, {"purposes": ["train-ai"]}])
def test_a_no_of_any_scope_ends_the_pages_that_were_open(world: World, scope: dict[str, Any]) -> None:
    subject = f"scope-{scope}"
    path = path_of(world.book, subject)
    old = world.page(path).sections[0]
    world.book.withdraw(subject, **scope)
    assert world.client.post(path, data=old.press("yes")).status_code == 409
    assert "given" not in states(world.book, subject)
    assert world.client.post(path, data=world.page(path).sections[0].press("yes")).status_code == 303, "who reads again may"
    assert states(world.book, subject)[-1] == "given"


def test_a_no_to_another_purpose_or_of_another_person_ends_nothing(world: World) -> None:
    path = path_of(world.book, "careful")
    old = world.page(path).sections[0]
    world.book.withdraw("careful", purposes=["search"])
    world.book.withdraw("Careful")
    assert world.client.post(path, data=old.press("yes")).status_code == 303
    assert allowed(world.book, "careful")


def test_a_yes_to_a_purpose_that_changed_meanwhile_is_not_recorded(book: ledger.Ledger, serve: Callable[..., Any]) -> None:
    world = World(book, serve(book.folder.path).client, None)
    path = path_of(book, "late")
    old = world.page(path).sections[0]
    book.declare_purpose("train-ai", title="Train", description="Train a model", compatible=True)
    answer = world.client.post(path, data=old.press("yes"))
    assert answer.status_code == 409 and "Something changed" in answer.text, "the same words, yet another version"
    book.declare_purpose("train-ai", title="Train", description="And sell it", compatible=True)
    answer = world.client.post(path, data=Page(answer.text).sections[0].press("yes"))
    assert answer.status_code == 409 and "And sell it" in answer.text
    assert states(book, "late") == []
    assert world.client.post(path, data=old.press("no")).status_code == 303, "a no is taken from any page"
    assert states(book, "late") == ["refused"]


def test_a_link_that_ran_out_says_no_and_never_yes_and_tells_nothing(world: World) -> None:
    world.book.record(yes("gone", purposes=["train-ai"]))
    path = run_out(world.book, "gone")
    answer = world.client.get(path)
    assert answer.status_code == 410 and "This link has run out" in answer.text
    [section] = Page(answer.text).sections
    assert section.buttons == [("answer", "no")] and "Your answer now" not in answer.text
    form = new_form(path.rpartition("/")[2], purpose="train-ai@1", language="en", shown=_shown(world, "train-ai"), seen=10**9)
    sealed = form.seal(world.book.folder.link_keys(), world.book.origin)
    refused = world.client.post(path, data={"purpose": "train-ai", "answer": "yes", "form": sealed})
    assert refused.status_code == 410 and "ran out before" in refused.text
    assert states(world.book, "gone") == ["given"]
    said = world.client.post(path, data=section.press("no"))
    assert said.status_code == 200 and "Your no is recorded" in said.text
    assert states(world.book, "gone") == ["given", "withdrawn"] and not allowed(world.book, "gone")


def test_a_page_that_is_open_when_its_link_runs_out_says_no_more_yes(world: World) -> None:
    ask = Ask(subject_id="slow", purposes=("train-ai",), expires_at=times.now() + timedelta(seconds=1.5))
    path = "/ask/" + ask.seal(world.book.folder.link_keys(), world.book.origin)
    section = world.page(path).sections[0]
    assert ("answer", "yes") in section.buttons
    while times.now() < ask.expires_at:
        pass
    assert world.client.post(path, data=section.press("yes")).status_code == 410
    assert states(world.book, "slow") == []


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("nonsense", 403), ("same-origin", 303), ("none", 303)]
)
def test_another_site_can_press_no_and_not_yes(world: World, site: str, status: int) -> None:
    path = path_of(world.book, f"site-{site}")
    section = world.page(path).sections[0]
    answer = world.client.post(path, data=section.press("yes"), headers={"sec-fetch-site": site})
    assert answer.status_code == status
    assert states(world.book, f"site-{site}") == (["given"] if status == 303 else [])
    assert world.client.post(path, data=section.press("no"), headers={"sec-fetch-site": site}).status_code == 303
    assert not allowed(world.book, f"site-{site}")


def test_a_form_of_another_link_purpose_or_ledger_says_nothing(world: World, tmp_path: Path) -> None:
    ann = path_of(world.book, "form-ann", ["train-ai", "search"])
    sections = world.page(ann).sections
    strange = [
        world.page(path_of(world.book, "form-ben", ["train-ai"])).sections[0].fields["form"],
        world.page(path_of(world.book, "form-ann", ["train-ai"])).sections[0].fields["form"],
        sections[1].fields["form"],
        ann.rpartition("/")[2],
        "",
        "x" * 600,
    ]
    with ledger.create(tmp_path / "other") as other:
        token = ann.rpartition("/")[2]
        form = new_form(token, purpose="train-ai@1", language="en", shown=_shown(world, "train-ai"), seen=10**9)
        strange.append(form.seal(other.folder.link_keys(), world.book.origin))
    for form_field in strange:
        answer = world.client.post(ann, data={"purpose": "train-ai", "answer": "yes", "form": form_field})
        assert answer.status_code == 409, form_field
    assert world.client.post(ann, data={"purpose": "train-ai", "answer": "yes"}).status_code == 409
    two = urlencode([("purpose", "train-ai"), ("answer", "yes"), *[("form", sections[0].fields["form"])] * 2])
    assert world.client.post(ann, content=two, headers=URLENCODED).status_code == 409
    assert states(world.book, "form-ann") == [] and states(world.book, "form-ben") == []


def test_a_wrong_link_is_an_unknown_path(world: World) -> None:
    good, nothing = path_of(world.book, "someone"), world.client.get("/nothing")
    seen = dict(nothing.headers) | {"date": ""}
    for path in (good[:-1], good[:-1] + ("A" if good[-1] != "A" else "B"), "/ask/x", "/ask/" + "A" * 4000, "/ask/%00", "/ask/"):
        for answer in (world.client.get(path), world.client.post(path, data={"purpose": "train-ai", "answer": "yes"})):
            assert answer.status_code == 404 and answer.text == nothing.text, path
            assert dict(answer.headers) | {"date": ""} == seen


def test_nobody_is_told_whether_another_person_exists(world: World) -> None:
    """A page is a function of its own person's acts."""
    world.book.record(yes("known", purposes=["search"]))
    blank = lambda text: re.sub(r'value="[^"]{100,}"', "", text)  # noqa: E731
    pages = [world.client.get(path_of(world.book, subject)) for subject in ("known", "never seen", "KNOWN")]
    assert len({blank(page.text) for page in pages}) == 1


def test_only_the_sites_that_were_named_may_frame_the_page_and_no_other_page(world: World) -> None:
    ancestors = "frame-ancestors https://app.example.org http://localhost:3000"
    for path in (path_of(world.book, "framed"), run_out(world.book, "framed")):
        policy = world.client.get(path).headers["content-security-policy"]
        assert policy.endswith(ancestors) and "default-src 'none'" in policy and "form-action 'self'" in policy
    for path in ("/nothing", "/style.css", "/ask/x"):
        assert world.client.get(path).headers["content-security-policy"].endswith("frame-ancestors 'none'")


def test_without_embed_in_nobody_may_frame_it(book: ledger.Ledger, serve: Callable[..., Any]) -> None:
    client = serve(book.folder.path).client
    path = path_of(book, "ann", return_url="https://app.example.org/back")
    answer = client.get(path)
    assert answer.headers["content-security-policy"].endswith("frame-ancestors 'none'")
    assert "app.example.org" not in answer.text


@pytest.mark.parametrize("origin", ["http://app.example.org", "*", "https://a.example/x", "'self'", "https://a.example;x"])
def test_what_is_no_site_cannot_be_named(book: ledger.Ledger, consent: Callable[..., Any], origin: str) -> None:
    assert consent("--ledger", book.folder.path, "serve", "--port", "0", "--embed-in", origin).code == 2


def test_the_way_back_leads_to_a_site_that_was_named(world: World) -> None:
    for url, shown in (
        ("https://app.example.org/settings?a=1&b=2#x", True),
        ("http://localhost:3000/", True),
        ("https://evil.example/", False),
        ("https://app.example.org.evil.example/", False),
        ("https://app.example.org:444/", False),
    ):
        text = world.client.get(path_of(world.book, "back", return_url=url)).text
        assert (f'href="{url.replace("&", "&amp;")}"' in text) == shown, url
        assert ("Back to where you came from" in text) == shown


def test_two_presses_at_once_are_one_yes(world: World) -> None:
    path = path_of(world.book, "doubled")
    pressed = world.page(path).sections[0].press("yes")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: world.client.post(path, data=pressed).status_code, range(16)))
    assert answers == [303] * 16 and states(world.book, "doubled") == ["given"]


ANYTHING = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ANSWERS = st.one_of(st.sampled_from(["yes", "no"]), st.sampled_from(["YES", "on", "1", "", " yes", "no "]), ANYTHING)
PURPOSES = st.one_of(st.sampled_from(["train-ai", "search"]), st.sampled_from(["*", "train-ai@1", "bare", ""]), ANYTHING)
FORMS = st.one_of(st.just("FORM"), st.sampled_from(["OTHER", ""]), ANYTHING)


@st.composite
def bodies(draw: st.DrawFn) -> list[tuple[str, str]]:
    """Up to three of each field that counts, and others, in any order."""
    fields = {"answer": ANSWERS, "purpose": PURPOSES, "form": FORMS, "subject": ANYTHING}
    pairs = [(name, value) for name, values in fields.items() for value in draw(st.lists(values, max_size=3))]
    return list(draw(st.permutations(pairs)))


LINK = Ask(subject_id="ann", purposes=("train-ai", "search"), expires_at=times.now() + timedelta(days=1))
KEYS = [bytes(64)]
TOKEN = LINK.seal(KEYS, "o")


@settings(max_examples=400)
@given(bodies(), st.binary(max_size=60))
def test_only_a_whole_form_says_yes_and_any_no_in_it_wins(pairs: list[tuple[str, str]], raw: bytes) -> None:
    good = new_form(TOKEN, purpose="train-ai@1", language="en", shown="0" * 64, seen=3)
    other = new_form("other", purpose="train-ai@1", language="en", shown="0" * 64, seen=3)
    sealed = {"FORM": good.seal(KEYS, "o"), "OTHER": other.seal(KEYS, "o")}
    pairs = [(name, sealed.get(value, value)) for name, value in pairs]
    press = read(urlencode(pairs).encode(), TOKEN, LINK, KEYS, "o")
    values = {name: [v for n, v in pairs if n == name] for name in ("purpose", "answer", "form")}
    assert press is None or press.purposes, "nothing is answered that speaks of nothing"
    if press is not None and press.yes and press.form is not None:
        assert set(values["answer"]) == {"yes"} and set(values["purpose"]) == {"train-ai"}
        assert values["form"] == [sealed["FORM"]] and press.form == good
    if "no" in values["answer"] and {"train-ai", "search"} & set(values["purpose"]):
        assert press is not None and not press.yes
        assert set(press.purposes) == {"train-ai", "search"} & set(values["purpose"])
    wild = read(raw, TOKEN, LINK, KEYS, "o")
    assert wild is None or wild.form is None


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bodies(), st.sampled_from(["urlencoded", "raw", "multipart", "json"]), st.binary(max_size=40))
def test_a_hostile_body_never_says_yes_nor_breaks_the_server(
    world: World, pairs: list[tuple[str, str]], form: str, raw: bytes
) -> None:
    path = path_of(world.book, "hostile")
    section = world.page(path).sections[0]
    pairs = [(name, section.fields["form"] if value == "FORM" else value) for name, value in pairs]
    whole = (
        {v for n, v in pairs if n == "answer"} == {"yes"}
        and {v for n, v in pairs if n == "purpose"} == {"train-ai"}
        and [v for n, v in pairs if n == "form"] == [section.fields["form"]]
    )
    before = states(world.book, "hostile")
    if form == "urlencoded":
        answer = world.client.post(path, content=urlencode(pairs), headers=URLENCODED)
    elif form == "multipart":
        answer = world.client.post(path, files=[(name, (None, value)) for name, value in pairs] or None)
    elif form == "json":
        answer = world.client.post(path, json=dict(pairs))
    else:
        answer = world.client.post(path, content=raw, headers=URLENCODED)
    added = states(world.book, "hostile")[len(before) :]
    assert answer.status_code in (303, 400, 409)
    assert (answer.status_code == 303) == bool(added)
    assert "given" not in added or (whole and form == "urlencoded")


# What the writer decides, with the lock held.


@pytest.fixture
def keys(book: ledger.Ledger) -> list[bytes]:
    return book.folder.link_keys()


def _form(book: ledger.Ledger, **changed: Any) -> Form:
    purpose = book.purposes()[-1]
    size = book.read(lambda history: history.head()[1].size)
    said = {"purpose": purpose.reference, "language": "en", "shown": notice_of(purpose, languages()["en"]).sha256, "seen": size}
    return new_form(TOKEN, **{**said, **changed})


def _pressed(form: Form | None, answer: str = "yes") -> Press:
    return Press(answer == "yes", ["train-ai"], form)


def test_presses_that_share_a_transaction_are_told_apart(book: ledger.Ledger) -> None:
    first, second = _form(book), _form(book)
    outcomes: list[str] = []

    def plan(tx: Transaction) -> None:
        now = times.now() - timedelta(milliseconds=1)
        for form, answer in ((first, "yes"), (first, "yes"), (None, "no"), (first, "yes"), (second, "yes")):
            outcomes.append(record(tx, LINK, _pressed(form, answer), min(now, tx.recorded_at)))

    book.append(plan)
    assert outcomes == [RECORDED, REPEATED, RECORDED, REPEATED, CHANGED]
    assert states(book, "ann") == ["given", "withdrawn"] and not allowed(book, "ann")
    book.fsck()


def test_a_page_of_before_an_erasure_outlives_no_no_that_was_erased(book: ledger.Ledger) -> None:
    form, outcomes = _form(book), list[str]()
    book.withdraw("ann")
    book.erase("ann")
    for page in (form, _form(book)):
        moment = times.now()
        book.append(lambda tx, page=page, moment=moment: outcomes.append(record(tx, LINK, _pressed(page, "yes"), moment)))  # type: ignore[misc]
    assert outcomes == [CHANGED, RECORDED] and allowed(book, "ann")
    book.fsck()


@pytest.mark.parametrize(
    ("changed", "outcome"),
    [
        ({}, RECORDED),
        ({"purpose": "train-ai@2"}, CHANGED),
        ({"shown": "0" * 64}, CHANGED),
        ({"language": "de"}, CHANGED),
        ({"language": "xx"}, CHANGED),
    ],
)
def test_what_was_shown_must_be_what_is(book: ledger.Ledger, changed: dict[str, Any], outcome: str) -> None:
    outcomes: list[str] = []
    form = _form(book, **changed)
    received = times.now()
    book.append(lambda tx: outcomes.append(record(tx, LINK, _pressed(form), received)))
    assert outcomes == [outcome]
    assert states(book, "ann") == (["given"] if outcome == RECORDED else [])


def test_the_moment_that_counts_is_when_the_press_came_in(book: ledger.Ledger) -> None:
    outcomes: list[str] = []
    form = _form(book)
    book.append(lambda tx: outcomes.append(record(tx, LINK, _pressed(form), LINK.expires_at)))
    assert outcomes == [EXPIRED] and states(book, "ann") == []
    received = times.now()
    book.append(lambda tx: outcomes.append(record(tx, LINK, _pressed(form), received)))
    [(_, event)] = book.events_of(["ann"])
    assert event.occurred_at == received and event.recorded_at is not None and event.recorded_at >= received


def test_a_yes_while_the_logs_clock_is_ahead_does_not_pass_a_no(book: ledger.Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that was a day ahead when the no was said, and was set right: the no is the later one, and the page says so."""
    real = times.now
    monkeypatch.setattr(times, "now", lambda: real() + timedelta(days=1))
    book.withdraw("ann")
    monkeypatch.setattr(times, "now", real)
    form, outcomes, received = _form(book), [], times.now()
    book.append(lambda tx: outcomes.append(record(tx, LINK, _pressed(form), received)))
    assert not allowed(book, "ann")
    purpose = book.purposes()[0]
    assert standing(purpose, "ann", [e for _, e in book.events_of(["ann"])], real() + timedelta(days=1)) == "stands_no"


AT = times.now() - timedelta(days=30)


def _said(state: str, day: int, **fields: Any) -> Event:
    at = AT + timedelta(days=day)
    event = Event(state=state, subject_id="ann", occurred_at=at, **{"purposes": ["train-ai@1"], **fields})
    return event.filled_in(recorded_at=at, recorded_by="t", event_id=str(day))


@pytest.mark.parametrize(
    ("events", "stands"),
    [
        ([], "stands_none"),
        ([_said("given", 1, purposes=["search@1"])], "stands_none"),
        ([_said("given", 1)], "stands_yes"),
        ([_said("given", 1), _said("withdrawn", 2, purposes=["*"])], "stands_no"),
        ([_said("given", 1), _said("withdrawn", 2), _said("given", 3)], "stands_yes"),
        ([_said("given", 1), _said("withdrawn", 2, category="post")], "stands_partly"),
        ([_said("given", 1, category="post")], "stands_partly"),
        ([_said("given", 1), _said("withdrawn", 2, content_id="c")], "stands_yes"),
        ([_said("given", 1, expires_at=AT + timedelta(days=2))], "stands_lapsed"),
        ([_said("given", 1, purposes=["train-ai@2"])], "stands_lapsed"),
        ([_said("refused", 1)], "stands_no"),
    ],
)
def test_what_stands_is_said(events: list[Event], stands: str) -> None:
    purpose = Purpose(token="train-ai", version=1, title="t", description="d", categories=("photo", "post"))
    assert standing(purpose, "ann", events, times.now()) == stands
    assert all(stands in words["ask"] for words in languages().values())


def test_without_listed_categories_a_no_to_one_is_a_no_to_a_part() -> None:
    purpose = Purpose(token="train-ai", version=1, title="t", description="d")
    events = [_said("given", 1), _said("withdrawn", 2, category="post")]
    assert standing(purpose, "ann", events, times.now()) == "stands_partly"
    assert standing(purpose, "ann", events[:1], times.now()) == "stands_yes"


def test_every_outcome_has_its_words() -> None:
    for outcome in (CHANGED, EXPIRED, asking_page.ELSEWHERE, asking_page.UNREADABLE):
        assert all(outcome in words["ask"] for words in languages().values())


def _kept(book: ledger.Ledger, sha256: str | None) -> str:
    """The text of a notice, out of the database."""
    import sqlite3

    assert sha256 is not None
    connection = sqlite3.connect(book.folder.path / "ledger.db")
    try:
        [(text,)] = connection.execute("select text from notices where sha256 = ?", [sha256]).fetchall()
    finally:
        connection.close()
    assert digest(text.decode()) == sha256
    found: str = text.decode()
    return found


def _sha(book: ledger.Ledger, subject: str) -> str | None:
    [(_, event)] = book.events_of([subject])
    return event.notice_sha256


def _shown(world: World, token: str) -> str:
    purpose = [p for p in world.book.purposes() if p.token == token][-1]
    return notice_of(purpose, languages()["en"]).sha256


def test_wrong_tokens_are_limited_and_good_ones_are_not(book: ledger.Ledger, serve: Callable[..., Any]) -> None:
    served, good = serve(book.folder.path), path_of(book, "ann", ["train-ai"])
    statuses = [served.client.get("/ask/" + "A" * 155).status_code for _ in range(40)]
    assert statuses[:30] == [404] * 30 and 429 in statuses[30:]
    assert served.client.get(good).status_code == 200


def test_a_press_that_breaks_off_is_none(world: Any) -> None:
    path = path_of(world.book, "half")
    body = urlencode(Page(world.client.get(path).text).sections[0].press("yes")).encode()
    whole = body + b"&answer=no"
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n" % path.encode()
    for sent in (
        head + b"Content-Length: %d\r\n\r\n" % len(whole) + body,
        head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(body), body),
    ):
        host, _, port = str(world.client.base_url).removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port.rstrip("/"))), 30) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b"", "the server closes, once it knows"
        assert world.client.get(path).status_code == 200  # which is answered after what was begun before it
    settled = path_of(world.book, "whole")
    world.client.post(settled, data=Page(world.client.get(settled).text).sections[0].press("no"))
    assert (states(world.book, "half"), states(world.book, "whole")) == ([], ["refused"])


def test_a_stranger_makes_no_key_where_it_is_missing(book: ledger.Ledger, serve: Callable[..., Any]) -> None:
    served = serve(book.folder.path)
    assert served.client.get("/ask/nothing").status_code == 404
    assert not (book.folder.path / "link.key").exists(), "whoever puts it back would find another in its place"
