"""The root of a set of subjects by levels, against the tree that is built leaf by leaf."""

from __future__ import annotations

import threading
from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import hashing, hashing_fast
from ledger.hashing import Hashers
from ledger.log import prefix_root, prefix_tree
from ledger.log.prefix_tree import PrefixTree
from ledger.shards import subtrees
from ledger.shards.subjects import root

RNG = np.random.default_rng(7)


def by_leaf(indexes: list[bytes], rows: list[int]) -> bytes:
    pairs = zip(indexes, rows, strict=True)
    return PrefixTree((index, prefix_tree.value(b"", {"rows": count})) for index, count in pairs).root()


@pytest.mark.parametrize("size", [*range(1, 40), 1000, 4097])
def test_any_number_of_subjects(size: int) -> None:
    ids = ["ö", *(f"u{number}" for number in range(size - 1))]
    rows, seed = RNG.integers(1, 9, size), RNG.bytes(32)
    expected = by_leaf([prefix_tree.index(seed, subject_id) for subject_id in ids], rows.tolist())
    assert root(pa.array(ids, pa.large_string()), rows, seed) == expected


@pytest.mark.parametrize("rows", [[10**12, 1, 10**12], [1, 1, 2], [3, 3, 3], [4, 1, 2]])
def test_any_number_of_rows(rows: list[int]) -> None:
    ids, seed = ["a", "b", "c"], bytes(32)
    expected = by_leaf([prefix_tree.index(seed, subject_id) for subject_id in ids], rows)
    assert root(pa.array(ids, pa.large_string()), np.array(rows), seed) == expected


def test_no_subject() -> None:
    assert root(pa.array([], pa.large_string()), np.zeros(0, np.int64), bytes(32)) == prefix_tree.EMPTY


@pytest.mark.parametrize(
    "places",
    [
        pytest.param([0, 1], id="all but the last of 64 bits are shared"),
        pytest.param([7, 6, 5, 4, 3, 2, 1, 0], id="the last bits alone tell the order"),
        pytest.param([0, 2**64 - 1], id="none is"),
        pytest.param([2**63, 2**63 + 1, 2**63 + 2, 0], id="deep on one side"),
        pytest.param([*range(2**32 - 3, 2**32 + 3)], id="around the middle"),
        pytest.param([2**64 - 2, 2**64 - 1, 2**53, 2**53 - 1, 2**53 + 1], id="what a float would round"),
        pytest.param([7, 7, 9], id="64 bits do not tell them apart"),
        pytest.param([(1 << bit) - 1 for bit in range(65)], id="a leaf at each depth"),
    ],
)
def test_subjects_that_share_many_bits(places: list[int]) -> None:
    indexes = [place.to_bytes(8, "big") + bytes([number]) * 24 for number, place in enumerate(places)]
    rows = list(range(1, len(places) + 1))
    values = [prefix_tree.value(b"", {"rows": count}) for count in rows]
    assert prefix_root.root(prefix_root.table(indexes), prefix_root.table(values), Hashers(0).alike) == by_leaf(indexes, rows)


@pytest.mark.parametrize(
    "with_datafusion",
    [
        False,
        pytest.param(
            True,
            marks=pytest.mark.skipif(find_spec("datafusion") is None, reason="DataFusion (the extra `fast`) is not installed"),
        ),
    ],
)
def test_many_subjects(with_datafusion: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[object] = []
    threads: set[int] = set()
    if with_datafusion:
        monkeypatch.setattr(hashing, "_WORTH_FAST", 0)
        each = hashing_fast.Fast.each

        def counted(self: hashing_fast.Fast, *texts: object) -> bytes:
            threads.add(threading.get_ident())
            used.append(each(self, *texts))
            return used[-1]

        monkeypatch.setattr(hashing_fast.Fast, "each", counted)
    ids = [f"u{number}" for number in range(60_000)]
    seed, rows = RNG.bytes(32), np.ones(len(ids), np.int64)
    expected = by_leaf([prefix_tree.index(seed, subject_id) for subject_id in ids], rows.tolist())
    # A slice: its text begins within a buffer.
    assert root(pa.array(["before", *ids], pa.large_string()).slice(1), rows, seed) == expected
    assert (len(used) > 3) == with_datafusion
    if with_datafusion:
        assert len(threads) > 1, "each side of the tree has one"


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 6), st.integers(-2, 2), st.booleans(), st.integers(0, 2**32))
def test_sizes_at_which_it_goes_another_way(times: int, beside: int, sized: bool, seed: int) -> None:
    """Of as many subjects as two threads, DataFusion and a slice of it are worth, of one more and of one fewer."""
    size = max(1, 64 * times + beside)
    ids = [f"u{number:05d}" if sized else f"u{number}" for number in range(size)]
    random = np.random.default_rng(seed)
    salt, rows = random.bytes(32), random.integers(1, 9, size)
    expected = by_leaf([prefix_tree.index(salt, subject_id) for subject_id in ids], rows.tolist())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix_root, "_WORTH_TWO", 128)
        patch.setattr(hashing, "_WORTH_FAST", 256)
        patch.setattr(hashing, "_FEW_FOR_FAST", 64)
        patch.setattr(hashing_fast, "_LEAST", 64)
        patch.setattr(hashing_fast, "_MOST", 128)
        kept = subtrees.Subtrees()
        text = pa.array(ids, pa.large_string())
        assert root(text, rows, salt) == root(text, rows, salt, keep=kept) == expected
        assert subtrees.root(kept.hashes, subtrees.counts(kept.place)) == expected


PLACES = st.integers(0, 2**64 - 1) | st.integers(0, 40) | st.integers(0, 15).map(lambda bits: bits << 52)


@settings(deadline=None)
@given(st.sets(PLACES, min_size=1, max_size=60))
def test_any_subjects_and_what_stands_twelve_levels_down(places: set[int]) -> None:
    indexes = [place.to_bytes(8, "big") + bytes([number]) * 24 for number, place in enumerate(places)]
    rows = list(range(1, len(places) + 1))
    table = prefix_root.table(indexes)
    values = prefix_root.table([prefix_tree.value(b"", {"rows": count}) for count in rows])
    expected = by_leaf(indexes, rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix_root, "_WORTH_TWO", 0)
        for by_two in (False, True):
            kept = subtrees.Subtrees()
            assert prefix_root.root(table, values, Hashers(0).alike, by_two=by_two) == expected
            assert prefix_root.root(table, values, Hashers(0).alike, subtrees.BITS, kept.put, by_two=by_two) == expected
            assert subtrees.root(kept.hashes, subtrees.counts(prefix_root.places(table))) == expected
