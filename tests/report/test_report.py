"""What a report says is what was signed, and what the ledger has; what does not hold is refused."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from stories import PURPOSE, SPOKEN, Page, Skeleton, Story, run, tell

import ledger
from ledger import times
from ledger.report import words
from ledger.report.facts import counted
from ledger.report.timeline import MAX_POINTS, Timeline
from tests.conftest import Outcome, yes


def test_its_numbers_are_those_of_the_statement(story: Story) -> None:
    said = story.predicate
    figures = {name: texts.copy() for name, texts in Page(story.write("numbers.html").read_text("utf-8")).figures.items()}
    assert all(len(texts) == 1 for texts in figures.values())
    shown = {name: texts.pop() for name, texts in figures.items()}
    assert [int(shown[f"run.0.{name}"]) for name in ("rows_in", "rows_kept")] == [said["rows_in"], said["rows_kept"]] == [74, 24]
    assert int(shown["run.0.rows_dropped"]) == 50
    dropped = {name.removeprefix("run.0.dropped."): int(text) for name, text in shown.items() if ".dropped." in name}
    assert dropped == said["rows_dropped"]
    assert {"subject_missing", "category_excluded", "withdrawn", "refused", "objected", "expired", "no_record"} == dropped.keys()
    rests = {name.removeprefix("run.0.rests_on."): int(text) for name, text in shown.items() if ".rests_on." in name}
    assert rests == said["rests_on"]
    for number, shard in enumerate(said["shards"]):
        of_shard = {name: shown[f"run.0.shard.{number}.{name}"] for name in ("name", "sha256", "rows_in", "rows_kept")}
        assert of_shard == {
            "name": shard["output"],
            "sha256": shard["output_sha256"],
            "rows_in": str(shard["rows_in"]),
            "rows_kept": str(shard["rows_kept"]),
        }
    assert shown["run.0.decided_at"] == words.moment(times.parse(said["decided_at"]))
    assert shown["run.0.share_kept"] == "32.4 %"
    for name in ("title", "description", "controller", "contact", "retention", "withdraw_url"):
        assert shown[f"purpose.0.{name}"] == PURPOSE[name]
    assert [shown[f"purpose.0.recipient.{n}"] for n in (0, 1)] == PURPOSE["recipients"]


def test_the_documents_inside_are_the_files_and_verify(story: Story, tmp_path: Path) -> None:
    page = Page(story.write("inside.html").read_text("utf-8"))
    assert page.evidence["statements"] == [story.statement.decode()]
    (tmp_path / "saved.intoto.jsonl").write_text(page.evidence["statements"][0])
    (tmp_path / "trust").write_text(story.trust)
    assert ledger.verify(tmp_path / "saved.intoto.jsonl", trust=tmp_path / "trust", signature_only=True).checked


def test_it_loads_nothing_and_runs_only_its_own_scripts(story: Story) -> None:
    source = story.write("alone.html").read_text("utf-8")
    page = Page(source)
    policy = (
        next(e for e in page.elements if e.attributes.get("http-equiv") == "Content-Security-Policy").attributes["content"] or ""
    )
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    allowed = set(re.findall(r"'sha256-([^']+)'", policy))
    inline = re.findall(r"<(?:script|style)>(.*?)</(?:script|style)>", source, flags=re.DOTALL)
    assert {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in inline} == allowed
    assert len(inline) == 6
    for element in page.elements:
        assert element.tag not in ("link", "img", "iframe", "object", "embed", "base")
        for name, value in element.attributes.items():
            assert not name.startswith("on") and name not in ("src", "srcset", "action", "style", "formaction")
            assert name != "href" or (value or "").startswith("#")


HOSTILE = (
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    "]]><!--<svg/onload=alert(3)>",
    "\"'><img src=x onerror=alert(4)>",
    "{{ 7 * 7 }}{% include 'x' %}",
    "a\u202etxt.exe\u2066\u200b\ufeff",
    "line\nbreak\ttab\r\x1b[31m\x7f",
    "x" * 4000,
    "&lt;b&gt;&#60;",
    "\u2028\u2029",
)


def test_nothing_that_people_wrote_becomes_a_part_of_the_page(tmp_path: Path) -> None:
    plain = Skeleton.of(Page(_of_texts(tmp_path / "plain", ["plain"] * len(HOSTILE))))
    source = _of_texts(tmp_path / "hostile", HOSTILE)
    page = Page(source)
    assert Skeleton.of(page) == plain
    shown = {name: texts.pop() for name, texts in page.figures.items()}
    assert shown["purpose.0.title"] == HOSTILE[0]
    assert shown["purpose.0.recipient.5"] == "a⟨U+202E⟩txt.exe⟨U+2066⟩⟨U+200B⟩⟨U+FEFF⟩"
    names = {text for name, text in shown.items() if name.endswith(".name")}
    assert {"0<script>alert(1)<script>.parquet", "4{{ 7 * 7 }}{% include 'x' %}.parquet"} < names
    assert "6line⟨U+000A⟩break⟨U+0009⟩tab⟨U+000D⟩⟨U+001B⟩[31m⟨U+007F⟩.parquet" in names
    for hidden in "\u202e\u2066\u200b\ufeff\x1b\x7f":
        assert hidden not in source
    assert "</script><script>" not in source.replace("</script>\n<script>", "")
    assert "alert(2)" in source  # it is told, as text


def _of_texts(folder: Path, texts: Any) -> str:
    told = tell(
        folder,
        names=[f"{number}{text[:200].replace('/', '')}.parquet" for number, text in enumerate(texts)],
        title=texts[0],
        description=texts[1],
        controller=texts[2],
        contact=texts[3],
        retention=texts[4],
        withdraw_url=texts[9],
        recipients=[*texts],
        categories=[text[:500] for text in (f"post{texts[0]}", f"photo{texts[1]}")],
    )
    with told.book:
        return ledger.report_on(told.book, told.train).html()


def test_what_it_adds_from_the_ledger(new_story: Story) -> None:
    report = ledger.report_on(new_story.book, new_story.train)
    acts = report.facts.acts["train-ai"]
    assert counted(acts) == {"given": 8, "refused": 1, "withdrawn": 1, "objected": 1}
    assert (acts.timeline.yes, acts.timeline.no) == (8, 3)
    assert acts.timeline.sums()[-1][1:] == (8, 3)
    assert acts.timeline.sums()[0][0] == SPOKEN
    assert [mark[1:] for mark in acts.frozen.values()] == [(8, 3)]
    assert report.facts.unanswered["train-ai"] is None
    assert "None waits" in report.html()
    new_story.book.withdraw("u3")
    later = ledger.report_on(new_story.book, new_story.train)
    waits = later.facts.unanswered["train-ai"]
    assert waits is not None
    assert waits.state == "withdrawn"
    assert [mark[1:] for mark in later.facts.acts["train-ai"].frozen.values()] == [(8, 3)]
    assert "longer than one month" not in later.html()


def test_a_no_that_has_waited_longer_than_a_month_is_told(new_story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    new_story.book.withdraw("u3")
    at = times.now() + timedelta(days=45, hours=3)
    monkeypatch.setattr(times, "now", lambda: at)
    text = ledger.report_on(new_story.book, new_story.train).html()
    assert "longer than one month" in text
    assert "<strong>45 days" in text


def test_several_runs_and_audits_have_a_section_each_and_one_head(new_story: Story) -> None:
    book, folder = new_story.book, new_story.folder
    book.withdraw("u4")
    run(book, folder, "second")
    text = ledger.report_on(book, new_story.train, folder / "second.intoto.jsonl").html()
    shown = {name: texts.pop() for name, texts in Page(text).figures.items()}
    assert shown["all.runs"] == "2"
    assert int(shown["all.rows_in"]) == 148
    assert int(shown["all.rows_kept"]) == int(shown["run.0.rows_kept"]) + int(shown["run.1.rows_kept"])
    assert int(shown["run.1.rows_kept"]) < int(shown["run.0.rows_kept"])
    assert "purpose.1.title" not in shown


def test_an_audit_says_only_what_it_knows(new_story: Story) -> None:
    outside = new_story.folder / "outside"
    outside.mkdir()
    (outside / "kept.parquet").write_bytes((new_story.train / "a.parquet").read_bytes())
    consent = ledger.ConsentFilter(new_story.book.snapshot("train-ai"), ledger.Columns(subject="user_id", category="kind"))
    consent.attest_shards(outside, key=new_story.book.run_key(), admit=new_story.book.admit)
    text = ledger.report_on(new_story.book, outside).html()
    shown = Page(text).figures
    assert "run.0.unmapped" not in shown
    assert not [name for name in shown if ".dropped." in name or name.endswith("shard.0.rows_in")]
    assert "does not say where they come from" in text


# Refused


def test_a_statement_that_does_not_hold_is_4_and_nothing_is_written(
    consent: Callable[..., Outcome], new_story: Story, tmp_path: Path
) -> None:
    path = tmp_path / "train.intoto.jsonl"
    good = path.read_bytes()
    first, second, _ = good.split(b"\n")
    envelope = json.loads(first)
    envelope["signatures"][0]["sig"] = base64.b64encode(bytes(64)).decode()
    forged = json.dumps(envelope, separators=(",", ":"), sort_keys=True).encode()
    (tmp_path / "keep.html").write_text("what was there")
    for bad in (first + b"\n", forged + b"\n" + second + b"\n", good[:-1], second + b"\n" + first + b"\n", b"", b"\n\n"):
        path.write_bytes(bad)
        for form in ("html", "jsonld"):
            for name in ("new.html", "keep.html"):
                outcome = consent("report", "train", "-o", name, "--format", form)
                assert outcome.code == 4, outcome.err
                assert "hint:" in outcome.err
    assert not (tmp_path / "new.html").exists()
    assert (tmp_path / "keep.html").read_text() == "what was there"


def test_another_ledgers_run_is_refused(new_story: Story, tmp_path: Path) -> None:
    other = tell(tmp_path / "other")
    with other.book:
        with pytest.raises(ledger.VerificationError, match="not signed by a key that is trusted"):
            ledger.report_on(new_story.book, other.train)
        with pytest.raises(ledger.UsageError, match="the ledger in use is"):
            ledger.report_on(new_story.book, other.train, trust=other.book.trust)
        with pytest.raises(ledger.UsageError, match="nothing to report"):
            ledger.report_on(new_story.book)


def test_a_ledger_that_was_rolled_back_before_the_run_is_refused(tmp_path: Path, consent: Callable[..., Outcome]) -> None:
    """With its anchor, so that nothing but the statement shows it; acts that came since do not hide it."""
    import shutil

    told = tell(tmp_path)
    with told.book:
        told.book.withdraw("u1")
    shutil.copytree(tmp_path / "consent-ledger", tmp_path / "old")
    with ledger.open(tmp_path / "consent-ledger") as book:
        later = run(book, tmp_path, "later")
    with ledger.open(tmp_path / "old") as book:
        for number in range(5):
            book.withdraw(f"v{number}")
    for place in ("old",):
        outcome = consent("--ledger", place, "report", later, "-o", "r.html")
        assert outcome.code == 4
        assert "does not have" in outcome.err
    assert not (tmp_path / "r.html").exists()


def test_the_command(consent: Callable[..., Outcome], new_story: Story, tmp_path: Path) -> None:
    outcome = consent("report", "train", "-o", "sub/report.html")
    assert (outcome.code, outcome.out) == (0, "")
    assert "1 verified statement" in outcome.err
    assert (tmp_path / "sub" / "report.html").read_text("utf-8").startswith("<!doctype html>")
    assert json.loads(consent("report", "train.intoto.jsonl", "--format", "jsonld", "-o", "-").out)["@type"] == "ledger:Report"
    assert consent("report", "train", "-o", "sub").code == 2
    assert consent("report", "nowhere", "-o", "r.html").code == 4
    assert consent("report", "-o", "r.html").code == 2
    (tmp_path / "mine").write_text(new_story.trust)
    assert consent("report", "train", "-o", "r.html", "--trust", "mine").code == 0
    (tmp_path / "mine").write_text("")
    assert consent("report", "train", "-o", "r.html", "--trust", "mine").code == 4


def test_a_report_spoils_nothing_that_it_reports_on(consent: Callable[..., Outcome], new_story: Story, tmp_path: Path) -> None:
    for output in ("train.intoto.jsonl", "train/report.html", "train/b/report.html", "train/../train.intoto.jsonl"):
        for named in ("train", "train/", "./train.intoto.jsonl") if output.startswith("train.") else ("train",):
            assert consent("report", named, "-o", output).code == 2, (named, output)
    assert consent("verify", "train", "--trust", "consent-ledger/trust").code == 0


def test_a_run_that_is_named_twice_is_not_counted_twice(
    consent: Callable[..., Outcome], new_story: Story, tmp_path: Path
) -> None:
    (tmp_path / "copy.intoto.jsonl").write_bytes(new_story.statement)
    for again in ("train", "train.intoto.jsonl", "copy.intoto.jsonl"):
        outcome = consent("report", "train", again, "-o", "r.html")
        assert outcome.code == 2
        assert "count twice" in outcome.err
    assert not (tmp_path / "r.html").exists()


def test_a_folder_whose_name_is_no_text(consent: Callable[..., Outcome], new_story: Story, tmp_path: Path) -> None:
    import os

    name = os.fsdecode(b"tr\xffain")
    new_story.train.rename(tmp_path / name)
    (tmp_path / "train.intoto.jsonl").rename(tmp_path / f"{name}.intoto.jsonl")
    for form in ("html", "jsonld"):
        assert consent("report", name, "-o", "r", "--format", form).code == 0
        assert "tr⟨U+DCFF⟩ain" in (tmp_path / "r").read_text("utf-8")


def test_without_jinja_it_says_what_to_install(
    consent: Callable[..., Outcome], new_story: Story, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import sys

    monkeypatch.delitem(sys.modules, "ledger.report.page", raising=False)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delattr("ledger.report.page", raising=False)
    outcome = consent("report", "train", "-o", "r.html")
    assert outcome.code == 1
    assert "consent-ledger[web]" in outcome.err
    assert consent("report", "train", "-o", "r.jsonld", "--format", "jsonld").code == 0


# Forms


def test_a_timeline_is_bounded_and_loses_nothing() -> None:
    line = Timeline()
    for number in range(5000):
        line.add(SPOKEN + timedelta(hours=(number * 7919) % 40000), number % 3 > 0)
    assert len(line.points) <= MAX_POINTS
    assert line.sums()[-1][1:] == (line.yes, line.no) == (3333, 1667)
    assert [at for at, _, _ in line.sums()] == sorted(at for at, _, _ in line.sums())
    far = Timeline()
    for year in (1, 1970, 9999):
        far.add(datetime(year, 1, 1, tzinfo=UTC), True)
    for number in range(2 * MAX_POINTS):
        far.add(SPOKEN + timedelta(microseconds=number), False)
    assert far.sums()[-1][1:] == (3, 2 * MAX_POINTS)


def test_numbers_are_never_more_than_they_are() -> None:
    assert [words.share(*pair) for pair in ((0, 0), (0, 9), (2, 3), (999_999, 1_000_000), (5, 5))] == [
        "none",
        "0.0 %",
        "66.6 %",
        "99.9 %",
        "100.0 %",
    ]
    assert [words.span(seconds) for seconds in (0, 1, 60, 3661, 86400, 90061)] == [
        "less than a second",
        "1 second",
        "1 minute",
        "1 hour 1 minute",
        "1 day",
        "1 day 1 hour",
    ]


def test_every_reason_basis_and_state_has_its_words() -> None:
    from ledger.consent import REASONS, STATES
    from ledger.statements.decided import BASES

    assert (tuple(words.REASONS), set(words.BASES), tuple(words.STATES)) == (REASONS, set(BASES), STATES)


def test_a_folders_name_is_a_word_of_the_shell() -> None:
    import subprocess

    for name in ("train", "a b", "it's", "$(x)", "a\nb", "\u202eevil", "-x"):
        out = subprocess.run(["/bin/bash", "-c", f"printf %s {words.quoted(name)}"], capture_output=True, check=True).stdout
        assert out.decode() == ("./-x" if name == "-x" else name)
        assert words.quoted(name).isprintable()


def test_real_shards_report_as_an_independent_program_counted(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = json.loads((shared / "data" / "expected.json").read_text(encoding="utf-8"))
    real, began = times.now, times.now()
    monkeypatch.setattr(times, "now", lambda: times.read(expected["moment"]) + (real() - began))
    with ledger.create(tmp_path / "consent-ledger") as book:
        book.declare_purpose("train-ai", title="Train", description="D", categories=["address", "inaugural", "scene"])
        book.declare_purpose("search", title="Search", description="D")
        book.import_file(shared / "data" / "consents.csv")
        columns = ledger.Columns(subject="user_id", content="content_id", category="category", created="created_at")
        consent = ledger.ConsentFilter(book.snapshot("train-ai"), columns)
        consent.filter_shards([shared / "data" / "speeches"], tmp_path / "speeches", key=book.run_key(), admit=book.admit)
        page = Page(ledger.report_on(book, tmp_path / "speeches").html())
    counts: Counter[str] = Counter()
    for shard, numbers in expected["shards"].items():
        if shard.startswith("speeches/"):
            counts.update(numbers)
    number = {
        name: int(texts.pop().replace(",", "")) for name, texts in page.figures.items() if re.search(r"rows_|dropped\.", name)
    }
    assert number["run.0.rows_kept"] == counts.pop("allowed")
    assert {name.removeprefix("run.0.dropped."): n for name, n in number.items() if ".dropped." in name} == counts
    assert number["run.0.rows_in"] == 7787


def test_a_report_of_a_yes_by_nobody_is_empty_and_says_so(tmp_path: Path) -> None:
    with ledger.create(tmp_path / "consent-ledger") as book:
        book.declare_purpose("train-ai", title="T", description="D")
        book.record(yes("x", purposes=["train-ai"], state="given"))
        told = Story(tmp_path, book, tmp_path / "train")
        import pyarrow as pa
        import pyarrow.parquet as pq

        (tmp_path / "raw").mkdir()
        pq.write_table(pa.table({"user_id": ["y"], "kind": ["post"]}), tmp_path / "raw" / "a.parquet")
        run(book, tmp_path, "train")
        text = told.write("r.html").read_text("utf-8")
    assert "No row was kept" in text
    assert "0.0 %" in text
