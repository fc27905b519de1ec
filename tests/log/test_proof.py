from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from rfc6962 import Definition

from ledger.errors import VerificationError
from ledger.log import canonical, merkle, proof
from ledger.log.checkpoint import Checkpoint, sign_checkpoint
from ledger.log.keys import PrivateKey
from ledger.log.note import Verifier
from ledger.log.proof import HEADER, TlogProof

HASH = canonical.encode_base64(bytes(32))


@pytest.fixture(scope="module")
def vectors(shared: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((shared / "vectors/notes/tlog_proof.json").read_text())
    return found


def test_proofs_over_the_log_of_tessera(vectors: dict[str, Any]) -> None:
    verifiers = [Verifier.from_vkey(vectors["vkey"])]
    for case in vectors["valid_derived"]:
        entry = case["leaf_utf8"].encode()
        parsed = proof.parse(case["proof"])
        assert parsed.format() == case["proof"]
        assert parsed.index == case["index"]
        assert canonical.encode_base64(merkle.leaf_hash(entry)) == case["leaf_hash"]
        assert proof.verify_entry(entry, case["proof"], verifiers).size == 15
        assert proof.verify_entry(entry, parsed, verifiers).origin == verifiers[0].name
        for wrong in (
            replace(parsed, index=parsed.index ^ 1),
            replace(parsed, index=15),
            replace(parsed, hashes=parsed.hashes[1:]),
            replace(parsed, hashes=parsed.hashes[::-1]),
            replace(parsed, checkpoint=parsed.checkpoint.replace("\n15\n", "\n16\n")),
        ):
            with pytest.raises(VerificationError):
                proof.verify_entry(entry, wrong, verifiers)
        with pytest.raises(VerificationError):
            proof.verify_entry(entry + b"!", parsed, verifiers)
        with pytest.raises(VerificationError):
            proof.verify_entry(entry, parsed, [])


def test_published_forms(vectors: dict[str, Any]) -> None:
    for case in vectors["marshal"]:
        hashes = tuple(sha256(text.encode()).digest() for text in case["hashes_sha256_of"])
        extra = None if case["extra"] is None else case["extra"].encode()
        made = TlogProof(case["index"], hashes, case["checkpoint"], extra)
        assert made.format() == case["want"]
        assert proof.parse(case["want"]) == made


def test_published_forms_that_must_not_parse(vectors: dict[str, Any]) -> None:
    for text, why in vectors["parse_err"]:
        with pytest.raises(VerificationError):
            proof.parse(text)
            pytest.fail(why)


def test_every_entry_of_a_log_of_ours_is_proved() -> None:
    key = PrivateKey.generate()
    verifiers = [Verifier.of("log", key.public)]
    tree = Definition([sha256(b"%d" % number).digest() for number in range(41)])
    told = Checkpoint("log", 41, tree.mth(0, 41))
    signed = sign_checkpoint(told, key)
    texts = [TlogProof(index, tuple(tree.path(index, 0, 41)), signed).format() for index in range(41)]
    for index, entry in enumerate(tree.entries):
        assert proof.verify_entry(entry, texts[index], verifiers) == told
        with pytest.raises(VerificationError):
            proof.verify_entry(entry, texts[(index + 1) % 41], verifiers)


def test_extra_data_comes_back_and_empty_extra_data_is_none() -> None:
    made = TlogProof(3, (bytes(32),), "checkpoint\n", b"\x00extra")
    assert proof.parse(made.format()) == made
    assert proof.parse(replace(made, extra=b"").format()) == replace(made, extra=None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEADER,
        f"{HEADER}\nindex 0\n\n",
        f"{HEADER}\n\ncheckpoint\n",
        f"{HEADER}\nextra AAAA\n\ncheckpoint\n",
        f"{HEADER}\nextra \nindex 0\n\ncheckpoint\n",
        f"{HEADER}\nextra AB==\nindex 0\n\ncheckpoint\n",
        f"{HEADER}\nindex 0\nextra AAAA\n\ncheckpoint\n",
        f"{HEADER}\nextra AAAA\nextra AAAA\nindex 0\n\ncheckpoint\n",
        f"{HEADER}\nindex 00\n\ncheckpoint\n",
        f"{HEADER}\nindex +1\n\ncheckpoint\n",
        f"{HEADER}\nindex  1\n\ncheckpoint\n",
        f"{HEADER}\nindex 1 \n\ncheckpoint\n",
        f"{HEADER}\nindex ١\n\ncheckpoint\n",
        f"{HEADER}\nindex {2**63}\n\ncheckpoint\n",
        f"{HEADER}\nindex {'9' * 5000}\n\ncheckpoint\n",
        f"{HEADER}\nindex 1\n{HASH} \n\ncheckpoint\n",
        f"{HEADER}\nindex 1\n{HASH}\r\n\ncheckpoint\n",
        f"{HEADER}\nindex 1\n{HASH}\n{HASH[:-4]}\n\ncheckpoint\n",
        f" {HEADER}\nindex 1\n\ncheckpoint\n",
        f"{HEADER}\r\nindex 1\n\ncheckpoint\n",
    ],
)
def test_a_proof_has_one_form(text: str) -> None:
    with pytest.raises(VerificationError):
        proof.parse(text)


def test_the_number_of_hashes_is_bounded() -> None:
    most = TlogProof(proof.MAX_SIZE, (bytes(32),) * 63, "checkpoint\n")
    assert proof.parse(most.format()) == most
    with pytest.raises(VerificationError, match="64 hashes"):
        proof.parse(replace(most, hashes=(bytes(32),) * 64).format())


def test_the_length_is_bounded() -> None:
    empty = TlogProof(0, (), "c")
    fits = replace(empty, checkpoint="c" * (proof.MAX_PROOF - len(empty.format()) + 1))
    assert proof.parse(fits.format()) == fits
    with pytest.raises(VerificationError, match="longer"):
        proof.parse(fits.format() + "c")
