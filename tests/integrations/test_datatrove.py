"""datatrove's pipelines keep what the reference keeps, and their records of the others say nothing of them."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datatrove.data import Document, Media
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter
from datatrove.utils.logging import logger

import ledger
from ledger.integrations.datatrove import ConsentFilter
from tests.integrations.drawn import SCHEMA, draw
from tests.shards.world import World

CANARY = "CANARY-of-a-dropped-row"
NESTED = ledger.Columns(
    subject=["metadata.others", "metadata.subject"],
    category="metadata.category",
    content="metadata.content",
    created="metadata.created",
)

ENTRIES = pa.struct([*(field for field in SCHEMA if field.name != "text"), ("file_path", pa.string())])
WRITTEN = pa.schema([("text", pa.string()), ("id", pa.string()), ("metadata", ENTRIES)])


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logger.disable("datatrove")
    yield
    logger.enable("datatrove")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.book.close()


def of(world: World, **options: Any) -> ledger.ConsentFilter:
    snapshot = options.pop("snapshot", world.snapshot)
    return ledger.ConsentFilter(snapshot, ledger.Columns(**{"subject": "metadata.s", **options}))


def reasons(consent: ledger.ConsentFilter, *metadata: Any) -> list[str]:
    found = ConsentFilter(consent).filter_batch([Document("text", "id", metadata=m) for m in metadata])
    return ["allowed" if one is True else one[1] for one in found]


def values(consent: ledger.ConsentFilter, *subjects: Any) -> list[str]:
    return reasons(consent, *({"s": subject} for subject in subjects))


@pytest.mark.parametrize(("seed", "workers"), [(0, 1), (5, 2)])
def test_rows_and_reasons_are_those_of_the_reference(seed: int, workers: int, tmp_path: Path) -> None:
    drawn = draw(seed, tmp_path, columns=NESTED)
    for k in range(3):
        (tmp_path / "in").mkdir(exist_ok=True)
        pq.write_table(drawn.table.slice(134 * k, 134), tmp_path / "in" / f"{k}.parquet")
    done = LocalPipelineExecutor(
        [
            ParquetReader(str(tmp_path / "in"), id_key=""),
            ConsentFilter(drawn.consent, ParquetWriter(str(tmp_path / "not")), batch_size=50),
            ParquetWriter(str(tmp_path / "out"), schema=WRITTEN),
        ],
        tasks=3,
        workers=workers,
        logging_dir=str(tmp_path / "logs"),
    ).run()
    counts = {name.removeprefix("dropped_"): int(stat.total) for name, stat in done.stats[1].stats.items() if "dropped_" in name}
    assert {"allowed": int(done.stats[1].stats["forwarded"].total), **counts} == drawn.counts
    out = [str(tmp_path / "out")]
    written = pa.concat_tables([pq.read_table(path) for path in sorted((tmp_path / "out").iterdir())])
    assert [m["n"] for m in written["metadata"].to_pylist()] == drawn.kept
    assert drawn.consent.audit_shards(out).compliant, "the same filter audits what the writer nested"
    # Read back, and through again: the reader lifts what the writer nested.
    again = ConsentFilter(drawn.consent)(ParquetReader(out[0])())
    assert [document.metadata["n"] for document in again] == drawn.kept
    records = [row for path in sorted((tmp_path / "not").iterdir()) for row in pq.read_table(path).to_pylist()]
    assert {(r["metadata"]["shard"][-9:], r["metadata"]["row"], r["metadata"]["filter_reason"]) for r in records} == {
        (f"{n // 134}.parquet", n % 134, reason) for n, reason in enumerate(drawn.reasons) if reason != "allowed"
    }
    assert {(*r, *sorted(r["metadata"])) for r in records} == {("metadata", "filter_reason", "row", "shard", "snapshot_sha256")}


def test_records_of_exclusions_hold_nothing_of_the_document(world: World, tmp_path: Path) -> None:
    def documents() -> Iterator[Document]:
        for n, subject in enumerate(["no", "yes", None]):
            media = [Media(CANARY, 0, CANARY, media_bytes=CANARY.encode())]
            secret = {"s": subject, "x": CANARY, "file_path": f"{CANARY}/a.parquet"}
            yield Document(CANARY, f"{CANARY}/{n}", media, secret)

    step = ConsentFilter(of(world), ParquetWriter(str(tmp_path / "not"), compression=None))
    kept = list(step(documents()))
    assert [(document.metadata["s"], document.text, document.id) for document in kept] == [("yes", CANARY, f"{CANARY}/1")]
    files = [path.read_bytes() for path in (tmp_path / "not").iterdir()]
    assert len(files) == 1 and b"withdrawn" in files[0] and b"subject_missing" in files[0]
    assert world.snapshot.sha256.encode() in files[0]
    assert CANARY.encode() not in files[0]


def test_without_exclusions_a_dropped_document_is_left_as_it_was(world: World) -> None:
    document = Document("text", "id", metadata={"s": "no"})
    assert ConsentFilter(of(world)).filter(document) == (False, "withdrawn")
    assert (document.text, document.id, document.metadata) == ("text", "id", {"s": "no"})


def test_the_id_that_the_reader_makes_up_is_no_key(world: World, tmp_path: Path) -> None:
    """Of a document without an id of its own the reader says `a.parquet/0`: whoever is called so did not write it."""
    for columns in ({"subject": "id"}, {"content": "id"}, {"content": "text"}, {"subject": "s"}, {"category": "metadata"}):
        with pytest.raises(ledger.UsageError, match=r"no key|metadata"):
            ConsentFilter(of(world, **columns))
    world.yes("a.parquet/0")
    consent = of(world, snapshot=world.freeze("ai", "second"), subject="metadata.id")
    pq.write_table(pa.table({"text": ["t"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["t"], "id": ["yes"]}), tmp_path / "b.parquet")
    read = list(ParquetReader(str(tmp_path), id_key="", glob_pattern="[ab].parquet")())
    assert [document.id for document in read] == ["a.parquet/0", "b.parquet/0"]
    assert reasons(consent, *(document.metadata for document in read)) == ["subject_missing", "allowed"]


def test_what_is_absent_is_unknown(world: World) -> None:
    assert values(of(world), None, "", "yes") == ["subject_missing", "subject_missing", "allowed"]
    assert reasons(of(world), {}, {"S": "yes"}, {"metadata": {"s": "yes"}}) == ["subject_missing"] * 3
    deep = of(world, subject="metadata.author.id")
    told = [{"author": {"id": "yes"}}, {"author": "yes"}, {"author": None}, {"author": {"id": None}}, {"author.id": "yes"}]
    assert reasons(deep, *told) == ["allowed", *["subject_missing"] * 4]
    assert values(of(world), ["yes", "later"], [], [None], ["yes", None], ["yes", "no"], ("yes",), np.array(["yes"])) == [
        "allowed",
        "subject_missing",
        "subject_missing",
        "subject_missing",
        "withdrawn",
        "allowed",
        "allowed",
    ]


def test_ids_are_read_as_they_are_written(world: World) -> None:
    """1 is `1` and nothing else; what no shard's column could hold as a key is refused."""
    for subject in ("1", str(2**64), "True", "1.0"):
        world.yes(subject)
    consent = of(world, snapshot=world.freeze("ai", "second"))
    same = [1, np.int64(1), np.uint8(1), Decimal(1), 2**64, -1, 10, 0]
    assert values(consent, *same) == ["allowed"] * 5 + ["no_record"] * 3
    assert values(consent, "1", "01", "1 ", " 1", "+1", "１", b"1", np.str_("1")) == [
        *["allowed", *["no_record"] * 5],
        *["allowed", "allowed"],
    ]
    bad = [True, False, np.bool_(True), 1.0, np.float64(1), float("nan"), Decimal("1.0"), Decimal("1E+1"), 1j, {"a": 1}, {1}]
    bad += [
        [True],
        np.array([True]),
        np.array([1.0]),
        [["yes"]],
        "\ud800",
        b"\xff",
        object(),
        datetime.now(UTC),
        np.array([["1"]]),
    ]
    for value in bad:
        for batch in ([value], [1, value], ["1", value], [["1"], value]):
            with pytest.raises(ledger.ShardError, match=r"metadata\.s"):
                values(consent, *batch)
    for mixed in ([1, "1"], [[1], ["1"]], [[1, "1"]], [b"1", 1]):
        with pytest.raises(ledger.ShardError, match="integers and text"):
            values(consent, *mixed)
    with pytest.raises(ledger.ShardError, match=r"metadata\.c"):
        reasons(of(world, category="metadata.c"), {"s": "yes", "c": 1})


def test_times_are_moments_or_integers_of_a_known_unit(world: World) -> None:
    since = datetime(2026, 1, 2, tzinfo=UTC)
    world.yes("new", content_since=since)
    snapshot = world.freeze("ai", "second")
    moments = of(world, snapshot=snapshot, created="metadata.t")
    seconds = of(world, snapshot=snapshot, created="metadata.t", created_unit="s")

    def at(consent: ledger.ConsentFilter, *times: Any) -> list[str]:
        return reasons(consent, *({"s": "new", "t": t} for t in times))

    second = timedelta(seconds=1)
    assert at(moments, since, since - second, None, since.replace(tzinfo=None), date(2026, 1, 2), date(2026, 1, 1)) == [
        *["allowed", "not_covered", "not_covered"],
        *["allowed", "allowed", "not_covered"],
    ]
    n = int(since.timestamp())
    assert at(seconds, n, n - 1, np.int64(n), None) == ["allowed", "not_covered", "allowed", "not_covered"]
    with pytest.raises(ledger.UsageError, match="unit"):
        at(moments, n)
    for value in ("2030-01-01", 1e18, True, np.bool_(True), 2**64, np.datetime64("2030-01-01"), Decimal(n)):
        for batch in ([value], [n, value]):
            with pytest.raises(ledger.ShardError, match=r"metadata\.t"):
                at(seconds, *batch)
    with pytest.raises(ledger.ShardError, match="moments and integers"):
        at(seconds, n, since)


def test_stale_answers_keep_nothing(world: World) -> None:
    step = ConsentFilter(of(world, snapshot=replace(world.snapshot, max_age=timedelta(0))))
    with pytest.raises(ledger.SnapshotError, match="old"):
        list(step([Document("t", "i", metadata={"s": "yes"})]))


def test_the_step_travels_small(world: World) -> None:
    """And it is the snapshot's file, byte for byte, that decides where it arrives."""
    for n in range(20):
        world.yes(f"person-{n}")
    snapshot = world.load(world.freeze("ai", "second").path or Path())
    sent = pickle.dumps(ConsentFilter(of(world, snapshot=snapshot)))
    assert b"person-1" not in sent and len(sent) < 10_000
    document = Document("t", "i", metadata={"s": "yes"})
    assert pickle.loads(sent).filter(document) is True
