"""`consent erase`, as it is used: what it asks, tells, and ends with."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ledger.cli.options import shown

import ledger
from ledger import times
from ledger.log.entry import subject_tag
from ledger.store import journal
from ledger.store.journal import Order
from tests.conftest import Outcome, yes


def _ledger(tmp_path: Path) -> Path:
    with ledger.create(tmp_path / "consent-ledger") as book:
        book.declare_purpose("train-ai", title="T", description="D")
        book.record_all([yes("u1"), yes("u1", content_id="c"), yes("u2")])
    return tmp_path / "consent-ledger"


def test_it_says_what_it_does_did_and_cannot_reach(consent: Callable[..., Outcome], tmp_path: Path) -> None:
    _ledger(tmp_path)
    assert consent("snapshot", "--purpose", "train-ai", "-o", "out.parquet").code == 0
    done = consent("erase", "u1", "--yes", "--basis", "Article 17")
    assert done.code == 0 and "2 events of 'u1' will be erased" in done.err and "erased: 2 events, as entry" in done.err
    assert "a snapshot of train-ai@1" in done.out and "receipts" in done.out
    assert consent("show", "u1").code == 0
    again = consent("erase", "u1", "--format", "json")
    told = json.loads(again.out)["erased"][0]
    assert again.code == 0 and told["already"] and told["scrubbed"] and told["events"] == 2
    assert json.loads(consent("fsck", "--format", "json").out)["erased"] == 2
    late = consent("record", "given", "u1", "--purpose", "train-ai", "--occurred-at", "2026-01-01T00:00:00Z")
    assert late.code == 2 and "was erased at" in late.err and "hint: a yes that the person gives after" in late.err
    assert consent("withdraw", "u1").code == 0


def test_without_a_terminal_or_yes_nothing_is_erased(consent: Callable[..., Outcome], tmp_path: Path) -> None:
    _ledger(tmp_path)
    asked = consent("erase", "u1")
    assert asked.code == 2 and "nothing was erased" in asked.err and "--yes" in asked.err
    for arguments in ([], ["u1", "--reapply", "consent-ledger/ledger.toml"]):
        assert consent("erase", *arguments, "--yes").code == 2
    unknown = consent("erase", "U1", "--yes")
    assert unknown.code == 2 and "hint: it knows 'u1'" in unknown.err
    assert not (tmp_path / "consent-ledger" / "erasures").exists()


def test_at_a_terminal_it_asks(tmp_path: Path) -> None:
    folder = _ledger(tmp_path)
    for answer, code, erased in ((b"n\n", 130, 0), (b"y\n", 0, 2)):
        parent, child = pty.openpty()
        command = [sys.executable, "-m", "ledger.cli", "--ledger", str(folder), "erase", "u1"]
        with subprocess.Popen(command, stdin=child, stdout=subprocess.DEVNULL, stderr=child) as process:
            os.write(parent, answer)
            assert process.wait(60) == code
        os.close(child)
        os.close(parent)
        assert ledger.fsck(folder).erased == erased


def test_a_backup_is_refused_and_mended(consent: Callable[..., Outcome], tmp_path: Path) -> None:
    folder = _ledger(tmp_path)
    shutil.copy(folder / "ledger.db", tmp_path / "backup.db")
    assert consent("erase", "u1", "--yes").code == 0
    shutil.copy(folder / "ledger.db", tmp_path / "newest.db")
    shutil.copy(tmp_path / "backup.db", folder / "ledger.db")
    assert consent("show", "u1").code == 4
    assert consent("erase", "u1", "--yes").code == 4
    mended = consent("erase", "--reapply", "consent-ledger/erasures", "--yes")
    assert mended.code == 0 and "erased: 2 events" in mended.err
    assert consent("fsck").code == 0
    again = consent("erase", "--reapply", "consent-ledger/erasures", "--yes", "--format", "json")
    assert (again.code, json.loads(again.out)) == (0, {"erased": []})
    assert consent("withdraw", "u2").code == 0
    shutil.copy(tmp_path / "backup.db", folder / "ledger.db")
    lost = consent("erase", "--reapply", "consent-ledger/erasures", "--yes")
    assert lost.code == 4 and "are missing" in lost.err and "newer backup" in lost.err


def test_hostile_ids_are_shown_escaped(consent: Callable[..., Outcome], tmp_path: Path) -> None:
    folder = _ledger(tmp_path)
    subject = "a\x1b[2Jb\n%s'\""
    with ledger.open(folder) as book:
        book.record(yes(subject))
    done = consent("erase", subject, "--yes")
    assert done.code == 0 and "\x1b" not in done.err and shown(repr(subject)) in done.err


def test_what_only_reads_leaves_an_order_to_those_who_write(consent: Callable[..., Outcome], tmp_path: Path) -> None:
    folder = _ledger(tmp_path)
    (tmp_path / "acts.csv").write_text("event_id,state,subject_id,purposes\nw1,withdrawn,u2,*\n", encoding="utf-8")
    assert consent("import", "acts.csv").code == 0
    with ledger.open(folder) as book:
        tag = subject_tag(book.folder.tag_key(), "u1")
    journal.ordered(folder / "erasures", Order("0" * 32, tag, "why", "user:ann", times.now()))
    for line in (
        ("show", "u1"),
        ("verify", "--import", "acts.csv", "--ledger", "consent-ledger"),
        ("export", "u1", "-o", "u1.zip"),
    ):
        assert consent(*line).code == 0, line
        assert [order.acts for order in journal.unfinished(folder / "erasures")] == [None], line
    assert consent("withdraw", "u2").code == 0
    with ledger.open(folder) as book:
        assert book.events_of(["u1"]) == []


def test_a_snapshot_that_an_erasure_takes_away_meanwhile_decides_nothing(
    consent: Callable[..., Outcome], shard: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answers are read while the ledger is opened, and that goes on with what was ordered."""
    folder = _ledger(tmp_path)
    shard("raw/a.parquet", user_id=["u1", "u2"], post_id=["p", "q"])
    with ledger.open(folder) as book:
        snapshot = book.snapshot("train-ai").path
        tag = subject_tag(book.folder.tag_key(), "u1")
    assert snapshot is not None
    journal.ordered(folder / "erasures", Order("0" * 32, tag, "why", "user:ann", times.now()))
    read, (load, opened) = threading.Event(), (ledger.load_snapshot, ledger.open)

    def loading(*arguments: Any, **named: Any) -> ledger.Snapshot:
        try:
            return load(*arguments, **named)
        finally:
            read.set()

    def opening(*arguments: Any, **named: Any) -> ledger.Ledger:
        assert read.wait(60)
        return opened(*arguments, **named)

    monkeypatch.setattr(ledger, "load_snapshot", loading)
    monkeypatch.setattr(ledger, "open", opening)
    done = consent("filter", "raw", "-o", "out", "--snapshot", snapshot, "--subject", "user_id", "--content", "post_id")
    assert done.code == 1 and "cannot read" in done.err and not (tmp_path / "out").exists()
    assert not snapshot.exists() and journal.unfinished(folder / "erasures") == []
