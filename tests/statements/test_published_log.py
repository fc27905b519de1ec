from __future__ import annotations

import pytest
from paper_log import PaperLog

from ledger.errors import VerificationError
from ledger.log import merkle, tiles
from ledger.log.checkpoint import Checkpoint, sign_checkpoint
from ledger.statements.published_log import ShownLog, Tile


def tile_of(log: PaperLog) -> Tile:
    stored = tiles.extend(0, log.leaves, lambda level, index: b"")
    return lambda level, index, size: stored[level, index][: 32 * ((size >> 8 * level) - 256 * index)]


def shown(log: PaperLog, size: int | None = None) -> ShownLog:
    return ShownLog(sign_checkpoint(log.checkpoint(size), log.log_key), tile_of(log), log.trust)


@pytest.fixture
def log() -> PaperLog:
    made = PaperLog()
    made.fill(600)
    return made


def test_every_earlier_checkpoint_is_part_of_it(log: PaperLog) -> None:
    published = shown(log)
    for size in (1, 2, 255, 256, 257, 512, 599, 600, 257):
        published.check(log.checkpoint(size))
    assert published.roots == {size: log.checkpoint(size).root for size in (1, 2, 255, 256, 257, 512, 599, 600)}


@pytest.mark.parametrize("size", [1, 255, 256, 300, 600])
def test_another_tree_is_not(log: PaperLog, size: int) -> None:
    published = shown(log)
    for _ in range(2):  # what was checked before does not vouch for it
        with pytest.raises(VerificationError, match="published otherwise than it is shown here") as caught:
            published.check(Checkpoint(log.origin, size, b"r" * 32))
        assert "two histories" in str(caught.value.hint)
        published.check(log.checkpoint(size))


def test_what_was_not_published_yet_is_not_part_of_it(log: PaperLog) -> None:
    with pytest.raises(VerificationError, match="has 599 entries, and a checkpoint met here has signed 600"):
        shown(log, 599).check(log.checkpoint())
    with pytest.raises(VerificationError, match="nothing proves that the tree of 0 entries"):
        shown(log).check(Checkpoint(log.origin, 0, merkle.EMPTY_ROOT))


def test_another_log_is_not(log: PaperLog) -> None:
    with pytest.raises(VerificationError, match="the published log is"):
        shown(log).check(Checkpoint("another/log", 600, log.checkpoint().root))


def test_a_published_checkpoint_must_be_trusted(log: PaperLog) -> None:
    with pytest.raises(VerificationError, match="not signed by a key that is trusted"):
        ShownLog(sign_checkpoint(log.checkpoint(), PaperLog().log_key), tile_of(log), log.trust)


def test_tiles_are_not_trusted(log: PaperLog) -> None:
    fork = PaperLog(log.origin, log.log_key, log.run_key, [b"f" * 32, *log.leaves[1:]])
    for met in (log.checkpoint(300), fork.checkpoint(300)):
        with pytest.raises(VerificationError, match="published otherwise"):
            ShownLog(sign_checkpoint(log.checkpoint(), log.log_key), tile_of(fork), log.trust).check(met)

    def none(level: int, index: int, size: int) -> bytes:
        raise VerificationError("it lacks a tile", hint="wait for the copy to end")

    with pytest.raises(VerificationError, match="it lacks a tile") as caught:
        ShownLog(sign_checkpoint(log.checkpoint(), log.log_key), none, log.trust).check(log.checkpoint(300))
    assert caught.value.hint == "wait for the copy to end"
