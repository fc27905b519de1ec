"""The statement of a run: these shards came from those, by these answers. What it shares with an audit's: see `decided`.

In each shard and in all, rows_in == rows_kept + the sum of rows_dropped by reason; what the kept rows rest on sums up to
rows_kept; rows dropped only for want of a mapped column are some of those dropped.

What is signed passed the checks that a verifier makes: `run_statement` reads back what it wrote.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ledger.consent import ALLOWED, REASONS
from ledger.errors import IntegrityError, VerificationError
from ledger.log import canonical
from ledger.statements import decided, fields
from ledger.statements.decided import Decided, present
from ledger.statements.fields import count, counts_by, list_of, object_of, text
from ledger.statements.limits import LIMITS

RUN = "urn:consent-ledger:run:v1"
DROPPED = tuple(reason for reason in REASONS if reason != ALLOWED)

_SHARD = object_of({
    "input": text, "input_sha256": fields.sha256, "output": text, "output_sha256": fields.sha256,
    "rows_in": count, "rows_kept": count, "rows_dropped": counts_by(DROPPED)})  # fmt: skip

_REQUIRED = {"run_id": text, "rows_in": count, "rows_kept": count, "rows_dropped": counts_by(DROPPED), "unmapped": count,
             "shards": list_of(_SHARD)}  # fmt: skip
_OPTIONAL = {"dropped_metadata": list_of(text)}


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
class RunRecord(Decided):
    """What a run statement says. Counts in all are those of the shards, summed.

    rests_on: of the kept rows. unmapped: rows dropped only because a column was not mapped.
    dropped_metadata: keys of the shards' metadata that the outputs were written without, sorted.
    """

    run_id: str
    unmapped: int
    shards: Sequence[ShardRecord]
    dropped_metadata: Sequence[str] = field(default=())

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
        return present(total)

    @property
    def digests(self) -> dict[str, str]:
        """Output name -> SHA-256."""
        return {shard.output: shard.output_sha256 for shard in self.shards}


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
    return run_of(canonical.decode(payload, limit=LIMITS.statement))


def run_of(statement: Mapping[str, Any]) -> RunRecord:
    """The same, of a payload that was decoded."""
    predicate, common = decided.read(statement, RUN, _REQUIRED, _OPTIONAL)
    run = RunRecord(
        **common,
        run_id=predicate["run_id"],
        unmapped=predicate["unmapped"],
        shards=tuple(ShardRecord(**shard) for shard in predicate["shards"]),
        dropped_metadata=tuple(predicate.get("dropped_metadata", ())),
    )
    decided.require_names([shard.input for shard in run.shards])
    decided.require_names([shard.output for shard in run.shards])
    _require_counts(run, predicate)
    if list(run.dropped_metadata) != sorted(set(run.dropped_metadata), key=str.encode):
        raise VerificationError("dropped_metadata is not sorted, or names a key twice")
    decided.require_subjects(statement, run.digests)
    return run


def _document(run: RunRecord) -> dict[str, Any]:
    shards = sorted(run.shards, key=lambda shard: shard.output.encode())
    return decided.document(run, RUN, {
        "run_id": run.run_id, "rows_in": run.rows_in, "rows_kept": run.rows_kept, "rows_dropped": run.rows_dropped,
        "unmapped": run.unmapped,
        "shards": [{
            "input": shard.input, "input_sha256": shard.input_sha256, "output": shard.output,
            "output_sha256": shard.output_sha256, "rows_in": shard.rows_in, "rows_kept": shard.rows_kept,
            "rows_dropped": present(shard.rows_dropped)} for shard in shards],
        **({"dropped_metadata": list(run.dropped_metadata)} if run.dropped_metadata else {})})  # fmt: skip


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
