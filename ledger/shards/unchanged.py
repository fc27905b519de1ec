"""Whether a shard of which every row is kept may be copied byte for byte.

Only where nothing in it can be of other rows than its own. Proven from the bytes; what is not proven is rewritten.
- What the footer speaks of fills the file: no byte lies between, over or beside the column chunks, page indexes and the footer.
- A chunk is pages, one after another, with as many values as the footer says, and of as many rows as the row group has, each of
  which was decided: a dictionary, if any, and data.
- Every entry of a dictionary is used by a value of the chunk. Writers repeat one dictionary in each row group and in each shard
  (pandas Categoricals, enums of Polars and DuckDB): its entries may be values of dropped rows of another shard.
- There are no bloom filters, and no page in Hadoop's LZ4: a rewritten shard has neither.
- A page's bytes are what unpacks to its size, and nothing lies behind that. What unpacks Brotli does not tell.
- A page that has a checksum matches it: of one that does not, a rewriting tells what is wrong.

That the other pages can be decoded is not asked here.
"""

from __future__ import annotations

import itertools
import os
import zlib
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ledger.shards.footer import Footer, Leaf
from ledger.shards.thrift import Malformed, Reader, Struct

_MAGIC, _TRAILER = 4, 8  # bytes at the file's beginning, and after its footer
_MOST: Final = 1 << 22  # values of a page that are looked at, entries of a dictionary
_REPEATED: Final = 2
_CODECS: Final = {0: None, 1: "snappy", 2: "gzip", 6: "zstd", 7: "lz4_raw"}
_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3
_DICTIONARY_CODED: Final = (2, 8)
_RLE: Final = 3
_ZSTD, _ZSTD_REPEATED = bytes.fromhex("28b52ffd"), 1
_CHECKSUM: Final = 4  # of a PageHeader

# RowGroup, ColumnChunk, ColumnMetaData
_CHUNKS = 1
_METADATA, _OFFSET_INDEX, _COLUMN_INDEX = 3, (4, 5), (6, 7)
_CODEC, _VALUES, _SIZE, _DATA_AT, _INDEX_AT, _DICTIONARY_AT, _BLOOM = 4, 5, 7, 9, 10, 11, 14

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def only_of_its_rows(file: BinaryIO, footer: Footer) -> bool:
    """file: of which `footer` is. False is "not proven". Raises OSError."""
    try:
        chunks = [chunk for group in footer.groups() for chunk in group[_CHUNKS][1].values]
        leaves = itertools.cycle(footer.leaves)
        rows = itertools.chain.from_iterable(itertools.repeat(rows, len(footer.leaves)) for rows in footer.rows)
        return _fills(file, chunks) and all(map(_chunk, itertools.repeat(file), leaves, map(_metadata, chunks), rows))
    except (Malformed, ValueError, LookupError, TypeError, AttributeError, OverflowError, pa.ArrowException):
        return False


def _metadata(chunk: Struct) -> dict[int, Any]:
    return {number: value for number, (_, value) in chunk[_METADATA][1].items()}


def _fills(file: BinaryIO, chunks: list[Struct]) -> bool:
    pieces = []
    for chunk in chunks:
        metadata = _metadata(chunk)
        if _BLOOM in metadata or _INDEX_AT in metadata:
            return False
        pieces.append((_start(metadata), metadata[_SIZE]))
        pieces += [(chunk[at][1], chunk[size][1]) for at, size in (_OFFSET_INDEX, _COLUMN_INDEX) if at in chunk]
    at = _MAGIC
    for start, size in sorted(pieces):
        if start != at or size < 0:
            return False
        at += size
    end = file.seek(-_TRAILER, os.SEEK_END)
    return at + int.from_bytes(file.read(4), "little") == end


def _start(metadata: dict[int, Any]) -> int:
    # Some writers put 0 for "none".
    data: int = metadata[_DATA_AT]
    return min(data, metadata.get(_DICTIONARY_AT) or data)


def _chunk(file: BinaryIO, leaf: Leaf, metadata: dict[int, Any], rows: int) -> bool:
    if metadata[_CODEC] not in _CODECS:
        return False
    name = _CODECS[metadata[_CODEC]]
    codec = None if name is None else pa.Codec(name)
    file.seek(_start(metadata))
    data = file.read(metadata[_SIZE])
    used: Bools | None = None
    most = leaf.levels.count(_REPEATED)
    reader, values, begun = Reader(data), 0, 0
    while reader.at < len(data):
        reader.renew()
        header = reader.struct()
        start, size, kind = reader.at, header[3][1], header[1][1]
        reader.at += size
        if size < 0 or reader.at > len(data):
            return False
        body = memoryview(data)[start : reader.at]
        if _CHECKSUM in header and zlib.crc32(body) != header[_CHECKSUM][1] & 0xFFFFFFFF:
            return False
        if not _is_full(body, header, kind, codec):
            return False
        if kind == _DICTIONARY and used is None and not values:
            used = np.zeros(_few(header[7][1][1][1]), bool)
        elif kind in (_DATA, _DATA_V2):
            said = {number: value for number, (_, value) in header[5 if kind == _DATA else 8][1].items()}
            values += _few(said[1])
            pages = _v1 if kind == _DATA else _v2
            begun += _rows(body, header[2][1], said, most, codec, kind) if most else said[1]
            coded = said[2 if kind == _DATA else 4] in _DICTIONARY_CODED
            if coded and used is None:
                return False
            if coded and used is not None and not used.all():
                used[pages(body, header[2][1], said, leaf, codec)] = True
        else:
            return False
    return values == metadata[_VALUES] and begun == rows and (used is None or bool(used.all()))


def _is_full(body: memoryview, header: dict[int, Any], kind: int, codec: Any) -> bool:
    """Whether a page unpacks to its size, and has no byte more. Raises OSError for one that does not unpack."""
    size: int = header[2][1]
    if kind == _DATA_V2:
        levels: int = header[8][1][5][1] + header[8][1][6][1]
        body, size = body[levels:], size - levels
        codec = codec if header[8][1].get(7, (0, True))[1] else None
    if codec is None or not len(body):
        return len(body) == size
    return (codec.name == "zstd" and _is_frame(body, size)) or len(_unpacked(codec, body, size)) == size


def _is_frame(data: memoryview, size: int) -> bool:
    """Whether this is one frame of zstd (RFC 8878, section 3.1.1) that says to be of this size unpacked, up to its end."""
    descriptor = data[4]
    alone = descriptor >> 5 & 1
    at = 6 - alone + (0, 1, 2, 4)[descriptor & 3]
    width = (alone, 2, 4, 8)[descriptor >> 6]
    told = int.from_bytes(data[at : at + width], "little") + (256 if width == 2 else 0)
    if bytes(data[:4]) != _ZSTD or not width or told != size:
        return False
    at, last = at + width, 0
    while not last and at + 3 <= len(data):
        block = int.from_bytes(data[at : at + 3], "little")
        last, kind = block & 1, block >> 1 & 3
        at += 3 + (1 if kind == _ZSTD_REPEATED else block >> 3)
    return bool(last) and at + (4 if descriptor >> 2 & 1 else 0) == len(data)


def _few(count: int) -> int:
    if not 0 <= count <= _MOST:
        raise Malformed("there are too many")
    return count


def _rows(body: memoryview, size: int, said: dict[int, Any], most: int, codec: Any, kind: int) -> int:
    """How many rows begin in a page of a repeated leaf: where its repetition level is 0."""
    if kind == _DATA_V2:
        levels, start, end = bytes(body), 0, said[6]
    else:
        if said[4] != _RLE:
            raise Malformed("its levels are not run lengths")
        levels = _unpacked(codec, body, size)
        start, end = 4, 4 + int.from_bytes(levels[:4], "little")
    return int((_hybrid(levels, start, end, most.bit_length(), said[1]) == 0).sum())


def _v1(body: memoryview, size: int, said: dict[int, Any], leaf: Leaf, codec: Any) -> Ints:
    """The dictionary entries that a page's values are. A level that is 0 at most is not there."""
    plain = _unpacked(codec, body, size)
    at, present = 0, said[1]
    for most, encoding in ((leaf.levels.count(_REPEATED), said[4]), (len(leaf.levels), said[3])):
        if most:
            if encoding != _RLE:
                raise Malformed("its levels are not run lengths")
            end = at + 4 + int.from_bytes(plain[at : at + 4], "little")
            levels = _hybrid(plain, at + 4, end, most.bit_length(), said[1])
            present, at = int((levels == most).sum()), end
    return _hybrid(plain, at + 1, len(plain), plain[at], present) if present else np.zeros(0, np.int64)


def _v2(body: memoryview, size: int, said: dict[int, Any], leaf: Leaf, codec: Any) -> Ints:
    repeated, defined = said[6], said[5]
    levels, packed = bytes(body[: repeated + defined]), body[repeated + defined :]
    plain = _unpacked(codec if said.get(7, True) else None, packed, size - len(levels))
    present, most = said[1], len(leaf.levels)
    if most:
        present = int((_hybrid(levels, repeated, len(levels), most.bit_length(), said[1]) == most).sum())
    return _hybrid(plain, 1, len(plain), plain[0], present) if present else np.zeros(0, np.int64)


def _unpacked(codec: Any, packed: memoryview, size: int) -> bytes:
    if size < 0:
        raise Malformed("it has less than no bytes")
    plain: bytes = bytes(packed) if codec is None else codec.decompress(packed, size, asbytes=True)
    return plain


def _hybrid(data: bytes, at: int, end: int, width: int, count: int) -> Ints:
    """The first `count` numbers of the RLE and bit-packing hybrid. What fills up the last pack is none of them."""
    if not 0 <= width <= 32 or end > len(data):
        raise Malformed("there is no such run")
    if not width:
        return np.zeros(count, np.int64)
    reader, runs, left = Reader(data, at), [], count
    while left > 0:
        begin = reader.at
        header = reader.varint()
        if header & 1:
            size = (header >> 1) * width
            alike = _alike(data, begin, end, reader.at - begin, size) if size else 1
            if alike > 1:
                step = reader.at - begin + size
                table = np.frombuffer(data, np.uint8, alike * step, begin).reshape(alike, step)
                packs, reader.at = table[:, step - size :].tobytes(), begin + alike * step - size
            else:
                packs = data[reader.at : min(reader.at + size, end)]
            numbers = _packed(packs, width, left)
        else:
            size = (width + 7) // 8
            numbers = np.full(min(header >> 1, left), int.from_bytes(data[reader.at : reader.at + size], "little"), np.int64)
        reader.at += size
        if not len(numbers) or reader.at > end + width:
            raise Malformed("a run has no end")
        runs.append(numbers)
        left -= len(numbers)
    return np.concatenate(runs) if runs else np.zeros(0, np.int64)


def _alike(data: bytes, begin: int, end: int, header: int, size: int) -> int:
    """How many runs, whole ones from `begin` on, have the same header as the first: writers pack few hundred numbers in each."""
    step = header + size
    whole = (end - begin) // step
    if header > 1 or whole < 2:
        return 1
    heads = np.frombuffer(data, np.uint8, end - begin, begin)[: whole * step : step]
    other = np.nonzero(heads != heads[0])[0]
    return int(other[0]) if len(other) else whole


def _packed(data: bytes, width: int, most: int) -> Ints:
    """Numbers of `width` bits, from the lowest bit of the first byte on, as many as there are."""
    count = min(len(data) * 8 // width, most)
    at = np.arange(count) * width
    # Eight bytes from where a number begins hold it; those of the last ones reach beyond the data.
    padded = np.frombuffer(data + bytes(8), np.uint8)
    words = np.ndarray(len(data) + 1, "<u8", padded, strides=(1,))
    numbers: Ints = (words[at >> 3] >> (at & 7).astype(np.uint64) & np.uint64((1 << width) - 1)).astype(np.int64)
    return numbers
