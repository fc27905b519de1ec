"""The Spark plan against the reference, on random histories and rows, and what Spark's own ways could do to it."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import ledger
from ledger import times
from ledger.consent import Purpose
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
    found = by_spark.decide(df, snapshot, columns).select("n", by_spark.REASON).collect()
    assert sorted(map(tuple, found)) == list(enumerate(expected))
    assert ledger.ConsentFilter(snapshot, columns, decided_at).decide(table).reason.to_pylist() == expected
    if mapped == ALL:
        kept = by_spark.filter(df, snapshot, columns)
        assert kept.schema == df.schema
        allowed = [n for n, reason in enumerate(expected) if reason == "allowed"]
        assert sorted(row["n"] for row in kept.collect()) == allowed
        assert by_spark.counts(df, snapshot, columns) == Counter(expected)
