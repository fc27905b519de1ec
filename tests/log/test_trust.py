from __future__ import annotations

import itertools
import re

import pytest

from ledger.errors import VerificationError
from ledger.log import cosignature, trust
from ledger.log.checkpoint import Checkpoint, sign_checkpoint
from ledger.log.cosignature import Witness
from ledger.log.keys import PrivateKey
from ledger.log.note import Verifier
from ledger.log.trust import Policy, Trust

LOG_KEY = PrivateKey.generate()
LOG = Verifier.of("example.org/log", LOG_KEY.public)
KEYS = {number: PrivateKey.generate() for number in "123"}
W1, W2, W3 = (Witness(f"w{number}.example", key.public) for number, key in KEYS.items())
CHECKPOINT = Checkpoint(LOG.name, 7, b"r" * 32)


def cosigned(numbers: str) -> str:
    """Signed by the log, and by these witnesses."""
    lines = [cosignature.cosign(CHECKPOINT.body(), f"w{n}.example", KEYS[n], 1767139200) for n in numbers]
    return sign_checkpoint(CHECKPOINT, LOG_KEY) + "".join(lines)


RUN = Verifier.of("example.org/log/run", PrivateKey.generate().public)
SECOND = Verifier.of("example.org/second#run", PrivateKey.generate().public)


def test_keys_by_what_they_are_trusted_for() -> None:
    text = f"# ours\nlog {LOG.vkey}\n\n   # indented\n\trun\t {RUN.vkey} \r\nrun {SECOND.vkey}"
    assert trust.parse(text) == Trust((LOG,), (RUN, SECOND))


@pytest.mark.parametrize("text", ["", "\n", "# nobody\n"])
def test_an_empty_file_trusts_nobody(text: str) -> None:
    assert trust.parse(text) == Trust((), ())


@pytest.mark.parametrize(
    "line, message, hint",
    [
        ("LOG " + LOG.vkey, "not understood: 'LOG", "begins with log, run"),
        ("\ufefflog " + LOG.vkey, "not understood", "begins with log, run"),
        (LOG.vkey, "not understood", "begins with log, run"),
        ("log\x1f" + LOG.vkey, "not understood", "begins with log, run"),
        ("log\u00a0" + LOG.vkey, "not understood", "begins with log, run"),
        ("_require_new x", "not understood", "begins with log, run"),
        ("log", "not understood: 'log'", "`log VKEY [URL]"),
        (f"log {LOG.vkey} until", "not understood", "[until SIZE]"),
        (f"log {LOG.vkey} until -1", "not understood", "[until SIZE]"),
        (f"log {LOG.vkey} until 07", "not understood", "[until SIZE]"),
        (f"log {LOG.vkey} since 7", "not understood", "[until SIZE]"),
        (f"log {LOG.vkey} until 7 until 8", "not understood", "[until SIZE]"),
        (f"log {LOG.vkey} ftp://log.example", "not understood", "[URL]"),
        (f"run {RUN.vkey} until 7", "not understood", "`run VKEY`"),
        (f"witness w1 {LOG.vkey}", "not the key of a witness", None),
        (f"witness w1 {W1.vkey} ftp://w1.example", "not understood", "`witness NAME VKEY [URL]`"),
        ("witness w1", "not understood", "`witness NAME VKEY [URL]`"),
        (f"witness none {W1.vkey}", "'none' is taken", None),
        (f"log {W1.vkey}", "not an Ed25519 key", None),
        ("group g 1", "not understood", "`group NAME K MEMBER...`"),
        ("group g 1 nobody", "'nobody' that no line before names", None),
        ("quorum", "not understood", "`quorum NAME`"),
        ("quorum nobody", "no witness or group", None),
        (f"log {LOG.vkey} # ours", "not understood", "a comment has a line of its own"),
        (f"run {LOG.vkey} {RUN.vkey}", "not understood", "`run VKEY`"),
        ("log example.org", "not a verifier key: 'example.org'", "NAME+KEY_ID+KEY"),
        ("run " + RUN.vkey[:-4], "32 bytes", None),
    ],
    ids=itertools.count(),  # keys are others in each process
)
def test_what_is_not_understood_is_named_by_its_line(line: str, message: str, hint: str | None) -> None:
    with pytest.raises(VerificationError) as raised:
        trust.parse(f"log {LOG.vkey}\n# second\n{line}\nrun {RUN.vkey}\n")
    assert str(raised.value).startswith("line 3 of the trust file")
    assert message in str(raised.value)
    assert (hint or "") in (raised.value.hint or "")


WITNESSED = f"log {LOG.vkey}\n" + "".join(
    f"witness w{number} {witness.vkey}\n" for number, witness in enumerate((W1, W2, W3), start=1)
)


@pytest.mark.parametrize(
    "lines, why",
    [
        ("", "does not say how many of them"),
        ("group two 2 w1 w2 w3\n", "does not say how many of them"),
        ("quorum w1\nquorum w2\n", "there is one quorum"),
        ("quorum none\nquorum w2\n", "there is one quorum"),
        ("group w1 2 w2 w3\nquorum w1\n", "'w1' is taken"),
        (f"witness w4 {W1.vkey}\nquorum none\n", "would count twice"),
        (f"witness w4 {Witness('w4.example', LOG_KEY.public).vkey}\nquorum none\n", "the log's own key"),
        ("group g 0 w1\nquorum g\n", "cannot need '0' of 1"),
        ("group g 3 w1 w2\nquorum g\n", "cannot need '3' of 2"),
        ("group g some w1 w2\nquorum g\n", "cannot need 'some'"),
        ("group g 2 w1 w1\nquorum g\n", "names a member twice"),
        ("group g 1 h\ngroup h 1 w1\nquorum g\n", "'h' that no line before names"),
    ],
    ids=itertools.count(),
)
def test_a_policy_that_does_not_say_what_it_demands_is_refused(lines: str, why: str) -> None:
    with pytest.raises(VerificationError, match=re.escape(why)):
        trust.parse(WITNESSED + lines)


@pytest.mark.parametrize(
    "quorum, enough, too_few",
    [
        ("quorum none", [""], []),
        ("quorum w2", ["2", "12"], ["", "13"]),
        ("group two 2 w1 w2 w3\nquorum two", ["12", "13", "23", "123"], ["", "1", "2", "3"]),
        ("group one any w1 w2\ngroup both all one w3\nquorum both", ["13", "23", "123"], ["12", "3", ""]),
    ],
)
def test_a_checkpoint_counts_once_the_witnesses_demanded_have_cosigned_it(
    quorum: str, enough: list[str], too_few: list[str]
) -> None:
    trusted = trust.parse(WITNESSED + quorum)
    for signers in enough:
        assert trusted.open(cosigned(signers)).size == 7
    for signers in too_few:
        with pytest.raises(VerificationError, match="not cosigned by the witnesses"):
            trusted.open(cosigned(signers))
        assert trusted.open_unwitnessed(cosigned(signers)).size == 7


def test_a_false_cosignature_of_a_known_witness_refuses_the_note() -> None:
    trusted = trust.parse(WITNESSED + "quorum w1")
    with pytest.raises(VerificationError, match="does not fit"):
        trusted.open(cosigned("1") + cosignature.cosign("another text\n", "w2.example", KEYS["2"], 5))
    with pytest.raises(VerificationError, match="says no time"):
        trusted.open(cosigned("") + cosignature.cosign(CHECKPOINT.body(), "w1.example", KEYS["1"], 0))


def test_the_log_s_key_is_no_witness_and_a_witness_s_no_log_key() -> None:
    # One key under both types: neither signature counts as the other's.
    both = Trust((LOG,), (), policy=Policy({"w": Witness(LOG.name, LOG.public)}, {}, "w"))
    with pytest.raises(VerificationError, match="not cosigned"):
        both.open(sign_checkpoint(CHECKPOINT, LOG_KEY))
    text, _, lines = cosigned("1").rpartition("\n\n")
    with pytest.raises(VerificationError, match="not signed by a key that is trusted"):
        trust.parse(WITNESSED + "quorum w1").open(f"{text}\n\n{lines.splitlines()[1]}\n")


def test_a_key_that_was_replaced_signs_nothing_beyond_its_end() -> None:
    note = sign_checkpoint(CHECKPOINT, LOG_KEY)
    for size in (7, 8, 2**62):
        assert trust.parse(f"log {LOG.vkey} until {size}").open(note) == CHECKPOINT
    for lines in (
        f"log {LOG.vkey} until 6",
        f"log {LOG.vkey} https://log.example/ until 0",
        f"log {LOG.vkey} until 6\nlog {LOG.vkey}",
    ):
        with pytest.raises(VerificationError, match="a key that was replaced"):
            trust.parse(lines).open(note)
    # Signed by both, at the end of the old one: either will do.
    new = PrivateKey.generate()
    both = note + sign_checkpoint(CHECKPOINT, new).rpartition("\n\n")[2]
    for lines in (f"log {LOG.vkey} until 6\nlog {Verifier.of(LOG.name, new.public).vkey}", f"log {LOG.vkey} until 7"):
        assert trust.parse(lines).open(both) == CHECKPOINT


def test_the_length_is_bounded() -> None:
    assert trust.parse("#" * trust.MAX_TRUST) == Trust((), ())
    with pytest.raises(VerificationError, match="longer"):
        trust.parse("#" * (trust.MAX_TRUST + 1))


def test_who_cosigned_is_told_by_the_names_in_the_trust_file() -> None:
    trusted = trust.parse(WITNESSED + "quorum none")
    assert [trusted.cosigned_by(cosigned(signers)) for signers in ("", "3", "31")] == [(), ("w3",), ("w1", "w3")]
    assert trust.parse(f"log {LOG.vkey}").cosigned_by(cosigned("12")) == ()
    with pytest.raises(VerificationError, match="does not fit"):
        trusted.cosigned_by(cosigned("1") + cosignature.cosign("another text\n", "w2.example", KEYS["2"], 5))


def test_the_last_checkpoint_of_a_replaced_key_is_handed_out_with_its_signature_alone() -> None:
    following = PrivateKey.generate()
    second = Verifier.of(LOG.name, following.public)
    both = Trust((second, LOG), (), {LOG: CHECKPOINT.size})
    one = sign_checkpoint(CHECKPOINT, LOG_KEY)
    for keys in ((LOG_KEY, following), (following, LOG_KEY)):
        signed = sign_checkpoint(CHECKPOINT, *keys)
        assert both.open(signed) == Trust((LOG,), ()).open(signed) == CHECKPOINT
        assert both.signed_once(signed) == Trust((LOG,), ()).signed_once(signed) == one
    assert both.signed_once(one) == one
    # Beyond its end its line is nothing to hand out.
    ended = Trust((LOG, second), (), {LOG: CHECKPOINT.size - 1})
    assert ended.signed_once(sign_checkpoint(CHECKPOINT, LOG_KEY, following)) == sign_checkpoint(CHECKPOINT, following)


def test_only_a_key_that_was_not_replaced_is_current() -> None:
    assert Trust((LOG,), ()).is_current(LOG.public)
    assert not Trust((LOG,), (), {LOG: 7}).is_current(LOG.public)
    assert not Trust((LOG,), ()).is_current(RUN.public)


def test_who_has_not_heard_of_a_new_key_is_told_whom_to_ask() -> None:
    other = PrivateKey.generate()
    with pytest.raises(VerificationError, match="not signed by a key that is trusted") as unknown:
        Trust((LOG,), ()).open(sign_checkpoint(CHECKPOINT, other))
    assert "ask its owner for the new trust file" in (unknown.value.hint or "")
    with pytest.raises(VerificationError, match="not signed by a key that is trusted") as foreign:
        Trust((RUN,), ()).open(sign_checkpoint(CHECKPOINT, other))
    assert "only if its owner handed it to you" in (foreign.value.hint or "")
