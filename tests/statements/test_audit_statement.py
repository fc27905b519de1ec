"""Audit statements: what they may say, and that nothing else is one."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from paper_log import PaperLog, audit_record, run_record, sha256

from ledger.errors import IntegrityError, VerificationError
from ledger.log import canonical
from ledger.statements.audit_statement import AUDIT, AuditedShard, audit_of, audit_statement
from ledger.statements.decided import set_root
from ledger.statements.statement import RUN, run_statement
from ledger.statements.verify import open_statement, stated_kind
from tests.statements.conftest import Made

RECEIPT = PaperLog().log_snapshot()


def document(**fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(audit_statement(audit_record(RECEIPT, **fields)))
    return found


def one(name: str = "a", digest: str = sha256(b"a"), rows: int = 12) -> AuditedShard:
    return AuditedShard(name=name, sha256=digest, rows=rows)


def test_a_statement_says_what_was_audited() -> None:
    statement = document(recipient="Lab", warnings=("w",))
    digests = {"a.parquet": sha256(b"kept"), "b/a.parquet": sha256(b"kept b")}
    assert statement["predicateType"] == AUDIT == "urn:consent-ledger:audit:v1"
    assert [(s["name"], s["digest"]["sha256"]) for s in statement["subject"]] == [(".", set_root(digests)), *digests.items()]
    predicate = statement["predicate"]
    assert predicate["rows"] == 12
    assert [(s["name"], s["rows"]) for s in predicate["shards"]] == [("a.parquet", 7), ("b/a.parquet", 5)]
    assert (predicate["recipient"], predicate["warnings"]) == ("Lab", ["w"])
    assert not {"recipient", "warnings"} & document()["predicate"].keys()


def test_an_audit_comes_back_as_it_was_said() -> None:
    record = audit_record(RECEIPT + b"\n", recipient="Lab", warnings=("w",))
    back = audit_of(json.loads(audit_statement(record)))
    assert back == replace(record, snapshot_receipt=RECEIPT.decode(), shards=tuple(reversed(record.shards)))


BAD: list[tuple[dict[str, Any], str]] = [
    ({"shards": ()}, "with something in it"),
    ({"shards": (one(rows=11),)}, "rests_on speaks of 12 rows, but there are 11"),
    ({"shards": (one(), one(digest=sha256(b"x"), rows=0))}, "named twice"),
    ({"shards": (one("../a"),)}, "relative path"),
    ({"shards": (one("a\\b"),)}, "relative path"),
    ({"shards": (one("."),)}, "relative path"),
    ({"shards": (one(digest="00"),)}, "does not make a statement"),
    ({"shards": (one(rows=-1), one("b", rows=13))}, "at least 0"),
    ({"rests_on": {"session": 11}}, "rests_on speaks of 11"),
    ({"rests_on": {"hope": 12}}, "'hope', which is unknown"),
    ({"age_seconds": 86401}, "limit of 86400"),
    ({"columns": {}}, "lacks subject"),
    ({"purpose": "train-ai"}, "TOKEN@VERSION"),
    ({"audit_id": ""}, "audit_id"),
]


@pytest.mark.parametrize(("fields", "said"), BAD)
def test_what_no_statement_may_say_is_not_signed(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(IntegrityError, match=said):
        audit_statement(audit_record(RECEIPT, **fields))


CHANGES: list[tuple[list[str | int], Any, str]] = [
    (["predicateType"], RUN, "type 'urn:consent-ledger:run:v1', and not of"),
    (["predicate", "rows"], 13, "rows of the audit"),
    (["predicate", "shards", 0, "rows"], 8, "rows of the audit"),
    (["predicate", "shards", 0, "input"], "x", "'input'"),
    (["predicate", "shards", 1, "name"], "c", "subjects"),
    (["predicate", "shards", 1, "sha256"], sha256(b"kept"), "subjects"),
    (["subject", 0, "digest", "sha256"], sha256(b"other"), "subjects"),
    (["predicate", "run_id"], "x", "'run_id'"),
    (["predicate", "rows_dropped"], {"withdrawn": 1}, "'rows_dropped'"),
    (["predicate", "dropped_metadata"], ["x"], "'dropped_metadata'"),
]


@pytest.mark.parametrize(("path", "value", "said"), CHANGES)
def test_a_changed_statement_is_refused(path: list[str | int], value: Any, said: str) -> None:
    statement = document()
    node: Any = statement
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    with pytest.raises(VerificationError, match=said):
        audit_of(statement)


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
    try:
        parsed = audit_of(statement)
    except VerificationError:
        return
    assert audit_statement(parsed) == canonical.encode(statement)


# In a file, with its shards


def audited(made: Made, logged: str = AUDIT) -> None:
    line = made.log.seal(audit_statement(audit_record(made.log.log_snapshot())))
    made.statement.write_bytes(line + b"\n" + made.log.log_statement(line, predicate_type=logged) + b"\n")


def test_verify_says_which_kind_it_was(made: Made) -> None:
    assert "it is of a run and adds up per shard and in all: 20 rows in, 12 kept" in made.check()
    audited(made)
    said = made.check()
    assert "it is of an audit, which does not say where the shards come from: all 12 rows were allowed" in said
    assert "by category '=post', subject ['user_id']" in said
    assert "holds exactly the 2 shards" in said


def test_an_audit_logged_as_a_run_is_refused_and_the_other_way_round(made: Made) -> None:
    audited(made, logged=RUN)
    made.refused("of another statement")
    made.state(logged={"predicate_type": AUDIT})
    made.refused("of another statement")


def test_it_holds_for_these_shards_alone(made: Made) -> None:
    audited(made)
    (made.out / "c.parquet").write_bytes(b"more")
    made.refused("holds 'c.parquet'")
    (made.out / "c.parquet").unlink()
    (made.out / "a.parquet").write_bytes(b"else")
    made.refused("its digest is another")
    (made.out / "a.parquet").unlink()
    made.refused("lacks 'a.parquet'")


def test_the_kind_that_a_file_claims(made: Made) -> None:
    assert stated_kind(made.statement) == RUN
    audited(made)
    assert stated_kind(made.statement) == AUDIT
    for content in (b"", b"x\n", b"[]\n", b'{"payload":"e30="}\n', b'{"payload":5}\n'):
        made.statement.write_bytes(content)
        assert stated_kind(made.statement) == ""
    made.statement.unlink()
    assert stated_kind(made.statement) is None
    made.statement.symlink_to("nowhere")
    assert stated_kind(made.statement) == ""


def test_every_changed_byte_is_noticed(made: Made) -> None:
    audited(made)
    data, trust = made.statement.read_bytes(), made.log.trust
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for at in range(len(data)):
        spoiled = data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
        with pytest.raises(VerificationError):
            open_statement(spoiled, trust)
            pytest.fail(f"byte {at} may be another (seed {seed})")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_lines_of_a_run_and_of_an_audit_do_not_mix(made: Made, data: st.DataObject) -> None:
    """Both are signed and logged by the same keys over the same shards; only the two whole files hold."""
    snapshot = made.log.log_snapshot()
    lines = [made.log.seal(run_statement(run_record(snapshot))), made.log.seal(audit_statement(audit_record(snapshot)))]
    lines += [made.log.log_statement(line, predicate_type=kind) for line, kind in zip(lines, (RUN, AUDIT), strict=True)]
    chosen = data.draw(st.lists(st.integers(0, 3), max_size=3))
    file = b"".join(lines[number] + b"\n" for number in chosen)
    if chosen in ([0, 2], [1, 3]):
        open_statement(file, made.log.trust)
    else:
        with pytest.raises(VerificationError):
            open_statement(file, made.log.trust)
