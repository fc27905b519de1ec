"""`consent serve` as a process: it starts, answers, refuses, and ends with nothing begun left undone."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import ledger
from ledger import api_keys
from ledger.consent import Event
from ledger.errors import ConsentLedgerError, InvalidEvent, LedgerBusy
from ledger.statements.receipt import open_event_receipt
from ledger.store.append import Transaction
from ledger.web import server
from ledger.web.shield import MAX_BODY_BYTES
from ledger.web.words import languages, pick
from ledger.web.writer import Writer


def test_every_answer_loads_nothing_from_elsewhere_and_tells_nobody(book: ledger.Ledger, serve: Callable[..., Any]) -> None:
    served = serve(book.folder.path)
    for path in ("/style.css", "/icon.svg", "/nothing", "/v1/nothing"):
        answer = served.client.get(path)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "server" not in answer.headers
    assert served.stop(signal.SIGTERM) in (0, -signal.SIGTERM)


def test_an_unknown_path_is_told_in_the_readers_language(book: ledger.Ledger, serve: Callable[..., Any]) -> None:
    served = serve(book.folder.path)
    english = served.client.get("/nothing")
    german = served.client.get("/nothing", headers={"accept-language": "fr, de-AT;q=0.8, en;q=0.5"})
    assert (english.status_code, german.status_code) == (404, 404)
    assert 'lang="en"' in english.text and "This link leads nowhere" in english.text
    assert 'lang="de"' in german.text and "führt nirgendwohin" in german.text


def test_bodies_are_bounded_told_and_untold(book: ledger.Ledger, serve: Callable[..., Any]) -> None:
    served = serve(book.folder.path)
    assert served.client.post("/nothing", content=b"x" * (MAX_BODY_BYTES + 1)).status_code == 413
    assert served.client.post("/nothing", content=(b"x" * 65536 for _ in range(20))).status_code == 413
    assert served.client.post("/nothing", content=b"x" * MAX_BODY_BYTES).status_code == 404


def test_a_port_in_use_is_an_error_that_says_so(book: ledger.Ledger, consent: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        outcome = consent("--ledger", book.folder.path, "serve", "--port", str(taken.getsockname()[1]))
    assert outcome.code == 1
    assert "cannot listen" in outcome.err and "--port" in outcome.err


def test_without_its_key_nothing_is_served(book: ledger.Ledger, consent: Callable[..., Any]) -> None:
    (book.folder.path / "log.key").unlink()
    outcome = consent("--ledger", book.folder.path, "serve", "--port", "0")
    assert outcome.code == 1 and "log.key is missing" in outcome.err


def _no(subject: str) -> Callable[[Transaction], int]:
    event = Event(state="withdrawn", subject_id=subject, purposes=("train-ai",), occurred_at=datetime.now(UTC))
    return lambda tx: tx.event(event, "test").position


def test_what_waits_together_is_one_transaction_and_each_has_its_own_answer(book: ledger.Ledger) -> None:
    writer = Writer(book.append)
    with ThreadPoolExecutor(32) as pool:
        positions = list(pool.map(lambda n: writer.submit(_no(f"u{n}")).result(60), range(200)))
    writer.close()
    assert sorted(positions) == list(range(min(positions), min(positions) + 200))
    assert {event.subject_id for _, event in book.events()} == {f"u{n}" for n in range(200)}
    assert book.fsck().size == max(positions) + 1


def test_an_act_that_fails_fails_alone(book: ledger.Ledger) -> None:
    def half_done(tx: Transaction) -> None:
        _no("half")(tx)
        raise InvalidEvent("and then it failed")

    def none(tx: Transaction) -> None:
        raise InvalidEvent("it never began")

    def broken(tx: Transaction) -> None:
        raise ZeroDivisionError

    gate: list[Any] = []
    writer = Writer(lambda plan: (gate.pop() if gate else None) or book.append(plan))
    futures = [writer.submit(act) for act in (_no("a"), half_done, _no("b"), none, broken, _no("c"))]
    writer.close()
    assert [type(f.exception()) for f in futures] == [
        type(None), InvalidEvent, type(None), InvalidEvent, ZeroDivisionError, type(None),
    ]  # fmt: skip
    assert [event.subject_id for _, event in book.events()] == ["a", "b", "c"]


def test_a_commit_that_failed_is_not_tried_again(book: ledger.Ledger) -> None:
    tries = []

    def append(plan: Callable[[Transaction], None]) -> Any:
        book.append(plan)
        tries.append(plan)
        raise ConsentLedgerError("whether the act was recorded is not known")

    writer = Writer(append)
    futures = [writer.submit(_no(f"u{n}")) for n in range(5)]
    writer.close()
    assert all(isinstance(f.exception(), ConsentLedgerError) for f in futures)
    assert len([*book.events()]) == 5, "each once"


def test_a_ledger_that_is_busy_is_waited_for_once_by_all(book: ledger.Ledger) -> None:
    tries = []

    def append(plan: Callable[[Transaction], None]) -> Any:
        tries.append(plan)
        raise LedgerBusy("another process holds the lock")

    writer = Writer(append)
    first = writer.submit(_no("a"))
    futures = [first, *(writer.submit(_no(f"u{n}")) for n in range(50))]
    writer.close()
    assert all(isinstance(f.exception(), LedgerBusy) for f in futures)
    assert len(tries) < 10


@pytest.mark.parametrize("tag", [tag for tag in languages() if tag != "en"])
def test_every_language_has_all_the_words_and_the_same_places(tag: str) -> None:
    english, other = languages()["en"].texts, languages()[tag].texts
    places = lambda text: sorted(part.split("}")[0] for part in text.split("{")[1:])  # noqa: E731
    assert {s: sorted(t) for s, t in other.items()} == {s: sorted(t) for s, t in english.items()}
    for section, texts in english.items():
        for key, text in texts.items():
            assert places(other[section][key]) == places(text), f"{section}.{key}"


@pytest.mark.parametrize(
    ("asked", "accepted", "language"),
    [
        (None, None, "en"),
        ("de", "en", "de"),
        ("xx", "de", "de"),
        (None, "de-CH", "de"),
        (None, "en;q=0.1, de", "de"),
        (None, "de;q=0, en", "en"),
        (None, "*", "en"),
        (None, ";;;,,,q=", "en"),
        ("../../etc", "de" + "x" * 5000, "en"),
    ],
)
def test_the_readers_language(asked: str | None, accepted: str | None, language: str) -> None:
    assert pick(asked, accepted).language == language


def test_words_that_are_not_there_fail_loudly(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        languages()["en"]["common"]["nothing"]


def test_a_body_of_two_lengths_is_refused_with_what_follows_it(book: ledger.Ledger, serve: Callable[..., Any]) -> None:
    served = serve(book.folder.path)
    hidden = b"0\r\n\r\nGET /style.css HTTP/1.1\r\nHost: x\r\n\r\n"
    head = b"POST /nothing HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n" % len(hidden)
    host, _, port = served.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), 30) as connection:
        connection.sendall(head + hidden)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ") and answer.count(b"HTTP/1.1 ") == 1, answer


def test_a_head_that_does_not_come_costs_its_connection_and_no_other(
    book: ledger.Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, so that nobody waits for long."""
    monkeypatch.setattr(server, "HEAD_SECONDS", 1)
    running: list[Any] = []
    start, begin, started = server._Server.__init__, running.append, threading.Event()
    monkeypatch.setattr(server._Server, "__init__", lambda self, *given: (begin(self), start(self, *given))[1])
    urls: list[str] = []
    told = lambda url: (urls.append(url), started.set())  # noqa: E731
    thread = threading.Thread(target=server.serve, args=(book,), kwargs={"host": "127.0.0.1", "port": 0, "on_start": told})
    thread.start()
    try:
        assert started.wait(60)
        address = ("127.0.0.1", int(urls[0].rpartition(":")[2]))
        good = b"GET /icon.svg HTTP/1.1\r\nHost: x\r\n\r\n"
        for sent, answers in ((b"", 0), (b"GET / HT", 0), (good, 1), (good + b"GET / HT", 1), (good * 3, 3)):
            with socket.create_connection(address, 30) as connection:
                connection.sendall(sent)
                answer = b"".join(iter(lambda: connection.recv(65536), b""))
            assert answer.count(b"HTTP/1.1 200 ") == answers, sent
        with socket.create_connection(address, 30) as connection:  # a body has a time of its own
            connection.sendall(b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
            time.sleep(1.5)
            connection.sendall(b"x")
            assert connection.recv(65536).startswith(b"HTTP/1.1 404 ")
    finally:
        running[0].should_exit = True
        thread.join(60)


def test_a_running_server_goes_on_with_a_new_key_of_the_log(book: ledger.Ledger, serve: Callable[..., Any]) -> None:
    key = api_keys.add(book.folder.path, "crm", ["record"])
    served = serve(book.folder.path)

    def say(subject: str) -> bytes:
        event = {"state": "refused", "subject_id": subject, "purposes": ["train-ai"], "occurred_at": "2026-01-01T00:00:00Z"}
        answer = served.client.post("/v1/events", json=event, headers={"authorization": f"Bearer {key}"})
        assert answer.status_code in (200, 201), answer.text
        return book.receipt(answer.json()["event"]["event_id"])

    before = book.trust
    say("u1")
    size = book.keys.rotate().size
    after = say("u2")
    assert open_event_receipt(after, book.trust).checkpoint.size > size
    with pytest.raises(ledger.VerificationError, match="not signed by a key that is trusted"):
        open_event_receipt(after, before)
