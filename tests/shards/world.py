"""A whole ledger, for tests of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ledger import book, times
from ledger.book import Ledger
from ledger.consent import Event
from ledger.filter import ConsentFilter
from ledger.run import Run
from ledger.shards.columns import Columns
from ledger.snapshot import Snapshot, load_snapshot


class World:
    """A ledger in a folder: `yes`, `later` said yes to `ai`; `no` said yes, then no, to `ai`, and yes to `other`."""

    def __init__(self, root: Path, name: str = "ledger") -> None:
        self.root = root
        self.book: Ledger = book.create(root / name)
        for token in ("ai", "other"):
            self.book.declare_purpose(token, title="t", description="d")
        for subject in ("yes", "later", "no"):
            for token in ("ai", "other"):
                self.yes(subject, token)
        self.book.withdraw("no", purposes=["ai"])
        self.snapshot = self.freeze("ai")

    def yes(self, subject: str, token: str = "ai", **fields: Any) -> None:
        self.book.record(Event(state="given", subject_id=subject, purposes=[token], occurred_at=times.now(), **fields))

    def freeze(self, token: str, name: str | None = None) -> Snapshot:
        return self.book.snapshot(token, output=self.root / f"{name or token}.parquet")

    def load(self, path: Path, **options: Any) -> Snapshot:
        return load_snapshot(path, trust=self.book.trust, **options)

    def shard(self, name: str, *subjects: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"s": pa.array(subjects, pa.string())}), path)
        return path

    def run(self, *inputs: Path, output: str = "out", snapshot: Snapshot | None = None, **options: Any) -> Run:
        consent = ConsentFilter(snapshot or self.snapshot, Columns(subject="s"))
        return consent.filter_shards(inputs, self.root / output, key=self.book.run_key(), admit=self.book.admit, **options)

    def read(self, name: str) -> list[str]:
        return pq.read_table(self.root / name)["s"].to_pylist()  # type: ignore[no-any-return]
