"""datatrove: the filter as a pipeline step, its reasons as drop reasons, its exclusion records without content."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.writers.disk_base import DiskWriter

from ledger import filter as kernel
from ledger.errors import ShardError, UsageError

_METADATA = "metadata."
_SUBJECTS = pa.large_list(pa.large_string())


class ConsentFilter(BaseFilter):  # type: ignore[misc]
    """Keeps the documents that may be used and drops the others, each with its reason.

    consent: its columns are paths into a document's metadata, written as datatrove's writers nest them, `metadata.user_id`,
    so that the same filter audits the written shards. Freshness is judged at each batch, expiry at decided_at in all tasks.
    exclusion_writer: gets of a dropped document its reason, the snapshot's digest, and its shard and row where the reader
    made its id of them, else '' and -1.
    """

    name = "✋ Consent"

    def __init__(self, consent: kernel.ConsentFilter, exclusion_writer: DiskWriter | None = None, batch_size: int = 1000) -> None:
        """Raises UsageError for columns outside a document's metadata, its id among them."""
        super().__init__(exclusion_writer, batch_size)
        for name in consent.columns.names():
            if name == "id":
                raise UsageError(
                    "a document's id is no key: where a shard brings none, the reader makes one up",
                    hint='give the reader id_key="" and name metadata.id, which is there only where the shard has it',
                )
            if not name.startswith(_METADATA):
                raise UsageError(f"column {name!r} is not in a document's metadata", hint=f"name it {_METADATA + name!r}")
        self._consent = consent

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """As `filter_batch`, for one document."""
        return self.filter_batch([doc])[0]

    def filter_batch(self, batch: list[Document]) -> list[bool | tuple[bool, str]]:
        """True or (False, reason) for each document. Where exclusions are written, the dropped ones are emptied.

        A key that is absent is as unknown as a null. Raises ShardError for a value that cannot be a key, and where text and
        numbers are mixed.
        """
        columns = self._consent.columns
        table = {name: _texts(name, batch, _subjects, _SUBJECTS) for name in columns.subject}
        if columns.content is not None:
            table[columns.content] = _texts(columns.content, batch, _text, pa.large_string())
        if columns.category is not None and columns.constant_category is None:
            table[columns.category] = _texts(columns.category, batch, _word, pa.large_string())
        if columns.created is not None:
            table[columns.created] = _times(columns.created, batch)
        reasons = self._consent.decide(pa.table(table)).reason.to_pylist()
        if self.exclusion_writer is not None:
            for document, reason in zip(batch, reasons, strict=True):
                if reason != "allowed":
                    _empty(document, self._consent.snapshot.sha256)
        return [reason == "allowed" or (False, reason) for reason in reasons]

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """The kept documents. Raises ShardError where the kept and the dropped are not as many as came."""
        came, before = 0, self._accounted()

        def counted() -> Iterator[Document]:
            nonlocal came
            for document in data:
                came += 1
                yield document

        yield from super().run(counted(), rank, world_size)
        if (accounted := self._accounted() - before) != came:
            raise ShardError(f"of {came} documents {accounted} were kept, or dropped with a reason")

    def _accounted(self) -> int:
        counts = dict(self.stats.stats)
        return sum(int(counts[name].total) for name in counts if name == "forwarded" or name.startswith("dropped_"))


def _values(name: str, batch: list[Document]) -> Iterator[Any]:
    for document in batch:
        value: Any = document.metadata
        for part in name.removeprefix(_METADATA).split("."):
            value = value.get(part) if isinstance(value, dict) else None
        yield value


def _texts(name: str, batch: list[Document], read: Callable[[Any, set[str]], Any], kind: Any) -> Any:
    """What `Columns` would read from a column of these values, value by value: no cast, and no mix that would be one."""
    kinds: set[str] = set()
    try:
        array = pa.array([None if value is None else read(value, kinds) for value in _values(name, batch)], kind)
    except (TypeError, ValueError) as error:  # of a wrong type, or no UTF-8
        raise ShardError(
            f"{name!r} holds a value that cannot be a key: {error}",
            hint="keys are text or integers; write the ids as text, exactly as the ledger knows them",
        ) from error
    if len(kinds) > 1:
        raise ShardError(f"{name!r} holds {' and '.join(sorted(kinds))} in one batch", hint="write all ids as text")
    return array


def _subjects(value: Any, kinds: set[str]) -> list[str | None]:
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim == 1):
        return [None if one is None else _text(one, kinds) for one in value]
    return [_text(value, kinds)]


def _text(value: Any, kinds: set[str]) -> str:
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        kinds.add("integers")
        return str(int(value))
    if isinstance(value, Decimal) and value.as_tuple().exponent == 0:
        kinds.add("integers")
        return str(int(value))
    return _word(value, kinds)


def _word(value: Any, kinds: set[str]) -> str:
    if isinstance(value, (str, bytes)):
        kinds.add("text")
        return str(value, "utf-8") if isinstance(value, bytes) else value
    raise TypeError(f"of type {type(value).__name__}")


def _times(name: str, batch: list[Document]) -> Any:
    """Moments, or integers whose unit the columns say."""
    values = [_moment(name, value) for value in _values(name, batch)]
    numbers = {isinstance(value, int) for value in values if value is not None}
    if len(numbers) > 1:
        raise ShardError(f"{name!r} holds moments and integers in one batch", hint="write all times in one way")
    return pa.array(values, pa.int64() if True in numbers else pa.timestamp("us", "UTC"))


def _moment(name: str, value: Any) -> Any:
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
        return int(value)
    if value is not None:
        raise ShardError(
            f"{name!r} holds a {type(value).__name__}, which is no time", hint="write a moment, a date or an integer"
        )
    return None


def _empty(document: Document, snapshot_sha256: str) -> None:
    """Leaves where a document stood, and nothing that it said: its id may be a person's, a file_path one of its own."""
    shard = str(document.metadata.get("file_path", ""))
    path, _, row = document.id.rpartition("/")
    told = path != "" and f"/{shard}".endswith(f"/{path}") and row.isascii() and row.isdigit()
    document.text, document.id, document.media = "", "", []
    document.metadata = {"shard": shard if told else "", "row": int(row) if told else -1, "snapshot_sha256": snapshot_sha256}
