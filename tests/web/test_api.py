"""The HTTP API on a real server: acts, what holds for every route, and its description; no yes comes out of anything mistyped."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from talking import GIVEN, JSON, NO, Api, valid

import ledger
from ledger import schemas
from ledger.web import asked
from ledger.web.api import router
from ledger.web.openapi import document
from ledger.web.shield import MAX_BODY_BYTES
from tests.conftest import yes

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_an_act_is_recorded_before_it_is_answered(api: Api) -> None:
    answer = api.post("/v1/events", {**GIVEN, "event_id": "e1"})
    assert answer.status_code == 201
    told = valid("record", answer)
    assert (told["repeated"], told["event"]["recorded_by"], told["event"]["channel"]) == (False, "api:all", "api")
    assert told["decisions"][0]["allowed"] is True and "not seen the subject" in told["warnings"][0]
    assert ("e1", "ann") in [(event.event_id, event.subject_id) for _, event in api.book.events()]
    again = api.post("/v1/events", {**GIVEN, "event_id": "e1"})
    assert again.status_code == 200
    assert (valid("record", again)["repeated"], again.json()["position"]) == (True, told["position"])
    other = api.post("/v1/events", {**GIVEN, "event_id": "e1", "content_id": "c"})
    assert other.status_code == 409 and "e1" in valid("error", other)["error"]
    no = api.post("/v1/events", NO)
    assert no.status_code == 201 and valid("record", no)["decisions"][0]["reason"] == "withdrawn"
    assert api.said("ann") == ["given", "withdrawn"]
    assert "occurred_at" not in no.json()["event"], "a no without a moment counts from its recording"


def test_a_key_that_may_only_record_learns_nothing_of_anybody(api: Api) -> None:
    api.book.record(yes("Ann"))
    api.book.record(yes("ann"))
    unknown, known = (api.post("/v1/events", {**NO, "subject_id": who}, scope="record") for who in ("bob", "ann"))
    assert (unknown.json()["warnings"], unknown.json()["decisions"]) == ([], [])
    assert (known.json()["warnings"], known.json()["decisions"]) == ([], [])
    assert known.json()["event"]["recorded_by"] == "api:record"


def test_a_no_under_an_old_id_is_not_lost_to_a_yes_in_between(api: Api) -> None:
    no, dated = {**NO, "subject_id": "ida", "event_id": "opt-out-ida"}, "2026-02-01T00:00:00Z"
    assert api.post("/v1/events", no).status_code == 201
    assert api.post("/v1/events", no).status_code == 200
    assert api.book.record(yes("ida", occurred_at=datetime.now(UTC))).decisions[0]["allowed"] is True
    again = api.post("/v1/events", no)
    assert again.status_code == 201 and again.json()["event"]["event_id"] != "opt-out-ida"
    assert [d["allowed"] for d in valid("record", again)["decisions"]] == [False]
    # One that says when it was said is that very act.
    dan = {**no, "subject_id": "dan", "event_id": "opt-out-dan", "occurred_at": dated}
    assert api.post("/v1/events", dan).status_code == 201
    api.book.record(yes("dan", occurred_at=datetime.now(UTC)))
    assert api.post("/v1/events", dan).status_code == 200
    assert api.said("dan") == ["withdrawn", "given"]


def test_many_at_once_are_all_recorded(api: Api) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: api.post("/v1/events", {**NO, "subject_id": f"u{n}"}, scope="record"), range(120)))
    assert {answer.status_code for answer in answers} == {201}
    assert {f"u{n}" for n in range(120)} <= {event.subject_id for _, event in api.book.events()}
    assert len({answer.json()["position"] for answer in answers}) == 120


def test_on_postgresql_too(tmp_path: Path, new_database: Callable[..., str], serve: Callable[..., Any]) -> None:
    with ledger.create(tmp_path / "pg", database=new_database()) as book:
        book.declare_purpose("train-ai", title="Train", description="Train a model")
        api = Api(book, serve(book.folder.path))
        assert api.post("/v1/events", {**GIVEN, "event_id": "e1"}).status_code == 201
        assert api.post("/v1/events", {**GIVEN, "event_id": "e1"}).status_code == 200
        assert api.post("/v1/events", {**GIVEN, "event_id": "e1", "state": "renewed"}).status_code == 409
        assert api.post("/v1/events", NO).status_code == 201
        assert api.said("ann") == ["given", "withdrawn"]
        asked_for = {"purpose": "train-ai", "rows": [{"subject_id": "ann"}]}
        assert api.post("/v1/decisions", asked_for).json()["decisions"] == [{"allowed": False, "reason": "withdrawn"}]
        api.served.stop()
        book.fsck()


MISTYPED: list[tuple[str, Any]] = [
    *[
        (f"{name} is {kind}", {**GIVEN, name: wrong})
        for name in (*asked.EVENT_TEXTS, *asked.EVENT_TIMES, "purposes")
        for kind, wrong in {
            "null": None,
            "a number": 1,
            "a fraction": 1.0,
            "true": True,
            "a list": [["train-ai"]],
            "an object": {"a": "b"},
        }.items()
    ],
    *[(f"no {name}", {key: value for key, value in GIVEN.items() if key != name}) for name in GIVEN],
    *[(f"{name} is empty", {**GIVEN, name: ""}) for name in (*asked.EVENT_TEXTS, *asked.EVENT_TIMES)],
    *[
        (f"time {wrong!r}", {**GIVEN, "occurred_at": wrong})
        for wrong in (
            "2026-01-01",
            "2026-01-01T00:00:00",
            "now",
            "1767225600",
            "2026-13-01T00:00:00Z",
            "2026-01-01T00:00:60Z",
            "2026-01-01 00:00:00Z",
            "0001-01-01T00:00:00+05:00",
            "٢٠٢٦-01-01T00:00:00Z",
            "2026-01-01T00:00:00Z\n",
            "2999-01-01T00:00:00Z",
        )
    ],
    ("purposes is a text", {**GIVEN, "purposes": "train-ai"}),
    ("purposes has a null", {**GIVEN, "purposes": ["train-ai", None]}),
    ("purposes is empty", {**GIVEN, "purposes": []}),
    ("yes to all", {**GIVEN, "purposes": ["*"]}),
    ("undeclared", {**GIVEN, "purposes": ["train"]}),
    ("a state in capitals", {**GIVEN, "state": "Given"}),
    ("a state with a space", {**GIVEN, "state": "given "}),
    ("unknown field", {**GIVEN, "expires": "2026-01-02T00:00:00Z"}),
    ("a field in capitals", {**GIVEN, "Content_id": "c"}),
    ("what the ledger fills in", {**GIVEN, "recorded_at": "2026-01-01T00:00:00.000000Z"}),
    ("whose name", {**GIVEN, "recorded_by": "session:ann"}),
    ("one click says yes", {**GIVEN, "channel": "one-click"}),
    ("a yes of an authority", {**GIVEN, "actor": "authority"}),
    ("both scopes", {**GIVEN, "content_id": "c", "category": "post"}),
    ("an id with a NUL", {**GIVEN, "subject_id": "a\0b"}),
    ("an id of 513 bytes", {**GIVEN, "subject_id": "x" * 513}),
    ("an id of 258 two-byte letters", {**GIVEN, "subject_id": "ä" * 258}),
    ("a lone surrogate", {**GIVEN, "subject_id": "\ud800"}),
    ("ended before it began", {**GIVEN, "expires_at": "2025-01-01T00:00:00Z"}),
    ("a list", [GIVEN]),
    ("a text", "given"),
    ("null", None),
]
BODIES: list[tuple[str, bytes]] = [
    *[(name, json.dumps(body).encode()) for name, body in MISTYPED],
    (
        "two states",
        b'{"state": "withdrawn", ' + json.dumps(GIVEN).encode()[1:],
    ),
    (
        "two ends",
        json.dumps(GIVEN).encode()[:-1] + b', "expires_at": "2026-01-02T00:00:00Z", "expires_at": "2099-01-02T00:00:00Z"}',
    ),
    ("the same key, escaped", json.dumps(GIVEN).encode()[:-1] + b', "st\\u0061te": "given"}'),
    ("two documents", json.dumps(GIVEN).encode() * 2),
    ("cut short", json.dumps(GIVEN).encode()[:-1]),
    ("a byte order mark", b"\xef\xbb\xbf" + json.dumps(GIVEN).encode()),
    ("UTF-16", json.dumps(GIVEN).encode("utf-16")),
    ("Latin-1", json.dumps({**GIVEN, "subject_id": "ä"}, ensure_ascii=False).encode("latin-1")),
    ("an overlong encoding", json.dumps(GIVEN).encode().replace(b"ann", b"\xc1\xa1nn")),
    ("NaN", json.dumps(GIVEN).encode()[:-1] + b', "reason": NaN}'),
    ("Infinity", json.dumps(GIVEN).encode()[:-1] + b', "reason": -Infinity}'),
    ("a huge number", json.dumps(GIVEN).encode()[:-1] + b', "reason": ' + b"9" * 10_000 + b"}"),
    ("a huge exponent", json.dumps(GIVEN).encode()[:-1] + b', "reason": 1e999999}'),
    ("deep lists", json.dumps(GIVEN).encode()[:-1] + b', "reason": ' + b"[" * 400_000 + b"]" * 400_000 + b"}"),
    ("deep objects", b'{"a":' * 150_000 + b"1" + b"}" * 150_000),
    ("single quotes", str(GIVEN).encode()),
    ("a comment", b"/* yes */" + json.dumps(GIVEN).encode()),
    ("nothing", b""),
    ("a form", b"state=given&subject_id=ann&purposes=train-ai&occurred_at=2026-01-01T00:00:00Z"),
]


def test_nothing_mistyped_is_recorded(api: Api) -> None:
    before = api.book.checkpoint()
    for name, body in BODIES:
        answer = api.ask("POST", "/v1/events", content=body, headers=JSON)
        assert answer.status_code == 422, (name, answer.text)
        valid("error", answer)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16", "application/jsonp", ""):
        answer = api.ask("POST", "/v1/events", content=json.dumps(GIVEN).encode(), headers={"content-type": kind})
        assert answer.status_code == 415, kind
        valid("error", answer)
    assert api.ask("POST", "/v1/events?dry_run=true", json=GIVEN).status_code == 422
    assert api.book.checkpoint() == before
    assert api.post("/v1/events", {**GIVEN, "subject_id": "ann2"}).status_code == 201, "what they were made from is one"
    assert "ann" not in api.served.said and "Traceback" not in api.served.said


def test_a_no_is_taken_however_little_it_says(api: Api) -> None:
    for more in ({}, {"occurred_at": "2999-01-01T00:00:00+14:00"}, {"channel": "one-click"}, {"actor": "authority"}):
        assert api.post("/v1/events", {**NO, **more}).status_code == 201
    assert (
        api.ask("POST", "/v1/events", json=NO, headers={"content-type": 'Application/JSON; Charset="UTF-8"'}).status_code == 201
    )


def test_bodies_are_bounded_and_errors_are_json(api: Api) -> None:
    large = api.ask("POST", "/v1/events", content=b"x" * (MAX_BODY_BYTES + 1), headers=JSON)
    assert large.status_code == 413 and valid("error", large)
    nowhere = api.ask("GET", "/v1/nothing")
    assert nowhere.status_code == 404 and valid("error", nowhere)
    for method in ("PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"):
        answer = api.ask(method, "/v1/events")
        assert answer.status_code == 405 and answer.headers["allow"] == "GET, POST"
        assert method == "HEAD" or valid("error", answer)


def test_a_ledger_that_is_busy_or_broken_says_so(own_api: Api) -> None:
    head = own_api.book.folder.path / "head"
    note = head.read_text()
    head.unlink()
    no = own_api.post("/v1/events", NO)
    assert no.status_code == 500 and "anchor" in valid("error", no)["error"]
    head.write_text(note)
    assert own_api.post("/v1/events", NO).status_code == 201
    (own_api.book.folder.path / "log.key").rename(own_api.book.folder.path / "away")
    gone = own_api.post("/v1/events", NO)
    assert gone.status_code == 503 and gone.headers["retry-after"] and valid("error", gone)
    (own_api.book.folder.path / "away").rename(own_api.book.folder.path / "log.key")
    assert own_api.said("ann") == ["withdrawn"]


def test_a_moved_ledger_does_not_say_what_holds(own_api: Api, tmp_path: Path) -> None:
    own_api.book.record(yes("ann"))
    ledger.copy(own_api.book.folder.path, tmp_path / "new")
    assert own_api.ask("GET", "/v1/subjects/ann").status_code == 503
    asked_for = {"purpose": "train-ai", "rows": [{"subject_id": "ann"}]}
    assert own_api.post("/v1/decisions", asked_for).status_code == 503
    assert own_api.post("/v1/events", NO).status_code == 503
    assert own_api.post("/v1/snapshots", {"purpose": "train-ai"}).status_code == 503


def test_it_prints_nothing_of_anybody_and_ends_well(own_api: Api) -> None:
    own_api.post("/v1/events", {**GIVEN, "subject_id": "someone-secret"})
    own_api.ask("GET", "/v1/subjects/someone-secret")
    own_api.post("/v1/events", {**GIVEN, "subject_id": "someone-secret", "state": "someone-secret"})
    assert own_api.served.stop(signal.SIGTERM) in (0, -signal.SIGTERM)
    said = (next(own_api.book.folder.path.parent.glob("served-*.log"))).read_text()
    assert said.count("\n") == 1 and "secret" not in said and "cl_" not in said


# Its description


def test_the_description_is_public_and_has_the_schemas(api: Api) -> None:
    answer = api.served.client.get("/v1/openapi.json")
    assert answer.status_code == 200
    described = answer.json()
    assert described == json.loads(json.dumps(document(router.routes)))
    for name, told in described["components"]["schemas"].items():
        schema = schemas.load(name)
        schema.pop("$schema")
        schema["$defs"] = {key: value for key, value in schema.pop("$defs", {}).items() if not key.endswith(".json")}
        assert _as_in_the_file(told, name) == schema
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            assert operation["security"] == [{"key": []}], (method, path)
            assert {"401", "403", "422", "500", "503"} <= operation["responses"].keys()


def _as_in_the_file(node: Any, name: str) -> Any:
    """With references as they stand in schemas/."""
    if isinstance(node, list):
        return [_as_in_the_file(item, name) for item in node]
    if not isinstance(node, dict):
        return node
    back = {key: _as_in_the_file(value, name) for key, value in node.items()}
    if "$ref" in node:
        other, _, path = str(node["$ref"]).removeprefix("#/components/schemas/").partition("/")
        back["$ref"] = ("" if other == name else f"{other}.json") + (f"#/{path}" if path else "")
    return back


def test_every_route_is_described_in_the_docs() -> None:
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    for path, operations in document(router.routes)["paths"].items():
        for method, operation in operations.items():
            line = next(line for line in text.splitlines() if f"`{method.upper()} {path}`" in line)
            assert f"`{operation['x-scope']}`" in line, line
