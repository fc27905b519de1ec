"""Whether one subject is in a set that an act of the log commits to: of a snapshot, of the rows that a run kept, or of an audit.

It verifies alone, as a receipt does. What it shows is what the operator committed to, no more: that the set is that of the
snapshot or the shards is for another to check, who has them. Its fields are a closed set, and none goes unchecked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ledger import consent
from ledger.consent import Scope
from ledger.errors import IntegrityError, VerificationError
from ledger.log import canonical, prefix_tree
from ledger.log.prefix_tree import Proof
from ledger.log.trust import Trust
from ledger.statements.audit_statement import AUDIT
from ledger.statements.decided import BASES
from ledger.statements.fields import closed, count, identifier, list_of, long_text, moment, object_of, one_of, text, version
from ledger.statements.limits import LIMITS
from ledger.statements.receipt import VerifiedAct, open_act_receipt
from ledger.statements.selection_statement import SELECTION
from ledger.statements.statement import RUN

_DID = {RUN: "the run kept", AUDIT: "the audit found allowed", SELECTION: "the selection allows"}
MEMBERSHIP = "urn:consent-ledger:membership:v1"
SCOPES = {scope.name.lower(): scope for scope in Scope}
"""What a row of a snapshot is about, in its order of rows."""

_NO = {"no_at": moment, "no_state": one_of(*consent.NO), "no_position": count}
_YES = {"yes_at": moment, "yes_position": count, "yes_accepted": count, "yes_basis": one_of(*BASES)}
_TERMS = {"yes_expires_at": moment, "yes_content_since": moment}
_ROW = object_of({"scope": one_of(*SCOPES)}, {"scope_id": identifier, **_NO, **_YES, **_TERMS})
_SAID_BY_SNAPSHOT = object_of({"rows": list_of(_ROW)})
_SAID_BY_STATEMENT = object_of({"rows": version})


@dataclass(frozen=True)
class VerifiedMembership:
    """act: the one that commits to the set. said: what is said of the subject there; None where it is not in the set.

    Of a snapshot: `rows`, a list of what stands for each scope. Of a run or an audit: `rows`, their number.
    """

    subject_id: str
    said: dict[str, Any] | None
    act: VerifiedAct

    @property
    def in_set(self) -> bool:
        return self.said is not None

    def sentence(self) -> str:
        """For an auditor; what the subject's id is like is not known here, so that it stands quoted."""
        who, act = f"{self.subject_id!r:.600}", self.act.act
        if act["act"] == "snapshot_compiled":
            of = f"snapshot {act['snapshot_sha256']} for purpose {act['purpose']!r:.600}, as of {act['as_of']}"
            if self.said is None:
                return f"{of}, said nothing of {who}"
            return f"{of}, said of {who}: " + "; ".join(map(_row_in_words, self.said["rows"]))
        did = _DID.get(act["predicate_type"], "it speaks")
        of = f"the set of subjects of whose rows {did}, by statement {act['statement_sha256']}"
        rest = "committed by the operator, shards not checked"
        if self.said is None:
            return f"{who} is not in {of}: {rest}"
        rows = self.said["rows"]
        return f"{who} is in {of}, with {rows} row{'s' if rows > 1 else ''}: {rest}"


def membership(
    subject_id: str, act: bytes, proof: Proof, *, said: Mapping[str, object] | None = None, blind: bytes = b""
) -> bytes:
    """The document's line, without a newline. act: the receipt's line. said, blind: of a subject that is in the set.

    Raises IntegrityError for what is too long to be verified.
    """
    document: dict[str, Any] = {"format": MEMBERSHIP, "subject_id": subject_id, "act": act.decode().removesuffix("\n")}
    if proof.path:
        document["path"] = [canonical.encode_base64(sibling) for sibling in proof.path]
    if said is not None:
        document["said"] = said
        if blind:
            document["blind"] = canonical.encode_base64(blind)
    elif proof.end is not None:
        index, value = map(canonical.encode_base64, proof.end)
        document["other"] = {"index": index, "value": value}
    line = canonical.encode(document)
    if len(line) >= LIMITS.membership:
        raise IntegrityError(f"what is said of {subject_id!r:.600} takes {len(line)} bytes, more than the document may have")
    return line


def open_membership(data: bytes, trust: Trust) -> VerifiedMembership:
    """What a document's line or file proves of one subject. Raises VerificationError."""
    document = canonical.decode(data.removesuffix(b"\n"), limit=LIMITS.membership)
    closed("the membership", document,
           {"format": one_of(MEMBERSHIP), "subject_id": identifier, "act": long_text},
           {"path": list_of(text), "said": lambda name, value: None, "blind": text,
            "other": object_of({"index": text, "value": text})})  # fmt: skip
    if document["act"].endswith("\n"):
        raise VerificationError("the membership's act is not a receipt's line")
    act = open_act_receipt(document["act"].encode(), trust)
    if "subjects_root" not in act.act or "subjects_seed" not in act.act:
        raise VerificationError(f"an act {act.act['act']!r} without root and seed commits to no set of subjects")
    root, seed = (bytes.fromhex(act.act[f"subjects_{name}"]) for name in ("root", "seed"))
    index = prefix_tree.index(seed, document["subject_id"])
    if len(document.get("path", ())) > prefix_tree.MAX_PATH:  # before any of it is decoded
        raise VerificationError(f"a path of {len(document['path'])} hashes is longer than an index has bits")
    path = tuple(map(canonical.decode_base64, document.get("path", ())))
    said = document.get("said")
    end = None
    if said is not None:
        if "other" in document:
            raise VerificationError("the membership says that the subject is in the set, and that another is in its place")
        end = index, prefix_tree.value(_blind(document, act.act["act"]), _checked(said, act.act["act"]))
    elif "blind" in document:
        raise VerificationError("the membership has a blind, and nothing that is said")
    elif "other" in document:
        other = document["other"]
        end = canonical.decode_base64(other["index"]), canonical.decode_base64(other["value"])
        if end[0] == index:
            raise VerificationError("the other subject that the membership shows is the one that it is about")
    prefix_tree.verify(Proof(path, end), index, root)
    return VerifiedMembership(document["subject_id"], said, act)


def _blind(document: Mapping[str, Any], act: str) -> bytes:
    """Fixed by the act's kind: else what one set says could be shown as if another did."""
    blind = canonical.decode_base64(document["blind"]) if "blind" in document else b""
    expected = prefix_tree.HASH_BYTES if act == "snapshot_compiled" else 0
    if len(blind) != expected:
        raise VerificationError(f"the membership's blind has {len(blind)} bytes, not {expected}")
    return blind


def _checked(said: Any, act: str) -> dict[str, Any]:
    if act != "snapshot_compiled":
        _SAID_BY_STATEMENT("said", said)
        checked: dict[str, Any] = said
        return checked
    _SAID_BY_SNAPSHOT("said", said)
    places = []
    for number, row in enumerate(said["rows"]):
        if ("scope_id" in row) != (row["scope"] != "everything"):
            raise VerificationError(f"said.rows[{number}] is about {row['scope']}, and names an item where it has none, or none")
        for fields in (_NO, _YES):
            if 0 < sum(name in row for name in fields) < len(fields):
                raise VerificationError(f"said.rows[{number}] has not all of {', '.join(fields)}")
        if row.get("yes_accepted", 0) > 1 or ("yes_at" not in row and (_TERMS.keys() & row.keys() or "no_at" not in row)):
            raise VerificationError(f"said.rows[{number}] says neither yes nor no, or has terms of a yes that there is not")
        places.append((SCOPES[row["scope"]], row.get("scope_id", "").encode()))
    if places != sorted(set(places)):
        raise VerificationError("said.rows is not in the order of scopes, or has one twice")
    return {"rows": said["rows"]}


def _row_in_words(row: Mapping[str, Any]) -> str:
    about = "everything" if row["scope"] == "everything" else f"{row['scope']} {row['scope_id']!r:.600}"
    parts = []
    if "no_at" in row:
        parts.append(f"no ({row['no_state']}) of {row['no_at']}, entry {row['no_position']}")
    if "yes_at" in row:
        terms = [
            f"resting on {row['yes_basis']}",
            *(["for a version of the purpose that does not count"] if not row["yes_accepted"] else []),
            *([f"until {row['yes_expires_at']}"] if "yes_expires_at" in row else []),
            *([f"for content since {row['yes_content_since']}"] if "yes_content_since" in row else []),
        ]
        parts.append(f"yes of {row['yes_at']}, entry {row['yes_position']}, {', '.join(terms)}")
    return f"about {about}, {' and '.join(parts)}"
