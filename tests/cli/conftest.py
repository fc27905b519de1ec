"""What the tests of bad input share: a small story, and what every refusal must be."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ledger
from tests.conftest import Outcome, yes

Refused = Callable[..., Outcome]


@pytest.fixture
def told(consent: Callable[..., Outcome], shard: Callable[..., Path], tmp_path: Path) -> Callable[..., Outcome]:
    """`consent` where there are a ledger with two purposes, an act of ann, and one shard."""
    with ledger.create(tmp_path / "consent-ledger") as book:
        book.declare_purpose("train-ai", title="Train", description="Train a model")
        book.declare_purpose("caption", title="Caption", description="Caption pictures", categories=["photo", "post"])
        book.record(yes("ann", event_id="e1"))
    shard("raw/a.parquet", user_id=["ann", "bob"], post_id=["p1", "p2"], score=[1.5, 2.5], text=["yes", "no"])
    return consent


@pytest.fixture
def refused(told: Callable[..., Outcome], tmp_path: Path) -> Refused:
    """refused(*arguments, code=, says=[...], hint=): the command fails with this exit code, its message and its hint say
    this, nothing is on stdout, and not a byte changed anywhere: no entry in the log, no file, no folder."""

    def check(*arguments: str | Path, code: int, says: list[str], hint: str, whole: bool = True) -> Outcome:
        before = tree(tmp_path)
        outcome = told(*arguments)
        assert outcome.code == code, outcome.err
        message, found, advice = outcome.err.partition("\nhint: ")
        assert message.startswith("error: "), outcome.err
        assert found, f"no hint: {outcome.err}"
        assert [word for word in says if word not in message] == [], outcome.err
        assert hint in advice, outcome.err
        assert "Traceback" not in outcome.err
        assert "unexpected" not in message.partition("\n")[0]
        assert outcome.out == ""
        assert tree(tmp_path) == before
        if whole:
            assert ledger.fsck(tmp_path / "consent-ledger").events == 1
        return outcome

    return check


def tree(root: Path) -> dict[str, str]:
    """Every file's digest, every folder's name. SQLite's own two files come and go with whoever reads."""
    return {
        path.relative_to(root).as_posix(): "" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if not path.name.endswith(("-shm", "-wal"))
    }


def damaged(good: bytes) -> list[tuple[str, bytes]]:
    """(how, bytes): cut short, padded, and with one bit flipped."""
    middle = len(good) // 2
    flipped: list[Any] = [
        (f"bit {at * 8}", good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]) for at in (0, middle, len(good) - 1)
    ]
    return [
        ("empty", b""),
        ("cut by one", good[:-1]),
        ("cut in half", good[:middle]),
        ("padded by a newline", good + b"\n"),
        ("padded by a NUL", good + b"\0"),
        ("padded in front", b" " + good),
        *flipped,
    ]
