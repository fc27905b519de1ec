"""The rule of `ledger.consent.decide` as a Spark plan: left joins of rows with a snapshot's Parquet file. No Python per row.

Keys are compared as bytes, so that no collation, padding or setting of the session makes two ids one. The rows are read once and
never joined with themselves: keys, answer and row travel together to the end, however often a task is tried.
"""

from __future__ import annotations

import operator
import re
import secrets
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import reduce
from typing import Any

import duckdb
import pyarrow as pa
from pyspark.errors import PySparkTypeError
from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_type

from ledger import times
from ledger.consent import NO, REASONS, Scope
from ledger.errors import IntegrityError, UsageError
from ledger.shards.answers import ALLOWED, EXPIRED, NO_RECORD, NOT_COVERED, NOTICE_CHANGED
from ledger.shards.columns import Columns
from ledger.shards.work import account, in_order
from ledger.snapshot import NONE, SCHEMA, Snapshot

REASON = "consent_reason"
_TEXT, _NUMBER = {pa.string(): "hex({})"}, "CAST(CAST({} AS BIGINT) AS STRING)"
_MICROSECOND = timedelta(microseconds=1)
_MICROS = {"s": 1_000_000, "ms": 1_000, "us": 1, "day": 86_400_000_000}
_KEYS = {Scope.CATEGORY: "category", Scope.CONTENT: "content"}
_NO_ANSWER = {"no_at": NONE, "no_position": -1, "reason": ALLOWED, "yes_at": NONE, "since": NONE, "lapsed": NO_RECORD}


def filter(df: DataFrame, snapshot: Snapshot, columns: Columns) -> DataFrame:
    """The allowed rows of df, same schema. A plan: the answers are read and authenticated now, the rows when it is executed.

    Expiry is judged as of now. Raises as `ConsentFilter.decide` does; a plan that is executed when the snapshot has grown too
    old fails, and so does one over keys that are not UTF-8.
    """
    payload = _places(df)
    return _decided(df, snapshot, columns, payload).where(F.col("code") == ALLOWED).select(*payload).toDF(*df.columns)


def decide(df: DataFrame, snapshot: Snapshot, columns: Columns) -> DataFrame:
    """df with each row's reason as a last column, REASON: a plan like `filter`, which raises as it does."""
    if REASON in map(str.lower, df.columns):
        raise UsageError(f"the rows have a column {REASON!r} already", hint="rename or drop it")
    payload = _places(df)
    reason = F.get(F.array(*map(F.lit, REASONS)), F.col("code"))
    return _decided(df, snapshot, columns, payload).select(*payload, reason).toDF(*df.columns, REASON)


def counts(df: DataFrame, snapshot: Snapshot, columns: Columns) -> dict[str, int]:
    """Rows by reason, `allowed` among them, absent where zero; one job. Raises as `filter`, and ShardError where they are not
    as many as came in (a lost stage that was run again counts what came in twice)."""
    came_in = Observation()
    decided = _decided(df.observe(came_in, F.count(F.lit(1)).alias("rows")), snapshot, columns, [])
    found = Counter({REASONS[code]: rows for code, rows in decided.groupBy("code").count().collect()})
    account("the DataFrame", came_in.get["rows"], found)
    return in_order(found)


def _places(df: DataFrame) -> list[str]:
    """Names for columns whose own may hold dots or stand twice."""
    return [f"c{i}" for i in range(len(df.columns))]


def _decided(df: DataFrame, snapshot: Snapshot, columns: Columns, payload: Sequence[str]) -> DataFrame:
    """`payload`, of df's columns by their places, and `code`: an index into REASONS."""
    if df.isStreaming:
        raise UsageError("a stream outlives its answers", hint="filter each of its batches, in foreachBatch")
    snapshot.check_age(times.now())
    columns.check(_arrow_schema(df.schema, columns), snapshot.header.categories)
    subjects = [_at(df.schema, name) for name in columns.subject]
    one = len(subjects) == 1 and not isinstance(subjects[0][1], T.ArrayType)
    subject = _key(*subjects[0], columns.subject_prefix) if one else _all_subjects(subjects, columns.subject_prefix)
    constant = columns.constant_category
    category = F.lit(constant).cast("binary") if constant else _key(*_at(df.schema, columns.category))
    content = _key(*_at(df.schema, columns.content), columns.content_prefix)
    created = _micros(*_at(df.schema, columns.created), columns.created_unit)
    keys = [subject.alias("subject"), category.alias("category"), content.alias("content"), created.alias("created")]
    rows = df.toDF(*_places(df)).select(*payload, *keys)
    answers = _answers(df.sparkSession, snapshot)
    if one:
        return _answered(rows, answers, snapshot).select(*payload, "code")
    # To pairs of row and subject, and back. A group is all that have the same keys, so that a row gets the answer to its own
    # keys, whichever rows a second try gives the same number. The first pair carries the row, which comes back once.
    row = F.struct(F.lit(True), *payload).alias("row")
    rows = rows.withColumnRenamed("subject", "subjects").withColumn("number", F.monotonically_increasing_id()).withColumn("row", row)
    group = ["number", "subjects", "category", "content", "created"]
    pairs = rows.select(*group, "row", F.posexplode("subjects").alias("place", "subject"))
    pairs = pairs.withColumn("row", F.when(F.col("place") == 0, F.col("row")))
    answer, carried = F.collect_set(F.struct("place", "code")), F.collect_list("row")
    grouped = _answered(pairs, answers, snapshot).groupBy(*group).agg(F.sort_array(answer).alias("answers"), carried.alias("rows"))
    code = F.coalesce(
        F.get(F.filter("answers", lambda each: each["code"] != ALLOWED), F.lit(0))["code"],
        F.when(F.size("answers") == F.size("subjects"), ALLOWED),
        F.raise_error(F.lit("not all subjects of a row were decided")),
    )
    return grouped.select(F.explode("rows").alias("row"), code.alias("code")).select(*(f"row.{name}" for name in payload), "code")


def _answered(rows: DataFrame, answers: DataFrame, snapshot: Snapshot) -> DataFrame:
    """rows with keys -> the same with `code`: `ledger.shards.decide` on columns."""
    at_everything = F.max(F.when(F.col("scope") == Scope.EVERYTHING, F.col("at"))).alias("at0")
    held = [F.max(F.when((F.col("scope") == s) & F.col("stands"), F.col("at"))).alias(f"held{s:d}") for s in _KEYS]
    of_subject = answers.groupBy("of").agg(at_everything, *held)
    rows = rows.join(of_subject, F.col("subject") == F.col("of"), "left").drop("of")
    for scope, key in _KEYS.items():
        items = answers.where(F.col("scope") == scope).select("of", "item", F.col("at").alias(f"at{scope:d}"))
        rows = rows.join(items, (F.col("subject") == F.col("of")) & (F.col(key) == F.col("item")), "left").drop("of", "item")

    none = F.struct(*(F.lit(value).alias(name) for name, value in _NO_ANSWER.items()))
    at = {scope: F.coalesce(F.col(f"at{scope:d}"), none) for scope in Scope}
    reach = {scope: F.col("created") < at[scope]["since"] for scope in Scope}  # NONE is before every moment
    force = {scope: (at[scope]["lapsed"] == ALLOWED) & ~reach[scope] for scope in Scope}
    noes, answer = [], F.lit(NONE)
    for scope in (Scope.CONTENT, Scope.CATEGORY, Scope.EVERYTHING):
        answer = F.greatest(answer, F.when(force[scope], at[scope]["yes_at"]).otherwise(NONE))
        noes.append(_no(scope, at[scope], (at[scope]["no_at"] != NONE) & (answer <= at[scope]["no_at"])))
    for scope, key in _KEYS.items():
        noes.append(_no(scope, F.col(f"held{scope:d}"), F.col(key).isNull() & F.col(f"held{scope:d}").isNotNull()))
    failure = F.when(_any(reach.values()), NOT_COVERED)
    for lapsed in (NOTICE_CHANGED, EXPIRED):
        failure = failure.when(_any(each["lapsed"] == lapsed for each in at.values()), lapsed)
    latest_no = F.array_max(F.array(*noes))["reason"]
    code = F.coalesce(latest_no, F.when(_any(force.values()), ALLOWED), failure.otherwise(NO_RECORD))
    if categories := snapshot.header.categories:
        listed = F.coalesce(F.col("category").isin([F.lit(c).cast("binary") for c in categories]), F.lit(False))
        code = F.when(listed, code).otherwise(REASONS.index("category_excluded"))
    code = F.when(F.col("subject").isNull(), REASONS.index("subject_missing")).otherwise(code)
    good_until = times.micros(min(snapshot.header.as_of, snapshot.header.known_until)) + snapshot.max_age // _MICROSECOND
    stale = F.unix_micros(F.current_timestamp()) > min(good_until, 2**63 - 1)
    return rows.withColumn("code", F.when(stale, F.raise_error(F.lit("the snapshot has grown too old"))).otherwise(code))


def _no(scope: Scope, at: Column, stands: Column) -> Column:
    """A no that stands, so that the latest by time, then the more specific, is the greatest."""
    return F.when(stands, F.struct(at["no_at"].alias("at"), F.lit(int(scope)).alias("scope"), at["reason"].alias("reason")))


def _any(conditions: Iterable[Column]) -> Column:
    return reduce(operator.or_, conditions)


def _answers(session: SparkSession, snapshot: Snapshot) -> DataFrame:
    """A snapshot's rows as of, scope, item, `at` (the fields of _NO_ANSWER), and whether a no in it stands for unknown items.

    Executors read the file by its name, and could meet another. So its rows are frozen first, in blocks that are never made
    again from the file; then a salt is drawn, and the frozen rows must have the hash of those that were authenticated.
    """
    if snapshot.path is None:
        raise UsageError("executors cannot read a snapshot in memory", hint="write it to a file: consent snapshot -o FILE")
    rows, path = snapshot.rows(), re.sub(r"([][{}*?\\])", r"\\\1", str(snapshot.path.resolve()))
    frozen = session.read.parquet(f"file://{path}").select(*SCHEMA.names).localCheckpoint()
    salt = secrets.token_hex(16)
    row = " || ',' || ".join([f"'{salt}'", *(_TEXT.get(f.type, _NUMBER).format(f.name) for f in SCHEMA)])
    of_frozen = frozen.selectExpr("count(*)", f"bit_xor(CAST(conv(substring(sha2({row}, 256), 1, 15), 16, 10) AS BIGINT))").first()
    with duckdb.connect(":memory:", config={"enable_external_access": False}) as con:
        con.register("authenticated", rows)
        xor = f"bit_xor(CAST('0x' || substring(sha256({row}), 1, 15) AS BIGINT))"
        expected = con.execute(f"SELECT count(*), {xor} FROM authenticated").fetchone()  # noqa: S608 - names of SCHEMA
    if tuple(of_frozen) != expected:
        raise IntegrityError(
            f"what Spark reads from {snapshot.path} is not what was authenticated",
            hint="the driver and all executors must see the one file under that path",
        )
    expired = (F.col("yes_expires_at") != NONE) & (F.col("yes_expires_at") <= times.micros(times.now()))
    lapsed = F.when(F.col("yes_at") == NONE, NO_RECORD).when(~F.col("yes_accepted"), NOTICE_CHANGED).when(expired, EXPIRED)
    fields = {
        "no_at": F.col("no_at"),
        "no_position": F.col("no_position"),
        "reason": F.col("no_state").cast("int") + REASONS.index(NO[0]),
        "yes_at": F.col("yes_at"),
        "since": F.col("yes_content_since"),
        "lapsed": lapsed.otherwise(ALLOWED),
    }
    ids = (F.col("subject_id").cast("binary").alias("of"), F.col("scope_id").cast("binary").alias("item"))
    at = frozen.select(*ids, "scope", F.struct(*(value.alias(name) for name, value in fields.items())).alias("at"))
    answered = (F.col("at.lapsed") == ALLOWED) & (F.col("at.since") == NONE) & (F.col("at.yes_at") > F.col("at.no_at"))
    return at.withColumn("stands", (F.col("at.no_at") != NONE) & ~answered)


def _arrow_schema(schema: T.StructType, columns: Columns) -> Any:
    """All columns by name, the mapped ones with their type: what `Columns.check` looks at."""
    mapped = {part for name in columns.names() for part in (name, name.split(".")[0])}
    try:
        kinds = [to_arrow_type(f.dataType, timezone="UTC") if f.name in mapped else pa.null() for f in schema.fields]
    except PySparkTypeError as error:
        raise UsageError(f"a mapped column cannot be a key: {error}", hint="write the ids as text") from error
    return pa.schema(list(zip(schema.names, kinds, strict=True)))


def _at(schema: T.StructType, path: str | None) -> tuple[Column, T.DataType]:
    """The column at a name or dotted path, and its type; null where none is mapped."""
    if path is None:
        return F.lit(None), T.NullType()
    name = path if path in schema.names else path.split(".")[0]
    place = schema.names.index(name)
    column, kind = F.col(f"c{place}"), schema.fields[place].dataType
    for child in [] if name == path else path[len(name) + 1 :].split("."):
        column, kind = column.getField(child), kind[child].dataType
    return column, kind


def _key(column: Column, kind: T.DataType, prefix: str = "") -> Column:
    """Bytes; null where unknown, which an empty value is as well."""
    text = column.cast("string")
    if isinstance(kind, (T.StringType, T.BinaryType)):
        text = F.validate_utf8(text)
    return F.when(F.octet_length(text) > 0, F.concat(F.lit(prefix).cast("binary"), text.cast("binary")))


def _all_subjects(parts: Iterable[tuple[Column, T.DataType]], prefix: str) -> Column:
    """Every subject of a row, in order; a single null where one is missing."""
    lists = [
        F.transform(column, lambda item, kind=kind: _key(item, kind.elementType, prefix))
        if isinstance(kind, T.ArrayType)
        else F.array(_key(column, kind, prefix))
        for column, kind in parts
    ]
    missing = _any(F.coalesce((F.size(each) == 0) | F.exists(each, F.isnull), F.lit(True)) for each in lists)
    return F.when(missing, F.array(F.lit(None).cast("binary"))).otherwise(F.concat(*lists))


def _micros(column: Column, kind: T.DataType, unit: str | None) -> Column:
    """Microseconds as `Columns.read` has them: rounded down, moments without a zone in UTC, NONE where unknown or out of range."""
    if isinstance(kind, T.TimestampType):
        value, unit = F.unix_micros(column), "us"
    elif isinstance(kind, T.TimestampNTZType):  # as an interval: a cast to an instant would go by the session's zone
        since = (column - F.lit("1970-01-01").cast("timestamp_ntz")).cast("interval second").cast("decimal(20,6)")
        value, unit = (since * 1_000_000).cast("bigint"), "us"
    elif isinstance(kind, T.DateType):
        value, unit = F.unix_date(column).cast("bigint"), "day"
    else:
        value = column.cast("bigint")
    if unit == "ns":
        value, unit = F.call_function("div", value, F.lit(1000)) - F.when(value % 1000 < 0, 1).otherwise(0), "us"
    scale = _MICROS[unit or "us"]
    return F.coalesce(F.when(F.abs(value.cast("double")) < 9.2e18 / scale, value * F.lit(scale).cast("bigint")), F.lit(NONE))
