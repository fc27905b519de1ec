"""verify.py against published vectors, and against OpenSSL's Ed25519: what another implementation must get right."""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import random
import re
import sys
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from standalone import ROOT, SOURCE, refused, run, verify

VECTORS_8032 = [  # RFC 8032 §7.1: public key, message, signature
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        b"",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        b"\x72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        b"\xaf\x82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        hashlib.sha512(b"abc").digest(),
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
]
SMALL_ORDER = [  # the eight points whose order divides 8
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
]
WRONGLY_WRITTEN = [  # RFC 8032 §5.1.3 refuses these: y is p or more, or x is 0 with the sign of another
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


def openssl(key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def both(key: bytes, message: bytes, signature: bytes) -> bool:
    found = bool(verify.signed_by(key, message, signature))
    assert found is openssl(key, message, signature), (key.hex(), message, signature.hex())
    return found


# What it is made of


def test_it_needs_the_standard_library_alone_and_shares_no_code() -> None:
    tree = ast.parse(SOURCE.read_text("utf-8"), feature_version=(3, 9))
    named = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    named |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert named <= sys.stdlib_module_names | {"collections.abc", "__future__"}
    assert "importlib" not in named
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Call) or getattr(node.func, "id", "") not in ("eval", "exec", "__import__", "compile")
        assert not isinstance(node, ast.Match | ast.TryStar)


def test_nothing_of_the_program_imports_it() -> None:
    for path in [*(ROOT / "ledger").rglob("*.py"), *(ROOT / "cli").rglob("*.py")]:
        assert not re.search(r"exporting(\.| import )verify", path.read_text("utf-8")), path


def test_it_calls_nothing_that_python_3_9_lacks() -> None:
    """What was added to the builtins and to the modules that it uses since; a machine with 3.9 is not at hand here."""
    text = SOURCE.read_text("utf-8")
    for name in (".bit_count(", "file_digest", "strict=", "pairwise", "UTC", "StrEnum", "batched", "aiter(", "EncodingWarning",
                 ".add_note(", "is_junction", "walk_up", "slots=", "kw_only", "tomllib", "hardlink_to"):  # fmt: skip
        assert name not in text, name


def test_it_runs_on_a_bare_python_and_says_how_it_is_called(tmp_path: Path) -> None:
    assert run("--help").code == 0
    assert (run().code, run("--trust", tmp_path / "absent", tmp_path).code) == (2, 1)
    assert run("--trust", SOURCE).code == 2  # it lies in no export


# RFC 8032


def test_the_vectors_of_rfc_8032() -> None:
    for key, message, signature in VECTORS_8032:
        assert both(bytes.fromhex(key), message, bytes.fromhex(signature))
        for at in (0, 31, 32, 63):
            wrong = bytearray.fromhex(signature)
            wrong[at] ^= 1
            assert not both(bytes.fromhex(key), message, bytes(wrong))
        assert not both(bytes.fromhex(key), message + b"\0", bytes.fromhex(signature))


def test_what_is_signed_by_openssl_and_what_is_nearly() -> None:
    dice = random.Random(8032)
    for _ in range(60):
        secret = Ed25519PrivateKey.from_private_bytes(dice.randbytes(32))
        key, message = secret.public_key().public_bytes_raw(), dice.randbytes(dice.randrange(200))
        signature = secret.sign(message)
        assert both(key, message, signature)
        near = bytearray(signature)
        near[dice.randrange(64)] ^= 1 << dice.randrange(8)
        assert not both(key, message, bytes(near))
        assert not both(dice.randbytes(32), message, signature)
        # S + L is the same number to the equation, and another signature: refused, or it would have two forms
        s = int.from_bytes(signature[32:], "little") + verify.L
        assert not both(key, message, signature[:32] + s.to_bytes(32, "little"))
        for cut in (b"", signature[:63], signature + b"\0", signature[:32]):
            assert not both(key, message, cut)


def test_a_point_r_that_is_wrongly_written_or_of_small_order() -> None:
    secret = Ed25519PrivateKey.from_private_bytes(bytes(32))
    key = secret.public_key().public_bytes_raw()
    for r in SMALL_ORDER + WRONGLY_WRITTEN:
        for s in (bytes(32), secret.sign(b"m")[32:]):
            assert not both(key, b"m", bytes.fromhex(r) + s)


def test_keys_by_which_anybody_can_sign_are_refused_where_openssl_takes_them() -> None:
    """The one difference, and why: for such a key R = the neutral point and S = 0 is a signature of some messages, or of all."""
    taken = 0
    for key in map(bytes.fromhex, SMALL_ORDER + WRONGLY_WRITTEN):
        for number in range(64):
            forged = (b"%d" % number, bytes.fromhex(SMALL_ORDER[0]) + bytes(32))
            assert not verify.signed_by(key, *forged)
            taken += openssl(key, *forged)
    assert taken > 64
    # and of mixed order: a good key with a point of order 8 added to it
    good = verify.times(12345, verify.BASE)
    mixed = verify.point_to_bytes(verify.add(good, verify.point_from_bytes(bytes.fromhex(SMALL_ORDER[4]))))
    assert verify.public_key(verify.point_to_bytes(good)) and verify.public_key(mixed) is None


def test_a_trust_file_with_such_a_key_is_refused() -> None:
    for key in SMALL_ORDER:
        data = b"\x01" + bytes.fromhex(key)
        key_id = hashlib.sha256(b"log\n" + data).digest()[:4].hex()
        assert "none that Ed25519 allows" in refused(verify.Trust, f"log log+{key_id}+{base64.b64encode(data).decode()}")


# RFC 6962, RFC 9162, C2SP, DSSE


def probes(shared: Path, kind: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in (shared / "vectors/transparency-dev-merkle/testdata" / kind).rglob("*.json")]


def decoded(values: list[str] | None) -> list[bytes]:
    return [base64.b64decode(value) for value in values or []]


def test_every_probe_of_transparency_dev(shared: Path) -> None:
    inclusion, consistency = probes(shared, "inclusion"), probes(shared, "consistency")
    for probe in inclusion:
        leaf, root = decoded([probe["leafHash"], probe["root"]])
        why = refused(verify.check_inclusion, leaf, probe["leafIdx"], probe["treeSize"], decoded(probe["proof"]), root)
        assert bool(why) is probe["wantErr"], (probe, why)
    for probe in consistency:
        old, new = decoded([probe["root1"], probe["root2"]])
        why = refused(verify.check_consistency, probe["size1"], old, probe["size2"], new, decoded(probe["proof"]))
        assert bool(why) is probe["wantErr"], (probe, why)
    assert min(len(inclusion), len(consistency)) > 90
    assert min(sum(not probe["wantErr"] for probe in found) for found in (inclusion, consistency)) >= 6


def test_the_reference_tree(shared: Path) -> None:
    reference = json.loads((shared / "vectors/rfc6962_reference_tree.json").read_text())
    leaves = [verify.leaf_hash(bytes.fromhex(text)) for text in reference["leaf_inputs_hex"]]
    assert [leaf.hex() for leaf in leaves] == reference["leaf_hashes_hex"]
    roots = [bytes.fromhex(text) for text in reference["root_by_size_hex"]]
    assert roots[0] == verify.EMPTY_TREE
    from tests.log.rfc6962 import Definition

    tree = Definition([bytes.fromhex(text) for text in reference["leaf_inputs_hex"]])
    for size in range(1, 9):
        for index in range(size):
            found = verify.check_inclusion(leaves[index], index, size, tree.path(index, 0, size), roots[size])
            assert found == {at: roots[at] for at in {index or 1, index + 1, size}}
        for old in range(1, size + 1):
            verify.check_consistency(old, roots[old], size, roots[size], tree.proof(old, size))


def test_published_notes_checkpoints_and_cosignatures(shared: Path) -> None:
    published = json.loads((shared / "vectors/notes/signed_note_checkpoint_cosignature.json").read_text())
    for case in published["valid"]:
        key = verify.Key(case["vkey"], verify.SIGNS)
        text, signatures = verify.parse_note(case["note"])
        held = [verify.signed_by(key.raw, text.encode(), sig) for name, at, sig in signatures if (name, at) == (key.name, key.id)]
        assert held == [True]
        assert not verify.signed_by(key.raw, text.encode() + b" ", signatures[0][2])
    for case in published["valid_cosignature_v1"]:
        key = verify.Key(case["vkey_type04"], verify.COSIGNS)
        assert refused(verify.Key, case["vkey_type04"], verify.SIGNS)
        text, signatures = verify.parse_note(case["note"])
        times = [verify.cosigned_at(key, text, sig) for name, at, sig in signatures if (name, at) == (key.name, key.id)]
        assert times == [case["timestamp"]]
        assert verify.cosigned_at(key, text.replace("\n300\n", "\n301\n"), signatures[0][2]) is None
    for body in published["checkpoint_body_parse_err"]:
        assert refused(verify.parse_checkpoint, body), body
    # of those that others' parsers take, some have roots that are no SHA-256: as the first implementation, so this one
    from ledger.errors import VerificationError
    from ledger.log import checkpoint

    for body in published["checkpoint_body_parse_ok"]:
        try:
            checkpoint.parse(body)
            ours = True
        except VerificationError:
            ours = False
        assert ours is not bool(refused(verify.parse_checkpoint, body)), body


def test_published_proofs(shared: Path) -> None:
    published = json.loads((shared / "vectors/notes/tlog_proof.json").read_text())
    trust = verify.Trust(f"log {published['vkey']}\n")
    for case in published["valid_derived"]:
        index, path, note, extra = verify.parse_proof(case["proof"])
        _, size, root = trust.open_checkpoint(note)
        leaf = verify.leaf_hash(case["leaf_utf8"].encode())
        assert (index, extra) == (case["index"], None)
        assert verify.check_inclusion(leaf, index, size, path, root)[size] == root
        assert refused(verify.check_inclusion, leaf, index ^ 1, size, path, root)
        assert refused(verify.check_inclusion, verify.leaf_hash(b"!"), index, size, path, root)
    for case in published["marshal"]:
        hashes = [hashlib.sha256(text.encode()).digest() for text in case["hashes_sha256_of"]]
        extra = None if case["extra"] is None else case["extra"].encode()
        assert verify.parse_proof(case["want"]) == (case["index"], hashes, case["checkpoint"], extra)
    for text, why in published["parse_err"]:
        assert refused(verify.parse_proof, text), why


def test_published_tile_paths(shared: Path) -> None:
    published = json.loads((shared / "vectors/tlog-tiles/paths.json").read_text())
    for case in published["tile_path"]:
        assert verify.tile_path(case["level"], case["index"], case["partial"] or 256) == case["path"]
    for case in published["entries_path"]:
        assert verify.tile_path("entries", case["index"], case["partial"] or 256) == case["path"]
    for case in published["entries_path_for_log_index"]:
        number = case["seq"] // 256
        assert verify.tile_path("entries", number, min(256, case["size"] - number * 256)) == case["path"]
    for wrong in ((64, 0, 256), (-1, 0, 256), ("x", 0, 256), (0, -1, 256), (0, 2**64, 256), (0, 0, 0), (0, 0, 257)):
        assert refused(verify.tile_path, *wrong), wrong


def test_published_pre_authentication_encodings(shared: Path) -> None:
    published = json.loads((shared / "vectors/dsse/dsse_vectors.json").read_text())
    for case in [published, *published["extra_derived_pae"]]:
        made = verify.pre_authentication_encoding(case["payloadType"], case["payload_utf8"].encode())
        assert made == case["pae_utf8"].encode()
    assert refused(verify.open_envelope, verify.canonical(published["envelope"]), [])
