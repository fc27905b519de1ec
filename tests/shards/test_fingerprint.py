"""What is read again is held against what was hashed: by a fingerprint that means something to this process alone."""

from __future__ import annotations

import copy
import hashlib
import io
import itertools
import mmap
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

import ledger.run
from ledger import verify
from ledger.errors import ShardError
from ledger.shards import fingerprint
from ledger.shards.fingerprint import Fingerprint, hashed
from ledger.shards.rewrite import ShardFile
from tests.shards.world import World

MIB = 1 << 20
ROWS = 4


def of(*pieces: bytes) -> Fingerprint:
    found = Fingerprint()
    for piece in pieces:
        found.update(piece)
    return found


def flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def swapped(data: bytes) -> bytes:
    return data[:MIB] + data[2 * MIB : 3 * MIB] + data[MIB : 2 * MIB] + data[3 * MIB :]


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "first": lambda data: flipped(data, 0),
    "last": lambda data: flipped(data, -1),
    "between": lambda data: flipped(data, len(data) // 2 + 3),
    "appended": lambda data: data + b"\0",
    "cut": lambda data: data[:-1],
    "reordered": swapped,
}


@given(st.binary(max_size=200), st.lists(st.integers(0, 200)))
def test_however_bytes_are_cut_it_is_theirs(data: bytes, cuts: list[int]) -> None:
    ends = sorted({min(cut, len(data)) for cut in (0, *cuts, len(data))})
    pieces = [data[start:end] for start, end in itertools.pairwise(ends)]
    assert of(*pieces) == of(data)
    assert of(*pieces, b"") == of(b"", data)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_it_is_that_of_no_other_bytes(one: bytes, other: bytes) -> None:
    assert (of(one) == of(other)) is (one == other)
    assert of(one) != of(one + b"\0")
    assert of(one) != one


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("size", [3 * MIB + 1, 3 * MIB + 16, 4 * MIB])
def test_a_file_that_was_changed_is_another(size: int, change: str) -> None:
    data = np.random.default_rng(size).bytes(size)
    known = hashed(io.BytesIO(data))
    assert known.sha256 == hashlib.sha256(data).hexdigest()
    assert known.fingerprint == fingerprint.fingerprint(io.BytesIO(data))
    assert known.fingerprint != fingerprint.fingerprint(io.BytesIO(CHANGES[change](data)))


def test_it_is_gmac_and_of_this_process_alone() -> None:
    data = bytes(range(256)) * 5
    assert of(data)._tag == AESGCM(fingerprint._KEY).encrypt(bytes(12), b"", data)
    program = "from ledger.shards.fingerprint import *; f = Fingerprint(); f.update(b'x'); print(f._tag.hex())"
    told = {subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout for _ in range(2)}
    assert len({*told, of(b"x")._tag.hex().encode() + b"\n"}) == 3


def test_it_is_neither_sent_nor_shown() -> None:
    known = hashed(io.BytesIO(b"x"))
    assert known.fingerprint == of(b"x")
    for sent in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            sent(known)
    assert known.fingerprint._tag.hex() not in repr(known) and repr(known.fingerprint._tag) not in repr(known)
    with pytest.raises(TypeError):
        hash(known.fingerprint)


# In a run


def big(world: World, *people: str) -> Path:
    """Of some MiB, in one page, in which nothing stands between values: any bytes are some."""
    path = world.root / "in" / "a.parquet"
    path.parent.mkdir()
    values = pa.array(map(np.random.default_rng(3).bytes, [MIB] * ROWS), pa.binary(MIB))
    plain: Any = {"compression": "none", "use_dictionary": False, "write_statistics": False, "data_page_size": 64 * MIB}
    pq.write_table(pa.table({"b": values, "s": people * (ROWS // len(people))}), path, **plain)
    return path


WAYS = [("copy", ("yes", "later")), ("rewrite", ("yes", "no"))]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("way", "people"), WAYS)
def test_whatever_is_changed_after_the_decision_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch, way: str, people: tuple[str, ...], change: str
) -> None:
    source = big(world, *people)
    goes_on, decided = getattr(ledger.run, way), []

    def then_changed(*arguments: Any, **named: Any) -> Any:
        there, data = source.stat(), source.read_bytes()
        with source.open("r+b") as file:  # the very file that is open
            file.write(CHANGES[change](data))
            file.truncate()
        os.utime(source, ns=(there.st_atime_ns, there.st_mtime_ns))
        decided.append(source.read_bytes() != data)
        return goes_on(*arguments, **named)

    monkeypatch.setattr(ledger.run, way, then_changed)
    monkeypatch.setattr(ShardFile, "check_unchanged", lambda self: None)
    with pytest.raises(ShardError, match=r"a\.parquet: it was changed while it was read"):
        world.run(source)
    assert decided == [True]
    assert not list((world.root / "out").glob("*")) and not (world.root / "out.intoto.jsonl").exists()


@pytest.mark.parametrize(("way", "people"), WAYS)
def test_the_digests_that_are_stated_are_those_of_the_files(world: World, way: str, people: tuple[str, ...]) -> None:
    source = big(world, *people)
    (shard,) = world.run(source).record.shards
    made = (world.root / "out" / "a.parquet").read_bytes()
    assert shard.input_sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    assert shard.output_sha256 == hashlib.sha256(made).hexdigest()
    assert (made == source.read_bytes()) is (way == "copy")
    verify(world.root / "out", trust=world.book.trust)


def test_a_shard_that_was_found_finished_is_looked_through_as_it_was_hashed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the index would say that others are in it, and a later no of those who are would not reach it."""
    source = world.root / "in" / "a.parquet"
    source.parent.mkdir()
    pq.write_table(pa.table({"s": ["yes", "yes", "no"]}), source, compression="none", use_dictionary=False)
    world.run(source)
    finished = ledger.run.Journal.finished
    with source.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[:] = bytes(memory)
        os.utime(source, (0, 0))  # touched: the output stays, and the input is looked through again
        there = source.stat()

        def then_changed(*arguments: Any) -> Any:
            line = finished(*arguments)
            memory[:] = bytes(memory).replace(b"yes", b"nay")
            assert line is not None and there.st_ctime_ns == source.stat().st_ctime_ns
            return line

        monkeypatch.setattr(ledger.run.Journal, "finished", then_changed)
        with pytest.raises(ShardError, match="changed while it was read"):
            world.run(source)
    assert not (world.root / "out.intoto.jsonl").exists()
