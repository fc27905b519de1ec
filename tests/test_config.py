"""consent.toml: where it is found, what it may say, and who may have written it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import fields
from pathlib import Path

import pytest

import ledger
from ledger import config

WHOLE = """
trust = "consent-ledger/trust"
snapshot = "/elsewhere/train-ai.parquet"

[columns.posts]
subject = ["author", "editor"]
content = "metadata.post_id"
category = "=post"
created = "at"
created_unit = "ms"
subject_prefix = "reddit:"
content_prefix = "t3_"

[columns.photos]
subject = "owner"

[import.crm]
table = { anything = ["as", 1, "stands"] }
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "consent.toml").write_text(WHOLE, encoding="utf-8")
    return tmp_path


def test_a_whole_file_is_read(project: Path) -> None:
    found = config.load(project / "consent.toml")
    assert found.path == project / "consent.toml"
    assert found.trust == project / "consent-ledger" / "trust"
    assert found.snapshot == Path("/elsewhere/train-ai.parquet")
    assert list(found.columns) == ["posts", "photos"]
    assert found.columns_of("photos") == {"subject": ("owner",)}
    assert found.imports == {"crm": {"table": {"anything": ["as", 1, "stands"]}}}
    assert ledger.Columns.load(found.path, "posts") == ledger.Columns(
        subject=["author", "editor"],
        content="metadata.post_id",
        category="=post",
        created="at",
        created_unit="ms",
        subject_prefix="reddit:",
        content_prefix="t3_",
    )


def test_the_keys_of_columns_are_those_that_columns_have() -> None:
    assert tuple(f.name for f in fields(ledger.Columns)) == config.COLUMN_KEYS


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "consent.toml").write_text("", encoding="utf-8")
    assert config.load(tmp_path / "consent.toml") == config.Config(path=tmp_path / "consent.toml")


def test_the_nearest_file_above_is_found_and_counts_alone(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = project / "a" / "b"
    deep.mkdir(parents=True)
    assert config.find(deep) == project / "consent.toml"
    (project / "a" / "consent.toml").write_text("", encoding="utf-8")
    assert config.find(deep) == project / "a" / "consent.toml"
    monkeypatch.chdir(deep)
    assert config.find() == project / "a" / "consent.toml"
    assert config.find(Path("..")) == project / "a" / "consent.toml"
    assert config.find(project) == project / "consent.toml"


def test_relative_paths_count_from_the_files_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "a").mkdir()
    monkeypatch.chdir(project / "a")
    found = config.load("../consent.toml")
    assert found.trust is not None
    assert found.trust.resolve() == project / "consent-ledger" / "trust"


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("trsut = 'x'", "'trsut', which is unknown", "trust, snapshot, columns, import"),
        ("[column.posts]\nsubject = 'x'", "'column', which is unknown", "columns"),
        ("trust = 7", "trust in .* is no file's name", "trust ="),
        ("trust = ''", "trust in .* is no file's name", "trust ="),
        ('trust = "a\\u0000b"', "trust in .* is no file's name", "trust ="),
        ("snapshot = ['x']", "snapshot in .* is no file's name", "snapshot ="),
        ("columns = 7", "columns in .* does not hold tables", "columns.posts"),
        ("[columns]\nsubject = 'x'", "columns in .* does not hold tables", "columns.posts"),
        ("[[columns]]\nsubject = 'x'", "columns in .* does not hold tables", "columns.posts"),
        ("import = ['x']", "import in .* does not hold tables", "import.posts"),
        ("[columns.a.b]\nsubject = 'x'", "'b', which is unknown", "subject, content"),
        ("[columns.posts]\nsubject = 'x'\nsubjects = 'y'", "'subjects', which is unknown", "subject, content"),
        ("[columns.posts]\ncontent = 'x'", "names no subject", "subject ="),
        ("[columns.posts]\nsubject = 'x'\ncontent = 1979-05-27", "no text", "text"),
        ("[columns.posts]\nsubject = [['x']]", "no text", "text"),
        ("trust = 'a'\ntrust = 'b'", "no TOML", None),
        ("x = " + "[" * 5000, "no TOML", None),
        ("# " + "x" * (1 << 20), "longer than", None),
        ("\ufefftrust = 'a'", "no TOML", None),
    ],
)
def test_what_it_may_not_say_is_refused(tmp_path: Path, text: str, says: str, hint: str | None) -> None:
    (tmp_path / "consent.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ledger.UsageError, match=says) as refused:
        config.load(tmp_path / "consent.toml")
    assert hint is None or hint in (refused.value.hint or "")


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "consent.toml").write_bytes(b"trust = '\xff'")
    with pytest.raises(ledger.UsageError, match="no TOML"):
        config.load(tmp_path / "consent.toml")


def test_names_that_lead_nowhere_are_errors_and_never_passed_over(tmp_path: Path) -> None:
    path, deep = tmp_path / "consent.toml", tmp_path / "a"
    deep.mkdir()
    path.symlink_to("consent.toml")
    assert config.find(deep) == path, "a loop"
    with pytest.raises(ledger.UsageError, match="cannot read"):
        config.load(path)
    path.unlink()
    path.symlink_to("nowhere")
    assert config.find(deep) == path
    with pytest.raises(ledger.UsageError, match="cannot read"):
        config.load(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ledger.UsageError, match=r"cannot read|not a regular file"):
        config.load(path)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(ledger.UsageError, match="not a regular file"):
        config.load(path)


def test_a_link_of_ours_to_a_file_of_ours_counts_from_where_the_link_is(project: Path) -> None:
    (project / "a").mkdir()
    (project / "a" / "consent.toml").symlink_to(project / "consent.toml")
    assert config.load(project / "a" / "consent.toml").trust == project / "a" / "consent-ledger" / "trust"


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_can_write_to_is_refused(project: Path, mode: int) -> None:
    (project / "consent.toml").chmod(mode)
    with pytest.raises(ledger.UsageError, match="written to by others") as refused:
        config.load(project / "consent.toml")
    assert "chmod go-w" in (refused.value.hint or "")


def test_a_file_that_others_can_replace_is_refused(project: Path) -> None:
    project.chmod(0o777)
    with pytest.raises(ledger.UsageError, match="put there by others"):
        config.load(project / "consent.toml")
    project.chmod(0o1777)  # as /tmp is: others can add files there, but not replace ours
    config.load(project / "consent.toml")
    os.link(project / "consent.toml", project / "of another project")  # but they can give a file of ours another name
    with pytest.raises(ledger.UsageError, match="put there by others"):
        config.load(project / "consent.toml")
    project.chmod(0o755)
    config.load(project / "consent.toml")


def test_a_folder_of_another_user_is_refused(project: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make another user's folder")
    os.chown(project, 12345, 12345)
    with pytest.raises(ledger.UsageError, match="put there by others"):
        config.load(project / "consent.toml")


@pytest.fixture
def others_file(project: Path) -> Path:
    """A consent.toml that another user planted."""
    if os.geteuid() != 0:
        pytest.skip("only root can make another user's file")
    os.chown(project / "consent.toml", 12345, 12345)
    project.chmod(0o1777)
    return project / "consent.toml"


def test_another_users_file_is_refused_and_not_passed_over(others_file: Path) -> None:
    (others_file.parent / "a").mkdir()
    assert config.find(others_file.parent / "a") == others_file
    with pytest.raises(ledger.UsageError, match="another user") as refused:
        config.load(others_file)
    assert "options" in (refused.value.hint or "")


def test_another_users_link_to_a_file_of_ours_is_refused(project: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make another user's link")
    planted = tmp_path / "shared" / "consent.toml"
    planted.parent.mkdir()
    planted.symlink_to(project / "consent.toml")
    os.chown(planted, 12345, 12345, follow_symlinks=False)
    with pytest.raises(ledger.UsageError, match="another user"):
        config.load(planted)


def test_a_file_that_may_not_be_read_is_an_error() -> None:
    us = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:  # not under pytest's own folder, which is closed to everybody else
        Path(folder).chmod(0o755)
        path = Path(folder) / "consent.toml"
        path.write_text("", encoding="utf-8")
        path.chmod(0)
        if us == 0:
            os.seteuid(12345)  # nothing is closed to root
        try:
            assert config.find(Path(folder)) == path
            with pytest.raises(ledger.UsageError, match="cannot read"):
                config.load(path)
        finally:
            if us == 0:
                os.seteuid(us)


def test_a_folder_that_may_not_be_searched_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    us = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        inner = Path(folder) / "a"
        inner.mkdir()
        monkeypatch.chdir(inner)
        Path(folder).chmod(0o600 if us else 0o700)
        if us == 0:
            os.seteuid(12345)
        try:
            with pytest.raises(ledger.UsageError, match="cannot look for"):
                config.find()
        finally:
            if us == 0:
                os.seteuid(us)
            Path(folder).chmod(0o700)
        monkeypatch.undo()


def test_it_loads_no_engine() -> None:
    code = (
        "import sys; from ledger import config; config.find(); "
        "bad = {'sqlmodel', 'sqlalchemy', 'duckdb', 'pyarrow', 'numpy', 'click'} & set(sys.modules); "
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
