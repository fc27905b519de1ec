"""Witnesses are asked, and believed only as far as their signatures go. With a quorum, a checkpoint alone is not enough."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import ledger
from ledger.errors import IntegrityError, UsageError, VerificationError
from ledger.log.checkpoint import Checkpoint, sign_checkpoint
from tests.conftest import Outcome, yes
from tests.other_log import served
from tests.witness import Witness

NAMES = ("alpha", "beta", "gamma")
Court = dict[str, Witness]


@pytest.fixture
def court(book: ledger.Ledger, tmp_path: Path) -> Iterator[Court]:
    """Three witnesses that know the ledger's log. The ledger's trust file names them, and `trust` demands two of them."""
    keys = {book.origin: book.trust.log[0].public.raw}
    made = {name: Witness(f"{name}.example/w", tmp_path / f"{name}.state", keys) for name in NAMES}
    trust = book.trust_text()
    lines = "".join(f"witness {name} {witness.vkey} {witness.url}\n" for name, witness in made.items())
    policy = f"{lines}group court 2 alpha beta gamma\nquorum court\n"
    (book.folder.path / "trust").write_text(trust + policy)
    (tmp_path / "trust").write_text(trust + policy)
    (tmp_path / "bare").write_text(trust)
    yield made
    for witness in made.values():
        witness.stop()


def ask(book: ledger.Ledger, court: Court, *names: str, timeout: float = 20) -> ledger.Cosigned:
    return ledger.cosign_log(book, [court[name].url for name in names or NAMES], timeout=timeout)


def size(note: str | None) -> int:
    assert note is not None
    return int(note.split("\n")[1])


def signers(note: str | None) -> list[str]:
    return [line.split(" ")[1] for line in (note or "").partition("\n\n")[2].splitlines()][1:]


def test_all_cosign_and_go_on_from_what_they_know(book: ledger.Ledger, court: Court) -> None:
    book.record(yes("u1"))
    first = ask(book, court)
    assert (first.witnesses, first.missing, first.enough, first.kept) == (NAMES, (), True, True)
    assert signers(first.note) == [f"{name}.example/w" for name in NAMES]
    assert (book.folder.path / "cosigned").read_text() == first.note
    book.record_all(yes(f"u{number}") for number in range(2, 300))
    assert size(ask(book, court, "alpha", "beta").note) == first.size + 298
    assert court["alpha"].asked == [0, first.size], "from the size that was cosigned the last time"
    assert ask(book, court).enough
    assert court["gamma"].asked[-2:] == [first.size + 298, first.size], "its answer tells the size that it knows"
    assert {known[book.origin][0] for known in (witness.known() for witness in court.values())} == {first.size + 298}


def test_what_was_collected_before_for_the_same_checkpoint_is_kept(book: ledger.Ledger, court: Court) -> None:
    first = ask(book, court, "alpha")
    assert (first.witnesses, first.enough, first.kept) == (("alpha",), False, True)
    second = ask(book, court, "gamma")
    assert (second.witnesses, second.enough) == (("gamma",), True)
    assert signers(second.note) == ["alpha.example/w", "gamma.example/w"]


def test_enough_are_not_replaced_by_fewer(book: ledger.Ledger, court: Court) -> None:
    enough = ask(book, court)
    book.record(yes("u1"))
    fewer = ask(book, court, "beta")
    assert (fewer.witnesses, fewer.enough, fewer.kept, fewer.note) == (("beta",), False, False, enough.note)
    assert ask(book, court, "alpha", "beta").kept


def test_an_older_one_never_replaces_a_newer(book: ledger.Ledger, court: Court, tmp_path: Path) -> None:
    shutil.copytree(book.folder.path, tmp_path / "before")
    book.record(yes("u1"))
    newer = ask(book, court).note
    shutil.copy(book.folder.path / "cosigned", tmp_path / "before")
    with ledger.open(tmp_path / "before") as older, pytest.raises(IntegrityError, match="has cosigned 4 entries"):
        ask(older, court)
    assert (tmp_path / "before/cosigned").read_text() == newer


def test_without_a_quorum_all_that_were_asked_must_answer(book: ledger.Ledger, court: Court) -> None:
    trust = book.folder.path / "trust"
    trust.write_text(trust.read_text().replace("quorum court", "quorum none"))
    court["gamma"].manner = "503"
    assert not ask(book, court).enough
    assert ask(book, court, "alpha", "beta").enough


@pytest.mark.parametrize(
    ("manner", "why"),
    [
        ("slow", "did not answer in time"),
        ("drip", "did not answer in time"),
        ("garbage", "no line of a signature"),
        ("empty", "by nobody"),
        ("endless", "more than 65,536 bytes"),
        ("redirect", "answers 307|another host"),
        ("500", "answers 500"),
        ("400", "answers 400"),
        ("403", "does not know this log's key"),
        ("404", "does not know this log \\(404\\)"),
        ("409", "does not say which size it knows"),
        ("422", "answers 422"),
        ("gone", "could not be reached"),
        ("another key", "does not fit the key"),
        ("unknown", "by 'beta.example/w' .* which the ledger's trust file does not name .*add a line"),
    ],
)
def test_a_witness_that_does_not_do_what_it_should(book: ledger.Ledger, court: Court, manner: str, why: str) -> None:
    bad = court["beta"]
    bad.manner = manner
    if manner == "gone":
        bad.stop()
    if manner == "another key":
        bad.signs_with = court["alpha"].key
    if manner == "unknown":
        bad.key = bad.signs_with = Ed25519PrivateKey.generate()
    began = time.monotonic()
    found = ask(book, court, timeout=4 if manner in ("slow", "drip") else 30)
    assert time.monotonic() - began < 25
    assert (found.witnesses, found.enough) == (("alpha", "gamma"), True)
    ((url, told),) = found.missing
    assert url == bad.url
    assert re.search(why, told), told
    assert signers(found.note) == ["alpha.example/w", "gamma.example/w"]


@pytest.mark.parametrize("manner", ["", "says-422"])
@pytest.mark.parametrize("more", [0, 5])
def test_a_witness_that_has_seen_another_log(book: ledger.Ledger, court: Court, tmp_path: Path, manner: str, more: int) -> None:
    shutil.copytree(book.folder.path, tmp_path / "fork")
    with ledger.open(tmp_path / "fork") as fork:
        fork.record(yes("someone else"))
        ask(fork, court, "gamma")
    court["gamma"].manner = manner
    book.record(yes("u1"))
    book.record_all(yes(f"u{number}") for number in range(2, 2 + more))
    with pytest.raises(IntegrityError, match="has seen another log under this name") as caught:
        ask(book, court)
    assert court["gamma"].url in str(caught.value)
    (evidence,) = book.folder.path.glob("refused-*")
    assert str(evidence) in str(caught.value.hint)
    assert evidence.read_bytes().startswith(b"old 4\n") and book.checkpoint().encode() in evidence.read_bytes()
    kept = book.folder.cosigned()
    assert signers(kept) == ["alpha.example/w", "beta.example/w"], "what the others said is kept"


def test_a_witness_ahead_of_this_ledger(book: ledger.Ledger, court: Court, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another cosigning was ahead: no reason for alarm. One that knows more than there is: the ledger was rolled back."""
    before = book.checkpoint()
    book.record(yes("u1"))
    ask(book, court, "alpha")
    (book.folder.path / "cosigned").unlink()
    notes = [before, book.checkpoint()]
    monkeypatch.setattr(book, "checkpoint", lambda: notes.pop(0))
    ((_, why),) = ask(book, court, "alpha").missing
    assert "was ahead" in why


def test_what_cannot_be_asked(book: ledger.Ledger, court: Court) -> None:
    with pytest.raises(UsageError, match="no witness is named"):
        ledger.cosign_log(book, [])
    for url in ("ftp://w.example", "file:///etc/passwd", "w.example", "https://a:b@w.example"):
        with pytest.raises(UsageError):
            ledger.cosign_log(book, [url])
    trust = book.folder.path / "trust"
    for text in ((book.folder.path.parent / "bare").read_text(),):
        trust.write_text(text)
        with pytest.raises(UsageError, match="names no witness"):
            ask(book, court)


def test_a_cosigned_file_that_was_tampered_with(book: ledger.Ledger, court: Court) -> None:
    ask(book, court)
    path = book.folder.path / "cosigned"
    honest = path.read_text()
    for text in ("", "nonsense", honest.replace("\n\n", "1\n\n"), honest[:-40]):
        path.write_text(text)
        with pytest.raises(IntegrityError):
            ask(book, court, "alpha")


def test_a_moved_ledger_takes_its_cosignatures_along(book: ledger.Ledger, court: Court, tmp_path: Path) -> None:
    kept = ask(book, court).note
    ledger.copy(book.folder.path, tmp_path / "new")
    assert (tmp_path / "new/cosigned").read_text() == kept


# A quorum, from beginning to end


@pytest.fixture
def published(book: ledger.Ledger, court: Court, tmp_path: Path) -> Path:
    """A cosigned log of 400 entries, with receipts of some in `receipts`."""
    recorded = [book.record(yes(f"u{number}")) for number in range(3)]
    book.record_all(yes(f"v{number}") for number in range(394))
    last = book.record(yes("last"))
    (tmp_path / "receipts").mkdir()
    for number, one in enumerate([*recorded, last]):
        (tmp_path / f"receipts/{number}").write_bytes(one.receipt)
    ask(book, court)
    ledger.publish_log(book, tmp_path / "log")
    return tmp_path / "log"


def test_receipts_count_under_a_quorum_as_parts_of_the_published_log(published: Path, tmp_path: Path) -> None:
    receipts = sorted((tmp_path / "receipts").iterdir())
    for some in (receipts[:1], receipts):
        with pytest.raises(VerificationError, match="not cosigned by the witnesses") as caught:
            ledger.verify(*some, trust=tmp_path / "trust")
        assert "--log DIR_OR_URL" in str(caught.value.hint)
        told = ledger.verify(*some, trust=tmp_path / "trust", log=published).checked
        assert told[-1].endswith("are of one history"), told
    assert ledger.verify(*receipts, trust=tmp_path / "bare").checked[-1].startswith("NOT compared")
    assert not ledger.verify(*receipts, trust=tmp_path / "bare", log=published).checked[-1].startswith("NOT")
    with served(published) as url:
        ledger.verify(*receipts, trust=tmp_path / "trust", log=url)


def test_a_cosigned_receipt_verifies_alone_and_vouches_for_others(
    book: ledger.Ledger, published: Path, tmp_path: Path, consent: Callable[..., Outcome]
) -> None:
    events = {event.subject_id: event.event_id for _, event in book.events()}
    for subject in ("u0", "last"):
        written = consent("receipt", str(events[subject]), "--cosigned", "-o", subject)
        assert written.code == 0, written.err
        assert consent("verify", subject, "--trust", "trust").code == 0
        assert consent("verify", subject, "--trust", "bare").code == 4, "it bears signatures that this trust file cannot check"
    first, last = tmp_path / "receipts/0", tmp_path / "receipts/3"
    assert consent("verify", first, "u0", "--trust", "trust").code == 0, "its proof shows the tree that ends there"
    assert consent("verify", last, "u0", "--trust", "trust").code == 0, "the cosigned checkpoint is its own"
    assert consent("verify", tmp_path / "receipts/1", "u0", "--trust", "trust").code == 4
    late = book.record(yes("after all"))
    assert consent("receipt", str(late.event.event_id), "--cosigned", "-o", "late").code == 2
    (book.folder.path / "cosigned").unlink()
    assert consent("receipt", str(events["u0"]), "--cosigned", "-o", "late").code == 2


def test_a_split_view_is_caught(book: ledger.Ledger, court: Court, published: Path, tmp_path: Path) -> None:
    """The operator shows one log to all, and another to the holder of a receipt."""
    shutil.copytree(book.folder.path, tmp_path / "fork")
    with ledger.open(tmp_path / "fork") as fork:
        fork.record(yes("in the other log alone"))
        book.record_all(yes(f"w{number}") for number in range(50))
        ask(book, court)
        ledger.publish_log(book, published)
        (event,) = (event for _, event in fork.events() if event.subject_id == "in the other log alone")
        (tmp_path / "split").write_bytes(fork.receipt(str(event.event_id)))
        for trust in ("trust", "bare"):
            with pytest.raises(VerificationError, match="published otherwise than it is shown here"):
                ledger.verify(tmp_path / "split", trust=tmp_path / trust, log=published)
        fork.record_all(yes(f"w{number}") for number in range(90))
        receipt = fork.record(yes("x")).receipt
        (tmp_path / "split").write_bytes(receipt)
        with pytest.raises(VerificationError, match="has signed"):
            ledger.verify(tmp_path / "split", trust=tmp_path / "bare", log=published)
    ledger.verify(tmp_path / "receipts/0", trust=tmp_path / "bare")  # nothing to compare with, and it says no more than that


def test_what_is_published_cannot_be_made_to_fit(book: ledger.Ledger, published: Path, tmp_path: Path) -> None:
    """The operator has the log key, not the witnesses': tiles that lie, another root, a bare or an old checkpoint."""
    key, honest = book.folder.log_key(), (published / "checkpoint").read_text()
    receipt, trust = tmp_path / "receipts/1", tmp_path / "trust"

    def refuse(match: str, trust: Path = trust) -> None:
        with pytest.raises(VerificationError, match=match):
            ledger.verify(receipt, trust=trust, log=published)

    for bare in (book.checkpoint(), sign_checkpoint(Checkpoint(book.origin, 401, b"r" * 32), key)):
        (published / "checkpoint").write_text(bare)
        refuse("not cosigned by the witnesses that the trust file demands")
    one = honest.splitlines(keepends=True)
    (published / "checkpoint").write_text("".join(one[:-2]))
    refuse("not cosigned by the witnesses that the trust file demands")
    (published / "checkpoint").write_text("".join([*one[:-3], one[-3], one[-3], one[-3]]))
    refuse("not cosigned by the witnesses that the trust file demands")
    (published / "checkpoint").write_text(sign_checkpoint(Checkpoint(book.origin, 401, b"r" * 32), key))
    refuse("published otherwise", tmp_path / "bare")
    (published / "checkpoint").write_text(honest)
    for tile in ("tile/0/000", "tile/0/001.p/145"):
        path = published / tile
        if not path.exists():
            continue
        data = path.read_bytes()
        path.write_bytes(bytes(len(data)))
        refuse("published otherwise")
        path.unlink()
        refuse("lacks|published otherwise")
        path.write_bytes(data)
    with ledger.create(tmp_path / "another") as another:
        ledger.publish_log(another, tmp_path / "other-log")
        lines = (tmp_path / "bare").read_text() + another.trust_text()
    (tmp_path / "both").write_text(lines)
    with pytest.raises(VerificationError, match="the published log is"):
        ledger.verify(receipt, trust=tmp_path / "both", log=tmp_path / "other-log")
    ledger.verify(receipt, trust=trust, log=published)


def test_other_readers_stay_strict(book: ledger.Ledger, published: Path, tmp_path: Path) -> None:
    snapshot = book.snapshot("train-ai", output=tmp_path / "answers.parquet")
    with pytest.raises(IntegrityError, match="not cosigned"):
        ledger.load_snapshot(snapshot.path or "", trust=tmp_path / "trust")
    ledger.load_snapshot(snapshot.path or "", trust=tmp_path / "bare")


def test_two_of_three_from_beginning_to_end(
    book: ledger.Ledger, court: Court, tmp_path: Path, consent: Callable[..., Outcome]
) -> None:
    """By the command line: one witness is down; then one has seen another fork; then one is slow beyond the limit."""
    shutil.copytree(book.folder.path, tmp_path / "fork")
    urls = [word for witness in court.values() for word in ("--witness", witness.url)]
    receipt = tmp_path / "receipt"
    receipt.write_bytes(book.record(yes("u1")).receipt)
    verify = ("verify", receipt, "--trust", "trust")

    assert consent("log", "publish", "log").code == 0
    assert consent(*verify).code == consent(*verify, "--log", "log").code == 4, "nobody has cosigned"
    monitor = ("log", "monitor", "log", "--trust", "trust", "--state", "seen")
    assert consent(*monitor).code == 4

    court["beta"].manner = "503"
    told = consent("log", "cosign", *urls)
    assert told.code == 0 and f"warning: {court['beta'].url}: it answers 503" in told.err, told.err
    assert "is cosigned by alpha, gamma" in told.err
    assert consent("log", "publish", "log").code == 0
    assert consent(*verify, "--log", "log").code == 0 and consent(*verify).code == 4
    assert json.loads(consent(*monitor, "--format", "json").out)["witnesses"] == ["alpha", "gamma"]

    with ledger.open(tmp_path / "fork") as fork:
        fork.record_all(yes(f"f{number}") for number in range(9))
        court["beta"].manner = ""
        ledger.cosign_log(fork, [court["beta"].url])
    book.record_all(yes(f"u{number}") for number in range(20))
    told = consent("log", "cosign", *urls)
    assert told.code == 4 and court["beta"].url in told.err and "has seen another log" in told.err
    assert consent("log", "publish", "log").code == 0
    assert "cosigned by alpha, gamma" in consent(*monitor).out

    book.record(yes("u99"))
    court["gamma"].manner = "slow"
    told = consent("log", "cosign", "--timeout", "1", *urls[:2], *urls[4:])
    assert told.code == 1 and f"{court['gamma'].url}: it did not answer in time" in told.err
    assert "an earlier checkpoint, which enough have cosigned, is kept" in told.err
    told = consent("log", "publish", "log")
    assert told.code == 0 and "hint: 1 entries are beyond it" in told.err
    assert consent(*verify, "--log", "log").code == 0 and consent(*monitor).code == 0
    assert consent("log", "cosign").code == 2
    assert consent("log", "cosign", "--witness", "ftp://x").code == 2
