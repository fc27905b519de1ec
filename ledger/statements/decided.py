"""What statements about decided shards share, of a run, an audit or a selection: an in-toto Statement v1 whose predicate says
by which answers every row was decided.

- Its subjects are the set root, named `.`, and every shard that it speaks for, in the order of their names' UTF-8 bytes.
- Names are relative paths with forward slashes: no `..`, no root, no backslash and no NUL, and none stands there twice.
- The age of the answers is within its limit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any

from ledger import times
from ledger.errors import IntegrityError, VerificationError
from ledger.log import canonical
from ledger.statements import fields
from ledger.statements.fields import Check, closed, count, counts_by, list_of, long_text, moment, object_of, one_of, purpose, text
from ledger.statements.limits import LIMITS

STATEMENT = "https://in-toto.io/Statement/v1"
SET_ROOT_NAME = "."
BASES = ("assertion", "import", "evidence", "session")
"""What an allowed row's yes rests on."""

_COLUMNS = object_of(
    {"subject": list_of(text)},
    {"content": text, "category": text, "created": text, "created_unit": one_of("s", "ms", "us", "ns"),
     "subject_prefix": text, "content_prefix": text})  # fmt: skip

_REQUIRED: Mapping[str, Check] = {
    "purpose": purpose, "rule_version": text, "origin": text, "snapshot_sha256": fields.sha256, "answers_sha256": fields.sha256,
    "snapshot_receipt": long_text, "columns": _COLUMNS, "decided_at": moment, "age_seconds": count, "max_age_seconds": count,
    "rests_on": counts_by(BASES), "versions": fields.text_by_name, "started_at": moment, "finished_at": moment}  # fmt: skip
_OPTIONAL: Mapping[str, Check] = {
    "recipient": text, "warnings": list_of(text),
    "subjects": object_of({"root": fields.sha256, "seed": fields.sha256, "count": count})}  # fmt: skip
_SUBJECT = object_of({"name": text, "digest": object_of({"sha256": fields.sha256})})


@dataclass(frozen=True, kw_only=True)
class Decided(ABC):
    """The fields that all kinds of statement have.

    snapshot_receipt: the act receipt of the snapshot, as its line or its file has it. columns: `Columns.document()`.
    rests_on: allowed rows by what their yes rests on, of BASES. subjects: the prefix tree of the subjects of all allowed rows,
    root and seed in hexadecimal, and how many there are; statements of before it was added have none.
    """

    purpose: str
    rule_version: str
    origin: str
    snapshot_sha256: str
    answers_sha256: str
    snapshot_receipt: str
    columns: Mapping[str, Any]
    decided_at: datetime
    age_seconds: int
    max_age_seconds: int
    rests_on: Mapping[str, int]
    versions: Mapping[str, str]
    started_at: datetime
    finished_at: datetime
    recipient: str | None = None
    warnings: Sequence[str] = field(default=())
    subjects: Mapping[str, Any] | None = None

    @property
    @abstractmethod
    def digests(self) -> dict[str, str]:
        """Name -> SHA-256 of the files that it speaks for."""


def set_root(digests: Mapping[str, str]) -> str:
    """One digest of a set of files, by name: SHA-256 over their 32-byte digests, in the order of the names' UTF-8."""
    return sha256(b"".join(bytes.fromhex(digests[name]) for name in sorted(digests, key=str.encode))).hexdigest()


def document(record: Decided, kind: str, own: Mapping[str, Any]) -> dict[str, Any]:
    """The statement. own: the predicate's fields that are this kind's alone."""
    predicate = {
        "purpose": record.purpose, "rule_version": record.rule_version, "origin": record.origin,
        "snapshot_sha256": record.snapshot_sha256, "answers_sha256": record.answers_sha256,
        "snapshot_receipt": record.snapshot_receipt.removesuffix("\n"), "columns": record.columns,
        "decided_at": times.text(record.decided_at), "age_seconds": record.age_seconds,
        "max_age_seconds": record.max_age_seconds, "rests_on": present(record.rests_on), "versions": dict(record.versions),
        "started_at": times.text(record.started_at), "finished_at": times.text(record.finished_at),
        **({} if record.recipient is None else {"recipient": record.recipient}),
        **({"warnings": list(record.warnings)} if record.warnings else {}),
        **({} if record.subjects is None else {"subjects": dict(record.subjects)}),
        **own}  # fmt: skip
    return {"_type": STATEMENT, "subject": _subjects(record.digests), "predicateType": kind, "predicate": predicate}


def payload(make: Callable[[], dict[str, Any]], reader: Callable[[dict[str, Any]], object], what: str) -> bytes:
    """What is to be signed. reader: of a statement that was decoded, which is what its canonical bytes are decoded to.

    what: `run`. Raises IntegrityError where it cannot be made, has no canonical form, or is refused by the reader.
    """
    try:
        statement = make()
        encoded = canonical.encode(statement)
        if len(encoded) > LIMITS.statement:
            raise VerificationError(f"it would have {len(encoded)} bytes, of {LIMITS.statement} that are allowed")
        reader(statement)
    except (ValueError, VerificationError) as error:
        raise IntegrityError(f"the {what} does not make a statement: {error}") from error
    return encoded


def read(
    statement: Mapping[str, Any], kind: str, required: Mapping[str, Check], optional: Mapping[str, Check]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The predicate, and of it the fields of `Decided`. required, optional: those that are this kind's alone.

    Raises VerificationError for another kind, and for what it may not say.
    """
    if statement.get("predicateType") != kind:
        raise VerificationError(f"this is a statement of type {statement.get('predicateType')!r:.100}, and not of {kind}")
    predicate = object_of({**_REQUIRED, **required}, {**_OPTIONAL, **optional})
    shape = {"_type": one_of(STATEMENT), "subject": list_of(_SUBJECT), "predicateType": one_of(kind), "predicate": predicate}
    closed("the statement", statement, shape)
    said: dict[str, Any] = statement["predicate"]
    if said["age_seconds"] > said["max_age_seconds"]:
        raise VerificationError(f"the answers were {said['age_seconds']} seconds old, with a limit of {said['max_age_seconds']}")
    common = {name: said[name] for name in (*_REQUIRED, *_OPTIONAL) if name in said}
    common |= {name: times.parse(said[name]) for name in ("decided_at", "started_at", "finished_at")}
    return said, {**common, "warnings": tuple(said.get("warnings", ()))}


def require_subjects(statement: Mapping[str, Any], digests: Mapping[str, str]) -> None:
    """digests: of the shards in the order in which the statement has them. Raises VerificationError where it is another."""
    if statement["subject"] != _subjects(digests) or list(digests) != sorted(digests, key=str.encode):
        raise VerificationError("the statement's subjects are not the set root and the output shards, sorted by name")


def require_names(names: Sequence[str]) -> None:
    for name in names:
        if "\0" in name or "\\" in name or any(part in ("", ".", "..") for part in name.split("/")):
            raise VerificationError(f"{name!r:.200} is not a relative path with forward slashes")
    if len(set(names)) != len(names):
        raise VerificationError(f"{Counter(names).most_common(1)[0][0]!r:.200} is named twice")


def present(counts: Mapping[str, int]) -> dict[str, int]:
    """Those that are not zero."""
    return {word: number for word, number in counts.items() if number}


def _subjects(digests: Mapping[str, str]) -> list[dict[str, Any]]:
    named = [(SET_ROOT_NAME, set_root(digests)), *((name, digests[name]) for name in sorted(digests, key=str.encode))]
    return [{"name": name, "digest": {"sha256": digest}} for name, digest in named]
