"""The hashes of ids are what the paper's formula says, wherever the texts lie in memory."""

from __future__ import annotations

import hashlib
from random import Random

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.shards.text_hash import TextHash

SECRET = b"secret"
LONGEST = 24
texts = st.lists(st.text(max_size=12) | st.sampled_from(["", "a", "abcd", "abcd\0", "u0000000001", "x" * 40]), max_size=20)


def reference(text: str, longest: int) -> int:
    data = text.encode()
    words = -(-longest // 4)
    stream = hashlib.shake_256(SECRET).digest(16 * (2 + words))
    keys = [int.from_bytes(stream[8 * i : 8 * i + 8], "little") for i in range(2 * (2 + words))]
    halves = []
    for own in (keys[: 2 + words], keys[2 + words :]):
        total = own[0] + own[1] * len(data)
        total += sum(
            own[2 + i] * int.from_bytes(data[4 * i : 4 * i + 4], "little") for i in range(min(words, -(-len(data) // 4)))
        )
        halves.append(total % 2**64 >> 32)
    return halves[0] << 32 | halves[1]


@settings(deadline=None)
@given(texts, st.integers(0, 3), st.integers(0, 3))
def test_a_hash_is_the_formula(ids: list[str], before: int, after: int) -> None:
    around = ["before"] * before, ["after é"] * after
    text = pa.array([*around[0], *ids, *around[1]], pa.large_string()).slice(before, len(ids))
    assert TextHash(SECRET, LONGEST)(text).tolist() == [reference(i, LONGEST) for i in ids]


@settings(deadline=None)
@given(st.integers(0, LONGEST + 9), st.integers(1, 5), st.integers(0, 3), st.randoms(use_true_random=False))
def test_of_texts_of_one_size_as_well(size: int, count: int, before: int, random: Random) -> None:
    ids = ["".join(random.choices("ab\0z", k=size)) for _ in range(count)]
    text = pa.array(["é" * before, *ids, "after"], pa.large_string()).slice(1, count)
    assert TextHash(SECRET, LONGEST)(text).tolist() == [reference(i, LONGEST) for i in ids]


def test_texts_that_differ_do_not_collide() -> None:
    ids = [f"{kind}{n}" for kind in ("u", "user-", "\0", "é" * 5) for n in range(50_000)] + ["\0" * n for n in range(LONGEST + 1)]
    assert len(np.unique(TextHash(SECRET, LONGEST)(pa.array(ids, pa.large_string())))) == len(ids)


def test_a_secret_makes_other_hashes() -> None:
    text = pa.array(["u1", "u2"], pa.large_string())
    assert set(TextHash(b"one", 8)(text)).isdisjoint(TextHash(b"two", 8)(text))


def test_what_is_longer_than_any_known_id_costs_no_more() -> None:
    """A shard may hold texts of any length; only their first bytes and their length are gone through."""
    long = pa.array(["x" * 50_000_000], pa.large_string())
    assert TextHash(SECRET, 8)(long).tolist() != TextHash(SECRET, 8)(pa.array(["x" * 8], pa.large_string())).tolist()
