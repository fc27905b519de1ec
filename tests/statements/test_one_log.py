from __future__ import annotations

import hashlib

import pytest
from paper_log import PaperLog

from ledger.errors import VerificationError
from ledger.log.checkpoint import Checkpoint
from ledger.log.merkle import EMPTY_ROOT
from ledger.statements.one_log import Histories, roots_shown


def entry(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


def test_an_inclusion_proof_shows_the_trees_that_end_before_and_after_its_entry() -> None:
    log = PaperLog()
    log.fill(20)
    for size in range(1, 21):
        for position in range(size):
            roots = roots_shown(entry(position), log.proof(position, size), log.checkpoint(size))
            assert roots == {n: log.checkpoint(n).root for n in (position, position + 1, size)}


def test_an_empty_prefix_is_the_empty_tree() -> None:
    log = PaperLog()
    log.fill(3)
    assert roots_shown(entry(0), log.proof(0), log.checkpoint())[0] == EMPTY_ROOT


def meet(histories: Histories, log: PaperLog, position: int, size: int) -> None:
    histories.meet(log.checkpoint(size), roots_shown(entry(position), log.proof(position, size), log.checkpoint(size)))


def test_one_checkpoint_needs_no_comparison() -> None:
    histories, log = Histories(), PaperLog()
    log.fill(9)
    meet(histories, log, 3, 9)
    meet(histories, log, 5, 9)
    assert histories.sentences() == []


def test_checkpoints_that_proofs_tie_together_are_one_history() -> None:
    histories, log = Histories(), PaperLog()
    log.fill(9)
    for position, size in ((4, 5), (5, 7), (7, 9)):  # 5 is a prefix of 7, 7 of 9
        meet(histories, log, position, size)
    (sentence,) = histories.sentences()
    assert sentence.endswith("(sizes 5, 7, 9) are of one history")


def test_checkpoints_that_nothing_ties_together_are_said_not_to_be_compared() -> None:
    histories, log = Histories(), PaperLog()
    log.fill(9)
    meet(histories, log, 4, 5)
    meet(histories, log, 8, 9)
    (sentence,) = histories.sentences()
    assert sentence.startswith("NOT compared") and "sizes 5, 9" in sentence


def test_a_common_prefix_alone_does_not_make_one_history() -> None:
    histories, log = Histories(), PaperLog()
    log.fill(9)
    meet(histories, log, 3, 8)
    meet(histories, log, 3, 9)
    assert histories.sentences()[0].startswith("NOT compared")


def test_two_roots_for_one_size_are_refused() -> None:
    log, fork = PaperLog(), PaperLog()
    log.fill(4)
    fork.fill(3)
    fork.append(b"other" * 7)
    histories = Histories()
    meet(histories, log, 0, 4)
    with pytest.raises(VerificationError, match="two histories"):
        meet(histories, fork, 0, 4)


def test_a_fork_shows_in_the_prefix_that_a_later_proof_reveals() -> None:
    log, fork = PaperLog(), PaperLog()
    log.fill(4)
    fork.fill(3)
    fork.append(b"other" * 7)
    fork.append(entry(4))
    histories = Histories()
    meet(histories, log, 0, 4)
    with pytest.raises(VerificationError, match="two histories"):
        meet(histories, fork, 4, 5)


def test_other_origins_are_other_logs() -> None:
    histories = Histories()
    histories.meet(Checkpoint("a", 1, bytes(32)), {1: bytes(32)})
    histories.meet(Checkpoint("b", 1, b"1" * 32), {1: b"1" * 32})
    histories.meet(Checkpoint("b", 2, b"2" * 32), {1: b"1" * 32, 2: b"2" * 32})
    assert len(histories.sentences()) == 1


def met_as(histories: Histories, log: PaperLog, position: int, size: int, witnessed: bool) -> None:
    roots = roots_shown(entry(position), log.proof(position, size), log.checkpoint(size))
    histories.meet(log.checkpoint(size), roots, witnessed=witnessed)


def test_what_is_part_of_a_witnessed_tree_is_witnessed() -> None:
    log = PaperLog()
    log.fill(9)
    for places, whole in (
        ([(0, 9, True)], True),
        ([(0, 9, False)], False),
        ([(0, 9, False), (3, 9, True)], True),  # the same tree
        ([(0, 4, False), (4, 9, True)], True),
        ([(4, 9, True), (0, 4, False)], True),
        ([(0, 4, False), (4, 7, False), (7, 9, True)], True),
        ([(0, 4, False), (5, 9, True)], False),
        ([(0, 4, True), (4, 9, False)], False),  # a prefix vouches for nothing after it
        ([(0, 4, True), (5, 9, True)], True),
    ):
        histories = Histories()
        for position, size, witnessed in places:
            met_as(histories, log, position, size, witnessed)
        if whole:
            histories.require_witnessed()
            continue
        with pytest.raises(VerificationError, match="are not cosigned by the witnesses that the trust file demands"):
            histories.require_witnessed()


def test_witnesses_of_one_log_say_nothing_of_another() -> None:
    histories = Histories()
    histories.require_witnessed()
    histories.meet(Checkpoint("a", 1, bytes(32)), {1: bytes(32)}, witnessed=True)
    histories.meet(Checkpoint("b", 1, bytes(32)), {1: bytes(32)})
    with pytest.raises(VerificationError, match="checkpoints of log 'b'"):
        histories.require_witnessed()
