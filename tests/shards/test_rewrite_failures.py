"""What goes wrong leaves nothing under the final name."""

from __future__ import annotations

import gc
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest

from ledger.errors import ShardError
from ledger.shards import footer
from ledger.shards.publish import HashingSink
from ledger.shards.rewrite import ShardFile, rewrite
from ledger.shards.thrift import Reader
from tests.shards.rewriting import (
    ROWS,
    WORDS,
    chunk,
    footer_of,
    shard_of,
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return shard_of(tmp_path / "in" / "x.parquet", pa.table({"a": WORDS[:20] * 2, "n": range(ROWS)}), write_page_checksum=True)


def everything(group: int) -> Any:
    return np.ones((16, 16, 8)[group], bool)


def attempt(source: Path, masks: Callable[[int], Any] = everything) -> list[Path]:
    """Rewrites into a folder of its own; what is there after an exception is in its notes."""
    out = source.parent.parent / "out"
    with ShardFile(source) as shard, HashingSink(out / "x.parquet") as sink:
        rewrite(shard, sink, masks)
        sink.publish()
    return list(out.iterdir())


def require_nothing(source: Path) -> None:
    gc.collect()
    assert list((source.parent.parent / "out").iterdir()) == []


def test_an_exception_midway(source: Path) -> None:
    def masks(group: int) -> Any:
        if group == 2:
            raise KeyboardInterrupt
        return everything(group)

    with pytest.raises(KeyboardInterrupt):
        attempt(source, masks)
    require_nothing(source)


def test_a_failed_rewrite_discards_its_sink(source: Path) -> None:
    out = source.parent.parent / "out"
    sink = HashingSink(out / "x.parquet")
    with ShardFile(source) as shard, pytest.raises(ShardError):
        rewrite(shard, sink, lambda group: pa.nulls(16, pa.bool_()))
    assert list(out.iterdir()) == []
    with pytest.raises(ShardError, match="discarded"):
        sink.publish()


@pytest.mark.parametrize(
    "mask",
    [np.ones(15, bool), np.ones(17, bool), np.array([], bool), pa.array([True] * 15 + [None]), pa.nulls(16, pa.bool_())],
    ids=["short", "long", "empty", "a null", "nulls"],
)
def test_a_mask_that_does_not_answer_for_each_row(source: Path, mask: Any) -> None:
    with pytest.raises(ShardError, match="for the 16 rows of row group 0"):
        attempt(source, lambda group: mask)
    require_nothing(source)


def test_numbers_are_no_mask(source: Path) -> None:
    with pytest.raises((TypeError, ShardError)):
        attempt(source, lambda group: np.nonzero(everything(group))[0])
    require_nothing(source)


def test_a_killed_rewrite(source: Path) -> None:
    code = """
import os, signal, sys, numpy as np
from ledger.shards.publish import HashingSink
from ledger.shards.rewrite import ShardFile, rewrite
def masks(group):
    if group == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return np.ones(16, bool)
with ShardFile(sys.argv[1]) as shard, HashingSink(sys.argv[2]) as sink:
    rewrite(shard, sink, masks)
"""
    out = source.parent.parent / "out"
    done = subprocess.run([sys.executable, "-c", code, source, out / "x.parquet"], cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [(path.name[0], path.suffix) for path in out.iterdir()] == [(".", ".tmp")]


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def touch(path: Path) -> None:
    os.utime(path)


def truncate(path: Path) -> None:
    os.truncate(path, 10)


def replace(path: Path) -> None:
    copy = path.with_suffix(".copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)


def overwrite(path: Path) -> None:
    """In place and of the same length, with its time of change put back."""
    status = path.stat()
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("change", [append, touch, truncate, replace, overwrite, Path.unlink])
def test_an_input_that_changes_while_it_is_read(source: Path, change: Callable[[Path], None]) -> None:
    def masks(group: int) -> Any:
        if group == 1:
            change(source)
        return everything(group)

    with pytest.raises(ShardError, match=r"x\.parquet"):
        attempt(source, masks)
    require_nothing(source)


def test_a_page_that_does_not_match_its_checksum(source: Path) -> None:
    whole = bytearray(source.read_bytes())
    numbers = chunk(Reader(footer_of(whole)).struct(), 1, 1)
    whole[numbers[11][1] + numbers[7][1] - 1] ^= 1  # the last byte of the column's last page
    source.write_bytes(whole)
    with pytest.raises(ShardError, match="cannot be read"):
        attempt(source)
    require_nothing(source)


def test_damage_anywhere_is_an_error_or_seen_as_it_is(source: Path) -> None:
    whole = source.read_bytes()
    table = pq.read_table(source)
    failed = 0
    for at in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        source.write_bytes(damaged)
        try:
            attempt(source)
        except ShardError:
            failed += 1
            continue
        # Pages are under checksums; what got through is in places that hold no values of rows.
        in_footer = at > len(whole) - len(footer_of(whole)) - 8
        assert in_footer or pq.ParquetFile(source.parent.parent / "out" / "x.parquet").read().equals(table)
    assert failed > len(whole) // 7 // 3


@pytest.mark.parametrize("content", [b"", b"PAR1", b"hello world, this is text", b"PAR1" * 10])
def test_what_is_no_shard(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(ShardError, match=r"x\.parquet"):
        ShardFile(tmp_path / "x.parquet")


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.parquet", tmp_path):
        with pytest.raises(ShardError, match="cannot be read"):
            ShardFile(path)


class Vault(pe.KmsClient):  # type: ignore[misc]
    """Wraps keys in nothing: enough to write an encrypted file."""

    def __init__(self, config: Any) -> None:
        pe.KmsClient.__init__(self)

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
        return key_bytes.hex().encode()

    def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:
        return bytes.fromhex(wrapped_key.decode())


@pytest.mark.parametrize("plaintext_footer", [True, False])
def test_encrypted_shards_are_refused(tmp_path: Path, plaintext_footer: bool) -> None:
    """With a plaintext footer such a file opens, and its unencrypted key columns read."""
    factory = pe.CryptoFactory(lambda config: Vault(config))
    config = pe.EncryptionConfiguration(footer_key="f", column_keys={"k": ["secret"]}, plaintext_footer=plaintext_footer)
    properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), config)
    sink = io.BytesIO()
    table = pa.table({"id": ["a"], "secret": ["b"]})
    with pq.ParquetWriter(sink, table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    (tmp_path / "x.parquet").write_bytes(sink.getvalue())
    with pytest.raises(ShardError, match="encrypted") as refused:
        ShardFile(tmp_path / "x.parquet")
    assert refused.value.hint


def test_the_output_is_opened_again_and_compared(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graft = footer.Footer.graft

    def careless(self: Any, tail: bytes, carried: Any) -> bytes:
        return graft(self, tail, {number: value for number, value in carried.items() if number != 5})

    monkeypatch.setattr(footer.Footer, "graft", careless)
    with pytest.raises(ShardError, match="has not the schema and rows"):
        attempt(source)
    require_nothing(source)
