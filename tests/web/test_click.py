"""The page behind a link, over HTTP: GET changes nothing, POST says no, and nothing else does anything."""

from __future__ import annotations

import re
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

import ledger
from ledger import times, tokens
from ledger.consent import NO
from ledger.web import limits
from ledger.web.app import create_app
from ledger.web.limits import FAILURES, FailedTokens, network
from tests.conftest import Outcome, yes
from tests.served import Served

BODY = "List-Unsubscribe=One-Click"
FORM = {"content-type": "application/x-www-form-urlencoded"}
_PART = "--b\r\nContent-Disposition: form-data; name={}\r\n\r\nOne-Click\r\n--b--\r\n"


class Site:
    """A server and a ledger that it serves, in which a person has said yes to a purpose; both are this test's alone."""

    def __init__(self, book: ledger.Ledger, served: Any) -> None:
        self.book, self.served = book, served
        self.subject, self.purpose = f"ann-{secrets.token_hex(4)}", f"train-{secrets.token_hex(4)}"
        self.asking = {"x-forwarded-for": _address()}
        self.client = httpx.Client(base_url=served.url, timeout=30, trust_env=False, headers=self.asking)
        book.declare_purpose(self.purpose, title="Train", description="Train a model")
        book.record(yes(self.subject, purposes=[self.purpose]))
        self.path = self.link(self.subject)

    def link(self, subject: str, purpose: str | None = None) -> str:
        return self.book.links.make(subject, purpose=purpose or self.purpose, base="http://x").removeprefix("http://x")

    def post(self, path: str | None = None, content: Any = BODY, **options: Any) -> httpx.Response:
        return self.client.post(path or self.path, content=content, headers={**FORM, **options.pop("headers", {})}, **options)

    def clicks(self) -> list[ledger.Event]:
        events = [event for _, event in self.book.events() if event.recorded_by == "web:link"]
        return [event for event in events if event.names(self.purpose)]

    def reason(self) -> str:
        decisions = self.book.show(self.subject)["decisions"]
        return next(str(d["reason"]) for d in decisions if d["purpose"].startswith(self.purpose))


def _address() -> str:
    return f"10.{secrets.randbelow(256)}.{secrets.randbelow(256)}.{secrets.randbelow(256)}"


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ledger.Ledger, Served]]:
    folder = tmp_path_factory.mktemp("click") / "consent-ledger"
    with ledger.create(folder) as book:
        served = Served(folder, "--behind", "127.0.0.1")
        yield book, served
        served.stop()
        said = Path(served._said.name).read_text(encoding="utf-8")
        assert re.fullmatch(r"serving at \S+ \(end it with Ctrl-C\)\n", said), "it logs nothing of who asks for what"


@pytest.fixture
def site(serving: tuple[ledger.Ledger, Served]) -> Iterator[Site]:
    made = Site(*serving)
    yield made
    made.client.close()


@pytest.fixture
def alone(book: ledger.Ledger, serve: Callable[..., Any]) -> Iterator[Site]:
    """With a server that the test may end."""
    made = Site(book, serve(book.folder.path))
    yield made
    made.client.close()


def wrong(path: str) -> str:
    """Another token of the same form."""
    return path[:-1] + ("A" if path[-1] != "A" else "B")


def head_of(site: Site) -> str:
    return (site.book.folder.path / "head").read_text()


def test_get_and_head_change_nothing_and_tell_nothing_of_what_was_said(site: Site) -> None:
    before = head_of(site)
    answers = [site.client.get(site.path) for _ in range(5)]
    assert {a.status_code for a in answers} == {200}
    told = site.client.head(site.path)
    assert (told.status_code, told.content) == (200, b"")
    assert told.headers["content-length"] == answers[0].headers["content-length"]
    assert head_of(site) == before
    silent = site.client.get(site.link("somebody whom nobody knows"))
    assert site.post().status_code == 200
    after = site.client.get(site.path)
    assert {a.text for a in (*answers, silent, after)} == {after.text}
    assert site.subject not in after.text and "set-cookie" not in after.headers


def test_pages_need_no_writer(site: Site) -> None:
    """Another process holds the ledger's lock: pages are shown, and a click waits for it."""
    ready, go = threading.Event(), threading.Event()

    def hold() -> None:
        with ledger.open(site.book.folder.path) as other:
            other.append(lambda tx: (ready.set(), go.wait(30), None)[2])

    thread = threading.Thread(target=hold)
    thread.start()
    ready.wait(30)
    assert site.client.get(site.path, timeout=10).status_code == 200
    assert site.client.get(wrong(site.path), timeout=10).status_code == 404
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(site.post)
        time.sleep(0.3)
        assert not pending.done()
        go.set()
        assert pending.result(30).status_code == 200
    thread.join()


def test_one_post_says_no_durably(alone: Site) -> None:
    answer = alone.client.post(alone.path, data={"List-Unsubscribe": "One-Click"})
    assert answer.status_code == 200 and not answer.history
    (event,) = alone.clicks()
    assert (event.subject_id, event.state, event.purposes) == (alone.subject, "withdrawn", (f"{alone.purpose}@1",))
    assert (event.channel, event.scope.name, event.occurred_at) == ("one-click", "EVERYTHING", event.recorded_at)
    assert alone.reason() == "withdrawn"
    position = max(position for position, _ in alone.book.events())
    assert f"entry {position} " in answer.text
    assert event.recorded_at is not None and f"{event.recorded_at:%H:%M:%S}" in answer.text
    alone.served.stop(signal.SIGKILL)
    assert ledger.fsck(alone.book.folder.path).events == 2, "killed right after its answer"


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("application/x-www-form-urlencoded", BODY),
        ("application/x-www-form-urlencoded; charset=utf-8", "List%2DUnsubscribe=One%2DClick"),
        ("APPLICATION/X-WWW-FORM-URLENCODED", "a=b&" + BODY),
        ("application/x-www-form-urlencoded", BODY + "\r\n"),
        ("multipart/form-data; boundary=b", _PART.format('"List-Unsubscribe"')),
        ('multipart/form-data; boundary="---="', _PART.format("List-Unsubscribe").replace("--b", "-----=")),
    ],
)  # fmt: skip
def test_what_rfc_8058_asks_for_says_no(site: Site, kind: str, content: str) -> None:
    assert site.client.post(site.path, content=content, headers={"content-type": kind}).status_code == 200
    assert len(site.clicks()) == 1


def test_wherever_it_comes_from_and_whatever_comes_with_it(site: Site) -> None:
    around = {"origin": "https://evil.example", "referer": "https://evil.example/x", "cookie": "a=b", "authorization": "Basic x"}
    answer = site.client.post(site.path + "?lang=de&x=1", content=BODY, headers={**FORM, **around})
    assert answer.status_code == 200 and "Ihr Nein ist festgehalten" in answer.text
    assert len(site.clicks()) == 1


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (FORM["content-type"], ""),
        (FORM["content-type"], "List-Unsubscribe=No"),
        (FORM["content-type"], "list-unsubscribe=one-click"),
        (FORM["content-type"], "Unsubscribe=One-Click"),
        (FORM["content-type"], "List-Unsubscribe"),
        (FORM["content-type"], "x=" + "x" * 9000 + "&" + BODY),
        (FORM["content-type"], "&".join(["a=b"] * 50) + "&" + BODY),
        ("text/plain", BODY),
        ("application/json", '{"List-Unsubscribe": "One-Click"}'),
        ("multipart/form-data; boundary=b; charset=undefined", _PART.format("List-Unsubscribe")),
        ("multipart/form-data", BODY),
        ("multipart/form-data; boundary=b", _PART.format('"List-Unsubscribe"; filename="f"')),
        ("multipart/form-data; boundary=b", "--b\r\n\r\nOne-Click\r\n--b--\r\n"),
        ("multipart/form-data; boundary=" + "b" * 5000, "--b"),
    ],
)  # fmt: skip
def test_any_other_body_says_nothing_and_shows_the_page(site: Site, kind: str, content: str) -> None:
    answer = site.client.post(site.path, content=content, headers={"content-type": kind})
    assert answer.status_code == 400
    assert "Nothing was recorded" in answer.text and "<button>" in answer.text
    assert site.clicks() == []


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_no_other_method_does_anything(site: Site, method: str) -> None:
    answer = site.client.request(method, site.path, content=BODY, headers=FORM)
    assert answer.status_code == 405
    assert {"GET", "HEAD", "POST"} == set(answer.headers["allow"].split(", "))
    assert site.clicks() == []


def test_said_again_it_is_answered_the_same(site: Site) -> None:
    answers = [site.post() for _ in range(3)]
    with ThreadPoolExecutor(8) as pool:
        answers += pool.map(lambda _: site.post(), range(40))
    assert {(a.status_code, a.text) for a in answers} == {(200, answers[0].text)}
    assert len(site.clicks()) == 1


def test_a_yes_in_between_is_answered_anew(site: Site) -> None:
    first = site.post()
    site.book.record(yes(site.subject, purposes=[site.purpose], occurred_at=datetime.now(UTC)))
    second = site.post()
    assert second.status_code == 200 and second.text != first.text
    assert len(site.clicks()) == 2
    assert site.reason() == "withdrawn"


def test_a_yes_between_two_clicks_that_arrives_late_does_not_turn_the_no_into_a_yes(
    book: ledger.Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repeat is recorded anew once the first is ten seconds old: against a yes from in between that is not here yet."""
    path = book.links.make("ann", purpose="train-ai", base="http://x").removeprefix("http://x")
    real, ahead = times.now, [0]
    monkeypatch.setattr(times, "now", lambda: real() + timedelta(seconds=ahead[0]))
    with TestClient(create_app(book)) as client:  # type: ignore[arg-type]
        assert client.post(path, content=BODY, headers=FORM).status_code == 200
        ahead[0] = 6
        between = times.now()
        ahead[0] = 12
        assert client.post(path, content=BODY, headers=FORM).status_code == 200
    assert len([*book.events()]) == 2
    book.record(yes("ann", occurred_at=between))
    assert book.show("ann")["decisions"][0]["reason"] == "withdrawn"


def test_each_person_and_purpose_by_itself(site: Site) -> None:
    other = f"{site.purpose}-2"
    site.book.declare_purpose(other, title="Search", description="Find")
    links = [site.link(f"u{n}", purpose) for n in range(30) for purpose in (site.purpose, other)]
    with ThreadPoolExecutor(16) as pool:
        assert {a.status_code for a in pool.map(site.post, links)} == {200}
    assert {e.subject_id for e in site.clicks()} == {f"u{n}" for n in range(30)}
    assert {e.purposes for e in site.clicks()} == {(f"{site.purpose}@1",)}


def test_links_work_after_new_keys_and_versions(site: Site, consent: Callable[..., Outcome]) -> None:
    assert consent("--ledger", site.book.folder.path, "key", "new-link").code == 0
    new = site.link(site.subject)
    site.book.declare_purpose(site.purpose, title="Train another", description="Another model")
    assert new != site.path
    for path in (site.path, new):
        assert "Train another" in site.client.get(path).text
        assert site.post(path).status_code == 200
    assert [e.purposes for e in site.clicks()] == [(f"{site.purpose}@2",)]


def test_the_receipt_is_there_after_the_click_and_verifies_alone(alone: Site, tmp_path: Path) -> None:
    nowhere = alone.client.get("/nothing")
    before = alone.client.get(alone.path + "/receipt")
    assert (before.status_code, before.content) == (404, nowhere.content)
    (href,) = re.findall(r'href="([^"]+/receipt)"', alone.post().text)
    answer = alone.client.get(httpx.URL(alone.served.url + alone.path).join(href))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-disposition"] == 'attachment; filename="consent-receipt.json"'
    assert answer.headers["cache-control"] == "no-store"
    path = tmp_path / "consent-receipt.json"
    path.write_bytes(answer.content)
    alone.served.stop(signal.SIGKILL)
    assert ledger.verify(path, trust=alone.book.folder.path / "trust").checked
    event = answer.json()["event"]
    assert (event["recorded_by"], event["subject_id"]) == ("web:link", alone.subject)


def test_a_link_that_leads_nowhere_is_one_404_whatever_the_reason(site: Site, tmp_path: Path) -> None:
    gone = site.link("bob")
    assert site.client.get(gone).status_code == 200
    site.book.links.revoke(gone)
    keys, origin = site.book.folder.link_keys(), site.book.origin
    with ledger.create(tmp_path / "other") as other:
        other.declare_purpose(site.purpose, title="T", description="D")
        foreign = other.links.make("ann", purpose=site.purpose, base="http://x").removeprefix("http://x")
    sealed = [
        tokens.seal(f"{site.purpose}\nann", keys, origin=origin, use="ask"),
        tokens.seal("never-declared\nann", keys, origin=origin, use="no only"),
        tokens.seal("ann", keys, origin=origin, use="no only"),
    ]
    paths = [gone, wrong(site.path), foreign, "/no/x", "/no/" + "A" * 4000, "/no/%00", "/no/%ff%fe", "/no/ä"]
    before = head_of(site)
    for language in ("en", "de"):
        asking = {"accept-language": language, "x-forwarded-for": _address()}
        nowhere = site.client.get("/nothing", headers=asking)
        for path in [*paths, *(f"/no/{token}" for token in sealed)]:
            for answer in (site.client.get(path, headers=asking), site.post(path, headers=asking)):
                assert (answer.status_code, answer.content) == (404, nowhere.content), path
                assert {**answer.headers, "date": ""} == {**nowhere.headers, "date": ""}
    assert head_of(site) == before


def test_whatever_leads_nowhere_costs_the_same_work(book: ledger.Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """One decryption, one look at what was revoked, and the same statements to the database: not by the clock, by counting."""
    done: list[str] = []
    real = tokens.AESSIV

    class Counting:
        def __init__(self, key: bytes) -> None:
            self._real = real(key)

        def decrypt(self, *arguments: Any) -> bytes:
            done.append("decrypt")
            return self._real.decrypt(*arguments)

        def encrypt(self, *arguments: Any) -> bytes:
            return self._real.encrypt(*arguments)

    def counted(statement: str) -> None:
        done.append(re.sub(r"[xX]?'[^']*'|\d+", "?", statement))

    make = lambda subject: book.links.make(subject, purpose="train-ai", base="http://x").removeprefix("http://x")  # noqa: E731
    gone, good = make("bob"), make("ann")
    book.links.revoke(gone)
    monkeypatch.setattr(tokens, "AESSIV", Counting)
    sa.event.listen(book._engine, "connect", lambda connection, record: connection.set_trace_callback(counted))
    with TestClient(create_app(book)) as client:  # type: ignore[arg-type]
        client.get(wrong(good))  # what is read only once is read
        work = []
        for path in (gone, wrong(good), "/no/x", "/no/" + "A" * 300):
            for ask in (client.get, lambda path: client.post(path, content=BODY, headers=FORM)):
                done.clear()
                assert ask(path).status_code == 404
                work.append(list(done))
        assert all(w == work[0] for w in work[0::2]) and all(w == work[1] for w in work[1::2])
        assert work[0].count("decrypt") == work[1].count("decrypt") == 1
        assert any("openings" in each for each in work[0])


def test_failed_tokens_are_limited_and_good_ones_answered(site: Site) -> None:
    gone = site.link("bob")
    site.book.links.revoke(gone)
    assert {site.client.get(f"/no/{n}").status_code for n in range(FAILURES)} == {404}

    def refused(ask: Callable[[str], httpx.Response], path: str) -> httpx.Response:
        """Failures come back meanwhile: right after there were too many, sooner or later this one is too many as well."""
        for _ in range(20):
            while site.client.get("/no/x").status_code != 429:
                pass
            if (answer := ask(path)).status_code == 429:
                return answer
        pytest.fail(f"{path} is always answered")

    for path in ("/no/x", gone, wrong(site.path)):
        for ask in (site.client.get, site.post):
            assert 1 <= int(refused(ask, path).headers["retry-after"]) <= 3
    assert site.client.get(site.path).status_code == 200
    assert site.post().status_code == 200
    assert site.client.get(site.path + "/receipt").status_code == 200
    assert site.client.get("/nothing").status_code == 404, "that is no token"
    cy = site.link("cy")
    for _ in range(FAILURES + 5):
        assert site.client.get(cy + "/receipt").status_code == 404, "a good token without a receipt"
    assert site.client.get("/no/x", headers={"x-forwarded-for": _address()}).status_code == 404, "another address"


def test_failures_that_come_all_at_once_are_limited_too(site: Site) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda n: site.post(f"/no/{n}"), range(FAILURES + 15)))
    assert 1 <= sum(answer.status_code == 429 for answer in answers) <= 15


def test_a_link_that_was_just_revoked_leads_nowhere_to_those_who_wait_either(site: Site) -> None:
    gone = site.link("bob")
    assert site.client.get(gone).status_code == 200
    site.book.links.revoke(gone)
    while site.client.get("/no/x").status_code != 429:
        pass
    assert site.post(gone).status_code in (404, 429)
    assert site.clicks() == []


def test_who_asks_is_told_by_the_server_in_front_and_by_no_other(book: ledger.Ledger, serve: Callable[..., Any]) -> None:
    def refused(served: Any, forwarded: str) -> int:
        """How many of twice as many as may fail at once."""
        with ThreadPoolExecutor(8) as pool:
            headers = [{"x-forwarded-for": forwarded.replace("{}", str(n))} for n in range(2 * FAILURES)]
            statuses = [a.status_code for a in pool.map(lambda h: served.client.get("/no/x", headers=h), headers)]
        assert set(statuses) <= {404, 429}
        return statuses.count(429)

    assert refused(serve(book.folder.path), "10.0.0.{}") > 0
    behind = serve(book.folder.path, "--behind", "127.0.0.0/8")
    assert refused(behind, "9.9.9.9, 10.0.0.{}") == 0
    assert refused(behind, "10.1.1.{}, 2001:db8::{}") > 0
    assert behind.client.get("/no/x", headers={"x-forwarded-for": "2001:db8::1, 2001:db8:0:1::1"}).status_code == 404


@pytest.mark.parametrize("behind", ["*", "localhost", "10.0.0.1/8", ""])
def test_a_server_in_front_is_an_address(book: ledger.Ledger, consent: Callable[..., Outcome], behind: str) -> None:
    outcome = consent("--ledger", book.folder.path, "serve", "--port", "0", "--behind", behind)
    assert outcome.code == 2 and "no address" in outcome.err


def test_failures_come_back_and_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    failed = FailedTokens(lambda: now[0])
    assert [failed.failed("10.0.0.1") for _ in range(FAILURES + 3)] == [0] * FAILURES + [2] * 3
    assert failed.failed("10.0.0.2") == 0
    now[0] = 1
    assert failed.failed("10.0.0.1") == 1
    now[0] = 2
    assert [failed.failed("10.0.0.1") for _ in range(2)] == [0, 2]
    now[0] = 10_000
    assert [failed.failed("10.0.0.1") for _ in range(FAILURES + 1)] == [0] * FAILURES + [2]
    monkeypatch.setattr(limits, "ADDRESSES", 5)
    for n in range(100):
        failed.failed(f"2001:db8:{n}::1")
    assert len(failed._left) <= 6


def test_what_counts_as_one_address() -> None:
    assert network("10.0.0.1") == network("::ffff:10.0.0.1") == "10.0.0.1"
    assert network("2001:db8::1") == network("2001:db8::ffff:1") == network("2001:DB8:0:0:1::%eth0") != network("2001:db8:0:1::1")
    assert network("") == network("unknown") == network("1.2.3.4, x" * 1000) == ""


def test_what_cannot_be_recorded_is_not_answered_as_if_it_had_been(site: Site) -> None:
    (site.book.folder.path / "head").rename(site.book.folder.path / "head.away")
    answer = site.post()
    assert answer.status_code == 503 and "Nothing is known to have been recorded" in answer.text
    (site.book.folder.path / "head.away").rename(site.book.folder.path / "head")
    assert site.post().status_code == 200 and len(site.clicks()) == 1


def test_texts_of_a_purpose_are_shown_as_texts(site: Site) -> None:
    hostile = "<script>alert(1)</script>{{ 7*7 }}{purpose} \" ' & \u202e"
    fields = dict.fromkeys(("title", "description", "controller", "contact", "retention", "withdraw_url"), hostile)
    site.book.declare_purpose(site.purpose, categories=["<b>", "post"], recipients=["<img src=x>", "R"], **fields)
    for page in (site.client.get(site.path).text, site.post().text):
        assert "<script" not in page and "<img" not in page and "<b>" not in page
        assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;{{ 7*7 }}{purpose}") >= 3
        assert "&lt;img src=x&gt;" in page and "&lt;b&gt;" in page


def test_what_is_not_stated_is_said_to_be_so(site: Site) -> None:
    assert site.client.get(site.path).text.count("Not stated") == 4
    assert site.client.get(site.path, headers={"accept-language": "de"}).text.count("Nicht angegeben") == 4


def test_the_language_stays_with_the_press(site: Site) -> None:
    page = site.client.get(site.path, params={"lang": "de"}, headers={"accept-language": "en"}).text
    (action,) = re.findall(r'<form method="post" action="([^"]*)"', page)
    assert action == "?lang=de"
    done = site.client.post(site.path + action, content=BODY, headers={**FORM, "accept-language": "en"})
    assert 'lang="de"' in done.text and "festgehalten" in done.text
    assert 'href="?lang=en"' in done.text


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


_QUIET = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@_QUIET
@given(
    content=st.binary(max_size=300)
    | st.lists(st.tuples(TEXT, TEXT)).map(lambda pairs: urlencode(pairs).encode())
    | st.binary(max_size=200).map(lambda b: b"--b\r\nContent-Disposition: form-data; name=List-Unsubscribe\r\n\r\n" + b),
    kind=st.sampled_from([*FORM.values(), "multipart/form-data; boundary=b", "multipart/form-data; boundary=", "text/plain", ""]),
)
def test_no_hostile_body_says_no_or_breaks_anything(site: Site, content: bytes, kind: str) -> None:
    before = head_of(site)
    answer = site.client.post(site.path, content=content, headers={"content-type": kind} if kind else {})
    assert answer.status_code == 400 and "<button>" in answer.text
    assert head_of(site) == before


@_QUIET
@given(
    st.binary(min_size=1, max_size=300).map(lambda b: "".join(f"%{byte:02x}" for byte in b))
    | st.from_regex(r"[\w-]{1,400}", fullmatch=True)
)
def test_no_hostile_token_leads_anywhere(site: Site, token: str) -> None:
    before = head_of(site)
    asking = {"x-forwarded-for": _address()}
    for answer in (site.client.get(f"/no/{token}", headers=asking), site.post(f"/no/{token}", headers=asking)):
        assert answer.status_code in (404, 307)
    assert head_of(site) == before


def test_as_soon_as_it_is_answered_the_next_snapshot_heeds_it(site: Site) -> None:
    assert site.reason() == "allowed"
    site.post()
    rows = site.book.look(site.purpose).rows().to_pylist()
    assert [(row["subject_id"], row["no_state"]) for row in rows] == [(site.subject, NO.index("withdrawn"))]
