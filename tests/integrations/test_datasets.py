"""Hugging Face datasets keep what the reference keeps; nothing else is in any file of what is saved."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict, Features, IterableDataset, List, Value
from datasets.distributed import split_dataset_by_node

import ledger
from ledger import times
from ledger.consent import Event
from ledger.integrations.datasets import consent_filter, counts
from tests.integrations.drawn import draw
from tests.shards.world import World

CANARY = "CANARY-of-a-dropped-row"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No hub, no bars; caches lie beside the data, which is in tmp_path."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.book.close()


def of(world: World, **options: Any) -> ledger.ConsentFilter:
    return ledger.ConsentFilter(options.pop("snapshot", world.snapshot), ledger.Columns(**{"subject": "s", **options}))


def on_disk(ds: Dataset, path: Path) -> Dataset:
    ds.save_to_disk(path, num_shards=1)  # of no rows it would write no file, and then not load
    return datasets.load_from_disk(path)


def files_with(word: str, folder: Path) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path for path in files if word.encode() in path.read_bytes()]


@pytest.mark.parametrize("seed", [0, 5])
def test_rows_and_reasons_are_those_of_the_reference(seed: int, tmp_path: Path) -> None:
    drawn = draw(seed, tmp_path)
    assert 0 < len(drawn.kept) < len(drawn.reasons)
    memory = Dataset(drawn.table)
    disk = on_disk(memory, tmp_path / "rows")
    stream = disk.to_iterable_dataset(num_shards=4)
    for source in (memory, disk, stream):
        assert counts(source, drawn.consent) == drawn.counts
        kept = consent_filter(source, drawn.consent, batch_size=33)
        assert [row["n"] for row in kept] == drawn.kept
        assert kept.features == source.features
    halves = consent_filter(disk, drawn.consent, batch_size=33, num_proc=2)
    assert halves["n"] == drawn.kept and halves.features == disk.features
    assert len(consent_filter(disk.shuffle(seed=1), drawn.consent)) == len(drawn.kept)


@pytest.mark.parametrize("seed", [4])
def test_a_stream_is_shuffled_sharded_and_resumed_without_a_row_more_or_less(seed: int, tmp_path: Path) -> None:
    drawn = draw(seed, tmp_path)
    stream = Dataset(drawn.table).to_iterable_dataset(num_shards=4)

    def kept() -> IterableDataset:
        return pickle.loads(pickle.dumps(consent_filter(stream, drawn.consent, batch_size=7)))  # as a worker gets it

    assert kept().num_shards == 4
    assert sorted(row["n"] for row in kept().shuffle(seed=3, buffer_size=20)) == drawn.kept
    assert [row["n"] for k in range(4) for row in kept().shard(4, k)] == drawn.kept
    assert sorted(row["n"] for k in range(2) for row in split_dataset_by_node(kept(), k, 2)) == drawn.kept
    for stop in range(0, len(drawn.kept) + 1, 3):
        begun = kept()
        rows = iter(begun)
        head = [next(rows)["n"] for _ in range(stop)]
        resumed = kept()
        resumed.load_state_dict(begun.state_dict())
        assert head + [row["n"] for row in resumed] == drawn.kept


def people(*subjects: str | None) -> Dataset:
    """Rows of many types; whoever is not `yes` leaves a canary in each of them."""
    words = ["fine" if subject == "yes" else CANARY for subject in subjects]
    features = Features(
        {
            "s": Value("string"),
            "text": Value("large_string"),
            "bytes": Value("binary"),
            "list": List(Value("string")),
            "struct": {"a": Value("string")},
            "image": {"bytes": Value("binary"), "path": Value("string")},
            "json": datasets.Json(),
            "grid": datasets.Array2D((1, 2), "int32"),
            "kind": datasets.ClassLabel(names=["post", "photo"]),
        }
    )
    rows = [
        {
            "s": subject,
            "text": word,
            "bytes": word.encode(),
            "list": [word],
            "struct": {"a": word},
            "image": {"bytes": word.encode(), "path": None},
            "json": {"a": word},
            "grid": [[1, 2]],
            "kind": 1,
        }
        for subject, word in zip(subjects, words, strict=True)
    ]
    return Dataset.from_list(rows, features=features).cast_column("image", datasets.Image(decode=False))


@pytest.mark.parametrize("num_proc", [None, 2])
@pytest.mark.parametrize("where", ["memory", "disk"])
@pytest.mark.parametrize("subjects", [("no", "yes", None, "yes", "stranger"), ("no", "stranger")])
def test_no_byte_of_a_dropped_row_is_saved(
    subjects: tuple[str | None, ...], where: str, num_proc: int | None, world: World, tmp_path: Path
) -> None:
    source = people(*subjects)
    if where == "disk":
        source = on_disk(source, tmp_path / "source")
    kept = consent_filter(source, of(world), num_proc=num_proc)
    assert kept["s"] == [subject for subject in subjects if subject == "yes"]
    saved = on_disk(kept, tmp_path / "kept")
    kept.to_parquet(tmp_path / "kept" / "rows.parquet")
    assert saved.features == kept.features == source.features
    assert pq.read_schema(tmp_path / "kept" / "rows.parquet").equals(source.features.arrow_schema)
    assert files_with(CANARY, tmp_path / "kept") == []
    assert CANARY.encode() not in pickle.dumps(kept)
    assert [f for f in kept.cache_files if CANARY.encode() in Path(f["filename"]).read_bytes()] == []
    assert of(world).audit_shards([tmp_path / "kept" / "rows.parquet"]).compliant
    if where == "disk":
        assert files_with(CANARY, tmp_path / "source"), "the scan finds what is there"


def test_a_selection_of_rejected_rows_leaves_none(world: World, tmp_path: Path) -> None:
    """What was selected before is a mapping into the whole table."""
    source = on_disk(people("no", "yes", "stranger"), tmp_path / "source")
    for rows in ([0, 2], [], range(0), [1, 0]):
        kept = on_disk(consent_filter(source.select(rows), of(world)), tmp_path / "kept")
        assert kept["s"] == ["yes"] * (rows == [1, 0])
        assert kept.features == source.features
        assert files_with(CANARY, tmp_path / "kept") == []


def test_no_cache_outlives_a_withdrawal(world: World, tmp_path: Path) -> None:
    """`Dataset.filter` with a plain function would serve the rows of its first run again."""
    source = on_disk(Dataset.from_dict({"s": ["yes", "later", "no"] * 4}), tmp_path / "source")

    def seen(consent: ledger.ConsentFilter) -> set[str]:
        return set(consent_filter(source, consent).map(lambda row: {"seen": row["s"]})["seen"])

    first = of(world)
    assert seen(first) == seen(of(world)) == {"yes", "later"}
    world.book.withdraw("later", purposes=["ai"])
    second = of(world, snapshot=world.freeze("ai", "second"))
    assert seen(second) == {"yes"}
    assert consent_filter(source, first)._fingerprint != consent_filter(source, second)._fingerprint
    assert consent_filter(source, second)._fingerprint == consent_filter(source, of(world, snapshot=second.snapshot))._fingerprint


def test_no_cache_outlives_an_expiry_or_another_column(world: World, tmp_path: Path) -> None:
    """The same snapshot says another thing an hour later."""
    now = times.now()
    world.book.record(
        Event(state="given", subject_id="soon", purposes=["ai"], occurred_at=now, expires_at=now + timedelta(hours=1))
    )
    consent = of(world, snapshot=world.freeze("ai", "second"))
    source = on_disk(Dataset.from_dict({"s": ["soon", "yes"], "t": ["yes", "no"]}), tmp_path / "source")
    later = replace(consent, decided_at=consent.decided_at + timedelta(hours=2))
    assert consent_filter(source, consent)["s"] == ["soon", "yes"]
    assert consent_filter(source, later)["s"] == ["yes"]
    assert counts(source, later) == {"expired": 1, "allowed": 1}
    assert consent_filter(source, replace(consent, columns=ledger.Columns(subject="t")))["s"] == ["soon"]


def test_stale_answers_keep_nothing(world: World, tmp_path: Path) -> None:
    source = on_disk(Dataset.from_dict({"s": ["yes"]}), tmp_path / "source")
    assert consent_filter(source, of(world))["s"] == ["yes"]
    stream = consent_filter(
        source.to_iterable_dataset(), of(world, snapshot=replace(world.snapshot, max_age=timedelta(seconds=600)))
    )
    for old in (source, stream):
        consent = of(world, snapshot=replace(world.snapshot, max_age=timedelta(0)))
        with pytest.raises(ledger.SnapshotError, match="old"):
            list(consent_filter(old, consent))


@pytest.mark.parametrize("column", ["kind", "json", "grid", "image", "struct", "missing"])
def test_features_that_are_no_ids_are_refused(column: str, world: World) -> None:
    for source in (people("yes"), people("yes").to_iterable_dataset()):
        with pytest.raises(ledger.UsageError, match=column):
            consent_filter(source, of(world, subject=column))
        with pytest.raises(ledger.UsageError, match=column):
            counts(source, of(world, content=column))


def test_the_number_of_a_label_is_nobodys_id(world: World) -> None:
    """Person 0 said yes; the first of the class names is another person, who said no."""
    world.yes("0")
    consent = of(world, snapshot=world.freeze("ai", "second"))
    encoded = Dataset.from_dict({"s": ["no"]}).class_encode_column("s")
    with pytest.raises(ledger.UsageError, match="ClassLabel"):
        consent_filter(encoded, consent)
    names = encoded.features["s"].int2str
    named = encoded.map(lambda row: {"s": names(row["s"])}, features=Features({"s": Value("string")}))
    assert counts(named, consent) == {"withdrawn": 1}


def test_a_stream_of_unknown_features_is_refused(world: World) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield {"s": "yes"}

    with pytest.raises(ledger.UsageError, match="features"):
        consent_filter(IterableDataset.from_generator(rows), of(world))
    known = IterableDataset.from_generator(rows, features=Features({"s": Value("string")}))
    assert list(consent_filter(known, of(world))) == [{"s": "yes"}]


def test_dictionaries_and_formats_stay(world: World) -> None:
    source = Dataset.from_dict({"s": ["yes", "no"], "x": [1, 2]})
    splits = DatasetDict(a=source, b=source)
    kept = consent_filter(splits, of(world))
    assert {name: part["x"] for name, part in kept.items()} == {"a": [1], "b": [1]}
    assert counts(splits, of(world)) == {"allowed": 2, "withdrawn": 2}
    assert consent_filter(source.with_format("arrow", columns=["x"]), of(world)).format["columns"] == ["x"]
    assert consent_filter(source.with_transform(lambda rows: {"y": rows["x"]}), of(world))[0] == {"y": 1}
    stream = consent_filter(source.to_iterable_dataset().with_format("arrow"), of(world))
    assert [table.to_pylist() for table in stream.iter(10)] == [[{"s": "yes", "x": 1}]]
