"""Clients of a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from talking import Api

import ledger as consent_ledger
from tests.served import Served


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One of the whole module, with the purpose train-ai: each test has people of its own."""
    with consent_ledger.create(tmp_path_factory.mktemp("api") / "consent-ledger") as book:
        book.declare_purpose("train-ai", title="Train", description="Train a model")
        served = Served(book.folder.path)
        yield Api(book, served)
        if not served.client.is_closed:
            served.stop()
        book.fsck()


@pytest.fixture
def own_api(book: consent_ledger.Ledger, serve: Callable[..., Served]) -> Api:
    """One of the test alone, which may break it."""
    return Api(book, serve(book.folder.path))
