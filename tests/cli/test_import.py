"""`consent import` as a command: exit codes, messages, and what stands on stdout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ledger import schemas

HEADER = "state,subject_id,purposes,occurred_at\n"
GOOD = "given,ann,train-ai,2026-01-01T00:00:00Z\n"
EVIL = {"\x07", "\u202e"}
CRM = """
[import.crm]
subject_id = "customer"
state = { column = "optin", values = { yes = "given", no = "withdrawn" } }
purposes = "=train-ai"
occurred_at = "changed"
"""


@pytest.fixture
def run(consent: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    assert consent("init").code == 0
    assert consent("purpose", "add", "train-ai", "--title", "T", "--description", "D").code == 0

    def write_and_run(text: str, *options: str) -> Any:
        (tmp_path / "acts.csv").write_text(text, encoding="utf-8")
        return consent("import", "acts.csv", *options)

    return write_and_run


def _events(consent: Callable[..., Any], who: str) -> list[str]:
    return [event["state"] for event in json.loads(consent("show", who, "--format", "json").out)["events"]]


def test_rejects(run: Callable[..., Any], consent: Callable[..., Any]) -> None:
    outcome = run(HEADER + GOOD + "refused,,*,\n", "--rejects", "bad.csv", "--format", "json")
    assert outcome.code == 1
    document = json.loads(outcome.out)
    jsonschema.validate(document, schemas.load("import"))
    assert (document["new"], document["rejected"]) == (1, 1)
    assert "error: 1 lines were rejected; they are in bad.csv" in outcome.err
    assert "hint: bad.csv.why says why" in outcome.err
    assert _events(consent, "ann") == ["given"]
    assert run(HEADER + "refused,,*,x\n", "--rejects", "bad.csv").code == 1
    assert Path("bad.csv").read_text() == HEADER + "refused,,*,\n", "rejects that nobody has mended stay"


def test_without_rejects_nothing_is_recorded(run: Callable[..., Any], consent: Callable[..., Any]) -> None:
    outcome = run(HEADER + GOOD + "refused,,*,\n")
    assert outcome.code == 1
    assert "line 3: subject_id is empty" in outcome.err
    assert "nothing was recorded" in outcome.err
    assert _events(consent, "ann") == []


def test_a_dry_run(run: Callable[..., Any], consent: Callable[..., Any]) -> None:
    head = Path("consent-ledger/head").read_bytes()
    outcome = run(HEADER + GOOD, "--dry-run", "--format", "json")
    assert outcome.code == 0
    document = json.loads(outcome.out)
    jsonschema.validate(document, schemas.load("import"))
    assert (document["new"], document["dry_run"]) == (1, True)
    assert "nothing was recorded, it would be: 1 new" in run(HEADER + GOOD, "--dry-run").err
    assert Path("consent-ledger/head").read_bytes() == head
    assert run(HEADER + "refused,ann,other,\n", "--dry-run").code == 1


def test_too_many_reversals(run: Callable[..., Any], consent: Callable[..., Any]) -> None:
    assert run(HEADER + "refused,ann,*,2025-01-01T00:00:00Z\n").code == 0
    outcome = run(HEADER + GOOD, "--max-reversals", "0")
    assert outcome.code == 1
    assert "would take 1 people from no to yes, and at most 0 may; nothing was recorded" in outcome.err
    assert "line 2: 'ann' goes from no" in outcome.err
    assert _events(consent, "ann") == ["refused"]
    assert run(HEADER + GOOD, "--max-reversals", "-1").code == 2
    assert run(HEADER + GOOD, "--max-reversals", "1").code == 0


def test_the_source_selects_its_table(run: Callable[..., Any], consent: Callable[..., Any]) -> None:
    Path("consent.toml").write_text(CRM)
    data = "customer,optin,changed,n\nann,yes,2026-01-01T00:00:00Z,1\n"
    outcome = run(data, "--source", "crm")
    assert outcome.code == 0, outcome.err
    assert "consent.toml says: import crm" in outcome.err
    assert _events(consent, "ann") == ["given"]
    outcome = run(data, "--source", "crn")
    assert outcome.code == 2, "another name has no table, and these are no columns of acts"
    assert "says" not in outcome.err
    assert run(data).code == 2
    assert run(data.replace("yes", "Yes"), "--source", "crm").code == 1
    Path("consent.toml").write_text(CRM.replace("optin", "opt-in"))
    outcome = run(data, "--source", "crm")
    assert outcome.code == 2
    assert "'opt-in'" in outcome.err and "'optin'" in outcome.err
    Path("consent.toml").write_text(CRM.replace("withdrawn", "withdrown"))
    assert "'withdrown'" in run(data, "--source", "crm").err


def test_foreign_names_are_shown_escaped(run: Callable[..., Any], consent: Callable[..., Any]) -> None:
    assert not EVIL & set(run(HEADER + GOOD, "--source", "x\x07\u202e").err)
    assert not EVIL & set(run(HEADER + "refused,,*,\n", "--source", "x\x07\u202e").err)
    assert not EVIL & set(run(HEADER + "ref\x07\u202e,a,*,\n").err)
    assert not EVIL & set(run(HEADER + "refused,a,*,ref\x07\u202e\n").err)
    assert not EVIL & set(run(HEADER.replace("state", "st\x07\u202e") + GOOD).err)
    assert not EVIL & set(run(HEADER + GOOD, "--source", "\x07" * 600).err)
    Path("rejects\x07\u202e").write_text("")
    assert not EVIL & set(run(HEADER + "refused,,*,\n", "--rejects", "rejects\x07\u202e").err)
