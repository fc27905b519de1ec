"""The statement of a run: these shards came from those, by these answers. An in-toto Statement v1, predicate RUN.

- Its subjects are the set root, named `.`, and every output shard, in the order of their names' UTF-8 bytes.
- In each shard and in all, rows_in == rows_kept + the sum of rows_dropped by reason; what the kept rows rest on sums up to
  rows_kept; rows dropped only for want of a mapped column are some of those dropped.
- Names are relative paths with forward slashes: no `..`, no root, no backslash and no NUL, and none stands there twice.
- The age of the answers is within its limit.

What is signed passed the checks that a verifier makes: `run_statement` reads back what it wrote.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any

from ledger import times
from ledger.consent import ALLOWED, REASONS
from ledger.errors import IntegrityError, VerificationError
from ledger.log import canonical
from ledger.statements import fields
from ledger.statements.fields import closed, count, counts_by, list_of, long_text, moment, object_of, one_of, purpose, text
from ledger.statements.limits import LIMITS

STATEMENT = "https://in-toto.io/Statement/v1"
RUN = "urn:consent-ledger:run:v1"
SET_ROOT_NAME = "."
DROPPED = tuple(reason for reason in REASONS if reason != ALLOWED)
BASES = ("assertion", "import", "evidence", "session")
"""What a kept row's yes rests on."""

_SHARD = object_of({
    "input": text, "input_sha256": fields.sha256, "output": text, "output_sha256": fields.sha256,
    "rows_in": count, "rows_kept": count, "rows_dropped": counts_by(DROPPED)})  # fmt: skip

_COLUMNS = object_of(
    {"subject": list_of(text)},
    {"content": text, "category": text, "created": text, "created_unit": one_of("s", "ms", "us", "ns"),
     "subject_prefix": text, "content_prefix": text})  # fmt: skip

_PREDICATE = object_of(
    {"run_id": text, "purpose": purpose, "rule_version": text, "origin": text, "snapshot_sha256": fields.sha256,
     "answers_sha256": fields.sha256, "snapshot_receipt": long_text, "columns": _COLUMNS, "decided_at": moment,
     "age_seconds": count, "max_age_seconds": count, "rests_on": counts_by(BASES), "rows_in": count, "rows_kept": count,
     "rows_dropped": counts_by(DROPPED), "unmapped": count, "shards": list_of(_SHARD), "versions": fields.text_by_name,
     "started_at": moment, "finished_at": moment},
    {"recipient": text, "dropped_metadata": list_of(text), "warnings": list_of(text)})  # fmt: skip

_SUBJECT = object_of({"name": text, "digest": object_of({"sha256": fields.sha256})})
_FIELDS = {"_type": one_of(STATEMENT), "subject": list_of(_SUBJECT), "predicateType": one_of(RUN), "predicate": _PREDICATE}


@dataclass(frozen=True, kw_only=True)
class ShardRecord:
    """One shard of a run. rows_dropped: by reason."""

    input: str
    input_sha256: str
    output: str
    output_sha256: str
    rows_in: int
    rows_kept: int
    rows_dropped: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What a run statement says. Counts in all are those of the shards, summed.

    snapshot_receipt: the act receipt of the snapshot, as its line or its file has it. columns: `Columns.document()`.
    rests_on: kept rows by what their yes rests on, of BASES. unmapped: rows dropped only because a column was not mapped.
    dropped_metadata: keys of the shards' metadata that the outputs were written without, sorted.
    """

    run_id: str
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
    unmapped: int
    shards: Sequence[ShardRecord]
    versions: Mapping[str, str]
    started_at: datetime
    finished_at: datetime
    recipient: str | None = None
    dropped_metadata: Sequence[str] = field(default=())
    warnings: Sequence[str] = field(default=())

    @property
    def rows_in(self) -> int:
        return sum(shard.rows_in for shard in self.shards)

    @property
    def rows_kept(self) -> int:
        return sum(shard.rows_kept for shard in self.shards)

    @property
    def rows_dropped(self) -> dict[str, int]:
        total: Counter[str] = Counter()
        for shard in self.shards:
            total.update(shard.rows_dropped)
        return _present(total)

    @property
    def digests(self) -> dict[str, str]:
        """Output name -> SHA-256."""
        return {shard.output: shard.output_sha256 for shard in self.shards}


def set_root(digests: Mapping[str, str]) -> str:
    """One digest of a set of files, by name: SHA-256 over their 32-byte digests, in the order of the names' UTF-8."""
    return sha256(b"".join(bytes.fromhex(digests[name]) for name in sorted(digests, key=str.encode))).hexdigest()


def run_statement(run: RunRecord) -> bytes:
    """The payload to sign. Raises IntegrityError where the run does not add up, or says what no statement may say."""
    try:
        payload = canonical.encode(_document(run))
        parse_run(payload)
    except (ValueError, VerificationError) as error:
        raise IntegrityError(f"the run does not make a statement: {error}") from error
    return payload


def parse_run(payload: bytes) -> RunRecord:
    """What a run statement says. Raises VerificationError where it is not one, or does not add up."""
    statement = canonical.decode(payload, limit=LIMITS.statement)
    kind = statement.get("predicateType")
    if kind != RUN:
        raise VerificationError(f"a statement of type {kind!r:.100} is unknown to this version", hint=f"it knows {RUN}")
    closed("the statement", statement, _FIELDS)
    predicate = statement["predicate"]
    run = RunRecord(**{
        **{name: value for name, value in predicate.items() if name not in ("rows_in", "rows_kept", "rows_dropped")},
        **{name: times.parse(predicate[name]) for name in ("decided_at", "started_at", "finished_at")},
        "shards": tuple(ShardRecord(**shard) for shard in predicate["shards"]),
        "dropped_metadata": tuple(predicate.get("dropped_metadata", ())),
        "warnings": tuple(predicate.get("warnings", ()))})  # fmt: skip
    _require_names([shard.input for shard in run.shards])
    _require_names([shard.output for shard in run.shards])
    _require_counts(run, predicate)
    if run.age_seconds > run.max_age_seconds:
        raise VerificationError(f"the answers were {run.age_seconds} seconds old, with a limit of {run.max_age_seconds}")
    if list(run.dropped_metadata) != sorted(set(run.dropped_metadata), key=str.encode):
        raise VerificationError("dropped_metadata is not sorted, or names a key twice")
    if statement["subject"] != _subject(run.digests) or list(run.digests) != sorted(run.digests, key=str.encode):
        raise VerificationError("the statement's subjects are not the set root and the output shards, sorted by name")
    return run


def _document(run: RunRecord) -> dict[str, Any]:
    shards = sorted(run.shards, key=lambda shard: shard.output.encode())
    predicate = {
        "run_id": run.run_id, "purpose": run.purpose, "rule_version": run.rule_version, "origin": run.origin,
        "snapshot_sha256": run.snapshot_sha256, "answers_sha256": run.answers_sha256,
        "snapshot_receipt": run.snapshot_receipt.removesuffix("\n"), "columns": run.columns,
        "decided_at": times.text(run.decided_at), "age_seconds": run.age_seconds, "max_age_seconds": run.max_age_seconds,
        "rests_on": _present(run.rests_on), "rows_in": run.rows_in, "rows_kept": run.rows_kept,
        "rows_dropped": run.rows_dropped, "unmapped": run.unmapped,
        "shards": [{
            "input": shard.input, "input_sha256": shard.input_sha256, "output": shard.output,
            "output_sha256": shard.output_sha256, "rows_in": shard.rows_in, "rows_kept": shard.rows_kept,
            "rows_dropped": _present(shard.rows_dropped)} for shard in shards],
        "versions": dict(run.versions), "started_at": times.text(run.started_at), "finished_at": times.text(run.finished_at),
        **({} if run.recipient is None else {"recipient": run.recipient}),
        **({"dropped_metadata": list(run.dropped_metadata)} if run.dropped_metadata else {}),
        **({"warnings": list(run.warnings)} if run.warnings else {})}  # fmt: skip
    return {"_type": STATEMENT, "subject": _subject(run.digests), "predicateType": RUN, "predicate": predicate}


def _subject(digests: Mapping[str, str]) -> list[dict[str, Any]]:
    named = [(SET_ROOT_NAME, set_root(digests)), *((name, digests[name]) for name in sorted(digests, key=str.encode))]
    return [{"name": name, "digest": {"sha256": digest}} for name, digest in named]


def _present(counts: Mapping[str, int]) -> dict[str, int]:
    return {word: number for word, number in counts.items() if number}


def _require_names(names: Sequence[str]) -> None:
    for name in names:
        if "\0" in name or "\\" in name or any(part in ("", ".", "..") for part in name.split("/")):
            raise VerificationError(f"{name!r:.200} is not a relative path with forward slashes")
    if len(set(names)) != len(names):
        raise VerificationError(f"{Counter(names).most_common(1)[0][0]!r:.200} is named twice")


def _require_counts(run: RunRecord, predicate: Mapping[str, Any]) -> None:
    for shard in run.shards:
        if shard.rows_in != shard.rows_kept + (lost := sum(shard.rows_dropped.values())):
            raise VerificationError(
                f"the counts of shard {shard.output!r:.200} do not add up: "
                f"{shard.rows_in} in, {shard.rows_kept} kept, {lost} dropped")  # fmt: skip
    for name, total in (("rows_in", run.rows_in), ("rows_kept", run.rows_kept), ("rows_dropped", run.rows_dropped)):
        if predicate[name] != total:
            raise VerificationError(f"{name} of the run is not the sum over its shards")
    if sum(run.rests_on.values()) != run.rows_kept:
        raise VerificationError(f"rests_on speaks of {sum(run.rests_on.values())} rows, but {run.rows_kept} were kept")
    if run.unmapped > (dropped := run.rows_in - run.rows_kept):
        raise VerificationError(f"{run.unmapped} rows are said to be dropped for want of a column, but {dropped} were dropped")
