"""Real speeches and plays, against the counts of an independent program."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

import ledger
from ledger import times

COLUMNS = {
    "speeches": ledger.Columns(subject="user_id", content="content_id", category="category", created="created_at"),
    "plays": ledger.Columns(subject="participants", content="content_id", category="=scene"),
}


@pytest.fixture
def at_the_moment(shared: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, int]]:
    """The expected counts, with the clock at the moment that they speak of."""
    expected = json.loads((shared / "data" / "expected.json").read_text(encoding="utf-8"))
    real, began = times.now, times.now()
    monkeypatch.setattr(times, "now", lambda: times.read(expected["moment"]) + (real() - began))
    counts: dict[str, dict[str, int]] = expected["shards"]
    return counts


def test_every_shard_has_the_expected_count_of_every_reason(
    shared: Path, tmp_path: Path, at_the_moment: dict[str, dict[str, int]]
) -> None:
    with ledger.create(tmp_path / "consent-ledger") as book:
        book.declare_purpose("train-ai", title="T", description="D", categories=["address", "inaugural", "scene"])
        book.declare_purpose("search", title="S", description="D")
        assert book.import_file(shared / "data" / "consents.csv").new == 384
        snapshot = book.snapshot("train-ai", output=tmp_path / "snapshot.parquet")
        for name, columns in COLUMNS.items():
            consent = ledger.ConsentFilter(snapshot, columns)
            source, output = shared / "data" / name, tmp_path / name
            run = consent.filter_shards([source], output, key=book.run_key(), admit=book.admit)
            assert {f"{name}/{s.output}": {"allowed": s.rows_kept, **s.rows_dropped} for s in run.record.shards} == {
                shard: counts for shard, counts in at_the_moment.items() if shard.startswith(name)
            }
            assert not run.record.warnings
            assert consent.audit_shards([output]).compliant
            audit = consent.audit_shards([source])
            assert not audit.compliant
            assert audit.rows_without_consent == run.record.rows_in - run.record.rows_kept
            ledger.verify(output, trust=tmp_path / "consent-ledger" / "trust")
        later = times.now() + timedelta(hours=25)
        with pytest.raises(ledger.SnapshotError, match="old"):
            ledger.load_snapshot(tmp_path / "snapshot.parquet", trust=book.trust, now=later)
        book.fsck()
