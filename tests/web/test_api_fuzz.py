"""The API fuzzed from its own description: whatever is sent, it answers as described, and no yes comes out of a no."""

from __future__ import annotations

import copy
from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import positive_data_acceptance, response_schema_conformance, status_code_conformance
from talking import NO, Api

from ledger.consent import NO as NOES
from ledger.web.api import router
from ledger.web.openapi import document

DRAWN = settings(max_examples=20, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
PEOPLE = ["ann", "Ann", "1", "null", "", "a\0"]


def _narrow() -> dict[str, Any]:
    """The same description, of few people, purposes, items and ids, so that what is drawn meets what was drawn before."""
    made = copy.deepcopy(document(router.routes))
    schemas = made["components"]["schemas"]
    event = schemas["event-request"]
    event["properties"] = {
        "subject_id": {"enum": PEOPLE},
        "state": event["properties"]["state"],
        "purposes": {"type": "array", "items": {"enum": ["train-ai", "train-ai@1", "*"]}, "minItems": 1, "maxItems": 1},
        "occurred_at": {"enum": ["2020-01-01T00:00:00Z", "2026-01-01T00:00:00+01:00", "2026-01-01T00:00:00Z"]},
        "content_id": {"enum": ["c1", "c2"]},
        "event_id": {"enum": [f"e{n}" for n in range(40)]},
    }
    rows = schemas["decisions-request"]
    rows["$defs"] = {**rows["$defs"], "refer": {"enum": ["train-ai", "train-ai@1"]}, "key": {"enum": PEOPLE}}
    del made["paths"]["/v1/statements"], made["paths"]["/v1/snapshots"]["post"]
    return made


described = schemathesis.openapi.from_dict(document(router.routes))
narrow = schemathesis.openapi.from_dict(_narrow())


@described.parametrize()
@DRAWN
def test_every_operation_answers_as_it_is_described(case: schemathesis.Case, api: Api) -> None:
    # What is well formed may still be refused, by what is declared and recorded.
    case.call_and_validate(base_url=api.url, headers=_key(api), excluded_checks=[positive_data_acceptance])


@narrow.include(method="POST").parametrize()
@settings(DRAWN, max_examples=100)
def test_acts_that_meet_one_another(case: schemathesis.Case, api: Api) -> None:
    checks = [not_a_server_error, status_code_conformance, response_schema_conformance]
    case.call_and_validate(base_url=api.url, headers=_key(api), checks=checks)


def test_then_the_log_is_whole_and_nobody_who_only_said_no_is_allowed(api: Api) -> None:
    assert api.post("/v1/events", {**NO, "subject_id": "someone"}).status_code == 201
    said: dict[str, set[str]] = {}
    for _, event in api.book.events():
        said.setdefault(event.subject_id, set()).add(event.state)
        assert not event.is_yes or (event.occurred_at is not None and event.recorded_by == "api:all")
    assert len({"ann", "Ann", "1", "null"} & said.keys()) >= 3, "what was drawn was recorded"
    assert any(states & {"given", "renewed"} for states in said.values())
    never = [subject for subject, states in said.items() if states <= set(NOES)]
    rows = [{"subject_id": subject, **more} for subject in never[:400] for more in ({}, {"content_id": "c1"})]
    told = api.post("/v1/decisions", {"purpose": "train-ai", "rows": rows}).json()
    assert len(told["decisions"]) == len(rows) and not any(d["allowed"] for d in told["decisions"])
    assert api.book.fsck().size == told["tree_size"]
    assert "Traceback" not in api.served.said and "unexpected" not in api.served.said


def _key(api: Api) -> dict[str, str]:
    return {"Authorization": f"Bearer {api.keys['all']}"}
