"""What files, folders and globs mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger.errors import ShardError, UsageError
from ledger.shards.inputs import find_inputs


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def names(*paths: object) -> list[str]:
    return [shard.name for shard in find_inputs([str(path) for path in paths])]


def test_a_folder_means_its_parquet_files_sorted_with_their_paths(tmp_path: Path) -> None:
    make(tmp_path, "b/part-0.parquet", "a/part-0.parquet", "a-b.parquet", "z.parquet", "notes.txt", "a/x.parquet.crc")
    found = find_inputs([tmp_path])
    assert [shard.name for shard in found] == ["a-b.parquet", "a/part-0.parquet", "b/part-0.parquet", "z.parquet"]
    assert all(shard.path == tmp_path / shard.name for shard in found)


def test_hidden_names_are_skipped_at_every_level(tmp_path: Path) -> None:
    make(tmp_path, "_temporary/0/x.parquet", "day=1/_x.parquet", "day=1/.y.parquet", ".cache/z.parquet", "day=1/ok.parquet")
    assert names(tmp_path) == ["day=1/ok.parquet"]


def test_a_folder_that_was_named_may_itself_be_hidden(tmp_path: Path) -> None:
    make(tmp_path, "_data/x.parquet")
    assert names(tmp_path / "_data") == ["x.parquet"]


def test_a_file_is_taken_by_its_name_and_order_is_kept(tmp_path: Path) -> None:
    make(tmp_path, "b.parquet", "a.parquet")
    assert names(tmp_path / "b.parquet", tmp_path / "a.parquet") == ["b.parquet", "a.parquet"]


def test_globs_are_named_from_their_last_fixed_folder(tmp_path: Path) -> None:
    make(tmp_path, "a/x.parquet", "b/x.parquet", "b/_y.parquet", "b/y.csv", "_c/x.parquet")
    assert names(tmp_path / "*" / "*.parquet") == ["a/x.parquet", "b/x.parquet"]
    assert names(tmp_path / "*") == ["a/x.parquet", "b/x.parquet"]
    assert names(tmp_path / "**") == ["a/x.parquet", "b/x.parquet"]
    assert names(tmp_path / "b" / "x*") == ["x.parquet"]


def test_a_relative_glob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a/x.parquet", "y.parquet")
    monkeypatch.chdir(tmp_path)
    assert names("*.parquet") == ["y.parquet"]
    assert names("**/*.parquet") == ["a/x.parquet", "y.parquet"]


def test_a_file_whose_name_looks_like_a_glob(tmp_path: Path) -> None:
    make(tmp_path, "x[1].parquet")
    assert names(tmp_path / "x[1].parquet") == ["x[1].parquet"]


def test_two_inputs_of_one_output_name_are_refused(tmp_path: Path) -> None:
    make(tmp_path, "a/x.parquet", "b/x.parquet")
    with pytest.raises(UsageError, match=r"both be written as x\.parquet"):
        names(tmp_path / "a", tmp_path / "b" / "x.parquet")
    with pytest.raises(UsageError, match="both be written"):
        names(tmp_path / "a", tmp_path / "a")


@pytest.mark.parametrize("path", ["", "absent", "absent*", "empty", "empty/*"])
def test_what_means_nothing_is_an_error(tmp_path: Path, path: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError):
        names(tmp_path / path)


def test_nothing_named_is_an_error() -> None:
    with pytest.raises(UsageError):
        find_inputs([])


TABLES = {"Delta Lake": "_delta_log/0.json", "Iceberg": "metadata/v1.metadata.json", "Hudi": ".hoodie/hoodie.properties"}


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("named", ["", "table", "table/day=1", "table/day=1/x.parquet", "table/*/x.parquet"])
def test_tables_and_their_parts_are_refused(tmp_path: Path, kind: str, named: str) -> None:
    make(tmp_path, "table/day=1/x.parquet", "plain.parquet", f"table/{TABLES[kind]}")
    with pytest.raises(ShardError, match=f"is a table of {kind}") as refused:
        names(tmp_path / named)
    assert refused.value.hint


def test_an_older_table_of_iceberg_with_compressed_metadata_is_refused(tmp_path: Path) -> None:
    make(tmp_path, "table/data/x.parquet", "table/metadata/v1.metadata.json.gz")
    for named in (tmp_path, tmp_path / "table/data/x.parquet"):
        with pytest.raises(ShardError, match="is a table of Iceberg"):
            names(named)


def test_a_folder_called_metadata_is_no_table(tmp_path: Path) -> None:
    make(tmp_path, "x.parquet", "metadata/readme.json")
    assert names(tmp_path) == ["x.parquet"]


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    make(tmp_path, "real/x.parquet", "set/y.parquet")
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "real")
    assert names(tmp_path / "set") == ["linked/x.parquet", "y.parquet"]
    (tmp_path / "set" / "circle").symlink_to(tmp_path / "set")
    with pytest.raises(ShardError, match="leads back"):
        names(tmp_path / "set")


def test_a_link_into_a_table_is_refused(tmp_path: Path) -> None:
    make(tmp_path, "table/_delta_log/0.json", "table/x.parquet")
    (tmp_path / "x.parquet").symlink_to(tmp_path / "table" / "x.parquet")
    with pytest.raises(ShardError, match="Delta"):
        names(tmp_path / "x.parquet")


def test_a_dead_link_is_not_passed_over(tmp_path: Path) -> None:
    make(tmp_path, "x.parquet")
    (tmp_path / "y.parquet").symlink_to(tmp_path / "gone.parquet")
    assert names(tmp_path) == ["x.parquet", "y.parquet"]


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad\udcff.parquet").touch()
    with pytest.raises(ShardError, match="not UTF-8"):
        names(tmp_path)


def test_a_name_that_no_statement_may_have_is_refused_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "a\\b.parquet").touch()
    with pytest.raises(ShardError, match="backslash"):
        find_inputs([tmp_path])


def test_an_audit_takes_what_some_reader_takes(tmp_path: Path) -> None:
    """BUG (compliant without having looked): a shard called B.PARQUET was passed over."""
    make(tmp_path, "a.parquet", "B.PARQUET", "_c.Parquet", ".d/e.parquet")
    assert names(tmp_path) == names(tmp_path / "*") == ["a.parquet"]
    for path in (tmp_path, tmp_path / "**"):
        assert sorted(shard.name for shard in find_inputs([path], hidden=True)) == [
            ".d/e.parquet", "B.PARQUET", "_c.Parquet", "a.parquet"
        ]  # fmt: skip
