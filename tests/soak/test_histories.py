"""Many more random histories than `make test` tries, new ones each time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings

from tests.shards import test_decide


@pytest.mark.soak
@settings(max_examples=2000, deadline=None, derandomize=False)
@test_decide.histories_and_rows
def test_many_random_histories(**case: Any) -> None:
    test_decide.fast_path_gives_the_reference_reason(**case)
