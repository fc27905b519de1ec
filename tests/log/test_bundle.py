from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import VerificationError
from ledger.log import bundle


@given(st.lists(st.binary(max_size=40), max_size=256))
def test_what_is_written_is_read(entries: list[bytes]) -> None:
    assert bundle.parse(bundle.encode(entries), len(entries)) == entries


def test_the_form_is_that_of_the_standard() -> None:
    assert bundle.encode([b"", b"ab", b"x" * 256]) == b"\x00\x00" + b"\x00\x02ab" + b"\x01\x00" + b"x" * 256
    largest = [b"x" * bundle.MAX_ENTRY] * 256
    data = bundle.encode(largest)
    assert len(data) == bundle.MAX_BUNDLE and bundle.parse(data, 256) == largest


@pytest.mark.parametrize("entries", [[b"x" * 65_536], [b""] * 257])
def test_what_no_bundle_holds_is_refused(entries: list[bytes]) -> None:
    with pytest.raises(ValueError, match="up to 256 entries"):
        bundle.encode(entries)


@pytest.mark.parametrize("count", range(4))
@pytest.mark.parametrize("data", [b"", b"\x00", b"\x00\x01", b"\x00\x00\x00\x01", b"\x00\x00\x00\x00\x00", b"\xff\xffab"])
def test_only_whole_entries_and_as_many_as_expected(data: bytes, count: int) -> None:
    if (data, count) == (b"", 0):
        assert bundle.parse(data, count) == []
        return
    with pytest.raises(VerificationError, match=f"a bundle of {count} entries"):
        bundle.parse(data, count)


@given(st.binary(max_size=80), st.integers(0, 5))
def test_any_bytes_are_entries_or_refused(data: bytes, count: int) -> None:
    try:
        entries = bundle.parse(data, count)
    except VerificationError:
        return
    assert len(entries) == count and bundle.encode(entries) == data
