"""Links: what a token says, what a click records, and that nobody's link is silenced unseen."""

from __future__ import annotations

import csv
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ledger
from ledger import files, links, times
from ledger.errors import ConsentLedgerError, InvalidEvent, UsageError
from ledger.links import Link, digest, headers, open_token, say_no, url
from ledger.store.append import Transaction
from tests.conftest import yes

KEYS = [bytes(range(64)), bytes(64)]
BASE = "https://consent.example.org"
IDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=128)
PURPOSES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}", fullmatch=True)


@given(IDS, PURPOSES, st.integers(0, 10**8))
def test_a_token_says_whom_and_what_it_was_made_for(subject: str, purpose: str, number: int) -> None:
    link = Link(subject, purpose, number)
    assert open_token(link.token(KEYS, "o"), KEYS, "o") == link
    assert open_token(link.token(KEYS, "o"), KEYS, "p") is None


@pytest.mark.parametrize("subject", ["\x01" * 512, "\n", "a\nb/1\nc", "ä" * 256, "/", '"', "\x80"])
def test_every_id_that_there_can_be_has_a_link(subject: str) -> None:
    link = Link(subject, "p" * 100, 10**8)
    assert open_token(link.token(KEYS, "o"), KEYS, "o") == link


@given(st.text(max_size=200))
def test_whatever_else_is_sealed_for_a_link_opens_as_one_or_as_none(text: str) -> None:
    from ledger import tokens

    try:
        token = tokens.seal(text, KEYS, origin="o", use=links.USE)
    except ValueError:
        return
    opened = open_token(token, KEYS, "o")
    assert opened is None or opened.token(KEYS, "o") == token


@pytest.mark.parametrize(
    "base",
    [
        "",
        "consent.example.org",
        "ftp://x",
        "https://x y",
        "https://x\r\nX: y",
        "https://x<>",
        "https://x?a",
        "https://x#a",
        'https://"',
    ],
)
def test_what_is_no_address_of_a_server_is_refused(base: str) -> None:
    with pytest.raises(UsageError, match="no address of a server"):
        url(base, "token")


def test_the_headers_are_those_of_rfc_8058() -> None:
    assert headers(url(BASE + "/", "TOKEN")) == {
        "List-Unsubscribe": "<https://consent.example.org/no/TOKEN>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }


def token_of(book: ledger.Ledger, subject: str = "ann", purpose: str = "train-ai") -> str:
    return book.links.make(subject, purpose=purpose, base=BASE).rpartition("/")[2]


def click(book: ledger.Ledger, token: str) -> int:
    link, positions = book.links.open(token), []
    assert link is not None

    def plan(tx: Transaction) -> None:
        positions.append(say_no(tx, [link])[0][0])

    book.append(plan)
    return positions[0]


def allowed(book: ledger.Ledger, subject: str = "ann") -> bool:
    return bool(book.show(subject)["decisions"][0]["allowed"])


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """clock(seconds): the machine's clock is that much ahead from now on."""
    real, ahead = times.now, [0.0]
    monkeypatch.setattr(times, "now", lambda: real() + timedelta(seconds=ahead[0]))

    def on(seconds: float) -> None:
        ahead[0] += seconds

    return on


def test_a_click_is_a_no_of_that_person_to_that_purpose(book: ledger.Ledger) -> None:
    book.declare_purpose("search", title="Search", description="Find")
    for subject in ("ann", "bob"):
        book.record(yes(subject, purposes=["train-ai", "search"]))
    position = click(book, token_of(book))
    ((_, event),) = [found for found in book.events() if found[0] == position]
    assert (event.state, event.subject_id, event.purposes, event.channel) == ("withdrawn", "ann", ("train-ai@1",), "one-click")
    assert event.recorded_by == "web:link" and event.occurred_at == event.recorded_at
    assert {d["purpose"]: d["allowed"] for d in book.show("ann")["decisions"]} == {"search@1": True, "train-ai@1": False}
    assert allowed(book, "bob")


def test_at_once_again_it_is_one_entry(book: ledger.Ledger) -> None:
    token = token_of(book)
    assert len({click(book, token) for _ in range(5)}) == 1
    assert book.fsck().events == 1


def test_in_one_transaction_too(book: ledger.Ledger) -> None:
    link, other = Link("ann", "train-ai"), Link("bob", "train-ai")
    positions: list[int] = []
    book.append(lambda tx: positions.extend(position for position, _ in say_no(tx, (link, other, link, other))))
    assert positions[:2] == positions[2:] and positions[0] != positions[1]


@pytest.mark.parametrize("scope", [{}, {"content_id": "p1"}, {"category": "post"}])
@pytest.mark.parametrize("purpose", ["train-ai", "search"])
def test_a_yes_in_between_is_answered_anew(book: ledger.Ledger, scope: dict[str, str], purpose: str) -> None:
    book.declare_purpose("search", title="Search", description="Find")
    token = token_of(book)
    first = click(book, token)
    book.record(yes("ann", occurred_at=datetime.now(UTC), purposes=[purpose], **scope))
    second = click(book, token)
    assert second > first
    assert not any(d["allowed"] for d in book.show("ann")["decisions"] if d["purpose"] == "train-ai@1")


def test_a_yes_that_arrives_late_and_lies_between_two_clicks_stays_answered(
    book: ledger.Ledger, clock: Callable[[float], None]
) -> None:
    token = token_of(book)
    first = click(book, token)
    clock(6)
    between = times.now()
    clock(6)
    second = click(book, token)
    assert second > first, "past the moment that counts as at once"
    book.record(yes("ann", occurred_at=between))
    assert not allowed(book)


def test_noes_that_were_not_said_by_the_link_do_not_stand_for_it(book: ledger.Ledger) -> None:
    """A no that is imported late and dated long ago is older than a yes that was recorded before it."""
    book.record(yes("ann", occurred_at=datetime(2026, 1, 1, tzinfo=UTC)))
    old = datetime(2025, 1, 1, tzinfo=UTC)
    for channel in ("one-click", None):
        book.record(ledger.Event(state="withdrawn", subject_id="ann", purposes=["*"], occurred_at=old, channel=channel))
    assert allowed(book)
    click(book, token_of(book))
    assert not allowed(book)


def test_another_purposes_click_does_not_stand_for_it(book: ledger.Ledger) -> None:
    book.declare_purpose("train-ai-2", title="T", description="D")
    assert click(book, token_of(book)) != click(book, token_of(book, purpose="train-ai-2"))


def test_many_acts_at_once_after_a_click_do_not_hide_a_yes(book: ledger.Ledger) -> None:
    token = token_of(book)
    click(book, token)
    now = datetime.now(UTC)
    noes = [
        ledger.Event(state="refused", subject_id="ann", purposes=["train-ai"], content_id=f"p{n}", occurred_at=now)
        for n in range(150)
    ]
    book.record_all([yes("ann", occurred_at=now), *noes])
    click(book, token)
    assert not allowed(book)


def test_a_click_is_dated_by_the_logs_clock(book: ledger.Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    book.record(yes("ann", occurred_at=datetime.now(UTC)))
    monkeypatch.setattr(times, "now", lambda: datetime(2026, 2, 1, tzinfo=UTC))  # long before the log's last entry
    token = token_of(book)
    first = click(book, token)
    assert first == click(book, token)
    monkeypatch.undo()
    assert not allowed(book)


def test_links_keep_working(book: ledger.Ledger) -> None:
    tokens = [token_of(book)]
    book.links.renew_key()
    tokens.append(token_of(book))
    book.declare_purpose("train-ai", title="Train more", description="Another model")
    book.links.renew_key()
    assert len({*tokens, token_of(book)}) == 3
    assert {book.links.open(token) for token in tokens} == {Link("ann", "train-ai")}
    click(book, tokens[0])
    assert [event.purposes for _, event in book.events()] == [("train-ai@2",)], "the version that stands"


def test_the_same_link_again_is_the_same_until_it_is_revoked(book: ledger.Ledger) -> None:
    tokens = [token_of(book)]
    assert token_of(book) == tokens[0]
    for _ in range(3):
        assert book.links.revoke(tokens[-1])
        assert not book.links.revoke(BASE + "/no/" + tokens[-1]), "once"
        tokens.append(token_of(book))
    assert len(set(tokens)) == 4
    book.links.renew_key()
    assert {book.links.open(token).subject_id for token in tokens} == {"ann"}  # type: ignore[union-attr]


def test_revoking_is_an_act_of_the_log(book: ledger.Ledger) -> None:
    token = token_of(book)
    book.links.revoke(f"{BASE}/no/{token}?lang=de")
    acts = book.read(lambda history: history.acts("link_revoked"))
    assert [act["token_sha256"] for _, act in acts] == [digest(token)]
    assert acts[0][1]["recorded_by"].startswith("user:")
    assert book.fsck().acts == acts[0][0] + 1
    with pytest.raises(UsageError, match="no link of this ledger"):
        book.links.revoke(BASE)


def test_what_was_revoked_is_read_once_and_all_of_it(book: ledger.Ledger) -> None:
    revoked = links.Revoked()
    tokens = [token_of(book, f"u{n}") for n in range(20)]
    for number, token in enumerate(tokens):
        book.links.revoke(token)
        book.record(yes("ann", event_id=str(number)))
        assert [t in book.read(revoked.look) for t in tokens] == [n <= number for n in range(20)]


def test_links_are_made_for_declared_purposes_and_ids_alone(book: ledger.Ledger) -> None:
    for purpose in ("train", "train-ai@1", "", "*"):
        with pytest.raises(UsageError, match="not declared") as raised:
            book.links.maker(purpose)
        assert "train-ai" in (raised.value.hint or "")
    make = book.links.maker("train-ai")
    for subject in ("", "a\0b", "x" * 513, "\ud800"):
        with pytest.raises(InvalidEvent):
            make(subject)


def test_the_receipt_is_of_the_last_click(book: ledger.Ledger, clock: Callable[[float], None], tmp_path: Path) -> None:
    link = Link("ann", "train-ai")
    assert book.read(links.receipt, link) is None
    book.withdraw("ann")
    assert book.read(links.receipt, link) is None
    token = token_of(book)
    click(book, token)
    clock(11)
    position = click(book, token)
    book.withdraw("ann")
    path = tmp_path / "consent-receipt.json"
    path.write_bytes(book.read(links.receipt, link))
    verified = ledger.verify(path, trust=book.folder.path / "trust")
    assert f"entry {position}" in " ".join(verified.checked) or str(position) in path.read_text()


def test_a_link_key_is_never_half_there(book: ledger.Ledger) -> None:
    """Killed at any of its system calls, what was there stays good, and what was not there is made."""
    path = book.folder.path / "link.key"
    code = (
        "import os, signal, sys, ledger\n"
        "book, left = ledger.open(sys.argv[1]), int(sys.argv[2])\n"
        "def hook(event, arguments):\n"
        "    global left\n"
        "    if event in ('open', 'os.rename', 'os.remove', 'fcntl.flock') and 'link.key' in str(arguments):\n"
        "        left -= 1\n"
        "        if left < 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.addaudithook(hook)\n"
        "book.links.renew_key()\n"
    )
    killed, known = 0, []
    for step in range(20):
        outcome = subprocess.run([sys.executable, "-c", code, str(book.folder.path), str(step)], check=False)
        killed += outcome.returncode == -signal.SIGKILL
        keys = book.folder.link_keys()
        assert keys[len(keys) - len(known) :] == known
        known = keys
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        if outcome.returncode == 0:
            break
    assert outcome.returncode == 0 and killed >= 2
    assert [p.name for p in book.folder.path.glob(".link.key*")] == [], "the next one removes what a killed one left"


def test_many_who_come_at_once_lose_no_key(book: ledger.Ledger) -> None:
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda n: token_of(book) if n % 2 else book.links.renew_key(), range(32)))
    assert len(book.folder.link_keys()) in (16, 17)
    assert all(book.links.open(token) == Link("ann", "train-ai") for token in made if token)


def test_a_page_makes_no_key(book: ledger.Ledger) -> None:
    assert book.links.open("anything") is None
    assert not (book.folder.path / "link.key").exists()


def test_a_broken_key_file_is_said_to_be_one(book: ledger.Ledger) -> None:
    path = book.folder.path / "link.key"
    for content in (b"", b"xy\n", b"00" * 63 + b"\n"):
        path.unlink(missing_ok=True)
        files.create_private(path, content)
        for act in (book.links.renew_key, lambda: book.links.open("x")):
            with pytest.raises(ledger.IntegrityError, match="holds no keys"):
                act()
        assert path.read_bytes() == content


def test_keys_have_an_end(book: ledger.Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.store.folder._MAX_LINK_KEYS", 3)
    for _ in range(3):
        book.links.renew_key()
    with pytest.raises(UsageError, match="3 keys"):
        book.links.renew_key()
    assert len(book.folder.link_keys()) == 3


def test_another_ledgers_links_are_none_here(book: ledger.Ledger, tmp_path: Path) -> None:
    with ledger.create(tmp_path / "other") as other:
        other.declare_purpose("train-ai", title="T", description="D")
        token = token_of(other)
        files.create_private(book.folder.path / "link.key", (other.folder.path / "link.key").read_bytes())
        assert book.links.open(token) is None, "even under the same key"


def test_a_moved_ledger_makes_no_links(book: ledger.Ledger, tmp_path: Path) -> None:
    token = token_of(book)
    ledger.copy(book.folder.path, tmp_path / "new")
    with ledger.open(book.folder.path) as old, pytest.raises(ConsentLedgerError, match="moved"):
        token_of(old)
    with ledger.open(tmp_path / "new") as new:
        assert token_of(new) == token, "what was sent out stays good"


def test_on_postgresql(tmp_path: Path, new_database: Callable[..., str]) -> None:
    with ledger.create(tmp_path / "consent-ledger", database=new_database()) as book:
        book.declare_purpose("train-ai", title="T", description="D")
        tokens = [token_of(book), token_of(book, "bob")]
        assert book.read(links.receipt, Link("ann", "train-ai")) is None
        first = click(book, tokens[0])
        assert click(book, tokens[0]) == first
        book.record(yes("ann", occurred_at=datetime.now(UTC)))
        assert click(book, tokens[0]) > first and not allowed(book)
        assert b'"subject_id":"ann"' in book.read(links.receipt, Link("ann", "train-ai"))
        book.links.revoke(tokens[1])
        revoked = book.read(links.Revoked().look)
        assert [token in revoked for token in tokens] == [False, True]
        people = tmp_path / "people.csv"
        people.write_text("subject_id\nann\nbob\n")
        made = book.links.make_all(people, tmp_path / "links.csv", purpose="train-ai", base=BASE)
        assert (made.rows, made.unseen) == (2, 1)
        assert book.fsck().events == 3


# A table of people


def table(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_table_keeps_its_columns(book: ledger.Ledger, tmp_path: Path) -> None:
    people, out = tmp_path / "people.csv", tmp_path / "links.csv"
    rows = [("a@x.org", "ann", 'said "hi",\nand left'), ("", "bob", ""), ("c@x.org", " ann ", "=1+1"), ("d@x.org", "ann", "ß")]
    with people.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("mail", "subject_id", "note"), *rows])
    book.record(yes("ann"))
    made = book.links.make_all(people, out, purpose="train-ai", base=BASE)
    assert (made.rows, made.unseen) == (4, 2)
    found = table(out)
    assert [(r["mail"], r["subject_id"], r["note"]) for r in found] == rows
    make = book.links.maker("train-ai")
    for row in found:
        assert row["url"] == f"{BASE}/no/{make(row['subject_id'])}"
        assert (row["List-Unsubscribe"], row["List-Unsubscribe-Post"]) == (f"<{row['url']}>", "List-Unsubscribe=One-Click")
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_a_revoked_link_is_not_sent_out_again(book: ledger.Ledger, tmp_path: Path) -> None:
    people, out = tmp_path / "people.csv", tmp_path / "links.csv"
    people.write_text("subject_id\nann\n")
    book.links.revoke(token_of(book))
    book.links.make_all(people, out, purpose="train-ai", base=BASE)
    assert table(out)[0]["url"].endswith(token_of(book))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"subject_id\nann\n\nbob\n" + b"x" * 513 + b"\n", "line 5: subject_id is longer than 512 bytes"),
        (b"subject_id,mail\nann,a\n,b\n", "line 3: subject_id is empty"),
        (b"subject_id,mail\nann\n", "line 2: 1 values for 2 columns"),
        (b"subject_id\nann\na\0b\n", "line 3"),
        (b"subject_id\nann\n\xff\n", "line 3: not UTF-8"),
        (b'subject_id\nann\n"bob\n', "line 3: not CSV"),
        (b"subject_id\nann", "does not end with a newline"),
        (b"", "is empty"),
        (b"\xef\xbb\xbfsubject_id\nann\n", "byte order mark"),
        (b"Subject_ID\nann\n", "no column subject_id"),
        (b"subject_id,subject_id\nann,bob\n", "more than one column subject_id"),
        (b"subject_id,url\nann,u\n", "'url' already"),
        (b"subject_id,List-Unsubscribe\nann,u\n", "'List-Unsubscribe' already"),
    ],
)
def test_a_bad_table_writes_nothing_and_is_named(book: ledger.Ledger, tmp_path: Path, content: bytes, says: str) -> None:
    people, out = tmp_path / "people.csv", tmp_path / "out" / "links.csv"
    out.parent.mkdir()
    people.write_bytes(content)
    out.write_bytes(b"before")
    with pytest.raises(ConsentLedgerError) as raised:
        book.links.make_all(people, out, purpose="train-ai", base=BASE)
    assert says in str(raised.value)
    assert raised.value.hint
    assert out.read_bytes() == b"before" and [p.name for p in out.parent.iterdir()] == ["links.csv"]


def test_a_table_is_not_written_over_itself_nor_where_nothing_can_be(book: ledger.Ledger, tmp_path: Path) -> None:
    people = tmp_path / "people.csv"
    people.write_text("subject_id\nann\n")
    (tmp_path / "second.csv").hardlink_to(people)
    for out, says in (("people.csv", "itself"), ("second.csv", "itself"), (".", "cannot write"), ("no/links.csv", "cannot")):
        with pytest.raises(ConsentLedgerError, match=says):
            book.links.make_all(people, tmp_path / out, purpose="train-ai", base=BASE)
    with pytest.raises(ConsentLedgerError, match="cannot read"):
        book.links.make_all(tmp_path / "none.csv", tmp_path / "links.csv", purpose="train-ai", base=BASE)
    assert people.read_text() == "subject_id\nann\n"


def test_a_large_table_is_written_in_little_memory(book: ledger.Ledger, tmp_path: Path) -> None:
    people, out = tmp_path / "people.csv", tmp_path / "links.csv"
    people.write_text("subject_id\n" + "".join(f"person-{n}\n" for n in range(20_000)))
    told: list[int] = []
    made = book.links.make_all(people, out, purpose="train-ai", base=BASE, on_progress=told.append)
    assert (made.rows, made.unseen, told) == (20_000, 20_000, list(range(1000, 20_001, 1000)))
    rows = table(out)
    assert len({row["url"] for row in rows}) == 20_000
    assert out.stat().st_size > 5 << 20
