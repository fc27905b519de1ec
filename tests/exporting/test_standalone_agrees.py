"""verify.py and `ledger.verify` on the same documents: both take them, or both refuse them."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from standalone import Told, refused, run, verdict, verify

import ledger
from ledger.errors import VerificationError
from ledger.log import canonical, cosignature
from ledger.log import trust as trust_file
from ledger.log.cosignature import Witness
from ledger.log.keys import PrivateKey
from ledger.log.note import Verifier
from ledger.statements.receipt import open_event_receipt
from ledger.statements.statement import run_statement
from tests.report.mutants import WRONG, Maker, by_library, encoded
from tests.report.stories import tell
from tests.statements.paper_log import EVENT, NOON, PaperLog, audit_record, run_record

GUARDIAN = {
    **EVENT, "actor": "guardian", "category": "post", "expires_at": "2027-01-31T12:00:00.000000Z", "channel": "web",
    "content_since": EVENT["occurred_at"], "reason": "w\u2028hy", "notice": "n@1/en", "notice_sha256": "0" * 64,
    "jurisdiction": "DE", "evidence_sha256": "a" * 64, "event_id": "é\U0001f600\x7f"}  # fmt: skip
NO: dict[str, Any] = {
    "event_id": "e2", "state": "withdrawn", "subject_id": "u1", "purposes": ["*"], "actor": "subject",
    "recorded_at": EVENT["recorded_at"], "recorded_by": "user:ann"}  # fmt: skip


# Statements


def by_standalone(data: bytes, trust: Any) -> str:
    def check() -> None:
        statement, histories = verify.Statement(data, trust), verify.Histories()
        for receipt in (statement.snapshot, statement.logged):
            histories.meet(receipt.origin, receipt.size, receipt.roots)

    return refused(check)


@pytest.mark.parametrize("seed", [100, 101])
def test_statements_that_are_nearly_right(seed: int) -> None:
    maker = Maker(seed)
    cases = [maker.good(), *maker.mutants(200)]
    trust = verify.Trust(maker.log.trust_text)
    found = [(by_library(case, maker.log.trust), by_standalone(case, trust), case) for case in cases]
    assert [each for each in found if bool(each[0]) != bool(each[1])] == []
    assert found[0][:2] == ("", "")
    assert 10 < sum(not ours for ours, _, _ in found) < 130
    assert len({theirs for _, theirs, _ in found}) > 20


# Event receipts


def receipt_mutants(seed: int, count: int) -> tuple[PaperLog, Iterator[bytes]]:
    log, dice = PaperLog(), random.Random(seed)
    log.fill(dice.randrange(40))

    def event() -> bytes:
        """What stands in it, at any depth, is another, and the log has it all the same."""
        said = copy.deepcopy(dice.choice([EVENT, GUARDIAN, NO]))
        for _ in range(dice.choice([0, 1, 1, 2])):
            where, key = dice.choice([(said, name) for name in said] + [(said["purposes"], 0)])
            how = dice.randrange(5)
            if how == 0:
                where[key] = copy.deepcopy(dice.choice(WRONG))
            elif how == 1 and where is said:
                del said[key]
                said.setdefault("purposes", ["train-ai@2"])
            elif how == 2:
                other = dice.choice([*GUARDIAN])
                said[other] = copy.deepcopy(GUARDIAN[other])
            elif how == 3:
                said["purposes"] = dice.choice([["*"], ["*", "a@1"], ["a@1", "a@1"], ["b@1", "a@1"], ["a@01"], ["@1"], ["a"]])
            else:
                said["state"] = dice.choice(["given", "renewed", "refused", "objected", "granted"])
            if not isinstance(said.get("purposes"), list) or not said["purposes"]:
                break
        try:
            return log.log_event(said)
        except (ValueError, TypeError):
            return encoded(said)

    def raw() -> bytes:
        data = bytearray(event())
        at = dice.randrange(len(data))
        how = dice.randrange(4)
        if how == 0:
            data[at] ^= 1 << dice.randrange(8)
        elif how == 1:
            del data[at]
        elif how == 2:
            data.insert(at, dice.choice(b" \n\0{A0"))
        else:
            del data[at:]
        return bytes(data)

    def proof() -> bytes:
        receipt = json.loads(log.log_event(copy.deepcopy(dice.choice([EVENT, NO, GUARDIAN]))))
        how = dice.randrange(8)
        if how == 0:
            receipt["proof"] = receipt["proof"].replace("\nindex ", "\nindex 0", 1)
        elif how == 1:
            receipt["proof"] += "— stranger AAAAAAAA\n"
        elif how == 2:
            receipt["proof"] = receipt["proof"].replace("@v1\n", "@v1\nextra AAAA\n", 1)
        elif how == 3:
            receipt["proof"] += receipt["proof"].split("\n\n")[2]
        elif how == 4:
            receipt[dice.choice(["salt", "tag"])] = canonical.encode_base64(bytes(dice.choice([31, 32, 33])))
        elif how == 5:
            receipt["proof"] = receipt["proof"].replace("\n\n— ", dice.choice(["\n\n- ", "\n\n—  ", "\n\n\n— ", "\n— "]))
        elif how == 6:
            receipt[dice.choice(["surplus", "act", "format", "event"])] = "x"
        return encoded(receipt)

    def some() -> Iterator[bytes]:
        for number in range(count):
            yield (event, raw, proof)[number % 3]()

    return log, some()


@pytest.mark.parametrize("seed", [1])
def test_receipts_that_are_nearly_right(seed: int) -> None:
    log, cases = receipt_mutants(seed, 450)
    trust, outcomes = verify.Trust(log.trust_text), []
    for case in cases:
        try:
            ours = open_event_receipt(case, log.trust).roots
        except VerificationError:
            ours = None
        reader: list[Any] = []
        why = refused(lambda data, to: to.append(verify.Receipt(data, trust)), case.removesuffix(b"\n"), reader)
        # The library takes a line with or without its newline; verify.py asks for one where it reads a file.
        theirs = None if why or not reader[0].is_event else {**reader[0].roots}
        if ours is not None and 0 in ours:
            ours = {size: root for size, root in ours.items() if size}
        assert ours == theirs, (case, why)
        outcomes.append(ours is not None)
    assert 80 < sum(outcomes) < 300


# Trust files


LOG_KEY, RUN_KEY = PrivateKey.generate(), PrivateKey.generate()
LOG, RUN = Verifier.of("paper.example/log", LOG_KEY.public).vkey, Verifier.of("paper.example/log/run", RUN_KEY.public).vkey
WITNESSES = {name: PrivateKey.generate() for name in ("w1.example", "w2.example", "w3.example")}
W1, W2, W3 = (Witness(name, key.public).vkey for name, key in WITNESSES.items())
FULL = (
    f"# ours\nlog {LOG} https://log.example until 9\nlog {LOG}\nrun {RUN}\n\twitness a {W1}\r\nwitness b {W2} http://b.example/x\n"
    f"witness c {W3}\ngroup two 2 a b c\ngroup all all two a\ngroup one any b c\nquorum two\n"
)
LINES = [
    f"log {LOG}", f"log {LOG} until 9", f"log {LOG} until 09", f"log {LOG} until {10**18}", f"log {LOG} until {2**63}",
    f"log {LOG} until {10**19}", f"log {LOG} until", f"log {LOG} ftp://x", f"log {LOG} http://x", f"log {LOG} http://é", "log",
    f"log {W1}", f"log {LOG} {LOG}", f"run {RUN}", f"run {RUN} {RUN}", "run", f"run {W1}", f"run {RUN}=", f"witness d {W1}",
    f"witness none {W1}", f"witness w {W1}", f"witness w {LOG}", "witness w", f"witness a {W2}", f"witness a {W2} http://a x",
    f"witness w {Witness('w.example', LOG_KEY.public).vkey}", f"witness w {Witness('w.example', RUN_KEY.public).vkey}",
    "group g 1 a", "group g 0 a", "group g 2 a", "group g any a b", "group g all a b", "group g 1 a a", "group g 1 g",
    "group g 01 a", "group none 1 a", "group two 1 a", "group g", "group g 1", f"group g {'9' * 30} a", "quorum a", "quorum none",
    "quorum two", "quorum", "quorum a b", "quorum nobody", "quorum g", "#x", "# log", "", " \t", "log\x1fx", "\ufeff#", "x",
    f"log {LOG}\x0b", f"log {LOG}\x85", f"log\u00a0{LOG}", f"LOG {LOG}", "_require_new x", "trust", f"log {LOG} # ours",
]  # fmt: skip


def trust_agrees(text: str) -> bool:
    try:
        trust_file.parse(text)
        ours = True
    except VerificationError:
        ours = False
    assert ours is not bool(refused(verify.Trust, text)), text
    return ours


def test_trust_files_that_are_nearly_right() -> None:
    dice, taken, count = random.Random(6), 0, 0
    assert trust_agrees(FULL)
    for line in LINES:
        for text in (
            line,
            f"log {LOG}\n{line}\nquorum none",
            f"witness a {W1}\n{line}\nquorum a",
            f"{FULL}{line}\n",
            f"{line}\n{FULL}",
        ):
            taken, count = taken + trust_agrees(text), count + 1
    for _ in range(1500):
        text = list(FULL)
        at = dice.randrange(len(text))
        how = dice.randrange(4)
        if how == 0:
            text[at] = dice.choice("\0 \n\t\rA0+=#é\u00a0\x85")
        elif how == 1:
            del text[at]
        elif how == 2:
            text.insert(at, dice.choice("\0 \n\t\rA0+=#é\u00a0\x85"))
        else:
            lines = "".join(text).split("\n")
            del lines[dice.randrange(len(lines))]
            dice.shuffle(lines)
            text = list("\n".join(lines))
        taken, count = taken + trust_agrees("".join(text)), count + 1
    assert 150 < taken < count - 400


@pytest.mark.parametrize("quorum", ["a", "two", "all", "one", "none"])
def test_quorums_of_witnesses(quorum: str) -> None:
    log = PaperLog(log_key=LOG_KEY, run_key=RUN_KEY)
    log.fill(11)
    receipt = json.loads(log.log_event())
    text, lines = receipt["proof"].rpartition("\n\n")[0].partition("\n\n")[2] + "\n", {}
    for name, key in WITNESSES.items():
        lines[name] = cosignature.cosign(text, name, key, 1767139200)
    later = cosignature.cosign(text, "w1.example", WITNESSES["w1.example"], 1767139300)
    wrong = cosignature.cosign(text + "x\n", "w1.example", WITNESSES["w1.example"], 1767139200)
    no_time = cosignature.cosign(text, "w2.example", WITNESSES["w2.example"], 0)
    stranger = cosignature.cosign(text, "w9.example", WITNESSES["w1.example"], 1767139200)
    full = FULL.replace("until 9", f"until {10**6}").replace("quorum two", f"quorum {quorum}")
    taken = []
    for some in ([], ["1"], ["2"], ["1", "2"], ["2", "3"], ["1", "2", "3"]):
        for more in ("", later, wrong, no_time, stranger):
            for trust_text in (full, full.replace(f"until {10**6}", "until 11"), f"log {LOG}\n"):
                proof = receipt["proof"] + "".join(lines[f"w{n}.example"] for n in some) + more
                data = encoded({**receipt, "proof": proof})
                try:
                    open_event_receipt(data, trust_file.parse(trust_text))
                    ours = True
                except VerificationError:
                    ours = False
                assert ours is not bool(refused(verify.Receipt, data, verify.Trust(trust_text))), (some, more, trust_text)
                taken.append(ours)
    assert 3 < sum(taken) < len(taken) - 3


# Files: what both programs say of them


@pytest.fixture
def made(tmp_path: Path) -> Any:
    made = SimpleNamespace(
        log=PaperLog(), out=tmp_path / "out", statement=tmp_path / "out.intoto.jsonl", trust=tmp_path / "trust"
    )
    made.log.fill(3)
    (made.out / "b").mkdir(parents=True)
    (made.out / "a.parquet").write_bytes(b"kept")
    (made.out / "b/a.parquet").write_bytes(b"kept b")
    made.trust.write_text(made.log.trust_text)
    line = made.log.seal(run_statement(run_record(made.log.log_snapshot())))
    made.statement.write_bytes(line + b"\n" + made.log.log_statement(line) + b"\n")
    return made


def agree(trust: Path, *paths: Path, signature_only: bool = False) -> Told:
    try:
        ledger.verify(*paths, trust=trust, signature_only=signature_only)
        ours = True
    except VerificationError:
        ours = False
    told = verdict(trust, *paths, signature_only=signature_only)
    assert (told.code == 0) is ours, (paths, told)
    assert "cannot be understood" not in told.err
    return told


def test_a_run_with_its_shards(made: Any) -> None:
    for path in (made.out, made.statement):
        told = agree(made.trust, path)
        assert told.code == 0
        assert "the folder holds exactly the 2 shards" in told.out
        assert "NOT checked: whether the rows were decided rightly" in told.out
    told = run("--trust", made.trust, made.out)
    assert (told.code, told.err, told.out.split("\n")[-2]) == (0, "", "VERIFIED, but for what is said to be NOT")


def test_folders_that_are_not_those_of_their_statement(made: Any, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"kept")
    for name, content, code in (
        ("c.parquet", b"x", 4), ("_SUCCESS", b"", 0), (".a.parquet.crc", b"x", 0), ("_c.parquet", b"x", 4), ("_c", b"xPAR1", 4),
        (".hidden/x", b"PARE", 4), ("_x/y", b"y", 0), ("README", b"x", 4), ("b/.x.PARQUET", b"", 4), ("a.parquet", b"other", 4),
    ):  # fmt: skip
        path, before = made.out / name, None
        path.parent.mkdir(exist_ok=True)
        before = path.read_bytes() if path.exists() else None
        path.write_bytes(content)
        assert agree(made.trust, made.out).code == code, name
        assert agree(made.trust, made.out, signature_only=True).code == 0
        path.write_bytes(before) if before is not None else path.unlink()
    for name, target in (("_link", elsewhere), ("link.parquet", elsewhere), (".broken", tmp_path / "no"), ("_d", tmp_path)):
        (made.out / name).symlink_to(target)
        told = agree(made.trust, made.out)
        (made.out / name).unlink()
        assert told.code in (0, 4), name
    (made.out / "a.parquet").unlink()
    assert "lacks 'a.parquet'" in agree(made.trust, made.out).err
    (made.out / "a.parquet").symlink_to(elsewhere)
    assert "is a link" in agree(made.trust, made.out).err


def test_snapshots_and_receipts_in_files(made: Any, tmp_path: Path) -> None:
    from tests.statements.paper_log import sha256

    (tmp_path / "s.parquet").write_bytes(b"file")
    (tmp_path / "s.parquet.receipt").write_bytes(made.log.log_snapshot() + b"\n")
    assert agree(made.trust, tmp_path / "s.parquet").code == agree(made.trust, tmp_path / "s.parquet.receipt").code == 0
    (tmp_path / "s.parquet").write_bytes(b"other")
    assert agree(made.trust, tmp_path / "s.parquet").code == 4
    assert agree(made.trust, tmp_path / "s.parquet", signature_only=True).code == 0
    (tmp_path / "s.parquet.receipt").write_bytes(
        made.log.log_act("statement_made", statement_sha256=sha256(b""), predicate_type="x")
    )
    assert agree(made.trust, tmp_path / "s.parquet").code == 4
    line = made.log.log_event()
    for content, code in (
        (line + b"\n", 0), (line, 4), (line + b"\n\n", 4), (b"", 4), (b"\n", 4), (b"{}\n", 4), (b'{"format":["x"]}\n', 4),
        (b"[" * 100_000 + b"\n", 4), (b'{"a":' * 50_000 + b"\n", 4), (b'{"a":' + b"9" * 5000 + b"}\n", 4), (b"\xff\n", 4),
        (b"PAR1", 4), (b" " * (3 << 20), 4),
    ):  # fmt: skip
        (tmp_path / "e").write_bytes(content)
        assert agree(made.trust, tmp_path / "e").code == code, content[:50]


def test_two_histories_of_one_log(made: Any, tmp_path: Path) -> None:
    fork = PaperLog(made.log.origin, made.log.log_key, made.log.run_key, leaves=made.log.leaves[:2])
    (tmp_path / "one").write_bytes(made.log.log_event() + b"\n")
    fork.fill(len(made.log.leaves) - 3)
    (tmp_path / "two").write_bytes(fork.log_event() + b"\n")
    told = agree(made.trust, tmp_path / "one", tmp_path / "two")
    assert (told.code, "two histories" in told.err) == (4, True)
    assert agree(made.trust, tmp_path / "one", made.out).code == 0


def test_a_real_ledger_and_a_real_run(tmp_path: Path) -> None:
    story = tell(tmp_path)
    trust = tmp_path / "trust"
    trust.write_text(story.trust)
    for number, event in list(story.book.events()):
        assert event.event_id is not None
        (tmp_path / f"{number}").write_bytes(story.book.receipt(event.event_id))
        assert agree(trust, tmp_path / f"{number}").code == 0
    (snapshot,) = (tmp_path / "consent-ledger" / "snapshots").glob("*.parquet")
    told = run("--trust", trust, story.train, snapshot, cwd=tmp_path)
    assert told.code == agree(trust, story.train, snapshot).code == 0, told
    assert "24 kept" in told.out
    shard = next(story.train.rglob("*.parquet"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(bytes(data))
    told = run("--trust", trust, story.train)
    assert (told.code, told.out.endswith("\n")) == (4, True)
    assert "DOES NOT VERIFY: 'a.parquet' is not the shard" in told.err or "b/b.parquet" in told.err
    story.book.close()


def test_statements_of_runs_and_audits_on_paper() -> None:
    from ledger.statements.audit_statement import AUDIT, audit_statement

    log = PaperLog()
    trust, subjects = verify.Trust(log.trust_text), {"root": "a" * 64, "seed": "b" * 64, "count": 3}
    logged = {"subjects_root": "a" * 64, "subjects_seed": "b" * 64}
    for more, act in (({}, {}), ({"subjects": subjects}, logged), ({"subjects": subjects}, {}), ({}, logged)):
        for kind in ("run", AUDIT):
            if kind == "run":
                line, fields = log.seal(run_statement(run_record(log.log_snapshot(), decided_at=NOON, **more))), act
            else:
                line = log.seal(audit_statement(audit_record(log.log_snapshot(), **more)))
                fields = {"predicate_type": AUDIT, **act}
            data = line + b"\n" + log.log_statement(line, **fields) + b"\n"
            assert bool(by_library(data, log.trust)) is bool(by_standalone(data, trust)) is (bool(more) != bool(act))
            assert by_standalone(line + b"\n", trust) and by_standalone(data + b"\n", trust) and by_standalone(data[:-1], trust)
