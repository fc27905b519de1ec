"""`consent export`: what is in the ZIP, and that verify.py refuses whatever was changed in it."""

from __future__ import annotations

import copy
import io
import json
import random
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from committed import Committed
from jsonschema import Draft202012Validator
from ledger.schemas import load
from standalone import SOURCE, Naive, Told, refused, run, verdict, verify

import ledger
from ledger import times
from ledger.errors import UsageError, VerificationError
from ledger.exporting import making
from ledger.log import canonical, cosignature, dsse, note
from ledger.log.cosignature import Witness
from ledger.log.entry import subject_tag
from ledger.log.keys import PrivateKey
from ledger.statements.statement import run_statement
from ledger.statements.verify import open_statement
from tests.conftest import yes
from tests.report.stories import SPOKEN, Page, Skeleton, Story, tell

HOSTILE = [
    "<script>alert(1)</script>", "../../etc/passwd", "a\nb\r\x1b[2J\u202e\u2028x", "'\"&<!--", "{{ found }}{% raw %}", "C:\\x",
    ".", "é" * 256,
]  # fmt: skip


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Story, Committed]]:
    story = tell(tmp_path_factory.mktemp("committed"))
    story.book.record(yes("u1", content_id="photo 1", expires_at=datetime(2031, 1, 1, tzinfo=UTC), reason="why not"))
    story.book.withdraw("u1", category="photo")
    yield story, Committed(story)
    story.book.close()


Export = Callable[..., Path]


@pytest.fixture
def export(committed: tuple[Story, Committed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Export:
    """export(subject, *runs) -> the folder that it was unpacked into, with `trust` beside it."""
    story, memberships = committed
    fake = SimpleNamespace(in_run=memberships.in_run, in_snapshot=memberships.in_snapshot)
    monkeypatch.setitem(sys.modules, "ledger.membership", fake)
    (tmp_path / "trust").write_text(story.trust)

    def make(subject: str, *runs: Path) -> Path:
        ledger.export_subject(story.book, subject, tmp_path / "x.zip", runs=runs or (story.train,))
        target = tmp_path / "unpacked"
        with zipfile.ZipFile(tmp_path / "x.zip") as archive:
            archive.extractall(target)
        return target

    return make


def said_by(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "export.json").read_text("utf-8"))
    return found


def checked(folder: Path) -> Told:
    told = verdict(folder.parent / "trust", folder)
    assert "cannot be understood" not in told.err
    return told


# What it holds


def test_all_of_one_person_is_in_it(export: Export, committed: tuple[Story, Committed]) -> None:
    story, _ = committed
    before = story.book.checkpoint()
    folder = export("u1")
    assert story.book.checkpoint() == before
    found = said_by(folder)
    Draft202012Validator(load("export")).validate(found)
    assert (folder / "export.json").read_bytes() == canonical.encode(found) + b"\n"
    shown = story.book.show("u1")
    assert [(e["event"]["event_id"], e["position"]) for e in found["events"]] == [
        (e["event_id"], e["position"]) for e in shown["events"]
    ]
    for entry in found["events"]:
        assert (folder / entry["receipt"]).read_bytes() == story.book.receipt(entry["event"]["event_id"])
    assert [(d["purpose"], d.get("category"), d.get("content_id"), d["reason"]) for d in found["decisions"]] == [
        (d["purpose"], d["category"], d["content_id"], d["reason"]) for d in shown["decisions"]
    ]
    assert [notice["text"] for notice in found["notices"]] == ["May we?"]
    assert [e["act"]["act"] for e in found["acts"]] == ["purpose_declared", "notice_declared"]
    assert found["checkpoint"] == before
    assert (folder / "runs/1/statement.intoto.jsonl").read_bytes() == story.train.with_name("train.intoto.jsonl").read_bytes()
    assert (folder / "verify.py").read_bytes() == SOURCE.read_bytes()
    assert not [path for path in folder.rglob("*") if "trust" in path.name]
    assert {path.relative_to(folder).parts[0] for path in folder.rglob("*")} == {
        *("export.json", "index.html", "README.txt", "verify.py", "receipts", "acts", "notices", "runs", "consistency")
    }


def test_the_file_in_it_checks_it_on_a_bare_python(export: Export) -> None:
    folder = export("u1")
    told = run("--trust", folder.parent / "trust", file=folder / "verify.py")
    assert (told.code, told.err) == (0, ""), told
    assert "given by 'u1' for 'train-ai@1' about 'photo 1'" in told.out
    assert "are of 'u1'" in told.out and "holds of 'u1': about everything: no no, a yes of 2026-03-02" in told.out
    assert "are of one history" in told.out and "NOT compared" not in told.out
    zipped = run("--trust", folder.parent / "trust", folder.parent / "x.zip")
    assert zipped.code == 0
    assert [line.split(": ", 1)[-1] for line in zipped.out.splitlines()] == [
        line.split(": ", 1)[-1] for line in told.out.splitlines()
    ]


@pytest.mark.parametrize(
    ("subject", "in_run", "in_snapshot", "words"),
    [
        ("u1", "8 are of 'u1'", "a yes of", ["rows are of this person", "Of everything of the kind “post” it decided: Yes."]),
        ("u0", "none is of 'u0'", "a no (withdrawn)", ["nothing is of this person", "it decided: No. The person had said yes"]),
        ("u7", "none is of 'u7'", "until 2026-03-10", ["it decided: No. The yes had an end, and it had passed."]),
        ("u10", "none is of 'u10'", "holds nothing of 'u10'", ["It knew nothing of this person then. Silence is no."]),
    ],
)  # fmt: skip
def test_whether_anything_of_theirs_is_in_a_release(
    export: Export, subject: str, in_run: str, in_snapshot: str, words: list[str]
) -> None:
    folder = export(subject)
    told, page = checked(folder), (folder / "index.html").read_text("utf-8")
    assert told.code == 0, told.err
    kept = in_run.partition(" ")[0]
    assert (kept.isdigit() and "are of 'u1'" in told.out) or in_run in told.out
    assert in_snapshot in told.out
    (ran,) = said_by(folder)["runs"]
    for sentence in words:
        assert any(sentence in each for each in ran["sentences"]), ran["sentences"]
        assert sentence in page
    assert "ATTENTION" not in told.out


def test_a_person_without_a_record_is_told_so(export: Export) -> None:
    folder = export("nobody at all")
    told, found = checked(folder), said_by(folder)
    assert told.code == 0
    assert "the export has no act of theirs" in told.out
    assert "none is of 'nobody at all'" in told.out and "holds nothing of 'nobody at all'" in told.out
    assert "events" not in found and {d["reason"] for d in found["decisions"]} == {"no_record"}
    assert "no yes and no no of this person" in (folder / "index.html").read_text("utf-8")


def test_rows_of_somebody_of_whom_nothing_was_known_stand_out(
    new_story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lying = Committed(new_story, {"u10": ({"rows": 3})})
    monkeypatch.setitem(sys.modules, "ledger.membership", SimpleNamespace(in_run=lying.in_run, in_snapshot=lying.in_snapshot))
    (tmp_path / "trust").write_text(new_story.trust)
    ledger.export_subject(new_story.book, "u10", tmp_path / "x.zip", runs=[new_story.train])
    told = verdict(tmp_path / "trust", tmp_path / "x.zip")
    assert (told.code, "ATTENTION" in told.out) == (0, True)
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert "Ask the operator why" in archive.read("index.html").decode()


@pytest.fixture
def new_story(tmp_path: Path) -> Iterator[Story]:
    told = tell(tmp_path)
    yield told
    told.book.close()


def test_a_run_that_commits_to_nothing_proves_nothing_of_a_person(new_story: Story, tmp_path: Path) -> None:
    """Statements of before it was added; the run's place in the log is proven all the same."""
    data = new_story.statement
    record = replace(open_statement(data, new_story.book.trust).record, subjects=None)
    receipt = json.loads(record.snapshot_receipt)
    if "subjects_root" in receipt["act"]:
        fields = {
            k: v
            for k, v in receipt["act"].items()
            if k not in ("act", "recorded_at", "recorded_by", "subjects_root", "subjects_seed")
        }
        line = new_story.book._logged(lambda tx: tx.act("snapshot_compiled", "user:ann", **fields)).removesuffix(b"\n")
        record = replace(record, snapshot_receipt=line.decode())
    line = dsse.seal(run_statement(record), new_story.book.run_key())
    (tmp_path / "old.intoto.jsonl").write_bytes(line + b"\n" + new_story.book.admit(line))
    (tmp_path / "trust").write_text(new_story.trust)
    ledger.export_subject(new_story.book, "u1", tmp_path / "x.zip", runs=[tmp_path / "old.intoto.jsonl"])
    told = verdict(tmp_path / "trust", tmp_path / "x.zip")
    assert (told.code, told.out.count("NOT answered")) == (0, 2)
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert "is not proven here" in archive.read("index.html").decode()


def test_what_the_program_itself_commits_to(new_story: Story, tmp_path: Path) -> None:
    """End to end, without anything made by hand."""
    (tmp_path / "trust").write_text(new_story.trust)
    kept = [s for path in new_story.train.rglob("*.parquet") for s in pq.read_table(path)["user_id"].to_pylist()]
    for subject in ("u1", "u0", "u10", "nobody"):
        ledger.export_subject(new_story.book, subject, tmp_path / "x.zip", runs=[new_story.train])
        told = verdict(tmp_path / "trust", tmp_path / "x.zip")
        assert (told.code, "NOT answered" in told.out) == (0, False), told
        number = kept.count(subject)
        assert (f"{number} are of '{subject}'" if number else f"none is of '{subject}'") in told.out


def test_where_witnesses_are_demanded_the_last_checkpoint_shows_that_all_are_part_of_it(new_story: Story, tmp_path: Path) -> None:
    key, book = PrivateKey.generate(), new_story.book
    (tmp_path / "trust").write_text(
        f"{new_story.trust}\nwitness w {Witness('w.example', key.public).vkey}\nquorum w\n", encoding="utf-8"
    )

    def export() -> Told:
        ledger.export_subject(book, "u1", tmp_path / "x.zip", runs=[new_story.train])
        return verdict(tmp_path / "trust", tmp_path / "x.zip")

    assert (export().code, "not cosigned by the witnesses" in export().err) == (4, True)
    head = book.checkpoint()
    signed = head + cosignature.cosign(note.parse(head)[0], "w.example", key, 1767139200)
    (book.folder.path / "cosigned").write_text(signed, "utf-8")
    told = export()
    assert (told.code, told.err) == (0, "") and "are of one history" in told.out
    receipt = tmp_path / "r"
    receipt.write_bytes(book.receipt(next(iter(book.events()))[1].event_id))
    assert verdict(tmp_path / "trust", receipt).code == 4, "alone, nothing shows that it is part of what was cosigned"
    assert verdict(tmp_path / "trust", receipt, tmp_path / "x.zip").code == 0
    book.withdraw("u1")
    told = export()
    assert (told.code, "NOT" in told.err) == (4, True), "the withdrawal is in no checkpoint that the witness has seen"


def test_a_proof_that_was_left_out_is_not_taken_for_one_that_cannot_be(export: Export) -> None:
    folder = export("u1")
    said = said_by(folder)
    for name in ("in_run", "in_snapshot"):
        (folder / said["runs"][0].pop(name)).unlink()
    (folder / "export.json").write_bytes(canonical.encode(said) + b"\n")
    told = checked(folder)
    assert told.code == 0
    assert told.out.count("the log commits to a set of subjects, and the proof was left out") == 2
    assert "no set was committed to" not in told.out


def test_what_was_erased_is_named(new_story: Story, tmp_path: Path) -> None:
    tag = subject_tag(new_story.book.folder.tag_key(), "gone").hex()
    fields = {"order": "o", "tag": tag, "positions": [4, 5], "event_tags_sha256": "0" * 64, "basis": "art. 17"}
    new_story.book.append(lambda tx: tx.act("subject_erased", "user:ann", **fields))
    (tmp_path / "trust").write_text(new_story.trust)
    for subject, named in (("gone", True), ("u1", False)):
        found = ledger.export_subject(new_story.book, subject, tmp_path / "x.zip")
        told = verdict(tmp_path / "trust", tmp_path / "x.zip")
        assert (told.code, bool(found.erasures), "2 acts were erased" in told.out) == (0, named, named)
        with zipfile.ZipFile(tmp_path / "x.zip") as archive:
            assert ("art. 17" in archive.read("index.html").decode()) is named


def test_an_ended_run_key_and_a_notice_that_is_no_text(new_story: Story, tmp_path: Path) -> None:
    new_story.book.add_notice(b"%PDF\xff\xfe", notice_id="pdf", language="en")
    new_story.book.record(yes("u1", notice="pdf"))
    new_story.book.keys.end("run")
    (tmp_path / "trust").write_text(new_story.trust.replace("# ended: ", ""))
    found = ledger.export_subject(new_story.book, "u1", tmp_path / "x.zip", runs=[new_story.train])
    assert verdict(tmp_path / "trust", tmp_path / "x.zip").code == 0
    assert b"%PDF\xff\xfe" in found.notices.values()


# Ids that attack


def test_ids_are_data(tmp_path: Path, committed: tuple[Story, Committed], export: Export) -> None:
    benign = Skeleton.of(Page((export("nobody") / "index.html").read_text("utf-8")))
    for hostile in HOSTILE:
        folder = export(hostile)
        names = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
        assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyzREADM0123456789/.-") for name in names)
        page = (folder / "index.html").read_text("utf-8")
        assert Skeleton.of(Page(page)) == benign
        assert said_by(folder)["subject_id"] == hostile
        told = checked(folder)
        assert told.code == 0
        assert all(" " <= c <= "~" or c == "\n" for c in told.out), "nothing of others steers the terminal"
        assert "\x1b" not in (folder / "README.txt").read_text("utf-8")
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()


def test_hostile_texts_of_acts_and_purposes(tmp_path: Path) -> None:
    evil = "</style><script>x</script>\u202e\n<a href=javascript:x>"
    pages = []
    for text, url in (("plain", "plain"), (evil, "javascript:alert(1)//https://x")):
        folder = tmp_path / str(len(pages))
        with ledger.create(folder) as book:
            book.declare_purpose("p", title=text, description=text, controller=text, contact=text, recipients=[text],
                                 retention=text, withdraw_url=url)  # fmt: skip
            book.add_notice(text.encode(), notice_id="n", language="en")
            book.record(yes("u", purposes=["p"], channel=text, reason=text, jurisdiction=text, notice="n",
                            expires_at=datetime(2031, 1, 1, tzinfo=UTC), content_since=datetime(2020, 1, 1, tzinfo=UTC),
                            content_id=text))  # fmt: skip
            ledger.export_subject(book, "u", tmp_path / "x.zip")
            (tmp_path / "trust").write_text(book.trust_text())
        assert verdict(tmp_path / "trust", tmp_path / "x.zip").code == 0
        with zipfile.ZipFile(tmp_path / "x.zip") as archive:
            pages.append(archive.read("index.html").decode())
    assert Skeleton.of(Page(pages[0])) == Skeleton.of(Page(pages[1]))
    assert "href" not in pages[1].replace("a[href^=", "").replace("attr(href)", "").replace("&lt;a href=", "")


# The file


def test_the_same_ledger_gives_the_same_bytes(export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(times, "now", lambda: datetime(2031, 1, 1, tzinfo=UTC))
    export("u1")
    first = (tmp_path / "x.zip").read_bytes()
    export("u1")
    assert (tmp_path / "x.zip").read_bytes() == first
    assert (tmp_path / "x.zip").stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        names = archive.namelist()
        assert names == sorted(names)
        assert {entry.external_attr >> 16 for entry in archive.infolist()} == {0o100600}


def test_it_is_written_whole_or_not_at_all(export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export("u1")
    before, there = (tmp_path / "x.zip").read_bytes(), sorted(tmp_path.iterdir())

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", fail)
    with pytest.raises(ledger.ConsentLedgerError, match="No space left"):
        export("u0")
    assert (tmp_path / "x.zip").read_bytes() == before
    assert sorted(tmp_path.iterdir()) == there


def test_what_cannot_be_exported(committed: tuple[Story, Committed], tmp_path: Path) -> None:
    story, _ = committed
    with pytest.raises(UsageError, match="is a folder"):
        ledger.export_subject(story.book, "u1", tmp_path)
    with pytest.raises(ledger.InvalidEvent, match="subject is empty"):
        ledger.export_subject(story.book, "", tmp_path / "x.zip")
    with pytest.raises(VerificationError):
        ledger.export_subject(story.book, "u1", tmp_path / "x.zip", runs=[tmp_path / "no"])
    other = tell(tmp_path / "other")
    with pytest.raises(VerificationError, match="not signed by a key that is trusted"):
        ledger.export_subject(story.book, "u1", tmp_path / "x.zip", runs=[other.train])
    other.book.close()
    assert not (tmp_path / "x.zip").exists()


def test_the_command(consent: Callable[..., Any], tmp_path: Path) -> None:
    assert consent("export", "u1", "-o", "x.zip").code == 2
    assert consent("init").code == 0
    assert consent("export", "u1").code == 2
    told = consent("export", "u1", "-o", "new/x.zip")
    assert (told.code, told.out, "0 acts and 0 releases" in told.err) == (0, "", True)
    assert verdict(tmp_path / "consent-ledger" / "trust", tmp_path / "new" / "x.zip").code == 0
    assert consent("export", "u1", "-o", ".").code == 2
    assert consent("export", "u1", "-o", "x.zip", "--run", "absent").code == 4


# What was changed in it


UNSIGNED = {"made_at", "sentence", "sentences", "reason", "decisions", "category", "content_id", "consistency", "runs"}
"""Fields of export.json that nothing signs, which verify.py says, or lists that may be shorter. `reason`: of a decision."""


def test_whatever_was_changed_is_refused(export: Export) -> None:
    folder = export("u1")
    covered = [path for path in folder.rglob("*") if path.is_file() and path.name not in verify.UNCHECKED]
    assert len(covered) > 10
    dice = random.Random(11)
    for path in covered:
        data = path.read_bytes()
        for _ in range(4):
            changed = bytearray(data)
            at = dice.randrange(len(data))
            how = dice.randrange(3)
            if how == 0:
                changed[at] ^= 1 << dice.randrange(8)
            elif how == 1:
                del changed[at:]
            else:
                changed.insert(at, dice.choice(b" \n\0A"))
            path.write_bytes(changed)
            assert checked(folder).code == 4, (path, bytes(changed))
        path.unlink()
        assert checked(folder).code == 4, path
        path.write_bytes(data)
    assert checked(folder).code == 0


def test_no_field_of_its_document_can_be_changed_unless_nothing_signs_it(export: Export) -> None:
    folder = export("u2")
    good = said_by(folder)
    path, noticed = folder / "export.json", 0

    def spots(node: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            yield (*way, key)
            yield from spots(node[key], (*way, key))

    for way in list(spots(good)):
        for change in ("other", "gone", "more"):
            found = copy.deepcopy(good)
            node = found
            for key in way[:-1]:
                node = node[key]
            value = node[way[-1]]
            if change == "gone":
                del node[way[-1]]
            elif change == "other":
                node[way[-1]] = value + 1 if isinstance(value, int) else f"{value}x" if isinstance(value, str) else []
            elif isinstance(value, dict):
                value["surplus"] = "x"
            else:
                continue
            path.write_bytes(canonical.encode(found) + b"\n")
            told = checked(folder)
            if told.code == 0:
                assert set(map(str, way)) & (UNSIGNED | {"events", "text", "acts"}), (way, change)
                assert change == "gone" or set(map(str, way)) & UNSIGNED, (way, change)
            noticed += told.code == 4
    assert noticed > 60


def test_what_it_leaves_out_it_does_not_notice_and_says_so(export: Export) -> None:
    folder = export("u1")
    found = said_by(folder)
    del found["events"][-1]
    (folder / "export.json").write_bytes(canonical.encode(found) + b"\n")
    told = checked(folder)
    assert (told.code, "NOT checked: that these are all acts of theirs" in told.out) == (0, True)
    assert "NOT looked at: 1 files that are no part of it" in told.out


def test_pieces_of_another_persons_export(export: Export, tmp_path: Path) -> None:
    folder = export("u1")
    theirs = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    other = export("u2")
    for name, data in theirs.items():
        if name.parts[0] in ("receipts",) or name.name.startswith("in-"):
            before = (other / name).read_bytes() if (other / name).exists() else None
            (other / name).write_bytes(data)
            if before is not None and before != data:
                assert checked(other).code == 4, name
                (other / name).write_bytes(before)
    found = said_by(other)
    found["events"] = json.loads(theirs[Path("export.json")])["events"]
    (other / "export.json").write_bytes(canonical.encode(found) + b"\n")
    assert "another person" in checked(other).err or checked(other).code == 4


def test_keys_that_are_not_the_ones(export: Export, tmp_path: Path) -> None:
    folder = export("u1")
    good = (tmp_path / "trust").read_text()
    stranger = tell(tmp_path / "other")
    witness = "witness w w.example+0fdb5b08+BAAjjch9GyYz0sJsJx7ALhbdAtz2ov0unbzSl1vMp94O"
    for text in (stranger.trust, "", good.split("\n")[0] + " until 3\n" + good.split("\n")[1], good + witness, good + "x\n"):
        (tmp_path / "trust").write_text(text)
        assert checked(folder).code == 4
    stranger.book.close()


def test_zips_that_are_none_or_bombs(export: Export, tmp_path: Path) -> None:
    export("u1")
    good, bad, trust = (tmp_path / "x.zip").read_bytes(), tmp_path / "bad.zip", tmp_path / "trust"
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}

    def packed(extra: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, twice: str | None = None) -> bytes:
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w", method) as archive:
            for name, value in {**content, **extra}.items():
                archive.writestr(name, value)
            if twice is not None:
                with pytest.warns(UserWarning, match="Duplicate name"):
                    archive.writestr(twice, b"x")
        return data.getvalue()

    bomb = b" " * (65 << 20)
    for name, data in {
        "empty": b"", "text": b"PK", "cut": good[:-30], "headless": good[2500:], "tail": good + b"x" * 30,
        "bomb": packed({"export.json": bomb}), "receipt bomb": packed({"receipts/0001.receipt": bomb}),
        "twice": packed({}, twice="export.json"), "bzip2": packed({}, zipfile.ZIP_BZIP2), "lzma": packed({}, zipfile.ZIP_LZMA),
        "zip64": good[:-22] + b"PK\x06\x06" + bytes(52) + b"PK\x06\x07" + bytes(16) + good[-22:],
        "long list": good[:-10] + (1 << 30).to_bytes(4, "little") + good[-6:],
        "encrypted": good.replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"),
        "nothing": packed({"export.json": b"{}\n"}), "not json": packed({"export.json": b"[" * 100_000 + b"\n"}),
    }.items():  # fmt: skip
        bad.write_bytes(data)
        told = verdict(trust, bad)
        assert (told.code, "cannot be understood" in told.err) == (4, False), (name, told)
    bad.write_bytes(packed({}))
    assert verdict(trust, bad).code == 0
    dice = random.Random(5)
    outcomes = set()
    for _ in range(40):
        changed = bytearray(good)
        for _ in range(dice.choice([1, 1, 3])):
            changed[dice.randrange(len(good))] = dice.randrange(256)
        bad.write_bytes(changed)
        told = verdict(trust, bad)
        outcomes.add(told.code)
        assert "cannot be understood" not in told.err, told.err
    assert outcomes == {0, 4}  # 0: a byte of what is not covered, the page or a time


def test_memberships_that_are_nearly_right(committed: tuple[Story, Committed]) -> None:
    story, made = committed
    trust = verify.Trust(story.trust)
    for tree, act in ((made.kept, made.logged.removesuffix(b"\n")), (made.known, made.snapshot)):
        for subject in ("u1", "u2", "u0", "u10", "nobody", "x" * 512, "é"):
            document = tree.document(subject, act)
            member = verify.Membership(canonical.encode(document) + b"\n", trust)
            assert (member.said is not None) is (subject in tree.said)
            assert member.sentence
            for change in nearly(document, tree):
                with pytest.raises(verify.Refused):
                    verify.Membership(canonical.encode(change) + b"\n", trust)
            for change in (document, *nearly(document, tree)):
                agree_about(change, story)


def agree_about(change: dict[str, Any], story: Story) -> None:
    """With the library, where it verifies memberships."""
    if find_spec("ledger.statements.membership") is None:
        return
    data = canonical.encode(change) + b"\n"
    try:
        import_module("ledger.statements.membership").open_membership(data, story.book.trust)
        ours = True
    except VerificationError:
        ours = False
    assert ours is not bool(refused(verify.Membership, data, verify.Trust(story.trust))), change


def test_rows_of_a_snapshot_that_are_not_whole(committed: tuple[Story, Committed]) -> None:
    story, made = committed
    yes_row = {"scope": "everything", "yes_at": times.text(SPOKEN), "yes_position": 4, "yes_accepted": 1, "yes_basis": "import"}
    no_row = {"scope": "category", "scope_id": "post", "no_at": times.text(SPOKEN), "no_state": "refused", "no_position": 7}
    item = {**no_row, "scope": "content", "scope_id": "é"}
    for rows, good in (
        ([yes_row], True), ([no_row], True), ([yes_row, no_row, item], True), ([{**yes_row, **no_row}], True),
        ([no_row, {**no_row, "scope_id": "posu"}], True), ([{**yes_row, "yes_expires_at": yes_row["yes_at"]}], True),
        ([no_row, yes_row], False), ([yes_row, yes_row], False), ([item, no_row], False), ([{"scope": "everything"}], False),
        ([{**yes_row, "scope_id": "x"}], False), ([{**no_row, "scope": "everything"}], False),
        ([{**yes_row, "yes_accepted": 2}], False),
        ([{**no_row, "yes_content_since": yes_row["yes_at"]}], False), ([{**yes_row, "no_at": yes_row["yes_at"]}], False),
        ([{**yes_row, "scope": "content"}], False), ([], False), ([{**yes_row, "yes_basis": "hope"}], False), ("x", False),
        *(([{key: value for key, value in row.items() if key != name}], False) for row in (yes_row, no_row) for name in row),
    ):  # fmt: skip
        tree = Naive({**made.known.said, "u1": ({"rows": rows}, bytes(32))}, made.known.seed)
        fields = {"purpose": "train-ai@1", "snapshot_sha256": "a" * 64, "file_sha256": "b" * 64, "tree_size": 9}
        act = made.act("snapshot_compiled", **fields, as_of=times.text(SPOKEN), **tree.fields)
        document = tree.document("u1", act)
        why = refused(verify.Membership, canonical.encode(document) + b"\n", verify.Trust(story.trust))
        assert (why == "") is good, (rows, why)
        agree_about(document, story)


def nearly(document: dict[str, Any], tree: Naive) -> Iterator[dict[str, Any]]:
    zero = canonical.encode_base64(bytes(32))
    path = document.get("path", [])
    if "said" in document:  # one who is not in the set may share the empty place of another
        yield {**document, "subject_id": document["subject_id"][:-1] + "~"}
    yield {**document, "surplus": "x"}
    yield {**document, "format": "urn:consent-ledger:membership:v2"}
    yield {**document, "path": [*path, zero]}
    yield {**document, "path": [zero] * 257}
    yield {**document, "path": []}
    for at in range(len(path)):
        yield {**document, "path": [*path[:at], zero, *path[at + 1 :]]}
        yield {**document, "path": [*path[:at], *path[at + 1 :]]} if len(path) > 1 else {**document, "path": [zero]}
    if "said" in document:
        yield {name: value for name, value in document.items() if name not in ("said", "blind")}
        yield {**document, "said": {"rows": 10**6}}
        yield {**document, "said": {"rows": 0}}
        yield {**document, "said": {}}
        yield {**document, "said": {**document["said"], "more": 1}}
        yield {**document, "other": {"index": zero, "value": zero}}
        yield {**document, "blind": zero}
        if "blind" in document:
            yield {name: value for name, value in document.items() if name != "blind"}
    else:
        yield {**document, "said": {"rows": 1}}
        yield {**document, "blind": zero}
        yield {**document, "other": {"index": zero, "value": zero}}
        if "other" in document:
            yield {name: value for name, value in document.items() if name != "other"}
            own = canonical.encode_base64(tree.index(document["subject_id"]))
            yield {**document, "other": {**document["other"], "index": own}}
    stranger = sha256(b"x").hexdigest()
    receipt = json.loads(document["act"])
    yield {**document, "act": canonical.encode({**receipt, "act": {**receipt["act"], "subjects_root": stranger}}).decode()}


def test_a_subject_that_is_in_a_set_cannot_be_shown_absent_nor_the_other_way(committed: tuple[Story, Committed]) -> None:
    """Of all proofs of all others, none says it of this one."""
    story, made = committed
    trust, act = verify.Trust(story.trust), made.logged.removesuffix(b"\n")
    for subject in ("u1", "u0"):
        for other in [*made.kept.said, *(f"stranger {n}" for n in range(20))]:
            if other == subject:
                continue
            document = {**made.kept.document(other, act), "subject_id": subject}
            try:
                member = verify.Membership(canonical.encode(document) + b"\n", trust)
            except verify.Refused:
                continue
            assert (member.said is not None) is (subject in made.kept.said)


def test_the_words_are_told_by_the_rule_from_rows(committed: tuple[Story, Committed]) -> None:
    """What a snapshot said of a person decides as their acts do."""
    from ledger import person
    from ledger.exporting.gathering import said_by_rows

    story, made = committed
    purpose = story.book.purposes()[0]
    now = datetime(2027, 1, 1, tzinfo=UTC)
    compared = 0
    for subject, (said, _) in made.known.said.items():
        acts = [event for _, event in story.book.events() if event.subject_id == subject]
        rows = said_by_rows(said["rows"], subject, purpose)
        if subject == "u1":  # who said more after the snapshot
            acts = acts[:1]
        assert person.of_purpose(purpose, subject, rows, None, now) == person.of_purpose(purpose, subject, acts, None, now)
        compared += 1
    assert compared >= 9


def test_making_names_what_is_needed_for_the_page(book: ledger.Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delitem(sys.modules, "ledger.exporting.page", raising=False)
    monkeypatch.delattr("ledger.exporting.page", raising=False)
    with pytest.raises(ledger.ConsentLedgerError, match="package jinja2"):
        making.export_subject(book, "u1", tmp_path / "x.zip")
