"""The guard fails where a ratio is lost, and only then."""

from __future__ import annotations

import pytest

from tests.benchmarks.guard import SHARE, TRIES, lost


@pytest.mark.parametrize("slow", range(TRIES))
def test_one_ratio_that_is_near_the_recorded_one_is_enough(slow: int) -> None:
    found = iter([0.1] * slow + [SHARE * 2.0])
    assert not lost(lambda: next(found), 2.0)
    assert next(found, None) is None


def test_a_ratio_that_is_always_below_is_lost() -> None:
    measured = [SHARE * 2.0 - 0.01 * (number + 1) for number in range(TRIES)]
    found = iter(measured)
    assert lost(lambda: next(found), 2.0) == measured
