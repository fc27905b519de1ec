"""Hugging Face datasets: the filter for Dataset, IterableDataset and the dictionaries of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict, IterableDatasetDict, LargeList, List, Value
from datasets.fingerprint import Hasher

from ledger.errors import ShardError, UsageError
from ledger.filter import ConsentFilter

_BATCH = 1000


def consent_filter(ds: Any, consent: ConsentFilter, *, batch_size: int = _BATCH, num_proc: int | None = None) -> Any:
    """The rows that may be used, same features and format; of a dictionary, of each split.

    A Dataset is decided now, and is a table of its own, not a selection from the whole one: what is saved of it holds no
    other row. Its fingerprint covers the answers, so that nothing made of it is found again in the cache after a withdrawal.
    An IterableDataset is decided as it is read. num_proc: processes, for a Dataset.
    Raises UsageError for features that cannot be keys, SnapshotError for stale answers, ShardError where rows are not
    accounted for.
    """
    if isinstance(ds, (DatasetDict, IterableDatasetDict)):
        parts = {name: consent_filter(part, consent, batch_size=batch_size, num_proc=num_proc) for name, part in ds.items()}
        return type(ds)(parts)
    _key_columns(ds, consent)
    arrow = ds.with_format("arrow")
    if not isinstance(ds, Dataset):
        kept = arrow.map(consent, batched=True, batch_size=batch_size, features=ds.features)
        formatting = ds._formatting  # the only place where it is told
        return kept.with_format(formatting and formatting.format_type)
    allowed = counts(ds, consent).get("allowed", 0)
    kept = arrow.map(
        consent,
        batched=True,
        batch_size=batch_size,
        features=ds.features,
        num_proc=num_proc,
        load_from_cache_file=False,
        new_fingerprint=_fingerprint(ds, consent),
        desc="Consent",
    )
    if kept.num_rows != allowed:
        raise ShardError(f"{allowed} rows are allowed, and {kept.num_rows} were kept")
    form = ds.format
    shown = None if form["columns"] == ds.column_names else form["columns"]
    return kept.with_format(form["type"], shown, form["output_all_columns"], **form["format_kwargs"])


def counts(ds: Any, consent: ConsentFilter) -> dict[str, int]:
    """Rows by reason, `allowed` among them, of all splits together. Reads the key columns only. Raises as `consent_filter`."""
    if isinstance(ds, (DatasetDict, IterableDatasetDict)):
        return dict(sum((Counter(counts(part, consent)) for part in ds.values()), Counter()))
    total: Counter[str] = Counter()
    for batch in ds.select_columns(_key_columns(ds, consent)).with_format("arrow").iter(10 * _BATCH):
        total.update(consent.decide(batch).counts())
    if isinstance(ds, Dataset) and total.total() != ds.num_rows:
        raise ShardError(f"of {ds.num_rows} rows {total.total()} were decided")
    return dict(total)


def _key_columns(ds: Any, consent: ConsentFilter) -> list[str]:
    """The columns to read. Raises UsageError where they are not there, or hold no plain values."""
    if ds.features is None:
        raise UsageError(
            "the features of this IterableDataset are not known, so its keys could be of any type, and of several",
            hint="give them where it is made: from_generator(..., features=Features(...)), load_dataset(..., features=...)",
        )
    for name in consent.columns.names():
        feature = _feature(ds.features, name)
        if isinstance(feature, (List, LargeList)):
            feature = feature.feature
        if isinstance(feature, ClassLabel):
            raise UsageError(
                f"column {name!r} is a ClassLabel: its numbers are places in a list of names, no ids",
                hint="put the names back with int2str; cast_column would write the numbers as text",
            )
        if feature is not None and not isinstance(feature, Value):
            raise UsageError(f"column {name!r} is a {type(feature).__name__}, which cannot be a key")
    names: list[str] = consent.columns.check(ds.features.arrow_schema, consent.snapshot.header.categories)
    consent.snapshot.check_age(consent.decided_at)
    return names


def _feature(features: Any, path: str) -> Any:
    """The one at a name or dotted path, as `Columns` finds it; None where there is none."""
    if path in features:
        return features[path]
    for part in path.split("."):
        features = features.get(part) if isinstance(features, dict) else None
    return features


def _fingerprint(ds: Dataset, consent: ConsentFilter) -> str:
    columns, categories = consent.columns.document(), sorted(consent.snapshot.header.categories)
    return str(Hasher.hash([ds._fingerprint, consent.answers_sha256, columns, categories]))
