"""A run over shards: check every input before anything is written or logged -> hold the output folder, for this run alone ->
log the answers -> withdraw an earlier statement -> rewrite shard by shard, each published whole and journalled -> sign what was
done -> log it. Whatever fails on the way leaves no statement. A part of a run does its share, and signs its journal alone.
What an earlier run has made, and no change of the answers reaches, is neither checked nor done again: see `ledger.rerun`.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Semaphore
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ledger import files, holding, parts, stating, times
from ledger.consent import REASONS, check_text
from ledger.cores import at_once
from ledger.digesting import Digesting
from ledger.errors import ShardError, UsageError
from ledger.log import canonical
from ledger.log.keys import PrivateKey
from ledger.log.prefix_tree import SEED_BYTES
from ledger.objects import Address, Place, named
from ledger.parts import Part
from ledger.rerun import Indexed, Spared, deciding_by, indexed_in
from ledger.shards.answers import Answers, answers_at
from ledger.shards.carriers import carried_metadata_warnings
from ledger.shards.columns import Columns
from ledger.shards.decide import decide
from ledger.shards.index_folder import (
    IndexFolder,
    identity,
    identity_begins,
    identity_of,
    index_folder,
    now_ns,
    require_ours,
    settled,
)
from ledger.shards.inputs import Input
from ledger.shards.journal import Journal, journal_path
from ledger.shards.publish import HashingSink
from ledger.shards.rewrite import ShardFile, copy, require_carriable, rewrite
from ledger.shards.subject_index import ShardSubjects
from ledger.shards.subjects import KeptSubjects
from ledger.shards.work import AfterAll, Callback, Progress, Tally, account, given_up, in_parallel, rows_of, total, unknown_ids
from ledger.snapshot import Snapshot
from ledger.statements.audit_statement import AUDIT
from ledger.statements.statement import RUN, RunRecord, ShardRecord, run_statement
from ledger.statements.verify import stated_kind, statement_path

_SHARD_FIELDS = ("input", "input_sha256", "output", "output_sha256", "rows_in", "rows_kept", "rows_dropped")


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run did. statement: the file of its signed statement, None where no key was given, and for a part."""

    record: RunRecord
    checkpoint: str
    statement: Place | None

    def document(self) -> dict[str, Any]:
        """The JSON of `consent filter` (schemas/filter.json)."""
        return {
            "run_id": self.record.run_id,
            **stating.told(self.record, self.checkpoint),
            "shards": [
                {name: getattr(s, name) for name in _SHARD_FIELDS} | {"rows_dropped": dict(s.rows_dropped)}
                for s in self.record.shards
            ],
            "statement": None if self.statement is None else str(self.statement),
        }


def run(
    inputs: list[Input],
    output: Place,
    snapshot: Snapshot,
    columns: Columns,
    *,
    workers: int,
    key: PrivateKey | None,
    publish: Callable[[Snapshot], Snapshot] | None,
    admit: Callable[[bytes], bytes] | None,
    recipient: str | None,
    min_kept: float,
    exclusions: Path | None,
    drop_metadata: str | Collection[str],
    part: Part | None,
    on_progress: Callback | None,
    digesting: Digesting | None,
) -> Run:
    """What `ConsentFilter.filter_shards` says."""
    started_at = times.now()
    snapshot.check_age(started_at)
    if part is not None and (key is None or snapshot.receipt is None):
        raise UsageError(
            "a part needs a run key and a snapshot with its receipt: all are decided by the same answers, and signed by one key",
            hint="--snapshot FILE --run-key FILE, the same for every part",
        )
    if key is not None:
        stating.require_provable(snapshot, publish)
    stating.require_share(min_kept)
    output = named(output)
    _check_output(output, inputs, exclusions, part)
    dropped = _dropped(drop_metadata)
    share = inputs if part is None else part.share(inputs)
    there: set[str] = set()

    def check(shard: ShardFile) -> None:
        columns.check(shard.schema_arrow, snapshot.header.categories)
        require_carriable(shard, dropped)
        there.update(_metadata_of(shard, dropped))

    def look() -> tuple[Spared, Progress]:
        """What stays of an earlier run, once all else was checked."""
        spared = Spared()
        if indexed is not None and journal is not None and exclusions is None and isinstance(output, Path):
            spared = indexed.spared(journal, share, output, deciding(answers_at(snapshot, started_at)))
        rows = rows_of([source for source in share if source.name not in spared.lines], check)
        return spared, Progress(rows + spared.rows_in, on_progress)

    def deciding(answers: Answers) -> dict[str, str]:
        return deciding_by(snapshot, columns, answers, dropped, stating.VERSIONS)

    def committed(people: KeptSubjects) -> dict[str, Any]:
        if indexed is not None:
            return indexed.commit(people)
        return people.commit(secrets.token_bytes(SEED_BYTES))

    journal = None if key is None or part is not None else Journal(_journal_path(output, part), key)
    before = None if journal is None or isinstance(output, Address) else IndexFolder.open(output)
    indexed = None if before is None else _indexed(before, answers_at(snapshot, started_at))
    spared, progress = look()
    answers = answers_at(snapshot, started_at)
    with holding.alone(output) if part is None else holding.together(output, part.journal(output)):
        _check_output(output, inputs, exclusions, part)  # again: another run may have ended there since
        snapshot = stating.published(publish, snapshot)
        if key is None:
            pass
        elif part is not None:
            journal = Journal(_journal_path(output, part), key)
            part.begin(journal)
        elif journal is not None and isinstance(output, Path):
            folder = IndexFolder.of(output)
            same = indexed is not None and folder is not None and indexed.folder.salt == folder.salt
            if not same:
                indexed = None if folder is None else _indexed(folder, answers)
            # Others may have been here since.
            if not journal.is_current() or (spared.lines and not (same and spared.holds(share, output))):
                journal = Journal(_journal_path(output, part), key)
                spared, progress = look()
        files.withdraw(statement_path(output))

        people = None if key is None or part is not None else KeptSubjects(answers)
        if people is not None:
            people.add_counted(spared.codes, spared.rows)
        for line in spared.lines.values():
            there.update(line["index"].get("metadata", ()))
        if spared.lines:
            progress.add(spared.rows_in)
        decided_by = deciding(answers)
        turn = Semaphore(max(workers, 0))
        to_do = [source for source in share if source.name not in spared.lines]
        # While the last shards are yet written, who is in the set is known already.
        with AfterAll(len(to_do), lambda: None if people is None else committed(people)) as subjects:
            work = _Work(
                output,
                snapshot,
                columns,
                answers,
                journal,
                progress,
                people,
                subjects,
                exclusions is not None,
                dropped,
                decided_by,
                indexed,
                turn,
                digesting,
            )
            shards = partial(in_parallel, work.shard, to_do, workers, turn)
            # An index that is there already gets today's answers meanwhile: the disk is waited for.
            done = shards() if indexed is None or not spared.lines else at_once(indexed.begin, shards)[-1]
        by_name = {**spared.lines, **{line["name"]: line for line, _ in done}}
        lines = {source.name: by_name[source.name] for source in share}
        results = [line["result"] for line in lines.values()]
        record = RunRecord(
            run_id=secrets.token_hex(16),
            **stating.decided(snapshot, columns, answers.digest, started_at, recipient),
            dropped_metadata=dropped,
            subjects=subjects.result(),
            rests_on=total(r["rests_on"] for r in results),
            unmapped=sum(r["unmapped"] for r in results),
            shards=tuple(ShardRecord(**{name: r[name] for name in _SHARD_FIELDS}) for r in results),
            started_at=started_at,
            finished_at=times.now(),
            warnings=(
                *_warnings(results, columns),
                *(f"no shard has metadata {key!r}: there was nothing to drop" for key in dropped if key not in there),
            ),
        )
        if record.rows_kept < min_kept * record.rows_in:
            raise ShardError(
                f"{record.rows_kept} of {record.rows_in} rows were kept, fewer than the least share of {min_kept:g}",
                hint="look at the reasons with `consent audit`; the shards written have no statement",
            )
        if exclusions is not None:
            _write_exclusions(exclusions, [rows for _, rows in done], snapshot.sha256)
        if part is not None and journal is not None:
            part.finish(journal, inputs, _same_for_all(record))
            key = None  # a statement speaks of the whole set
        statement = None
        if key is not None:
            if journal is None or indexed is None or people is None:
                payload = run_statement(record)
            else:  # the index waits for the disk
                end = partial(indexed.end, journal, lines, people.rows, started_at)
                payload = at_once(end, partial(run_statement, record))[-1]
            statement = stating.put(output, payload, key, admit)
        return Run(record=record, checkpoint=snapshot.header.checkpoint, statement=statement)


def _indexed(folder: IndexFolder, answers: Answers) -> Indexed:
    """While the answers are hashed for the index, what they are known by in the statement is worked out beside."""
    indexed: Indexed = at_once(lambda: answers.digest, lambda: indexed_in(folder, answers))[-1]
    return indexed


def _same_for_all(record: RunRecord) -> dict[str, str]:
    return {
        "origin": record.origin,
        "purpose": record.purpose,
        "snapshot_sha256": record.snapshot_sha256,
        "columns": canonical.encode(record.columns).decode(),
        "dropped_metadata": canonical.encode({"keys": list(record.dropped_metadata)}).decode(),
        "rule_version": record.rule_version,
    }


def _metadata_of(shard: ShardFile, dropped: tuple[str, ...]) -> list[str]:
    """Which of the keys to drop a shard has."""
    if not dropped:
        return []
    has = {key.decode(errors="backslashreplace") for key, _ in shard.footer.metadata}
    return [key for key in dropped if key in has]


def _dropped(keys: str | Collection[str]) -> tuple[str, ...]:
    """Sorted, each once. Raises UsageError for what cannot be a key to drop."""
    keys = [keys] if isinstance(keys, str) else keys  # its letters are no keys
    for key in keys:
        check_text("a key of metadata", key)
        if key.startswith("ARROW:extension:"):
            raise UsageError(
                f"{key} is part of a column's type, which would be another without it",
                hint="drop ARROW:schema instead: columns then have Parquet's own types",
            )
    return tuple(sorted(set(keys), key=str.encode))


def _journal_path(output: Place, part: Part | None) -> Place:
    return journal_path(output) if part is None else part.journal(output)


def _check_output(output: Place, inputs: list[Input], exclusions: Path | None, part: Part | None) -> None:
    """inputs: of all parts, where this is one."""
    target = output.resolve()
    sources = files.resolved(source.path for source in inputs)
    stating.require_no_ledger(output)
    taken = [*sources, str(statement_path(output).resolve()), str(_journal_path(output, part).resolve())]
    own: set[Place] = {target} if isinstance(output, Address) else {target, index_folder(output).resolve()}
    if exclusions is not None and (str(exclusions.resolve()) in taken or not own.isdisjoint(exclusions.resolve().parents)):
        raise UsageError(
            f"{exclusions} is an input, or belongs to the output folder {output}", hint="write the exclusions elsewhere"
        )
    if isinstance(output, Path):
        require_ours(output)
    if part is not None and output.parent.is_dir():
        parts.require_same_division(output, part)
    # Other tools call theirs `*.intoto.jsonl` as well.
    if stated_kind(statement_path(output)) not in (None, RUN, AUDIT):
        raise UsageError(
            f"{statement_path(output)} is not the statement of a run or an audit, and would be replaced by one",
            hint="choose another folder with -o, or move that file away",
        )
    for folder, folders, _ in os.walk(output) if isinstance(output, Path) else ():
        if links := [name for name in folders if (Path(folder) / name).is_symlink()]:
            raise UsageError(
                f"{output} holds shards that this run does not make, behind the link {Path(folder) / links[0]}",
                hint="choose an empty folder with -o, or remove the link",
            )
    inside = f"{str(target).rstrip('/')}/"
    for path in sources:
        if path.startswith(inside):
            raise UsageError(f"input {path} lies in the output folder {output}", hint="write to another folder with -o")
    names = {source.name for source in inputs}
    strange = [name for name in files.shards_below(output) if name not in names]
    if strange:
        raise UsageError(
            f"{output} holds shards that this run does not make, {strange[0]} among them",
            hint="choose an empty folder with -o, or remove them",
        )


@dataclass(frozen=True)
class _Work:
    """What all workers of a run share."""

    output: Place
    snapshot: Snapshot
    columns: Columns
    answers: Answers
    journal: Journal | None
    progress: Progress
    people: KeptSubjects | None
    counted: AfterAll
    keep_exclusions: bool
    dropped_metadata: tuple[str, ...]
    deciding: dict[str, str]
    indexed: Indexed | None
    turn: Semaphore
    digesting: Digesting | None

    def shard(self, source: Input) -> tuple[dict[str, Any], tuple[str, Any, Any]]:
        """One shard, rewritten and published. Returns its line, and (name, row numbers, codes) of what was dropped."""
        with self.turn:
            return self._shard(source)

    def _shard(self, source: Input) -> tuple[dict[str, Any], tuple[str, Any, Any]]:
        target, categories = self.output / source.name, self.snapshot.header.categories
        since = now_ns()
        known = None if self.digesting is None else self.digesting.hashed(source)
        with ShardFile(source.path, whole=True, known=known) as file:
            # Before the first row is decided: what is copied, or written anew, has to be of this, whatever the file's times say.
            deciding = {"input_sha256": file.sha256, **self.deciding}
            read = None if file.status is None else settled(identity_of(file.status), since)
            there = settled(identity(target, follow=False), since)
            if (
                self.journal is not None
                and not self.keep_exclusions
                and (line := self.journal.finished(source.name, deciding, target)) is not None
            ):
                if self.indexed is not None:
                    again = self._subjects_of(file, self.indexed)
                    there = there if there == identity(target, follow=False) else None
                    line = {name: line[name] for name in ("name", "deciding", "result")}
                    line |= self.indexed.entry(again, read, there, _metadata_of(file, self.dropped_metadata))
                elif self.people is not None:
                    with ShardFile(target) as finished:
                        self.people.add_written(finished, self.columns)
                self.counted.one()
                self.progress.add(line["result"]["rows_in"])
                return line, (source.name, np.array([], np.int64), np.array([], np.uint8))
            names = self.columns.check(file.schema_arrow, categories)
            tally = Tally()
            dropped: list[tuple[Any, Any]] = []
            subjects = None if self.indexed is None else self.indexed.shard()

            def mask(group: int) -> Any:
                table = file.read_keys(group, names)
                keys = self.columns.read(table)
                decisions = decide(keys, self.answers, categories)
                if self.keep_exclusions:
                    out = np.nonzero(decisions.codes)[0]
                    dropped.append((out + tally.rows, decisions.codes[out]))
                tally.add(table.num_rows, decisions)
                if self.people is not None:
                    kept = decisions.kept_subjects()
                    self.people.add(kept)
                    if subjects is not None:
                        subjects.add(keys, decisions.subjects, kept)
                self.progress.add(table.num_rows)
                return decisions.keep

            with HashingSink(target) as sink:
                masks = [mask(group) for group in range(file.num_row_groups)]
                self.counted.one()
                whole = tally.kept == tally.rows > 0 and not self.dropped_metadata
                if whole and copy(file, sink):
                    kept = tally.rows
                else:
                    kept = rewrite(file, sink, masks.__getitem__, drop_metadata=self.dropped_metadata)
                    file.check_digest()
                account(source.name, tally.rows, tally.counts)
                if kept != tally.kept:
                    raise ShardError(f"{source.name}: {kept} rows were written where {tally.kept} were allowed")
                written = identity_begins(sink)
                with given_up(self.turn):
                    sink.publish()
            result = {
                "carriers": carried_metadata_warnings(file.footer, self.dropped_metadata),
                "input": source.name,
                "input_sha256": file.sha256,
                "output": source.name,
                "output_sha256": sink.sha256,
                "rows_in": tally.rows,
                "rows_kept": kept,
                "rows_dropped": tally.dropped(),
                "unmapped": tally.unmapped,
                "known": tally.known,
                "rests_on": dict(tally.rests_on),
            }
            line = {"name": source.name, "deciding": deciding, "result": result}
            if self.indexed is not None and subjects is not None:
                published = identity(target, follow=False)
                if published is None or not published.startswith(written):
                    published = None  # another's file has taken its place already
                line |= self.indexed.entry(subjects, read, published, _metadata_of(file, self.dropped_metadata))
        if self.journal is not None:
            self.journal.finish(line)
        rows, codes = ([part[i] for part in dropped] or [np.array([], np.int64)] for i in (0, 1))
        return line, (source.name, np.concatenate(rows), np.concatenate(codes))

    def _subjects_of(self, file: ShardFile, indexed: Indexed) -> ShardSubjects:
        """Of a shard that was found finished: for the index, which may have been lost."""
        subjects = indexed.shard()
        categories = self.snapshot.header.categories
        names = self.columns.check(file.schema_arrow, categories)
        for group in range(file.num_row_groups):
            keys = self.columns.read(file.read_keys(group, names))
            decisions = decide(keys, self.answers, categories)
            kept = decisions.kept_subjects()
            subjects.add(keys, decisions.subjects, kept)
            if self.people is not None:
                self.people.add(kept)
        file.check_unchanged()
        file.check_digest()
        return subjects


def _warnings(results: list[dict[str, Any]], columns: Columns) -> tuple[str, ...]:
    unknown = unknown_ids(((r["input"], r["rows_in"], r["known"]) for r in results), columns)
    return (*unknown, *sorted({carrier for r in results for carrier in r["carriers"]}))


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
