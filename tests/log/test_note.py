from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ledger.errors import VerificationError
from ledger.log import canonical, note
from ledger.log.keys import PrivateKey
from ledger.log.note import Verifier

TEXT = "first line\n\nsecond, after an empty one: é ✓\n"


@pytest.fixture(scope="module")
def vectors(shared: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((shared / "vectors/notes/signed_note_checkpoint_cosignature.json").read_text())
    return found


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return PrivateKey.generate()


@pytest.fixture(scope="module")
def verifier(key: PrivateKey) -> Verifier:
    return Verifier.of("example.org/log", key.public)


@pytest.fixture(scope="module")
def signed(key: PrivateKey) -> str:
    return note.sign(TEXT, "example.org/log", key)


def line(name: str, signature: bytes) -> str:
    return f"— {name} {canonical.encode_base64(signature)}\n"


def test_published_notes(vectors: dict[str, Any]) -> None:
    for case in vectors["valid"]:
        verifier = Verifier.from_vkey(case["vkey"])
        assert verifier.vkey == case["vkey"]
        text = note.open_note(case["note"], [verifier])
        assert case["note"].startswith(f"{text}\n— {verifier.name} ")
        for place in range(len(text)):
            with pytest.raises(VerificationError):
                note.open_note(case["note"][:place] + "~" + case["note"][place + 1 :], [verifier])


def test_a_witness_cosignature_is_another_kind_of_signature(vectors: dict[str, Any], key: PrivateKey) -> None:
    for case in vectors["valid_cosignature_v1"]:
        with pytest.raises(VerificationError, match="not an Ed25519 key"):
            Verifier.from_vkey(case["vkey_type04"])
        with pytest.raises(VerificationError, match="not signed by a key that is trusted"):
            note.open_note(case["note"], [Verifier.of("mirror.example.org", key.public)])
        # next to a signature of ours it is ignored
        text, _, cosignature = case["note"].rpartition("\n\n")
        signed = note.sign(text + "\n", "example.org/log", key) + cosignature
        assert note.open_note(signed, [Verifier.of("example.org/log", key.public)]) == text + "\n"


def test_a_note_reads_back(signed: str, verifier: Verifier) -> None:
    assert note.open_note(signed, [verifier]) == TEXT
    assert note.open_with_signers(signed, [verifier]) == (TEXT, (verifier,))


def test_the_key_must_be_known_by_name_and_id(signed: str, key: PrivateKey, verifier: Verifier) -> None:
    for others in (
        [],
        [Verifier.of("example.org/other", key.public)],
        [Verifier.of(verifier.name, PrivateKey.generate().public)],
    ):
        with pytest.raises(VerificationError, match="not signed by a key that is trusted") as raised:
            note.open_note(signed, others)
        assert verifier.key_id.hex() in str(raised.value.hint)


def test_unknown_signatures_are_ignored(signed: str, key: PrivateKey, verifier: Verifier) -> None:
    stranger = line("stranger", b"\0\0\0\0?")
    same_name = line(verifier.name, b"\0\0\0\0" + bytes(64))
    same_id = line("stranger", verifier.key_id + bytes(64))
    text, _, ours = signed.rpartition("\n\n")
    mixed = f"{text}\n\n{stranger}{same_name}{ours}{same_id}{stranger}"
    assert note.open_note(mixed, [verifier]) == TEXT


def test_a_bad_signature_by_a_known_key_refuses_the_note(signed: str, key: PrivateKey, verifier: Verifier) -> None:
    second = PrivateKey.generate()
    other = Verifier.of("second", second.public)
    bad = line("second", other.key_id + second.sign(b"another text"))
    assert note.open_note(signed + bad, [verifier]) == TEXT  # nobody asked the second
    for verifiers in ([verifier, other], [other, verifier]):
        with pytest.raises(VerificationError, match="does not fit"):
            note.open_note(signed + bad, verifiers)
    good = line("second", other.key_id + second.sign(TEXT.encode()))
    assert note.open_with_signers(signed + good, [other, verifier]) == (TEXT, (verifier, other))


def test_the_number_of_signatures_is_bounded(signed: str, verifier: Verifier) -> None:
    unknown = line("stranger", b"\0\0\0\0?")
    assert note.open_note(signed + unknown * (note.MAX_SIGNATURES - 1), [verifier]) == TEXT
    with pytest.raises(VerificationError, match="101 signatures"):
        note.open_note(signed + unknown * note.MAX_SIGNATURES, [verifier])


def test_the_length_is_bounded(key: PrivateKey, verifier: Verifier) -> None:
    room = note.MAX_NOTE - len(note.sign("\n", verifier.name, key))
    fits = "a" * room + "\n"
    assert note.open_note(note.sign(fits, verifier.name, key), [verifier]) == fits
    with pytest.raises(VerificationError, match="longer"):
        note.open_note(note.sign("a" + fits, verifier.name, key), [verifier])


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.removesuffix("\n"),
        lambda text: text + "\n",
        lambda text: text.replace("\n\n— ", "\n— "),
        lambda text: text.replace("\n— ", "\n- "),
        lambda text: text.replace("\n— ", "\n—  "),
        lambda text: text.replace("\n— ", "\n—"),
        lambda text: text.replace("example.org/log ", "example.org/log"),
        lambda text: text.replace("example.org/log ", "example.org/log  "),
        lambda text: text.replace("example.org/log ", ""),
        lambda text: text.replace("example.org/log", "example+org/log"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\t" + text,
        lambda text: "\ud800" + text,
        lambda text: text.removesuffix("\n") + "=\n",
        lambda text: text.removesuffix("\n") + " \n",
        lambda text: text.removesuffix("\n") + " more\n",
        lambda text: text + "— example.org/log \n",
        lambda text: text + line("example.org/log", b"\0\0\0\0"),
        lambda text: text + "no signature\n",
        lambda text: "",
        lambda text: "\n\n",
        lambda text: "\n\n\n",
    ],
)
def test_a_note_has_one_form(signed: str, verifier: Verifier, change: Any) -> None:
    assert change(signed) != signed
    with pytest.raises(VerificationError):
        note.open_note(change(signed), [verifier])


@pytest.mark.parametrize("text", ["", "no newline", "a\r\n", "a\x00\n", "a\tb\n", "\ud800\n"])
def test_what_cannot_be_a_note_is_not_signed(key: PrivateKey, text: str) -> None:
    with pytest.raises(ValueError, match="newline"):
        note.sign(text, "name", key)


def test_nothing_is_signed_under_what_cannot_be_a_name(key: PrivateKey) -> None:
    with pytest.raises(ValueError, match="key name"):
        note.sign(TEXT, "a name", key)


VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "example.com/foo",
        "example.com/foo+530d903a",
        "example.com/foo+530d903a+",
        "+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        VKEY.replace("530d903a", "530D903A"),
        VKEY.replace("530d903a", "530d903b"),
        VKEY.replace("530d903a", "530d903"),
        VKEY.replace("530d903a", "0530d903a"),
        VKEY.replace("530d903a", "٣530d903"),
        VKEY.replace("example.com/foo", "example.com/bar"),
        VKEY.replace("example.com/foo", "example.com foo"),
        VKEY + "=",
        VKEY + "\n",
        VKEY[:-4],
        VKEY + "AAAA",
        VKEY.replace("+Ae", "+Au"),
    ],
)
def test_a_verifier_key_has_one_form(vkey: str) -> None:
    assert Verifier.from_vkey(VKEY).vkey == VKEY
    with pytest.raises(VerificationError):
        Verifier.from_vkey(vkey)


def test_base64_of_a_verifier_key_may_hold_a_plus() -> None:
    # only the first two are separators
    while "+" not in (vkey := PrivateKey.generate().public.vkey("name")).split("+", 2)[2]:
        pass
    assert Verifier.from_vkey(vkey).vkey == vkey
