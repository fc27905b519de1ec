"""Keys that try to turn a no into a yes, or lose a row's place."""

from __future__ import annotations

import io
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ledger.errors import ShardError, UsageError
from ledger.shards.columns import Columns
from tests.shards.deciding import T0, of, reasons


@pytest.mark.parametrize("near", ["Yes", "yes ", " yes", "yes\u200b", "yes\0", "\0yes", "\uff59es", "YES", "yes\n", "ye"])
def test_an_id_that_is_nearly_a_yes_is_silence(near: str) -> None:
    assert of([near, "yes"]) == ["no_record", "allowed"]


def test_normalisation_does_not_join_ids() -> None:
    assert of(["\u00e9", "e\u0301"]) == ["allowed", "no_record"]


@pytest.mark.parametrize("near", ["01", "1 ", "1.0", "+1", "\u0661", "1e0"])
def test_text_is_not_read_as_a_number(near: str) -> None:
    assert of([near, "1"]) == ["no_record", "allowed"]


@pytest.mark.parametrize(
    "kind",
    [
        pa.int8(),
        pa.int16(),
        pa.int32(),
        pa.int64(),
        pa.decimal128(38, 0),
        pa.decimal256(76, 0),
        pa.dictionary(pa.int8(), pa.int64()),
    ],
)
def test_whole_numbers_are_plain_decimal_text(kind: Any) -> None:
    values = [Decimal(v) if pa.types.is_decimal(kind) else v for v in (1, -1, 2, 10)]
    assert of(pa.array(values, kind)) == ["allowed", "allowed", "no_record", "no_record"]


def test_the_ends_of_the_integers_neither_wrap_nor_round() -> None:
    assert of(pa.array([2**64 - 1, 2**63, 2**64 - 2], pa.uint64())) == ["allowed", "no_record", "no_record"]
    assert of(pa.array([-(2**63), 2**63 - 1, -(2**63) + 1], pa.int64())) == ["allowed", "no_record", "no_record"]
    nines = [Decimal("9" * 38), Decimal("-" + "9" * 38), Decimal("9" * 37 + "8")]
    assert of(pa.array(nines, pa.decimal128(38, 0))) == ["allowed", "no_record", "no_record"]


@pytest.mark.parametrize(
    "kind",
    [
        pa.float64(),
        pa.float16(),
        pa.bool_(),
        pa.binary(3),
        pa.decimal128(5, 2),
        pa.decimal128(5, -2),
        pa.date32(),
        pa.timestamp("us"),
        pa.null(),
        pa.uuid(),
        pa.list_(pa.list_(pa.string())),
        pa.list_view(pa.float64()),
        pa.map_(pa.string(), pa.string()),
        pa.struct([("s", pa.string())]),
        pa.list_(pa.float64()),
        pa.dictionary(pa.int8(), pa.float32()),
    ],
)
def test_other_types_are_refused_by_name(kind: Any) -> None:
    with pytest.raises(UsageError, match="'s'"):
        of(pa.nulls(2, kind))


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view(), pa.dictionary(pa.int8(), pa.binary())])
def test_binary_ids_are_utf8_or_an_error(kind: Any) -> None:
    def made(values: list[bytes | None]) -> Any:
        return pa.array(values).dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else pa.array(values, kind)

    assert of(made([b"yes", b"no", None, b""])) == ["allowed", "withdrawn", "subject_missing", "subject_missing"]
    for wrong in (b"\xff", b"yes\x80", b"\xed\xa0\x80", b"\xc0\xaf"):
        with pytest.raises(ShardError, match="'s' holds bytes that are not UTF-8"):
            of(made([b"yes", wrong]))


def test_text_that_claims_to_be_utf8_is_checked() -> None:
    offsets = pa.py_buffer(np.array([0, 3, 4], "i4").tobytes())
    lying = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"yes\xff")])
    with pytest.raises(ShardError, match="not UTF-8"):
        of(lying)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_text_that_is_cut_within_a_character_is_no_utf8(kind: Any) -> None:
    """What all values together point to is UTF-8, and none of two is; behind and before a slice anything may stand."""
    width = np.int64 if kind == pa.large_string() else np.int32
    content = pa.py_buffer(b"\xffab\xc3\xa9\xff")

    def column(*ends: int) -> Any:
        return pa.Array.from_buffers(kind, len(ends) - 1, [None, pa.py_buffer(np.array(ends, width)), content])

    for text in (column(1, 4, 5), column(1, 2, 4), column(0, 1)):
        with pytest.raises(ShardError, match="'s' holds bytes that are not UTF-8"):
            Columns("s").read(pa.table({"s": text}))
    for text, expected in (
        (column(1, 2, 3), ["a", "b"]),
        (column(1, 2, 5), ["a", "bé"]),
        (column(0, 1, 3, 6).slice(1, 1), ["ab"]),
    ):
        assert Columns("s").read(pa.table({"s": text})).subjects.to_pylist() == expected


def test_an_id_may_be_huge() -> None:
    assert of(["yes", "yes" * 1_000_000]) == ["allowed", "no_record"]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.dictionary(pa.int32(), pa.string())]
)
def test_a_slice_keeps_each_row_in_its_place(kind: Any) -> None:
    values = ["yes", None, "no", "yes", "", "item", "stranger"]
    array = pa.array(values).dictionary_encode() if pa.types.is_dictionary(kind) else pa.array(values).cast(kind)
    whole = of(array)
    assert whole == ["allowed", "subject_missing", "withdrawn", "allowed", "subject_missing", "withdrawn", "no_record"]
    for start in range(len(values)):
        for length in range(len(values) - start + 1):
            assert of(array.slice(start, length)) == whole[start : start + length]
            chunks = pa.chunked_array([array.slice(start, length), array.slice(0, start), array.slice(0, 0)])
            assert of(chunks) == whole[start : start + length] + whole[:start]


def test_dictionaries_with_nulls_and_repeats_among_their_entries() -> None:
    array = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, 3, None, 4], pa.int8()), pa.array(["yes", None, "no", "yes", "no"]))
    assert of(array) == ["allowed", "subject_missing", "withdrawn", "allowed", "subject_missing", "withdrawn"]
    assert of(array.slice(2, 3)) == ["withdrawn", "allowed", "subject_missing"]


def test_chunks_with_dictionaries_of_their_own() -> None:
    chunks = [pa.array(v).dictionary_encode() for v in (["yes", "no"], ["no", "yes"], ["yes"])]
    assert of(pa.chunked_array(chunks)) == ["allowed", "withdrawn", "withdrawn", "allowed", "allowed"]
    lists = [pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), c) for c in chunks[:2]]
    assert of(pa.chunked_array(lists)) == ["allowed", "withdrawn", "withdrawn", "allowed"]


def test_chunks_whose_dictionaries_do_not_fit_one() -> None:
    """BUG (robustness): pyarrow's ArrowInvalid escapes, because chunks are concatenated before they are decoded."""
    small = pa.dictionary(pa.int8(), pa.string())
    chunks = [
        pa.array([f"{n}-{i}" for i in range(100)] + [last]).dictionary_encode().cast(small)
        for n, last in enumerate(["yes", "no"])
    ]
    found = of(pa.chunked_array(chunks))
    assert (found[100], found[201], set(found[:100])) == ("allowed", "withdrawn", {"no_record"})


LISTS = [
    ["stranger", "yes"],
    ["yes"],
    None,
    [],
    ["yes", None],
    ["yes", ""],
    ["yes", "no"],
    ["yes", "yes2"],
    ["yes", "yes"],
    ["no"],
]

LISTS_REASONS = ["no_record", "allowed", *["subject_missing"] * 4, "withdrawn", "allowed", "allowed", "withdrawn"]


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.string()),
        pa.large_list(pa.large_string()),
        pa.list_(pa.binary()),
        pa.list_view(pa.string()),
        pa.large_list_view(pa.large_string()),
    ],
)
def test_lists_sliced_chunked_and_with_holes(kind: Any) -> None:
    views = pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind)
    array = pa.array(LISTS, kind) if views else pa.array(LISTS, pa.list_(pa.string())).cast(kind)
    for start in range(len(LISTS)):
        assert of(array.slice(start)) == LISTS_REASONS[start:]
        assert of(array.slice(0, start)) == LISTS_REASONS[:start]
        assert of(pa.chunked_array([array.slice(start), array.slice(0, start)])) == LISTS_REASONS[start:] + LISTS_REASONS[:start]


def test_views_that_overlap_and_go_backwards() -> None:
    values = pa.array(["no", "yes", "yes2", "stranger"])
    for view, offset in ((pa.ListViewArray, pa.int32()), (pa.LargeListViewArray, pa.int64())):
        array = view.from_arrays(pa.array([1, 0, 1, 3, 2], offset), pa.array([2, 2, 0, 1, 1], offset), values)
        expected = ["allowed", "withdrawn", "subject_missing", "no_record", "allowed"]
        for start in range(5):
            assert of(array.slice(start)) == expected[start:]
        null = view.from_arrays(
            pa.array([1, 0, 1], offset), pa.array([1, 1, 1], offset), values, mask=pa.array([True, False, False])
        )
        assert of(null) == ["subject_missing", "withdrawn", "allowed"]


def test_lists_of_a_fixed_size_with_nulls() -> None:
    array = pa.array([["yes", "yes2"], None, ["yes", "no"], None, ["yes", None], ["yes", "yes"]], pa.list_(pa.string(), 2))
    expected = ["allowed", "subject_missing", "withdrawn", "subject_missing", "subject_missing", "allowed"]
    for start in range(len(expected)):
        assert of(array.slice(start)) == expected[start:]
    sink = io.BytesIO()
    pq.write_table(pa.table({"s": array}), sink)
    assert reasons(pq.read_table(sink), subject="s") == expected


def hidden(lists: list[list[str]], null: list[bool], kind: str) -> Any:
    """Lists of which some are null and yet have values beneath, as a mask or pc.if_else leaves them."""
    flat = pa.array([v for some in lists for v in some], pa.string())
    offsets = np.concatenate([[0], np.cumsum([len(some) for some in lists])])
    if kind == "fixed":
        return pa.FixedSizeListArray.from_arrays(flat, len(lists[0]), mask=pa.array(null))
    if kind == "large":
        return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), flat, mask=pa.array(null))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat, mask=pa.array(null))


@pytest.mark.parametrize("kind", ["list", "large", "fixed"])
@pytest.mark.parametrize("rows", [["yes", "no"], ["yes", "no", "yes"], ["yes", "yes", "no", "no", "yes"]])
def test_values_beneath_a_null_list_do_not_move_the_rows_after_it(kind: str, rows: list[str]) -> None:
    """BUG (a no becomes a yes): list_parent_indices counts the values beneath a null list, list_flatten leaves them out, so each
    later subject is put on an earlier row. [null over "yes"], ["no"] came out as withdrawn, allowed."""
    array = hidden([[r] for r in rows], [True] + [False] * (len(rows) - 1), kind)
    expected = ["subject_missing"] + [{"yes": "allowed", "no": "withdrawn"}[r] for r in rows[1:]]
    assert of(array) == expected
    assert of(array.slice(1)) == expected[1:]


def test_values_beneath_a_null_struct_do_not_move_the_rows_after_it() -> None:
    """BUG (a no becomes a yes): the same, by way of a struct that is null over a list that is not."""
    struct = pa.StructArray.from_arrays([pa.array([["yes"], ["no"]])], ["authors"], mask=pa.array([True, False]))
    assert reasons(pa.table({"m": struct}), subject="m.authors") == ["subject_missing", "withdrawn"]


def test_values_beneath_null_structs_are_no_keys() -> None:
    ids = pa.array(["yes", "yes", "no", "yes"])
    inner = pa.StructArray.from_arrays([ids], ["id"], mask=pa.array([False, True, False, False]))
    outer = pa.StructArray.from_arrays([inner], ["in"], mask=pa.array([True, False, False, False]))
    expected = ["subject_missing", "subject_missing", "withdrawn", "allowed"]
    for start in range(4):
        assert reasons(pa.table({"m": outer.slice(start)}), subject="m.in.id") == expected[start:]
    item = pa.StructArray.from_arrays([pa.array(["d", "d", "c"])], ["id"], mask=pa.array([True, False, False]))
    assert reasons(pa.table({"s": ["item"] * 3, "m": item}), subject="s", content="m.id") == ["withdrawn", "allowed", "withdrawn"]


def test_a_column_named_twice_is_refused() -> None:
    twice = pa.Table.from_arrays([pa.array(["yes"]), pa.array(["no"])], ["s", "s"])
    with pytest.raises(UsageError, match="2 times"):
        reasons(twice, subject="s")
    kind = pa.struct([pa.field("id", pa.string()), pa.field("id", pa.string())])
    nested = pa.Table.from_arrays([pa.StructArray.from_arrays([pa.array(["yes"]), pa.array(["no"])], fields=list(kind))], ["m"])
    with pytest.raises(UsageError, match="no column"):
        reasons(nested, subject="m.id")


def test_a_name_with_a_dot_is_the_column_of_that_name_before_it_is_a_path() -> None:
    table = pa.table({"a.b": ["no"], "a": pa.array([{"b": "yes"}])})
    assert reasons(table, subject="a.b") == ["withdrawn"]


@pytest.mark.parametrize("order", [["a", "b"], ["b", "a"]])
def test_of_several_subject_columns_all_must_allow_in_their_order(order: list[str]) -> None:
    table = pa.table({"a": ["yes", "no", "yes", "stranger", None], "b": [["yes2"], ["yes"], ["yes", "no"], ["no"], ["yes"]]})
    first = {"a": "no_record", "b": "withdrawn"}[order[0]]
    assert reasons(table, subject=order) == ["allowed", "withdrawn", "withdrawn", first, "subject_missing"]
    assert reasons(table.slice(2), subject=order) == ["withdrawn", first, "subject_missing"]


def test_the_same_subject_twice_is_that_subject() -> None:
    assert reasons(pa.table({"a": ["yes", "no"]}), subject=["a", "a"]) == ["allowed", "withdrawn"]


@pytest.mark.parametrize("kind", [pa.string(), pa.list_(pa.string()), pa.dictionary(pa.int8(), pa.string())])
def test_no_rows(kind: Any) -> None:
    assert of(pa.nulls(0, kind)) == [] == of(pa.chunked_array([], kind))


@pytest.mark.parametrize("unknown", [None, ""])
def test_an_unknown_item_or_category_is_held_to_every_no(unknown: str | None) -> None:
    table = pa.table({"s": ["item", "item", "kind", "kind"], "x": pa.array(["d", unknown, "post", unknown])})
    assert reasons(table, subject="s", content="x")[:2] == ["allowed", "withdrawn"]
    assert reasons(table, subject="s", category="x")[2:] == ["allowed", "withdrawn"]
    assert reasons(table, subject="s") == ["withdrawn"] * 4


def test_a_purpose_that_lists_categories_needs_the_column_and_takes_no_unknown_value() -> None:
    table = pa.table({"s": ["yes"] * 6, "k": pa.array(["post", "Post", "post ", "", None, "photo"]).dictionary_encode()})
    assert reasons(table, ("post",), subject="s", category="k") == ["allowed"] + ["category_excluded"] * 5
    assert set(reasons(table, ("post",), subject="s", category="=Post")) == {"category_excluded"}
    for unmapped in ({}, {"category": ""}):
        with pytest.raises(UsageError):
            reasons(table, ("post",), subject="s", **unmapped)
    with pytest.raises(UsageError):
        Columns(subject="s", category="=")


def test_prefixes_neither_hide_a_missing_id_nor_reach_another_platform() -> None:
    table = pa.table({"s": ["es", "yes", None, ""], "c": ["", None, "", ""]})
    assert reasons(table, subject="s", subject_prefix="y") == ["allowed", "no_record", "subject_missing", "subject_missing"]
    empty = pa.table({"s": ["item", "item"], "c": ["", None]})
    assert reasons(empty, subject="s", content="c", content_prefix="d") == ["withdrawn"] * 2


def created(values: Any, unit: str | None = None, subject: str = "new") -> list[str]:
    return reasons(pa.table({"s": [subject] * len(values), "t": values}), subject="s", created="t", created_unit=unit)


@pytest.mark.parametrize(("unit", "scale"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_created_counts_from_the_very_moment_in_every_unit(unit: str, scale: int) -> None:
    since = int(T0.timestamp()) * scale
    expected = ["allowed", "not_covered", "allowed", "not_covered", "not_covered", "not_covered"]
    values = [since, since - 1, since + 1, None, 0, -since]
    assert created(pa.array(values, pa.int64()), unit) == expected
    assert created(pa.array(values, pa.timestamp(unit))) == expected
    assert created(pa.array(values, pa.timestamp(unit, "Asia/Tokyo"))) == expected


@pytest.mark.parametrize("unit", ["s", "ms"])
def test_created_out_of_range_is_unknown_and_does_not_wrap(unit: str) -> None:
    ends = [2**63 - 1, -(2**63), 2**63 - 2**10, 2**62, -(2**62), None]
    assert created(pa.array(ends, pa.int64()), unit, "new70") == ["not_covered"] * 6
    assert created(pa.array(ends, pa.int64()).cast(pa.timestamp(unit)), None, "new70") == ["not_covered"] * 6


def test_created_before_1970_is_not_after_it() -> None:
    assert created(pa.array([-1, 0, 1], pa.int64()), "ns", "new70") == ["not_covered", "allowed", "allowed"]
    days = pa.array([-1, 0, -(2**31)], pa.int32()).cast(pa.date32())
    assert created(days, None, "new70") == ["not_covered", "allowed", "not_covered"]
    assert created(pa.array([-(2**63)], pa.int64()), "us", "new70") == ["not_covered"]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_created_in_unsigned_integers_beyond_the_signed_ones_is_unknown(unit: str) -> None:
    """BUG (robustness): comparing uint64 with 2**63-1 casts the column to int64, whose ArrowInvalid escapes."""
    assert created(pa.array([2**64 - 1, 2**63, None], pa.uint64()), unit, "new70") == ["not_covered"] * 3


@pytest.mark.parametrize("kind", [pa.string(), pa.float64(), pa.time64("us"), pa.duration("us"), pa.decimal128(18, 0)])
def test_created_of_another_type_is_refused(kind: Any) -> None:
    with pytest.raises(UsageError, match="'t'"):
        created(pa.nulls(1, kind), "us")
