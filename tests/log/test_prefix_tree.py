"""Prefix trees against a definition written another way: over all bits as text, by recursion over sets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import VerificationError
from ledger.log import prefix_tree
from ledger.log.prefix_tree import PrefixTree, Proof

SEED = bytes(range(32))


def h(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def by_definition(leaves: Mapping[str, bytes]) -> bytes:
    """leaves: value by the index's 256 bits, as text of 0 and 1; what is left of them further down."""
    full = {bits: (bits, value) for bits, value in leaves.items()}

    def root(rest: dict[str, tuple[str, bytes]]) -> bytes:
        if not rest:
            return h(b"\x12")
        if len(rest) == 1:
            [(bits, value)] = rest.values()
            return h(b"\x10" + int(bits, 2).to_bytes(32, "big") + value)
        halves = [root({bits[1:]: own for bits, own in rest.items() if bits[0] == first}) for first in "01"]
        return h(b"\x11" + b"".join(halves))

    return root(full)


def bits(index: bytes) -> str:
    return f"{int.from_bytes(index, 'big'):0256b}"


def tree_of(leaves: Mapping[bytes, bytes]) -> PrefixTree:
    return PrefixTree(leaves.items())


hashes = st.binary(min_size=32, max_size=32)
# Half of the indices share a long prefix with others: random ones part within a few bits.
close = st.builds(lambda n, at: (1 << at | n).to_bytes(32, "big"), st.integers(0, 7), st.integers(0, 255))
trees = st.dictionaries(hashes | close, hashes, max_size=6)


@settings(max_examples=40)
@given(trees)
def test_the_root_is_that_of_the_definition(leaves: dict[bytes, bytes]) -> None:
    assert tree_of(leaves).root() == by_definition({bits(index): value for index, value in leaves.items()})


@settings(max_examples=40)
@given(trees, hashes | close)
def test_presence_and_absence_are_proven(leaves: dict[bytes, bytes], other: bytes) -> None:
    tree = tree_of(leaves)
    for index in (*leaves, other):
        proof = tree.prove(index)
        assert prefix_tree.verify(proof, index, tree.root()) == (index in leaves)
        if index in leaves:
            assert proof.end == (index, leaves[index])


@settings(max_examples=40)
@given(trees, hashes | close)
def test_no_proof_of_one_is_one_of_the_other(leaves: dict[bytes, bytes], other: bytes) -> None:
    """What verifies for another index never says that it is there, and never that one is absent that is there."""
    tree = tree_of(leaves)
    root = tree.root()
    for index in leaves:
        proof = tree.prove(index)
        for asked in (other, *leaves):
            if asked == index:
                continue
            try:
                said = prefix_tree.verify(proof, asked, root)
            except VerificationError:
                continue
            assert not said and asked not in leaves


def flipped(proof: Proof, at: int) -> Proof:
    parts = [*proof.path, *(proof.end or ())]
    parts[at >> 8] = (int.from_bytes(parts[at >> 8], "big") ^ 1 << (at & 255)).to_bytes(32, "big")
    return Proof(tuple(parts[: len(proof.path)]), None if proof.end is None else (parts[-2], parts[-1]))


def test_each_flipped_bit_fails() -> None:
    leaves = {h(b"%d" % number): h(b"") for number in range(9)}
    tree = tree_of(leaves)
    for index in (h(b"1"), h(b"absent"), h(b"absent too")):
        proof = tree.prove(index)
        for at in range(256 * (len(proof.path) + 2 * (proof.end is not None))):
            with pytest.raises(VerificationError):
                prefix_tree.verify(flipped(proof, at), index, tree.root())


@settings(max_examples=40)
@given(trees, hashes | close, st.integers(0, 1 << 20))
def test_a_flipped_bit_fails(leaves: dict[bytes, bytes], other: bytes, at: int) -> None:
    tree = tree_of(leaves)
    for index in (*leaves, other):
        proof = tree.prove(index)
        if bits_of := 256 * (len(proof.path) + 2 * (proof.end is not None)):
            with pytest.raises(VerificationError):
                prefix_tree.verify(flipped(proof, at % bits_of), index, tree.root())


def indices(*numbers: int) -> list[bytes]:
    return [number.to_bytes(32, "big") for number in numbers]


def test_no_one_and_two_subjects_by_hand() -> None:
    low, high = indices(5, 1 << 255)
    assert PrefixTree([]).root() == h(b"\x12") and len(PrefixTree([])) == 0
    assert PrefixTree([]).prove(low) == Proof((), None)
    one = PrefixTree([(low, bytes(32))])
    assert one.root() == h(b"\x10" + low + bytes(32)) and len(one) == 1
    assert one.prove(high) == Proof((), (low, bytes(32))) and not prefix_tree.verify(one.prove(high), high, one.root())
    two = PrefixTree([(high, bytes(32)), (low, bytes(32))])
    assert two.root() == h(b"\x11" + h(b"\x10" + low + bytes(32)) + h(b"\x10" + high + bytes(32)))


def test_indices_that_part_at_their_last_bit() -> None:
    first, second, elsewhere = indices(6, 7, 1 << 255)
    tree = PrefixTree([(first, bytes(32)), (second, bytes(32))])
    proof = tree.prove(second)
    assert len(proof.path) == 256 and proof.path[:255] == (prefix_tree.EMPTY,) * 255
    assert prefix_tree.verify(proof, second, tree.root())
    absent = tree.prove(elsewhere)
    assert absent.end is None and len(absent.path) == 1 and not prefix_tree.verify(absent, elsewhere, tree.root())


def test_an_index_that_comes_twice_is_refused() -> None:
    [index] = indices(1)
    with pytest.raises(ValueError, match="twice"):
        PrefixTree([(index, bytes(32)), (index, b"\1" * 32)])


def test_hostile_proofs_are_refused() -> None:
    own, other, root = *indices(1, 2), PrefixTree([]).root()
    for proof in (
        Proof((bytes(32),) * 257, None),
        Proof((bytes(31),), None),
        Proof((), (own, bytes(33))),
        Proof((), (own[1:], bytes(32))),
        Proof((bytes(32),) * 255, (other, bytes(32))),
        Proof((), (own, bytes(32))),
    ):
        with pytest.raises(VerificationError):
            prefix_tree.verify(proof, own, root)
    with pytest.raises(VerificationError):
        prefix_tree.verify(Proof((), None), own[1:], root)


def test_a_node_is_no_leaf() -> None:
    """Bytes of two hashes are hashed otherwise as a node than as a leaf: neither can be shown as the other."""
    first, second = indices(0, 1 << 255)
    tree = PrefixTree([(first, bytes(32)), (second, bytes(32))])
    left, right = (prefix_tree.leaf(index, bytes(32)) for index in (first, second))
    with pytest.raises(VerificationError):
        prefix_tree.verify(Proof((), (left, right)), left, tree.root())


def test_index_and_value_by_hand() -> None:
    assert prefix_tree.index(SEED, "ü1") == h(b"consent-ledger/index/v1\n" + SEED + "ü1".encode())
    assert prefix_tree.value(b"", {"rows": 3}) == h(b'consent-ledger/value/v1\n{"rows":3}')
    assert prefix_tree.value(SEED, {"rows": []}) == h(b"consent-ledger/value/v1\n" + SEED + b'{"rows":[]}')
