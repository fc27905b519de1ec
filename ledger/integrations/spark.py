"""The rule of `ledger.consent.decide` as a Spark plan: left joins of rows with a snapshot's Parquet file. No Python per row.

Keys are compared as bytes: no collation, padding or setting of the session makes two ids one. The rows are read once and never
joined with themselves: keys, answer and row travel together to the end, however often a task is tried.
"""

from __future__ import annotations

import operator
import re
import secrets
from collections import Counter
from functools import partial, reduce

import duckdb
import pyarrow as pa
from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_type

from ledger import times
from ledger.consent import NO, REASONS, Scope
from ledger.errors import IntegrityError, UsageError
from ledger.shards.columns import Columns
from ledger.shards.terms import ALLOWED, EXPIRED, NO_RECORD, NOT_COVERED, NOTICE_CHANGED
from ledger.shards.work import account, in_order
from ledger.snapshot import NONE, SCHEMA, Snapshot

_MICROS = {"s": 1_000_000, "ms": 1_000, "us": 1, "day": 86_400_000_000}
_any = partial(reduce, operator.or_)
_KEYS = {Scope.CATEGORY: "category", Scope.CONTENT: "content"}
_NO_ANSWER = {"no_at": NONE, "no_position": -1, "reason": ALLOWED, "yes_at": NONE, "yes_content_since": NONE, "lapsed": NO_RECORD}


def filter(df: DataFrame, snapshot: Snapshot, columns: Columns) -> DataFrame:
    """The allowed rows of df, same schema: a plan, for which the answers are read, authenticated and judged as of now. Raises as
    `ConsentFilter.decide` does; executed, it fails where the snapshot has grown too old or keys are not UTF-8."""
    return _decided(df, snapshot, columns).where(F.col("code") == ALLOWED).drop("code").toDF(*df.columns)


def decide(df: DataFrame, snapshot: Snapshot, columns: Columns) -> DataFrame:
    """df with each row's reason as a last column, consent_reason: a plan like `filter`, which raises as it does."""
    reason = F.get(F.array(*map(F.lit, REASONS)), F.col("code"))
    return _decided(df, snapshot, columns).withColumn("code", reason).toDF(*df.columns, "consent_reason")


def counts(df: DataFrame, snapshot: Snapshot, columns: Columns) -> dict[str, int]:
    """Rows by reason, `allowed` among them, absent where zero; one pass. Raises as `filter`, and ShardError where they are not
    as many as came in (a lost stage that was run again counts what came in twice)."""
    decided = _decided(df.observe(came_in := Observation(), F.count(F.lit(1)).alias("rows")), snapshot, columns, carry=False)
    found = Counter({REASONS[code]: rows for code, rows in decided.groupBy("code").count().collect()})
    account("the DataFrame", came_in.get["rows"] if found else df.count(), found)  # nothing is observed of a plan without rows
    return in_order(found)


def _decided(df: DataFrame, snapshot: Snapshot, columns: Columns, carry: bool = True) -> DataFrame:
    """df's columns, if they are to be carried, and `code`: an index into REASONS."""
    if df.isStreaming:
        raise UsageError("a stream outlives its answers", hint="filter each of its batches, in foreachBatch")
    snapshot.check_age(times.now())
    mapped = {part for name in columns.names() for part in (name, name.split(".")[0])}
    kinds = [(f.name, to_arrow_type(f.dataType, timezone="UTC") if f.name in mapped else pa.null()) for f in df.schema]
    columns.check(pa.schema(kinds), snapshot.header.categories)
    numbers = [name for name, kind in kinds if name in (*columns.subject, columns.content) and not pa.types.is_string(kind)]
    if numbers and any(f"/{name}=" in file for file in df.inputFiles() for name in numbers):
        hint = "turn spark.sql.sources.partitionColumnTypeInference.enabled off and read them again"
        raise UsageError(f"ids in names of folders were taken for numbers ({', '.join(numbers)}): 01 for 1", hint=hint)
    parts = [(*_at(df.schema, name), columns.subject_prefix) for name in columns.subject]
    one = len(parts) == 1 and not isinstance(parts[0][1], T.ArrayType)
    subject = _key(*parts[0]) if one else _all_subjects(parts)
    category = F.lit(c).cast("binary") if (c := columns.constant_category) else _key(*_at(df.schema, columns.category))
    content = _key(*_at(df.schema, columns.content), columns.content_prefix)
    created = _micros(*_at(df.schema, columns.created), columns.created_unit)
    keys = [category.alias("category"), content.alias("content"), created.alias("created")]
    names = [f"c{i}" for i in range(len(df.columns))]  # their own may hold dots, or stand twice
    payload = names if carry else []
    rows = df.toDF(*names).select(*payload, *keys, subject.alias("subject" if one else "subjects"))
    answered = partial(_answered, *_answers(df.sparkSession, snapshot), snapshot, columns)
    if one:
        return answered(rows).select(*payload, "code")
    # To pairs of row and subject, and back. A group has one number and the same keys: a row gets the answer to its own, even if
    # a second try gives the number to another. The first pair carries the row, which comes back once.
    rows = rows.select("*", F.struct(F.lit(True), *payload).alias("row"), F.monotonically_increasing_id().alias("number"))
    group = ["number", "subjects", *_KEYS.values(), "created"]
    pairs = rows.select(*group, "row", F.posexplode("subjects").alias("place", "subject"))
    pairs = pairs.withColumn("row", F.when(F.col("place") == 0, F.col("row")))
    each, carried = F.sort_array(F.collect_set(F.struct("place", "code"))), F.collect_list("row")
    grouped = answered(pairs).groupBy(*group).agg(each.alias("each"), carried.alias("rows"))
    denied = F.get(F.filter("each", lambda answer: answer["code"] != ALLOWED), F.lit(0))["code"]
    code = F.coalesce(denied, F.when(F.size("each") == F.size("subjects"), ALLOWED), F.raise_error(F.lit("a subject was lost")))
    return grouped.select(F.explode("rows").alias("row"), code.alias("code")).select(*(f"row.{name}" for name in payload), "code")


def _answered(answers: DataFrame, scopes: list[int], snapshot: Snapshot, columns: Columns, rows: DataFrame) -> DataFrame:
    """rows, which have keys, with a `code`: what `ledger.shards.decide` does, on columns."""
    worst = [F.max(F.when((F.col("scope") == s) & F.col("stands"), F.col("at"))).alias(f"held{s:d}") for s in _KEYS]
    everything = F.max(F.when(F.col("scope") == Scope.EVERYTHING, F.col("at"))).alias("at0")
    rows = rows.join(answers.groupBy("of").agg(everything, *worst), F.col("subject") == F.col("of"), "left").drop("of")
    finer = {scope: key for scope, key in _KEYS.items() if scope in scopes and getattr(columns, key) is not None}
    for scope, key in finer.items():
        items = answers.where(F.col("scope") == scope).select("of", "item", F.col("at").alias(f"at{scope:d}"))
        rows = rows.join(items, (F.col("subject") == F.col("of")) & (F.col(key) == F.col("item")), "left").drop("of", "item")
    none = F.struct(*(F.lit(value).alias(name) for name, value in _NO_ANSWER.items()))
    at = {scope: F.col(f"at{scope:d}") for scope in (Scope.EVERYTHING, *finer)}
    rows = rows.withColumns({f"at{scope:d}": F.coalesce(column, none) for scope, column in at.items()})
    reach = {scope: F.col("created") < at[scope]["yes_content_since"] for scope in at}  # NONE is before every moment
    force = {scope: (at[scope]["lapsed"] == ALLOWED) & ~reach[scope] for scope in at}
    noes = [(s, no := F.col(f"held{s:d}"), F.col(key).isNull() & no.isNotNull()) for s, key in _KEYS.items()]
    answer = F.lit(NONE)
    for scope in reversed(at):  # from the finest: a no is answered at its own scope or a finer one
        answer = F.greatest(answer, F.when(force[scope], at[scope]["yes_at"]))
        noes.append((scope, at[scope], (at[scope]["no_at"] != NONE) & (answer <= at[scope]["no_at"])))
    # Of the noes that stand, the latest by time, then the more specific, names the reason.
    fields = [F.struct(no["no_at"].alias("at"), F.lit(int(s)).alias("scope"), no["reason"].alias("reason")) for s, no, _ in noes]
    latest = F.array_max(F.array(*(F.when(stands, no) for no, (_, _, stands) in zip(fields, noes, strict=True))))["reason"]
    failure = F.when(_any(reach.values()), NOT_COVERED)
    for code in (NOTICE_CHANGED, EXPIRED):
        failure = failure.when(_any(each["lapsed"] == code for each in at.values()), code)
    decided = F.coalesce(latest, F.when(_any(force.values()), ALLOWED), failure.otherwise(NO_RECORD))
    if categories := snapshot.header.categories:
        listed = F.col("category").isin([F.lit(name).cast("binary") for name in categories])
        decided = F.when(listed, decided).otherwise(REASONS.index("category_excluded"))
    decided = F.when(F.col("subject").isNull(), REASONS.index("subject_missing")).otherwise(decided)
    age = F.unix_micros(F.current_timestamp()) - times.micros(min(snapshot.header.as_of, snapshot.header.known_until))
    stale = F.when(age / 1_000_000 > snapshot.max_age.total_seconds(), F.raise_error(F.lit("the snapshot has grown too old")))
    return rows.withColumn("code", stale.otherwise(decided))


def _answers(session: SparkSession, snapshot: Snapshot) -> tuple[DataFrame, list[int]]:
    """A snapshot's rows (of, scope, item, `at` as _NO_ANSWER, whether its no stands for unknown items), and which scopes occur.

    Executors could meet another file of its name. So its rows are frozen first, in blocks that are never made again from it; then
    a salt is drawn, and the frozen rows must have the hash of those that were authenticated."""
    if snapshot.path is None:
        raise UsageError("executors cannot read a snapshot in memory", hint="write it to a file: consent snapshot -o FILE")
    rows, path = snapshot.rows(), re.sub(r"([][{}*?\\])", r"\\\1", str(snapshot.path.resolve()))
    frozen = session.read.parquet(f"file://{path}").select(*SCHEMA.names).localCheckpoint()
    as_text = [f"hex({f.name})" if f.type == pa.string() else f"CAST(CAST({f.name} AS BIGINT) AS STRING)" for f in SCHEMA]
    row = " || ',' || ".join([f"'{secrets.token_hex(16)}'", *as_text])
    xor = f"bit_xor(CAST(conv(substring(sha2({row}, 256), 1, 15), 16, 10) AS BIGINT))"
    with duckdb.connect(":memory:", config={"enable_external_access": False}) as con:
        same = f"count(*), bit_xor(CAST('0x' || substring(sha256({row}), 1, 15) AS BIGINT))"
        expected = con.from_arrow(rows).aggregate(same).fetchall()
    if [tuple(found) for found in frozen.selectExpr("count(*)", xor).collect()] != expected:
        raise IntegrityError(f"what Spark reads from {snapshot.path} was not authenticated", hint="give all machines one file")
    answers = frozen.selectExpr(
        "CAST(subject_id AS BINARY) AS of",
        "scope",
        "CAST(scope_id AS BINARY) AS item",
        f"CASE WHEN yes_at = {NONE} THEN {NO_RECORD} WHEN NOT yes_accepted THEN {NOTICE_CHANGED} WHEN yes_expires_at > {NONE} "
        f"AND yes_expires_at <= {times.micros(times.now())} THEN {EXPIRED} ELSE {ALLOWED} END AS lapsed",
        f"struct(no_at, no_position, no_state + {REASONS.index(NO[0])} AS reason, yes_at, yes_content_since, lapsed) AS at",
        f"no_at > {NONE} AND NOT (lapsed = {ALLOWED} AND yes_content_since = {NONE} AND yes_at > no_at) AS stands",
    )
    return answers, rows["scope"].unique().to_pylist()


def _at(schema: T.StructType, path: str | None) -> tuple[Column, T.DataType]:
    """The column at a name or dotted path, and its type; null where none is mapped."""
    if path is None:
        return F.lit(None), T.NullType()
    name = path if path in schema.names else path.split(".")[0]
    column, kind = F.col(f"c{schema.names.index(name)}"), schema[name].dataType
    for child in [] if name == path else path[len(name) + 1 :].split("."):
        column, kind = column.getField(child), kind[child].dataType  # type: ignore[index]
    return column, kind


def _key(column: Column, kind: T.DataType, prefix: str = "") -> Column:
    """Bytes; null where unknown, which an empty value is as well."""
    text = F.validate_utf8(column.cast("string")) if isinstance(kind, (T.StringType, T.BinaryType)) else column.cast("string")
    return F.when(F.octet_length(text) > 0, F.concat(F.lit(prefix), text).cast("binary"))


def _all_subjects(parts: list[tuple[Column, T.DataType, str]]) -> Column:
    """Every subject of a row, in order; a single null where one is missing."""

    def keys(column: Column, kind: T.DataType, prefix: str) -> Column:
        items, item = (column, kind.elementType) if isinstance(kind, T.ArrayType) else (F.array(column), kind)
        return F.transform(items, lambda value: _key(value, item, prefix))

    lists = [keys(*part) for part in parts]
    missing = _any(F.coalesce((F.size(each) == 0) | F.exists(each, F.isnull), F.lit(True)) for each in lists)
    return F.when(missing, F.array(F.lit(None).cast("binary"))).otherwise(F.concat(*lists))


def _micros(column: Column, kind: T.DataType, unit: str | None) -> Column:
    """Microseconds as `Columns.read` has them: rounded down, in UTC where without a zone, NONE where unknown or out of range."""
    value, scale = column.cast("bigint"), _MICROS.get(unit or "us", 1)
    if isinstance(kind, T.TimestampType):
        value, scale = F.unix_micros(column), 1
    elif isinstance(kind, T.TimestampNTZType):  # as an interval: a cast to an instant would go by the session's zone
        since = (column - F.lit("1970-01-01").cast("timestamp_ntz")).cast("interval second").cast("decimal(20,6)")
        value, scale = (since * 1_000_000).cast("bigint"), 1
    elif isinstance(kind, T.DateType):
        value, scale = F.unix_date(column).cast("bigint"), _MICROS["day"]
    elif unit == "ns":
        value = F.call_function("div", value, F.lit(1000)) - F.when(value % 1000 < 0, 1).otherwise(0)
    return F.coalesce(F.when(F.abs(value.cast("double")) < 9.2e18 / scale, value * F.lit(scale).cast("bigint")), F.lit(NONE))
