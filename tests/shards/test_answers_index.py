"""The index of answers and what a run leaves of its subjects: found, packed, and no larger than it is said to be."""

from __future__ import annotations

import io
import pickle
from datetime import timedelta
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.shards import held as files
from ledger.shards.answers import Answers
from ledger.shards.found import Found
from ledger.shards.held import Held, pack_counts, unpack_counts
from ledger.shards.subject_index import Hasher, Known, ShardSubjects
from ledger.shards.text_hash import TextHash
from ledger.shards.texts import Texts
from ledger.snapshot import NONE, SCHEMA
from tests.benchmarks.scale import held
from tests.shards.deciding import ANSWERS, T0

HASHER = Hasher(bytes(32))


class _Ids:
    """What `ShardSubjects.add` reads of `Keys`."""

    def __init__(self, ids: list[str]) -> None:
        self.subjects = pa.array(ids, pa.large_string())


def plain(n: int) -> Any:
    """So many people who have said yes, by their number."""
    none, small = np.full(n, NONE), np.zeros(n, np.uint8)
    numbers = {"no_at": none, "no_state": small + 255, "no_position": np.full(n, -1), "yes_at": np.full(n, 5), "scope": small}
    numbers |= {"yes_position": np.arange(n), "yes_expires_at": none, "yes_content_since": none, "yes_basis": small + 1}
    columns = {name: pa.array(values) for name, values in numbers.items()}
    columns |= {"subject_id": pa.array([f"p{i:09d}" for i in range(n)]), "scope_id": pa.array([""] * n)}
    return pa.table(columns | {"yes_accepted": pa.array([True] * n)}).select(SCHEMA.names).cast(SCHEMA)


def test_an_index_takes_less_than_forty_bytes_a_subject() -> None:
    for n in (100_000, 131_071, 131_073):  # where the directory is largest, and smallest
        answers = Answers(plain(n), T0)
        assert (answers.subjects(pa.array(["p000000007", "p", f"p{n:09d}"], pa.large_string())) == [7, n, n]).all()
        assert held(answers) < n * (len("p000000007") + 40)


@pytest.mark.parametrize("entries", [0, 1, 2, 3, 50, 1000])
def test_found(entries: int) -> None:
    """Against a dictionary: hashes that differ, share their top bits, all but their last, or everything."""
    random = np.random.default_rng(entries)
    few = random.integers(0, 2**64, 1 + entries // 3, np.uint64)
    few = np.concatenate([few, few ^ np.uint64(1), few ^ np.uint64(1 << 40), np.array([0, 2**64 - 1], np.uint64)])
    hashes, texts = random.choice(few, entries), random.integers(0, 3, entries)
    keys = {(h, t): i for i, (h, t) in enumerate(zip(hashes.tolist(), texts.tolist(), strict=True))}
    asked = [(h, t) for h in few.tolist() for t in range(4)]

    def confirm(queries: Any, entries: Any) -> Any:
        same = [(hashes[e], texts[e]) == asked[q] for q, e in zip(queries.tolist(), entries.tolist(), strict=True)]
        return np.array(same, bool)

    found = Found(hashes).candidates(np.array([h for h, _ in asked], np.uint64), confirm, entries)
    for one, at in zip(asked, found.tolist(), strict=True):
        assert (at < entries) == (one in keys)
        assert at == entries or (hashes[at], texts[at]) == one


@pytest.mark.parametrize("top", [0, 1, 2**63, 2**64 - 2**12])
def test_entries_that_crowd_at_one_place(top: int) -> None:
    """And before, behind and among them what is not there; at the table's end as well."""
    hashes = np.uint64(top) + np.arange(0, 2000, 2, dtype=np.uint64) * np.uint64(2)
    asked = np.concatenate([hashes, hashes + np.uint64(1), hashes + np.uint64(2), hashes[:1] - np.uint64(1)])
    found = Found(hashes).candidates(asked, lambda queries, entries: hashes[entries] == asked[queries])
    place = {one: at for at, one in enumerate(hashes.tolist())}
    assert found.tolist() == [place.get(one, -1) for one in asked.tolist()]


def test_terms_are_read_again_once_the_index_is_made() -> None:
    rows = plain(9)
    read: list[Any] = []

    def again() -> Any:
        read.append(rows)
        return rows

    answers = Answers(rows, T0, again=again)
    before = Known.of(answers, HASHER)
    answers.subjects(pa.array(["p000000003"], pa.large_string()))
    assert not read and Known.of(answers, HASHER).packed() == before.packed() and len(read) == 1


def test_answers_are_sent_with_their_index() -> None:
    rows = plain(9)
    answers = Answers(rows, T0, again=lambda: rows)
    sent = pickle.loads(pickle.dumps(answers))
    ids = pa.array(["p000000003", "q"], pa.large_string())
    assert sent.subjects(ids).tolist() == answers.subjects(ids).tolist() == [3, 9]
    assert (sent.digest, sent.source) == (answers.digest, answers.source)


def test_the_subjects_of_a_shard() -> None:
    """Counted as a shard of few rows is, and as one of many: against plain Python."""
    random = np.random.default_rng(3)
    answers = Answers(plain(2000), T0)
    known = Known.of(answers, HASHER)
    for rows in (0, 1, 30, 3000):
        subjects, kept_rows, expected = ShardSubjects(known, HASHER), dict[int, int](), set[int]()
        for _ in range(3):
            people = [f"p{number:09d}" for number in random.integers(0, 2500, rows)]
            keys = _Ids(people)
            codes = answers.subjects(keys.subjects)
            kept = codes[(codes < 2000) & (codes % 3 > 0)]
            subjects.add(keys, codes, kept)  # type: ignore[arg-type]
            expected |= set(HASHER.ids(keys.subjects).tolist())
            for key in HASHER.ids(answers.ids(kept)).tolist():
                kept_rows[key] = kept_rows.get(key, 0) + 1
        head, rest = subjects.held().packed()
        digest = sha256(head).hexdigest()
        held = files.read(io.BytesIO(head + rest), digest)
        assert held is not None
        assert sorted([*held.keys.tolist(), *held.others.tolist()]) == sorted(expected)
        assert {k: n for k, n in zip(held.keys.tolist(), held.rows.tolist(), strict=True) if n} == kept_rows
        assert (np.diff(held.keys.astype(object)) > 0).all() and (np.diff(held.others.astype(object)) > 0).all()
        for key in expected:
            assert files.has_any(io.BytesIO(head + rest), digest, np.array([key], np.uint64))
        nobody = np.array([key + 1 for key in sorted(expected) if key + 1 not in expected], np.uint64)
        assert files.has_any(io.BytesIO(head + rest), digest, nobody) is False


@pytest.mark.parametrize("most", [0, 1, 255, 256, 65_536, 2**32, 2**62])
def test_counts_in_as_few_bytes_as_they_need(most: int) -> None:
    counts = np.array([most, 0, most // 2, 1], np.int64)
    packed = pack_counts(counts)
    unpacked = unpack_counts(packed, 4)
    assert unpacked is not None and unpacked.tolist() == counts.tolist()
    assert unpack_counts(packed, 3) is None and unpack_counts(packed + b"\0", 4) is None
    assert len(packed) == 4 * next(size for size in (1, 2, 4, 8) if most < 256**size)


def test_a_shards_subjects_that_were_edited_or_torn_tell_nothing() -> None:
    """Whatever byte is another, and wherever it ends: what is read is refused, or was not changed."""
    random = np.random.default_rng(5)
    keys, others = (np.unique(random.integers(0, 2**64, 1500, np.uint64)) for _ in range(2))
    head, rest = Held(keys, np.arange(len(keys)), others).packed()
    digest, whole = sha256(head).hexdigest(), head + rest
    asked = np.sort(np.concatenate([keys[700:701], others[800:801]]))
    for at in [*range(len(head)), *random.integers(0, len(whole), 600).tolist()]:
        edited = bytearray(whole)
        edited[at] ^= 1 << (at % 8)
        for data in (bytes(edited), whole[:at]):
            assert files.read(io.BytesIO(data), digest) is None, at
            for key in asked:
                assert files.has_any(io.BytesIO(data), digest, np.array([key], np.uint64)) in (True, None), at


def test_whom_answers_differ_about() -> None:
    random = np.random.default_rng(8)
    for size in (0, 1, 5, 200):
        names = np.unique(random.integers(0, 2**63, size).astype(np.uint64))
        for share in (0.0, 0.3, 1.0):
            then = {k: int(random.integers(3)) for k in names.tolist() if random.random() < share or size == 1}
            now = {k: int(random.integers(3)) for k in names.tolist() if random.random() < 0.7}
            at = np.arange(len(now))
            known = Known(np.array(list(now), np.uint64), np.array(list(now.values()), np.uint64), at, at, True)
            changed = known.changed(np.array(list(then), np.uint64), np.array(list(then.values()), np.uint64))
            assert changed.tolist() == sorted(k for k in then.keys() | now.keys() if then.get(k) != now.get(k))


def test_a_subject_with_two_rows_of_one_scope_is_held_to_the_last() -> None:
    """No snapshot has such rows; what reads them must not let a yes win for it."""
    yes, no = plain(1).to_pylist()[0], plain(1).to_pylist()[0]
    no |= {"no_at": 6, "no_state": 1, "no_position": 3}
    ids = pa.array(["p000000000"], pa.large_string())
    for rows in ([yes, no], [no]):
        answers = Answers(pa.Table.from_pylist(rows, SCHEMA), T0 + timedelta(days=1))
        code = answers.subjects(ids)
        index = answers.index
        reason = index.plain[code] if len(rows) == 1 else index.own[index.deep[code]]
        assert reason.tolist() != [0]


def test_known_of_the_worked_example_has_a_key_for_each() -> None:
    known = Known.of(ANSWERS, HASHER)
    assert (known.keys[known.rank] == HASHER.ids(ANSWERS.ids(np.arange(ANSWERS.unknown)))).all()
    assert (known.rank[known.order] == np.arange(ANSWERS.unknown)).all()


@pytest.mark.parametrize("sized", [True, False])
def test_texts_are_compared_by_all_their_bytes(sized: bool) -> None:
    """Of one size and of several, from the middle of a buffer, and where one side alone is of one size."""
    ids = ["", "ab\0", "ab", "öa", "abc", "abd", *([] if sized else ["", "ab", "a" * 40])]
    text = pa.array(ids, pa.large_string()).slice(3 if sized else 0)
    some = Texts(text)
    assert (some.words is not None) == sized
    for others in ([*text.to_pylist()], ["abd", "öa", "zzz"], ["a", "ab", "abd"], ["ab\0", "ab", "", "abc"], []):
        asked = Texts(pa.array(["x", *others], pa.large_string()).slice(1))
        for there in (np.arange(len(others)), np.arange(1, len(others)), np.arange(0)):
            for shift in range(len(text)):
                at = (there + shift) % len(text)
                same = [text[a].as_py() == others[t] for a, t in zip(at.tolist(), there.tolist(), strict=True)]
                for one in (some, pickle.loads(pickle.dumps(some))):
                    assert one.same(at, asked, there).tolist() == same
                assert some.take(at).text.to_pylist() == [text[a].as_py() for a in at.tolist()]


@settings(deadline=None)
@given(st.integers(0, 40), st.lists(st.integers(0, 2), min_size=1, max_size=9), st.integers(0, 3), st.booleans())
def test_texts_of_any_one_size(size: int, numbers: list[int], before: int, small: bool) -> None:
    """They differ in their last byte alone, or not at all."""
    ids = [("\0" * size)[1:] + "\0ab"[number] if size else "" for number in numbers]
    kind = pa.string() if small else pa.large_string()
    some = Texts(pa.array(["x" * before, *ids, "behind"], kind).slice(1, len(ids)))
    assert (some.words is not None) == (size > 0)
    assert (len(some), some.longest, some.text.to_pylist()) == (len(ids), size, ids)
    at, there = np.arange(len(ids))[::-1].copy(), np.arange(len(ids))
    assert some.same(at, some, there).tolist() == [a == b for a, b in zip(reversed(ids), ids, strict=True)]
    hasher = TextHash(bytes(32), 24)
    assert hasher(some).tolist() == hasher(some.text).tolist() == [hasher(pa.array([one]))[0] for one in ids]


def test_long_texts_are_not_copied() -> None:
    long = Texts(pa.array(["x" * 5000, "y" * 5000, "x" * 5000], pa.large_string()))
    assert long.words is None and long.longest == 5000
    assert long.same(np.array([0, 0, 0]), long, np.arange(3)).tolist() == [True, False, True]
