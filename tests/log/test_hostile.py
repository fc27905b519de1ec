"""Whatever bytes come in, only VerificationError comes out, and what was changed is not taken for what was signed."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rfc6962 import Definition

from ledger.errors import VerificationError
from ledger.log import canonical, checkpoint, dsse, entry, merkle, note, proof, tiles, trust
from ledger.log.checkpoint import Checkpoint
from ledger.log.keys import PrivateKey, PublicKey
from ledger.log.note import Verifier

BOUNDED = settings(deadline=None, max_examples=200)

KEY = PrivateKey.from_pem(PrivateKey.generate().to_pem())
LOG = Verifier.of("example.org/log", KEY.public)
TREE = Definition([sha256(b"%d" % number).digest() for number in range(11)])
TOLD = Checkpoint("example.org/log", 11, TREE.mth(0, 11))
NOTE = checkpoint.sign_checkpoint(TOLD, KEY)
PROOF = proof.TlogProof(4, tuple(TREE.path(4, 0, 11)), NOTE, b"extra").format()
PAYLOAD = b'{"_type":"https://in-toto.io/Statement/v1"}'
ENVELOPE = dsse.seal(PAYLOAD, KEY)
TRUST = f"# ours\nlog {LOG.vkey}\nrun {Verifier.of('run', KEY.public).vkey}\n"
EVENT = canonical.encode({"a": ["given", {"b": 7, "é": "\n"}], "recorded_at": "2026-01-01T00:00:00.000000Z", "state": "given"})

CHARACTERS = st.characters(exclude_categories=()) | st.sampled_from('\n\n —+ =A0{}[]",:/')


@st.composite
def changed(draw: st.DrawFn, text: str) -> str:
    """The text after some cuts, insertions, replacements and repetitions."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 60)))
        middle = draw(st.text(CHARACTERS, max_size=4) | st.just(text[start:end] * 2))
        text = text[:start] + middle + text[end:]
    return text


def texts(like: str) -> st.SearchStrategy[str]:
    return st.text(CHARACTERS, max_size=120) | changed(like)


def binary(like: bytes) -> st.SearchStrategy[bytes]:
    return st.binary(max_size=80) | texts(like.decode()).map(lambda text: text.encode(errors="surrogatepass"))


def outcome(read: Callable[[], object]) -> object:
    """What was read, or None where it was refused; any other exception fails the test."""
    try:
        return read()
    except VerificationError:
        return None


@BOUNDED
@given(binary(EVENT))
def test_canonical(data: bytes) -> None:
    document = outcome(lambda: canonical.decode(data))
    assert document is None or canonical.encode(document) == data  # type: ignore[arg-type]


@BOUNDED
@given(texts(canonical.encode_base64(TREE.mth(0, 1))))
def test_base64(text: str) -> None:
    data = outcome(lambda: canonical.decode_base64(text))
    assert data is None or canonical.encode_base64(data) == text  # type: ignore[arg-type]


@BOUNDED
@given(texts(LOG.vkey))
def test_verifier_keys(text: str) -> None:
    verifier = outcome(lambda: Verifier.from_vkey(text))
    assert verifier is None or verifier.vkey == text  # type: ignore[attr-defined]


@BOUNDED
@given(texts(NOTE))
def test_notes(text: str) -> None:
    assert outcome(lambda: note.open_note(text, [LOG])) in (None, TOLD.body())
    assert outcome(lambda: checkpoint.open_checkpoint(text, [LOG])) in (None, TOLD)


@BOUNDED
@given(texts(TOLD.body()))
def test_checkpoint_bodies(body: str) -> None:
    told = outcome(lambda: checkpoint.parse(body))
    assert told is None or told.body() == body  # type: ignore[attr-defined]


@BOUNDED
@given(texts(PROOF))
def test_proofs(text: str) -> None:
    parsed = outcome(lambda: proof.parse(text))
    assert parsed is None or parsed.format() == text  # type: ignore[attr-defined]
    assert outcome(lambda: proof.verify_entry(TREE.entries[4], text, [LOG])) in (None, TOLD)
    assert outcome(lambda: proof.verify_entry(TREE.entries[5], text, [LOG])) is None


@BOUNDED
@given(texts("tile/15/x123/x456/789.p/41"))
def test_tile_paths(path: str) -> None:
    parsed = outcome(lambda: tiles.parse_tile_path(path))
    assert parsed is None or tiles.tile_path(*parsed) == path  # type: ignore[misc]


@BOUNDED
@given(binary(ENVELOPE))
def test_envelopes(line: bytes) -> None:
    assert outcome(lambda: dsse.open_envelope(line, [KEY.public])) in (None, PAYLOAD)


VALUES: st.SearchStrategy[object] = st.recursive(
    st.text(max_size=6) | st.integers(-9, 9) | st.sampled_from([dsse.PAYLOAD_TYPE, KEY.public.dsse_keyid, "AA=="]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["keyid", "sig", "x"]), inner, max_size=3),
    max_leaves=6,
)


@BOUNDED
@given(st.fixed_dictionaries({"payload": VALUES, "payloadType": st.just(dsse.PAYLOAD_TYPE) | VALUES, "signatures": VALUES}))
def test_envelopes_of_any_shape(document: dict[str, object]) -> None:
    assert outcome(lambda: dsse.open_envelope(canonical.encode(document), [KEY.public])) is None


@BOUNDED
@given(texts(TRUST))
def test_trust_files(text: str) -> None:
    parsed = outcome(lambda: trust.parse(text))
    if parsed is not None:
        assert all(key.vkey in text for key in (*parsed.log, *parsed.run))  # type: ignore[attr-defined]


@BOUNDED
@given(st.binary(max_size=40) | st.binary(min_size=32, max_size=32), st.binary(max_size=70) | st.binary(min_size=64, max_size=64))
def test_keys_and_signatures(raw: bytes, signature: bytes) -> None:
    outcome(lambda: PublicKey(raw).verify(signature, b"message"))
    with pytest.raises(VerificationError):
        KEY.public.verify(signature, b"message")


HASHES = st.binary(min_size=32, max_size=32) | st.sampled_from([TREE.mth(0, 1), TREE.mth(0, 11)]) | st.binary(max_size=33)
SIZES = st.integers(-3, 20) | st.integers(-(2**70), 2**70) | st.sampled_from([2**63, 2**64 - 1, 2**64])


@BOUNDED
@given(HASHES, SIZES, SIZES, st.lists(HASHES, max_size=70), HASHES)
def test_merkle_proofs(first: bytes, index: int, size: int, hashes: list[bytes], second: bytes) -> None:
    root = outcome(lambda: merkle.root_from_inclusion(first, index, size, hashes))
    assert root is None or len(root) == 32  # type: ignore[arg-type]
    accepted = outcome(lambda: merkle.verify_inclusion(first, index, size, hashes, second) or "accepted")
    assert (accepted == "accepted") is (root is not None and root == second)
    outcome(lambda: merkle.verify_consistency(index, first, size, second, hashes))


@BOUNDED
@given(st.binary(max_size=33), st.binary(max_size=33))
def test_entries(first: bytes, second: bytes) -> None:
    outcome(lambda: entry.event_body(first, second))
    outcome(lambda: entry.event_entry(first, second))
    outcome(lambda: entry.act_entry(first, second))
