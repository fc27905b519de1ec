"""Run keys: admitted and ended by acts of the log, and whose statements it takes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest

import ledger
from ledger import files, times
from ledger.log import dsse
from ledger.log.keys import PrivateKey, PublicKey
from ledger.log.note import Verifier
from ledger.statements.audit_statement import AuditedShard, AuditRecord, audit_statement
from ledger.statements.verify import open_statement
from ledger.store.documents import run_keys
from tests.store.small_ledger import Clock, Sql, statement

HIGH = PublicKey(bytes(31) + b"\x80")


def audited(book: ledger.Ledger, snapshot: ledger.Snapshot, key: PrivateKey, **fields: Any) -> bytes:
    moment = times.now()
    record = AuditRecord(
        audit_id="a1",
        purpose=snapshot.purpose,
        rule_version="1",
        origin=book.origin,
        snapshot_sha256=snapshot.sha256,
        answers_sha256="0" * 64,
        snapshot_receipt=(snapshot.receipt or b"").decode(),
        columns={"subject": ["user_id"]},
        decided_at=moment,
        age_seconds=60,
        max_age_seconds=60,
        rests_on={},
        shards=(AuditedShard(name="a", sha256="0" * 64, rows=0),),
        versions={},
        started_at=moment,
        finished_at=moment,
    )
    return dsse.seal(audit_statement(replace(record, **fields)), key)


def test_a_new_ledger_has_one_run_key(book: ledger.Ledger) -> None:
    assert book.keys.names() == ["run"]
    assert book.keys.admits(book.run_key().public)
    assert not book.keys.admits(PrivateKey.generate().public)


def test_what_an_added_key_signs_is_logged_and_verifies(book: ledger.Ledger) -> None:
    key, frozen = PrivateKey.generate(), book.snapshot("train-ai")
    envelope = audited(book, frozen, key)
    with pytest.raises(ledger.VerificationError, match="no statement of an admitted run key") as refused:
        book.admit(envelope)
    assert "/run" in str(refused.value.hint)
    vkey = book.keys.add("spark", key.public)
    assert vkey == key.public.vkey(f"{book.origin}/spark")
    assert f"\nrun {vkey}\n" in book.trust_text()
    receipt = book.admit(envelope)
    verified = open_statement(envelope + b"\n" + receipt, book.trust)
    assert verified.logged is not None
    assert verified.logged.act["predicate_type"] == "urn:consent-ledger:audit:v1"
    assert book.status().runs == {"train-ai": 1}, "an audit by these answers heeds the noes in them as well"
    assert book.fsck().acts == 6


def test_admitted_again_nothing_changes(book: ledger.Ledger) -> None:
    envelope = statement(book, book.snapshot("train-ai"))
    assert not book.logged(envelope)
    first, size = book.admit(envelope), book.status().size
    assert book.admit(envelope) == first
    assert book.logged(envelope)
    assert book.status().size == size
    public = PrivateKey.generate().public
    assert book.keys.add("spark", public) == book.keys.add("spark", public)
    assert book.status().size == size + 1


def test_an_ended_key_signs_nothing_more_that_is_logged(book: ledger.Ledger) -> None:
    key, frozen = PrivateKey.generate(), book.snapshot("train-ai")
    vkey = book.keys.add("spark", key.public)
    kept, before = book.trust, audited(book, frozen, key)
    receipt, later = book.admit(before), audited(book, frozen, key, audit_id="a2")
    assert book.keys.end("spark")
    with pytest.raises(ledger.VerificationError, match="no statement of an admitted run key"):
        book.admit(later)
    assert not book.keys.admits(key.public)
    assert vkey not in [verifier.vkey for verifier in book.trust.run]
    assert f"# ended: run {vkey}\n" in book.trust_text()
    assert open_statement(before + b"\n" + receipt, kept).logged is not None, "for those who keep the line"
    with pytest.raises(ledger.VerificationError, match="trusted"):
        open_statement(before + b"\n" + receipt, book.trust)
    assert book.admit(before) == receipt, "what is in the log stays there"
    size = book.status().size
    assert not book.keys.end("spark")
    assert book.status().size == size
    book.fsck()


def test_an_ended_key_does_not_come_back_by_any_name(book: ledger.Ledger) -> None:
    key = PrivateKey.generate()
    book.keys.add("spark", key.public)
    book.keys.end("spark")
    for name in ("spark", "other"):
        with pytest.raises(ledger.UsageError, match="was ended"):
            book.keys.add(name, key.public)
    other = PrivateKey.generate()
    book.keys.add("spark", other.public)
    assert (book.keys.admits(key.public), book.keys.admits(other.public)) == (False, True)
    book.fsck()


def test_a_name_that_is_taken_and_a_key_that_has_one(book: ledger.Ledger) -> None:
    key, size = PrivateKey.generate(), book.status().size
    for name, public, said in (
        ("run", key.public, "called run already"),
        ("other", book.run_key().public, "in use as .*/run"),
        ("other", book.trust.log[0].public, "in use as"),
        ("a/b", key.public, "no name"),
        ("", key.public, "no name"),
        ("a b", key.public, "no name"),
        ("a+b", key.public, "no name"),
        ("é", key.public, "no name"),
    ):
        with pytest.raises(ledger.UsageError, match=said):
            book.keys.add(name, public)
    with pytest.raises(ledger.UsageError, match="no run key is called 'nope'") as refused:
        book.keys.end("nope")
    assert refused.value.hint == "admitted: run"
    assert book.status().size == size
    assert len(book.trust.run) == 1


def test_the_ledgers_own_key_can_be_ended(book: ledger.Ledger) -> None:
    frozen = book.snapshot("train-ai")
    envelope = statement(book, frozen)
    book.keys.end("run")
    with pytest.raises(ledger.ConsentLedgerError, match="the run key was ended"):
        book.run_key()
    with pytest.raises(ledger.VerificationError, match="admitted run key") as refused:
        book.admit(envelope)
    assert refused.value.hint == "admitted: none"
    assert book.trust.run == ()


def test_a_run_key_that_was_put_there_by_hand_is_admitted_first(book: ledger.Ledger) -> None:
    """Else a run would find out when all of its shards are written."""
    path = book.folder.path / "run.key"
    path.unlink()
    files.create_private(path, PrivateKey.generate().to_pem())
    with pytest.raises(ledger.ConsentLedgerError, match="not a run key that this ledger has admitted") as refused:
        book.run_key()
    assert refused.value.hint == f"consent key add-run NAME --key {path}"
    book.keys.add("second", ledger.load_key(path).public)
    assert book.run_key().public == ledger.load_key(path).public


def test_a_line_in_the_trust_file_admits_nobody(book: ledger.Ledger) -> None:
    """The log says whose statements it takes; the file is only handed out."""
    key, frozen = PrivateKey.generate(), book.snapshot("train-ai")
    path = book.folder.path / "trust"
    path.write_text(f"{path.read_text()}run {key.public.vkey('x')}\n")
    with pytest.raises(ledger.VerificationError, match="admitted run key"):
        book.admit(audited(book, frozen, key))


def test_the_trust_file_keeps_what_else_it_says(book: ledger.Ledger) -> None:
    path = book.folder.path / "trust"
    theirs = PrivateKey.generate().public.vkey("theirs")
    path.write_text(f"# ours\n\n{path.read_text()}\n# theirs\nrun {theirs}\n")
    key = PrivateKey.generate().public
    book.keys.add("spark", key)
    book.keys.add("ray", HIGH)
    assert path.read_text().startswith("# ours\n\nlog ")
    book.keys.end("spark")
    assert [verifier.name for verifier in book.trust.run] == [f"{book.origin}/run", "theirs", f"{book.origin}/ray"]


def test_a_key_whose_act_was_recorded_is_handed_out_by_the_next_call(book: ledger.Ledger) -> None:
    """The process may have been killed between the two."""
    path, key = book.folder.path / "trust", PrivateKey.generate().public
    before = path.read_bytes()
    book.keys.add("spark", key)
    added = path.read_bytes()
    path.write_bytes(before)
    book.keys.add("spark", key)
    assert path.read_bytes() == added
    book.keys.end("spark")
    path.write_bytes(added)
    with pytest.raises(ledger.IntegrityError, match=r"hands out the run key .*/spark', which was ended") as refused:
        book.fsck()
    assert "consent key end spark" in str(refused.value.hint)
    book.keys.end("spark")
    book.fsck()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"purpose": "search@1"}, "compiled no snapshot"),
        ({"origin": "other"}, "compiled no snapshot"),
        ({"snapshot_sha256": "1" * 64}, "compiled no snapshot"),
        ({"snapshot_receipt": "x"}, "JSON|canonical"),
        ({"age_seconds": 0, "decided_at": times.now() + timedelta(days=9)}, "younger"),
        ({"decided_at": times.now() - timedelta(days=9)}, "before the moment"),
    ],
)
def test_what_would_never_verify_is_not_logged(book: ledger.Ledger, fields: dict[str, Any], said: str) -> None:
    frozen, size = book.snapshot("train-ai"), book.status().size
    with pytest.raises(ledger.VerificationError, match=said):
        book.admit(audited(book, frozen, book.run_key(), **fields))
    assert book.status().size == size


def test_rows_that_are_yet_to_be_decided_are_not_logged(book: ledger.Ledger, clock: Clock) -> None:
    """The log would vouch for a moment that had not come, and a verifier go by it."""
    frozen, size = book.snapshot("train-ai"), book.status().size
    week = 7 * 24 * 3600 + 60
    ahead = times.now() + timedelta(days=7)
    line = audited(book, frozen, book.run_key(), decided_at=ahead, age_seconds=week, max_age_seconds=week)
    with pytest.raises(ledger.VerificationError, match="has not come yet"):
        book.admit(line)
    assert book.status().size == size
    clock.set(ahead + timedelta(seconds=1))
    book.admit(line)


@pytest.mark.parametrize(
    "change",
    [
        "act = 'notice_declared' WHERE act = 'key_ended'",  # it is found by a column that nothing has signed
        "act = 'key_ended' WHERE act = 'purpose_declared'",
        "canonical = (SELECT canonical FROM openings WHERE act = 'purpose_declared') WHERE act = 'key_ended'",
    ],
)
def test_fsck_notices_what_was_done_to_key_acts(book: ledger.Ledger, sql: Sql, change: str) -> None:
    book.keys.add("spark", PrivateKey.generate().public)
    book.keys.end("spark")
    sql(f"UPDATE openings SET {change}")
    with pytest.raises(ledger.IntegrityError):
        book.fsck()


def test_acts_about_keys_must_follow_from_those_before() -> None:
    key, other = (Verifier.of(f"o/{name}", PrivateKey.generate().public) for name in ("a", "b"))

    def act(kind: str, verifier: Verifier, role: str = "run") -> dict[str, str]:
        return {"act": kind, "role": role, "vkey": verifier.vkey}

    added, ended = act("key_added", key), act("key_ended", key)
    assert run_keys([added, ended]).ended == {key.public: "o/a"}
    assert run_keys([act("key_added", key, "log"), added]).log == [key]
    for acts in (
        [ended],
        [added, added],
        [added, ended, added],
        [added, act("key_ended", other)],
        [added, act("key_ended", Verifier.of("o/a", other.public))],
        [{"act": "key_added", "role": "run", "vkey": "x"}],
        [{"act": "key_added", "role": "run"}],
    ):
        with pytest.raises(ledger.IntegrityError, match="a stored act"):
            run_keys(acts)


def test_the_receipt_names_the_statement(book: ledger.Ledger) -> None:
    envelope = statement(book, book.snapshot("train-ai"))
    assert f'"statement_sha256":"{sha256(envelope).hexdigest()}"'.encode() in book.admit(envelope)
