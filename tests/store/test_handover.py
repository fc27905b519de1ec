"""`consent key rotate`: the log goes on under another key, wherever the replacement breaks off, and whoever else writes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

import ledger
from ledger import ConsentFilter, IntegrityError, Ledger, VerificationError, files
from ledger.errors import ConsentLedgerError
from ledger.log import note
from ledger.log import trust as trust_lines
from ledger.log.checkpoint import Checkpoint, sign_checkpoint
from ledger.log.keys import COSIGNATURE, PrivateKey
from ledger.log.note import Verifier
from ledger.statements.receipt import open_event_receipt
from ledger.store import handover
from ledger.store.documents import run_keys
from ledger.store.folder import load_key
from tests.store.small_ledger import Sql, yes

ROOT = Path(__file__).resolve().parents[2]


def signers(text: str) -> list[bytes]:
    return [key_id for _, key_id, _ in note.parse(text)[1]]


def test_both_keys_sign_the_last_checkpoint_of_the_old_and_the_new_one_signs_from_then_on(book: Ledger, sql: Sql) -> None:
    old_key, before = book.folder.log_key(), book.trust
    (old,) = before.log
    earlier = book.record(yes("u1", event_id="e1"))
    rotated = book.keys.rotate()
    new = Verifier.from_vkey(rotated.new)
    assert (rotated.old, rotated.resumed) == (old.vkey, False)
    head = book.checkpoint()
    assert signers(head) == [old.key_id, new.key_id]
    assert head == (book.folder.path / "head").read_text() == sql("SELECT note FROM checkpoints ORDER BY size DESC LIMIT 1")[0][0]
    assert book.trust == replace(before, log=(old, new), until={old: rotated.size})
    assert book.trust.open(head).size == rotated.size
    assert book.folder.log_key().public == new.public != old_key.public
    assert not (book.folder.path / "log.key.next").exists()
    later = book.record(yes("u2", event_id="e2"))
    assert signers(book.checkpoint()) == [new.key_id]
    assert ledger.fsck(book.folder.path).size == rotated.size + 1
    # Who has the old trust file alone verifies up to there, and nothing beyond.
    for trust in (before, book.trust):
        assert open_event_receipt(earlier.receipt, trust).event["event_id"] == "e1"
    assert open_event_receipt(later.receipt, book.trust).event["event_id"] == "e2"
    with pytest.raises(VerificationError, match="not signed by a key that is trusted") as refused:
        open_event_receipt(later.receipt, before)
    assert "new trust file" in (refused.value.hint or "")
    # The acts inform: they are in the log, and in receipts with one signature line, of the old key.
    acts = book.read(lambda history: history.acts("key_added", "key_ended"))
    assert [(act["act"], act["role"], act["vkey"]) for _, act in acts[-2:]] == [
        ("key_ended", "log", old.vkey),
        ("key_added", "log", new.vkey),
    ]
    proof = book.read(lambda history: history.proof(rotated.size - 1))
    assert signers(proof.checkpoint) == [old.key_id]
    # What the old key signs beyond is refused.
    history_of = book.trust
    forged = sign_checkpoint(Checkpoint(book.origin, rotated.size + 1, b"x" * 32), old_key)
    with pytest.raises(VerificationError, match=f"a key that was replaced at {rotated.size}"):
        history_of.open(forged)
    sql("UPDATE head SET note = ?" if "sqlite" in book.folder.database else "UPDATE head SET note = %s", forged)
    for refusing in (book.checkpoint, lambda: book.withdraw("u1"), lambda: ledger.fsck(book.folder.path)):
        with pytest.raises(VerificationError, match="replaced"):
            refusing()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_snapshot_at_the_last_checkpoint_has_its_one_byte_form(book: Ledger, tmp_path: Path) -> None:
    (old,) = book.trust.log
    book.record(yes("u1"))
    size = book.keys.rotate().size
    frozen = book.snapshot("train-ai", output=tmp_path / "a.parquet")
    assert signers(frozen.header.checkpoint) == [old.key_id]
    again = ledger.load_snapshot(tmp_path / "a.parquet", trust=book.folder.path / "trust")
    assert ConsentFilter(again, ledger.Columns(subject="user_id")) is not None
    assert book.snapshot("train-ai", tree_size=size, as_of=frozen.header.as_of).header.checkpoint == frozen.header.checkpoint
    with pytest.raises(VerificationError, match="not signed by a key that is trusted"):  # its act is beyond
        ledger.load_snapshot(tmp_path / "a.parquet", trust=trust_lines.parse(f"log {old.vkey}\n"))


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_three_times_and_what_the_user_wrote_in_the_trust_file_stays(book: Ledger) -> None:
    path, key = book.folder.path / "trust", PrivateKey.generate().public
    log, run = path.read_text().splitlines()
    other = f"log {key.vkey('other.example/log')} until 3"
    witnesses = [f"witness w {PrivateKey.generate().public.vkey('w.example', COSIGNATURE)}", "group g all w", "quorum g"]
    path.write_text("\n".join(["# ours", f"{log} https://log.example/", "", other, *witnesses, run, ""]))
    sizes = [book.keys.rotate().size for _ in range(3)]
    book.keys.add("spark", key)
    lines = path.read_text().splitlines()
    assert lines[:2] == ["# ours", f"{log} https://log.example/ until {sizes[0]}"]
    assert [line.rpartition(" ")[2] for line in lines[2:4]] == [str(size) for size in sizes[1:]]
    assert lines[4] == f"log {book.folder.log_key().public.vkey(book.origin)}"
    assert lines[5:-1] == ["", other, *witnesses, run]
    assert lines[-1].startswith("run ")
    ledger.fsck(book.folder.path)


def test_a_key_of_the_log_that_only_an_act_names_counts_for_nothing(book: Ledger, sql: Sql) -> None:
    thief = PrivateKey.generate()
    book.append(lambda tx: tx.act("key_added", "user:dba", role="log", vkey=thief.public.vkey(book.origin)) and None)
    head = book.trust.open(book.checkpoint())
    for forged in (
        sign_checkpoint(head, thief),
        sign_checkpoint(Checkpoint(book.origin, head.size + 1, b"x" * 32), thief),
    ):
        with pytest.raises(VerificationError, match="not signed by a key that is trusted"):
            book.trust.open(forged)
    sql(
        "UPDATE head SET note = ?" if "sqlite" in book.folder.database else "UPDATE head SET note = %s",
        sign_checkpoint(head, thief),
    )
    with pytest.raises(VerificationError, match="not signed by a key that is trusted"):
        book.withdraw("u1")
    with pytest.raises(IntegrityError, match="does not follow"):
        run_keys([{"act": "key_ended", "role": "log", "vkey": thief.public.vkey(book.origin)}])
    files.publish_bytes(book.folder.path / "log.key.next", b"")
    (book.folder.path / "log.key.next").write_bytes(thief.to_pem())
    with pytest.raises(VerificationError):
        book.keys.rotate()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_protected_key_is_followed_by_one_with_its_passphrase(book: Ledger) -> None:
    path = book.folder.path / "log.key"
    pem = load_key(path).to_pem(b"secret")
    path.write_bytes(pem)
    with ledger.open(book.folder.path, passphrase="secret") as mine:
        for _ in range(2):
            mine.keys.rotate()
            assert PrivateKey.is_protected(path.read_bytes())
            assert path.stat().st_mode & 0o777 == 0o600
        mine.record(yes("u1"))
    with (
        ledger.open(book.folder.path, passphrase="wrong") as other,
        pytest.raises(ConsentLedgerError, match="passphrase is wrong"),
    ):
        other.keys.rotate()
    with pytest.raises(ConsentLedgerError, match="none was given"):
        book.keys.rotate()
    assert not (book.folder.path / "log.key.next").exists()


def test_whoever_has_the_ledger_open_goes_on_with_the_new_key_while_it_is_replaced(book: Ledger) -> None:
    failed: list[Exception] = []
    stop = threading.Event()

    def write(number: int) -> None:
        with ledger.open(book.folder.path) as mine:
            while not stop.is_set():
                try:
                    mine.withdraw(f"u{number}")
                except Exception as error:
                    failed.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for writer in writers:
        writer.start()
    try:
        with ledger.open(book.folder.path) as other:
            sizes = [other.keys.rotate().size for _ in range(4)]
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert failed == []
    assert sizes == sorted(set(sizes))
    report, trust = ledger.fsck(book.folder.path), book.trust
    assert sorted(trust.until.values()) == sizes
    assert report.events > 4
    for event_id in [event.event_id for _, event in book.events()]:
        assert event_id is not None
        open_event_receipt(book.receipt(event_id), trust)


def test_two_that_replace_it_at_once(book: Ledger) -> None:
    done: list[object] = []

    def rotate() -> None:
        with ledger.open(book.folder.path) as mine:
            try:
                done.append(mine.keys.rotate())
            except ConsentLedgerError as error:
                done.append(error)

    both = [threading.Thread(target=rotate) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert all(not isinstance(outcome, Exception) or "replaced meanwhile" in str(outcome) for outcome in done)
    assert not (book.folder.path / "log.key.next").exists()
    book.withdraw("u1")
    ledger.fsck(book.folder.path)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_next_key_that_was_lost_after_the_last_checkpoint_of_the_old_one(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    before = book.trust
    monkeypatch.setattr(handover, "is_begun", lambda folder: False)  # nobody finishes it
    with pytest.raises(ValueError, match="empty"):
        book.keys.rotate()
    monkeypatch.undo()
    (book.folder.path / "log.key.next").unlink()
    with pytest.raises(IntegrityError, match="handed the log over to a new key") as refused:
        book.withdraw("u1")
    assert "consent key rotate" in (refused.value.hint or "")
    assert book.trust == before
    rotated = book.keys.rotate()
    book.withdraw("u1")
    assert book.trust.until == {before.log[0]: rotated.size}
    ledger.fsck(book.folder.path)


def test_wherever_it_dies_the_ledger_can_be_appended_to_and_the_replacement_is_finished_or_redone(tmp_path: Path) -> None:
    """In a process of its own that forks: the child dies before the n-th step of the system that makes something durable."""
    with ledger.create(tmp_path / "ledger") as made:
        made.declare_purpose("train-ai", title="Training", description="Training of models")
        made.record(yes("u1", event_id="e1"))
    script = Path(__file__).with_name("dying_rotation.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    died, finished, redone = map(int, done.stdout.split())
    assert died >= 11
    assert finished >= 2
    assert redone >= 2


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_ledger_is_moved_with_its_replaced_keys(book: Ledger, tmp_path: Path) -> None:
    size = book.keys.rotate().size
    (book.folder.path / "log.key.next").write_bytes(b"left over")
    ledger.copy(book.folder.path, tmp_path / "new")
    with ledger.open(tmp_path / "new") as moved:
        assert list(moved.trust.until.values()) == [size]
        moved.withdraw("u1")
        moved.keys.rotate()
    shutil.rmtree(tmp_path / "new")
