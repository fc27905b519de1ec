"""What is published in an object store is reported failed: once it was not copied to its key, and once it was.

(A database server that loses a COMMIT, or its answer: tests/store/test_lost_server.)
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import ledger
from tests.conftest import Bucket, Outcome, yes
from tests.faults.operations import EDGE
from tests.proxy import Request, before


@pytest.mark.parametrize("stored", [False, True], ids=["not stored", "but stored"])
@pytest.mark.parametrize(
    ("name", "key"), [("shard", "train/a.parquet"), ("journal", ".json"), ("statement", "train.intoto.jsonl")]
)
def test_a_copy_that_is_reported_failed(
    consent: Callable[..., Outcome],
    shard: Callable[..., Path],
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    key: str,
    stored: bool,
) -> None:
    """After it: a statement only where it holds, and the same command again ends as if nothing had been."""
    people = EDGE - 5
    with ledger.create(tmp_path / "consent-ledger") as book:
        book.declare_purpose("train-ai", title="T", description="D")
        book.record_all(yes(f"u{n}") for n in range(people))
    shard("raw/a.parquet", user_id=[f"u{n}" for n in range(300)], text=["x"] * 300)
    line = ("filter", "raw", "-o", bucket.address("train"), "--purpose", "train-ai", "--subject", "user_id")
    lied = 0

    def trouble(request: Request) -> int | None:
        nonlocal lied
        path = request.path.partition("?")[0]
        if not request.is_copy or not path.endswith(key):
            return None
        lied += 1
        if stored:
            source = str(request.headers["x-amz-copy-source"]).lstrip("/")
            bucket.client.copy_object(Bucket=bucket.name, Key=path.removeprefix(f"/{bucket.name}/"), CopySource=source)
        return 500

    with before(bucket.endpoint) as (proxy, endpoint):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        proxy.trouble = trouble  # type: ignore[assignment]
        failed = consent(*line)
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.endpoint)
    assert lied
    assert failed.code == 1 and "hint: " in failed.err and "unexpected" not in failed.err, failed.err
    assert not [found for found in bucket.names() if found.endswith(".tmp")]
    has_statement = "train.intoto.jsonl" in bucket.names()
    assert has_statement == (stored and name == "statement")
    if has_statement:
        assert consent("verify", bucket.address("train")).code == 0
    assert ledger.fsck(tmp_path / "consent-ledger").events == people
    again = consent(*line)
    assert again.code == 0, again.err
    assert f"{people} of 300 rows kept" in again.out
    assert consent("verify", bucket.address("train")).code == 0
    assert ledger.fsck(tmp_path / "consent-ledger").size > EDGE
