"""The rows of an earlier snapshot and the acts that came since -> the rows of all of them.

Of each subject and scope the rows have the latest no and the latest yes, by (t, position). The latest of all is the latest of
these and of what came since, so that only the rows of those who acted since are made anew; all others are copied, many at once.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ledger import folding
from ledger.errors import IntegrityError
from ledger.log.entry import SALT_BYTES
from ledger.sayings import starts_of
from ledger.snapshot import NONE

Ints = npt.NDArray[np.int64]

_FEW = 4096
"""So many people's rows are put between slices of the others'. More would take too much memory: 11 KiB each."""


def spliced(rows: Any, salts: bytes | memoryview, acts: Any, first: int, new_salts: bytes) -> tuple[Any, bytes]:
    """rows: of snapshot.SCHEMA, to which no act was lacking that counts by now. salts: one for each subject of them.
    acts: of folding.ACTS, all from position `first` on; new_salts: of each entry from there on.

    What `folding.latest_per_scope` makes of all acts, and the salts of each subject's first. Raises IntegrityError where salts
    and rows do not fit.
    """
    starts = starts_of(rows["subject_id"])
    if len(salts) != SALT_BYTES * len(starts):
        raise IntegrityError("the salts are not those of the rows' subjects")
    if not len(acts):
        return rows, bytes(salts)
    ids = sorted(acts["subject_id"].unique().cast(pa.binary()).to_pylist())
    begins, ends = _places(rows["subject_id"], ids)
    theirs = rows.take(pa.array(_ranges(begins, ends)))
    fresh = folding.latest_per_scope(pa.concat_tables([acts, *_acts(theirs)]))
    fresh_starts = starts_of(fresh["subject_id"])
    if len(fresh_starts) != len(ids):
        raise IntegrityError("the acts that came since are not those of so many subjects")
    return _woven(rows, begins, ends, fresh, fresh_starts), _salts(salts, starts, begins, ends, acts, first, new_salts)


def _places(column: Any, ids: list[bytes]) -> tuple[Ints, Ints]:
    """Of each id the first of its rows, and the one after its last; the column and the ids are in the order of their bytes."""
    text = column.combine_chunks().cast(pa.large_string())
    if not len(text):
        return np.zeros(len(ids), np.int64), np.zeros(len(ids), np.int64)
    _, offsets, data = text.buffers()
    bounds = memoryview(offsets).cast("q")[text.offset : text.offset + len(text) + 1]
    held, every = memoryview(data or b""), range(len(text))

    def at(row: int) -> bytes:
        return bytes(held[bounds[row] : bounds[row + 1]])

    begins, ends, low = np.empty(len(ids), np.int64), np.empty(len(ids), np.int64), 0
    for number, subject in enumerate(ids):
        begins[number] = low = bisect_left(every, subject, low, key=at)
        ends[number] = low = bisect_right(every, subject, low, key=at)
    return begins, ends


def _ranges(begins: Ints, ends: Ints) -> Ints:
    """begins[0]..ends[0]-1, begins[1]..ends[1]-1, and so on."""
    lengths = ends - begins
    before = np.cumsum(lengths) - lengths
    every: Ints = np.arange(lengths.sum(), dtype=np.int64) + np.repeat(begins - before, lengths)
    return every


def _acts(rows: Any) -> list[pa.Table]:
    """The latest noes and yeses that rows tell of."""
    count = len(rows)
    nothing = {
        "accepted": pa.array(np.zeros(count, bool)),
        **dict.fromkeys(("expires", "since"), _same(NONE, "i8", count)),
    }
    noes = {
        "t": "no_at", "position": "no_position", "yes": pa.array(np.zeros(count, bool)), "state": "no_state",
        **nothing, "basis": _same(255, "u1", count),
    }  # fmt: skip
    yeses = {
        "t": "yes_at", "position": "yes_position", "yes": pa.array(np.ones(count, bool)), "state": _same(255, "u1", count),
        "accepted": "yes_accepted", "expires": "yes_expires_at", "since": "yes_content_since", "basis": "yes_basis",
    }  # fmt: skip
    found = []
    for said, there in ((noes, "no_position"), (yeses, "yes_position")):
        named = {"subject_id": "subject_id", "scope_id": "scope_id", "scope": "scope", **said}
        columns = [rows[named[name]] if isinstance(named[name], str) else named[name] for name in folding.ACTS.names]
        found.append(pa.table(columns, schema=folding.ACTS).filter(pc.greater_equal(rows[there], 0)))
    return found


def _same(value: int, kind: str, count: int) -> pa.Array:
    return pa.array(np.full(count, value, kind))


def _woven(rows: Any, begins: Ints, ends: Ints, fresh: Any, starts: Ints) -> Any:
    """rows, those from each begin to its end replaced by the next subject's of `fresh`."""
    fresh_ends = np.append(starts[1:], len(fresh))
    if len(begins) > _FEW:  # moved all at once: a slice for each takes as much memory as thousands of their rows
        lasting = np.ones(len(rows), bool)
        lasting[_ranges(begins, ends)] = False
        kept = np.flatnonzero(lasting)
        before = np.searchsorted(kept, np.repeat(begins, fresh_ends - starts))
        order = np.insert(kept, before, np.arange(len(rows), len(rows) + len(fresh)))
        return pa.concat_tables([rows, fresh]).combine_chunks().take(pa.array(order)).combine_chunks()
    parts, low = [], 0
    for begin, end, start, until in zip(begins.tolist(), ends.tolist(), starts.tolist(), fresh_ends.tolist(), strict=True):
        parts += [rows.slice(low, begin - low), fresh.slice(start, until - start)]
        low = end
    return pa.concat_tables([*parts, rows.slice(low)]).combine_chunks()


def _salts(salts: bytes | memoryview, starts: Ints, begins: Ints, ends: Ints, acts: Any, first: int, new_salts: bytes) -> bytes:
    """Whoever acted before keeps theirs: it is that of their first act."""
    new = np.flatnonzero(begins == ends)
    places, firsts = np.searchsorted(starts, begins[new]), folding.first_positions(acts)[new] - first
    if len(new) > _FEW:
        held, fresh = (np.frombuffer(some, f"V{SALT_BYTES}") for some in (salts, new_salts))
        return np.insert(held, places, fresh[firsts]).tobytes()
    every, parts, low = memoryview(salts), list[memoryview | bytes](), 0
    for place, at in zip((places * SALT_BYTES).tolist(), (firsts * SALT_BYTES).tolist(), strict=True):
        parts += [every[low:place], new_salts[at : at + SALT_BYTES]]
        low = place
    return b"".join([*parts, every[low:]])
