from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ledger.errors import VerificationError
from ledger.log import canonical, checkpoint, note
from ledger.log.checkpoint import Checkpoint
from ledger.log.keys import PrivateKey
from ledger.log.merkle import EMPTY_ROOT
from ledger.log.note import Verifier

ROOT = bytes(range(32))
ENCODED = canonical.encode_base64(ROOT)


@pytest.fixture(scope="module")
def vectors(shared: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((shared / "vectors/notes/signed_note_checkpoint_cosignature.json").read_text())
    return found


def test_published_checkpoints(vectors: dict[str, Any]) -> None:
    sizes = []
    for case in vectors["valid"]:
        verifier = Verifier.from_vkey(case["vkey"])
        if verifier.name == "example.com/foo":  # the specification's example of a note, which is no checkpoint
            with pytest.raises(VerificationError, match="not a checkpoint"):
                checkpoint.open_checkpoint(case["note"], [verifier])
            continue
        opened = checkpoint.open_checkpoint(case["note"], [verifier])
        assert opened.origin == verifier.name
        assert case["note"].startswith(opened.body() + "\n— ")
        sizes.append(opened.size)
    assert sizes == [15, 0, 10]


def test_published_bodies_that_parse(vectors: dict[str, Any]) -> None:
    # their roots are not 32 bytes long, as C2SP demands and the parser that they come from does not: with one that is, they parse
    for body in vectors["checkpoint_body_parse_ok"]:
        with pytest.raises(VerificationError, match="not the root"):
            checkpoint.parse(body)
        origin, size, _, *rest = body.split("\n")
        corrected = "\n".join([origin, size, ENCODED, *rest])
        assert checkpoint.parse(corrected) == Checkpoint(origin, int(size), ROOT, tuple(rest[:-1]))
        assert checkpoint.parse(corrected).body() == corrected


def test_published_bodies_that_must_not_parse(vectors: dict[str, Any]) -> None:
    for body in vectors["checkpoint_body_parse_err"]:
        with pytest.raises(VerificationError):
            checkpoint.parse(body)
        # nor do they where the root, which is too long in the vectors, is not what is wrong
        lines = body.split("\n")
        if lines[2:] and lines[2].startswith("dGhl"):
            lines[2] = ENCODED
            with pytest.raises(VerificationError):
                checkpoint.parse("\n".join(lines))


@pytest.mark.parametrize(
    "body",
    [
        "",
        "\n\n\n",
        f"log\n1\n{ENCODED}",
        f"log\n1\n{ENCODED}\n\n",
        f"log\n1\n{ENCODED}\n\nextension\n",
        f"log\n1\n\n{ENCODED}\n",
        f"\n1\n{ENCODED}\n",
        f"log\n\n{ENCODED}\n",
        f"log\n01\n{ENCODED}\n",
        f"log\n+1\n{ENCODED}\n",
        f"log\n 1\n{ENCODED}\n",
        f"log\n1 \n{ENCODED}\n",
        f"log\n1_0\n{ENCODED}\n",
        f"log\n١\n{ENCODED}\n",
        f"log\n{2**63}\n{ENCODED}\n",
        f"log\n{'9' * 5000}\n{ENCODED}\n",
        f"log\n1\n{ENCODED[:-4]}\n",
        f"log\n1\n{ENCODED} \n",
        f"log\n1\n{ENCODED.removesuffix('=')}\n",
        f"log\n0\n{ENCODED}\n",
        "log\n1\n\n",
    ],
)
def test_a_body_has_one_form(body: str) -> None:
    with pytest.raises(VerificationError):
        checkpoint.parse(body)


def test_the_largest_and_the_smallest_tree() -> None:
    largest = Checkpoint("log", checkpoint.MAX_SIZE, ROOT)
    assert checkpoint.parse(largest.body()) == largest
    assert checkpoint.parse(Checkpoint("log", 0, EMPTY_ROOT).body()) == Checkpoint("log", 0, EMPTY_ROOT)


def test_a_signed_checkpoint_opens_for_its_origin_alone() -> None:
    key, other = PrivateKey.generate(), PrivateKey.generate()
    signed = checkpoint.sign_checkpoint(Checkpoint("example.org/log", 7, ROOT), key)
    verifiers = [Verifier.of("example.org/other", other.public), Verifier.of("example.org/log", key.public)]
    assert checkpoint.open_checkpoint(signed, verifiers) == Checkpoint("example.org/log", 7, ROOT)
    with pytest.raises(VerificationError, match="not signed by a key that is trusted"):
        checkpoint.open_checkpoint(signed, verifiers[:1])


def test_a_key_that_is_trusted_for_one_log_does_not_speak_for_another() -> None:
    key = PrivateKey.generate()
    body = Checkpoint("example.org/log", 7, ROOT).body()
    signed = note.sign(body, "example.org/other", key)
    with pytest.raises(VerificationError, match=r"'example.org/log' is signed by 'example.org/other' only"):
        checkpoint.open_checkpoint(
            signed, [Verifier.of("example.org/other", key.public), Verifier.of("example.org/log", key.public)]
        )


def test_a_trusted_signer_may_stand_beside_the_log() -> None:
    log, witness = PrivateKey.generate(), PrivateKey.generate()
    told = Checkpoint("example.org/log", 7, ROOT)
    signatures = note.sign(told.body(), "witness", witness).rpartition("\n\n")[2]
    verifiers = [Verifier.of("witness", witness.public), Verifier.of("example.org/log", log.public)]
    signed = checkpoint.sign_checkpoint(told, log)
    head, blank, ours = signed.rpartition("\n\n")
    assert checkpoint.open_checkpoint(head + blank + signatures + ours, verifiers) == told


@pytest.mark.parametrize(
    "told",
    [
        Checkpoint("log", -1, ROOT),
        Checkpoint("log", 0, ROOT),
        Checkpoint("log", 1, b"short"),
        Checkpoint("", 1, ROOT),
        Checkpoint("log", 1, ROOT, ("",)),
        Checkpoint("log", checkpoint.MAX_SIZE + 1, ROOT),
    ],
)
def test_what_no_reader_would_take_is_not_signed(told: Checkpoint) -> None:
    with pytest.raises(VerificationError):
        checkpoint.sign_checkpoint(told, PrivateKey.generate())


def test_an_origin_that_cannot_be_a_key_name_is_not_signed() -> None:
    with pytest.raises(ValueError, match="key name"):
        checkpoint.sign_checkpoint(Checkpoint("a log", 1, ROOT), PrivateKey.generate())
