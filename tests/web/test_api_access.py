"""Who may ask the HTTP API what: without the right key nothing is told, and always the same."""

from __future__ import annotations

import json

from talking import GIVEN, Api, valid

from ledger import api_keys
from ledger.web.api import router
from ledger.web.openapi import document
from tests.conftest import yes

ROUTES: list[tuple[str, str, str]] = [
    ("POST", "/v1/events", "record"),
    ("GET", "/v1/events", "read"),
    ("GET", "/v1/subjects/ann", "read"),
    ("POST", "/v1/decisions", "read"),
    ("POST", "/v1/snapshots", "admin"),
    ("GET", "/v1/snapshots", "read"),
    ("GET", "/v1/snapshots/train-ai", "read"),
    ("GET", f"/v1/snapshots/{'0' * 64}.parquet", "read"),
    ("GET", f"/v1/snapshots/{'0' * 64}.parquet.receipt", "read"),
    ("POST", "/v1/statements", "record"),
    ("POST", "/v1/links", "record"),
    ("POST", "/v1/asks", "record"),
]


def test_the_routes_are_all_here() -> None:
    described = {
        (method.upper(), path): op["x-scope"]
        for path, ops in document(router.routes)["paths"].items()
        for method, op in ops.items()
    }
    assert len(described) == len(ROUTES)
    assert sorted(described.values()) == sorted(scope for _, _, scope in ROUTES)


def test_without_a_key_nothing_is_told(api: Api) -> None:
    api.book.record(yes("ann"))
    key, kept = api.keys["all"], (api.book.folder.path / "api.keys").read_text()
    digest = json.loads(kept.splitlines()[-1])["sha256"]
    lines = [
        "",
        "Bearer",
        f"Basic {key}",
        key,
        f"Bearer {key}x",
        f"Bearer  {key}",
        f"Bearer {key[:-1]}",
        f"Bearer {digest}",
        "Bearer \xff",
    ]
    answers = set()
    for headers in ([], [f"Bearer {key}"] * 2, *([line] for line in lines)):
        for method, path, _ in ROUTES:
            for target, body in ((path, b"{"), (path.replace("ann", "nobody"), json.dumps(GIVEN).encode()), (path + "?x=1", b"")):
                given = [("authorization", line.encode("latin-1")) for line in headers]
                answer = api.served.client.request(method, target, content=body, headers=given)
                answers.add((answer.status_code, answer.text, answer.headers["www-authenticate"]))
    assert len(answers) == 1 and answers.pop()[0] == 401
    assert api.raw(b"/v1/subjects/ann", b"Bearer ")[0] == 401
    assert api.said("ann") == ["given"]


def test_without_the_scope_nothing_is_told(api: Api) -> None:
    before = api.book.checkpoint()
    for method, path, scope in ROUTES:
        for other in set(api_keys.SCOPES) - {scope}:
            answers = set()
            for target, body in ((path, b"{"), (path.replace("ann", "nobody"), json.dumps(GIVEN).encode()), (path + "?x=1", b"")):
                answer = api.ask(method, target, scope=other, content=body)
                answers.add((answer.status_code, answer.text))
                valid("error", answer)
            assert len(answers) == 1 and answers.pop()[0] == 403, (method, path, other)
    assert api.book.checkpoint() == before


def test_an_ended_key_opens_nothing_from_the_next_request_on(own_api: Api) -> None:
    assert own_api.ask("GET", "/v1/events", scope="read").status_code == 200
    api_keys.end(own_api.book.folder.path, "read")
    assert own_api.ask("GET", "/v1/events", scope="read").status_code == 401
    assert own_api.ask("GET", "/v1/events").status_code == 200
    with (own_api.book.folder.path / "api.keys").open("ab") as file:
        file.write(b"{")
    broken = own_api.ask("GET", "/v1/events")
    assert broken.status_code == 503 and str(own_api.book.folder.path) not in broken.text
    assert own_api.ask("GET", "/v1/events", headers={"authorization": "Bearer x"}).status_code == 503
    (own_api.book.folder.path / "api.keys").unlink()
    assert own_api.ask("GET", "/v1/events").status_code == 401


def test_a_key_that_may_only_record_is_not_told_what_another_act_is(api: Api) -> None:
    api.book.record(yes("eve", event_id="crm-17", content_id="photo"))
    act = {**GIVEN, "event_id": "crm-17"}
    guesses = [act, {**act, "subject_id": "eve"}, {**act, "subject_id": "eve", "content_id": "text"}]
    answers = [api.post("/v1/events", guess, scope="record") for guess in guesses]
    assert {answer.status_code for answer in answers} == {409}
    assert len({valid("error", answer)["error"] for answer in answers}) == 1
    assert "another content_id" in api.post("/v1/events", guesses[2]).json()["error"]
