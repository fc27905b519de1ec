from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from rfc6962 import Definition

from ledger.errors import IntegrityError, VerificationError
from ledger.log import merkle, tiles

Stored = dict[tuple[int, int], bytes]


def expected(tree: Definition, size: int) -> Stored:
    """Every tile of a tree of that size, as the words of tlog-tiles define it."""
    stored: Stored = {}
    level = 0
    while span := size // 256**level:
        for index in range(-(-span // 256)):
            places = range(index * 256, min(span, (index + 1) * 256))
            stored[level, index] = b"".join(tree.mth(place * 256**level, (place + 1) * 256**level) for place in places)
        level += 1
    return stored


def grow(stored: Stored, tree: Definition, size: int, added: int) -> Stored:
    """Apply an extension to what is stored, and return what changed."""
    changed = tiles.extend(size, tree.leaves(size, size + added), lambda level, index: stored[level, index])
    stored.update(changed)
    return changed


def batches(total: int, dice: random.Random) -> Iterator[tuple[int, int]]:
    size = 0
    while size < total:
        added = min(dice.choice([1, 2, 3, 100, 254, 255, 256, 257, 511, 513]), total - size)
        yield size, added
        size += added


def test_tiles_of_all_sizes_to_600() -> None:
    tree, stored = Definition([b"%d" % number for number in range(600)]), {}
    for size in range(600):
        grow(stored, tree, size, 1)
        assert stored == expected(tree, size + 1)


def test_tiles_grow_alike_in_any_batches_and_the_tree_reads_back_from_them() -> None:
    tree, dice = Definition([b"%d" % number for number in range(2100)]), random.Random(256)
    for _ in range(12):
        stored: Stored = {}
        edge = merkle.RightEdge()
        for size, added in batches(2100, dice):
            before = dict(stored)
            changed = grow(stored, tree, size, added)
            end = size + added
            assert stored == expected(tree, end)
            assert all(before.get(place) != tile and tile.startswith(before.get(place, b"")) for place, tile in changed.items())
            node = tiles.node_reader(lambda level, index, stored=stored: stored[level, index])  # type: ignore[misc]
            edge.extend(tree.leaves(size, end))
            assert merkle.root(end, node) == edge.root() == tree.mth(0, end)
            place = dice.randrange(end)
            assert merkle.inclusion_proof(place, end, node) == tree.path(place, 0, end)
            old = dice.randint(1, end)
            assert merkle.consistency_proof(old, end, node) == tree.proof(old, end)


def test_three_levels_of_tiles() -> None:
    total = 65536 + 300
    tree, stored = Definition([b"%d" % number for number in range(total)]), {}
    for size, end in [(0, 65535), (65535, 65536), (65536, total)]:
        grow(stored, tree, size, end - size)
    assert stored == expected(tree, total)
    assert {level for level, _ in stored} == {0, 1, 2}
    node = tiles.node_reader(lambda level, index: stored[level, index])
    assert merkle.root(total, node) == tree.mth(0, total)
    assert merkle.consistency_proof(65535, total, node) == tree.proof(65535, total)


def test_the_example_of_the_specification() -> None:
    # "a tree of size 70,000": 273 full tiles and one of 112, one full and one of 17, one of 1
    changed = tiles.extend(0, [bytes(32)] * 70_000, lambda level, index: b"")
    widths = {place: len(tile) // 32 for place, tile in changed.items()}
    assert [widths[0, index] for index in range(274)] == [256] * 273 + [112]
    assert {place: width for place, width in widths.items() if place[0]} == {(1, 0): 256, (1, 1): 17, (2, 0): 1}


def test_nothing_added_changes_nothing() -> None:
    def no_read(level: int, index: int) -> bytes:
        raise AssertionError("there is nothing to read")

    assert tiles.extend(100, [], no_read) == {}


@pytest.mark.parametrize("width", [0, 99, 101])
def test_a_stored_tile_of_another_width_than_the_size_says_is_refused(width: int) -> None:
    with pytest.raises(IntegrityError, match="tile 2 of level 0"):
        tiles.extend(512 + 100, [bytes(32)], lambda level, index: bytes(32 * width))


@pytest.mark.parametrize("level, index, width", [(0, 5, 5), (2, 1, 7), (7, 1, 255), (8, 3, 3)])
def test_a_tile_that_ends_too_early_is_an_integrity_error(level: int, index: int, width: int) -> None:
    node = tiles.node_reader(lambda level, index: bytes(32 * width))
    with pytest.raises(IntegrityError, match="ends before"):
        node(level, index)


# Paths, by tessera's vectors.


@pytest.fixture(scope="module")
def paths(shared: Path) -> dict[str, list[object]]:
    vectors: dict[str, list[object]] = json.loads((shared / "vectors/tlog-tiles/paths.json").read_text())
    return vectors


def test_tile_paths(paths: dict[str, list[dict[str, int]]]) -> None:
    for case in paths["tile_path"]:
        level, index, width = case["level"], case["index"], case["partial"] or 256
        assert tiles.tile_path(level, index, width) == case["path"]
        assert tiles.parse_tile_path(case["path"]) == (level, index, width)  # type: ignore[arg-type]


def test_entries_paths(paths: dict[str, list[dict[str, int]]]) -> None:
    for case in paths["entries_path"]:
        assert tiles.entries_path(case["index"], case["partial"] or 256) == case["path"]
    for case in paths["entries_path_for_log_index"]:
        index = case["seq"] // 256
        assert tiles.entries_path(index, min(256, case["size"] - index * 256)) == case["path"]


def test_paths_that_parse(paths: dict[str, list[tuple[str, str, int, int, int]]]) -> None:
    for level_text, rest, level, index, partial in paths["parse_ok"]:
        assert tiles.parse_tile_path(f"tile/{level_text}/{rest}") == (level, index, partial or 256)


def test_paths_that_must_not_parse(paths: dict[str, list[tuple[str, str]]]) -> None:
    for level, rest in paths["parse_err"]:
        with pytest.raises(VerificationError):
            tiles.parse_tile_path(f"tile/{level}/{rest}")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile/0",
        "tile/00/000",
        "tile/0/x000/001",
        "tile/0/1",
        "tile/0/000.p/256",
        "tile/0/000.p/0",
        "tile/0/000.p/01",
        "tile/0/٠٠٠",
        "/tile/0/000",
        "tile/0/000\n",
        "tile/entries/000",
        "tile/0/x018/x446/x744/x073/x709/x551/616",
        "tile/0/000/001",
    ],
)
def test_a_path_has_one_form(path: str) -> None:
    with pytest.raises(VerificationError):
        tiles.parse_tile_path(path)


def test_the_largest_index_has_a_path() -> None:
    path = "tile/63/x018/x446/x744/x073/x709/x551/615"
    assert tiles.tile_path(63, 2**64 - 1) == path
    assert tiles.parse_tile_path(path) == (63, 2**64 - 1, 256)


@pytest.mark.parametrize(
    "level, index, width", [(-1, 0, 256), (64, 0, 256), (0, -1, 256), (0, 2**64, 256), (0, 0, 0), (0, 0, 257)]
)
def test_no_path_for_a_tile_that_cannot_be(level: int, index: int, width: int) -> None:
    with pytest.raises(ValueError, match=r"there (is|are) no tile"):
        tiles.tile_path(level, index, width)


@pytest.mark.parametrize("level", [-1, tiles.MAX_LEVEL + 1])
def test_no_path_leads_to_a_level_that_cannot_be(level: int) -> None:
    with pytest.raises(ValueError, match="level"):
        tiles.tile_path(level, 0)


def test_a_bundle_of_entries_has_a_path() -> None:
    assert tiles.entries_path(1234067, 8) == "tile/entries/x001/x234/067.p/8"


def test_a_growing_tree_hands_out_the_tiles_of_the_standard() -> None:
    dice = random.Random(5)
    total = 256 * 256 + 300
    tree = Definition([b"%d" % number for number in range(total)])
    growing = tiles.Growing()
    full: Stored = {}
    assert growing.root() == merkle.EMPTY_ROOT and growing.partial() == {}
    for size, added in batches(total, dice):
        full.update(growing.extend(tree.leaves(size, size + added)))
        assert growing.size == size + added
        if size < 3000 or size + added == total:
            assert growing.root() == tree.mth(0, size + added)
            assert {**full, **growing.partial()} == expected(tree, size + added)
            assert all(len(tile) == 8192 for tile in full.values())


def test_a_tree_that_was_stored_goes_on_as_one_that_grew() -> None:
    total = 256 * 256 + 600
    tree = Definition([b"%d" % number for number in range(total)])
    stored = expected(tree, total)
    for size in (0, 1, 255, 256, 257, 1000, 256 * 256, 256 * 256 + 300, total):
        grown, found = tiles.Growing(), tiles.Growing.stored(size, lambda level, index: stored[level, index])
        grown.extend(tree.leaves(0, size))
        assert found.partial() == grown.partial() and found.root() == grown.root()
        assert found.extend(tree.leaves(size, total)) == grown.extend(tree.leaves(size, total))
        assert found.root() == grown.root() == tree.mth(0, total)
    with pytest.raises(IntegrityError, match="tile 3 of level 0 ends before its hash 232"):
        tiles.Growing.stored(1000, lambda level, index: stored[level, index][: 231 * 32])
