from __future__ import annotations

import copy
import json
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from ledger import times
from ledger.consent import ACTORS, REASONS, STATES, Purpose
from ledger.log import canonical, prefix_tree
from ledger.report import linked
from ledger.report.facts import Acts, Declared, Facts, Run
from ledger.statements.audit_statement import audit_statement
from ledger.statements.counted import DROPPED
from ledger.statements.decided import BASES
from ledger.statements.membership import membership, open_membership
from ledger.statements.receipt import ACT_COMMON, ACTS, EVENT_OPTIONAL, EVENT_REQUIRED
from ledger.statements.selection_statement import selection_statement
from ledger.statements.statement import run_statement
from ledger.statements.verify import open_statement
from ledger.status import Unanswered

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "statements"))

from paper_log import EVENT, PaperLog, audit_record, run_record, selection_record, sha256  # noqa: E402

sys.path.insert(0, str(ROOT))
schemas = import_module("schemas")  # ledger.schemas, once installed; here the one of this checkout

DIGEST = sha256(b"x")
MOMENT = EVENT["recorded_at"]
COMMON = {"recorded_at": MOMENT, "recorded_by": "user:ann"}
COUNTS = {"new": 3, "repeated": 0, "suppressed": 0, "reversals": 1, "rejected": 0}
SHARD = {
    "input": "a.parquet",
    "input_sha256": DIGEST,
    "output": "a.parquet",
    "output_sha256": DIGEST,
    "rows_in": 3,
    "rows_kept": 2,
    "rows_dropped": {"withdrawn": 1},
}
FULL_EVENT = {
    **EVENT,
    "actor": "guardian",
    "category": "post",
    "expires_at": MOMENT,
    "content_since": MOMENT,
    "channel": "web",
    "reason": "why",
    "notice": "n@1/en",
    "notice_sha256": DIGEST,
    "jurisdiction": "DE",
    "evidence_sha256": DIGEST,
}
NO = {"event_id": "e2", "state": "withdrawn", "subject_id": "u1", "purposes": ["*"], "actor": "subject", **COMMON}
ACT_DOCUMENTS: list[dict[str, Any]] = [
    {
        "act": "purpose_declared",
        **COMMON,
        "token": "train-ai",
        "version": 2,
        "title": "T",
        "description": "D",
        "basis": "consent",
        "controller": "C",
        "contact": "c",
        "recipients": ["R"],
        "categories": ["post"],
        "retention": "R",
        "withdraw_url": "W",
        "accepts": [1],
    },
    {"act": "notice_declared", **COMMON, "notice_id": "n", "version": 1, "language": "en", "sha256": DIGEST},
    {"act": "key_added", **COMMON, "role": "log", "vkey": "v"},
    {"act": "key_ended", **COMMON, "role": "run", "vkey": "v"},
    {"act": "import_finished", **COMMON, "source": "crm", "file_sha256": DIGEST, **COUNTS},
    {
        "act": "snapshot_compiled",
        **COMMON,
        "purpose": "train-ai@2",
        "snapshot_sha256": DIGEST,
        "file_sha256": DIGEST,
        "tree_size": 5,
        "as_of": MOMENT,
    },
    {"act": "statement_made", **COMMON, "statement_sha256": DIGEST, "predicate_type": "urn:consent-ledger:run:v1"},
    {"act": "statement_made", **COMMON, "statement_sha256": DIGEST, "predicate_type": "urn:x", "snapshot_sha256": DIGEST},
    {"act": "link_revoked", **COMMON, "token_sha256": DIGEST},
    {
        "act": "subject_erased",
        **COMMON,
        "order": "0f",
        "tag": DIGEST,
        "positions": [3, 4],
        "event_tags_sha256": DIGEST,
        "basis": "request",
    },
]


def signed() -> dict[str, list[dict[str, Any]]]:
    """Documents as the program makes them, not as they are imagined."""
    log = PaperLog()
    snapshot = log.log_snapshot()
    payload = run_statement(run_record(snapshot, recipient="Lab", warnings=("w",), dropped_metadata=("geo",)))
    return {
        "membership": [*memberships(log)],
        "receipt": [json.loads(log.log_event())],
        "act-receipt": [json.loads(snapshot)],
        "run-statement": [json.loads(payload)],
        "audit-statement": [json.loads(audit_statement(audit_record(snapshot, recipient="Lab", warnings=("w",))))],
        "selection-statement": [
            json.loads(selection_statement(selection_record(snapshot, recipient="Lab", warnings=("w",), subjects=subjects)))
            for subjects in (None, {"root": DIGEST, "seed": DIGEST, "count": 1})
        ],
        "envelope": [json.loads(log.seal(payload))],
    }


def memberships(log: PaperLog) -> Iterator[dict[str, Any]]:
    seed, full = bytes(32), {"yes_at": MOMENT, "yes_position": 1, "yes_accepted": 1, "yes_basis": "import"}
    rows = [
        {"scope": "everything", "no_at": MOMENT, "no_state": "refused", "no_position": 0},
        {"scope": "category", "scope_id": "post", **full, "yes_expires_at": MOMENT, "yes_content_since": MOMENT},
    ]
    for said, blind in (({"rows": rows}, bytes(32)), ({"rows": 2}, b"")):
        values = {subject: prefix_tree.value(blind, said) for subject in ("u1", "u2")}
        tree = prefix_tree.PrefixTree((prefix_tree.index(seed, subject), value) for subject, value in values.items())
        fields = {"subjects_root": tree.root().hex(), "subjects_seed": seed.hex()}
        act = log.log_snapshot(**fields) if blind else log.log_statement(b"line", **fields)
        for subject in ("u1", "u0"):
            proof, there = tree.prove(prefix_tree.index(seed, subject)), subject in values
            line = membership(subject, act, proof, said=said if there else None, blind=blind if there else b"")
            open_membership(line, log.trust)
            yield json.loads(line)


def reported() -> list[dict[str, Any]]:
    log = PaperLog()
    snapshot, runs, now = log.log_snapshot(), [], times.parse(MOMENT)
    for payload in (run_statement(run_record(snapshot, recipient="Lab")), audit_statement(audit_record(snapshot))):
        line = log.seal(payload)
        data = line + b"\n" + log.log_statement(line, predicate_type=json.loads(payload)["predicateType"]) + b"\n"
        opened = open_statement(data, log.trust)
        assert opened.logged is not None
        runs.append(Run("train", data.decode(), opened.record, opened.snapshot, opened.logged))
    acts = Acts()
    for state in STATES:
        acts.states[state] += 2
    acts.notices["n@1/en"] += 1
    full = {"controller": "C", "contact": "c", "recipients": ["R"], "categories": ["post"], "retention": "R", "withdraw_url": "W"}
    waits = Unanswered(position=1, event_id="e", state="refused", recorded_at=now)
    documents = []
    for fields, no in ((full, waits), ({"basis": "licence"}, None)):
        purpose = Purpose(token="train-ai", version=2, title="T", description="D", **fields)
        purposes = {"train-ai@2": Declared(purpose, now, "")}
        documents.append(linked.document(Facts(now, log.origin, 3, runs, purposes, {"train-ai": acts}, {"train-ai": no})))
    return documents


AUDIT = {
    "compliant": False,
    "purpose": "train-ai@2",
    "snapshot_sha256": DIGEST,
    "rows": 3,
    "rows_without_consent": 1,
    "reasons": {"no_record": 1},
    "warnings": ["w"],
    "shards": [{"path": "/data/a.parquet", "rows": 3, "rows_without_consent": 1, "reasons": {"no_record": 1}}],
}
API_EVENT = {
    **{
        key: value
        for key, value in FULL_EVENT.items()
        if key not in ("recorded_at", "recorded_by", "notice_sha256", "content_id")
    },
    "occurred_at": "2026-01-31T12:00:00+01:00",
}
API_ROW = {"category": "post", "content_id": "c", "created": "2026-01-31T12:00:00Z"}
PUBLISHED = {
    "purpose": "train-ai@2",
    "snapshot_sha256": DIGEST,
    "file_sha256": DIGEST,
    "tree_size": 5,
    "as_of": MOMENT,
    "url": "/v1/snapshots/x.parquet",
    "receipt_url": "/v1/snapshots/x.parquet.receipt",
}
DOCUMENTS: dict[str, list[Any]] = {
    "event": [EVENT, FULL_EVENT, NO],
    "act": ACT_DOCUMENTS,
    **signed(),
    "filter": [
        {
            "run_id": "r",
            "purpose": "train-ai@2",
            "snapshot_sha256": DIGEST,
            "answers_sha256": DIGEST,
            "checkpoint": "note\n",
            "rows_in": 3,
            "rows_kept": 2,
            "rows_dropped": {"withdrawn": 1},
            "unmapped": 0,
            "warnings": [],
            "shards": [SHARD],
            "statement": "out.intoto.jsonl",
        }
    ],
    "select": [
        {
            "selection_id": "s",
            "purpose": "train-ai@2",
            "snapshot_sha256": DIGEST,
            "answers_sha256": DIGEST,
            "checkpoint": "note\n",
            "rows_in": 3,
            "rows_kept": 2,
            "rows_dropped": {"withdrawn": 1},
            "unmapped": 0,
            "warnings": ["w"],
            "shards": [
                {
                    **dict.fromkeys(("sha256", "blocks_sha256", "positions_sha256"), DIGEST),
                    **{name: value for name, value in SHARD.items() if name.startswith("rows_")},
                    "name": "a.parquet",
                    "size": 9,
                }
            ],
            "statement": "sel.intoto.jsonl",
        }
    ],
    "audit": [AUDIT],
    "attest": [{**AUDIT, "statement": None}, {**AUDIT, "compliant": True, "statement": "out.intoto.jsonl"}],
    "show": [
        {
            "subject_id": "u1",
            "events": [{**FULL_EVENT, "position": 0, "checkpoint_size": 1}],
            "decisions": [{"purpose": "train-ai@2", "category": None, "content_id": "p1", "allowed": False, "reason": "expired"}],
        }
    ],
    "events": [{"origin": "o", "events": [{"position": 3, **FULL_EVENT}, {"position": 5, **NO}], "next": 6}],
    "status": [
        {
            "origin": "o",
            "head": {"size": 9, "root": DIGEST, "recorded_at": MOMENT},
            "anchors": [{"path": "consent-ledger/head", "size": 9}],
            "events": 3,
            "purposes": [{"purpose": "*", "states": {"withdrawn": 1}}, {"purpose": "train-ai@2", "states": {"given": 2}}],
            "sources": [{"source": "crm", "completed_at": MOMENT, "age_seconds": 5, "imports": 2, **COUNTS}],
            "unanswered": [
                {"purpose": "search", "runs": 2},
                {
                    "purpose": "train-ai",
                    "runs": 0,
                    "oldest": {
                        "position": 4,
                        "event_id": "e2",
                        "state": "withdrawn",
                        "recorded_at": MOMENT,
                        "age_seconds": 5,
                        "due_at": MOMENT,
                    },
                },
            ],
            "exceeded": ["the no of entry 4 has waited"],
        }
    ],
    "explain": [
        {
            "shard": "a.parquet",
            "row": 7,
            "purpose": "train-ai@2",
            "snapshot_sha256": DIGEST,
            "as_of": MOMENT,
            "decided_at": MOMENT,
            "keys": {"subjects": ["u1", ""], "category": "post", "content_id": "p1", "created": MOMENT},
            "allowed": False,
            "reason": "withdrawn",
            "sentence": "denied: withdrawn.",
            "warnings": ["w"],
            "answers": [
                {
                    "subject_id": "u1",
                    "allowed": False,
                    "reason": "withdrawn",
                    "sentence": "Subject 'u1' said no.",
                    "events": [
                        {
                            "position": 4,
                            "answer": "yes",
                            "counts_from": MOMENT,
                            "category": "post",
                            "content_id": "p1",
                            "expires_at": MOMENT,
                            "content_since": MOMENT,
                            "event": FULL_EVENT,
                        }
                    ],
                }
            ],
        }
    ],
    "verify": [{"verified": True, "checked": ["out: ..."]}],
    "monitor": [
        {"origin": "o", "size": 9, "root": DIGEST, "witnesses": [], "checkpoint": "note\n"},
        {"origin": "o", "size_before": 0, "size": 9, "root": DIGEST, "witnesses": ["w"], "checkpoint": "note\n"},
    ],
    "fsck": [{"whole": True, "entries": 9, "events": 5, "acts": 3, "erased": 1, "root": DIGEST}],
    "erase": [
        {
            "erased": [
                {
                    "order": "0f",
                    "position": 7,
                    "events": 2,
                    "erased_at": MOMENT,
                    "already": False,
                    "scrubbed": True,
                    "unreached": [
                        {"kind": "snapshot", "what": "s", "position": 5, "sha256": DIGEST},
                        {"kind": "rejects", "what": "files"},
                    ],
                }
            ]
        }
    ],
    "stale": [
        {
            "stale": True,
            "run_id": "r",
            "decided_at": MOMENT,
            "purpose": "train-ai@2",
            "snapshot_sha256": DIGEST,
            "of": 3,
            "to_redo": 2,
            "rows": 4,
            "since": MOMENT,
            "shards": [{"path": "a.parquet", "rows": 4, "since": MOMENT, "known": True}],
        }
    ],
    "record": [
        {
            "event": NO,
            "position": 3,
            "repeated": False,
            "warnings": ["w"],
            "decisions": [
                {"purpose": "train-ai@2", "category": "post", "content_id": None, "allowed": False, "reason": "withdrawn"}
            ],
        }
    ],
    "purpose-list": [
        [
            {
                "purpose": "train-ai@2",
                "title": "T",
                "description": "D",
                "categories": ["post"],
                "recipients": ["R"],
                "accepts": [1, 2],
            }
        ]
    ],
    "snapshot": [
        {
            "path": "s.parquet",
            "purpose": "train-ai@2",
            "snapshot_sha256": DIGEST,
            "file_sha256": DIGEST,
            "as_of": MOMENT,
            "known_until": MOMENT,
            "checkpoint": "note\n",
            "earlier_size": 3,
        }
    ],
    "event-request": [{"state": "withdrawn", "subject_id": "u1", "purposes": ["*"]}, API_EVENT],
    "decisions-request": [{"purpose": "train-ai", "rows": [{"subject_id": ""}, {"subject_ids": ["u1"], **API_ROW}]}],
    "decisions": [
        {
            "purpose": "train-ai@2",
            "as_of": MOMENT,
            "tree_size": 3,
            "checkpoint": "note\n",
            "decisions": [{"allowed": True, "reason": "allowed"}],
        }
    ],
    "snapshot-request": [{"purpose": "train-ai"}],
    "published-snapshot": [PUBLISHED],
    "snapshots": [{"snapshots": [PUBLISHED]}],
    "link-request": [{"subject_id": "u1", "purpose": "train-ai"}],
    "link": [{"url": "/no/AbC_-9"}],
    "ask-request": [{"subject_id": "u1", "purposes": ["train-ai"], "return_url": "https://app.example.org/back"}],
    "ask": [{"url": "/ask/AbC_-9", "expires_at": MOMENT}],
    "error": [{"error": "no", "hint": "ask"}],
    "import": [{"source": "crm", "file_sha256": DIGEST, **COUNTS, "size": 9, "dry_run": False}],
    "report": reported(),
    "export": [
        {"format": "urn:consent-ledger:export:v1", "origin": "o", "subject_id": "u1", "made_at": MOMENT, "checkpoint": "note\n"},
        {
            "format": "urn:consent-ledger:export:v1",
            "origin": "o",
            "subject_id": "u1",
            "made_at": MOMENT,
            "checkpoint": "note\n",
            "events": [{"event": FULL_EVENT, "position": 4, "receipt": "receipts/0001.receipt"}],
            "acts": [{"act": ACT_DOCUMENTS[0], "position": 2, "receipt": "acts/0001.receipt"}],
            "notices": [{"sha256": DIGEST, "file": f"notices/{DIGEST}.txt", "text": "May we?"}],
            "decisions": [
                {"purpose": "train-ai@2", "category": "post", "content_id": "p", "reason": "allowed", "sentence": "Yes."}
            ],
            "runs": [
                {
                    "statement": "runs/1/statement.intoto.jsonl",
                    "in_run": "runs/1/in-run.json",
                    "in_snapshot": "runs/1/in-snapshot.json",
                    "sentences": ["In the output nothing is of this person."],
                }
            ],
            "consistency": ["consistency/5.txt"],
        },
    ],
}
NULLABLE = {(name, "statement") for name in ("filter", "attest")}
NULLABLE |= {(name, key) for name in ("show", "record") for key in ("category", "content_id")}
"""In outputs of commands only: a document that is signed leaves out what does not apply."""
CASES = [(name, document) for name, documents in DOCUMENTS.items() for document in documents]


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(schemas.load(name))


def objects(node: Any) -> Iterator[dict[str, Any]]:
    for item in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from objects(item)
    if isinstance(node, dict):
        yield node


def test_every_file_is_a_schema_that_is_known() -> None:
    assert {path.stem for path in (ROOT / "schemas").glob("*.json")} == set(schemas.NAMES) == set(DOCUMENTS)
    for name in schemas.NAMES:
        Draft202012Validator.check_schema(schemas.load(name))


@pytest.mark.parametrize(("name", "document"), CASES)
def test_real_documents_are_valid(name: str, document: Any) -> None:
    validator(name).validate(document)


@pytest.mark.parametrize(("name", "document"), CASES)
def test_no_object_may_have_more_fields(name: str, document: Any) -> None:
    """But for `versions`, whose keys are names."""
    check = validator(name)
    open_ended = 0
    for number in range(len(list(objects(document)))):
        changed = copy.deepcopy(document)
        target = list(objects(changed))[number]
        target["surplus"] = "x"
        if check.is_valid(changed):
            assert target.keys() == {"pyarrow", "surplus"}
            open_ended += 1
    assert open_ended == (1 if name in ("run-statement", "audit-statement", "selection-statement") else 0)


@pytest.mark.parametrize(("name", "document"), CASES)
def test_nothing_may_be_null_or_a_fraction_or_of_another_kind(name: str, document: Any) -> None:
    check = validator(name)
    for number, original in enumerate(list(objects(document))):
        for key, value in original.items():
            for wrong in (None, 1.5, [] if isinstance(value, str) else "", {"a": 1}):
                changed = copy.deepcopy(document)
                list(objects(changed))[number][key] = wrong
                if wrong is None and (name, key) in NULLABLE and "subject_id" not in original:
                    continue
                with pytest.raises(ValidationError):
                    check.validate(changed)


def test_fields_are_those_that_the_code_checks() -> None:
    event = schemas.load("event")
    assert event["properties"].keys() == {*EVENT_REQUIRED, *EVENT_OPTIONAL}
    assert set(event["required"]) == EVENT_REQUIRED.keys()
    acts = {name: schema for name, schema in schemas.load("act")["$defs"].items() if name in ACTS}
    assert acts.keys() == ACTS.keys()
    assert [reference["$ref"] for reference in schemas.load("act")["oneOf"]] == [f"#/$defs/{name}" for name in ACTS]
    for name, (required, optional) in ACTS.items():
        assert set(acts[name]["required"]) == {*ACT_COMMON, *required}
        assert acts[name]["properties"].keys() == {*ACT_COMMON, *required, *optional}


def test_words_are_those_of_the_code() -> None:
    event = schemas.load("event")["properties"]
    assert (event["state"]["enum"], event["actor"]["enum"]) == (list(STATES), list(ACTORS))
    predicate = schemas.load("run-statement")["properties"]["predicate"]["properties"]
    assert tuple(predicate["rows_dropped"]["properties"]) == DROPPED
    for name in ("run-statement", "audit-statement", "selection-statement"):
        predicate = schemas.load(name)["properties"]["predicate"]["properties"]
        assert tuple(predicate["rests_on"]["properties"]) == BASES
    for name in ("filter", "select", "audit", "attest"):
        properties = schemas.load(name)["properties"]
        assert tuple(properties.get("rows_dropped", properties.get("reasons"))["properties"]) == DROPPED
    assert set(schemas.load("event-request")["properties"]) == event.keys() - {"recorded_at", "recorded_by", "notice_sha256"}
    assert schemas.load("decisions")["properties"]["decisions"]["items"]["properties"]["reason"]["enum"] == list(REASONS)
    decision = schemas.load("show")["properties"]["decisions"]["items"]["properties"]
    assert tuple(decision["reason"]["enum"]) == REASONS
    assert tuple(schemas.load("explain")["properties"]["reason"]["enum"]) == REASONS
    states = schemas.load("status")["properties"]["purposes"]["items"]["properties"]["states"]
    assert tuple(states["properties"]) == STATES


def test_each_field_of_an_event_says_what_its_counterparts_are() -> None:
    for name, field in schemas.load("event")["properties"].items():
        assert re.search(r"TS 27560: |counterpart in ISO/IEC TS 27560", field["description"]), name
        assert "DPV" in field["description"], name


def test_a_schema_is_complete_in_itself() -> None:
    for name in schemas.NAMES:
        schema = schemas.load(name)
        for node in objects(schema):
            file = str(node.get("$ref", "")).partition("#")[0]
            assert not file or file in schema["$defs"]


def test_an_unknown_schema_is_named() -> None:
    with pytest.raises(KeyError, match="'nonsense'"):
        schemas.load("nonsense")


def test_the_samples_have_canonical_bytes() -> None:
    signed_ = ("run-statement", "audit-statement", "selection-statement")
    for name in ("event", "act", "receipt", "act-receipt", *signed_, "envelope", "membership"):
        for document in DOCUMENTS[name]:
            assert canonical.decode(canonical.encode(document)) == document
