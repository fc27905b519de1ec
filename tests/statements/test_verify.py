"""What verify says of folders, statements and receipts: what holds, and what does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from paper_log import EVENT, NOON, PaperLog, run_record, sha256, shard
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

from ledger.errors import VerificationError
from ledger.log import canonical, dsse
from ledger.log.trust import Trust
from ledger.statements.statement import RUN, run_statement
from ledger.statements.verify import open_statement, statement_path, verify
from tests.statements.conftest import Made

ROOT = Path(__file__).resolve().parents[2]


# What holds


def test_a_folder_of_shards(made: Made) -> None:
    checked = made.check()
    assert "20 rows in, 12 kept, 8 (no_record 2, withdrawn 6) dropped" in checked
    assert "for purpose 'train-ai@2'" in checked and sha256(b"snapshot") in checked
    assert "its age was 90 s, the limit 86400 s" in checked
    assert (
        "the statement is entry 4 of log 'paper.example/log', under its signed checkpoint of size 5, after its snapshot"
        in checked
    )
    assert "holds exactly the 2 shards" in checked
    assert "are of one history" in checked
    assert "NOT" not in checked


def test_the_statement_itself_and_strings_and_a_trust_at_hand(made: Made) -> None:
    assert verify(str(made.statement), trust=made.log.trust) == verify(made.statement, trust=str(made.trust))


def test_a_folder_by_another_name_for_it(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    for directory, name in ((made.out, "."), (made.out / "b", ".."), (made.folder, "out/")):
        monkeypatch.chdir(directory)
        assert "holds exactly" in "\n".join(verify(name, trust=made.trust).checked)
    assert statement_path(Path("x/out")) == Path("x/out.intoto.jsonl")


def test_what_stands_beside_shards_is_passed_over(made: Made) -> None:
    (made.out / "_SUCCESS").write_bytes(b"")
    (made.out / ".a.parquet.crc").write_bytes(b"")
    (made.out / "_delta/log").mkdir(parents=True)
    (made.out / "_delta/log/a.json").write_bytes(b"")
    (made.out / ".link").symlink_to(made.trust)
    (made.out / "empty").mkdir()
    made.check()


@pytest.mark.parametrize("name", ["_metadata", "_p=1/data", ".part"])
@pytest.mark.parametrize("end", [b"PAR1", b"PARE"])
def test_but_not_parquet_which_some_reader_takes(made: Made, name: str, end: bytes) -> None:
    """BUG (rows of nobody's consent in a verified folder): Spark reads `_p=1/data`, fastparquet `_metadata`."""
    strange = made.out / name
    strange.parent.mkdir(exist_ok=True)
    strange.write_bytes(b"PAR1 rows" + end)
    made.refused(f"holds '{name}'")
    moved = strange.rename(made.folder / "elsewhere")
    strange.symlink_to(moved)
    made.refused("symbolic link")
    moved.unlink()
    made.check()


def test_but_not_where_the_statement_names_them(made: Made) -> None:
    (made.out / "_x").mkdir()
    (made.out / "_x/.a").write_bytes(b"hidden")
    (made.out / "_x/.b").write_bytes(b"not named")
    shards = (shard(), shard("b/a.parquet", b"kept b"), shard("_x/.a", b"hidden"))
    made.state(shards=shards, rests_on={"import": 18})
    made.check()
    (made.out / "_x/.a").write_bytes(b"other")
    made.refused("'_x/.a' is not the one")


def test_a_run_that_dropped_nothing(made: Made) -> None:
    shards = tuple(
        shard(name, content, rows_in=6, rows_dropped={}) for name, content in (("a.parquet", b"kept"), ("b/a.parquet", b"kept b"))
    )
    made.state(shards=shards, unmapped=0)
    assert "12 kept, 0 dropped" in made.check()


def test_progress_counts_shards(made: Made) -> None:
    told: list[tuple[int, int]] = []
    made.check(on_progress=lambda done, total: told.append((done, total)))
    assert told == [(0, 2), (1, 2), (2, 2)]


def test_an_event_receipt(made: Made) -> None:
    path = made.folder / "e1.json"
    path.write_bytes(made.log.log_event() + b"\n")
    checked = made.check(path)
    assert (
        "event 'e1', given by 'u1' for 'search@1', 'train-ai@2', recorded at 2026-01-31T12:00:01.000000Z, is entry 5" in checked
    )
    path.write_bytes(made.log.log_event({**EVENT, "content_id": "p1"}) + b"\n")
    assert "given about 'p1' by 'u1'" in made.check(path)


def test_a_snapshot(made: Made) -> None:
    path, receipt = made.folder / "s.parquet", made.folder / "s.parquet.receipt"
    path.write_bytes(b"file")
    receipt.write_bytes(made.log.log_snapshot() + b"\n")
    for named in (path, receipt):
        checked = made.check(named)
        assert f"{path}: snapshot {sha256(b'snapshot')} for purpose 'train-ai@2', of the log's first 5 entries as of" in checked
        assert "byte for byte" in checked
    path.write_bytes(b"edited")
    made.refused("not the one that its receipt speaks of", path)
    path.unlink()
    made.refused("cannot read", path)
    assert "NOT looked at: the snapshot's file" in made.check(path, signature_only=True)


def test_several_at_once(made: Made) -> None:
    path = made.folder / "e1.json"
    path.write_bytes(made.log.log_event() + b"\n")
    checked = made.check(path, made.out)
    # the event's proof ties the statement's checkpoint (5) to its own (6)
    assert "(sizes 4, 5, 6) are of one history" in checked


def test_checkpoints_that_cannot_be_compared_are_said_not_to_be(made: Made) -> None:
    made.state(between=3)
    assert "NOT compared: the checkpoints of log 'paper.example/log' met here (sizes 6, 10)" in made.check()


def test_an_unlogged_statement_is_taken_only_when_told(made: Made) -> None:
    made.statement.write_bytes(made.lines()[0] + b"\n")
    with pytest.raises(VerificationError, match="not in the log") as caught:
        made.check()
    assert "--allow-unlogged" in (caught.value.hint or "")
    assert "NOT logged" in made.check(allow_unlogged=True)


def test_a_bad_second_line_is_refused_even_then(made: Made) -> None:
    made.statement.write_bytes(made.lines()[0] + b"\n{}\n")
    made.refused("lacks", allow_unlogged=True)


def test_signature_only_looks_at_no_shard(made: Made) -> None:
    (made.out / "extra").write_bytes(b"")
    assert "NOT looked at: the 2 shards" in made.check(signature_only=True)
    for name in ("a.parquet", "b/a.parquet", "extra"):
        (made.out / name).unlink()
    (made.out / "b").rmdir()
    made.out.rmdir()
    made.check(made.out, signature_only=True)
    made.check(made.statement, signature_only=True)
    made.refused("no folder out", made.statement)
    made.refused("no folder out", made.out)


def test_what_was_verified_can_be_read(made: Made) -> None:
    verified = open_statement(made.statement.read_bytes(), made.log.trust)
    assert verified.record.columns == {"subject": ["user_id"], "category": "=post"}
    assert verified.logged is not None and verified.logged.position == 4
    assert verified.snapshot.position == 3


def test_securesystemslib_verifies_the_envelope_unchanged(made: Made) -> None:
    public = made.log.run_key.public
    key = SSlibKey(public.dsse_keyid, "ed25519", "ed25519", {"public": public.raw.hex()})
    envelope = Envelope.from_dict(json.loads(made.lines()[0]))
    assert envelope.verify([key], 1) == {public.dsse_keyid: key}
    assert json.loads(envelope.payload)["predicateType"] == RUN


# What does not hold: shards


def rename(made: Made) -> None:
    (made.out / "a.parquet").rename(made.out / "c.parquet")


def swap(made: Made) -> None:
    (made.out / "a.parquet").write_bytes(b"kept b")
    (made.out / "b/a.parquet").write_bytes(b"kept")


def link(made: Made) -> None:
    (made.out / "a.parquet").rename(made.folder / "elsewhere")
    (made.out / "a.parquet").symlink_to(made.folder / "elsewhere")


def link_folder(made: Made) -> None:
    (made.out / "b").rename(made.folder / "elsewhere")
    (made.out / "b").symlink_to(made.folder / "elsewhere")


def pipe(made: Made) -> None:
    (made.out / "a.parquet").unlink()
    os.mkfifo(made.out / "a.parquet")


def folder_for_shard(made: Made) -> None:
    (made.out / "a.parquet").unlink()
    (made.out / "a.parquet").mkdir()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda made: (made.out / "a.parquet").write_bytes(b"edited"), "'a.parquet' is not the one"),
        (lambda made: (made.out / "a.parquet").unlink(), "lacks 'a.parquet'"),
        (lambda made: (made.out / "c.parquet").write_bytes(b"kept"), "holds 'c.parquet'"),
        (lambda made: (made.out / "notes.txt").write_bytes(b""), "holds 'notes.txt'"),
        (lambda made: (made.out / "b/c").mkdir() or (made.out / "b/c/x").write_bytes(b""), "holds 'b/c/x'"),
        (lambda made: os.close(os.open(os.fsencode(made.out) + b"/\xff", os.O_CREAT | os.O_WRONLY)), "holds '.udcff'"),
        (rename, "holds 'c.parquet'"),
        (swap, "is not the one"),
        (link, "'a.parquet' is a symbolic link"),
        (link_folder, "'b' is a symbolic link"),
        (pipe, "'a.parquet' is not a file"),
        (folder_for_shard, "lacks 'a.parquet'"),
    ],
)
def test_spoiled_shards(made: Made, spoil: Callable[[Made], Any], said: str) -> None:
    spoil(made)
    made.refused(said)
    made.refused(said, made.statement)


def test_a_shard_that_becomes_a_link_meanwhile_is_refused(made: Made) -> None:
    def swap_for_link(done: int, total: int) -> None:
        if done == 0:
            link(made)

    made.refused("cannot read 'a.parquet'", on_progress=swap_for_link)


def test_many_missing_shards_are_not_all_named(made: Made) -> None:
    shards = tuple(shard(f"{n}.parquet") for n in range(9))
    made.state(shards=shards, rests_on={"import": 54})
    for path in (made.out / "a.parquet", made.out / "b/a.parquet"):
        path.unlink()
    made.refused("lacks '0.parquet', .* '4.parquet' and 4 more")


def test_deep_folders_are_walked(made: Made) -> None:
    """By the system's limit of a path, some 2,000 levels: more than Python recurses."""
    here = made.out
    levels = []
    while len(str(here)) < 3000:
        here = here / "d"
        here.mkdir()
        levels.append(here)
    assert len(levels) > sys.getrecursionlimit()
    made.check()
    (here / "x").write_bytes(b"")
    made.refused("holds 'd/d")
    (here / "x").unlink()
    for level in reversed(levels):  # or else the temporary folder cannot be removed
        level.rmdir()


# What does not hold: statements


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"snapshot": {"snapshot_sha256": sha256(b"other")}}, "of another snapshot"),
        ({"snapshot": {"purpose": "train-ai@1"}}, "for another purpose"),
        ({"origin": "other.example/log"}, "the snapshot is of log 'paper.example/log'"),
        ({"decided_at": NOON - timedelta(seconds=1)}, "before the moment"),
        ({"age_seconds": 89}, "younger than its receipt shows"),
        ({"logged": {"statement_sha256": sha256(b"other")}}, "of another statement"),
        ({"logged": {"predicate_type": "urn:consent-ledger:audit:v1"}}, "of another statement"),
    ],
)
def test_what_was_signed_but_does_not_fit(made: Made, change: dict[str, Any], said: str) -> None:
    made.state(**change)
    made.refused(said)


def test_an_age_of_many_ages_is_no_crash(made: Made) -> None:
    made.state(age_seconds=2**53 - 1, max_age_seconds=2**53 - 1)
    made.check()


def test_the_snapshot_receipt_must_be_of_a_snapshot(made: Made) -> None:
    line = made.log.seal(
        run_statement(run_record(made.log.log_act("statement_made", statement_sha256=sha256(b""), predicate_type="x")))
    )
    made.statement.write_bytes(line + b"\n" + made.log.log_statement(line) + b"\n")
    made.refused("'statement_made' stands where one of 'snapshot_compiled' belongs")


def test_the_second_line_must_be_of_a_statement(made: Made) -> None:
    made.statement.write_bytes(made.lines()[0] + b"\n" + made.log.log_snapshot() + b"\n")
    made.refused("'snapshot_compiled' stands where one of 'statement_made' belongs")


def test_the_snapshot_that_the_log_names_is_the_statements(made: Made) -> None:
    line = made.lines()[0]
    made.statement.write_bytes(line + b"\n" + made.log.log_statement(line, snapshot_sha256=sha256(b"snapshot")) + b"\n")
    made.check()
    made.statement.write_bytes(line + b"\n" + made.log.log_statement(line, snapshot_sha256=sha256(b"another")) + b"\n")
    made.refused("another snapshot decided")


def test_the_statement_comes_after_its_snapshot(made: Made) -> None:
    early = PaperLog(log_key=made.log.log_key, run_key=made.log.run_key)
    early.fill(2)
    line = made.lines()[0]
    made.statement.write_bytes(line + b"\n" + early.log_statement(line) + b"\n")
    made.refused("before the snapshot")


def test_the_statement_is_in_the_log_of_its_snapshot(made: Made) -> None:
    other = PaperLog("other.example/log")
    other.fill(9)
    line = made.lines()[0]
    made.statement.write_bytes(line + b"\n" + other.log_statement(line) + b"\n")
    made.trust.write_text(made.log.trust_text + other.trust_text)
    made.refused("the statement is in log 'other.example/log'")


def test_two_histories_in_one_call(made: Made) -> None:
    fork = PaperLog(log_key=made.log.log_key)
    fork.fill(4)
    path = made.folder / "e1.json"
    path.write_bytes(fork.log_event() + b"\n")
    made.check(path)
    made.refused("two histories", path, made.out)


def test_a_snapshot_receipt_with_a_newline_is_not_its_line(made: Made) -> None:
    payload = json.loads(canonical.decode_base64(json.loads(made.lines()[0])["payload"]))
    payload["predicate"]["snapshot_receipt"] += "\n"
    line = made.log.seal(canonical.encode(payload))
    made.statement.write_bytes(line + b"\n" + made.log.log_statement(line) + b"\n")
    made.refused("not a receipt's line")


def test_an_unknown_predicate_is_refused_by_name(made: Made) -> None:
    payload = json.loads(canonical.decode_base64(json.loads(made.lines()[0])["payload"]))
    for kind in ("urn:consent-ledger:erasure:v1", ""):
        payload["predicateType"] = kind
        line = made.log.seal(canonical.encode(payload))
        made.statement.write_bytes(line + b"\n" + made.log.log_statement(line, predicate_type="x") + b"\n")
        made.refused(f"type {kind!r} is unknown")


def test_a_payload_that_is_not_canonical_is_refused(made: Made) -> None:
    payload = canonical.decode_base64(json.loads(made.lines()[0])["payload"])
    line = made.log.seal(payload + b" ")
    made.statement.write_bytes(line + b"\n" + made.log.log_statement(line) + b"\n")
    made.refused("canonical")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: b"\n",
        lambda data: data[:-1],
        lambda data: data + b"\n",
        lambda data: data + b"{}\n",
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: b"\n".join(data.splitlines()[::-1]) + b"\n",
        lambda data: data.splitlines()[1] + b"\n",
    ],
)
def test_a_statements_file_has_one_form(made: Made, spoil: Callable[[bytes], bytes]) -> None:
    made.statement.write_bytes(spoil(made.statement.read_bytes()))
    made.refused(".", allow_unlogged=True)


def test_keys_count_for_what_they_are_trusted_for_only(made: Made) -> None:
    trust, other = made.log.trust, PaperLog()
    for wrong in (Trust(trust.log, ()), Trust((), trust.run), Trust(trust.run, trust.log), Trust(trust.log, other.trust.run)):
        with pytest.raises(VerificationError, match="trusted"):
            verify(made.out, trust=wrong)


def test_a_key_that_the_envelope_brings_along_is_not_trusted(made: Made) -> None:
    stranger = PaperLog()
    payload = canonical.decode_base64(json.loads(made.lines()[0])["payload"])
    line = dsse.seal(payload, stranger.run_key)
    made.statement.write_bytes(line + b"\n" + made.log.log_statement(line) + b"\n")
    made.refused("not signed by a key that is trusted")


# What it costs


def test_neither_database_nor_parquet_library_is_imported(made: Made) -> None:
    script = (
        "import sys; from ledger.statements.verify import verify; "
        f"assert verify({str(made.out)!r}, trust={str(made.trust)!r}).checked; "
        "print([name for name in ('sqlmodel', 'sqlalchemy', 'duckdb', 'pyarrow', 'numpy', 'click') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
