"""A shard of which every row is kept is copied byte for byte, where that is proven to bring nothing else along."""

from __future__ import annotations

import hashlib
import mmap
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import ledger.run
from ledger import verify
from ledger.errors import ShardError
from ledger.shards.publish import HashingSink
from ledger.shards.rewrite import ShardFile
from ledger.shards.thrift import I32, STRUCT, Malformed
from ledger.shards.unchanged import _hybrid, _is_frame, _is_full, only_of_its_rows
from tests.shards.rewriting import chunk, patch
from tests.shards.world import World

RNG = np.random.default_rng(7)
ROWS = 300
WORDS = pa.array([f"word-{number % 7}" for number in range(ROWS)])
GAPS = pa.array([None if number % 3 == 0 else f"word-{number % 7}" for number in range(ROWS)])
LISTS = pa.array([[None, "a"] if number % 5 == 0 else None if number % 7 == 0 else [f"w{number % 4}"] for number in range(ROWS)])


def proven(path: Path) -> bool:
    with ShardFile(path) as shard, path.open("rb") as file:
        return only_of_its_rows(file, shard.footer)


def rows_of(path: Path) -> list[Any]:
    with ShardFile(path) as shard:
        return [shard.read_bits(group).to_pylist() for group in range(shard.num_row_groups)]


def shard(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({"s": pa.repeat("yes", len(next(iter(columns.values())))), **columns}), path, **options)
    return path


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("codec", ["none", "zstd", "snappy", "gzip", "lz4"])
def test_a_shard_that_is_kept_is_copied_and_reads_the_same_everywhere(
    tmp_path: Path, world: World, version: str, codec: str
) -> None:
    nested = pa.array([{"l": [{"t": f"t{n % 3}"}], "n": None if n % 2 else n} for n in range(ROWS)])
    columns = {"w": WORDS, "g": GAPS, "l": LISTS, "d": WORDS.dictionary_encode(), "n": nested, "f": RNG.random(ROWS)}
    source = shard(
        tmp_path / "in" / "a.parquet",
        columns,
        compression=codec,
        data_page_version=version,
        row_group_size=120,
        data_page_size=256,
        write_page_index=True,
    )
    run = world.run(source)
    made = world.root / "out" / "a.parquet"
    assert made.read_bytes() == source.read_bytes()
    assert run.record.shards[0].input_sha256 == run.record.shards[0].output_sha256
    assert pq.read_table(made).equals(pq.read_table(source)) and rows_of(made) == rows_of(source)
    assert pl.read_parquet(made).equals(pl.read_parquet(source))
    assert (
        duckdb.sql(f"from '{made}' where w = 'word-3'").fetchall() == duckdb.sql(f"from '{source}' where w = 'word-3'").fetchall()
    )
    verify(world.root / "out", trust=world.book.trust)


def test_one_shard_is_copied_and_the_next_rewritten(world: World) -> None:
    whole, part = world.shard("in/a.parquet", "yes", "later"), world.shard("in/b.parquet", "yes", "no", "later")
    first = world.run(whole, part)
    assert (world.root / "out/a.parquet").read_bytes() == whole.read_bytes()
    assert world.read("out/b.parquet") == ["yes", "later"] and world.read("out/a.parquet") == ["yes", "later"]
    verify(world.root / "out", trust=world.book.trust)
    again = world.run(whole, part)  # by the journal
    assert again.record.shards == first.record.shards
    # What one more no takes away is gone from what was copied before.
    world.book.withdraw("later", purposes=["ai"])
    world.run(whole, part, snapshot=world.freeze("ai", "newer"))
    assert world.read("out/a.parquet") == ["yes"] and b"later" not in (world.root / "out/a.parquet").read_bytes()


NEVER = [f"CANARY-{number}" for number in range(3)]
SEEN = pd.Categorical(["seen"] * ROWS, categories=[NEVER[0], "seen", *NEVER[1:]])
HIDDEN = pa.DictionaryArray.from_arrays(pa.array([1] * ROWS, pa.int32()), pa.array([NEVER[0], "seen", *NEVER[1:]]))
FIRST = pa.DictionaryArray.from_arrays(pa.array([1 + n % 2 for n in range(ROWS)]), pa.array([NEVER[0], "seen", "also"]))
NULLS = pa.DictionaryArray.from_arrays(
    pa.array([None if n % 2 else 1 + n % 4 // 2 for n in range(ROWS)]), pa.array([NEVER[0], "seen", "also"])
)
UNUSED = {
    "pandas": pa.array(SEEN),
    "first entry": FIRST,
    "first entry, and nulls": NULLS,
    "all but one": HIDDEN,
    "in a list": pa.ListArray.from_arrays(pa.array(range(ROWS + 1), pa.int32()), FIRST),
    "in a struct": pa.StructArray.from_arrays([NULLS], ["d"]),
    "no value at all": pa.DictionaryArray.from_arrays(pa.nulls(ROWS, pa.int32()), pa.array(NEVER)),
}


@pytest.mark.parametrize("name", UNUSED)
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_an_entry_that_no_row_uses_does_not_come_along(tmp_path: Path, world: World, name: str, version: str) -> None:
    """The writer repeats all categories in each shard: here a person's who said no, and whose rows lie in another shard."""
    # An odd number of rows: the last pack is filled up with zeros, which are no use of the first entry.
    column = UNUSED[name].slice(0, ROWS - 3)
    source = shard(tmp_path / "in" / "a.parquet", {"c": column}, compression="none", data_page_version=version)
    assert b"CANARY" in source.read_bytes()
    assert not proven(source)
    world.run(source)
    made = world.root / "out" / "a.parquet"
    assert b"CANARY" not in made.read_bytes() and rows_of(made) == rows_of(source)


def test_entries_of_a_second_row_group_that_only_the_first_uses(tmp_path: Path) -> None:
    both = pa.DictionaryArray.from_arrays(pa.array([0, 1] * 50 + [1] * 100), pa.array(["CANARY", "seen"]))
    assert not proven(shard(tmp_path / "a" / "a.parquet", {"c": both}, row_group_size=100))
    assert proven(shard(tmp_path / "a" / "b.parquet", {"c": both.slice(0, 100)}))


@pytest.mark.parametrize("column", ["text", "a list", "a struct of lists"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_values_behind_the_last_row_do_not_come_along(tmp_path: Path, world: World, column: str, version: str) -> None:
    """A row group that says of itself that it is shorter than its chunks: nobody has decided the rows behind its end."""
    text = [f"CANARY-{number}" if number >= ROWS - 9 else f"seen-{number}" for number in range(ROWS)]
    values = {
        "text": pa.array(text),
        "a list": pa.array([[], None, *([word, None] for word in text[2:])]),
        "a struct of lists": pa.array([{"l": [word, word]} for word in text]),
    }[column]
    source = shard(
        tmp_path / "in" / "a.parquet", {"c": values}, compression="none", data_page_version=version, use_dictionary=False
    )
    assert proven(source) and b"CANARY" in source.read_bytes()

    def shorter(fields: Any) -> None:
        fields[3] = (fields[3][0], ROWS - 9)
        group = fields[4][1].values[0]
        group[3] = (group[3][0], ROWS - 9)
        for one in group[1][1].values:  # statistics tell of all values
            one[3][1].pop(12, None)

    patch(source, shorter)
    assert not proven(source)
    world.run(source)
    made = world.root / "out" / "a.parquet"
    assert b"CANARY" not in made.read_bytes() and pq.read_table(made).num_rows == ROWS - 9


@pytest.mark.parametrize("last", ["b", "c"])
def test_enums_of_other_engines(tmp_path: Path, last: str) -> None:
    """Polars also writes what describes a chunk behind it, which may say anything; DuckDB does not."""
    values, path = ["a", "b"] * 20 + [last], tmp_path / "a.parquet"
    pl.DataFrame({"e": pl.Series(values, dtype=pl.Enum(["a", "b", "c"]))}).write_parquet(path)
    assert not proven(path)
    duckdb.sql(f"copy (select unnest(?)::enum('a', 'b', 'c') as e) to '{path}' (format parquet)", params=[values])
    assert proven(path) == (last == "c")


def test_hadoops_lz4_is_not_copied(tmp_path: Path) -> None:
    source = shard(tmp_path / "a.parquet", {"w": WORDS}, compression="lz4")
    assert proven(source)
    patch(source, lambda fields: chunk(fields, 0, 1).__setitem__(4, (I32, 5)))
    assert not proven(source)


def test_brotli_is_not_copied(tmp_path: Path) -> None:
    """Whatever stands behind its end, it unpacks."""
    assert not proven(shard(tmp_path / "a.parquet", {"w": WORDS}, compression="brotli"))


def header_of(size: int, levels: int = 0, *, packed: bool = True) -> dict[int, Any]:
    return {2: (I32, size), 8: (STRUCT, {5: (I32, levels), 6: (I32, 0), 7: (0, packed)})}


@pytest.mark.parametrize("codec", ["zstd", "snappy", "gzip", "lz4_raw"])
@pytest.mark.parametrize("size", [1, 255, 256, 300, 65_791, 65_792, 300_000])
def test_nothing_stands_behind_what_a_page_unpacks_to(codec: str, size: int) -> None:
    tool = pa.Codec(codec)
    for data in (RNG.bytes(size), b"a" * size, b"word" * (size // 4) + b"." * (size % 4)):
        page = tool.compress(data, asbytes=True)
        assert _is_full(memoryview(page), header_of(size), 0, tool)
        assert _is_full(memoryview(b"lv" + page), header_of(size + 2, 2), 3, tool)
        if codec == "zstd":
            assert _is_frame(memoryview(page), size) and not _is_frame(memoryview(page), size + 1)
        for more in (page + b"CANARY", page + page, page + bytes(1), page[:-1]):
            if codec == "zstd":
                assert not _is_frame(memoryview(more), size)
            try:
                found = _is_full(memoryview(more), header_of(size), 0, tool)
            except OSError:  # it does not unpack
                found = False
            assert not found, (len(page), len(more))


def test_frames_that_do_not_say_how_long_they_are_are_unpacked() -> None:
    """As Java writes them, and with a checksum of their own; nothing in a frame's head ends in anything but an answer."""
    tool, sink = pa.Codec("zstd"), pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        for _ in range(50):
            stream.write(RNG.bytes(9000))
    page = memoryview(sink.getvalue())
    assert not _is_frame(page, 450_000) and _is_full(page, header_of(450_000), 0, tool)
    summed = bytearray(tool.compress(b"a" * 1000 + RNG.bytes(1000), asbytes=True))
    summed[4] |= 4
    assert _is_frame(memoryview(summed + bytes(4)), 2000) and not _is_frame(memoryview(summed), 2000)
    for head in range(256):
        summed[4] = head
        for end in (6, 9, 14, len(summed)):
            _is_frame(memoryview(summed)[:end], 2000)


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_a_page_that_is_not_packed_is_as_long_as_it_says(version: str) -> None:
    page, kind = memoryview(b"lv" + bytes(10)), 0 if version == "1.0" else 3
    assert _is_full(page, header_of(12, 2, packed=False), kind, None)
    assert not _is_full(page, header_of(11, 2, packed=False), kind, None)


def test_bytes_that_are_of_no_chunk_are_not_copied(tmp_path: Path, world: World) -> None:
    source = shard(tmp_path / "in" / "a.parquet", {"w": WORDS}, compression="none")
    data = source.read_bytes()
    footer = int.from_bytes(data[-8:-4], "little") + 8
    source.write_bytes(data[:-footer] + b"CANARY" + data[-footer:])
    assert not proven(source)
    world.run(source)
    assert b"CANARY" not in (world.root / "out" / "a.parquet").read_bytes()


def test_a_bloom_filter_is_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    duckdb.sql(f"copy (select (i % 40)::varchar as s from range(4000) t(i)) to '{path}' (format parquet)")
    assert duckdb.sql(f"select bloom_filter_offset from parquet_metadata('{path}')").fetchall() != [(None,)]
    assert not proven(path)


def test_metadata_that_is_dropped_is_dropped(tmp_path: Path, world: World) -> None:
    (tmp_path / "in").mkdir()
    source = tmp_path / "in" / "a.parquet"
    pq.write_table(pa.table({"s": ["yes"]}).replace_schema_metadata({"secret": "CANARY"}), source)
    world.run(source, drop_metadata=["secret"])
    assert b"CANARY" not in (world.root / "out" / "a.parquet").read_bytes()


def damaged(path: Path, keys: pa.Array | None = None, **options: Any) -> Path:
    """A shard one of whose pages, not of the keys, is partly zeros, as after a crash."""
    text = pa.array([RNG.bytes(40).hex() for _ in range(ROWS)])
    columns = {"t": text} if keys is None else {"t": text, "s": keys}
    source = shard(path, columns, use_dictionary=["s"], compression="zstd", **options)
    at = pq.read_metadata(source).row_group(0).column(1).data_page_offset
    data = bytearray(source.read_bytes())
    data[at + 4000 : at + 4200] = bytes(200)
    source.write_bytes(data)
    return source


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_a_page_that_does_not_match_its_checksum_is_refused_as_ever(tmp_path: Path, world: World, version: str) -> None:
    source = damaged(tmp_path / "in" / "a.parquet", write_page_checksum=True, data_page_version=version)
    assert not proven(source)
    with pytest.raises(ShardError, match="cannot be read"):
        world.run(source)
    assert not list((world.root / "out").glob("*")) and not (world.root / "out.intoto.jsonl").exists()


@pytest.mark.parametrize("codec", ["zstd", "none"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_pages_that_match_their_checksums_are_copied(tmp_path: Path, version: str, codec: str) -> None:
    options = {"compression": codec, "data_page_version": version, "data_page_size": 200, "row_group_size": 100}
    assert proven(shard(tmp_path / "in" / "a.parquet", {"w": WORDS, "l": LISTS}, write_page_checksum=True, **options))


def test_damage_that_nothing_tells_of_is_copied_as_it_is(tmp_path: Path, world: World) -> None:
    """Pages without a checksum are not decoded for a copy: what they are in the source they are in the copy, and nowhere else."""
    source = damaged(tmp_path / "in" / "a.parquet")
    run = world.run(source)
    made = world.root / "out" / "a.parquet"
    assert made.read_bytes() == source.read_bytes()
    assert run.record.shards[0].input_sha256 == run.record.shards[0].output_sha256
    with pytest.raises(OSError):
        pq.read_table(made)


def test_damage_beside_a_row_that_is_dropped_is_refused(tmp_path: Path, world: World) -> None:
    source = damaged(tmp_path / "in" / "a.parquet", pa.array(["no", *["yes"] * (ROWS - 1)]))
    with pytest.raises(ShardError, match="cannot be read"):
        world.run(source)
    assert not list((world.root / "out").glob("*"))


@pytest.mark.parametrize("column", [WORDS, LISTS])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_a_page_that_says_to_be_less_than_empty_is_refused(tmp_path: Path, world: World, version: str, column: Any) -> None:
    source = shard(tmp_path / "in" / "a.parquet", {"c": column}, compression="zstd", data_page_version=version)
    data = bytearray(source.read_bytes())
    data[pq.read_metadata(source).row_group(0).column(1).data_page_offset + 3] |= 1  # the sign of its size, unpacked
    source.write_bytes(data)
    assert not proven(source)
    with pytest.raises(ShardError, match="cannot be read"):
        world.run(source)
    assert not list((world.root / "out").glob("*"))


def test_no_flipped_byte_makes_anything_but_a_proof_or_none(tmp_path: Path) -> None:
    source = shard(tmp_path / "in" / "a.parquet", {"c": NULLS, "l": LISTS}, compression="none", data_page_size=200)
    with ShardFile(source) as opened:
        footer = opened.footer
    good, flipped = source.read_bytes(), tmp_path / "flipped.parquet"
    for at in RNG.choice(len(good), 400, replace=False).tolist():
        data = bytearray(good)
        data[at] ^= 1 << int(RNG.integers(8))
        flipped.write_bytes(data)
        with flipped.open("rb") as file:
            only_of_its_rows(file, footer)


@pytest.mark.parametrize("width", [1, 2, 7, 8, 13, 20])
def test_runs_and_packs(width: int) -> None:
    numbers = RNG.integers(0, 1 << width, 24)
    bits = (numbers[:, None] >> np.arange(width) & 1).astype(np.uint8).ravel()
    packed = bytes([3 << 1 | 1]) + np.packbits(bits, bitorder="little").tobytes()
    run = bytes([5 << 1]) + int(numbers[0]).to_bytes((width + 7) // 8, "little")
    data = run + packed + run
    expected = [*[numbers[0]] * 5, *numbers, *[numbers[0]] * 5]
    assert _hybrid(data, 0, len(data), width, 34).tolist() == expected
    assert _hybrid(data, 0, len(data), width, 21).tolist() == expected[:21]


@pytest.mark.parametrize("width", [1, 3, 8, 17])
def test_packs_of_one_length_are_taken_together(width: int) -> None:
    def packs(numbers: Any) -> bytes:
        bits = (numbers[:, None] >> np.arange(width) & 1).astype(np.uint8).ravel()
        return bytes([len(numbers) // 8 << 1 | 1]) + np.packbits(bits, bitorder="little").tobytes()

    parts = [RNG.integers(0, 1 << width, size) for size in (24, 24, 24, 504, 504, 8, 24)]
    data, numbers = b"".join(map(packs, parts)), np.concatenate(parts)
    for count in (1, 24, 25, 72, 100, len(numbers) - 3, len(numbers)):
        assert _hybrid(data, 0, len(data), width, count).tolist() == numbers[:count].tolist()
    with pytest.raises(Malformed):
        _hybrid(data, 0, len(data), width, len(numbers) + 1)
    with pytest.raises(Malformed):
        _hybrid(data[: -width - 1], 0, len(data) - width - 1, width, len(numbers))


def test_damage_in_a_key_column_is_seen_as_in_any_other(tmp_path: Path, world: World) -> None:
    """Keys are not decoded a second time for a copy."""
    columns = {"t": pa.array([RNG.bytes(40).hex() for _ in range(ROWS)])}
    source = shard(tmp_path / "in" / "a.parquet", columns, use_dictionary=False, compression="zstd", row_group_size=100)
    keys = pq.read_metadata(source).row_group(2).column(0)
    end = keys.data_page_offset + keys.total_compressed_size
    data = bytearray(source.read_bytes())
    data[end - 8 : end] = bytes(8)
    source.write_bytes(data)
    with pytest.raises(ShardError, match="cannot be read"):
        world.run(source)
    assert not list((world.root / "out").glob("*")) and not (world.root / "out.intoto.jsonl").exists()


def test_a_copy_is_what_was_hashed(tmp_path: Path) -> None:
    source = shard(tmp_path / "in" / "a.parquet", {"w": WORDS})
    data = source.read_bytes()
    with ShardFile(source) as opened, HashingSink(tmp_path / "out.parquet") as sink:
        assert opened.sha256 == hashlib.sha256(data).hexdigest()
        source.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
        with pytest.raises(ShardError, match="changed while it was read"):
            opened.copy_to(sink)
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize(("way", "subjects"), [("copy", ["yes"] * 3), ("rewrite", ["yes", "yes", "no"])])
def test_rows_that_come_after_the_decision_are_refused_whatever_the_times_say(
    world: World, monkeypatch: pytest.MonkeyPatch, way: str, subjects: list[str]
) -> None:
    """Whoever writes through memory changes no time of a page that was written to before; nor does who is fast enough."""
    source = world.root / "in" / "a.parquet"
    source.parent.mkdir()
    pq.write_table(pa.table({"s": subjects}), source, compression="none", use_dictionary=False, write_statistics=False)
    goes_on = getattr(ledger.run, way)
    with source.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[:] = bytes(memory)
        there = source.stat()

        def then_changed(*arguments: Any, **named: Any) -> Any:
            memory[:] = bytes(memory).replace(b"yes", b"nay")
            assert (there.st_mtime_ns, there.st_ctime_ns) == (source.stat().st_mtime_ns, source.stat().st_ctime_ns)
            return goes_on(*arguments, **named)

        monkeypatch.setattr(ledger.run, way, then_changed)
        with pytest.raises(ShardError, match="changed while it was read"):
            world.run(source)
    assert not list((world.root / "out").glob("*")) and not (world.root / "out.intoto.jsonl").exists()
