"""`ledger.export_subject`: all that the ledger has of one person, as a ZIP. The ledger is only read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from importlib import import_module
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

from ledger import consent, times
from ledger.book import Ledger
from ledger.consent import Purpose
from ledger.errors import ConsentLedgerError, IntegrityError, UsageError
from ledger.exporting import archive, words
from ledger.exporting.gathering import Entry, Gathered, Run, gather
from ledger.log import canonical
from ledger.log.note import Verifier
from ledger.log.trust import Trust
from ledger.statements.verify import STATEMENT_SUFFIX, open_statement, read_statement, statement_path

FORMAT = "urn:consent-ledger:export:v1"


def export_subject(book: Ledger, subject_id: str, output: str | Path, *, runs: Sequence[str | Path] = ()) -> Gathered:
    """Write the export of one person into a ZIP file, in place of what has its name.

    runs: folders of shards, or their statements, for each of which it is proven what was decided for the person, and whether
    anything of theirs is in the output. Raises UsageError for an id that can be none, VerificationError for a run of which
    nothing can be proven, ConsentLedgerError where Jinja2, of the extra `web`, is not installed.
    """
    consent.check_id("subject", subject_id)
    output = Path(output)
    if output.is_dir():
        raise UsageError(f"{output} is a folder", hint="name the file to write, as in -o export.zip")
    try:
        from ledger.exporting import page
    except ModuleNotFoundError as error:
        raise ConsentLedgerError(
            f"an export has a page, and that needs the package {error.name}",
            hint="install it with pip install 'consent-ledger[web]'",
        ) from error
    trust = _trust(book)
    opened = [_open(book, Path(run), subject_id, trust) for run in runs]
    anchors, cosigned = book.folder.read_anchors(), book.folder.cosigned()
    found: Gathered = book.read(
        partial(
            gather,
            origin=book.origin,
            subject_id=subject_id,
            anchors=anchors,
            tag_key=book.folder.tag_key,
            runs=opened,
            cosigned=cosigned,
        ),
        as_it_stands=True,
    )
    content = _files(found)
    content["export.json"] = canonical.encode(document(found)) + b"\n"
    content["index.html"] = page.html(found).encode()
    content["README.txt"] = page.readme(found).encode()
    content["verify.py"] = resources("ledger.exporting").joinpath("verify.py").read_bytes()
    archive.write(output, content)
    return found


def _trust(book: Ledger) -> Trust:
    """The log's keys, and every run key that it ever admitted: a run of a key that was ended since is in the log all the same."""
    added = book.read(lambda history: history.acts("key_added"))
    keys = {Verifier.from_vkey(act["vkey"]) for _, act in added if act["role"] == "run"}
    return Trust(book.trust.log, tuple(sorted(keys, key=lambda key: key.vkey)), book.trust.until)


def _open(book: Ledger, run: Path, subject_id: str, trust: Trust) -> Run:
    data = read_statement(run if run.name.endswith(STATEMENT_SUFFIX) else statement_path(run))
    opened = open_statement(data, trust)
    assert opened.logged is not None, "a statement without its second line was refused"
    if opened.record.origin != book.origin:
        raise UsageError(f"{run} was decided by the ledger {opened.record.origin!r:.120}, not by this one")
    book.check(_note(opened.record.snapshot_receipt))
    made: dict[str, bytes | None] = {"in_run": None, "in_snapshot": None}
    missing = []
    if opened.record.subjects is not None:
        made["in_run"] = import_module("ledger.membership").in_run(run, subject_id, trust)
    if "subjects_root" in opened.snapshot.act:
        try:
            made["in_snapshot"] = import_module("ledger.membership").in_snapshot(book, data, subject_id, trust)
        except (IntegrityError, UsageError):
            raise
        except ConsentLedgerError as error:  # the person was erased since
            missing.append(f"It cannot be proven here what the ledger knew of this person then: {error}.")
    return Run(data, opened.record, opened.snapshot, opened.logged, **made, missing=missing)


def _note(receipt: str) -> str:
    proof: str = canonical.decode(receipt.encode())["proof"]
    return proof.partition("\n\n")[2]


def receipt_name(number: int) -> str:
    return f"receipts/{number:04}.receipt"


def _files(found: Gathered) -> dict[str, bytes]:
    """All but what says what they are. No name holds anything that a person or a client chose."""
    content = {receipt_name(number): entry.receipt for number, entry in enumerate(found.events, start=1)}
    content |= {f"acts/{number:04}.receipt": entry.receipt for number, entry in enumerate(found.acts, start=1)}
    content |= {f"notices/{digest}.txt": text for digest, text in found.notices.items()}
    content |= {f"consistency/{size}.txt": proof for size, proof in found.consistency.items()}
    for number, run in enumerate(found.runs, start=1):
        content[f"runs/{number}/statement.intoto.jsonl"] = run.data
        for name, membership in (("in-run.json", run.in_run), ("in-snapshot.json", run.in_snapshot)):
            if membership is not None:
                content[f"runs/{number}/{name}"] = membership
    return content


def document(found: Gathered) -> dict[str, Any]:
    """schemas/export.json."""
    lists: dict[str, list[Any]] = {
        "events": [_entry("event", entry, receipt_name(number)) for number, entry in enumerate(found.events, start=1)],
        "acts": [_entry("act", entry, f"acts/{number:04}.receipt") for number, entry in enumerate(found.acts, start=1)],
        "notices": [_notice(digest, text) for digest, text in sorted(found.notices.items())],
        "decisions": [_decision(decision) for decision in found.decisions],
        "runs": [_run(number, run, found.subject_id, found.purposes) for number, run in enumerate(found.runs, start=1)],
        "consistency": [f"consistency/{size}.txt" for size in found.consistency],
    }
    return {
        "format": FORMAT,
        "origin": found.origin,
        "subject_id": found.subject_id,
        "made_at": times.text(found.made_at),
        "checkpoint": found.checkpoint,
        **{name: value for name, value in lists.items() if value},
    }


def _entry(name: str, entry: Entry, receipt: str) -> dict[str, Any]:
    return {name: entry.document, "position": entry.position, "receipt": receipt}


def _notice(digest: str, text: bytes) -> dict[str, Any]:
    assert sha256(text).hexdigest() == digest
    found = {"sha256": digest, "file": f"notices/{digest}.txt"}
    try:
        return {**found, "text": text.decode()}
    except UnicodeDecodeError:  # it is no text: a picture, a PDF; the file has it
        return found


def _decision(decision: Mapping[str, Any]) -> dict[str, Any]:
    terms = {name: decision[name] for name in ("category", "content_id") if decision[name] is not None}
    return {"purpose": decision["purpose"], **terms, "reason": decision["reason"], "sentence": words.decision(decision)}


def _run(number: int, run: Run, subject_id: str, purposes: Mapping[str, Purpose]) -> dict[str, Any]:
    found: dict[str, Any] = {"statement": f"runs/{number}/statement.intoto.jsonl"}
    if run.in_run is not None:
        found["in_run"] = f"runs/{number}/in-run.json"
    if run.in_snapshot is not None:
        found["in_snapshot"] = f"runs/{number}/in-snapshot.json"
    return {**found, "sentences": words.run(run, subject_id, purposes[run.record.purpose])}
