"""Receipts: an act of the log, the opening of its commitment, its inclusion proof and checkpoint. A receipt verifies alone.

- It has one byte form: canonical JSON on one line; in a file a newline ends it.
- Its fields are a closed set, and none goes unchecked: what is opened is hashed into the entry, the entry is proven to be in the
  log, and the checkpoint bears the log's signature and no other. A proof's `extra` data, which nothing authenticates, is refused.
- Trust comes from the relying party: nothing that a receipt carries is a key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ledger import consent, times
from ledger.consent import Event
from ledger.errors import InvalidEvent, VerificationError
from ledger.log import canonical, note, proof
from ledger.log.checkpoint import Checkpoint
from ledger.log.entry import act_entry, event_body, event_entry
from ledger.log.proof import TlogProof
from ledger.log.trust import Trust
from ledger.statements.fields import (
    Check,
    closed,
    count,
    identifier,
    list_of,
    long_text,
    moment,
    object_of,
    one_of,
    purpose,
    purpose_or_all,
    sha256,
    text,
    version,
)
from ledger.statements.limits import LIMITS
from ledger.statements.one_log import roots_shown

EVENT_RECEIPT = "urn:consent-ledger:receipt:v1"
ACT_RECEIPT = "urn:consent-ledger:act-receipt:v1"

EVENT_REQUIRED: Mapping[str, Check] = {
    "event_id": identifier, "state": one_of(*consent.STATES), "subject_id": identifier, "purposes": list_of(purpose_or_all),
    "actor": one_of(*consent.ACTORS), "recorded_at": moment, "recorded_by": text}  # fmt: skip
EVENT_OPTIONAL: Mapping[str, Check] = {
    "category": identifier, "content_id": identifier, "occurred_at": moment, "expires_at": moment, "content_since": moment,
    "channel": text, "notice": text, "notice_sha256": sha256, "jurisdiction": text, "evidence_sha256": sha256,
    "reason": text}  # fmt: skip
EVENT_TIMES = ("occurred_at", "recorded_at", "expires_at", "content_since")

_SUBJECTS: Mapping[str, Check] = {"subjects_root": sha256, "subjects_seed": sha256}
"""The prefix tree of subjects that an act commits to: its root and its seed, 32 bytes each."""
ACTS: Mapping[str, tuple[Mapping[str, Check], Mapping[str, Check]]] = {
    "purpose_declared": (
        {"token": identifier, "version": version, "title": text, "description": text, "basis": one_of("consent", "licence")},
        {"controller": text, "contact": text, "recipients": list_of(text), "categories": list_of(identifier), "retention": text,
         "withdraw_url": text, "accepts": list_of(version)}),
    "notice_declared": ({"notice_id": identifier, "version": version, "language": text, "sha256": sha256}, {}),
    "key_added": ({"role": one_of("log", "run"), "vkey": text}, {}),
    "key_ended": ({"role": one_of("log", "run"), "vkey": text}, {}),
    "import_finished": (
        {"file_sha256": sha256, "new": count, "repeated": count, "suppressed": count, "reversals": count, "rejected": count},
        {"source": text}),
    "snapshot_compiled": (
        {"purpose": purpose, "snapshot_sha256": sha256, "file_sha256": sha256, "tree_size": count, "as_of": moment}, _SUBJECTS),
    "statement_made": ({"statement_sha256": sha256, "predicate_type": text}, {"snapshot_sha256": sha256, **_SUBJECTS}),
    "link_revoked": ({"token_sha256": sha256}, {}),
    "subject_erased": (
        {"order": text, "tag": sha256, "positions": list_of(count), "event_tags_sha256": sha256, "basis": text}, {}),
}  # fmt: skip
"""Of each act the fields that it must have and those that it may have, besides these:"""
ACT_COMMON: Mapping[str, Check] = {"act": one_of(*ACTS), "recorded_at": moment, "recorded_by": text}


@dataclass(frozen=True)
class VerifiedEvent:
    """event: the canonical document. position: its entry's place in the log. roots: see `one_log.roots_shown`. note: the
    checkpoint as it is, with its signatures."""

    event: dict[str, Any]
    checkpoint: Checkpoint
    position: int
    roots: Mapping[int, bytes]
    note: str


@dataclass(frozen=True)
class VerifiedAct:
    """act: the canonical document. position: its entry's place in the log. roots: see `one_log.roots_shown`. note: the
    checkpoint as it is, with its signatures."""

    act: dict[str, Any]
    checkpoint: Checkpoint
    position: int
    roots: Mapping[int, bytes]
    note: str


def event_receipt(event: bytes, salt: bytes, tag: bytes, inclusion: TlogProof) -> bytes:
    """The receipt's line, without a newline. event: in canonical bytes, which are those that it has in there as well."""
    rest = canonical.encode({
        "format": EVENT_RECEIPT, "proof": inclusion.format(),
        "salt": canonical.encode_base64(salt), "tag": canonical.encode_base64(tag)})  # fmt: skip
    return b'{"event":%b,%b' % (event, rest[1:])


def act_receipt(act: Mapping[str, object], salt: bytes, inclusion: TlogProof) -> bytes:
    """The receipt's line, without a newline. act: the canonical document."""
    return canonical.encode({
        "act": act, "format": ACT_RECEIPT, "proof": inclusion.format(), "salt": canonical.encode_base64(salt)})  # fmt: skip


def open_event_receipt(data: bytes, trust: Trust) -> VerifiedEvent:
    """The event that a receipt's line or file proves to be in a trusted log. Raises VerificationError."""
    receipt = canonical.decode(data.removesuffix(b"\n"), limit=LIMITS.receipt)
    closed("the receipt", receipt, {"event": object_of(EVENT_REQUIRED, EVENT_OPTIONAL), "format": one_of(EVENT_RECEIPT),
                                    "proof": long_text, "salt": text, "tag": text})  # fmt: skip
    event = receipt["event"]
    body = event_body(canonical.decode_base64(receipt["salt"]), canonical.encode(event))
    entry = event_entry(canonical.decode_base64(receipt["tag"]), body)
    checkpoint, inclusion = _require_in_log(entry, receipt["proof"], trust)
    _require_rules(event)
    return VerifiedEvent(event, checkpoint, inclusion.index, roots_shown(entry, inclusion, checkpoint), inclusion.checkpoint)


def open_act_receipt(data: bytes, trust: Trust) -> VerifiedAct:
    """The act that a receipt's line or file proves to be in a trusted log. Raises VerificationError."""
    receipt = canonical.decode(data.removesuffix(b"\n"), limit=LIMITS.receipt)
    closed("the receipt", receipt, {"act": _act, "format": one_of(ACT_RECEIPT), "proof": long_text, "salt": text})
    entry = act_entry(canonical.decode_base64(receipt["salt"]), canonical.encode(receipt["act"]))
    checkpoint, inclusion = _require_in_log(entry, receipt["proof"], trust)
    return VerifiedAct(
        receipt["act"], checkpoint, inclusion.index, roots_shown(entry, inclusion, checkpoint), inclusion.checkpoint
    )


def _act(name: str, value: Any) -> None:
    kind = value.get("act") if isinstance(value, dict) else None
    required, optional = ACTS.get(kind, ({}, {})) if isinstance(kind, str) else ({}, {})
    closed(name, value, {**ACT_COMMON, **required}, optional)


def _require_in_log(entry: bytes, proof_text: str, trust: Trust) -> tuple[Checkpoint, TlogProof]:
    inclusion = proof.parse(proof_text)
    if inclusion.extra is not None:
        raise VerificationError("the receipt's proof carries extra data, which nothing authenticates")
    checkpoint = proof.verify_entry(entry, inclusion, trust)
    _, signatures = note.parse(inclusion.checkpoint)
    keys = [(name, key_id) for name, key_id, _ in signatures]
    if not all(trust.knows(*key) for key in keys) or len(set(keys)) != len(keys):
        raise VerificationError(
            "the receipt's checkpoint bears signatures of others than the log and the witnesses that are trusted, "
            "which nothing authenticates",
            hint="take their lines out of it, or ask for a receipt without them",
        )
    return checkpoint, inclusion


def _require_rules(event: Mapping[str, Any]) -> None:
    """What an event must say beyond its shape is the library's own rule: no receipt shows a yes that the ledger does not take."""
    try:
        values: dict[str, Any] = {name: times.parse(value) if name in EVENT_TIMES else value for name, value in event.items()}
        known = Event(**values)
    except InvalidEvent as error:
        raise VerificationError(f"the receipt's event is none: {error}") from error
    if event["purposes"] != list(known.purposes):
        raise VerificationError("the purposes of the receipt's event are not sorted, or one is named twice")
