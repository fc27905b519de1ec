"""Ray Data: the filter for `map_batches`, its answers once in each host's shared memory."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa
import ray

from ledger.consent import REASONS
from ledger.errors import ShardError, UsageError
from ledger.filter import ConsentFilter


class Shared:
    """A filter and its index in Ray's object store, which the workers of a host map instead of copying it."""

    def __init__(self, consent: ConsentFilter) -> None:
        self._reference = ray.put((consent, consent.answers))

    def get(self) -> tuple[ConsentFilter, Any]:
        """The filter, and its answers, whose arrays lie in the store, read-only."""
        found: tuple[ConsentFilter, Any] = ray.get(self._reference)
        return found


class KeepConsented:
    """For `ds.map_batches(KeepConsented, fn_constructor_args=[Shared(consent)], batch_format="pyarrow")`.

    Freshness is judged at each batch, expiry for all workers at the filter's decided_at. A batch that loses all of its rows
    keeps its schema.
    """

    def __init__(self, shared: Shared) -> None:
        self._consent, self._answers = shared.get()

    def __call__(self, batch: Any) -> Any:
        """The kept rows. Raises UsageError for columns that cannot be keys and for batches of another format."""
        return self._consent(_table(batch), self._answers)


class CountReasons:
    """For `map_batches` as above: one row a batch, with a column of counts for each reason."""

    def __init__(self, shared: Shared) -> None:
        self._consent, self._answers = shared.get()

    def __call__(self, batch: Any) -> Any:
        found = self._consent.decide(_table(batch), self._answers).counts()
        return pa.table({"rows": [batch.num_rows], **{reason: [found.get(reason, 0)] for reason in REASONS}})


def consent_filter(ds: Any, consent: ConsentFilter, **options: Any) -> Any:
    """The rows of a Ray Dataset that may be used, same schema. options: those of `map_batches`, as `concurrency`."""
    return _map(ds, KeepConsented, consent, options)


def counts(ds: Any, consent: ConsentFilter, **options: Any) -> dict[str, int]:
    """Rows by reason, `allowed` among them, in one pass over the dataset. Raises ShardError where they do not add up."""
    total: Counter[str] = Counter()
    for row in _map(ds, CountReasons, consent, options).iter_rows():
        total.update(row)
    rows = total.pop("rows", 0)
    if sum(total.values()) != rows:
        raise ShardError(f"of {rows} rows {sum(total.values())} were counted")
    return {reason: int(total[reason]) for reason in REASONS if total[reason]}


def _map(ds: Any, work: type, consent: ConsentFilter, options: dict[str, Any]) -> Any:
    consent.snapshot.check_age(consent.decided_at)  # told here and at once, where the caller can see it
    return ds.map_batches(work, fn_constructor_args=[Shared(consent)], batch_format="pyarrow", **options)


def _table(batch: Any) -> Any:
    if not isinstance(batch, pa.Table):
        raise UsageError(f"a batch is a {type(batch).__name__}, no Arrow table", hint='say batch_format="pyarrow" to map_batches')
    return batch
