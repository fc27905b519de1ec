"""Every input that the fuzzer kept, and every seed: nothing comes out of a parser that it is not allowed to raise."""

from __future__ import annotations

import re
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
