from __future__ import annotations

import base64
import json
import random
from pathlib import Path

import pytest
from rfc6962 import Definition

from ledger.errors import VerificationError
from ledger.log import merkle

SIZES = 600
EVERY_INDEX_OF = [*range(1, 66), 127, 128, 129, 200, 255, 256, 257, 511, 512, 513, 599, 600]


@pytest.fixture(scope="module")
def tree() -> Definition:
    return Definition([f"entry {number}".encode() for number in range(SIZES)])


def flipped(value: bytes) -> bytes:
    return value[:-1] + bytes([value[-1] ^ 1])


def refused(check: object, *arguments: object) -> bool:
    try:
        check(*arguments)  # type: ignore[operator]
    except VerificationError:
        return True
    return False


# Published vectors. The probes of subtree inclusion and subtree consistency do not apply: they are of a draft's proofs about
# subtrees, which this log neither makes nor reads.


def probes(shared: Path, kind: str) -> list[dict[str, object]]:
    files = sorted((shared / "vectors/transparency-dev-merkle/testdata" / kind).rglob("*.json"))
    return [json.loads(file.read_text()) | {"file": str(file)} for file in files]


def decoded(values: list[str] | None) -> list[bytes]:
    return [base64.b64decode(value) for value in values or []]


def test_every_inclusion_probe_of_transparency_dev(shared: Path) -> None:
    found = probes(shared, "inclusion")
    for probe in found:
        leaf, root = decoded([probe["leafHash"], probe["root"]])
        arguments = leaf, probe["leafIdx"], probe["treeSize"], decoded(probe["proof"]), root
        assert refused(merkle.verify_inclusion, *arguments) is probe["wantErr"], probe["file"]
    assert sum(not probe["wantErr"] for probe in found) >= 6
    assert len(found) > 90


def test_every_consistency_probe_of_transparency_dev(shared: Path) -> None:
    found = probes(shared, "consistency")
    for probe in found:
        old, new = decoded([probe["root1"], probe["root2"]])
        arguments = probe["size1"], old, probe["size2"], new, decoded(probe["proof"])
        assert refused(merkle.verify_consistency, *arguments) is probe["wantErr"], probe["file"]
    assert sum(not probe["wantErr"] for probe in found) >= 6
    assert len(found) > 90


def test_the_reference_tree(shared: Path) -> None:
    reference = json.loads((shared / "vectors/rfc6962_reference_tree.json").read_text())
    entries = [bytes.fromhex(text) for text in reference["leaf_inputs_hex"]]
    leaves = [merkle.leaf_hash(entry) for entry in entries]
    assert [leaf.hex() for leaf in leaves] == reference["leaf_hashes_hex"]
    edge, tree = merkle.RightEdge(), Definition(entries)
    roots = [edge.root().hex()]
    for leaf in leaves:
        edge.append(leaf)
        roots.append(edge.root().hex())
    assert roots == reference["root_by_size_hex"]
    assert [merkle.root(size, tree.node).hex() for size in range(9)] == reference["root_by_size_hex"]


# Against the definition.


def test_roots_of_all_sizes(tree: Definition) -> None:
    edge = merkle.RightEdge()
    for size in range(SIZES + 1):
        expected = tree.mth(0, size)
        assert merkle.root(size, tree.node) == expected
        assert edge.root() == expected
        assert edge.size == size
        if size < SIZES:
            edge.append(merkle.leaf_hash(tree.entries[size]))


def test_the_right_edge_is_the_roots_of_the_perfect_subtrees_largest_first(tree: Definition) -> None:
    for size in range(SIZES + 1):
        edge, start, expected = merkle.RightEdge(), 0, []
        edge.extend(tree.leaves(0, size))
        for level in reversed(range(size.bit_length())):
            if size >> level & 1:
                expected.append(tree.mth(start, start + (1 << level)))
                start += 1 << level
        assert edge.hashes == tuple(expected)


def test_the_right_edge_grows_alike_in_any_batches_and_across_being_stored(tree: Definition) -> None:
    dice = random.Random(6962)
    for _ in range(60):
        edge = merkle.RightEdge()
        while edge.size < SIZES:
            added = min(dice.choice([0, 1, 2, 3, 5, 17, 64, 100, 255, 256, 257]), SIZES - edge.size)
            edge.extend(iter(tree.leaves(edge.size, edge.size + added)))
            edge = merkle.RightEdge(edge.size, edge.hashes)
            assert edge.root() == tree.mth(0, edge.size)


def test_a_right_edge_that_breaks_off_is_left_as_it_was(tree: Definition) -> None:
    edge = merkle.RightEdge()
    edge.extend(tree.leaves(0, 7))
    with pytest.raises(TypeError):
        edge.extend([None, tree.mth(8, 9)])  # type: ignore[list-item]
    assert (edge.size, edge.root()) == (7, tree.mth(0, 7))


@pytest.mark.parametrize(
    "size, hashes", [(-1, []), (0, [b"a" * 32]), (3, [b"a" * 32]), (1, []), (1, [b"short"]), (2, [b"a" * 32] * 2)]
)
def test_a_right_edge_whose_hashes_do_not_fit_its_size_is_refused(size: int, hashes: list[bytes]) -> None:
    with pytest.raises(ValueError, match="right edge"):
        merkle.RightEdge(size, hashes)


def test_inclusion_proofs_of_every_leaf(tree: Definition) -> None:
    for size in EVERY_INDEX_OF:
        root = tree.mth(0, size)
        for index in range(size):
            proof = merkle.inclusion_proof(index, size, tree.node)
            assert proof == tree.path(index, 0, size)
            leaf = tree.mth(index, index + 1)
            assert merkle.root_from_inclusion(leaf, index, size, proof) == root
            merkle.verify_inclusion(leaf, index, size, proof, root)


def test_an_inclusion_proof_holds_for_nothing_else(tree: Definition) -> None:
    for size in [1, 2, 3, 7, 8, 9, 33, 257]:
        root = tree.mth(0, size)
        for index in {0, size // 2, size - 1}:
            leaf, proof = tree.mth(index, index + 1), tree.path(index, 0, size)
            wrong = [
                (flipped(leaf), index, size, proof, root),
                (leaf, index, size, proof, flipped(root)),
                (leaf, index, size, [*proof, root], root),
                (leaf, -1, size, proof, root),
                (leaf, size, size, proof, root),
                (leaf, index, 0, proof, root),
                (leaf[:-1], index, size, proof, root),
                *((leaf, other, size, proof, root) for other in range(size) if other != index),
                *((leaf, index, size, [*proof[:at], flipped(proof[at]), *proof[at + 1 :]], root) for at in range(len(proof))),
                *((leaf, index, size, [*proof[:at], *proof[at + 1 :]], root) for at in range(len(proof))),
                *((leaf, index, size, [*proof[:at], proof[at][:-1], *proof[at + 1 :]], root) for at in range(len(proof))),
            ]
            for arguments in wrong:
                assert refused(merkle.verify_inclusion, *arguments), arguments


def test_bytes_moved_between_hashes_do_not_pass(tree: Definition) -> None:
    # 0x01 || left || right hashes alike wherever the border is: only the length of each keeps it in place
    left, right = tree.mth(0, 1), tree.mth(1, 2)
    assert refused(merkle.verify_inclusion, left + right[:1], 0, 2, [right[1:]], tree.mth(0, 2))
    assert refused(merkle.verify_consistency, 1, left + right[:1], 2, tree.mth(0, 2), [right[1:]])


def consistency_pairs() -> list[tuple[int, int]]:
    dice = random.Random(9162)
    small = [(old, new) for new in range(1, 34) for old in range(1, new + 1)]
    edges = [1, 127, 128, 129, 255, 256, 257, 511, 512, 513, 600]
    sampled = [tuple(sorted((dice.randint(1, SIZES), dice.randint(1, SIZES)))) for _ in range(400)]
    return [*small, *((old, new) for old in edges for new in edges if old <= new), *sampled]  # type: ignore[list-item]


def test_consistency_proofs(tree: Definition) -> None:
    for old, new in consistency_pairs():
        proof = merkle.consistency_proof(old, new, tree.node)
        assert proof == tree.proof(old, new)
        merkle.verify_consistency(old, tree.mth(0, old), new, tree.mth(0, new), proof)


def test_a_consistency_proof_holds_for_nothing_else(tree: Definition) -> None:
    for old, new in [(1, 1), (1, 2), (2, 3), (3, 3), (3, 7), (4, 7), (6, 8), (7, 8), (8, 9), (128, 257), (129, 256)]:
        before, after, proof = tree.mth(0, old), tree.mth(0, new), tree.proof(old, new)
        wrong = [
            (old, flipped(before), new, after, proof),
            (old, before, new, flipped(after), proof),
            (old, before, new, after, [*proof, after]),
            (old, before[:-1], new, after, proof),
            (old - 1, before, new, after, proof),
            (old + 1, before, new, after, proof),
            (new + 1, before, new, after, proof),
            (0, before, new, after, proof),
            (-1, before, new, after, proof),
            *((old, before, new, after, [*proof[:at], flipped(proof[at]), *proof[at + 1 :]]) for at in range(len(proof))),
            *((old, before, new, after, [*proof[:at], *proof[at + 1 :]]) for at in range(len(proof))),
            *((old, before, new, after, [*proof[:at], proof[at][:-1], *proof[at + 1 :]]) for at in range(len(proof))),
        ]
        for arguments in wrong:
            assert refused(merkle.verify_consistency, *arguments), arguments


def test_nothing_is_proved_from_the_empty_tree(tree: Definition) -> None:
    assert refused(merkle.verify_consistency, 0, merkle.EMPTY_ROOT, 1, tree.mth(0, 1), [])
    assert refused(merkle.verify_consistency, 0, merkle.EMPTY_ROOT, 0, merkle.EMPTY_ROOT, [])


@pytest.mark.parametrize("index, size", [(0, 0), (-1, 3), (3, 3)])
def test_no_inclusion_proof_of_a_leaf_that_is_not_there(tree: Definition, index: int, size: int) -> None:
    with pytest.raises(ValueError, match="no leaf"):
        merkle.inclusion_proof(index, size, tree.node)


@pytest.mark.parametrize("old, new", [(0, 3), (-1, 3), (4, 3)])
def test_no_consistency_proof_backwards_or_from_nothing(tree: Definition, old: int, new: int) -> None:
    with pytest.raises(ValueError, match="no consistency proof"):
        merkle.consistency_proof(old, new, tree.node)


def test_no_root_of_less_than_nothing(tree: Definition) -> None:
    with pytest.raises(ValueError, match="-1 leaves"):
        merkle.root(-1, tree.node)
