from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paper_log import EVENT, NOON, SALT, TAG_KEY, PaperLog, sha256

from ledger import times
from ledger.errors import VerificationError
from ledger.log import canonical, proof
from ledger.log.entry import act_entry, event_body, event_entry, subject_tag
from ledger.log.trust import Trust
from ledger.statements.fields import MAX_LONG_TEXT
from ledger.statements.limits import LIMITS
from ledger.statements.receipt import ACTS, act_receipt, event_receipt, open_act_receipt, open_event_receipt

LATER = times.text(NOON + timedelta(days=30))
DIGEST = sha256(b"evidence")
ACT_FIELDS: dict[str, dict[str, Any]] = {
    "purpose_declared": {
        "token": "train-ai",
        "version": 2,
        "title": "T",
        "description": "D",
        "basis": "consent",
        "controller": "C",
        "contact": "c@d",
        "recipients": ["R"],
        "categories": ["post"],
        "retention": "1 year",
        "withdraw_url": "https://w",
        "accepts": [1],
    },
    "notice_declared": {"notice_id": "n", "version": 1, "language": "de", "sha256": DIGEST},
    "key_added": {"role": "run", "vkey": "n+00000000+AA=="},
    "key_ended": {"role": "run", "vkey": "v"},
    "import_finished": {
        "file_sha256": DIGEST,
        "new": 1,
        "repeated": 0,
        "suppressed": 0,
        "reversals": 0,
        "rejected": 0,
        "source": "crm",
    },
    "snapshot_compiled": {
        "purpose": "train-ai@2",
        "snapshot_sha256": DIGEST,
        "file_sha256": DIGEST,
        "tree_size": 0,
        "as_of": LATER,
    },
    "statement_made": {
        "statement_sha256": DIGEST,
        "predicate_type": "urn:x",
        "subjects_root": DIGEST,
        "subjects_seed": DIGEST,
    },
    "link_revoked": {"token_sha256": DIGEST},
    "subject_erased": {
        "order": "o",
        "tag": DIGEST,
        "positions": [0, 3],
        "event_tags_sha256": DIGEST,
        "basis": "B",
    },
}


@pytest.fixture
def log() -> PaperLog:
    log = PaperLog()
    log.fill(5)
    return log


def test_an_event_receipt_opens(log: PaperLog) -> None:
    line = log.log_event()
    for data in (line, line + b"\n"):
        verified = open_event_receipt(data, log.trust)
        assert verified.event == EVENT
        assert verified.position == 5
        assert verified.checkpoint == log.checkpoint(6)
        assert verified.roots[5] == log.checkpoint(5).root


def test_an_event_with_every_field_opens(log: PaperLog) -> None:
    event = {
        **EVENT,
        "actor": "guardian",
        "category": "post",
        "expires_at": LATER,
        "content_since": times.text(NOON),
        "channel": "web",
        "notice": "n@1/en",
        "notice_sha256": DIGEST,
        "jurisdiction": "DE",
        "evidence_sha256": DIGEST,
        "reason": "because",
    }
    assert open_event_receipt(log.log_event(event), log.trust).event == event


@pytest.mark.parametrize("kind", ACTS)
def test_an_act_receipt_opens(log: PaperLog, kind: str) -> None:
    line = log.log_act(kind, **ACT_FIELDS[kind])
    verified = open_act_receipt(line + b"\n", log.trust)
    assert verified.act["act"] == kind
    assert (verified.position, verified.checkpoint.size) == (5, 6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"state": "maybe"}, "state is 'maybe'"),
        ({"state": 7}, "state is 7"),
        ({"subject_id": ""}, "subject_id is empty"),
        ({"subject_id": "a\0b"}, "NUL"),
        ({"subject_id": 5}, "must be text"),
        ({"subject_id": "é" * 257}, "longer than 512"),
        ({"purposes": "train-ai@2"}, "not a list"),
        ({"purposes": []}, "not a list"),
        ({"purposes": ["train-ai"]}, "TOKEN@VERSION"),
        ({"purposes": [5]}, "must be text"),
        ({"purposes": ["train-ai@2", "search@1"]}, "not sorted"),
        ({"purposes": ["search@1", "search@1"]}, "named twice"),
        ({"purposes": ["*"]}, "for a no only"),
        ({"occurred_at": "2026-01-31T12:00:00Z"}, "occurred_at"),
        ({"occurred_at": "2026-02-30T12:00:00.000000Z"}, "occurred_at"),
        ({"occurred_at": "2026-01-31T24:00:00.000000Z"}, "occurred_at"),
        ({"occurred_at": 1}, "occurred_at"),
        ({"evidence_sha256": DIGEST.upper()}, "hexadecimal"),
        ({"evidence_sha256": 1}, "hexadecimal"),
        ({"reason": "x" * 4097}, "longer than 4096"),
        ({"channel": "one-click"}, "one click"),
        ({"content_id": "c", "category": "post"}, "not of both"),
        ({"extra": "x"}, "'extra'"),
    ],
)
def test_what_is_no_event_is_refused_even_with_a_proof(log: PaperLog, change: dict[str, Any], said: str) -> None:
    with pytest.raises(VerificationError, match=said):
        open_event_receipt(log.log_event({**EVENT, **change}), log.trust)


@pytest.mark.parametrize(
    "name", ["event_id", "state", "subject_id", "purposes", "actor", "recorded_at", "recorded_by", "occurred_at"]
)
def test_an_event_that_lacks_a_field_is_refused(log: PaperLog, name: str) -> None:
    event = {key: value for key, value in EVENT.items() if key != name}
    with pytest.raises(VerificationError, match=name):
        open_event_receipt(log.log_event(event), log.trust)


def test_a_no_to_everything_needs_neither_time_nor_purpose(log: PaperLog) -> None:
    event = {**EVENT, "state": "withdrawn", "purposes": ["*"]}
    del event["occurred_at"]
    assert open_event_receipt(log.log_event(event), log.trust).event["purposes"] == ["*"]


@pytest.mark.parametrize(
    "change",
    [
        {"act": "dance"},
        {"act": 5},
        {"tree_size": -1},
        {"tree_size": "1"},
        {"as_of": "now"},
        {"purpose": "train-ai"},
        {"more": "x"},
        {"recorded_by": ""},
        {"recorded_at": 5},
    ],
)
def test_what_is_no_act_is_refused_even_with_a_proof(log: PaperLog, change: dict[str, Any]) -> None:
    with pytest.raises(VerificationError):
        open_act_receipt(log.log_act("snapshot_compiled", **{**ACT_FIELDS["snapshot_compiled"], **change}), log.trust)


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("purpose_declared", {"version": 0}, "at least 1"),
        ("purpose_declared", {"version": "1"}, "at least 1"),
        ("purpose_declared", {"categories": []}, "with something in it"),
        ("purpose_declared", {"basis": "interest"}, "consent or licence"),
        ("key_added", {"role": "root"}, "log or run"),
        ("import_finished", {"new": -1}, "at least 0"),
    ],
)
def test_an_acts_fields_are_checked(log: PaperLog, kind: str, change: dict[str, Any], said: str) -> None:
    with pytest.raises(VerificationError, match=said):
        open_act_receipt(log.log_act(kind, **{**ACT_FIELDS[kind], **change}), log.trust)


def test_an_act_that_is_no_object_is_refused(log: PaperLog) -> None:
    receipt = {**json.loads(log.log_act("key_added", **ACT_FIELDS["key_added"])), "act": "key_added"}
    with pytest.raises(VerificationError, match="not an object"):
        open_act_receipt(canonical.encode(receipt), log.trust)


def test_another_log_is_not_trusted(log: PaperLog) -> None:
    line, act = log.log_event(), log.log_snapshot()
    for trust in (PaperLog().trust, Trust((), log.trust.run)):
        with pytest.raises(VerificationError, match="not signed by a key that is trusted"):
            open_event_receipt(line, trust)
        with pytest.raises(VerificationError, match="not signed by a key that is trusted"):
            open_act_receipt(act, trust)


def test_what_nothing_authenticates_is_refused(log: PaperLog) -> None:
    act = {"act": "key_added", "recorded_at": LATER, "recorded_by": "user:ann", **ACT_FIELDS["key_added"]}
    inclusion = log.proof(log.append(act_entry(SALT, canonical.encode(act))))
    assert open_act_receipt(act_receipt(act, SALT, inclusion), log.trust).act == act
    with pytest.raises(VerificationError, match="extra data"):
        open_act_receipt(act_receipt(act, SALT, replace(inclusion, extra=b"note")), log.trust)
    with pytest.raises(VerificationError, match="signatures of others"):
        signature = inclusion.checkpoint.rpartition("\n\n")[2]
        open_act_receipt(act_receipt(act, SALT, replace(inclusion, checkpoint=inclusion.checkpoint + signature)), log.trust)


def test_a_receipt_of_the_other_kind_is_refused(log: PaperLog) -> None:
    with pytest.raises(VerificationError, match="lacks"):
        open_event_receipt(log.log_snapshot(), log.trust)
    with pytest.raises(VerificationError, match="lacks"):
        open_act_receipt(log.log_event(), log.trust)


def test_an_event_is_not_the_entry_of_an_act(log: PaperLog) -> None:
    """An entry commits to its kind: the opening of an event's body is no act."""
    tag = subject_tag(TAG_KEY, "u1")
    position = log.append(event_entry(tag, event_body(SALT, canonical.encode(EVENT))))
    act = {"act": "key_added", "recorded_at": LATER, "recorded_by": "user:ann", **ACT_FIELDS["key_added"]}
    with pytest.raises(VerificationError, match="does not lead to the root"):
        open_act_receipt(act_receipt(act, SALT, log.proof(position)), log.trust)
    other = {**EVENT, "subject_id": "u2"}
    with pytest.raises(VerificationError, match="does not lead to the root"):
        open_event_receipt(event_receipt(canonical.encode(other), SALT, tag, log.proof(position)), log.trust)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda line: line + b"\n\n",
        lambda line: b" " + line,
        lambda line: line + b" ",
        lambda line: line[:-1],
        lambda line: b"",
        lambda line: line.replace(b'"salt"', b'"sa\\u006ct"'),
        lambda line: b"\xff" + line,
        lambda line: b"[" * 100_000,
        lambda line: json.dumps(json.loads(line)).encode(),
        lambda line: line + b" " * LIMITS.receipt,
    ],
)
def test_there_is_one_byte_form(log: PaperLog, spoil: Any) -> None:
    with pytest.raises(VerificationError):
        open_event_receipt(spoil(log.log_event()), log.trust)


def test_a_proof_has_a_bounded_length(log: PaperLog) -> None:
    receipt = {**json.loads(log.log_event()), "proof": "x" * (MAX_LONG_TEXT + 1)}
    with pytest.raises(VerificationError):
        open_event_receipt(canonical.encode(receipt), log.trust)
    with pytest.raises(VerificationError, match="proof"):
        open_event_receipt(canonical.encode({**receipt, "proof": ""}), log.trust)
    with pytest.raises(VerificationError, match="proof"):
        open_event_receipt(canonical.encode({**receipt, "proof": ["x"]}), log.trust)


@pytest.mark.parametrize("kind", ["event", "act"])
def test_every_changed_byte_is_noticed(log: PaperLog, kind: str) -> None:
    line, opened = (log.log_event(), open_event_receipt) if kind == "event" else (log.log_snapshot(), open_act_receipt)
    data = line + b"\n"
    opened(data, log.trust)
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for at in range(len(data)):
        for spoiled in (
            data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :],
            data[:at] + bytes([(data[at] + chance.randrange(1, 256)) % 256]) + data[at + 1 :],
        ):
            with pytest.raises(VerificationError):
                opened(spoiled, log.trust)
                pytest.fail(f"byte {at} of the {kind} receipt may be {spoiled[at]:#x} (seed {seed})")


JSON = st.recursive(
    st.text(max_size=8) | st.integers(-5, 2**53 - 1),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_only_verification_errors_escape(data: st.DataObject) -> None:
    log = PaperLog()
    log.fill(2)
    event_line, act_line = log.log_event(), log.log_snapshot()
    for line, opened in ((event_line, open_event_receipt), (act_line, open_act_receipt)):
        receipt = json.loads(line)
        inner = "event" if "event" in receipt else "act"
        target = receipt if data.draw(st.booleans()) else receipt[inner]
        name = data.draw(st.sampled_from(sorted(target)) | st.text(max_size=8))
        value = data.draw(JSON)
        if target.get(name) == value:
            continue
        target[name] = value
        with pytest.raises(VerificationError):
            opened(canonical.encode(receipt), log.trust)


@settings(max_examples=200, deadline=None)
@given(value=JSON, name=st.sampled_from(sorted(EVENT)))
def test_a_proven_document_of_any_shape_is_an_event_or_refused(value: Any, name: str) -> None:
    """The log itself is hostile here: it proves whatever document it likes."""
    log = PaperLog()
    event = {**EVENT, name: value}
    line = log.log_event(event)
    try:
        assert open_event_receipt(line, log.trust).event == event
    except VerificationError:
        assert event != EVENT


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=200))
def test_noise_is_refused(data: bytes) -> None:
    trust = PaperLog().trust
    for opened in (open_event_receipt, open_act_receipt):
        with pytest.raises(VerificationError):
            opened(data, trust)


def test_the_proof_in_a_receipt_is_the_one_that_others_read(log: PaperLog) -> None:
    receipt = json.loads(log.log_event())
    assert proof.parse(receipt["proof"]).format() == receipt["proof"]
    assert receipt["proof"].startswith("c2sp.org/tlog-proof@v1\n")
