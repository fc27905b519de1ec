"""The Spark plan against the reference, on random histories and rows, and what Spark's own ways could do to it."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import ledger
from ledger import times
from ledger.consent import Purpose
from ledger.filter import ConsentFilter
from tests.conftest import ROOT, yes
from tests.integrations.random_acts import CATEGORIES, compiled, day, history, people, reference, rows

ALL = {"category", "content", "created"}
CASES = [
    (["subject"], ALL, False),
    (["subject"], ALL, True),
    (["subject"], set(), False),
    (["others"], ALL, False),
    (["others", "subject"], ALL, True),
    (["others"], {"content"}, True),
    (["subject", "others"], {"category"}, False),
]


@pytest.mark.parametrize(("names", "mapped", "lists_categories"), CASES)
def test_every_row_gets_the_reason_of_the_reference(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], mapped: set[str], lists_categories: bool
) -> None:
    from ledger.integrations import spark as by_spark

    draw = random.Random(f"{names} {sorted(mapped)} {lists_categories}")
    listed = tuple(CATEGORIES[:2]) if lists_categories else ()
    purpose = Purpose(token="ai", version=2, title="t", description="d", categories=listed, accepts=draw.choice([(2,), (1, 2)]))
    subjects = people(40)
    events, table = history(draw, subjects), rows(draw, subjects, 3000)
    as_of = day(draw.randint(12, 25))
    decided_at = as_of + (day(draw.choice([0, 3, 30])) - day(0))
    snapshot = compiled(tmp_path / "snapshot.parquet", events, purpose, as_of)
    constant = {"category": "=photo"} if lists_categories and "category" not in mapped else {}
    columns = ledger.Columns(subject=names, **{name: name for name in mapped}, **constant)  # type: ignore[arg-type]
    monkeypatch.setattr(times, "now", lambda: decided_at)
    pq.write_table(table, tmp_path / "rows.parquet")
    df = spark.read.parquet(str(tmp_path / "rows.parquet"))

    given = table if not constant else table.set_column(3, "category", [["photo"] * len(table)])
    expected = reference(given, names, mapped | set(constant), events, purpose, as_of, decided_at)
    assert len(set(expected)) > 6
    found = by_spark.decide(df, snapshot, columns).select("n", "consent_reason").collect()
    assert sorted(map(tuple, found)) == list(enumerate(expected))
    assert ConsentFilter(snapshot, columns, decided_at).decide(table).reason.to_pylist() == expected
    if mapped == ALL:
        kept = by_spark.filter(df, snapshot, columns)
        assert kept.schema == df.schema
        allowed = [n for n, reason in enumerate(expected) if reason == "allowed"]
        assert sorted(row["n"] for row in kept.collect()) == allowed
        assert by_spark.counts(df, snapshot, columns) == Counter(expected)


COLUMNS = ledger.Columns(subject="user_id", content="post_id")


@pytest.fixture
def at_work(book: ledger.Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a snapshot, a trust file and posts: of ann, who said yes but not to post 2, and of bob, who said nothing."""
    monkeypatch.chdir(tmp_path)
    book.record(yes("ann"))
    book.withdraw("ann", content_id="2")
    book.snapshot("train-ai", output="train-ai.parquet")
    Path("trust").write_bytes(Path("consent-ledger/trust").read_bytes())
    Path("posts").mkdir()
    posts = {"user_id": ["ann", "bob"] * 50, "post_id": [str(n // 2) for n in range(100)], "text": ["t"] * 100}
    pq.write_table(pa.table(posts), "posts/0.parquet")
    return tmp_path


def test_the_five_lines_of_the_documents(spark: Any, at_work: Path) -> None:
    text = (ROOT / "docs" / "integrations.md").read_text(encoding="utf-8")
    shared_by_all, section = text.partition("```python\n")[2], text.partition("\n## Spark\n")[2]
    names: dict[str, Any] = {"spark": spark}
    for code in (shared_by_all, section.partition("```python\n")[2]):
        here = re.sub('"(posts|kept)"', rf'"{at_work}/\1"', code.partition("```")[0])  # the session began in another folder
        exec(here, names)
    assert pq.read_table("kept")["post_id"].to_pylist() == [str(n) for n in range(50) if n != 2]
    assert names["dropped"] == {"allowed": 49, "no_record": 50, "withdrawn": 1}


def test_what_spark_writes_passes_the_audit(spark: Any, book: ledger.Ledger, at_work: Path) -> None:
    from ledger.integrations import spark as by_spark

    snapshot = ledger.load_snapshot("train-ai.parquet", trust=book.trust)
    by_spark.filter(spark.read.parquet(f"{at_work}/posts"), snapshot, COLUMNS).write.parquet(f"{at_work}/kept")
    audit, before = (ConsentFilter(snapshot, COLUMNS).audit_shards([folder]) for folder in ("kept", "posts"))
    assert audit.compliant
    assert audit.rows == 49
    assert before.rows_without_consent == 51


def test_the_plan_is_made_of_joins_that_spark_chooses(spark: Any, book: ledger.Ledger, at_work: Path) -> None:
    from ledger.integrations import spark as by_spark

    book.withdraw("ann", category="photo")
    snapshot = book.snapshot("train-ai")
    df = spark.read.parquet(f"{at_work}/posts").selectExpr("*", "array(user_id) AS authors", "'post' AS kind")
    threshold = spark.conf.get("spark.sql.autoBroadcastJoinThreshold")
    for subject in ("user_id", "authors"):
        kept = by_spark.filter(df, snapshot, ledger.Columns(subject=subject, content="post_id", category="kind"))
        for broadcast, join in ((threshold, "BroadcastHashJoin"), ("-1", "SortMergeJoin")):
            spark.conf.set("spark.sql.autoBroadcastJoinThreshold", broadcast)
            try:
                plan = kept.select("*")._jdf.queryExecution().executedPlan().toString()
            finally:
                spark.conf.set("spark.sql.autoBroadcastJoinThreshold", threshold)
            assert re.findall(r"\w*(?:Join|Cartesian\w*)\b", plan) == [join] * 3
            assert plan.count("FileScan parquet") == 1, "the rows are read once; the answers are frozen"
            assert not re.search("Python|Pandas|Arrow|UDF", plan)
    unmapped = by_spark.filter(df, snapshot, ledger.Columns(subject="user_id"))
    assert re.findall(r"\w*Join\b", unmapped._jdf.queryExecution().executedPlan().toString()) == ["BroadcastHashJoin"]
