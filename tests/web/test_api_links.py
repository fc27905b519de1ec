"""Links that an application asks for over HTTP: the one that says no, and the one where a person answers."""

from __future__ import annotations

import re
from typing import Any

import pytest
from talking import Api, valid


def test_a_link_that_says_no(api: Api) -> None:
    answer = api.post("/v1/links", {"subject_id": "lea", "purpose": "train-ai"}, scope="record")
    assert answer.status_code == 201
    url = valid("link", answer)["url"]
    assert api.post("/v1/links", {"subject_id": "lea", "purpose": "train-ai"}).json()["url"] == url
    assert api.said("lea") == []
    clicked = api.served.client.post(url, data={"List-Unsubscribe": "One-Click"})
    assert clicked.status_code == 200 and api.said("lea") == ["withdrawn"]


def test_a_link_where_a_person_answers(api: Api) -> None:
    answer = api.post("/v1/asks", {"subject_id": "max", "purposes": ["train-ai"]}, scope="record")
    assert answer.status_code == 201
    url = valid("ask", answer)["url"]
    page = api.served.client.get(url)
    assert page.status_code == 200 and api.said("max") == []
    form = re.search(r'name="form" value="([^"]+)"', page.text)
    assert form is not None
    pressed = api.served.client.post(url, data={"purpose": "train-ai", "answer": "yes", "form": form[1]})
    assert pressed.status_code == 303 and api.said("max") == ["given"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/links", {"subject_id": "lea"}),
        ("/v1/links", {"subject_id": "", "purpose": "train-ai"}),
        ("/v1/links", {"subject_id": "lea", "purpose": "nothing"}),
        ("/v1/links", {"subject_id": "lea", "purpose": "train-ai", "more": "x"}),
        ("/v1/asks", {"subject_id": "lea", "purposes": "train-ai"}),
        ("/v1/asks", {"subject_id": "lea", "purposes": []}),
        ("/v1/asks", {"subject_id": "lea", "purposes": ["*"]}),
        ("/v1/asks", {"subject_id": "lea\0", "purposes": ["train-ai"]}),
        ("/v1/asks", {"subject_id": "lea", "purposes": ["train-ai"], "return_url": "http://elsewhere.example"}),
        ("/v1/asks", {"subject_id": "lea", "purposes": ["train-ai"], "valid": "24h"}),
    ],
)
def test_what_cannot_be_asked(api: Api, path: str, body: dict[str, Any]) -> None:
    answer = api.post(path, body)
    assert answer.status_code == 422 and valid("error", answer)


@pytest.mark.parametrize("path", ["/v1/links", "/v1/asks"])
def test_only_who_may_record_makes_links(api: Api, path: str) -> None:
    assert {api.post(path, {}, scope=scope).status_code for scope in ("read", "admin")} == {403}
