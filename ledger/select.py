"""A selection: no row is written but, for each shard, which of its rows are allowed, and a signed statement of that.

- In the selection's folder each shard has two files, published whole: the positions of its allowed rows, and the digests of its
  blocks, by which whoever reads rows by position knows that they are the very rows that were decided.
- An earlier statement is withdrawn before the first file is written, and the new one is written last. Whatever fails on the way
  leaves no statement, and nothing can be read by positions that have none.
- Made again into the same folder, a shard of the same size whose file was not touched since is not hashed anew: its key columns
  are read through the blocks that this key has signed before. Where a block is another, the shard was changed, and all of it is
  hashed. In a store there are no such times: what was changed beside the key columns is found when it is read.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from ledger import blocks, files, holding, stating, times
from ledger.blocks import Authentic, Digests
from ledger.digesting import Digesting
from ledger.errors import ShardError, UsageError, VerificationError
from ledger.log.keys import PrivateKey
from ledger.log.note import Verifier
from ledger.log.prefix_tree import SEED_BYTES
from ledger.log.trust import Trust
from ledger.objects import Place, named
from ledger.selected import blocks_of
from ledger.shards import positions
from ledger.shards.answers import answers_at
from ledger.shards.columns import Columns
from ledger.shards.decide import Decisions, decide
from ledger.shards.index_folder import identity, settled
from ledger.shards.inputs import Input
from ledger.shards.publish import HashingSink
from ledger.shards.rewrite import ShardFile
from ledger.shards.subjects import KeptSubjects
from ledger.shards.work import Callback, Progress, Tally, account, in_parallel, rows_of, total, unknown_ids
from ledger.snapshot import Snapshot
from ledger.statements.selection_statement import (
    BLOCKS_SUFFIX,
    POSITIONS_SUFFIX,
    SELECTION,
    SelectedShard,
    SelectionRecord,
    selection_statement,
)
from ledger.statements.verify import read_statement, record_of, stated_kind, statement_path


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What a selection says. statement: its file."""

    record: SelectionRecord
    checkpoint: str
    statement: Place

    def document(self) -> dict[str, Any]:
        """The JSON of `consent select` (schemas/select.json)."""
        return {
            "selection_id": self.record.selection_id,
            **stating.told(self.record, self.checkpoint),
            "shards": [asdict(shard) for shard in self.record.shards],
            "statement": str(self.statement),
        }


def select(
    inputs: list[Input],
    output: Place,
    snapshot: Snapshot,
    columns: Columns,
    *,
    workers: int,
    key: PrivateKey,
    publish: Callable[[Snapshot], Snapshot] | None,
    admit: Callable[[bytes], bytes] | None,
    recipient: str | None,
    min_kept: float,
    on_progress: Callback | None,
    digesting: Digesting | None,
) -> Selection:
    """What `ConsentFilter.select_shards` says."""
    started_at = times.now()
    snapshot.check_age(started_at)
    stating.require_provable(snapshot, publish)
    stating.require_share(min_kept)
    output = named(output)
    _check_output(output, inputs)
    categories = snapshot.header.categories
    progress = Progress(rows_of(inputs, lambda shard: columns.check(shard.schema_arrow, categories)), on_progress)
    answers = answers_at(snapshot, started_at)
    with holding.alone(output):
        _check_output(output, inputs)  # again: another may have ended there since
        snapshot = stating.published(publish, snapshot)
        known = _known(output, key, inputs)
        files.withdraw(statement_path(output))
        people = KeptSubjects(answers)

        def decided(source: Input, file: ShardFile) -> _Decided:
            names, found = columns.check(file.schema_arrow, categories), _Decided()
            for group in range(file.num_row_groups):
                table = file.read_keys(group, names)
                found.add(table.num_rows, decide(columns.read(table), answers, categories))
            file.check_unchanged()
            account(source.name, found.rows, found.counts)
            return found

        def one(source: Input) -> tuple[SelectedShard, _Decided]:
            found: _Decided | None = None
            hashed = known.get(source.name) or (digesting.of(source) if digesting is not None else None)
            if hashed is not None:
                # What was changed shows in a block, in the size, or in what cannot be read.
                with suppress(VerificationError, ShardError), ShardFile(source.path, through=_through(*hashed)) as file:
                    found = decided(source, file)
            if hashed is None or found is None:
                told: list[Digests] = []
                try:
                    with ShardFile(source.path, whole=True, through=_hashing(told)) as file:
                        found = decided(source, file)
                except VerificationError as error:
                    raise ShardError(f"{source.path}: {error}", hint=error.hint) from error
                hashed = told[0]
            for codes in found.people:
                people.add(codes)
            progress.add(found.rows)
            sha256_, of_blocks, size = hashed
            return SelectedShard(
                name=source.name,
                sha256=sha256_,
                size=size,
                blocks_sha256=_write(output / (source.name + BLOCKS_SUFFIX), of_blocks),
                positions_sha256=_write(output / (source.name + POSITIONS_SUFFIX), positions.encode(found.masks)),
                rows_in=found.rows,
                rows_kept=found.kept,
                rows_dropped=found.dropped(),
            ), found

        done = in_parallel(one, inputs, workers)
        record = SelectionRecord(
            selection_id=secrets.token_hex(16),
            **stating.decided(snapshot, columns, answers.digest, started_at, recipient),
            subjects=people.commit(secrets.token_bytes(SEED_BYTES)),
            rests_on=total(dict(found.rests_on) for _, found in done),
            unmapped=sum(found.unmapped for _, found in done),
            shards=sorted((shard for shard, _ in done), key=lambda shard: shard.name.encode()),
            started_at=started_at,
            finished_at=times.now(),
            warnings=tuple(unknown_ids(((shard.name, found.rows, found.known) for shard, found in done), columns)),
        )
        if record.rows_kept < min_kept * record.rows_in:
            raise ShardError(
                f"{record.rows_kept} of {record.rows_in} rows are allowed, fewer than the least share of {min_kept:g}",
                hint="look at the reasons with `consent audit`; the selection has no statement",
            )
        stating.require_no_others(output, record.digests, "part of it")
        statement = stating.put(output, selection_statement(record), key, admit)
        return Selection(record=record, checkpoint=snapshot.header.checkpoint, statement=statement)


class _Decided(Tally):
    """people: codes of the subjects of allowed rows, of each row group."""

    def __init__(self) -> None:
        super().__init__()
        self.masks: list[Any] = []
        self.people: list[Any] = []

    def add(self, rows: int, decisions: Decisions) -> None:
        super().add(rows, decisions)
        self.masks.append(decisions.keep.to_numpy(zero_copy_only=False))
        self.people.append(decisions.kept_subjects())


def _hashing(told: list[Digests]) -> Callable[[Any], Any]:
    """Reads by the blocks that it has hashed: what is decided is what the statement names."""

    def through(file: Any) -> Any:
        told.append(blocks.digests(file))
        _, of_blocks, size = told[0]
        return Authentic(file, size, of_blocks, "it was changed while it was read")

    return through


def _through(whole: str, of_blocks: bytes, size: int) -> Callable[[Any], Any]:
    def through(file: Any) -> Any:
        if file.seek(0, 2) != size:
            raise VerificationError("it has another size")
        return Authentic(file, size, of_blocks, "it was changed")

    return through


def _known(output: Place, key: PrivateKey, inputs: list[Input]) -> Mapping[str, Digests]:
    """Of each shard of the selection that stands there, if this key has signed it: SHA-256, those of its blocks, and bytes.

    Not of a file that was touched since: other columns may have changed, and the statement would name a shard that is not there.
    """
    paths = {source.name: source.path for source in inputs}
    known: dict[str, Digests] = {}
    with suppress(VerificationError, ShardError):
        trust = Trust((), (Verifier.of("own", key.public),))
        _, record = record_of(read_statement(statement_path(output)).partition(b"\n")[0], trust)
        if not isinstance(record, SelectionRecord):
            return known
        since = times.micros(record.decided_at) * 1000
        for shard in record.shards:
            path = paths.get(shard.name)
            if path is None or (isinstance(path, Path) and settled(identity(path), since) is None):
                continue
            with suppress(VerificationError, ShardError):
                known[shard.name] = shard.sha256, blocks_of(output, shard), shard.size
    return known


def _write(path: Place, data: bytes) -> str:
    with HashingSink(path) as sink:
        sink.write(data)
        sink.publish()
    return sha256(data).hexdigest()


def _check_output(output: Place, inputs: list[Input]) -> None:
    target = output.resolve()
    stating.require_no_ledger(output)
    # Other tools call theirs `*.intoto.jsonl` as well.
    if stated_kind(statement_path(output)) not in (None, SELECTION):
        raise UsageError(
            f"{statement_path(output)} is not the statement of a selection, and would be replaced by one",
            hint="choose another folder with -o, or move that file away",
        )
    for source in inputs:
        if target in source.path.resolve().parents:
            raise UsageError(f"{source.path} lies in the selection's folder {output}", hint="choose another folder with -o")
    if output.is_dir():
        made = {source.name + suffix for source in inputs for suffix in (POSITIONS_SUFFIX, BLOCKS_SUFFIX)}
        if strange := sorted(set(_there(output)) - made):
            raise UsageError(
                f"{output} holds files that this selection does not make, {strange[0]!r:.200} among them",
                hint="choose an empty folder with -o, or remove them",
            )


def _there(folder: Place) -> list[str]:
    """Files below a folder that a verifier would not pass over, unless they are left by a process that was killed."""
    names = (
        [path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()]
        if not hasattr(folder, "below")
        else [name for name, is_object in folder.below() if is_object]
    )
    return [name for name in names if not any(part.startswith((".", "_")) for part in name.split("/"))]
