"""Tokens open for whom and what they were sealed, and for nothing else."""

from __future__ import annotations

import base64
import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import VerificationError
from ledger.tokens import KEY_BYTES, key_id, seal, unseal

KEYS = [bytes(range(64)), bytes(64)]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


@given(TEXTS)
def test_what_was_sealed_opens(text: str) -> None:
    token = seal(text, KEYS, origin="o", use="no only")
    assert unseal(token, KEYS, origin="o", use="no only") == text
    assert seal(text, KEYS, origin="o", use="no only") == token, "the same link again"


@given(TEXTS, st.data())
def test_one_other_character_opens_nothing(text: str, data: st.DataObject) -> None:
    token = seal(text, KEYS, origin="o", use="no only")
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters(codec="utf-8").filter(lambda c: c != token[at]))
    with pytest.raises(VerificationError, match="no token of this ledger"):
        unseal(token[:at] + other + token[at + 1 :], KEYS, origin="o", use="no only")


@given(st.text(max_size=400))
def test_anything_else_opens_nothing(token: str) -> None:
    with pytest.raises(VerificationError, match="no token of this ledger"):
        unseal(token, KEYS, origin="o", use="no only")


@pytest.mark.parametrize(("origin", "use"), [("p", "no only"), ("o", "ask"), ("on", "o only"), ("", "ono only")])
def test_another_origin_or_use_opens_nothing(origin: str, use: str) -> None:
    token = seal("ann", KEYS, origin="o", use="no only")
    with pytest.raises(VerificationError):
        unseal(token, KEYS, origin=origin, use=use)


def test_a_new_key_leaves_old_tokens_good_and_a_missing_one_does_not() -> None:
    old = seal("ann", KEYS, origin="o", use="no only")
    new_key = secrets.token_bytes(KEY_BYTES)
    assert unseal(old, [new_key, *KEYS], origin="o", use="no only") == "ann"
    assert seal("ann", [new_key, *KEYS], origin="o", use="no only") != old
    with pytest.raises(VerificationError):
        unseal(old, [new_key], origin="o", use="no only")


def test_two_keys_of_one_id_are_both_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.tokens.key_id", lambda key: b"same")
    token = seal("ann", KEYS[1:], origin="o", use="no only")
    assert unseal(token, KEYS, origin="o", use="no only") == "ann"


def test_the_length_and_the_bytes_tell_nothing_of_the_subject() -> None:
    tokens = [seal(subject, KEYS, origin="o", use="no only") for subject in ("a", "ann@example.org", "x" * 90)]
    assert len({len(token) for token in tokens}) == 1
    raw = [base64.urlsafe_b64decode(token + "==") for token in tokens]
    assert all(r[:4] == key_id(KEYS[0]) for r in raw)
    assert b"ann" not in raw[1]


def test_a_text_that_is_too_long_is_refused() -> None:
    assert unseal(seal("x" * 1535, KEYS, origin="o", use="u"), KEYS, origin="o", use="u") == "x" * 1535
    with pytest.raises(ValueError, match="too long"):
        seal("x" * 1536, KEYS, origin="o", use="u")


def test_it_is_rfc_5297() -> None:
    """Its first example (appendix A.1), by the primitive that is used here."""
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    key = bytes.fromhex("fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
    data = bytes.fromhex("101112131415161718191a1b1c1d1e1f2021222324252627")
    sealed = AESSIV(key).encrypt(bytes.fromhex("112233445566778899aabbccddee"), [data])
    assert sealed.hex() == "85632d07c6e8f37f950acd320a2ecc9340c02b9690c4dc04daef7f6afe5c"
