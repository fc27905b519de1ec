"""Targets of what others publish and answer, and of the verifier that stands alone (`ledger/exporting/verify.py`).

That one is fuzzed beside the library: what one of the two takes and the other refuses is a find.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger import monitoring
from ledger.errors import ConsentLedgerError, IntegrityError, VerificationError
from ledger.log import bundle, canonical, cosignature, merkle, note, prefix_tree, tiles, trust
from ledger.log.checkpoint import sign_checkpoint
from ledger.log.entry import act_entry, event_body, event_entry
from ledger.log.prefix_tree import PrefixTree, Proof
from ledger.monitoring import monitor_log
from ledger.statements import audit_statement, receipt, selection_statement, verify
from ledger.statements.membership import membership, open_membership
from ledger.statements.statement import run_statement
from ledger.store import journal
from ledger.store.folder import Folder
from ledger.witnessing import _Asking
from tests.fuzz.target import (
    LOG,
    ORIGIN,
    SEEN_BY,
    TRUST,
    TRUST_LINES,
    WITNESS,
    WITNESSED,
    Target,
    in_log,
    of_text,
    paper,
    require,
)
from tests.statements.paper_log import EVENT, SALT, audit_record, run_record, selection_record

second: Any = importlib.import_module("ledger.exporting.verify")
"""By its name, so that it is instrumented."""
_slow_signed_by = second.signed_by
_PROOF = (VerificationError,)


def _openssl(key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _document(data: bytes) -> dict[str, Any]:
    """Any JSON object that has a canonical form. Raises VerificationError."""
    try:
        return canonical.decode(canonical.encode(json.loads(data)))
    except (ValueError, RecursionError, TypeError) as error:
        raise VerificationError("no document") from error


# What others publish


def _bundle(data: bytes) -> None:
    if data:
        found = bundle.parse(data[1:], data[0] + 1)
        require(len(found) == data[0] + 1 and bundle.encode(found) == data[1:], "a bundle has another form too")


_TREE = PrefixTree((prefix_tree.index(SALT, f"u{number}"), bytes([number]) * 32) for number in range(5))


def _prefix_proof(data: bytes) -> None:
    """A subject, where a path may end, and the path: nothing but the truth can be proven."""
    if len(data) > 2:
        number, rest = data[0], data[2:]
        hashes = [rest[at : at + 32] for at in range(0, len(rest), 32)]
        end = (hashes[0], hashes[1]) if data[1] and len(hashes) > 1 else None
        index = prefix_tree.index(SALT, f"u{number}")
        found = prefix_tree.verify(Proof(tuple(hashes[2:] if end else hashes), end), index, _TREE.root())
        require(found == (number < 5), "a lie was proven")


def _prefix_proofs() -> list[bytes]:
    found = []
    for number in range(8):
        proof = _TREE.prove(prefix_tree.index(SALT, f"u{number}"))
        found.append(bytes([number, proof.end is not None]) + b"".join((*(proof.end or ()), *proof.path)))
    return found


_HEAD = sign_checkpoint(paper().checkpoint(), LOG)
_COSIGNATURE = cosignature.cosign(note.parse(_HEAD)[0], SEEN_BY.name, WITNESS, 1767139200)


def _answer(data: bytes) -> None:
    lines = _Asking._lines(SimpleNamespace(note=_HEAD, _policy=WITNESSED.policy), data)  # type: ignore[arg-type]
    require(set(lines) == {"w"} and WITNESSED.open(_HEAD + "".join(lines.values())).size == 5, "an answer that is no cosignature")


@cache
def _place() -> Path:
    """A folder for files to be read, of this process."""
    place = tempfile.mkdtemp(prefix="consent-fuzz-")
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return Path(place)


def _cosigned(data: bytes) -> None:
    (_place() / "cosigned").write_bytes(data)
    WITNESSED.open(Folder.cosigned(SimpleNamespace(path=_place())) or "")  # type: ignore[arg-type]


_ENTRIES = [sha256(b"%d" % number).digest() for number in range(5)]
_FILES = {
    "checkpoint": _HEAD.encode(),
    tiles.tile_path(0, 0, 5): b"".join(paper().leaves),
    tiles.entries_path(0, 5): bundle.encode(_ENTRIES),
}


def _published(data: bytes) -> None:
    """One of the files is another; it must not matter, or be found."""
    place = _place() / "log"
    names = list(_FILES)
    changed = names[data[0] % len(names)] if data else names[0]
    for name, content in _FILES.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data[1:] if name == changed else content)
    state = _place() / "state"
    state.write_bytes(_FILES["checkpoint"])
    found = monitor_log(place, trust=TRUST, state=state)
    require(found.checkpoint == paper().checkpoint(), "another log")
    require(changed == "checkpoint" or data[1:] == _FILES[changed], "a changed file was not found")


def _state(data: bytes) -> None:
    path = _place() / "last"
    path.write_bytes(data)
    found = monitoring._last(path, TRUST)
    require(found is not None and found.origin == ORIGIN, "a state that says nothing")


def _journal(data: bytes) -> None:
    path = _place() / journal.NAME
    path.write_bytes(data)
    for order in journal._read.__wrapped__(path, None).values():
        require(order.acts is None or (order.acts.end > order.acts.position >= 0 and order.acts.recorded_at), "no acts")


_JOURNAL = [
    canonical.encode(line) + b"\n"
    for line in (
        {"at": EVENT["recorded_at"], "basis": "b", "by": "user:ann", "order": "o1", "tag": "0" * 64},
        {
            "canonical": [canonical.encode({"act": "subject_erased", "recorded_at": EVENT["recorded_at"]}).decode()],
            "note": _HEAD, "order": "o1", "position": 4, "salt": [canonical.encode_base64(SALT)],
        },
        {"done": EVENT["recorded_at"], "order": "o1"},
    )
]  # fmt: skip


# Both verifiers


def _both(first: Callable[[], object], other: Callable[[], object]) -> None:
    """They agree. Raises VerificationError where both refuse."""
    refusal = None
    try:
        first()
    except VerificationError as error:
        refusal = error
    try:
        other()
    except second.Refused as error:
        require(refusal is not None, f"only the one that stands alone refuses: {error}")
    else:
        require(refusal is None, f"only the library refuses: {refusal}")
    if refusal is not None:
        raise refusal


def _second_trust(text: str = TRUST_LINES) -> Any:
    """Signatures by OpenSSL, which is 100 times as quick: Ed25519 has a target of its own."""
    second.signed_by = _openssl
    return second.Trust(text)


def _ed25519(data: bytes) -> None:
    key, signature, message = data[:32], data[32:96], data[96:]
    taken = _slow_signed_by(key, message, signature)
    require(not taken or _openssl(key, message, signature), "a signature that OpenSSL refuses")
    require(taken or not _openssl(key, message, signature) or not second.public_key(key), "a signature that only OpenSSL takes")


def _both_canonical(data: bytes) -> None:
    _both(lambda: canonical.decode(data), lambda: second.from_canonical(data, 1 << 20))


def _both_trusts(text: str) -> None:
    def theirs() -> object:
        try:
            return _second_trust(text)
        except second.Refused as error:
            if "Ed25519 allows" in str(error):  # it is stricter
                raise VerificationError("a weak key") from error
            raise

    _both(lambda: trust.parse(text), theirs)


def _both_notes(text: str) -> None:
    _both(lambda: WITNESSED.open(text), lambda: _second_trust(_WITNESSED_LINES).open_checkpoint(text))


def _both_receipts(data: bytes) -> None:
    """Any object, as an act or an event that is in the log."""
    said = _document(data)
    if "act" in said:
        line = receipt.act_receipt(said, SALT, in_log(act_entry(SALT, canonical.encode(said))))
        _both(lambda: receipt.open_act_receipt(line, TRUST), lambda: second.Receipt(line, _second_trust()))
        return
    tag = b"t" * 32
    event = canonical.encode(said)
    line = receipt.event_receipt(event, SALT, tag, in_log(event_entry(tag, event_body(SALT, event))))
    _both(lambda: receipt.open_event_receipt(line, TRUST), lambda: second.Receipt(line, _second_trust()))


def _both_statements(data: bytes) -> None:
    """Any object, as a statement that is signed and in the log."""
    log = paper()
    log.log_snapshot()
    said = _document(data)
    line, predicate = log.seal(canonical.encode(said)), said.get("predicateType")
    document = line + b"\n" + log.log_statement(line, predicate_type=predicate if isinstance(predicate, str) else "x") + b"\n"
    _both(lambda: verify.open_statement(document, TRUST), lambda: second.Statement(document, _second_trust()))


def _both_memberships(data: bytes) -> None:
    """Any object, as a document; where its `act` is an object, that is in the log."""
    said = _document(data)
    act = said.get("act")
    if isinstance(act, dict):
        said["act"] = receipt.act_receipt(act, SALT, in_log(act_entry(SALT, canonical.encode(act)))).decode()
    line = canonical.encode(said) + b"\n"
    _both(lambda: open_membership(line, TRUST).sentence(), lambda: second.Membership(line, _second_trust()).sentence)


# The one that stands alone


def _export(data: bytes) -> None:
    """Whatever export.json says of files that are in order."""
    files = {**_paper_export(), "export.json": data}
    trusted, histories = _second_trust(), second.Histories()
    second.Export(set(files), lambda name, limit: files[name], trusted, histories, lambda said: None).check()
    histories.sentences()


def _joined(data: bytes) -> None:
    histories = second.Histories()
    histories.meet(ORIGIN, 3, {3: paper().checkpoint(3).root})
    histories.join(data, _second_trust())


def _joining() -> bytes:
    log = paper()
    proof = merkle.consistency_proof(3, 5, log.node)
    return "\n".join(["old 3", *map(canonical.encode_base64, proof), "", _HEAD]).encode()


def _zip(data: bytes) -> None:
    path = _place() / "export.zip"
    path.write_bytes(data)
    names, read = second.zip_reader(path)
    for name in sorted(names)[:20]:
        with contextlib.suppress(second.Refused):
            read(name, 1 << 20)


_NAMES = ("export.zip", "run.intoto.jsonl", "document", "snapshot.receipt", "export/export.json", "trust")


def _main(data: bytes) -> None:
    """The whole program, on a file of each kind."""
    if not data:
        return
    _second_trust()
    name, place = _NAMES[data[0] % len(_NAMES)], _call()
    changed = place / name
    good = changed.read_bytes() if changed.exists() else None
    changed.write_bytes(data[1:])
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        path = changed if good is None else place / "export"
        code = second.main(["--trust", str(place / "trust"), "--signature-only", str(path)])
    if good is None:
        changed.unlink()
    else:
        changed.write_bytes(good)
    require(code in (0, 4) or (code == 1 and "COULD NOT BE READ" in err.getvalue()), f"it ends with {code}")
    require((code == 0) == out.getvalue().endswith("VERIFIED, but for what is said to be NOT\n"), "it says another thing")
    require("cannot be understood" not in err.getvalue(), err.getvalue())


@cache
def _call() -> Path:
    """A folder with a trust file and an export."""
    place = _place() / "call"
    (place / "export").mkdir(parents=True)
    (place / "trust").write_text(TRUST_LINES)
    for name, content in _paper_export().items():
        (place / "export" / name).write_bytes(content)
    return place


# Seeds


_WITNESSED_LINES = f"{TRUST_LINES}witness w {SEEN_BY.vkey}\ngroup g 1 w\nquorum g\n"


@cache
def _paper_export() -> dict[str, bytes]:
    """An export by its files, with all that one can have."""
    log, text = paper(), b"We train on posts."
    declared = [
        log.log_act("purpose_declared", token=token, version=version, title="T", description="D", basis="consent")
        for token, version in (("search", 1), ("train-ai", 2))
    ]
    declared.append(log.log_act("notice_declared", notice_id="n", version=1, language="en", sha256=sha256(text).hexdigest()))
    shown = {**EVENT, "event_id": "e2", "notice": "n@1/en", "notice_sha256": sha256(text).hexdigest()}
    events = [log.log_event(), log.log_event(shown)]
    made = log.log_snapshot()
    line = log.seal(run_statement(run_record(made)))
    files = {"run.intoto.jsonl": line + b"\n" + log.log_statement(line) + b"\n", "notice.txt": text}
    head = log.checkpoint()
    said: dict[str, Any] = {
        "format": "urn:consent-ledger:export:v1", "origin": ORIGIN, "subject_id": "u1", "made_at": EVENT["recorded_at"],
        "checkpoint": sign_checkpoint(head, LOG),
        "notices": [{"sha256": sha256(text).hexdigest(), "file": "notice.txt", "text": text.decode()}],
        "decisions": [{"purpose": "train-ai@2", "category": "post", "reason": "allowed", "sentence": "yes"}],
        "runs": [{"statement": "run.intoto.jsonl", "sentences": ["s"]}],
        "consistency": ["old-10"],
    }  # fmt: skip
    lines = ["old 10", *map(canonical.encode_base64, merkle.consistency_proof(10, head.size, log.node)), ""]
    files["old-10"] = ("\n".join(lines) + "\n" + sign_checkpoint(head, LOG)).encode()
    for kind, field, lines_of in (("acts", "act", declared), ("events", "event", events)):
        said[kind] = []
        for one in lines_of:
            found = canonical.decode(one)
            position = int(found["proof"].split("\nindex ")[1].split("\n")[0])
            name = f"{position}.receipt"
            files[name] = one + b"\n"
            said[kind].append({field: found[field], "position": position, "receipt": name})
    return {"export.json": canonical.encode(said) + b"\n", **files}


def _memberships() -> list[bytes]:
    """Of a snapshot and of a run; of one who is in it, and of one who is not."""
    log, said, blind = (
        paper(),
        {"rows": [{"scope": "everything", **_NO_OF}, {"scope": "category", "scope_id": "post", **_YES_OF}]},
        SALT,
    )
    found = []
    for number in (2, 1, 0):
        snapshot = number == 2
        of_u1 = prefix_tree.value(blind if snapshot else b"", said if snapshot else {"rows": 3})
        leaves = [(prefix_tree.index(SALT, "u1"), of_u1), (prefix_tree.index(SALT, "u2"), bytes(32))][: number or None]
        tree = PrefixTree(leaves)
        fields = {"subjects_root": tree.root().hex(), "subjects_seed": SALT.hex()}
        act = log.log_snapshot(**fields) if snapshot else log.log_statement(b"s", **fields)
        proofs = {who: tree.prove(prefix_tree.index(SALT, who)) for who in ("u1", "v1")}
        found.append(membership("v1", act, proofs["v1"]))
        found.append(
            membership("u1", act, proofs["u1"], said=said if snapshot else {"rows": 3}, blind=blind if snapshot else b"")
        )
    return found


_NO_OF = {"no_at": EVENT["recorded_at"], "no_state": "withdrawn", "no_position": 7}
_YES_OF = {"yes_at": EVENT["recorded_at"], "yes_position": 8, "yes_accepted": 1, "yes_basis": "session"}


def _opened_memberships() -> list[bytes]:
    """With the act itself in the receipt's place."""
    found = []
    for line in _memberships():
        document = canonical.decode(line)
        found.append(canonical.encode({**document, "act": canonical.decode(document["act"].encode())["act"]}))
    return found


def _logged() -> list[bytes]:
    files = _paper_export()
    found = [canonical.decode(content[:-1]) for name, content in files.items() if name.endswith(".receipt")]
    return [canonical.encode(one["event" if "event" in one else "act"]) for one in found]


def _statement_payloads() -> list[bytes]:
    log = paper()
    made = log.log_snapshot()
    return [
        run_statement(run_record(made)),
        audit_statement.audit_statement(audit_record(made)),
        selection_statement.selection_statement(selection_record(made)),
    ]


def _signed() -> list[bytes]:
    return [LOG.public.raw + LOG.sign(message) + message for message in (b"", b"x")]


def _zips() -> list[bytes]:
    found = []
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", kind) as archive:
            archive.writestr(zipfile.ZipInfo("export.json"), b"{}\n" * 20, kind)
            archive.writestr(zipfile.ZipInfo("a/b"), b"", kind)
        found.append(out.getvalue())
    return found


def _mains() -> list[bytes]:
    files = _paper_export()
    made, receipts = _memberships(), [content for name, content in files.items() if name.endswith(".receipt")]
    act = canonical.decode(made[0])["act"].encode() + b"\n"
    kinds = [
        (0, _zips()[0]),
        (1, files["run.intoto.jsonl"]),
        (2, made[1] + b"\n"),
        (2, receipts[-1]),
        (3, act),
        (4, files["export.json"]),
        (5, TRUST_LINES.encode()),
    ]
    return [bytes([kind]) + content for kind, content in kinds]


_REFUSED = (second.Refused,)

TARGETS: Mapping[str, Target] = {
    "bundle": Target(_bundle, _PROOF, lambda: [b"\x04" + _FILES[tiles.entries_path(0, 5)], b"\0\0\0"]),
    "prefix-proof": Target(_prefix_proof, _PROOF, _prefix_proofs),
    "membership": Target(lambda data: open_membership(data, TRUST).sentence(), _PROOF, _memberships),
    "witness-answer": Target(_answer, _PROOF, lambda: [_COSIGNATURE.encode()]),
    "cosigned": Target(_cosigned, (ConsentLedgerError,), lambda: [(_HEAD + _COSIGNATURE).encode()]),
    "published": Target(
        _published, (ConsentLedgerError,), lambda: [bytes([at]) + content for at, content in enumerate(_FILES.values())]
    ),
    "monitor-state": Target(_state, (IntegrityError,), lambda: [_HEAD.encode()]),
    "order-journal": Target(_journal, (IntegrityError,), lambda: [b"".join(_JOURNAL), *_JOURNAL[:1]]),
    "both-canonical": Target(_both_canonical, _PROOF, lambda: [canonical.encode(EVENT), *_logged()]),
    "both-trust": Target(of_text(_both_trusts), _PROOF, lambda: [_WITNESSED_LINES.encode()]),
    "both-checkpoint": Target(of_text(_both_notes), _PROOF, lambda: [(_HEAD + _COSIGNATURE).encode()]),
    "both-receipt": Target(_both_receipts, _PROOF, _logged),
    "both-statement": Target(_both_statements, _PROOF, _statement_payloads),
    "both-membership": Target(_both_memberships, _PROOF, lambda: [*_memberships(), *_opened_memberships()]),
    "alone-ed25519": Target(_ed25519, (), _signed),
    "alone-export": Target(_export, _REFUSED, lambda: [_paper_export()["export.json"]]),
    "alone-consistency": Target(_joined, _REFUSED, lambda: [_joining()]),
    "alone-zip": Target(_zip, (*_REFUSED, OSError), _zips),
    "alone-main": Target(_main, (), _mains),
}
