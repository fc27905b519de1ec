"""The subjects of allowed rows, and of how many rows each: the set that a statement commits to (docs/formats.md).

Counted by the codes of the index that decides, 8 bytes for each subject of the snapshot; or, where there is no snapshot, by the
shards' own text, to see whether they are what was committed to. No Python per row.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ledger.errors import IntegrityError, ShardError
from ledger.hashing import Hashers
from ledger.log import prefix_root, prefix_tree
from ledger.log.prefix_tree import PrefixTree
from ledger.shards import subtrees
from ledger.shards.answers import Answers
from ledger.shards.columns import Columns, Keys
from ledger.shards.decide import once_a_row
from ledger.shards.rewrite import ShardFile
from ledger.shards.subtrees import Subtrees
from ledger.snapshot import text_bytes

_MERGE = 1 << 20
"""Pairs of subject and count that are held before those of one subject are added up."""

_HASHES = 3
"""For each subject: its index, its leaf and a node."""

Ints = npt.NDArray[np.int64]


class KeptSubjects:
    """Rows by subject, added up over all workers of a run or an audit."""

    def __init__(self, answers: Answers) -> None:
        self._answers, self._lock = answers, threading.Lock()
        self._rows: Ints = np.zeros(answers.unknown + 1, np.int64)

    def add(self, codes: Ints) -> None:
        """codes: of the index, one for each row and subject of it."""
        with self._lock:
            np.add.at(self._rows, codes, 1)

    def add_counted(self, codes: Ints, rows: Ints) -> None:
        """Those of whom it is known of how many rows each. codes: each once."""
        self._rows[codes] += rows

    @property
    def rows(self) -> Ints:
        """By code, of all whom the answers know."""
        return self._rows[:-1]

    def add_written(self, shard: ShardFile, columns: Columns) -> None:
        """Those of all rows of a finished output."""
        columns = columns.of_subjects()
        names = columns.check(shard.schema_arrow, ())
        for group in range(shard.num_row_groups):
            keys = columns.read(shard.read_keys(group, names))
            self.add(once_a_row(self._answers.subjects(keys.subjects), keys.row_of))
        shard.check_unchanged()

    def commit(self, seed: bytes, *, keep: Subtrees | None = None) -> dict[str, Any]:
        """`subjects` of a statement. keep: see `root`. Raises as `require_known` does."""
        self.require_known()
        codes = np.nonzero(self._rows)[0]
        top = root(self._answers.ids(codes), self._rows[codes], seed, keep=keep)
        return {"root": top.hex(), "seed": seed.hex(), "count": len(codes)}

    def require_known(self) -> None:
        """Raises ShardError where a row was counted whose subject the snapshot lacks."""
        if self._rows[-1]:
            raise ShardError(
                f"{self._rows[-1]} rows that were kept have a subject that the answers lack",
                hint="remove the output and its journal, and run it again",
            )


def root(ids: Any, rows: Ints, seed: bytes, *, keep: Subtrees | None = None) -> bytes:
    """Of the tree in which each id, a pyarrow array of text, each once, has `{"rows": N}` of `rows` as its value.

    keep: is told the subtrees; it stays empty where two indexes begin alike.
    """
    counts, which = _distinct(rows)
    values = prefix_root.table([prefix_tree.value(b"", {"rows": count}) for count in counts.tolist()]).take(which, axis=0)
    with Hashers(_HASHES * len(ids)) as hashers:
        indexes = hashers.each(prefix_tree.index_head(seed), *text_bytes(ids))
        if keep is None:
            return prefix_root.root(indexes, values, hashers.alike, by_two=hashers.by_two)
        top = prefix_root.root(indexes, values, hashers.alike, subtrees.BITS, keep.put, by_two=hashers.by_two)
    if keep.told:
        keep.place = prefix_root.places(indexes)
    return top


def _distinct(rows: Ints) -> tuple[Ints, Ints]:
    """Each number of rows that there is, and which of these each is."""
    if not len(rows) or rows.max() > len(rows):
        return np.unique(rows, return_inverse=True)
    there = np.bincount(rows) > 0
    return np.flatnonzero(there), (np.cumsum(there) - 1).take(rows)


def tree_of(ids: Any, rows: Ints, seed: bytes) -> PrefixTree:
    """ids: a pyarrow array of text, each once. rows: of how many rows each is a subject."""
    value = cache(lambda count: prefix_tree.value(b"", {"rows": count}))
    counted = zip(ids.to_pylist(), rows.tolist(), strict=True)
    return PrefixTree((prefix_tree.index(seed, subject_id), value(count)) for subject_id, count in counted)


class SubjectText:
    """Rows by subject of shards that are there, by their text alone."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns.of_subjects()
        self._parts: list[Any] = []
        self._held = 0

    def add(self, shard: ShardFile, allowed: Callable[[int, int], Any] | None = None) -> None:
        """allowed(first, rows): which of these rows count, all unless told. Raises IntegrityError for a row without a subject:
        none was ever kept.
        """
        names, first = self._columns.check(shard.schema_arrow, ()), 0
        for group in range(shard.num_row_groups):
            table = shard.read_keys(group, names)
            first, rows = first + len(table), len(table)
            if allowed is not None:
                table = table.filter(pa.array(allowed(first - rows, rows)))
            keys = self._columns.read(table)
            if keys.missing.any():
                raise IntegrityError(f"{shard.path} has rows without a subject: no run has kept them, and no set has them")
            self._add(_counted(keys))
        shard.check_unchanged()

    def tree(self, seed: bytes) -> PrefixTree:
        ids, rows = self.counts()
        return tree_of(ids, rows, seed)

    def counts(self) -> tuple[Any, Ints]:
        """Each subject once, and of how many rows."""
        merged = self._merged()
        return merged["subject"].combine_chunks(), merged["rows"].to_numpy()

    def rows_of(self, subject_id: str) -> int:
        ids, rows = self.counts()
        at = pc.index(ids, pa.scalar(subject_id, ids.type)).as_py()
        return 0 if at < 0 else int(rows[at])

    def _add(self, counted: Any) -> None:
        self._parts.append(counted)
        self._held += counted.num_rows
        if self._held > _MERGE and self._held > 2 * self._parts[0].num_rows:
            self._parts = [self._merged()]
            self._held = self._parts[0].num_rows

    def _merged(self) -> Any:
        empty = pa.table({"subject": pa.array([], pa.large_string()), "rows": pa.array([], pa.int64())})
        together = pa.concat_tables([empty, *self._parts])
        summed = together.group_by("subject").aggregate([("rows", "sum")])
        return summed.rename_columns({"rows_sum": "rows"}).select(["subject", "rows"])


def _counted(keys: Keys) -> Any:
    """Of one row group: subject and rows."""
    subjects = keys.subjects
    if keys.row_of is not None:
        pairs = pa.table({"row": keys.row_of, "subject": subjects}).group_by(["row", "subject"]).aggregate([])
        subjects = pairs["subject"].combine_chunks()
    counted = pc.value_counts(subjects)
    return pa.table({"subject": counted.field("values"), "rows": counted.field("counts")})
