from __future__ import annotations

import json
from pathlib import Path

import pytest

from ledger.errors import VerificationError
from ledger.log import cosignature
from ledger.log.cosignature import Witness
from ledger.log.keys import PrivateKey


def test_a_published_cosignature_verifies_and_says_when(shared: Path) -> None:
    published = json.loads((shared / "vectors/notes/signed_note_checkpoint_cosignature.json").read_text())
    for case in published["valid_cosignature_v1"]:
        witness = Witness.from_vkey(case["vkey_type04"])
        assert witness.vkey == case["vkey_type04"]
        assert cosignature.cosigners(case["note"], (witness,)) == {witness: case["timestamp"]}
        for changed in (case["note"].replace("\n300\n", "\n301\n"), case["note"].replace("AAAABpVGeA", "AAAABpVGeB")):
            assert changed != case["note"]
            with pytest.raises(VerificationError):
                cosignature.cosigners(changed, (witness,))


def test_what_is_made_is_what_is_read() -> None:
    key = PrivateKey.generate()
    witness = Witness("w.example", key.public)
    line = cosignature.cosign("log\n1\nroot\n", witness.name, key, 7)
    assert cosignature.cosigners(f"log\n1\nroot\n\n{line}", (witness,)) == {witness: 7}
    assert cosignature.cosigners(f"log\n1\nroot\n\n{line}", (Witness("other.example", key.public),)) == {}


def test_a_key_of_another_type_is_no_witness() -> None:
    with pytest.raises(VerificationError, match="not the key of a witness"):
        Witness.from_vkey(PrivateKey.generate().public.vkey("w.example"))
