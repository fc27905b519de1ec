from __future__ import annotations

import pytest

from ledger.errors import VerificationError
from ledger.log import trust
from ledger.log.keys import PublicKey
from ledger.log.note import Verifier
from ledger.log.trust import Trust

# The same in every process: they stand in the names of tests.
LOG = Verifier.of("example.org/log", PublicKey(b"\x01" * 32))
RUN = Verifier.of("example.org/log/run", PublicKey(b"\x02" * 32))
SECOND = Verifier.of("example.org/second#run", PublicKey(b"\x03" * 32))


def test_keys_by_what_they_are_trusted_for() -> None:
    text = f"# ours\nlog {LOG.vkey}\n\n   # indented\n\trun\t {RUN.vkey} \r\nrun {SECOND.vkey}"
    assert trust.parse(text) == Trust((LOG,), (RUN, SECOND))


@pytest.mark.parametrize("text", ["", "\n", "# nobody\n"])
def test_an_empty_file_trusts_nobody(text: str) -> None:
    assert trust.parse(text) == Trust((), ())


@pytest.mark.parametrize(
    "line, message, hint",
    [
        ("witness w1 " + LOG.vkey, "not understood: 'witness", "begins with log or run"),
        ("quorum none", "not understood: 'quorum none'", "begins with log or run"),
        ("LOG " + LOG.vkey, "not understood: 'LOG", "begins with log or run"),
        ("\ufefflog " + LOG.vkey, "not understood", "begins with log or run"),
        (LOG.vkey, "not understood", "begins with log or run"),
        ("log\x1f" + LOG.vkey, "not understood", "begins with log or run"),
        ("log\u00a0" + LOG.vkey, "not understood", "begins with log or run"),
        ("log", "not understood: 'log'", "`log VKEY`"),
        (f"log {LOG.vkey} # ours", "not understood", "a comment has a line of its own"),
        (f"run {LOG.vkey} {RUN.vkey}", "not understood", "`run VKEY`"),
        ("log example.org", "not a verifier key: 'example.org'", "NAME+KEY_ID+KEY"),
        ("run " + RUN.vkey[:-4], "32 bytes", None),
    ],
)
def test_what_is_not_understood_is_named_by_its_line(line: str, message: str, hint: str | None) -> None:
    with pytest.raises(VerificationError) as raised:
        trust.parse(f"log {LOG.vkey}\n# second\n{line}\nrun {RUN.vkey}\n")
    assert str(raised.value).startswith("line 3 of the trust file")
    assert message in str(raised.value)
    assert (hint or "") in (raised.value.hint or "")


def test_the_length_is_bounded() -> None:
    assert trust.parse("#" * trust.MAX_TRUST) == Trust((), ())
    with pytest.raises(VerificationError, match="longer"):
        trust.parse("#" * (trust.MAX_TRUST + 1))
