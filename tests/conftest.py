"""Fixtures that the whole suite shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real shards and published vectors, which are no part of the project; skips, saying so, where they are absent."""
    folder = Path(os.environ.get("CONSENT_LEDGER_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"shared data and vectors are not here: {folder.name}/ beside the checkout, or CONSENT_LEDGER_SHARED")
    return folder
