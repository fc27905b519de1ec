from __future__ import annotations

import hmac
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import VerificationError
from ledger.log import entry

SALT = bytes(range(32))
EVENT = '{"state":"given","subject_id":"é"}'.encode()


def test_entries_are_the_design_written_out() -> None:
    tag = hmac.new(b"k" * 32, b"subject\n" + "é".encode(), sha256).digest()
    body = sha256(b"consent-ledger/body/v1\n" + SALT + EVENT).digest()
    assert entry.subject_tag(b"k" * 32, "é") == tag
    assert entry.event_body(SALT, EVENT) == body
    assert entry.event_entry(tag, body) == sha256(b"consent-ledger/event/v1\n" + tag + body).digest()
    assert entry.act_entry(SALT, EVENT) == sha256(b"consent-ledger/act/v1\n" + SALT + EVENT).digest()


def test_the_bytes_of_format_one_never_change() -> None:
    # written down from the first release: a change here breaks every log that exists
    tag = entry.subject_tag(bytes(32), "u1")
    body = entry.event_body(bytes(32), b"{}")
    assert tag.hex() == "b8da901f7ce3e4e4f4af5fb1fc1293dc370613eaf4614643e8613bc74a35eac2"
    assert body.hex() == "d27e91d7b56c0605fb47301cb2bcd330aec2f881f36706a927c9d832f8c75bbf"
    assert entry.event_entry(tag, body).hex() == "932e25bfed6be69f21be1afe980a38104cb073645766dda805059105bb90b80e"
    assert entry.act_entry(bytes(32), b"{}").hex() == "e1e02cb1a0cb1b02a0501402610547f19afc85ab05bfdb4b47d35e7241667300"


def test_lengths() -> None:
    assert len(entry.act_entry(SALT, b"{}")) == entry.ENTRY_BYTES
    assert len(SALT) == entry.SALT_BYTES


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_salt_tag_or_body_of_another_length_is_refused(length: int) -> None:
    # or a byte could move from the salt into the event, or from the tag into the body, and the entry stay the same
    other = bytes(length)
    for make in (
        lambda: entry.subject_secret(bytes(32), other),
        lambda: entry.event_body(other, EVENT),
        lambda: entry.act_entry(other, EVENT),
        lambda: entry.event_entry(other, bytes(32)),
        lambda: entry.event_entry(bytes(32), other),
    ):
        with pytest.raises(VerificationError, match=f"has {length} bytes, not 32"):
            make()


def test_a_subject_without_a_utf8_form_has_no_tag() -> None:
    with pytest.raises(ValueError):
        entry.subject_tag(bytes(32), "\ud800")


@given(st.binary(max_size=130), st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), min_size=1, max_size=3))
def test_many_tags_under_one_key_are_each_the_tag(key: bytes, subject_ids: list[str]) -> None:
    tag = entry.subject_tagger(key)
    assert [tag(subject_id) for subject_id in subject_ids] == [entry.subject_tag(key, subject_id) for subject_id in subject_ids]


def test_a_key_longer_than_a_block_is_hashed_first() -> None:
    assert entry.subject_tagger(b"k" * 65)("u") == entry.subject_tag(b"k" * 65, "u")


def test_an_event_opens_its_entry_and_no_other() -> None:
    tag = bytes(range(32))
    body = entry.event_body(SALT, EVENT)
    good = [entry.event_entry(tag, body), tag, body, SALT, EVENT]
    assert entry.opens_event(*good)
    for at, part in enumerate(good):
        for other in (None, "text", 7, b"", part[:-1], part + b"\0", bytes(len(part)), part[:-1] + bytes([part[-1] ^ 1])):
            assert not entry.opens_event(*good[:at], other, *good[at + 1 :])
    # What moves from the salt to the event hashes alike.
    assert not entry.opens_event(*good[:3], SALT[:31], SALT[31:] + EVENT)
