"""The filter: a snapshot and the columns that hold the keys, applied to tables, shards and finished folders.

A run over shards: check every input before anything is written -> withdraw an earlier statement -> rewrite shard by shard,
each published whole and journalled -> sign what was done -> log it. Whatever fails on the way leaves no statement.
"""

from __future__ import annotations

import functools
import os
import platform
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Lock
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ledger import files, times
from ledger.consent import REASONS
from ledger.errors import ShardError, UsageError
from ledger.log import canonical, dsse
from ledger.log.keys import PrivateKey
from ledger.shards.answers import Answers
from ledger.shards.carriers import carried_metadata_warnings
from ledger.shards.columns import Columns
from ledger.shards.decide import Decisions, decide
from ledger.shards.inputs import Input, find_inputs
from ledger.shards.journal import Journal
from ledger.shards.publish import HashingSink
from ledger.shards.rewrite import ShardFile, rewrite
from ledger.shards.table import keep
from ledger.snapshot import RULE_VERSION, Snapshot
from ledger.statements.statement import BASES, RunRecord, ShardRecord, run_statement
from ledger.statements.verify import statement_path


def _version() -> str:
    try:
        return version("consent-ledger")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0+uninstalled"


VERSIONS = {
    "consent-ledger": _version(),
    "pyarrow": pa.__version__,
    "duckdb": duckdb.__version__,
    "python": platform.python_version(),
    "machine": platform.machine(),
}

Progress = Callable[[int, int], None]
"""Called with rows done and rows in all; from worker threads, one at a time."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run did. statement: the file of its signed statement, None where no key was given."""

    record: RunRecord
    checkpoint: str
    statement: Path | None

    def document(self) -> dict[str, Any]:
        """The JSON of `consent filter` (schemas/filter.json)."""
        r = self.record
        return {
            "run_id": r.run_id,
            "purpose": r.purpose,
            "snapshot_sha256": r.snapshot_sha256,
            "answers_sha256": r.answers_sha256,
            "checkpoint": self.checkpoint,
            "rows_in": r.rows_in,
            "rows_kept": r.rows_kept,
            "rows_dropped": dict(r.rows_dropped),
            "unmapped": r.unmapped,
            "warnings": list(r.warnings),
            "shards": [
                {
                    "input": s.input,
                    "input_sha256": s.input_sha256,
                    "output": s.output,
                    "output_sha256": s.output_sha256,
                    "rows_in": s.rows_in,
                    "rows_kept": s.rows_kept,
                    "rows_dropped": dict(s.rows_dropped),
                }
                for s in r.shards
            ],
            "statement": None if self.statement is None else str(self.statement),
        }


@dataclass(frozen=True, kw_only=True)
class ShardAudit:
    path: str
    rows: int
    rows_without_consent: int
    reasons: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Whether every row's people said yes. reasons: rows without consent, by reason."""

    purpose: str
    snapshot_sha256: str
    shards: Sequence[ShardAudit]
    warnings: Sequence[str]

    @property
    def rows(self) -> int:
        return sum(s.rows for s in self.shards)

    @property
    def rows_without_consent(self) -> int:
        return sum(s.rows_without_consent for s in self.shards)

    @property
    def compliant(self) -> bool:
        return self.rows_without_consent == 0

    def document(self) -> dict[str, Any]:
        """The JSON of `consent audit` (schemas/audit.json)."""
        return {
            "compliant": self.compliant,
            "purpose": self.purpose,
            "snapshot_sha256": self.snapshot_sha256,
            "rows": self.rows,
            "rows_without_consent": self.rows_without_consent,
            "reasons": _total(s.reasons for s in self.shards),
            "warnings": list(self.warnings),
            "shards": [
                {"path": s.path, "rows": s.rows, "rows_without_consent": s.rows_without_consent, "reasons": s.reasons}
                for s in self.shards
            ],
        }


@dataclass(frozen=True)
class ConsentFilter:
    """Frozen and picklable: the snapshot's digest is part of its state, the index is built once per process.

    decided_at: when expiry is judged for tables; a run over shards judges at its own start.
    """

    snapshot: Snapshot
    columns: Columns
    decided_at: datetime = field(default_factory=times.now)

    def decide(self, batch: Any) -> Decisions:
        """One decision a row of a Table or RecordBatch. Raises UsageError for columns that cannot be keys."""
        self.snapshot.check_age(self.decided_at)
        self.snapshot.check_age(times.now())  # a filter may live long, or be told an earlier moment
        self.columns.check(batch.schema, self.snapshot.header.categories)
        return decide(self.columns.read(batch), _answers(self.snapshot, self.decided_at), self.snapshot.header.categories)

    def __call__(self, table: Any) -> Any:
        """The kept rows of a Table, same schema."""
        return keep(table, self.decide(table).keep)

    def filter_shards(
        self,
        inputs: Sequence[str | Path],
        output: str | Path,
        *,
        workers: int = 2,
        key: PrivateKey | None = None,
        admit: Callable[[bytes], bytes] | None = None,
        recipient: str | None = None,
        min_kept: float = 0.0,
        exclusions: str | Path | None = None,
        on_progress: Progress | None = None,
    ) -> Run:
        """Write each shard's allowed rows to `output`, and the signed statement beside it as OUTPUT.intoto.jsonl.

        key: the run key; without one there is no statement and nothing is resumed. admit: logs the statement
        (`Ledger.admit`). min_kept: the least share of rows that must be kept. exclusions: a Parquet file of what was dropped.
        """
        return _Run(self, Path(output), key, workers, on_progress).run(
            find_inputs(inputs), admit, recipient, min_kept, exclusions
        )

    def audit_shards(self, paths: Sequence[str | Path], *, workers: int = 2, on_progress: Progress | None = None) -> Audit:
        """Decide every row of finished shards. Reads the key columns only, writes nothing."""
        decided_at = times.now()
        self.snapshot.check_age(decided_at)
        inputs = find_inputs(paths, hidden=True)
        progress = _Counter(_check_all(inputs, self), on_progress)
        answers = _answers(self.snapshot, decided_at)

        def audit(source: Input) -> tuple[ShardAudit, int]:
            counts: Counter[str] = Counter()
            rows = known = 0
            with ShardFile(source.path) as shard:
                names = self.columns.check(shard.schema_arrow, self.snapshot.header.categories)
                for group in range(shard.num_row_groups):
                    table = shard.read_keys(group, names)
                    decisions = decide(self.columns.read(table), answers, self.snapshot.header.categories)
                    counts.update(decisions.counts())
                    rows, known = rows + table.num_rows, known + decisions.known
                    progress.add(table.num_rows)
                shard.check_unchanged()
            _account(source.name, rows, counts)
            without = rows - counts.pop("allowed", 0)
            return ShardAudit(path=str(source.path), rows=rows, rows_without_consent=without, reasons=_sorted(counts)), known

        audited = _in_parallel(audit, inputs, workers)
        shards = [shard for shard, _ in audited]
        warnings = _unknown_ids(((s.path, s.rows, known) for s, known in audited), self.columns)
        return Audit(purpose=self.snapshot.purpose, snapshot_sha256=self.snapshot.sha256, shards=shards, warnings=warnings)


@functools.lru_cache(maxsize=2)
def _answers(snapshot: Snapshot, decided_at: datetime) -> Answers:
    return Answers(snapshot.rows(), decided_at)


class _Run:
    """One run over shards: what all of its workers share."""

    def __init__(
        self, consent: ConsentFilter, output: Path, key: PrivateKey | None, workers: int, on_progress: Progress | None
    ) -> None:
        self.consent, self.output, self.key, self.workers, self.on_progress = consent, output, key, workers, on_progress
        self.started_at = self.decided_at = times.now()

    def run(
        self,
        inputs: list[Input],
        admit: Callable[[bytes], bytes] | None,
        recipient: str | None,
        min_kept: float,
        exclusions: str | Path | None,
    ) -> Run:
        snapshot = self.consent.snapshot
        snapshot.check_age(self.decided_at)
        if snapshot.receipt is None and self.key is not None:
            raise UsageError(
                "a snapshot without a receipt proves nothing", hint="compile one with `consent snapshot`, or Ledger.snapshot"
            )
        self._check_output(inputs, None if exclusions is None else Path(exclusions))
        self.progress = _Counter(_check_all(inputs, self.consent), self.on_progress)
        self.answers = _answers(snapshot, self.decided_at)
        self.keep_exclusions = exclusions is not None
        files.make_folder(self.output)
        self.journal = None if self.key is None else Journal(self.output.with_name(self.output.name + ".journal.jsonl"), self.key)
        files.withdraw(statement_path(self.output))

        done = _in_parallel(self._shard, inputs, self.workers)
        record = self._record([result for result, _ in done], recipient)
        if record.rows_kept < min_kept * record.rows_in:
            raise ShardError(
                f"{record.rows_kept} of {record.rows_in} rows were kept, fewer than the least share of {min_kept:g}",
                hint="look at the reasons with `consent audit`; the shards written have no statement",
            )
        if exclusions is not None:
            _write_exclusions(Path(exclusions), [rows for _, rows in done], snapshot.sha256)
        return Run(record=record, checkpoint=snapshot.header.checkpoint, statement=self._publish(record, admit))

    def _check_output(self, inputs: list[Input], exclusions: Path | None) -> None:
        target = self.output.resolve()
        sources = {source.path.resolve() for source in inputs}
        if exclusions is not None and (exclusions.resolve() in sources or target in exclusions.resolve().parents):
            raise UsageError(
                f"{exclusions} is an input, or lies in the output folder {self.output}", hint="write the exclusions elsewhere"
            )
        for folder, folders, _ in os.walk(self.output):
            if links := [name for name in folders if (Path(folder) / name).is_symlink()]:
                raise UsageError(
                    f"{self.output} holds shards that this run does not make, behind the link {Path(folder) / links[0]}",
                    hint="choose an empty folder with -o, or remove the link",
                )
        for path in sources:
            if target in path.parents or path.parent == target:
                raise UsageError(f"input {path} lies in the output folder {self.output}", hint="write to another folder with -o")
        names = {source.name for source in inputs}
        strange = [
            p
            for p in (self.output.rglob("*.parquet") if self.output.is_dir() else ())
            if p.relative_to(self.output).as_posix() not in names
        ]
        if strange:
            raise UsageError(
                f"{self.output} holds shards that this run does not make, {strange[0].relative_to(self.output)} among them",
                hint="choose an empty folder with -o, or remove them",
            )

    def _shard(self, source: Input) -> tuple[dict[str, Any], tuple[str, Any, Any]]:
        """One shard, rewritten and published. Returns its result, and (name, row numbers, codes) of what was dropped."""
        consent, target = self.consent, self.output / source.name
        with ShardFile(source.path) as shard:
            deciding = {
                "input_sha256": shard.sha256,
                "answers_sha256": self.answers.digest,
                "purpose": consent.snapshot.purpose,
                "origin": consent.snapshot.header.origin,
                "categories": canonical.encode(
                    {"listed": sorted(consent.snapshot.header.categories)} if consent.snapshot.header.categories else {}
                ).decode(),
                "columns": canonical.encode(consent.columns.document()).decode(),
                "code": canonical.encode(VERSIONS).decode(),
                "rule_version": RULE_VERSION,
            }
            if (
                self.journal is not None
                and not self.keep_exclusions
                and (result := self.journal.finished(source.name, deciding, target)) is not None
            ):
                self.progress.add(result["rows_in"])
                return result, (source.name, np.array([], np.int64), np.array([], np.uint8))
            names = consent.columns.check(shard.schema_arrow, consent.snapshot.header.categories)
            counts: Counter[str] = Counter()
            rests_on: Counter[str] = Counter()
            totals = {"rows": 0, "unmapped": 0, "known": 0}
            dropped: list[tuple[Any, Any]] = []

            def mask(group: int) -> Any:
                table = shard.read_keys(group, names)
                decisions = decide(consent.columns.read(table), self.answers, consent.snapshot.header.categories)
                counts.update(decisions.counts())
                rests_on.update(
                    {BASES[i]: int(n) for i, n in enumerate(np.bincount(decisions.basis, minlength=256)[: len(BASES)]) if n}
                )
                if self.keep_exclusions:
                    out = np.nonzero(decisions.codes)[0]
                    dropped.append((out + totals["rows"], decisions.codes[out]))
                totals["rows"] += table.num_rows
                totals["unmapped"] += int(decisions.unmapped.sum())
                totals["known"] += decisions.known
                self.progress.add(table.num_rows)
                return decisions.keep

            with HashingSink(target) as sink:
                kept = rewrite(shard, sink, mask)
                _account(source.name, totals["rows"], counts)
                if kept != counts["allowed"]:
                    raise ShardError(f"{source.name}: {kept} rows were written where {counts['allowed']} were allowed")
                sink.publish()
            counts.pop("allowed", None)
            result = {
                "carriers": carried_metadata_warnings(shard.footer),
                "input": source.name,
                "input_sha256": shard.sha256,
                "output": source.name,
                "output_sha256": sink.sha256,
                "rows_in": totals["rows"],
                "rows_kept": kept,
                "rows_dropped": _sorted(counts),
                "unmapped": totals["unmapped"],
                "known": totals["known"],
                "rests_on": dict(rests_on),
            }
        if self.journal is not None:
            self.journal.finish(source.name, deciding, result)
        rows, codes = ([part[i] for part in dropped] or [np.array([], np.int64)] for i in (0, 1))
        return result, (source.name, np.concatenate(rows), np.concatenate(codes))

    def _record(self, results: list[dict[str, Any]], recipient: str | None) -> RunRecord:
        snapshot = self.consent.snapshot
        return RunRecord(
            run_id=secrets.token_hex(16),
            purpose=snapshot.purpose,
            rule_version=RULE_VERSION,
            origin=snapshot.header.origin,
            snapshot_sha256=snapshot.sha256,
            answers_sha256=self.answers.digest,
            snapshot_receipt=(snapshot.receipt or b"").decode(),
            columns=self.consent.columns.document(),
            decided_at=self.decided_at,
            age_seconds=int(snapshot.age(self.decided_at).total_seconds()),
            max_age_seconds=int(snapshot.max_age.total_seconds()),
            recipient=recipient,
            rests_on=_total(r["rests_on"] for r in results),
            unmapped=sum(r["unmapped"] for r in results),
            shards=tuple(
                ShardRecord(
                    **{
                        name: r[name]
                        for name in ("input", "input_sha256", "output", "output_sha256", "rows_in", "rows_kept", "rows_dropped")
                    }
                )
                for r in results
            ),
            versions=VERSIONS,
            started_at=self.started_at,
            finished_at=times.now(),
            warnings=self._warnings(results),
        )

    def _warnings(self, results: list[dict[str, Any]]) -> tuple[str, ...]:
        unknown = _unknown_ids(((r["input"], r["rows_in"], r["known"]) for r in results), self.consent.columns)
        return (*unknown, *sorted({carrier for r in results for carrier in r["carriers"]}))

    def _publish(self, record: RunRecord, admit: Callable[[bytes], bytes] | None) -> Path | None:
        if self.key is None:
            return None
        line = dsse.seal(run_statement(record), self.key)
        path = statement_path(self.output)
        files.publish_bytes(path, line + b"\n" + (admit(line) if admit is not None else b""))
        return path


class _Counter:
    """Progress, added up over the workers."""

    def __init__(self, total: int, on_progress: Progress | None) -> None:
        self._total, self._done, self._on_progress, self._lock = total, 0, on_progress, Lock()

    def add(self, rows: int) -> None:
        if self._on_progress is not None:
            with self._lock:
                self._done += rows
                self._on_progress(self._done, self._total)


def _check_all(inputs: list[Input], consent: ConsentFilter) -> int:
    """Open every input and check its columns before anything is written. Returns the rows in all."""
    rows = 0
    for source in inputs:
        with ShardFile(source.path) as shard:
            consent.columns.check(shard.schema_arrow, consent.snapshot.header.categories)
            rows += shard.num_rows
    return rows


def _in_parallel(work: Callable[[Input], Any], inputs: list[Input], workers: int) -> list[Any]:
    """Results in the order of the inputs. The first failure stops what has not begun and is raised."""
    if workers < 1:
        raise UsageError("at least one worker is needed", hint="--workers 2")
    pool = ThreadPoolExecutor(min(workers, max(1, len(inputs))))
    try:
        futures: list[Future[Any]] = [pool.submit(work, source) for source in inputs]
        finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
        failed = [f for f in finished if f.exception() is not None]
        return [f.result() for f in failed or futures]
    finally:
        pool.shutdown(cancel_futures=True)


def _account(name: str, rows: int, counts: Counter[str]) -> None:
    if sum(counts.values()) != rows:
        raise ShardError(f"{name}: {rows} rows came in and {sum(counts.values())} were decided")


def _unknown_ids(shards: Iterable[tuple[str, int, int]], columns: Columns) -> list[str]:
    """shards: (name, rows, rows whose subject the ledger knows). Nothing known is more often a wrong column than the truth."""
    prefix = f" with prefix {columns.subject_prefix!r}" if columns.subject_prefix else ""
    return [
        f"no id in {name} is known to the ledger (subject {', '.join(columns.subject)}{prefix}): "
        "is that the right column and prefix?"
        for name, rows, known in shards
        if rows and not known
    ]


def _total(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    return _sorted(sum((Counter(c) for c in counts), Counter()))


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return {name: counts[name] for name in sorted(counts) if counts[name]}


def _write_exclusions(path: Path, dropped: list[tuple[str, Any, Any]], snapshot_sha256: str) -> None:
    """Shard, row number, reason and snapshot digest of every dropped row; never content."""
    reasons = pa.array(REASONS)
    tables = [
        pa.table(
            {
                "shard": pa.repeat(name, len(rows)),
                "row": rows.astype(np.int64),
                "reason": reasons.take(pa.array(codes)),
                "snapshot_sha256": pa.repeat(snapshot_sha256, len(rows)),
            }
        )
        for name, rows, codes in dropped
    ]
    with HashingSink(path) as sink:
        pq.write_table(pa.concat_tables(tables), sink, compression="zstd")
        sink.publish()
