"""Memberships on paper: what a made one says, and that nothing else can be made of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ledger import times
from ledger.errors import IntegrityError, VerificationError
from ledger.log import canonical, prefix_tree
from ledger.log.prefix_tree import PrefixTree
from ledger.statements.audit_statement import AUDIT
from ledger.statements.limits import LIMITS
from ledger.statements.membership import membership, open_membership
from ledger.statements.verify import verify
from tests.statements.paper_log import NOON, PaperLog, sha256

SEED, BLIND = bytes(range(32)), bytes(range(32, 64))
AT = times.text(NOON)
SAID = {
    "rows": [
        {"scope": "everything", "no_at": AT, "no_state": "withdrawn", "no_position": 7},
        {"scope": "category", "scope_id": "post", "yes_at": AT, "yes_position": 8, "yes_accepted": 0, "yes_basis": "import"},
        {
            "scope": "content", "scope_id": "p1", "yes_at": AT, "yes_position": 9, "yes_accepted": 1, "yes_basis": "session",
            "yes_expires_at": AT, "yes_content_since": AT, "no_at": AT, "no_state": "refused", "no_position": 2,
        },
    ]
}


def index(subject: str) -> bytes:
    return prefix_tree.index(SEED, subject)


def said_by_run(log: PaperLog, rows: dict[str, int], predicate: str = "urn:consent-ledger:run:v1") -> tuple[PrefixTree, bytes]:
    tree = PrefixTree((index(u), prefix_tree.value(b"", {"rows": n})) for u, n in rows.items())
    fields = {"subjects_root": tree.root().hex(), "subjects_seed": SEED.hex(), "predicate_type": predicate}
    return tree, log.log_act("statement_made", statement_sha256=sha256(b"s"), **fields)


def said_by_snapshot(log: PaperLog, said: dict[str, Any] = SAID) -> tuple[PrefixTree, bytes]:
    leaves = [(index("u1"), prefix_tree.value(BLIND, said)), (index("u2"), bytes(32))]
    tree = PrefixTree(leaves)
    return tree, log.log_snapshot(subjects_root=tree.root().hex(), subjects_seed=SEED.hex())


@pytest.fixture
def log() -> PaperLog:
    made = PaperLog()
    made.fill(3)
    return made


def test_one_who_is_in_a_run(log: PaperLog) -> None:
    rows = {f"u{number}": number for number in range(1, 9)}
    tree, act = said_by_run(log, rows)
    for subject, number in rows.items():
        line = membership(subject, act, tree.prove(index(subject)), said={"rows": number})
        opened = open_membership(line + b"\n", log.trust)
        assert (opened.subject_id, opened.in_set, opened.said) == (subject, True, {"rows": number})
        assert opened.sentence().startswith(f"'{subject}' is in the set of subjects of whose rows the run kept, by statement ")
        assert opened.sentence().endswith(
            f", with {number} row{'s' if number > 1 else ''}: committed by the operator, shards not checked"
        )


@pytest.mark.parametrize("others", [0, 1, 8, 200])
def test_one_who_is_not(log: PaperLog, others: int, tmp_path: Path) -> None:
    tree, act = said_by_run(log, {f"u{number}": 1 for number in range(others)}, AUDIT)
    for number in range(20):
        line = membership(f"v{number}", act, tree.prove(index(f"v{number}")))
        opened = open_membership(line, log.trust)
        assert not opened.in_set and opened.said is None
        assert opened.sentence().startswith(
            f"'v{number}' is not in the set of subjects of whose rows the audit found allowed, by"
        )
    file = tmp_path / "v"
    file.write_bytes(line + b"\n")
    [sentence, *_] = verify(file, trust=log.trust).checked
    assert sentence.startswith(f"{file}: 'v19' is not in the set") and "shards not checked; the act that commits" in sentence
    file.write_bytes(line)
    with pytest.raises(VerificationError, match="newline"):
        verify(file, trust=log.trust)


def test_a_statement_of_another_kind_is_named_without_guessing(log: PaperLog) -> None:
    tree, act = said_by_run(log, {}, "urn:other")
    line = membership("u1", act, tree.prove(index("u1")))
    assert "of whose rows it speaks" in open_membership(line, log.trust).sentence()


def test_what_a_snapshot_said(log: PaperLog) -> None:
    tree, act = said_by_snapshot(log)
    opened = open_membership(membership("u1", act, tree.prove(index("u1")), said=SAID, blind=BLIND), log.trust)
    assert opened.said == SAID
    for words in (
        f"said of 'u1': about everything, no (withdrawn) of {AT}, entry 7; about category 'post', yes of",
        "resting on import, for a version of the purpose that does not count; about content 'p1', no (refused)",
        f"resting on session, until {AT}, for content since {AT}",
    ):
        assert words in opened.sentence()
    absent = open_membership(membership("u3", act, tree.prove(index("u3"))), log.trust)
    assert not absent.in_set and "said nothing of 'u3'" in absent.sentence()


def refused(log: PaperLog, line: bytes, match: str = ".", **changes: Any) -> None:
    document = {**json.loads(line), **changes}
    with pytest.raises(VerificationError, match=match):
        open_membership(canonical.encode({k: v for k, v in document.items() if v is not None}), log.trust)


def test_nothing_else_verifies(log: PaperLog) -> None:
    tree, act = said_by_run(log, {f"u{number}": 2 for number in range(9)})
    present = membership("u1", act, tree.prove(index("u1")), said={"rows": 2})
    absent = membership("v0", act, tree.prove(index("v0")))
    assert "other" in json.loads(absent) and "path" in json.loads(absent)
    word = canonical.encode_base64(bytes(32))
    other = {"index": word, "value": word}
    refused(log, present, "does not lead", said={"rows": 3})
    refused(log, present, "does not lead", subject_id="u2")
    refused(log, present, said=None)
    refused(log, present, "and that another is in its place", other=other)
    refused(log, present, "has 32 bytes, not 0", blind=word)
    refused(log, present, "at least 1", said={"rows": 0})
    refused(log, present, said=[])
    refused(log, present, "canonical|receipt's line", act=json.loads(present)["act"] + "\n")
    refused(log, present, "longer than an index", path=[word] * 257)
    refused(log, present, "not base64", path=["?"])
    refused(log, present, "path", path="x")
    refused(log, present, "lacks act", act=None)
    refused(log, present, "may not have", more="x")
    refused(log, absent, "does not lead|elsewhere", subject_id="v1")
    refused(log, absent, "nothing that is said", other=None, blind=word)
    refused(log, absent, "does not lead|elsewhere", other=other)
    own = {"index": canonical.encode_base64(index("u1")), "value": canonical.encode_base64(prefix_tree.value(b"", {"rows": 2}))}
    refused(log, present, "is the one that it is about", said=None, other=own)
    plain = log.log_snapshot().decode()
    refused(log, present, "commits to no set", act=plain)
    with pytest.raises(VerificationError):
        open_membership(present, PaperLog().trust)
    with pytest.raises(VerificationError, match="longer than"):
        open_membership(b"x" * (LIMITS.membership + 1), log.trust)


ROW = SAID["rows"][1]


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([], "not a list with something"),
        ([{**ROW, "scope": "everything"}], "names an item"),
        ([{**ROW, "scope": "person"}], "scope"),
        ([{"scope": "category", **{k: v for k, v in ROW.items() if k not in ("scope", "scope_id")}}], "names an item"),
        ([{k: v for k, v in ROW.items() if k != "yes_basis"}], "has not all of"),
        ([{**ROW, "no_at": AT}], "has not all of"),
        ([{**ROW, "yes_accepted": 2}], "neither yes nor no"),
        ([{"scope": "everything"}], "neither yes nor no"),
        ([{**SAID["rows"][0], "yes_expires_at": AT}], "terms of a yes"),
        ([ROW, ROW], "has one twice"),
        ([ROW, SAID["rows"][0]], "order"),
        ([{**ROW, "why": "x"}], "may not have"),
    ],
)
def test_what_no_snapshot_says_is_refused_though_it_be_committed_to(log: PaperLog, rows: list[Any], match: str) -> None:
    said = {"rows": rows}
    tree, act = said_by_snapshot(log, said)
    line = membership("u1", act, tree.prove(index("u1")), said=said, blind=BLIND)
    with pytest.raises(VerificationError, match=match):
        open_membership(line, log.trust)


def test_a_run_s_value_is_no_snapshot_s(log: PaperLog) -> None:
    """Without a blind of its own length, what a run says could be shown as what a snapshot said."""
    tree, act = said_by_snapshot(log)
    refused(log, membership("u1", act, tree.prove(index("u1")), said=SAID, blind=BLIND), "has 0 bytes, not 32", blind=None)


def test_each_byte_counts(log: PaperLog) -> None:
    tree, act = said_by_run(log, {f"u{number}": 1 for number in range(5)})
    for line in (
        membership("u1", act, tree.prove(index("u1")), said={"rows": 1}),
        membership("v1", act, tree.prove(index("v1"))),
    ):
        for at in range(0, len(line), 7):
            changed = bytearray(line)
            changed[at] ^= 1 << at % 8
            with pytest.raises(VerificationError):
                open_membership(bytes(changed), log.trust)


def test_one_that_would_be_too_long_is_not_made(log: PaperLog) -> None:
    tree, act = said_by_run(log, {})
    with pytest.raises(IntegrityError, match=re.escape("takes")):
        membership("u", act, tree.prove(index("u")), said={"rows": ["x" * LIMITS.membership]})
