from __future__ import annotations

import json
from enum import StrEnum

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import VerificationError
from ledger.log import canonical

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
ASCII = st.text(st.characters(max_codepoint=127), max_size=8)
# where the order of UTF-16 units is not the order of code points
ODD = st.text(st.sampled_from("a\uffff\ue000\U00010000\U0010ffffé"), max_size=4)
INTEGERS = st.integers(-canonical.MAX_INTEGER, canonical.MAX_INTEGER)


def documents(keys: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, object]]:
    values: st.SearchStrategy[object] = st.recursive(
        TEXT | INTEGERS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
    )
    return st.dictionaries(keys, values, max_size=6)


@settings(deadline=None, max_examples=400)
@given(documents(ASCII) | documents(ODD) | documents(ASCII | ODD))
def test_bytes_are_those_of_rfc8785_and_read_back(document: dict[str, object]) -> None:
    data = canonical.encode(document)
    assert data == rfc8785.dumps(document)  # type: ignore[arg-type]
    assert canonical.decode(data) == document


def test_every_character_of_the_first_plane_is_written_as_rfc8785_does() -> None:
    for start in [*range(0, 0xD800, 0x400), *range(0xE000, 0x10000, 0x400)]:
        document = {"text": "".join(map(chr, range(start, start + 0x400)))}
        assert canonical.encode(document) == rfc8785.dumps(document)  # type: ignore[arg-type]


def test_a_word_of_an_enumeration_is_its_text() -> None:
    class Word(StrEnum):
        NO = "no"

    assert canonical.encode({"a": Word.NO}) == rfc8785.dumps({"a": "no"})


def test_keys_are_ordered_by_utf16() -> None:
    # RFC 8785 §3.2.3: U+1F600 is D83D DE00 and comes before U+FB33
    assert canonical.encode({"\ufb33": 1, "\U0001f600": 2, "1": 3}) == '{"1":3,"\U0001f600":2,"\ufb33":1}'.encode()
    assert canonical.encode({"a": {"\ufb33": 1, "\U0001f600": 2}}) == '{"a":{"\U0001f600":2,"\ufb33":1}}'.encode()


def nested(depth: int, kind: str) -> object:
    value: object = "end"
    for _ in range(depth):
        value = [value] if kind == "list" else {"a": value}
    return value


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        1.0,
        float("nan"),
        b"bytes",
        ("a",),
        {1: "a"},
        {None: "a"},
        2**53,
        -(2**53),
        [[None]],
        {"a": {"b": True}},
        "\ud800",
        ["\udfff"],
        {"\ud800": "a"},
        nested(32, "list"),
        nested(32, "dict"),
        object(),
    ],
)
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(ValueError):
        canonical.encode({"key": value})


@pytest.mark.parametrize("kind", ["list", "dict"])
def test_depth_is_bounded_at_32(kind: str) -> None:
    document = {"key": nested(31, kind)}
    assert canonical.decode(canonical.encode(document)) == document


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(ValueError, match="nested"):
        canonical.encode({"key": value})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b'"a"',
        b"1",
        b"null",
        b"{} ",
        b" {}",
        b"{}\n",
        b"\xef\xbb\xbf{}",
        b"\xff",
        b'{"a": 1}',
        b'{"b":1,"a":1}',
        b'{"a":1,"a":1}',
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":1}}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1.0}',
        b'{"a":1e2}',
        b'{"a":1e999}',
        b'{"a":-0}',
        b'{"a":01}',
        b'{"a":null}',
        b'{"a":true}',
        b'{"a":false}',
        b'{"a":9007199254740992}',
        b'{"a":"\\u0061"}',
        b'{"a":"\\/"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\x01"}',
        b'{"a":"\\u001F"}',
        b"{}{}",
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":' + b"[" * 33 + b"]" * 33 + b"}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        '{"a":1}'.encode("utf-16"),
    ],
)
def test_only_canonical_bytes_are_read(data: bytes) -> None:
    with pytest.raises(VerificationError):
        canonical.decode(data)


def test_length_is_bounded() -> None:
    data = canonical.encode({"a": "é" * 10})
    assert canonical.decode(data, limit=len(data)) == {"a": "é" * 10}
    with pytest.raises(VerificationError, match="longer"):
        canonical.decode(data, limit=len(data) - 1)
    with pytest.raises(VerificationError, match="longer"):
        canonical.decode(canonical.encode({"a": "x" * (1 << 20)}))


@given(st.binary(max_size=40))
def test_base64_reads_back(data: bytes) -> None:
    assert canonical.decode_base64(canonical.encode_base64(data)) == data


@pytest.mark.parametrize(
    "text", ["A", "AA", "AAA", "AB==", "AAB=", "AA==\n", " AA==", "AA== ", "A-_=", "A\nA=", "AA=", "AA===", "=", "é", "\ud800"]
)
def test_base64_has_one_form(text: str) -> None:
    with pytest.raises(VerificationError):
        canonical.decode_base64(text)


@settings(deadline=None)
@given(st.text(st.sampled_from("AQgw/+=-_ \n"), max_size=9))
def test_whatever_base64_is_read_encodes_back_to_itself(text: str) -> None:
    try:
        data = canonical.decode_base64(text)
    except VerificationError:
        return
    assert canonical.encode_base64(data) == text


@settings(deadline=None, max_examples=300)
@given(st.text(st.sampled_from('{}[]":,0123456789.eE+-\\u ntrfalsd'), max_size=30))
def test_whatever_is_read_encodes_back_to_itself(text: str) -> None:
    for candidate in (text, f'{{"a":{text}}}', json.dumps({"a": text})):
        try:
            document = canonical.decode(candidate.encode())
        except VerificationError:
            continue
        assert canonical.encode(document) == candidate.encode()
