"""Columns from a file."""

from __future__ import annotations

from pathlib import Path

import pytest

import ledger

TOML = """
[columns.posts]
subject = ["author", "editor"]
content = "post_id"
category = "=post"
"""


def test_columns_are_loaded_by_name(tmp_path: Path) -> None:
    path = tmp_path / "consent.toml"
    path.write_text(TOML, encoding="utf-8")
    assert ledger.Columns.load(path, "posts") == ledger.Columns(subject=["author", "editor"], content="post_id", category="=post")


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        (TOML, "photos", "no .columns.photos."),
        (TOML + "subjects = 'x'", "posts", "does not say"),
        ("[columns.posts]\nsubject = 7", "posts", "no text"),
        ("[columns.posts]\nsubject = ['a', 7]", "posts", "no text"),
        ("[columns.posts]\ncontent = 'c'", "posts", "does not say"),
        ("columns = 7", "posts", "does not hold tables"),
        ("[columns", "posts", "no TOML"),
        ("[columns.posts]\nsubject = ''", "posts", "no subject"),
    ],
)
def test_what_does_not_say_where_the_keys_are_is_refused(tmp_path: Path, text: str, name: str, says: str) -> None:
    path = tmp_path / "consent.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ledger.UsageError, match=says):
        ledger.Columns.load(path, name)
    with pytest.raises(ledger.UsageError, match="cannot read"):
        ledger.Columns.load(tmp_path / "none.toml", name)


@pytest.mark.parametrize("name", ["content", "category", "created"])
def test_an_empty_name_is_no_column(name: str) -> None:
    """Parquet may have a column without a name; statements and journals would read as if none were mapped."""
    with pytest.raises(ledger.UsageError, match=f"name of the {name} column is empty"):
        ledger.Columns(**{"subject": "user_id", name: ""})  # type: ignore[arg-type]
