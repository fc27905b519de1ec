"""What files, sessions and rows can do to a plan: none of it turns a no into a yes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import ledger
from ledger import times
from ledger.filter import ConsentFilter
from ledger.snapshot import NONE, Snapshot
from tests.conftest import yes
from tests.integrations.random_acts import T0, snapshot_of


@pytest.fixture(scope="session")
def by(spark: Any) -> Any:
    from ledger.integrations import spark as by_spark

    return by_spark


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`yes`, `1` ... said yes; `no` took it back; `item` but for item `c`, `kind` but for `photo`; `new` for what is new."""
    folder = tmp_path_factory.mktemp("made")
    with ledger.create(folder / "ledger") as book:
        book.declare_purpose("train-ai", title="T", description="D")
        subjects = ("yes", "1", "no", "item", "kind", "pre:yes", "9" * 38, "-128")
        book.record_all([*map(yes, subjects), yes("new", content_since=datetime(1970, 1, 1, tzinfo=UTC))])
        for subject, scope in (
            ("no", {}),
            ("item", {"content_id": "c"}),
            ("item", {"content_id": "pre:c"}),
            ("kind", {"category": "photo"}),
        ):
            book.record(ledger.Event(state="withdrawn", subject_id=subject, purposes=["train-ai"], **scope))
        book.snapshot("train-ai", output=folder / "snapshot.parquet")
    return folder


@pytest.fixture
def answers(made: Path, tmp_path: Path) -> Snapshot:
    """Of a copy, which a test may spoil."""
    for name in ("snapshot.parquet", "snapshot.parquet.receipt"):
        shutil.copy(made / name, tmp_path / name)
    return ledger.load_snapshot(tmp_path / "snapshot.parquet", trust=made / "ledger" / "trust")


@pytest.fixture
def df(spark: Any) -> Any:
    return spark.createDataFrame([("yes", 1), ("no", 2), ("stranger", 3), (None, 4), ("", 5), ("yes", 1)], "s string, n int")


def reasons(by: Any, frame: Any, snapshot: Snapshot, **columns: Any) -> list[str]:
    """In the order of the column n; the plain path says the same of the same rows in Arrow's form."""
    mapped = ledger.Columns(**columns)
    found = by.decide(frame, snapshot, mapped).select("n", "consent_reason").orderBy("n").collect()
    plain = ConsentFilter(snapshot, mapped).decide(frame.orderBy("n").toArrow()).reason.to_pylist()
    told = [row["consent_reason"] for row in found]
    assert told == plain
    return told


BY_N = ["allowed", "allowed", "withdrawn", "no_record", "subject_missing", "subject_missing"]


def test_rows_are_neither_lost_nor_doubled(by: Any, df: Any, answers: Snapshot) -> None:
    columns = ledger.Columns(subject="s")
    assert reasons(by, df, answers, subject="s") == BY_N
    kept = by.filter(df, answers, columns)
    assert kept.schema == df.schema
    assert kept.collect() == [("yes", 1), ("yes", 1)]
    assert by.counts(df, answers, columns) == {"allowed": 2, "no_record": 1, "subject_missing": 2, "withdrawn": 1}
    assert by.counts(df.where("n > 9"), answers, columns) == {}
    assert by.counts(df.limit(0), answers, columns) == {}
    assert by.filter(df.limit(0), answers, columns).collect() == []


# -- the file ------------------------------------------------------------------------------------------------------------


def forged(snapshot: Snapshot, path: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    rows = pq.read_table(snapshot.path)
    pq.write_table(pa.Table.from_pylist(change(rows.to_pylist()), rows.schema), path)


def all_say_yes(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "no_at": NONE} for row in rows]


def test_a_file_that_is_swapped_after_the_plan_was_made_changes_nothing(by: Any, df: Any, answers: Snapshot) -> None:
    kept = by.filter(df, answers, ledger.Columns(subject="s"))
    assert answers.path is not None
    forged(answers, answers.path, all_say_yes)
    assert {row["s"] for row in kept.collect()} == {"yes"}
    with pytest.raises(ledger.IntegrityError, match="was changed after it was opened"):
        by.filter(df, answers, ledger.Columns(subject="s"))


FORGERIES: dict[str, Callable[[list[dict[str, Any]]], list[dict[str, Any]]]] = {
    "every no gone": all_say_yes,
    "a row gone": lambda rows: rows[1:],
    "a row three times": lambda rows: [rows[0], *rows, rows[0]],
    "a row twice for another": lambda rows: [rows[1], *rows[1:]],
    "a yes of another": lambda rows: [{**row, "subject_id": row["subject_id"].replace("yes", "no")} for row in rows],
    "an item of another id": lambda rows: [{**row, "scope_id": row["scope_id"] and row["scope_id"] + "d"} for row in rows],
    "yes and no changed over": lambda rows: [{**row, "yes_at": row["no_at"], "no_at": row["yes_at"]} for row in rows],
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_what_executors_read_must_be_what_was_authenticated(by: Any, df: Any, answers: Snapshot, forgery: str) -> None:
    """As where each machine has a disk of its own: the driver holds the rows, executors find another file under the path."""
    assert answers.path is not None
    held = replace(answers, _rows=answers.rows())
    forged(answers, answers.path, FORGERIES[forgery])
    with pytest.raises(ledger.IntegrityError, match="was not authenticated"):
        by.filter(df, held, ledger.Columns(subject="s"))


def test_null_in_the_file_is_no_row_that_goes_unseen(by: Any, df: Any, answers: Snapshot) -> None:
    assert answers.path is not None
    held, rows = replace(answers, _rows=answers.rows()), pq.read_table(answers.path)
    loose = pa.schema([field.with_nullable(True) for field in rows.schema])
    more = {**rows.to_pylist()[0], "subject_id": "no", "no_position": None}
    pq.write_table(pa.Table.from_pylist([*rows.to_pylist(), more], loose), answers.path)
    with pytest.raises(ledger.IntegrityError):
        by.filter(df, held, ledger.Columns(subject="s"))


@pytest.mark.parametrize("name", ["[ab]", "with space/%2e/{a,b}/*?/back\\slash/é/purpose=ai/_x/.x"])
def test_a_path_is_taken_as_it_is_written(by: Any, df: Any, answers: Snapshot, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir(parents=True)
    assert answers.path is not None
    (tmp_path / "a").mkdir()
    forged(answers, tmp_path / "a" / "snapshot.parquet", all_say_yes)  # which the first name is a pattern of
    path = answers.path.rename(folder / "snapshot.parquet")
    kept = by.filter(df, replace(answers, path=path), ledger.Columns(subject="s"))
    assert {row["s"] for row in kept.collect()} == {"yes"}


def test_a_snapshot_in_memory_is_refused(by: Any, df: Any, answers: Snapshot) -> None:
    with pytest.raises(ledger.UsageError, match="in memory"):
        by.filter(df, replace(answers, path=None, _rows=answers.rows()), ledger.Columns(subject="s"))


def test_answers_of_nobody_let_nothing_through(by: Any, df: Any, answers: Snapshot, tmp_path: Path) -> None:
    nobody = snapshot_of(tmp_path / "none.parquet", answers.rows().slice(0, 0), T0)
    assert by.counts(df, nobody, ledger.Columns(subject="s")) == {"no_record": 4, "subject_missing": 2}


# -- time ----------------------------------------------------------------------------------------------------------------


def test_a_stale_snapshot_is_refused_when_the_plan_is_made_and_when_it_is_executed(
    by: Any, df: Any, answers: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    brief = replace(answers, max_age=timedelta(milliseconds=1))
    with pytest.raises(ledger.SnapshotError, match="old"):
        by.filter(df, brief, ledger.Columns(subject="s"))
    monkeypatch.setattr(times, "now", lambda: answers.header.as_of)  # the plan is made at once, and executed late
    kept = by.filter(df, brief, ledger.Columns(subject="s"))
    for action in (kept.collect, kept.count, lambda: by.counts(df, brief, ledger.Columns(subject="s"))):
        with pytest.raises(Exception, match="the snapshot has grown too old"):
            action()


def test_a_stream_is_refused(by: Any, spark: Any, answers: Snapshot) -> None:
    with pytest.raises(ledger.UsageError, match="stream"):
        by.filter(spark.readStream.format("rate").load(), answers, ledger.Columns(subject="value"))


# -- rows that are not the same twice ---------------------------------------------------------------------------------------


def test_rows_that_are_drawn_by_lot_are_kept_by_the_id_that_is_shown(by: Any, spark: Any, answers: Snapshot) -> None:
    from pyspark.sql import functions as F

    lot = F.when(F.rand() < 0.5, "yes").otherwise("no")
    for drawn in (lot, F.array(lot, lot)):
        frame = spark.range(400).withColumn("s", drawn)
        kept = by.filter(frame, answers, ledger.Columns(subject="s"))
        assert kept.schema == frame.schema
        found = kept.collect()
        assert 30 < len(found) < 300
        assert "no" not in str(found)


# -- names ---------------------------------------------------------------------------------------------------------------


def test_columns_of_any_name(by: Any, spark: Any, answers: Snapshot) -> None:
    names = (
        "`a.b` string, plain string, `t``ick` string, deep struct<x: string, y: struct<z: string>>, "
        "code int, c1 int, of int, n int"
    )
    frame = spark.createDataFrame([("no", "yes", "yes", ("yes", ("no",)), 1, 2, 3, 4)], names)
    assert reasons(by, frame, answers, subject="a.b") == ["withdrawn"]
    assert reasons(by, frame, answers, subject="t`ick") == ["allowed"]
    assert reasons(by, frame, answers, subject="deep.x") == ["allowed"]
    assert reasons(by, frame, answers, subject="deep.y.z") == ["withdrawn"]
    assert reasons(by, frame, answers, subject=["deep.x", "plain", "deep.y.z"]) == ["withdrawn"]
    kept = by.filter(frame, answers, ledger.Columns(subject=["deep.x", "plain"]))
    assert kept.schema == frame.schema
    assert kept.collect() == frame.collect()
    for wrong in ("deep.y", "deep.X", "PLAIN", "deep.y.", "code.x", "nowhere"):
        with pytest.raises(ledger.UsageError):
            by.filter(frame, answers, ledger.Columns(subject=wrong))


def test_ids_in_names_of_folders_are_not_taken_for_numbers(by: Any, spark: Any, answers: Snapshot, tmp_path: Path) -> None:
    """Spark reads the person `01`, who is silent, as 1, who said yes."""
    for s in ("01", "1"):
        (tmp_path / f"posts/s={s}").mkdir(parents=True)
        pq.write_table(pa.table({"n": [int(s), int(s)]}), tmp_path / f"posts/s={s}/x.parquet")
    frame, inference = spark.read.parquet(str(tmp_path / "posts")), "spark.sql.sources.partitionColumnTypeInference.enabled"
    for named in ({"subject": "s"}, {"subject": ["n", "s"]}, {"subject": "n", "content": "s"}):
        with pytest.raises(ledger.UsageError, match="taken for numbers"):
            by.filter(frame.where("n > 0"), answers, ledger.Columns(**named))
    spark.conf.set(inference, "false")
    try:
        frame = spark.read.parquet(str(tmp_path / "posts"))
    finally:
        spark.conf.unset(inference)
    assert by.counts(frame, answers, ledger.Columns(subject="s")) == {"allowed": 2, "no_record": 2}
    assert by.counts(frame, answers, ledger.Columns(subject="n")) == {"allowed": 4}


def test_names_that_differ_by_case_are_two_and_a_name_that_stands_twice_is_no_key(by: Any, spark: Any, answers: Snapshot) -> None:
    twins = spark.createDataFrame([("yes", "no", 1, 1)], "s string, S string, n int, x int").toDF("s", "S", "n", "n")
    columns = ledger.Columns(subject="s"), ledger.Columns(subject="S")
    assert [by.counts(twins, answers, each) for each in columns] == [{"allowed": 1}, {"withdrawn": 1}]
    assert by.filter(twins, answers, columns[0]).columns == ["s", "S", "n", "n"]
    with pytest.raises(ledger.UsageError, match="2 times"):
        by.filter(twins, answers, ledger.Columns(subject="n"))


# -- values ----------------------------------------------------------------------------------------------------------------


def test_ids_are_the_same_only_byte_by_byte(by: Any, spark: Any, answers: Snapshot) -> None:
    from pyspark.sql import functions as F

    values = ["yes", "YES", "yes ", " yes", "yes\0", "y\u200bes", "ｙes", "no"]
    frame = spark.createDataFrame([(value, n) for n, value in enumerate(values)], "s string, n int")
    expected = ["allowed", *["no_record"] * 6, "withdrawn"]
    assert reasons(by, frame, answers, subject="s") == expected
    for collation in ("UTF8_LCASE", "UNICODE_CI_AI", "UTF8_BINARY_RTRIM"):
        collated = frame.withColumn("s", F.collate("s", collation)).withColumn("l", F.array("s"))
        for subject in ("s", "l"):
            found = by.decide(collated, answers, ledger.Columns(subject=subject)).orderBy("n").collect()
            assert [row["consent_reason"] for row in found] == expected, (collation, subject)
    assert reasons(by, frame.selectExpr("CAST(s AS BINARY) AS s", "n"), answers, subject="s") == expected


KINDS = ("TINYINT", "SMALLINT", "INT", "BIGINT", "DECIMAL(3,0)", "DECIMAL(38,0)", "STRING", "BINARY")
NO_KINDS = [
    "DOUBLE",
    "BOOLEAN",
    "DECIMAL(3,1)",
    "DATE",
    "TIMESTAMP",
    "ARRAY<ARRAY<STRING>>",
    "MAP<STRING,STRING>",
    "STRUCT<a:STRING>",
]
NO_KINDS += ["VARIANT", "INTERVAL DAY"]


def test_keys_of_every_type(by: Any, spark: Any, answers: Snapshot) -> None:
    for kind in KINDS:
        key = f"CAST({'CAST(v AS STRING)' if kind == 'BINARY' else 'v'} AS {kind})"
        frame = spark.sql(f"SELECT {key} AS s, ARRAY({key}) AS l, n FROM VALUES (1, 0), (2, 1), (-128, 2), (NULL, 3) AS t(v, n)")
        told = reasons(by, frame, answers, subject="s" if kind == "BIGINT" else ["s", "l"])
        assert told == ["allowed", "no_record", "allowed", "subject_missing"], kind
    frame = spark.sql(f"SELECT CAST('{'9' * 38}' AS DECIMAL(38,0)) AS s, 0 AS n")
    assert reasons(by, frame, answers, subject="s") == ["allowed"]


@pytest.mark.parametrize("kind", NO_KINDS)
def test_what_is_no_key(by: Any, spark: Any, answers: Snapshot, kind: str) -> None:
    with pytest.raises(ledger.UsageError, match="cannot be a key"):
        by.filter(spark.sql(f"SELECT CAST(NULL AS {kind}) AS s"), answers, ledger.Columns(subject="s"))


@pytest.mark.parametrize(("column", "ansi"), [("s", "true"), ("l", "false"), ("b", "false"), ("c", "true")])
def test_text_that_is_not_utf_8_fails(by: Any, spark: Any, answers: Snapshot, ansi: str, column: str) -> None:
    text = "CAST(X'ff' AS STRING)"
    frame = spark.sql(f"SELECT {text} AS s, ARRAY('yes', {text}) AS l, X'ff' AS b, 'yes' AS c, 1 AS n")
    columns = ledger.Columns(subject="c", content="b") if column == "c" else ledger.Columns(subject=column)
    spark.conf.set("spark.sql.ansi.enabled", ansi)
    try:
        with pytest.raises(Exception, match="INVALID_UTF8_STRING"):
            by.filter(frame, answers, columns).collect()
    finally:
        spark.conf.unset("spark.sql.ansi.enabled")
    with pytest.raises(ledger.ShardError):
        ConsentFilter(answers, columns).decide(pa.table({name: pa.array([b"\xff"]) for name in ("s", "l", "b", "c")}))


def test_unknown_items_and_prefixes(by: Any, spark: Any, answers: Snapshot) -> None:
    items = [("item", item, "post") for item in ("c", "d", None, "")]
    kinds = [("kind", "c", kind) for kind in ("photo", "post", None, "")]
    keyed = [(*keys, n) for n, keys in enumerate([*items, *kinds, ("yes", None, None)])]
    frame = spark.createDataFrame(keyed, "s string, i string, k string, n int")
    no, go = "withdrawn", "allowed"
    assert reasons(by, frame, answers, subject="s", content="i", category="k") == [no, go, no, no, no, go, no, no, go]
    assert reasons(by, frame, answers, subject="s") == [no] * 8 + [go]
    assert reasons(by, frame, answers, subject="s", content="i", category="=post") == [no, go, no, no, go, go, go, go, go]
    assert reasons(by, frame, answers, subject="s", content="i", content_prefix="pre:")[:4] == [no, go, no, no]
    assert reasons(by, frame, answers, subject="s", subject_prefix="pre:") == ["no_record"] * 8 + [go]


@pytest.mark.parametrize(("zone", "ansi"), [("America/New_York", "true"), ("Pacific/Kiritimati", "false")])
def test_moments_are_the_same_in_every_session(by: Any, spark: Any, answers: Snapshot, zone: str, ansi: str) -> None:
    """`new` said yes to what was made since 1970 began; one microsecond before is not covered."""
    spark.conf.set("spark.sql.session.timeZone", zone)
    spark.conf.set("spark.sql.ansi.enabled", ansi)
    try:
        edges = [
            "1969-12-31 23:59:59.999999",
            "1970-01-01 00:00:00",
            "9999-12-31 23:59:59",
            "0001-01-01 00:00:00",
            "2024-07-01 12:00:00",
        ]
        for kind, zone_of, length in (("TIMESTAMP", "Z", 26), ("TIMESTAMP_NTZ", "", 26), ("DATE", "", 10)):
            values = [f"CAST('{edge[:length]}{zone_of}' AS {kind})" for edge in edges] + [f"CAST(NULL AS {kind})"]
            frame = spark.sql(" UNION ALL ".join(f"SELECT 'new' AS s, {value} AS t, {n} AS n" for n, value in enumerate(values)))
            told = reasons(by, frame, answers, subject="s", created="t")
            assert told == ["allowed" if edge >= "1970" else "not_covered" for edge in [*edges, ""]], kind
        largest = 2**63 - 1
        for unit in ("s", "ms", "us", "ns"):
            numbers = [-largest - 1, -largest, -1001, -1, 0, 1, 1999, largest]  # microseconds beyond 9.2e18 are unknown
            frame = spark.createDataFrame([("new", number, n) for n, number in enumerate(numbers)], "s string, t bigint, n int")
            told = reasons(by, frame, answers, subject="s", created="t", created_unit=unit)
            assert told == ["not_covered"] * 4 + ["allowed"] * 3 + ["allowed" if unit == "ns" else "not_covered"], unit
        small = spark.sql("SELECT 'new' AS s, CAST(127 AS TINYINT) AS t, 0 AS n")
        assert reasons(by, small, answers, subject="s", created="t", created_unit="s") == ["allowed"]
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")
        spark.conf.unset("spark.sql.ansi.enabled")


def test_lists(by: Any, spark: Any, answers: Snapshot) -> None:
    lists = [
        ["yes", "1"],
        ["yes", "no"],
        ["no", "stranger"],
        ["stranger", "no"],
        [],
        None,
        ["yes", None],
        ["yes", ""],
        ["yes"] * 3,
    ]
    rows = [(subjects, "yes", n) for n, subjects in enumerate(lists)]
    frame = spark.createDataFrame(rows, "l array<string>, s string, n int not null")
    missing = "subject_missing"
    expected = ["allowed", "withdrawn", "withdrawn", "no_record", missing, missing, missing, missing, "allowed"]
    assert reasons(by, frame, answers, subject="l") == expected
    assert reasons(by, frame, answers, subject=["s", "l"]) == expected
    doubled = frame.union(frame)
    kept = by.filter(doubled, answers, ledger.Columns(subject="l"))
    assert kept.schema == frame.schema, "what cannot be null still cannot"
    assert sorted(row["n"] for row in kept.collect()) == [0, 0, 8, 8]
    assert sum(by.counts(doubled, answers, ledger.Columns(subject="l")).values()) == 18


def test_no_setting_of_the_session_changes_an_answer(by: Any, spark: Any, answers: Snapshot) -> None:
    settings = {
        "spark.sql.function.concatBinaryAsString": "true",
        "spark.sql.legacy.sizeOfNull": "true",
        "spark.sql.legacy.followThreeValuedLogicInArrayExists": "false",
        "spark.sql.caseSensitive": "true",
        "spark.sql.ansi.enforceReservedKeywords": "true",
        "spark.sql.ansi.doubleQuotedIdentifiers": "true",
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.codegen.wholeStage": "false",
    }
    for name, value in settings.items():
        spark.conf.set(name, value)
    try:
        lists = [["yes"], ["yes", "no"], [], None, [None], ["yes", "yes"]]
        frame = spark.createDataFrame(
            [(subjects, "c", n) for n, subjects in enumerate(lists)], "l array<string>, i string, n int"
        )
        told = reasons(by, frame, answers, subject="l", subject_prefix="pre:", content="i", content_prefix="pre:")
        missing = "subject_missing"
        assert told == ["allowed", "no_record", missing, missing, missing, "allowed"]
    finally:
        for name in settings:
            spark.conf.unset(name)
