"""Shards, columns and output folders that a run refuses: before anything is written, and before anything is logged."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest

import ledger
from tests.cli.conftest import Refused, damaged, tree
from tests.conftest import Outcome

BY = ("--purpose", "train-ai")
SUBJECT = ("--subject", "user_id")


@pytest.fixture
def refuses(refused: Refused) -> Callable[..., None]:
    """Neither filter nor audit takes these shards."""

    def check(shards: str, *options: str, code: int, says: list[str], hint: str) -> None:
        options = options or SUBJECT
        refused("filter", shards, "-o", "out", *BY, *options, code=code, says=says, hint=hint)
        refused("audit", shards, *BY, *options, code=code, says=says, hint=hint)

    return check


@pytest.mark.parametrize("how", ["empty", "cut by one", "cut in half", "padded by a newline", "padded by a NUL"])
def test_a_shard_that_was_cut_short_or_padded(refuses: Callable[..., None], tmp_path: Path, how: str) -> None:
    shard = tmp_path / "raw" / "a.parquet"
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.parquet").write_bytes(dict(damaged(shard.read_bytes()))[how])
    refuses("bad", code=1, says=["bad/x.parquet", "not a Parquet file, or was cut short"], hint="fetch it again")


def test_a_good_shard_beside_a_bad_one_is_not_written(refuses: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "raw" / "z.parquet").write_bytes(b"PAR1 and no more PAR1")
    refuses("raw", code=1, says=["raw/z.parquet"], hint="fetch it again")


def test_a_file_that_is_no_parquet(refuses: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_text("user_id,text\nann,yes\n" * 50, encoding="utf-8")
    refuses("x.parquet", code=1, says=["x.parquet", "not a Parquet file"], hint="fetch it again")


@pytest.mark.parametrize("plaintext_footer", [False, True])
def test_an_encrypted_shard(refuses: Callable[..., None], tmp_path: Path, plaintext_footer: bool) -> None:
    table = pa.table({"user_id": ["ann"], "text": ["secret"]})
    factory = pe.CryptoFactory(lambda _: _Wrapping())
    config = pe.EncryptionConfiguration(
        footer_key="footer", column_keys={"column": ["text"]}, plaintext_footer=plaintext_footer, double_wrapping=False
    )
    properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), config)
    with pq.ParquetWriter(tmp_path / "x.parquet", table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    refuses("x.parquet", code=1, says=["x.parquet", "encrypted"], hint="decrypt")


class _Wrapping(pe.KmsClient):
    """A key service of pyarrow's: it wraps keys, here by leaving them as they are."""

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
        return key_bytes.hex().encode()

    def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:
        return bytes.fromhex(wrapped_key.decode())


def test_columns_that_are_not_there_or_cannot_be_keys(refuses: Callable[..., None]) -> None:
    there = "'user_id', 'post_id', 'score', 'text'"
    refuses("raw", "--subject", "nope", code=2, says=["raw/a.parquet", "'nope'"], hint=there)
    refuses("raw", *SUBJECT, "--content", "nope", code=2, says=["raw/a.parquet", "'nope'"], hint=there)
    refuses("raw", "--subject", "score", code=2, says=["raw/a.parquet", "'score'", "double"], hint="keys are text")
    refuses("raw", *SUBJECT, "--created", "text", code=2, says=["raw/a.parquet", "'text'", "no time"], hint="map a timestamp")
    refuses("raw", "--content", "post_id", code=2, says=["no subject column"], hint="--subject")


def test_purposes_that_do_not_fit(refused: Refused) -> None:
    for command in (("filter", "raw", "-o", "out"), ("audit", "raw")):
        refused(*command, "--purpose", "nope", *SUBJECT, code=2, says=["'nope'"], hint="declared: caption, train-ai")
        refused(*command, "--purpose", "caption", *SUBJECT, code=2, says=["raw/a.parquet", "categories"], hint="photo, post")
        refused(*command, *SUBJECT, code=2, says=["--purpose", "--snapshot"], hint="consent purpose list")
    refused("snapshot", "--purpose", "nope", "-o", "s.parquet", code=2, says=["'nope'"], hint="declared: caption, train-ai")
    refused("snapshot", "--purpose", "train-ai", "-o", "raw", code=2, says=["raw is a folder"], hint="name the file")


def test_inputs_that_mean_nothing(refused: Refused, refuses: Callable[..., None], tmp_path: Path) -> None:
    for folder in ("none", "hidden"):
        (tmp_path / folder).mkdir()
    (tmp_path / "hidden" / "_x.parquet").write_bytes(b"")
    refused("filter", "hidden", "-o", "out", *BY, *SUBJECT, code=2, says=["there is no shard in hidden"], hint="_ or .")
    refused("audit", "hidden", *BY, *SUBJECT, code=1, says=["hidden/_x.parquet"], hint="fetch it again")
    refuses("nothing", code=2, says=["nothing does not exist"], hint="a file, a folder or a glob")
    refuses("none", code=2, says=["there is no shard in none"], hint="*.parquet")
    refuses("raw/*.pq", code=2, says=["raw/*.pq"], hint="*.parquet")


def test_two_inputs_with_one_output_name(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    shutil.copy(tmp_path / "raw" / "a.parquet", tmp_path / "more" / "a.parquet")
    shards = ("raw/a.parquet", "more/a.parquet")
    says, hint = [*shards, "both be written as a.parquet"], "name the folder above"
    refused("filter", *shards, "-o", "out", *BY, *SUBJECT, code=2, says=says, hint=hint)


@pytest.mark.parametrize("output", ["raw", "./raw", "raw/../raw", "link", "."])
def test_the_output_folder_is_an_input_folder(refused: Refused, tmp_path: Path, output: str) -> None:
    if output == "link":
        (tmp_path / "link").symlink_to("raw")
    refused("filter", "raw", "-o", output, *BY, *SUBJECT, code=2, says=["raw/a.parquet", "output folder"], hint="-o")


def test_the_output_folder_is_none_of_the_users(refused: Refused, tmp_path: Path) -> None:
    """A run that holds the ledger's folder would wait for itself when it logs its answers."""
    for output in ("consent-ledger", "consent-ledger/snapshots"):
        refused("filter", "raw", "-o", output, *BY, *SUBJECT, code=2, says=[f"{output} is a ledger's own folder"], hint="-o")
    (tmp_path / "file").write_text("", encoding="utf-8")
    refused("filter", "raw", "-o", "file", *BY, *SUBJECT, code=1, says=["cannot create file"], hint="choose another")
    refused("filter", "raw", "-o", "file/out", *BY, *SUBJECT, code=1, says=["cannot create file"], hint="choose another")
    refused("snapshot", "--purpose", "train-ai", "-o", "file/s", code=1, says=["cannot create file"], hint="choose another")
    refused("receipt", "e1", "-o", "raw", code=1, says=["cannot write raw"], hint="name a file")


def test_an_output_folder_that_holds_foreign_shards(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "train" / "deep").mkdir(parents=True)
    shutil.copy(tmp_path / "raw" / "a.parquet", tmp_path / "train" / "deep" / "other.parquet")
    refused("filter", "raw", "-o", "train", *BY, *SUBJECT, code=2, says=["train", "deep/other.parquet"], hint="empty folder")


@pytest.mark.parametrize("marker", ["_delta_log/", "metadata/v1.metadata.json", ".hoodie/"])
def test_a_table_of_a_lake(refuses: Callable[..., None], tmp_path: Path, marker: str) -> None:
    shutil.copytree(tmp_path / "raw", tmp_path / "lake" / "part=1")
    (tmp_path / "lake" / marker).parent.mkdir(exist_ok=True)
    (tmp_path / "lake" / marker).mkdir() if marker.endswith("/") else (tmp_path / "lake" / marker).write_text("{}")
    for shards in ("lake", "lake/part=1", "lake/*/a.parquet", "lake/part=1/a.parquet"):
        refuses(shards, code=1, says=["lake is a table of"], hint="plain Parquet files")


@pytest.mark.parametrize("how", ["replaced", "appended to", "cut short", "written over", "removed"])
def test_a_shard_that_changes_while_it_is_read(told: Callable[..., Outcome], tmp_path: Path, how: str) -> None:
    """From the progress callback: in the middle of the run, after its first row group."""
    rows = 4000
    raw, other = tmp_path / "raw" / "a.parquet", tmp_path / "other"
    pq.write_table(pa.table({"user_id": ["ann"] * rows, "text": list(map(str, range(rows)))}), raw, row_group_size=1000)
    pq.write_table(pa.table({"user_id": ["ann"] * rows, "text": ["another"] * rows}), other, row_group_size=1000)

    def change() -> None:
        if how == "replaced":
            other.replace(raw)
        elif how == "appended to":
            with raw.open("ab") as file:
                file.write(b"x")
        elif how == "cut short":
            os.truncate(raw, 100)
        elif how == "written over":
            with raw.open("r+b") as file:
                file.write(b"PAR1")
        else:
            raw.unlink()

    changed = []

    def progress(done: int, total: int) -> None:
        if not changed:
            changed.append(done)
            change()

    with ledger.open(tmp_path / "consent-ledger") as book:
        consent = ledger.ConsentFilter(book.snapshot("train-ai"), ledger.Columns(subject="user_id"))
        before = book.checkpoint()
        with pytest.raises(ledger.ShardError, match=r"raw/a\.parquet") as raised:
            consent.filter_shards([raw], tmp_path / "out", key=book.run_key(), admit=book.admit, on_progress=progress)
        assert raised.value.exit_code == 1
        assert raised.value.hint
        assert changed == [1000]
        assert book.checkpoint() == before
    left = [name for name in tree(tmp_path) if name.startswith("out")]
    assert left in ([], ["out"]), "no shard, no statement, no hidden file"
    assert ledger.fsck(tmp_path / "consent-ledger").events == 1


def test_values_out_of_range(refused: Refused) -> None:
    run: tuple[Any, ...] = ("filter", "raw", "-o", "out", *BY, *SUBJECT)
    refused(*run, "--min-kept", "2", code=2, says=["--min-kept"], hint="--help")
    refused(*run, "--workers", "0", code=2, says=["--workers"], hint="--help")
    refused(*run, "--max-age", "1 day", code=2, says=["'1 day' is no span"], hint="--help")
    refused(*run, "--created-unit", "minutes", code=2, says=["--created-unit"], hint="--help")
