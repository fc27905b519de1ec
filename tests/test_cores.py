"""Work at once: its results, its failures, and that no thread is left behind."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import ledger
from ledger.cores import at_once
from ledger.shards.answers import Answers
from tests.conftest import yes


def test_results_are_in_order_and_the_last_is_done_here() -> None:
    before = threading.enumerate()
    both = threading.Barrier(2, timeout=60)

    def one() -> tuple[str, int]:
        both.wait()  # passes only where the other is at work meanwhile
        return "one", threading.get_ident()

    def other() -> tuple[str, int]:
        both.wait()
        return "other", threading.get_ident()

    (first, there), (second, here) = at_once(one, other)
    assert (first, second) == ("one", "other")
    assert here == threading.get_ident() != there
    assert threading.enumerate() == before


@pytest.mark.parametrize("fails", [0, 1, 2])
def test_a_failure_is_raised_once_all_have_ended(fails: int) -> None:
    before, ended = threading.enumerate(), []

    def work(number: int) -> Any:
        def done() -> int:
            if number == fails:
                raise ledger.IntegrityError(f"work {number} failed")
            ended.append(number)
            return number

        return done

    with pytest.raises(ledger.IntegrityError, match=f"work {fails} failed"):
        at_once(*map(work, range(3)))
    assert sorted([*ended, fails]) == [0, 1, 2]
    assert threading.enumerate() == before


def test_a_filter_leaves_no_thread_and_works_in_a_forked_process(tmp_path: Path) -> None:
    table = pa.table({"user_id": ["ann", "bob"]})
    with ledger.create(tmp_path / "book") as book:
        book.declare_purpose("train-ai", title="T", description="D")
        book.record(yes("ann"))
        snapshot = book.snapshot("train-ai")
    before = threading.enumerate()
    consent = ledger.ConsentFilter(snapshot, ledger.Columns(subject="user_id"))
    digest = consent.answers_sha256
    assert consent(table).to_pylist() == [{"user_id": "ann"}]
    assert threading.enumerate() == before
    child = os.fork()
    if not child:  # both what it inherited and what it makes itself
        anew = ledger.ConsentFilter(snapshot, ledger.Columns(subject="user_id"), consent.decided_at)
        made = Answers(snapshot.rows(), consent.decided_at)
        good = consent(table) == anew(table) and made.digest == digest and len(made.index.plain) == 2
        os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
