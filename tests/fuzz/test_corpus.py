"""Every input that the fuzzer kept, and every seed: nothing comes out of a parser that it is not allowed to raise."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import suppress

import pytest

from tests.fuzz.targets import CORPUS, MAX_BYTES, MAX_FILES, TARGETS, inputs


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_else_comes_out(name: str) -> None:
    for _, data in inputs(name):
        TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
def test_each_seed_is_valid(name: str) -> None:
    """Else the fuzzer would begin before the parser's door."""
    taken = 0
    for seed in TARGETS[name].seeds():
        with suppress(*TARGETS[name].allowed):
            TARGETS[name].read(seed)
            taken += 1
    assert taken or name in NOT_TAKEN, name


NOT_TAKEN = ("merkle-proof", "tlog-proof", "csv", "ndjson", "parquet")
"""Of no tree; or tables that one of two readings refuses."""


def test_the_corpus_stays_small_and_is_of_targets() -> None:
    assert {path.name for path in CORPUS.iterdir()} <= set(TARGETS)
    for folder in CORPUS.iterdir():
        kept = [path for path in folder.iterdir() if re.fullmatch("[0-9a-f]{40}", path.name)]
        assert len(kept) <= MAX_FILES, folder
        assert all(path.stat().st_size < MAX_BYTES for path in kept), folder


_MILLION = b"\xfc\xc0\x84\x3d"
_COLUMNS = b"\x15\x02\x19\x2c\x48\x01s\x15\x02\x00\x15\x04\x25\x00\x18\x01x\x00\x16\x00"


@pytest.mark.parametrize("name", ["snapshot-file", "parquet"])
@pytest.mark.parametrize(
    "footer",
    [
        pytest.param(b"\x15\x02\x19" + _MILLION, id="columns"),
        pytest.param(_COLUMNS + (b"\x19" + _MILLION) * 2, id="row-groups"),
    ],
)
def test_a_footer_that_claims_a_million_items_takes_no_memory(name: str, footer: bytes) -> None:
    """Arrow sets aside room for each: 0.8 GB for these 100 bytes."""
    thrift = footer + bytes(50)
    shard = b"PAR1" + thrift + len(thrift).to_bytes(4, "little") + b"PAR1"
    read = f"from tests.fuzz.targets import TARGETS; target = TARGETS[{name!r}]; target(b'')"
    measured = "from resource import *; taken = lambda: getrusage(RUSAGE_SELF).ru_maxrss"
    ended = subprocess.run(
        [sys.executable, "-c", f"{read}; {measured}; before = taken(); target({shard!r}); print(taken() - before)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(ended.stdout) < 64 << 10
