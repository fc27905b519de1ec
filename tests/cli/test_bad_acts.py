"""Acts that are none: by hand, from Python, and in a file. Each says what is wrong and what to do; nothing is recorded."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import ledger
from tests.cli.conftest import Refused

LONG = "ü" * 257
YES = {"state": "given", "subject_id": "bob", "purposes": "train-ai", "occurred_at": "2026-01-01T00:00:00Z"}
NO = {"state": "refused", "subject_id": "bob", "purposes": "train-ai"}

BAD: dict[str, tuple[dict[str, str], list[str], str]] = {
    "an undeclared purpose": ({**YES, "purposes": "nope"}, ["'nope'", "not declared"], "declared: caption@1, train-ai@1"),
    "an undeclared version": ({**YES, "purposes": "train-ai@2"}, ["'train-ai@2'", "not declared"], "caption@1, train-ai@1"),
    "an unlisted category": ({**YES, "purposes": "caption", "category": "photos"}, ["'photos'"], "listed: photo, post"),
    "a no on an unlisted category": ({**NO, "purposes": "caption", "category": "photos"}, ["'photos'"], "listed: photo, post"),
    "* on a yes": ({**YES, "purposes": "*"}, ["`*`", "for a no only"], "name each purpose"),
    "content and category": ({**YES, "content_id": "c", "category": "post"}, ["category", "content item"], "two events"),
    "an end before the act": ({**YES, "expires_at": "2025-12-31T00:00:00Z"}, ["expires_at", "occurred_at"], "mend"),
    "an end at the act": ({**YES, "expires_at": YES["occurred_at"]}, ["expires_at", "occurred_at"], "mend"),
    "content_since on a no": ({**NO, "content_since": "2026-01-01T00:00:00Z"}, ["content_since", "a yes only"], "leave them out"),
    "expires_at on a no": ({**NO, "expires_at": "2027-01-01T00:00:00Z"}, ["expires_at", "a yes only"], "leave them out"),
    "a yes of the future": ({**YES, "occurred_at": "2999-01-01T00:00:00Z"}, ["ahead of the ledger's clock"], "the clock says"),
    "a controller's yes": ({**YES, "actor": "controller"}, ["'controller'"], "nobody else"),
    "an authority's yes": ({**YES, "actor": "authority"}, ["'authority'"], "nobody else"),
    "a guardian's yes without evidence": ({**YES, "actor": "guardian"}, ["evidence", "expires_at"], "give the evidence"),
    "a yes by one click": ({**YES, "channel": "one-click"}, ["one click"], "shows the notice"),
    "no such state": ({**YES, "state": "Given"}, ["'Given'"], "given, renewed"),
    "no such actor": ({**YES, "actor": "me"}, ["'me'"], "subject, guardian"),
    "an id over 512 bytes": ({**YES, "subject_id": LONG}, ["subject_id", "longer than 512 bytes"], "1 to 512 bytes"),
    "a content id over 512 bytes": ({**YES, "content_id": LONG}, ["content_id", "longer than 512"], "1 to 512 bytes"),
    "an event id over 512 bytes": ({**YES, "event_id": LONG}, ["event_id", "longer than 512"], "1 to 512 bytes"),
    "an id with a NUL": ({**YES, "subject_id": "b\0b"}, ["subject_id", "NUL"], "without NUL"),
    "a content id with a NUL": ({**NO, "content_id": "c\0"}, ["content_id", "NUL"], "without NUL"),
}
OPTIONS = {
    "purposes": "--purpose",
    "content_id": "--content",
    "category": "--category",
    "occurred_at": "--occurred-at",
    "expires_at": "--expires-at",
    "content_since": "--content-since",
    "channel": "--channel",
    "actor": "--actor",
    "event_id": "--event-id",
}


@pytest.mark.parametrize("name", BAD)
def test_an_act_by_hand(refused: Refused, name: str) -> None:
    act, says, hint = BAD[name]
    options = [word for field, option in OPTIONS.items() if field in act for word in (option, act[field])]
    refused("record", act["state"], act["subject_id"], *options, code=2, says=says, hint=hint)


@pytest.mark.parametrize("form", ["csv", "ndjson"])
@pytest.mark.parametrize("name", BAD)
def test_an_act_in_a_file(refused: Refused, tmp_path: Path, name: str, form: str) -> None:
    act, says, hint = BAD[name]
    good = {**YES, "subject_id": "cem"}
    write(tmp_path / f"acts.{form}", [good, act, good])
    said = "line 3" if form == "csv" else "line 2"
    outcome = refused("import", f"acts.{form}", code=1, says=[said, "nothing was recorded", *says], hint="mend these lines")
    assert hint in outcome.err


def write(path: Path, acts: list[dict[str, str]]) -> None:
    if path.suffix == ".csv":
        names = sorted({name for act in acts for name in act})
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(acts)
    else:
        lines = [json.dumps({**act, "purposes": [act["purposes"]]}) for act in acts]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["record", "given", "", "--purpose", "train-ai"], ["subject_id is empty"]),
        (["record", "given", "bob", "--purpose", ""], ["purpose is empty"]),
        (["record", "given", "bob", "--purpose", "train-ai", "--content", ""], ["content_id is empty"]),
        (["withdraw", ""], ["subject_id is empty"]),
        (["withdraw", "bob", "--content", ""], ["content_id is empty"]),
        (["withdraw", "bob", "--category", ""], ["category is empty"]),
        (["withdraw", LONG], ["subject_id", "longer than 512 bytes"]),
        (["withdraw", "b\0b"], ["subject_id", "NUL"]),
    ],
    ids=" ".join,
)
def test_an_empty_id_is_no_wildcard(refused: Refused, arguments: list[str], says: list[str]) -> None:
    refused(*arguments, code=2, says=says, hint="1 to 512 bytes")


@pytest.mark.parametrize("name", ["subject_id", "state", "purposes"])
def test_an_empty_value_in_a_file(refused: Refused, tmp_path: Path, name: str) -> None:
    write(tmp_path / "acts.csv", [{**YES, name: ""}])
    refused("import", "acts.csv", code=1, says=["line 2", f"{name} is empty"], hint="mend these lines")
    (tmp_path / "acts.ndjson").write_text(json.dumps({**YES, "purposes": ["train-ai"], name: None}), encoding="utf-8")
    refused("import", "acts.ndjson", code=1, says=["line 1", f"{name} is empty"], hint="mend these lines")


def test_an_undated_yes_in_a_file_is_no_yes(refused: Refused, tmp_path: Path) -> None:
    write(tmp_path / "acts.csv", [{**YES, "occurred_at": ""}])
    outcome = refused("import", "acts.csv", code=1, says=["line 2", "occurred_at", "undated"], hint="mend these lines")
    assert "say when" in outcome.err


@pytest.mark.parametrize("moment", ["2026-01-01", "2026-01-01T00:00:00", "yesterday", "2026-13-01T00:00:00Z", ""])
def test_a_moment_without_a_zone_is_none(refused: Refused, tmp_path: Path, moment: str) -> None:
    refused(
        "record", "given", "bob", "--purpose", "train-ai", "--occurred-at", moment, code=2, says=["--occurred-at"], hint="--help"
    )
    if moment:
        write(tmp_path / "acts.csv", [{**YES, "occurred_at": moment}])
        refused("import", "acts.csv", code=1, says=["line 2", "occurred_at"], hint="mend these lines")


def test_the_same_event_id_with_another_content(refused: Refused) -> None:
    again = ("record", "refused", "ann", "--purpose", "train-ai", "--event-id", "e1")
    refused(*again, code=2, says=["'e1'", "another state"], hint="an id of its own")


@pytest.mark.parametrize(
    ("fields", "says", "hint"),
    [
        ({"occurred_at": None}, "undated yes", "say when"),
        ({"actor": "controller"}, "'controller'", "nobody else"),
        ({"subject_id": ""}, "subject_id is empty", "1 to 512 bytes"),
        ({"subject_id": 7}, "must be text, not int", None),
        ({"purposes": "train-ai"}, "must be a list", None),
    ],
)
def test_from_python(fields: dict[str, Any], says: str, hint: str | None) -> None:
    good = {"state": "given", "subject_id": "bob", "purposes": ["train-ai"], "occurred_at": datetime(2026, 1, 1, tzinfo=UTC)}
    with pytest.raises(ledger.InvalidEvent, match=says) as raised:
        ledger.Event(**{**good, **fields})
    assert hint is None or hint in (raised.value.hint or "")
