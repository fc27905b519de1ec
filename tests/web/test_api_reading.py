"""The HTTP API on a real server: subjects by odd ids, pages of events, and decisions by the rule."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from talking import JSON, Api, valid

import ledger
from ledger.consent import Row, decide
from ledger.web import decisions
from tests.conftest import yes

ODD = [
    "a/b",
    "/",
    "//",
    "..",
    "../x",
    ".",
    "a b",
    " ",
    "a?b",
    "a#b",
    "a%2Fb",
    "%",
    "%41",
    "+",
    "ä",
    "a\u0308",
    "\u202e",
    "\n",
    "a\nb",
    "\r\n\u2028/x",
    "\x7f",
    "名",
    "😀",
    "a;b",
    "a:b",
    "<script>",
    "\\",
    "\ufffd",
    "x" * 512,
    "?",
    "events",
    "a/",
    "/a",
]


def encoded(text: str) -> bytes:
    return "".join(f"%{byte:02X}" for byte in text.encode()).encode()


def test_an_id_in_the_path_reaches_its_subject_or_none(api: Api) -> None:
    api.book.record_all(yes(who, event_id=f"odd{n}") for n, who in enumerate(ODD))
    for n, who in enumerate(ODD):
        status, told = api.raw(b"/v1/subjects/" + encoded(who))
        assert (status, told["subject_id"]) == (200, who)
        assert [e["event_id"] for e in told["events"]] == [f"odd{n}"], who
    # As they stand, where they can: decoded once, and never resolved.
    for target, who in (
        (b"a/b", "a/b"),
        (b"..", ".."),
        (b"../x", "../x"),
        (b"//", "//"),
        (b"a%252Fb", "a%2Fb"),
        (b"+", "+"),
        (b"a/", "a/"),
        (b"a;b", "a;b"),
        (b"%c3%A4", "ä"),
    ):
        status, told = api.raw(b"/v1/subjects/" + target)
        assert (status, told["subject_id"], len(told["events"])) == (200, who, 1), target


def test_what_is_no_id_reaches_nobody(api: Api) -> None:
    for target in (
        b"", b"%00", b"a%00", b"%FF", b"%C0%AF", b"%ED%A0%80", b"%", b"%4", b"%zz", b"x" * 513, b"%C3%A4" * 257,
        b"ann?content_id=c", b"ann?a=b&a=b",
    ):  # fmt: skip
        status, told = api.raw(b"/v1/subjects/" + target)
        assert status == 422 and set(told) <= {"error", "hint"}, target


def test_a_path_that_is_written_otherwise_reaches_nobody(api: Api) -> None:
    for target in (
        b"/v1/%73ubjects/ann",
        b"/v1%2Fsubjects%2Fann",
        b"/v1/x/../subjects/ann",
        b"//v1/subjects/ann",
        b"/V1/subjects/ann",
        b"/v1/subjects",
    ):
        assert api.raw(target)[0] == 404, target


def test_nobody_is_unknown(api: Api) -> None:
    api.book.record(yes("nora"))
    told = valid("show", api.ask("GET", "/v1/subjects/nobody"))
    assert told["events"] == [] and "no_record" in [d["reason"] for d in told["decisions"]]
    assert not any(d["allowed"] for d in told["decisions"])
    assert valid("show", api.ask("GET", "/v1/subjects/nora")) == api.book.show("nora")


def test_pages_follow_one_another(api: Api) -> None:
    api.book.record_all(yes(f"page{n}") for n in range(25))
    found: list[str] = []
    after = 0
    while page := valid("events", api.ask("GET", f"/v1/events?after={after}&limit=10"))["events"]:
        found += [event["subject_id"] for event in page]
        after = page[-1]["position"] + 1
    assert found == [event.subject_id for _, event in api.book.events()]
    assert api.ask("GET", "/v1/events").json() == api.book.page().document()
    for query in (
        "after=-1", "after=1e3", "after=%2B1", "after= 1", "after=", "limit=0", "limit=1001", "after=1&after=2", "x=1",
        "after=999999999", "after=١", "limit=1.0", "after=99999999999999999999",
    ):  # fmt: skip
        answer = api.ask("GET", f"/v1/events?{query}")
        assert answer.status_code == 422, query
        valid("error", answer)


def test_rows_are_decided_by_the_rule_as_it_stands(api: Api) -> None:
    book = api.book
    book.declare_purpose("posts", title="T", description="D", categories=["post"])
    now = datetime.now(UTC)
    book.record_all(
        [
            yes("ann"),
            yes("bob"),
            yes("cat", content_id="c1"),
            yes("dan", expires_at=now - timedelta(days=1)),
            yes("eve", content_since=datetime(2026, 5, 1, tzinfo=UTC)),
            yes("fay", purposes=["posts"]),
        ]
    )
    book.withdraw("bob", content_id="b1")
    rows: list[tuple[dict[str, Any], str]] = [
        ({"subject_id": "ann"}, "allowed"),
        ({"subject_id": "Ann"}, "no_record"),
        ({"subject_id": "ann "}, "no_record"),
        ({"subject_id": ""}, "subject_missing"),
        ({"subject_ids": []}, "subject_missing"),
        ({"subject_ids": ["ann", ""]}, "subject_missing"),
        ({"subject_ids": ["ann", "bob"], "content_id": "x"}, "allowed"),
        ({"subject_ids": ["ann", "bob"], "content_id": "b1"}, "withdrawn"),
        ({"subject_ids": ["ann", "bob"]}, "withdrawn"),  # an unknown item may be the one
        ({"subject_ids": ["ann", "bob"], "content_id": ""}, "withdrawn"),
        ({"subject_ids": ["ann", "ann"]}, "allowed"),
        ({"subject_id": "cat"}, "no_record"),
        ({"subject_id": "cat", "content_id": "c1"}, "allowed"),
        ({"subject_id": "dan"}, "expired"),
        ({"subject_id": "eve"}, "not_covered"),
        ({"subject_id": "eve", "created": "2026-05-01T02:00:00+02:00"}, "allowed"),
        ({"subject_id": "eve", "created": "2026-05-01T01:59:59.999999+02:00"}, "not_covered"),
    ]
    answer = api.post("/v1/decisions", {"purpose": "train-ai", "rows": [row for row, _ in rows]})
    told = valid("decisions", answer)
    assert [d["reason"] for d in told["decisions"]] == [reason for _, reason in rows]
    assert [d["allowed"] for d in told["decisions"]] == [reason == "allowed" for _, reason in rows]
    assert (told["purpose"], told["checkpoint"]) == ("train-ai@1", book.checkpoint())
    told = api.post(
        "/v1/decisions", {"purpose": "posts@1", "rows": [{"subject_id": "fay", "category": k} for k in ("post", "photo", "")]}
    ).json()
    assert [d["reason"] for d in told["decisions"]] == ["allowed", "category_excluded", "category_excluded"]
    book.declare_purpose("posts", title="T", description="E", categories=["post"])
    old, new = (
        api.post("/v1/decisions", {"purpose": p, "rows": [{"subject_id": "fay", "category": "post"}]})
        for p in ("posts@1", "posts")
    )
    assert old.status_code == 422 and new.json()["decisions"][0]["reason"] == "notice_changed"


def test_rows_that_are_mistyped_are_not_decided(api: Api) -> None:
    api.book.record_all([yes("1"), yes("ann"), yes("null"), yes("True"), yes("None")])
    good: dict[str, Any] = {"subject_id": "ann"}
    for row in (
        {},
        None,
        "ann",
        ["ann"],
        {"subject_id": None},
        {"subject_id": 1},
        {"subject_id": 1.0},
        {"subject_id": True},
        {"subject_id": ["ann"]},
        {"subject_ids": "ann"},
        {"subject_ids": None},
        {"subject_ids": [None]},
        {"subject_ids": [1]},
        {"subject_ids": {"ann": 1}},
        {"subject_id": "ann", "subject_ids": ["ann"]},
        {**good, "category": None},
        {**good, "content_id": 7},
        {**good, "created": None},
        {**good, "created": "2026-05-01"},
        {**good, "created": 1767225600},
        {**good, "content": "c"},
        {"subject_id": "x" * 513},
        {"subject_id": "a\0"},
        {"subject_id": "\ud800"},
    ):
        content = json.dumps({"purpose": "train-ai", "rows": [good, row]})
        answer = api.ask("POST", "/v1/decisions", content=content, headers=JSON)
        assert answer.status_code == 422, row
        assert "decisions" not in valid("error", answer)
    for body in (
        {"rows": [good]},
        {"purpose": "train-ai"},
        {"purpose": "train-ai", "rows": []},
        {"purpose": "train-ai", "rows": [good] * 1001},
        {"purpose": "train-ai", "rows": good},
        {"purpose": "nope", "rows": [good]},
        {"purpose": ["train-ai"], "rows": [good]},
        {"purpose": "*", "rows": [good]},
        {"purpose": "train-ai@2", "rows": [good]},
        {"purpose": "train-ai", "rows": [good], "at": "now"},
        {"purpose": "train-ai", "rows": [{"subject_ids": [f"u{n}" for n in range(1001)]}]},
    ):
        assert api.post("/v1/decisions", body).status_code == 422, str(body)[:80]
    twice = b'{"purpose": "train-ai", "rows": [{"subject_id": "nobody", "subject_id": "ann"}]}'
    assert api.ask("POST", "/v1/decisions", content=twice, headers=JSON).status_code == 422


def test_many_rows_of_many_people_are_decided_by_the_rule_and_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = ledger.create(tmp_path / "ledger")
    book.declare_purpose("train-ai", title="Train", description="Train a model")
    chance, now = random.Random(7), datetime.now(UTC)
    people, kinds, items = [f"p{n}" for n in range(40)], [None, "post", "photo"], [None, "c1", "c2"]
    acts = []
    for n in range(200):
        kind = chance.choice(kinds)
        scope = {"category": kind} if kind else {"content_id": item} if (item := chance.choice(items)) else {}
        said = chance.choice(["given", "given", "given", "refused", "withdrawn"])
        terms = {"content_since": now - timedelta(days=9)} if said == "given" and chance.random() < 0.3 else {}
        acts.append(
            yes(
                chance.choice(people),
                event_id=f"{n}",
                state=said,
                occurred_at=now - timedelta(days=chance.randrange(60)),
                **scope,
                **terms,
            )
        )
    book.record_all(acts)
    some = [
        Row(
            [chance.choice([*people, *people, ""]) for _ in range(chance.choice([0, 1, 1, 1, 2, 3]))],
            chance.choice(kinds),
            chance.choice(items),
            chance.choice([None, now, now - timedelta(days=30)]),
        )
        for _ in range(200)
    ]
    told = book.read(decisions.decided, "train-ai", some)["decisions"]
    events, [purpose] = [event for _, event in book.events()], book.purposes()
    reasons = [decide(row, events, purpose, datetime.now(UTC)) for row in some]
    assert [one["reason"] for one in told] == reasons and len(set(reasons)) >= 5
    # Each event is looked at for its own subject alone: a body of 1 MiB would take a server for minutes else.
    crowd, looked = [f"q{n}" for n in range(100)], list[int]()
    book.record_all(yes(who, event_id=f"{who}/{n}") for who in crowd for n in range(3))
    monkeypatch.setattr(decisions, "decide", lambda row, events, *at: looked.append(len(events)) or decide(row, events, *at))
    assert book.read(decisions.decided, "train-ai", [Row(crowd)])["decisions"] == [{"allowed": True, "reason": "allowed"}]
    assert looked == [3] * len(crowd)
    book.close()
