"""The sink: nothing stands under a final name that was not published."""

from __future__ import annotations

import gc
import hashlib
import io
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ledger.errors import ShardError
from ledger.shards.fingerprint import hashed
from ledger.shards.publish import HashingSink

TABLE = pa.table({"a": list(range(100))})


def test_published_bytes_and_their_digest(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "down" / "x.parquet"
    with HashingSink(target) as sink:
        sink.write(b"one")
        sink.write(memoryview(b"two"))
        assert sink.tell() == 6
        assert not target.exists()
        sink.publish()
    assert target.read_bytes() == b"onetwo"
    assert sink.sha256 == hashlib.sha256(b"onetwo").hexdigest()
    assert list(target.parent.iterdir()) == [target]


def test_what_is_held_back_can_be_replaced(tmp_path: Path) -> None:
    with HashingSink(tmp_path / "x") as sink:
        sink.write(b"body")
        sink.hold()
        sink.write(b"foo")
        sink.write(b"ter")
        assert sink.tell() == 10
        with pytest.raises(ShardError, match="not complete"):
            sink.publish()
        assert sink.release() == b"footer"
        assert sink.tell() == 4
        sink.write(b"new")
        sink.publish()
    assert (tmp_path / "x").read_bytes() == b"bodynew"
    assert sink.sha256 == hashlib.sha256(b"bodynew").hexdigest()


def test_leaving_without_publishing_leaves_nothing(tmp_path: Path) -> None:
    with HashingSink(tmp_path / "x.parquet") as sink:
        pq.write_table(TABLE, sink)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ShardError, match="discarded"):
        sink.publish()


def test_what_stood_there_stays_until_the_new_is_published(tmp_path: Path) -> None:
    target = tmp_path / "x"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError), HashingSink(target) as sink:
        sink.write(b"new")
        raise RuntimeError
    assert target.read_bytes() == b"old"
    with HashingSink(target) as sink:
        sink.write(b"new")
        sink.publish()
    assert target.read_bytes() == b"new"


def test_a_forgotten_writer_and_sink_leave_nothing(tmp_path: Path) -> None:
    """An abandoned ParquetWriter completes its file when it is collected."""
    sink = HashingSink(tmp_path / "x.parquet")
    writer = pq.ParquetWriter(sink, TABLE.schema)
    writer.write_table(TABLE)
    assert len(list(tmp_path.iterdir())) == 1
    del writer, sink
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_outlives_its_discarded_sink_is_harmless(tmp_path: Path) -> None:
    sink = HashingSink(tmp_path / "x.parquet")
    writer = pq.ParquetWriter(sink, TABLE.schema)
    sink.discard()
    writer.write_table(TABLE)
    writer.close()
    sink.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    sink = HashingSink(tmp_path / "x.parquet")
    os.dup2(full := os.open("/dev/full", os.O_WRONLY), sink._file.fileno())  # type: ignore[union-attr]
    os.close(full)
    with pytest.raises(ShardError, match="No space left"), pq.ParquetWriter(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(ShardError, match="cannot write"), HashingSink(tmp_path / "x") as sink:
        sink.write(b"a file cannot replace a folder")
        sink.publish()
    assert list(tmp_path.iterdir()) == [tmp_path / "x"]


def test_a_killed_process_leaves_nothing_under_the_name(tmp_path: Path) -> None:
    code = """
import os, signal, sys
import pyarrow as pa, pyarrow.parquet as pq
from ledger.shards.publish import HashingSink
sink = HashingSink(sys.argv[1])
pq.write_table(pa.table({"a": [1]}), sink)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "x.parquet"], cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".")
    assert left.suffix == ".tmp"


def test_the_file_is_synced_before_its_name_and_the_folder_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace
    sink = HashingSink(tmp_path / "x")
    sink.write(b"x")
    monkeypatch.setattr(
        os, "fsync", lambda fd: (done.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"), fsync(fd))
    )
    monkeypatch.setattr(Path, "replace", lambda self, to: (done.append("rename"), replace(self, to)))
    sink.publish()
    assert done == ["file", "rename", "folder"]


# Copies


def test_a_copy_has_the_digest_of_what_it_is_a_copy_of(tmp_path: Path) -> None:
    data = os.urandom((3 << 20) + 5)
    known = hashed(io.BytesIO(data))
    with HashingSink(tmp_path / "x") as sink:
        sink.copy(io.BytesIO(data), known)
        assert sink.tell() == len(data)
        with pytest.raises(ShardError, match="is a copy, and nothing more"):
            sink.write(b"more")
        sink.publish()
    assert (tmp_path / "x").read_bytes() == data
    assert sink.sha256 == known.sha256 == hashlib.sha256(data).hexdigest()


def test_a_copy_of_other_bytes_is_discarded(tmp_path: Path) -> None:
    data = os.urandom(100)
    with HashingSink(tmp_path / "x") as sink:
        with pytest.raises(ShardError, match="changed while it was read"):
            sink.copy(io.BytesIO(data), hashed(io.BytesIO(data[::-1])))
        with pytest.raises(ShardError, match="discarded"):
            sink.publish()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_before_a_copy(tmp_path: Path) -> None:
    known = hashed(io.BytesIO(b"x"))
    for begin in (lambda sink: sink.write(b"x"), lambda sink: sink.hold(), lambda sink: sink.discard()):
        with HashingSink(tmp_path / "x") as sink:
            begin(sink)
            with pytest.raises(ShardError, match="cannot become a copy"):
                sink.copy(io.BytesIO(b"x"), known)
    assert list(tmp_path.iterdir()) == []


def test_a_copy_that_cannot_be_read_to_its_end_is_discarded(tmp_path: Path) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell():
                raise OSError(5, "Input/output error")
            return super().read(3)

    with HashingSink(tmp_path / "x") as sink:
        with pytest.raises(OSError, match="Input/output"):
            sink.copy(Broken(b"abcdef"), hashed(io.BytesIO(b"abcdef")))
        with pytest.raises(ShardError, match="discarded"):
            sink.publish()
    assert list(tmp_path.iterdir()) == []
