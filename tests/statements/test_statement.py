from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256 as new_sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paper_log import NOON, PaperLog, run_record, sha256, shard

from ledger.consent import REASONS
from ledger.errors import IntegrityError, VerificationError
from ledger.log import canonical
from ledger.statements import decided
from ledger.statements.counted import DROPPED
from ledger.statements.decided import set_root
from ledger.statements.limits import LIMITS, Limits
from ledger.statements.statement import RUN, RunRecord, run_of, run_statement

RECEIPT = PaperLog().log_snapshot()


def document(**fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run_statement(run_record(RECEIPT, **fields)))
    return found


def parse_run(payload: bytes) -> RunRecord:
    return run_of(canonical.decode(payload, limit=LIMITS.statement))


def refused(statement: dict[str, Any], said: str) -> None:
    with pytest.raises(VerificationError, match=said):
        parse_run(canonical.encode(statement))


def test_the_words_are_those_of_the_rule() -> None:
    assert ("allowed", *DROPPED) == REASONS


def test_set_root_is_over_raw_digests_in_the_order_of_utf8() -> None:
    a, b, c = sha256(b"a"), sha256(b"b"), sha256(b"c")
    expected = new_sha256(bytes.fromhex(b) + bytes.fromhex(a) + bytes.fromhex(c)).hexdigest()
    # UTF-16 would put the emoji before the private-use character.
    assert set_root({"\U0001f600": c, "\ue000": a, "z": b}) == expected
    assert set_root({}) == sha256(b"")


def test_set_root_is_that_of_openssf_model_signing(shared: Path) -> None:
    """Its statements carry it as the digest of their subject: over the resources' digests in the order of their names."""
    bundles = sorted((shared / "vectors/oms-v1.0/test-vectors/v1.0/valid").glob("*.json"))
    assert bundles
    for bundle in bundles:
        payload = json.loads(canonical.decode_base64(json.loads(bundle.read_text())["dsseEnvelope"]["payload"]))
        digests = {resource["name"]: resource["digest"] for resource in payload["predicate"]["resources"]}
        assert payload["subject"][0]["digest"]["sha256"] == set_root(digests)


def test_a_statement_says_what_the_run_did() -> None:
    statement = document(recipient="Lab", warnings=("w1", "w2"), dropped_metadata=("geo", "pandas"))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == RUN
    assert [s["name"] for s in statement["subject"]] == [".", "a.parquet", "b/a.parquet"]
    assert statement["subject"][0]["digest"]["sha256"] == set_root(
        {"a.parquet": sha256(b"kept"), "b/a.parquet": sha256(b"kept b")}
    )
    predicate = statement["predicate"]
    assert (predicate["rows_in"], predicate["rows_kept"], predicate["rows_dropped"]) == (20, 12, {"withdrawn": 6, "no_record": 2})
    assert [s["output"] for s in predicate["shards"]] == ["a.parquet", "b/a.parquet"]
    assert "expired" not in predicate["shards"][0]["rows_dropped"]
    assert (predicate["recipient"], predicate["warnings"]) == ("Lab", ["w1", "w2"])
    assert predicate["dropped_metadata"] == ["geo", "pandas"]


def test_what_does_not_apply_is_absent() -> None:
    assert not {"recipient", "warnings", "dropped_metadata"} & document()["predicate"].keys()


def test_a_run_comes_back_as_it_was_said() -> None:
    record = run_record(RECEIPT + b"\n", recipient="Lab", warnings=("w",), dropped_metadata=("geo", "\ue000", "\U0001f600"))
    back = parse_run(run_statement(record))
    kept = tuple(replace(s, rows_dropped={"withdrawn": 3, "no_record": 1}) for s in reversed(record.shards))
    assert back == replace(record, snapshot_receipt=RECEIPT.decode(), shards=kept)
    assert run_statement(back) == run_statement(record)


def test_nothing_kept_and_nothing_dropped_are_said_too() -> None:
    empty = shard(rows_in=0, rows_kept=0, rows_dropped={})
    statement = document(shards=(empty,), rests_on={}, unmapped=0)
    assert (statement["predicate"]["rests_on"], statement["predicate"]["rows_dropped"]) == ({}, {})


BAD_RUNS: list[tuple[dict[str, Any], str]] = [
    ({"shards": (shard(rows_in=11),)}, "shard 'a.parquet' do not add up"),
    ({"shards": (shard(rows_dropped={"withdrawn": 4, "sunspots": 0}), shard("b")), "unmapped": 9}, "unmapped|want of a column"),
    ({"shards": (shard(rows_dropped={"allowed": 4}),)}, "'allowed', which is unknown"),
    ({"shards": (shard(rows_dropped={"sunspots": 4}),)}, "'sunspots', which is unknown"),
    ({"shards": (shard(rows_kept=-1, rows_in=3),)}, "at least 0"),
    ({"shards": (shard(rows_dropped={"withdrawn": -4, "expired": 8}),)}, "at least 1"),
    ({"shards": ()}, "with something in it"),
    ({"shards": (shard(), shard())}, "named twice"),
    ({"shards": (shard(), shard(content=b"x", input="other"))}, "named twice"),
    ({"shards": (shard(), shard("b", input="a.parquet"))}, "named twice"),
    ({"rests_on": {"session": 11}}, "rests_on"),
    ({"rests_on": {"hope": 12}}, "'hope', which is unknown"),
    ({"unmapped": 9}, "want of a column"),
    ({"age_seconds": 86401}, "limit of 86400"),
    ({"age_seconds": -1}, "at least 0"),
    ({"age_seconds": 1.5}, "float"),
    ({"purpose": "train-ai"}, "TOKEN@VERSION"),
    ({"snapshot_sha256": "00"}, "hexadecimal"),
    ({"shards": (shard(output_sha256="xy"),)}, "does not make a statement"),
    ({"snapshot_receipt": ""}, "snapshot_receipt"),
    ({"columns": {}}, "lacks subject"),
    ({"columns": {"subject": ["a"], "colour": "x"}}, "'colour'"),
    ({"columns": {"subject": ["a"], "created_unit": "weeks"}}, "created_unit"),
    ({"columns": ["a"]}, "not an object"),
    ({"versions": {"": "1"}}, "versions"),
    ({"versions": {"a": 1}}, "versions.a"),
    ({"recipient": ""}, "recipient"),
    ({"warnings": ("",)}, "warnings"),
    ({"dropped_metadata": ("",)}, "dropped_metadata"),
    ({"dropped_metadata": ("b", "a")}, "not sorted"),
    ({"dropped_metadata": ("a", "a")}, "twice"),
    ({"run_id": True}, "bool"),
]
BAD_NAMES = ["", "/a", "../a", "a/../b", "a//b", "a/", "./a", "a/.", ".", "a\\b", "a\0b", "a\ud800", "x" * 4097]


@pytest.mark.parametrize(("fields", "said"), BAD_RUNS)
def test_a_run_that_does_not_add_up_is_not_signed(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(IntegrityError, match=said) as caught:
        run_statement(run_record(RECEIPT, **fields))
    assert not isinstance(caught.value, VerificationError)


def test_a_statement_that_nobody_would_read_is_not_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(run_statement(run_record(RECEIPT)))
    monkeypatch.setattr(decided, "LIMITS", Limits(statement=size))
    assert len(run_statement(run_record(RECEIPT))) == size
    monkeypatch.setattr(decided, "LIMITS", Limits(statement=size - 1))
    with pytest.raises(IntegrityError, match=f"it would have {size} bytes, of {size - 1} that are allowed"):
        run_statement(run_record(RECEIPT))


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("where", ["input", "output"])
def test_names_are_relative_paths(name: str, where: str) -> None:
    named = replace(shard(), input=name) if where == "input" else replace(shard(), output=name)
    with pytest.raises(IntegrityError):
        run_statement(run_record(RECEIPT, shards=(named,), rests_on={"session": 6}))


@pytest.mark.parametrize("name", ["ä/ö.parquet", "_x/.y", "a b", "...", "a..b/c..", "C:x", "\n"])
def test_other_names_are_taken(name: str) -> None:
    parse_run(run_statement(run_record(RECEIPT, shards=(shard(name),), rests_on={"session": 6})))


CHANGES: list[tuple[list[str | int], Any, str]] = [
    (["_type"], "https://in-toto.io/Statement/v0.1", "_type"),
    (["predicateType"], "urn:consent-ledger:audit:v1", "type 'urn:consent-ledger:audit:v1', and not of"),
    (["predicateType"], 5, "type 5, and not of"),
    (["more"], "x", "'more'"),
    (["predicate", "more"], "x", "'more'"),
    (["predicate", "shards", 0, "more"], "x", "'more'"),
    (["predicate"], "x", "not an object"),
    (["predicate", "rows_in"], 21, "rows_in of the run"),
    (["predicate", "rows_kept"], 13, "rows_kept of the run"),
    (["predicate", "rows_dropped"], {"withdrawn": 8}, "rows_dropped of the run"),
    (["predicate", "rows_dropped"], [], "not an object"),
    (["predicate", "rows_dropped", "expired"], 0, "at least 1"),
    (["predicate", "shards", 0, "rows_dropped", "withdrawn"], "3", "at least 1"),
    (["predicate", "shards", 1, "output"], "c", "subjects"),
    (["predicate", "shards", 1, "output_sha256"], sha256(b"kept"), "subjects"),
    (["subject", 0, "digest", "sha256"], sha256(b"other"), "subjects"),
    (["subject", 1, "digest", "sha256"], sha256(b"other"), "subjects"),
    (["subject", 1, "digest", "sha512"], sha256(b"other"), "'sha512'"),
    (["subject", 1, "name"], "c", "subjects"),
    (["subject"], [], "with something in it"),
    (["predicate", "versions"], "x", "not an object"),
    (["predicate", "warnings"], [], "with something in it"),
    (["predicate", "decided_at"], "2026-01-31T12:00:00Z", "decided_at"),
    (["predicate", "age_seconds"], 2**53 - 1, "limit"),
]


@pytest.mark.parametrize(("path", "value", "said"), CHANGES)
def test_a_changed_statement_is_refused(path: list[str | int], value: Any, said: str) -> None:
    statement = document()
    node: Any = statement
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    refused(statement, said)


def test_every_field_is_required_but_three() -> None:
    statement = document(recipient="Lab", warnings=("w",), dropped_metadata=("geo",))
    for holder in (statement, statement["predicate"], statement["predicate"]["shards"][0], statement["subject"][1]):
        for name in list(holder):
            if name in ("recipient", "warnings", "dropped_metadata"):
                continue
            value = holder.pop(name)
            refused(statement, name if name != "predicateType" else "type None, and not of")
            holder[name] = value
    parse_run(canonical.encode(statement))


def test_subjects_and_shards_are_in_the_order_of_names() -> None:
    statement = document()
    statement["predicate"]["shards"].reverse()
    refused(statement, "sorted by name")
    statement = document()
    statement["subject"].reverse()
    refused(statement, "sorted by name")


def test_a_statement_is_canonical() -> None:
    with pytest.raises(VerificationError, match="canonical"):
        parse_run(json.dumps(document(), indent=1).encode())


JSON = st.recursive(
    st.text(max_size=8) | st.integers(-5, 2**53 - 1),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), value=JSON)
def test_only_verification_errors_escape(data: st.DataObject, value: Any) -> None:
    statement = document(recipient="Lab")
    node: Any = statement
    while True:
        keys: list[Any] = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(node[key], dict | list) or not node[key] or data.draw(st.booleans()):
            break
        node = node[key]
    node[key] = value
    payload = canonical.encode(statement)
    try:
        parsed = parse_run(payload)
    except VerificationError:
        return
    assert run_statement(parsed) == payload


@st.composite
def runs(draw: st.DrawFn) -> RunRecord:
    names = draw(st.lists(st.text("aäz\U0001f600\ue000_", min_size=1, max_size=4), min_size=1, max_size=4, unique=True))
    shards = []
    for name in names:
        dropped = draw(st.dictionaries(st.sampled_from(DROPPED), st.integers(0, 2**40), max_size=3))
        kept = draw(st.integers(0, 2**40))
        shards.append(shard(name, name.encode(), rows_in=kept + sum(dropped.values()), rows_kept=kept, rows_dropped=dropped))
    age = draw(st.integers(0, 2**53 - 1))
    return run_record(
        RECEIPT,
        shards=tuple(shards),
        rests_on={"import": sum(s.rows_kept for s in shards)},
        unmapped=0,
        age_seconds=age,
        max_age_seconds=age,
        decided_at=NOON + draw(st.timedeltas(timedelta(0), timedelta(days=9))),
    )


@settings(max_examples=100, deadline=None)
@given(runs())
def test_every_run_that_adds_up_makes_one_statement(record: RunRecord) -> None:
    payload = run_statement(record)
    assert run_statement(parse_run(payload)) == payload
    assert run_statement(replace(record, shards=record.shards[::-1])) == payload
