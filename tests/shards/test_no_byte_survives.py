"""No byte of a value that occurs only in dropped rows survives."""

from __future__ import annotations

import decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ledger.shards.thrift import Reader
from tests.shards.rewriting import (
    GROUP,
    KEEP,
    ROWS,
    chunk,
    filtered,
    footer_of,
    require_same,
    shard_of,
)

CANARY = b"CANARY"


def canaries(keep: Any = KEEP) -> list[str]:
    return [f"kept-{row:06}" if kept else f"CANARY-{row:06}" for row, kept in enumerate(keep)]


TEXT = pa.array(canaries())

CATEGORIES = TEXT.dictionary_encode()

HIDDEN = pa.array([not kept or row % 2 == 0 for row, kept in enumerate(KEEP)])  # nulls whose child keeps its value below

CANARIES: dict[str, pa.Array] = {
    "string": TEXT,
    "large_string": TEXT.cast(pa.large_string()),
    "string_view": TEXT.cast(pa.string_view()),
    "binary": TEXT.cast(pa.binary()),
    "fixed_size_binary": pa.array([text.encode().ljust(13) for text in canaries()], pa.binary(13)),
    "int64": pa.array([int.from_bytes(text.encode()[:6] + b"\0\0", "little") for text in canaries()]),
    "decimal": pa.array([decimal.Decimal(int.from_bytes(text.encode(), "big")) for text in canaries()], pa.decimal128(38, 0)),
    "dictionary": CATEGORIES,
    "dictionary, ordered": pa.DictionaryArray.from_arrays(CATEGORIES.indices, CATEGORIES.dictionary, ordered=True),
    "dictionary with unused entries": pa.DictionaryArray.from_arrays(
        pa.array([0] * ROWS), pa.array(["kept", *(text for text in canaries() if "CANARY" in text)])
    ),
    "list": pa.ListArray.from_arrays(pa.array(range(ROWS + 1), pa.int32()), TEXT),
    "struct": pa.StructArray.from_arrays([TEXT, CATEGORIES], ["text", "category"]),
    "struct under nulls": pa.StructArray.from_arrays([TEXT], ["text"], mask=HIDDEN),
    "list of structs of dictionaries": pa.ListArray.from_arrays(
        pa.array(range(ROWS + 1), pa.int32()), pa.StructArray.from_arrays([CATEGORIES], ["category"])
    ),
    "map": pa.MapArray.from_arrays(pa.array(range(ROWS + 1), pa.int32()), TEXT, CATEGORIES),
    "list under nulls": pa.ListArray.from_arrays(pa.array(range(ROWS + 1), pa.int32()), TEXT, mask=HIDDEN),
}


@pytest.mark.parametrize("name", CANARIES)
@pytest.mark.parametrize("coded", [True, False], ids=["dictionary", "plain"])
def test_no_value_of_dropped_rows_alone_survives(tmp_path: Path, name: str, coded: bool) -> None:
    table = pa.table({"c": CANARIES[name], "row": range(ROWS)})
    source = shard_of(
        tmp_path / "in.parquet", table, compression="none", use_dictionary=coded, write_page_index=True, row_group_size=GROUP
    )
    there = CANARY in source.read_bytes()
    # Of hidden values nothing is in the file to begin with, nor of unused entries where pages are plain.
    assert there or "under nulls" in name or (name == "dictionary with unused entries")
    filtered(source, tmp_path / "out.parquet")
    require_same(source, tmp_path / "out.parquet")
    assert CANARY not in (tmp_path / "out.parquet").read_bytes()
    assert CANARY[::-1] not in (tmp_path / "out.parquet").read_bytes()


def test_the_scan_would_see_a_leak(tmp_path: Path) -> None:
    """What pyarrow alone leaves behind: the control of the test above."""
    kept = pa.table({"c": CATEGORIES}).filter(pa.array(KEEP))
    assert CANARY in shard_of(tmp_path / "out.parquet", kept, compression="none").read_bytes()


def test_bloom_filters_and_indexes_of_the_source_do_not_come_along(tmp_path: Path) -> None:
    source = shard_of(
        tmp_path / "in.parquet",
        pa.table({"c": TEXT}),
        compression="none",
        write_page_index=True,
        bloom_filter_options={"c": {"ndv": 100}},
    )
    filtered(source, tmp_path / "out.parquet")
    assert CANARY not in (tmp_path / "out.parquet").read_bytes()
    fields = Reader(footer_of((tmp_path / "out.parquet").read_bytes())).struct()
    assert 14 not in chunk(fields, 0, 0)


def test_metadata_that_is_to_go_goes(tmp_path: Path) -> None:
    table = pa.table({"c": TEXT}).replace_schema_metadata({"huggingface": "CANARY", "kept": "yes"})
    source = shard_of(tmp_path / "in.parquet", table, compression="none")
    filtered(source, tmp_path / "out.parquet", drop_metadata=["huggingface"])
    assert pq.read_schema(tmp_path / "out.parquet").metadata == {b"kept": b"yes"}
    assert CANARY not in (tmp_path / "out.parquet").read_bytes()
