"""The report for programs: whose terms it has, and whose numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ledger.schemas import load
from stories import PURPOSE, Story

import ledger

KNOWN = {
    "dpv": {
        "Process", "Purpose", "Use", "Consent", "LegalBasis", "PersonalData", "DataController", "Recipient", "StorageDuration",
        "WithdrawConsent", "ConsentNotice", "ConsentGiven", "RenewedConsentGiven", "ConsentRefused", "ConsentWithdrawn",
        "ConsentRevoked", "ObjectingToProcess", "hasPurpose", "hasProcessing", "hasLegalBasis", "hasPersonalData",
        "hasConsentStatus", "hasInvolvement", "hasDataController", "hasName", "hasContact", "hasRecipient",
        "hasStorageCondition", "hasConsentControl", "isExercisedAt", "hasNotice"},
    "ai": {"hasTrainingData"},
    "dct": {"created", "date", "identifier", "title", "description", "language"},
    "cr": {"FileObject"},
    "rai": {"dataUseCases", "dataPreprocessingProtocol", "dataCollection"},
    "sc": {"PropertyValue", "name", "value", "description"},
}  # fmt: skip
"""Terms of DPV 2, Dublin Core, Croissant 1.0, Croissant RAI 1.0 and schema.org, as they were looked up there."""


@pytest.fixture(scope="module")
def document(story: Story) -> dict[str, Any]:
    return ledger.report_on(story.book, story.train).jsonld()


def test_it_has_its_schema_and_no_network(document: dict[str, Any]) -> None:
    Draft202012Validator(load("report")).validate(document)
    assert all(isinstance(context, dict) for context in _contexts(document))


def test_every_term_is_one_that_its_vocabulary_has(document: dict[str, Any]) -> None:
    prefixes = document["@context"].keys()
    used = {term for term in _terms({k: v for k, v in document.items() if k != "@context"}) if ":" in term}
    for term in used:
        prefix, _, name = term.partition(":")
        assert prefix in prefixes, term
        assert prefix == "ledger" or name in KNOWN[prefix], term
    assert {"dpv:Process", "ai:hasTrainingData", "cr:FileObject", "rai:dataCollection"} < used


def test_its_numbers_are_those_of_the_statement(story: Story, document: dict[str, Any]) -> None:
    said, (run,) = story.predicate, document["ledger:run"]
    files = run["ledger:dataset"]["distribution"]
    assert [(f["name"], f["sha256"]) for f in files] == [(s["output"], s["output_sha256"]) for s in said["shards"]]
    assert [f["contentUrl"] for f in files] == ["a.parquet", "b/b.parquet"]
    figures = {f["sc:name"]: f for f in run["ledger:trainingContentSummary"]}
    assert figures["rows_kept"]["sc:value"] == said["rows_kept"]
    assert figures["rows_in"]["sc:value"] == said["rows_in"]
    for reason, number in said["rows_dropped"].items():
        assert figures[f"rows_dropped.{reason}"]["sc:value"] == number
        assert figures[f"rows_dropped.{reason}"]["ledger:section"] == "3.1"
    assert figures["rows_dropped.no"]["sc:value"] == sum(said["rows_dropped"][s] for s in ("refused", "withdrawn", "objected"))
    assert (figures["acts.yes"]["sc:value"], figures["acts.no"]["sc:value"]) == (8, 3)
    assert {name for name, figure in figures.items() if not figure["ledger:signed"]} == {"acts.yes", "acts.no"}


def test_what_people_were_asked_is_in_dpv_terms(document: dict[str, Any]) -> None:
    process = document["ledger:run"][0]["ledger:process"]
    assert process["dpv:hasPurpose"]["dct:title"] == PURPOSE["title"]
    assert process["dpv:hasDataController"] == {
        "@type": "dpv:DataController",
        "dpv:hasName": PURPOSE["controller"],
        "dpv:hasContact": PURPOSE["contact"],
    }
    assert [recipient["dpv:hasName"] for recipient in process["dpv:hasRecipient"]] == PURPOSE["recipients"]
    assert {(status["@type"], status["ledger:acts"]) for status in process["dpv:hasConsentStatus"]} == {
        ("dpv:ConsentGiven", 8),
        ("dpv:ConsentRefused", 1),
        ("dpv:ConsentWithdrawn", 1),
    }
    assert process["dpv:hasInvolvement"] == [{"@type": "dpv:ObjectingToProcess", "ledger:acts": 1}]
    assert process["dpv:hasNotice"] == [
        {"@type": "dpv:ConsentNotice", "dct:identifier": "n@1/en", "dct:language": "en", "ledger:acts": 6}
    ]


def test_no_id_of_a_person_is_in_it(story: Story, document: dict[str, Any], tmp_path: Path) -> None:
    texts = (json.dumps(document), story.write("ids.html").read_text("utf-8"))
    for text in texts:
        assert [n for n in range(12) if re.search(rf"(?<![\w+/=\\])u{n}(?![\w+/=])", text)] == []


def _contexts(node: Any) -> Iterator[Any]:
    if isinstance(node, dict):
        if "@context" in node:
            yield node["@context"]
        for value in node.values():
            yield from _contexts(value)
    elif isinstance(node, list):
        for item in node:
            yield from _contexts(item)


def _terms(node: Any) -> Iterator[str]:
    """Keys, types, and the names that are referred to."""
    if isinstance(node, list):
        for item in node:
            yield from _terms(item)
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        yield key
        if key in ("@type", "@id") and not value.startswith("_:"):
            yield value
        if key != "@context":
            yield from _terms(value)
