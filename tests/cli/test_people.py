"""`explain`, `status` and `events` as commands: exit codes, words, hostile text, and that they write nothing."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import ledger
from ledger import schemas

HOSTILE = "<script>alert(1)</script>\n\x1b[2J\u202eevil"
KEYS = ("--purpose", "train-ai", "--subject", "user_id", "--content", "post_id")


@pytest.fixture
def story(consent: Callable[..., Any], shard: Callable[..., Path], tmp_path: Path) -> Callable[..., Any]:
    shard("a.parquet", user_id=["ann", "eve", HOSTILE, None, "ann"], post_id=["p1", "p2", HOSTILE, "p4", None])
    assert consent("init").code == 0
    assert consent("purpose", "add", "train-ai", "--title", "T", "--description", "D").code == 0
    (tmp_path / "n.txt").write_text("We train.", encoding="utf-8")
    assert consent("notice", "add", "n.txt", "--id", "n1", "--language", "en").code == 0
    given = ("record", "given", "ann", "--purpose", "train-ai", "--event-id", "a1", "--channel", "web")
    assert consent(*given, "--notice", "n1", "--expires-at", "2999-01-01T00:00:00Z").code == 0
    no = ("record", "withdrawn", "eve", "--purpose", "*", "--event-id", "e1", "--channel", "one-click")
    assert consent(*no, "--occurred-at", "2026-02-01T00:00:00Z").code == 0
    hostile = ("record", "refused", HOSTILE, "--purpose", "train-ai", "--content", HOSTILE)
    assert consent(*hostile, "--event-id", f"x{HOSTILE}", "--channel", HOSTILE, "--reason", HOSTILE).code == 0
    return consent


def test_a_denied_row_is_explained_in_plain_words_and_answered_with_exit_0(story: Callable[..., Any]) -> None:
    outcome = story("explain", "a.parquet", "--row", "1", *KEYS)
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[0] == "a.parquet, row 1: subject eve, content p2"
    assert outcome.out.splitlines()[2] == (
        "denied: withdrawn. Subject 'eve' said no to everything for all purposes on 2026-02-01 00:00:00 UTC "
        "(entry 5, event 'e1', by 'one-click'); it stands because no later yes at least as specific is in force."
    )
    allowed = story("explain", "a.parquet", "--row", "0", *KEYS)
    assert "allowed. Subject 'ann' said yes to everything for train-ai@1 on" in allowed.out
    assert "shown notice 'n1@1/en'" in allowed.out
    assert "until 2999-01-01 00:00:00 UTC." in allowed.out
    missing = story("explain", "a.parquet", "--row", "3", *KEYS)
    assert missing.code == 0
    assert "denied: subject_missing." in missing.out


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        (["a.parquet", "--row", "5", *KEYS], 2, "0 to 4"),
        (["a.parquet", "--row", "-1", *KEYS], 2, "--row"),
        (["a.parquet", *KEYS], 2, "--row"),
        (["a.parquet", "--row", "0", "--purpose", "train-ai"], 2, "--subject"),
        (["a.parquet", "--row", "0", "--subject", "user_id"], 2, "--purpose TOKEN or --snapshot FILE"),
        (["a.parquet", "--row", "0", "--purpose", "nope", "--subject", "user_id"], 2, "declared: train-ai"),
        (["a.parquet", "--row", "0", "--purpose", "train-ai", "--subject", "nope"], 2, "its columns: 'user_id', 'post_id'"),
        (["none.parquet", "--row", "0", *KEYS], 2, "does not exist"),
        (["n.txt", "--row", "0", *KEYS], 1, "n.txt"),
    ],
)
def test_a_wrong_question_gets_a_clear_error(story: Callable[..., Any], line: list[str], code: int, says: str) -> None:
    outcome = story("explain", *line)
    assert outcome.code == code, outcome.err
    assert says in outcome.err
    assert outcome.out == ""


def harmless(text: str) -> bool:
    return all(c.isprintable() or c == "\n" for c in text) and "\nevil" not in text


def test_hostile_text_is_escaped_in_every_output(story: Callable[..., Any]) -> None:
    for line in (["explain", "a.parquet", "--row", "2", *KEYS], ["events"], ["status"]):
        text = story(*line)
        assert text.code == 0, text.err
        assert harmless(text.out + text.err), line
        told = json.loads(story(*line, "--format", "json").out)
        jsonschema.validate(told, schemas.load(line[0]))
    assert len(story("events").out.splitlines()) == 3, "one line an event"
    told = json.loads(story("explain", "a.parquet", "--row", "2", *KEYS, "--format", "json").out)
    assert told["keys"] == {"subjects": [HOSTILE], "content_id": HOSTILE}
    assert told["answers"][0]["events"][0]["event"]["reason"] == HOSTILE
    assert harmless(told["sentence"] + told["answers"][0]["sentence"])
    assert json.loads(story("events", "--format", "json").out)["events"][2]["subject_id"] == HOSTILE
    assert json.loads(story("status", "--format", "json").out)["unanswered"][0]["oldest"]["event_id"] == "e1"


def test_events_are_paged_by_the_cursor_that_each_page_hands_out(story: Callable[..., Any]) -> None:
    seen: list[str] = []
    after = 0
    while True:
        page = json.loads(story("events", "--after", after, "--limit", "1", "--format", "json").out)
        if not page["events"]:
            break
        seen += [e["event_id"] for e in page["events"]]
        after = page["next"]
        if len(seen) == 2:
            assert story("withdraw", "ann").code == 0
    assert seen[:3] == ["a1", "e1", f"x{HOSTILE}"]
    assert len(seen) == 4
    text = story("events", "--after", after)
    assert (text.out, text.err) == ("", f"next: --after {after}\n")
    beyond = story("events", "--after", after + 1)
    assert beyond.code == 2
    assert "another ledger" in beyond.err
    assert story("events", "--after", "-1").code == 2
    assert story("events", "--limit", "0").code == 2
    assert json.loads(story("events", "--expiring", "30d", "--format", "json").out)["events"] == []


def test_an_item_that_is_named_everything_is_not_everything(story: Callable[..., Any]) -> None:
    assert story("withdraw", "dora", "--content", "everything").code == 0
    assert story("withdraw", "dora").code == 0
    item, all_of_it = story("events").out.splitlines()[-2:]
    assert "  content everything  *  dora  " in item
    assert "  everything  *  dora  " in all_of_it


def test_a_source_that_had_rejects_only_never_completed(story: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "acts.csv").write_text("state,subject_id,purposes\nrefused,,train-ai\n", encoding="utf-8")
    assert story("import", "acts.csv", "--source", "crm", "--rejects", "bad.csv").code == 1
    over = story("status", "--max-source-age", "24h")
    assert over.code == 3
    assert "source crm: never completed without rejects, 1 imports (1 rejected)" in over.out
    assert over.err == "exceeded: import source 'crm' never completed without rejects, and the limit is 1 day, 0:00:00\n"
    stale = story("filter", "a.parquet", "-o", "out", *KEYS, "--max-source-age", "24h")
    assert "import source 'crm' never completed without rejects" in stale.err


def test_status_exits_with_3_over_a_limit(story: Callable[..., Any], tmp_path: Path) -> None:
    fine = story("status")
    assert fine.code == 0
    assert "the oldest unanswered no is entry 5, withdrawn, event e1" in fine.out
    assert not re.search(r"\beve\b", fine.out), "positions and event ids are enough"
    assert story("status", "--max-unanswered", "1h").code == 0
    over = story("status", "--max-unanswered", "0m", "--format", "json")
    assert over.code == 3
    assert json.loads(over.out)["exceeded"] == [over.err.removeprefix("exceeded: ").strip()]
    never = story("status", "--max-source-age", "24h")
    assert never.code == 3
    assert never.err == "exceeded: no import source has ever completed\n"
    (tmp_path / "acts.csv").write_text("state,subject_id,purposes\nrefused,bob,train-ai\n", encoding="utf-8")
    assert story("import", "acts.csv", "--source", "crm").code == 0
    assert story("status", "--max-source-age", "24h").code == 0
    assert story("status", "--max-source-age", "0m").code == 3
    assert story("filter", "a.parquet", "-o", "out", *KEYS).code == 0
    answered = story("status", "--max-unanswered", "0m")
    assert answered.code == 0, answered.err
    assert "train-ai: 1 logged runs; every no is answered" in answered.out


def test_filter_refuses_answers_that_no_source_ever_fed(story: Callable[..., Any]) -> None:
    outcome = story("filter", "a.parquet", "-o", "out", *KEYS, "--max-source-age", "24h")
    assert outcome.code == 1
    assert "no import source has ever completed" in outcome.err
    assert not Path("out").exists()


def digests(folder: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def without_keys(story: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    for name in ("log.key", "run.key", "tag.key"):
        Path("consent-ledger", name).unlink()
    yield story


def test_they_need_no_private_key_and_write_nothing(without_keys: Callable[..., Any], tmp_path: Path) -> None:
    Path("consent-ledger/ledger.db-wal").unlink(missing_ok=True)
    Path("consent-ledger/ledger.db-shm").unlink(missing_ok=True)
    before = digests(tmp_path)
    for line in (["explain", "a.parquet", "--row", "0", *KEYS], ["events"], ["events", "--expiring", "9d"], ["status"]):
        assert without_keys(*line).code == 0
    assert digests(tmp_path) == before


def test_a_snapshot_explains_without_a_ledger(story: Callable[..., Any], tmp_path: Path) -> None:
    assert story("snapshot", "--purpose", "train-ai", "-o", "s.parquet").code == 0
    by = ("--snapshot", "s.parquet", "--subject", "user_id")
    at_hand = story("explain", "a.parquet", "--row", "1", *by)
    assert "event 'e1'" in at_hand.out
    assert story("withdraw", "ann").code == 0
    stale = story("explain", "a.parquet", "--row", "0", *by)
    assert "allowed." in stale.out
    assert "warning: the ledger has 1 later events" in stale.err
    Path("consent-ledger/trust").rename("trust")
    Path("consent-ledger").rename("away")
    alone = story("explain", "a.parquet", "--row", "1", *by, "--trust", "trust")
    assert alone.code == 0, alone.err
    assert "Subject 'eve' said no to everything on 2026-02-01 00:00:00 UTC (entry 5); it stands" in alone.out
    assert story("explain", "a.parquet", "--row", "1", *by).code == 2, "whose keys count is not known"


def test_progress_is_for_terminals_alone(story: Callable[..., Any]) -> None:
    assert not sys.stderr.isatty()
    assert story("status").err == ""


def test_the_library_gives_what_the_commands_print(story: Callable[..., Any]) -> None:
    with ledger.open() as book:
        assert book.page().document() == json.loads(story("events", "--format", "json").out)
        printed = json.loads(story("status", "--format", "json").out)
        told = book.status().document([])
        for document in (printed, told):
            del document["unanswered"][0]["oldest"]["age_seconds"]
        assert told["head"] == printed["head"]
        assert told["purposes"] == printed["purposes"]
