"""The statement of a run: these shards came from those, by these answers. What it shares with others: see `decided`, `counted`.

What is signed passed the checks that a verifier makes: `run_statement` reads back what it wrote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ledger.errors import VerificationError
from ledger.statements import counted, decided, fields
from ledger.statements.counted import Counted, require_counts, rows_of
from ledger.statements.fields import list_of, object_of, text

RUN = "urn:consent-ledger:run:v1"

_SHARD = object_of(
    {"input": text, "input_sha256": fields.sha256, "output": text, "output_sha256": fields.sha256, **counted.ROWS}
)
_REQUIRED = {"run_id": text, "shards": list_of(_SHARD), **counted.REQUIRED}
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
class RunRecord(Counted):
    """What a run statement says. rests_on: of the kept rows.

    dropped_metadata: keys of the shards' metadata that the outputs were written without, sorted.
    """

    run_id: str
    shards: Sequence[ShardRecord]
    dropped_metadata: Sequence[str] = field(default=())

    @property
    def digests(self) -> dict[str, str]:
        """Output name -> SHA-256."""
        return {shard.output: shard.output_sha256 for shard in self.shards}


def run_statement(run: RunRecord) -> bytes:
    """The payload to sign. Raises IntegrityError where the run does not add up, or says what no statement may say."""
    return decided.payload(lambda: _document(run), run_of, "run")


def run_of(statement: Mapping[str, Any]) -> RunRecord:
    """What a run statement says. Raises VerificationError where it is not one, or does not add up."""
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
    require_counts(run, predicate, [shard.output for shard in run.shards], "run")
    if list(run.dropped_metadata) != sorted(set(run.dropped_metadata), key=str.encode):
        raise VerificationError("dropped_metadata is not sorted, or names a key twice")
    decided.require_subjects(statement, run.digests)
    return run


def _document(run: RunRecord) -> dict[str, Any]:
    shards = sorted(run.shards, key=lambda shard: shard.output.encode())
    return decided.document(run, RUN, {
        "run_id": run.run_id, **rows_of(run), "unmapped": run.unmapped,
        "shards": [{
            "input": shard.input, "input_sha256": shard.input_sha256, "output": shard.output,
            "output_sha256": shard.output_sha256, **rows_of(shard)} for shard in shards],
        **({"dropped_metadata": list(run.dropped_metadata)} if run.dropped_metadata else {})})  # fmt: skip
