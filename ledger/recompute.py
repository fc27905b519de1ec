"""A run decided again, from the ledger and its inputs: whether the statement says what came of it, and the output is that.

The snapshot is compiled anew from the log's prefix, each row of the inputs decided by it at the moment of the run, and the
output's rows compared with those that are kept: every column and value, in order, as Parquet stores them, whoever wrote the file.

A person who was erased since cannot be decided again. Their rows are told by the tag that the erasure's act names: they may
have been kept or dropped, unless another subject of the row or its category forbade it, and all else must be equal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ledger import times
from ledger.consent import split_purpose
from ledger.errors import IntegrityError, UsageError
from ledger.log.entry import subject_tag
from ledger.objects import Place
from ledger.shards.answers import Answers
from ledger.shards.columns import Columns, Keys
from ledger.shards.decide import Decisions, decide
from ledger.shards.rewrite import ShardFile
from ledger.snapshot import Snapshot, digest
from ledger.statements.audit_statement import AuditedShard
from ledger.statements.selection_statement import SelectionRecord
from ledger.statements.statement import RunRecord, ShardRecord
from ledger.statements.verify import VerifiedStatement

if TYPE_CHECKING:
    from ledger.book import Ledger


_FOLLOWS = "the snapshot follows from the log, digest and all"
_ANSWERS_FOLLOW = (
    "the snapshot's answers follow from the log; its digest covers when it was compiled, too, which the log does not tell"
)
_SPOKE_OF_ERASED = "the snapshot spoke of people who were erased since: it was compiled again without them"


@dataclass(frozen=True, kw_only=True)
class Recomputed:
    """rows: that were decided again. erased: people erased since whose rows are among them; erased_rows: those rows.

    header: whether the snapshot's digest followed from the log. snapshot: what of it did, in a sentence.
    """

    rows: int
    erased: int
    erased_rows: int
    header: bool
    snapshot: str

    def sentences(self) -> list[str]:
        if not self.erased:
            whole = f"EQUAL: all {self.rows} rows were decided again, and the statement and the shards are what came of it"
            return [self.snapshot, whole]
        return [
            self.snapshot,
            f"EQUAL EXCEPT FOR {self.erased} ERASED SUBJECTS: they have {self.erased_rows} of {self.rows} rows, which nobody can "
            "decide again; all other rows were, and the statement and the shards are what came of it",
        ]


def recompute(opened: VerifiedStatement, book: Ledger, *, shards: Place, inputs: Place | None) -> Recomputed:
    """opened: of a statement whose shards have the digests that it names. inputs: the folder of a run's inputs.

    Raises IntegrityError for the first shard and row that is not what follows, UsageError for what cannot be decided again here.
    """
    record, act = opened.record, opened.snapshot.act
    if isinstance(record, SelectionRecord):
        raise UsageError(
            "a selection is not decided again here", hint="make another with `consent select`, by the same snapshot, and compare"
        )
    if record.origin != book.origin:
        raise UsageError(f"the statement is of log {record.origin!r:.100}, the ledger is {book.origin!r:.100}")
    token, _ = split_purpose(record.purpose)
    frozen = book.look(token, tree_size=act["tree_size"], as_of=times.parse(act["as_of"]))
    answers = Answers(frozen.rows(), record.decided_at, frozen.sha256)
    again = _Again(Columns(**record.columns), answers, frozen, _Erased(book, act["tree_size"]))
    same_answers = answers.digest == record.answers_sha256
    if not same_answers and not again.erased.tags:
        raise IntegrityError(
            "DIFFERENT: the ledger's answers at the statement's snapshot are not those that decided its rows",
            hint="the statement was made by other code than it says, or the snapshot by other entries",
        )
    header = same_answers and _has_digest(frozen, record.snapshot_sha256, book, act["tree_size"])
    if isinstance(record, RunRecord):
        if inputs is None:
            raise UsageError("a run is decided again from its inputs", hint="name their folder with --inputs")
        for stated in record.shards:
            again.run_shard(stated, inputs / stated.input, shards / stated.output, record.dropped_metadata)
    else:
        for audited in record.shards:
            again.audited_shard(audited, shards / audited.name)
    if not _fits(record.rests_on, again.rests_on, again.erased.kept):
        raise IntegrityError("DIFFERENT: rests_on of the statement is not what the rows rest on")
    lost = again.erased.rows - again.erased.kept
    if isinstance(record, RunRecord) and not 0 <= record.unmapped - again.unmapped <= lost:
        raise IntegrityError("DIFFERENT: unmapped of the statement is not the number of rows that lack a column")
    return Recomputed(
        rows=again.rows,
        erased=len(again.erased.met),
        erased_rows=again.erased.rows,
        header=header,
        snapshot=_FOLLOWS if header else _ANSWERS_FOLLOW if same_answers else _SPOKE_OF_ERASED,
    )


def _fits(stated: Mapping[str, int], again: Mapping[str, int], rest: int) -> bool:
    """Whether the counts are those that were found, and `rest` more, of which nobody can say where they belong."""
    left = Counter(stated)
    left.subtract(again)
    return min(left.values(), default=0) >= 0 and sum(left.values()) == rest


def _has_digest(frozen: Snapshot, expected: str, book: Ledger, size: int) -> bool:
    """Whether a snapshot of these rows has this digest, if it became known at one of the moments that the log tells of."""
    last = book.read(lambda history: history.recorded_at(size))
    moments = (frozen.header.known_until, frozen.header.as_of, last)
    headers = (replace(frozen.header, known_until=moment, erasures=()) for moment in moments if moment is not None)
    return any(digest(header, frozen.rows()) == expected for header in headers)


class _Erased:
    """People whose events before `size` were erased after it. rows: theirs, of which `kept` are in the output."""

    def __init__(self, book: Ledger, size: int) -> None:
        acts = book.read(lambda history: history.acts("subject_erased", first=size))
        self.tags = {bytes.fromhex(act["tag"]) for _, act in acts if min(act["positions"], default=size) < size}
        self.met: set[bytes] = set()
        self.rows = self.kept = 0
        self._key = book.folder.tag_key()

    def rows_of(self, keys: Keys) -> Any:
        """Which rows have a subject that was erased."""
        found, pairs = np.zeros(keys.rows, bool), self.pairs_of(keys)
        found[np.nonzero(pairs)[0] if keys.row_of is None else keys.row_of[pairs]] = True
        return found

    def pairs_of(self, keys: Keys) -> Any:
        """Which pairs of a row and a subject are of one who was."""
        if not self.tags:
            return np.zeros(len(keys.subjects), bool)
        tags = {subject_id: subject_tag(self._key, subject_id) for subject_id in keys.subjects.unique().to_pylist()}
        gone = [subject_id for subject_id, tag in tags.items() if tag in self.tags]
        self.met.update(tags[subject_id] for subject_id in gone)
        return pc.is_in(keys.subjects, value_set=pa.array(gone, pa.large_string())).to_numpy(zero_copy_only=False)


@dataclass
class _Again:
    columns: Columns
    answers: Answers
    snapshot: Snapshot
    erased: _Erased
    rows: int = 0
    unmapped: int = 0
    rests_on: Counter[str] = field(default_factory=Counter)

    def run_shard(self, stated: ShardRecord, source: Place, output: Place, dropped_metadata: Any) -> None:
        name, counts, gone, rows = stated.input, Counter[str](), 0, self.rows
        theirs: list[Any] = []
        with ShardFile(source, whole=True) as file, ShardFile(output, whole=True) as written:
            for shard, digest_of, what in ((file, stated.input_sha256, "input"), (written, stated.output_sha256, "output")):
                if shard.sha256 != digest_of:
                    raise IntegrityError(
                        f"DIFFERENT: {what} {shard.path} is not the one that the statement names: another digest"
                    )
            if file.footer.carried(dropped_metadata) != written.footer.carried():
                raise IntegrityError(f"DIFFERENT: {stated.output!r:.300} has another schema or other metadata than its input")

            def kept() -> Iterator[Any]:
                nonlocal gone
                for group, keys, decisions in self._decided(file):
                    erased = self.erased.rows_of(keys)
                    counts.update(_counted(decisions, ~erased))
                    self.unmapped += int(decisions.unmapped[~erased].sum())
                    self.rests_on.update(decisions.rests_on())
                    keep = (decisions.codes == 0) & ~erased
                    if (number := int(erased.sum())) or keep.any():
                        table = file.read_bits(group)
                        gone += number
                        if number:
                            theirs.append(table.filter(pa.array(erased & ~self._forbidden(keys))))
                        yield table.filter(pa.array(keep))

            still: list[Any] = []

            def found() -> Iterator[Any]:
                names = self.columns.check(written.schema_arrow, self.snapshot.header.categories)
                for group in range(written.num_row_groups):
                    erased = self.erased.rows_of(self.columns.read(written.read_keys(group, names)))
                    table = written.read_bits(group)
                    if erased.any():
                        still.append(table.filter(pa.array(erased)))
                    yield table.filter(pa.array(~erased)) if erased.any() else table

            _require_same(stated.output, kept(), found())
            file.check_unchanged()
            written.check_unchanged()
        self.erased.rows += gone
        left = sum(map(len, still))
        self.erased.kept += left
        _require_among(stated.output, theirs, still)
        _require_rows(name, stated.rows_in, self.rows - rows)
        counts.pop("allowed", None)
        if not _fits(stated.rows_dropped, counts, gone - left):
            said, now = dict(stated.rows_dropped), dict(counts)
            raise IntegrityError(f"DIFFERENT: of {name!r:.300} the statement says that {said} were dropped, and {now} are")

    def audited_shard(self, stated: AuditedShard, path: Place) -> None:
        name = stated.name
        with ShardFile(path) as shard:
            first = 0
            for _, keys, decisions in self._decided(shard):
                erased = self.erased.rows_of(keys)
                if erased.any():
                    self.erased.rows += int(erased.sum())
                    decisions = replace(decisions, codes=np.where(erased, self._without_erased(keys).codes, decisions.codes))
                self.rests_on.update(decisions.rests_on())
                if len(bad := np.nonzero(decisions.codes)[0]):
                    why = decisions.reason[int(bad[0])].as_py()
                    raise IntegrityError(f"DIFFERENT: row {first + bad[0]} of {name!r:.300} was not allowed: {why}")
                first += keys.rows
            shard.check_unchanged()
        _require_rows(name, stated.rows, first)
        self.erased.kept = self.erased.rows

    def _forbidden(self, keys: Keys) -> Any:
        """Which rows may not be kept whatever those said who were erased: for another subject's sake, or their category's."""
        return self._without_erased(keys).codes != 0

    def _without_erased(self, keys: Keys) -> Decisions:
        pairs = ~self.erased.pairs_of(keys)
        row_of = np.arange(keys.rows) if keys.row_of is None else keys.row_of
        rest = replace(keys, subjects=keys.subjects.filter(pa.array(pairs)), row_of=row_of[pairs])
        return decide(rest, self.answers, self.snapshot.header.categories)

    def _decided(self, shard: ShardFile) -> Iterator[tuple[int, Keys, Decisions]]:
        categories = self.snapshot.header.categories
        names = self.columns.check(shard.schema_arrow, categories)
        for group in range(shard.num_row_groups):
            keys = self.columns.read(shard.read_keys(group, names))
            self.rows += keys.rows
            yield group, keys, decide(keys, self.answers, categories)


def _require_rows(name: str, stated: int, found: int) -> None:
    if stated != found:
        raise IntegrityError(f"DIFFERENT: the statement says that {name!r:.300} has {stated} rows, and it has {found}")


def _counted(decisions: Decisions, rows: Any) -> Counter[str]:
    return Counter(replace(decisions, codes=decisions.codes[rows]).counts())


def _require_same(name: str, expected: Iterator[Any], found: Iterator[Any]) -> None:
    """The rows of both, however they are divided. Raises IntegrityError, which names the first that is another."""
    row = 0
    left = right = None
    while True:
        left = next((table for table in expected if len(table)), None) if left is None or not len(left) else left
        right = next((table for table in found if len(table)), None) if right is None or not len(right) else right
        if left is None and right is None:
            return
        if left is None:
            raise IntegrityError(f"DIFFERENT: row {row} of {name!r:.300} is one that is not kept, or not the input's")
        if right is None:
            raise IntegrityError(f"DIFFERENT: {name!r:.300} ends after {row} rows, and more are kept")
        size = min(len(left), len(right))
        if (at := _first_other(left.slice(0, size), right.slice(0, size))) is not None:
            raise IntegrityError(f"DIFFERENT: row {row + at} of {name!r:.300} is not the one that is kept in its place")
        row, left, right = row + size, left.slice(size), right.slice(size)


def _require_among(name: str, all_of_them: list[Any], some: list[Any]) -> None:
    """Rows of erased people in the output: each one of the input's, in their order."""
    if not some:
        return
    there = [table.slice(row, 1) for table in all_of_them for row in range(len(table))]
    at = 0
    for table in some:
        for row in range(len(table)):
            while at < len(there) and _first_other(there[at], table.slice(row, 1)) is not None:
                at += 1
            if at == len(there):
                raise IntegrityError(
                    f"DIFFERENT: {name!r:.300} has a row of an erased subject that is not the input's, or that others forbade"
                )
            at += 1


def _first_other(left: Any, right: Any) -> int | None:
    """The first row in which two tables of one length differ; None: they do not."""
    if _equal(left, right):
        return None
    low, high = 0, len(left)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _equal(left.slice(low, middle - low), right.slice(low, middle - low)) else (low, middle)
    return low


def _equal(left: Any, right: Any) -> bool:
    if left.schema != right.schema:
        return False
    for one, other in zip(left.columns, right.columns, strict=True):
        one, other = one.combine_chunks(), other.combine_chunks()
        if not _bits(one).equals(_bits(other)):
            return False
    return True


def _bits(array: Any) -> Any:
    """With whole numbers in the place of fractions: NaN is not equal to itself, and 0.0 to -0.0."""
    if len(array) and array.offset:
        array = array.take(pa.array(np.arange(len(array))))
    kind = array.type
    if pa.types.is_floating(kind):
        return array.view(pa.int64() if kind.bit_width == 64 else pa.int32() if kind.bit_width == 32 else pa.int16())
    mask = array.is_null()
    if pa.types.is_struct(kind):
        return pa.StructArray.from_arrays([_bits(array.field(at)) for at in range(kind.num_fields)], list(kind.names), mask=mask)
    if pa.types.is_large_list(kind):
        return pa.LargeListArray.from_arrays(array.offsets, _bits(array.values), mask=mask)
    return array
