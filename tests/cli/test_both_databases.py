"""Every command on PostgreSQL says what it says on SQLite."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from tests.conftest import Outcome

ACTS = (
    "event_id,state,subject_id,content_id,purposes,occurred_at\n"
    "e1,given,ann,,train-ai,2026-01-01T00:00:00Z\n"
    "e2,given,Ämy,,train-ai,2026-01-01T00:00:00Z\n"
    "e3,withdrawn,ann,p2,train-ai,2026-01-02T00:00:00Z\n"
    "e4,given,cem,,train-ai,2026-01-01T00:00:00Z\n"
)
KEYS = ("--subject", "user_id", "--content", "post_id")
STORY: tuple[tuple[tuple[str, ...], int], ...] = (
    (("purpose", "add", "train-ai", "--title", "T", "--description", "D"), 0),
    (("purpose", "list", "--format", "json"), 0),
    (("notice", "add", "notice.txt", "--id", "ask", "--language", "en"), 0),
    (("import", "acts.csv", "--dry-run", "--format", "json"), 0),
    (("import", "acts.csv", "--format", "json"), 0),
    (("import", "acts.csv", "--format", "json"), 0),
    (("import", "bad.csv", "--rejects", "rejected.csv", "--format", "json"), 1),
    (("record", "given", "dora", "--purpose", "train-ai", "--event-id", "e5", "--format", "json"), 0),
    (("withdraw", "cem", "--format", "json"), 0),
    (("show", "ann", "--content", "p2", "--format", "json"), 0),
    (("show", "a'; DROP TABLE head; --", "--format", "json"), 0),
    (("events", "--limit", "3", "--format", "json"), 0),
    (("events", "--after", "6", "--format", "json"), 0),
    (("status", "--format", "json"), 0),
    (("snapshot", "--purpose", "train-ai", "-o", "s.parquet", "--format", "json"), 0),
    (("filter", "raw", "-o", "out", "--purpose", "train-ai", *KEYS, "--format", "json"), 0),
    (("audit", "raw", "--purpose", "train-ai", *KEYS, "--format", "json"), 3),
    (("audit", "out", "--snapshot", "s.parquet", "--format", "json"), 0),
    (("explain", "raw/a.parquet", "--row", "1", "--purpose", "train-ai", *KEYS), 0),
    (("receipt", "e3", "-o", "e3.json"), 0),
    (("verify", "out", "e3.json", "s.parquet"), 0),
    (("status", "--max-unanswered", "7d", "--format", "json"), 0),
    (("key", "show"), 0),
    (("fsck", "--format", "json"), 0),
)
_VOLATILE = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?|[0-9a-f]{32,64}|[A-Za-z0-9+/]{40,}=*|\+[0-9a-f]{8}\+|consent-ledger/[0-9a-f]{16}"
    r'|"(age_seconds|run_id|seconds)": [^,\n]*|process \d+'
)


def _told(outcome: Outcome, name: str) -> str:
    return _VOLATILE.sub("~", outcome.out.replace(name, "LEDGER"))


def test_a_whole_story(
    consent: Callable[..., Outcome], shard: Callable[..., Path], tmp_path: Path, new_database: Callable[[], str]
) -> None:
    shard("raw/a.parquet", user_id=["ann", "ann", "Ämy", "A\u0308my", "cem", "dora"], post_id=[f"p{i}" for i in range(1, 7)])
    (tmp_path / "acts.csv").write_text(ACTS, encoding="utf-8")
    (tmp_path / "bad.csv").write_text(ACTS.replace("withdrawn", "perhaps").replace("e", "E", 0), encoding="utf-8")
    (tmp_path / "notice.txt").write_text("We ask.", encoding="utf-8")
    told: dict[str, list[str]] = {}
    for name, database in (("sqlite", ()), ("postgresql", ("--database", new_database()))):
        for left in ("rejected.csv", "rejected.csv.why", "out.intoto.jsonl", "out.journal.jsonl"):
            (tmp_path / left).unlink(missing_ok=True)
        assert consent("init", name, *database).code == 0
        for line, code in STORY:
            outcome = consent("--ledger", name, *line)
            assert outcome.code == code, (name, line, outcome.err)
            told.setdefault(name, []).append(_told(outcome, name))
        assert pq.read_table(tmp_path / "out" / "a.parquet").column("post_id").to_pylist() == ["p1", "p3", "p6"]
    for (line, _), ours, theirs in zip(STORY, told["sqlite"], told["postgresql"], strict=True):
        assert ours == theirs, line
    assert consent("copy", "postgresql", "moved").code == 0
    assert json.loads(consent("--ledger", "moved", "fsck", "--format", "json").out)["whole"]
    assert consent("--ledger", "postgresql", "withdraw", "ann").code == 1
    assert consent("--ledger", "moved", "withdraw", "ann").code == 0
