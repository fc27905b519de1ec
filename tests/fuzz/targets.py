"""What is fuzzed: one line a parser. A target reads bytes and raises the errors that it is allowed, or none.

What a signature guards is fuzzed twice: as it comes, and signed by us whatever it says, so that what lies behind it is reached.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ledger import api_keys, asks, config, links, snapshot, tokens
from ledger.errors import (
    ConsentLedgerError,
    IntegrityError,
    InvalidEvent,
    ShardError,
    SnapshotError,
    UsageError,
    VerificationError,
)
from ledger.log import canonical, checkpoint, cosignature, dsse, merkle, note, proof, tiles, trust
from ledger.log.checkpoint import sign_checkpoint
from ledger.log.cosignature import Witness
from ledger.log.entry import act_entry, event_body, event_entry
from ledger.log.keys import PrivateKey
from ledger.log.note import Verifier
from ledger.log.proof import TlogProof
from ledger.log.trust import Trust
from ledger.shards import footer, positions, thrift
from ledger.statements import audit_statement, receipt, selection_statement, statement, verify
from ledger.statements.statement import run_statement
from ledger.store import acts, rows
from ledger.store.mapping import ImportColumns
from ledger.web import asked
from ledger.web.refusals import Refused
from tests.fuzz import others
from tests.fuzz.target import LOG, ORIGIN, RUN, SEEN_BY, TRUST, WITNESS, WITNESSED, Target, in_log, of_text, paper, require
from tests.statements.paper_log import EVENT, NOON, SALT, audit_record, run_record, selection_record

KEYS = [bytes(range(64))]


def _canonical(data: bytes) -> None:
    require(canonical.encode(canonical.decode(data)) == data, "canonical bytes are not those that were read")


def _base64(text: str) -> None:
    require(canonical.encode_base64(canonical.decode_base64(text)) == text, "base64 has another form too")


def _tlog_proof(text: str) -> None:
    found = proof.parse(text)
    require(found.format() == text, "a proof has another form too")
    proof.verify_entry(b"e" * 32, found, TRUST)


def _consistency(data: bytes) -> None:
    sizes, hashes = data[:4], [data[at : at + 32] for at in range(4, len(data), 32)]
    if len(sizes) == 4 and hashes:
        old, new = int.from_bytes(sizes[:2], "big"), int.from_bytes(sizes[2:], "big")
        merkle.verify_consistency(old, hashes[0], new, hashes[-1], hashes[1:-1])
        merkle.verify_inclusion(hashes[0], old, new, hashes[1:-1], hashes[-1])


def _signed_checkpoint(text: str) -> None:
    """The body, signed by the log and a witness whatever it says; and the same note by whom it was not signed."""
    signed = note.sign(text, ORIGIN, LOG) + cosignature.cosign(text, SEEN_BY.name, WITNESS, 1767139200)
    found = Trust(TRUST.log, (), {TRUST.log[0]: 1 << 40}, WITNESSED.policy).open(signed)
    require(TRUST.open(TRUST.signed_once(signed)) == found, "a checkpoint with one line is another")


def _document(data: bytes) -> dict[str, Any]:
    """Any JSON object, as a document to be signed. Raises VerificationError for what a canonical one cannot say."""
    try:
        found = json.loads(data)
        if not isinstance(found, dict):
            raise VerificationError("no object")
        return canonical.decode(canonical.encode(found))
    except (ValueError, RecursionError, TypeError) as error:
        raise VerificationError("no JSON") from error


def _logged_event(data: bytes) -> None:
    event, tag = _document(data), b"t" * 32
    said = canonical.encode(event)
    proven = in_log(event_entry(tag, event_body(SALT, said)))
    taken = receipt.open_event_receipt(receipt.event_receipt(said, SALT, tag, proven), TRUST)
    require(taken.event == event, "another event")


def _logged_act(data: bytes) -> None:
    act = _document(data)
    proven = in_log(act_entry(SALT, canonical.encode(act)))
    require(receipt.open_act_receipt(receipt.act_receipt(act, SALT, proven), TRUST).act == act, "another act")


def _signed_statement(data: bytes) -> None:
    payload = canonical.encode(_document(data))
    verify.open_statement(dsse.seal(payload, RUN) + b"\n", TRUST, allow_unlogged=True)


def _run(data: bytes) -> None:
    require(run_statement(statement.run_of(canonical.decode(data))) == data, "a run has another form too")


def _audit(data: bytes) -> None:
    require(
        audit_statement.audit_statement(audit_statement.audit_of(canonical.decode(data))) == data, "an audit has another form"
    )


def _selection(data: bytes) -> None:
    again = selection_statement.selection_statement(selection_statement.selection_of(canonical.decode(data)))
    require(again == data, "a selection has another form")


def _positions(data: bytes) -> None:
    """Whatever is read as positions allows as many rows as it was to allow, and none beyond the shard."""
    rows = data[0] * 1000 if data else 0
    kept = int.from_bytes(data[1:4], "big")
    read = positions.Positions(data[4:], rows, kept)
    require(int(read.mask(0, rows).sum()) == read.count(0, rows) == kept <= rows, "positions allow other rows")


def _footer(data: bytes) -> None:
    footer.parse(data)
    footer.read(io.BytesIO(b"PAR1" + data + len(data).to_bytes(4, "little") + b"PAR1"))


def _thrift(data: bytes) -> None:
    thrift.Reader(data).struct()


def _imported(form: str) -> Callable[[bytes], None]:
    columns = ImportColumns.of(
        "crm",
        {
            "subject_id": "who",
            "state": {"column": "optin", "values": {"yes": "given", "no": "withdrawn"}},
            "purposes": "=train-ai",
            "occurred_at": {"column": "changed", "zone": "Europe/Berlin"},
        },
    )

    def read(data: bytes) -> None:
        for mapped in (None, columns):
            table = rows.open_table(io.BytesIO(data), form)
            check = acts.check_columns if mapped is None else mapped.check_columns
            if table.columns is not None:
                check(table.columns)
            wanted = acts.COLUMNS if mapped is None else mapped.columns
            for number, row in enumerate(table.rows(wanted)):
                if number == 200:
                    break
                list(table.words(row.raw))
                if not isinstance(row.values, InvalidEvent):
                    _imported_act(row.values, mapped, form)

    return read


def _imported_act(values: dict[str, Any], mapped: ImportColumns | None, form: str) -> None:
    """As `imports` does."""
    try:
        if form == "ndjson":
            (acts.check_columns if mapped is None else mapped.check_columns)(values)
        if mapped is not None:
            values = mapped.values(values)
        elif form != "ndjson" and isinstance(values["purposes"], str):
            values = {**values, "purposes": values["purposes"].split(";")}
        acts.act_of(values, "0" * 64)
    except (InvalidEvent, UsageError):
        return


def _consent_toml(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / config.NAME
        path.write_bytes(data)
        loaded = config.load(path)
        for name, table in loaded.imports.items():
            ImportColumns.of(name, table)


def _asked(data: bytes) -> None:
    event = asked.event(asked.parsed(data))
    require(not event.is_yes or b"given" in data or b"renewed" in data or b"\\u" in data, "a yes that nobody wrote")


def _path(data: bytes) -> None:
    asked.id_after(SimpleNamespace(scope={"raw_path": b"/v1/subjects/" + data}), b"/v1/subjects/")  # type: ignore[arg-type]


def _query(data: bytes) -> None:
    request = SimpleNamespace(scope={"query_string": data})
    asked.numbers(request, after=(0, 0, 2**53 - 1), limit=(100, 1, 1000))  # type: ignore[arg-type]


def _token(text: str) -> None:
    link = links.open_token(text, KEYS, ORIGIN)
    for use in (asks.Ask, asks.Form):
        with suppress(VerificationError):
            use.open(text, KEYS, ORIGIN)
            require(link is None, "one token has two uses")


def _api_keys(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "api.keys"
        path.write_bytes(data)
        path.chmod(0o600)
        api_keys.listed(Path(folder))


# Seeds


def _log_receipts() -> list[bytes]:
    log = paper()
    return [log.log_event(), log.log_event({**EVENT, "state": "refused"}), log.log_snapshot(), log.log_statement(b"x")]


def _act_documents() -> list[bytes]:
    return [canonical.encode(canonical.decode(line)["act"]) for line in _log_receipts()[2:]]


def _statements() -> list[bytes]:
    made = paper().log_snapshot()
    return [
        run_statement(run_record(made)),
        audit_statement.audit_statement(audit_record(made)),
        selection_statement.selection_statement(selection_record(made)),
    ]


def _bitmaps() -> list[bytes]:
    masks = [np.zeros(0, bool), np.arange(9_000) % 7 == 0, np.arange(200_000) % 3 > 0, np.ones(100_000, bool)]
    return [bytes([len(mask) // 1000]) + int(mask.sum()).to_bytes(3, "big") + positions.encode([mask]) for mask in masks]


def _whole_statements() -> list[bytes]:
    log = paper()
    made = log.log_snapshot()
    found = []
    for payload in (run_statement(run_record(made)), audit_statement.audit_statement(audit_record(made))):
        line = log.seal(payload)
        found.append(line + b"\n" + log.log_statement(line) + b"\n")
    return found


def _notes() -> list[bytes]:
    log = paper()
    return [sign_checkpoint(log.checkpoint(size), LOG, RUN).encode() for size in (0, 1, 5)]


def _proofs() -> list[bytes]:
    log = paper()
    found = [log.proof(position) for position in range(5)]
    return [p.format().encode() for p in found] + [TlogProof(0, (), found[0].checkpoint, b"extra").format().encode()]


def _trusted() -> list[bytes]:
    log, run = TRUST.log[0].vkey, TRUST.run[0].vkey
    witness = f"witness w {SEEN_BY.vkey} https://w.example/\ngroup g any w\nquorum g\n"
    return [f"# ours\nlog {log}\nrun {run}\n".encode(), f"log {log} https://log.example until 7\n{witness}".encode()]


def _footers(table: pa.Table | None = None) -> list[bytes]:
    plain = pa.table({"a": [1, 2], "s": ["x", None], "l": [["u"], []], "t": [{"k": 1}, None]})
    found = []
    for options in ({}, {"compression": "zstd", "row_group_size": 1, "write_page_index": True}):
        out = io.BytesIO()
        pq.write_table(plain if table is None else table, out, **options)
        data = out.getvalue()
        found.append(data[-8 - int.from_bytes(data[-8:-4], "little") : -8])
    return found


def _parquet_rows() -> list[bytes]:
    out = io.BytesIO()
    row = {"state": ["given"], "subject_id": ["u1"], "purposes": [["train-ai"]], "occurred_at": ["2026-01-01T00:00:00Z"]}
    pq.write_table(pa.table(row), out, compression="none", store_schema=False)
    return [out.getvalue()]


def _snapshots() -> list[bytes]:
    header = snapshot.Header(ORIGIN, "train-ai@1", ("post",), _notes()[2].decode(), NOON, NOON, {})
    return [snapshot.freeze(header, snapshot.SCHEMA.empty_table())[1]]


def _headers() -> list[bytes]:
    metadata = pq.read_schema(io.BytesIO(_snapshots()[0])).metadata or {}
    return [value for name, value in metadata.items() if name == b"consent-ledger"]


_EVENTS = json.dumps({"state": "given", "subject_id": "u1", "purposes": ["train-ai"], "occurred_at": "2026-01-01T00:00:00Z"})
_CSV = b"state,subject_id,purposes,occurred_at\ngiven,u1,train-ai;search,2026-01-01T00:00:00Z\nrefused,u2,*,\n"
_CRM = b'who,optin,changed\nu1,yes,2026-01-01 00:00\n"u\n2",no,2026-10-25 02:30:00\n'
_TOML = b"""trust = "trust"
[columns.posts]
subject = ["user_id"]
category = "=post"
[import.crm]
subject_id = "who"
state = { column = "optin", values = { yes = "given", no = "withdrawn" } }
purposes = "=train-ai"
ignore = ["content_id"]
"""
_ASK = asks.Ask(subject_id="u1", purposes=("train-ai",), expires_at=NOON, return_url="https://a.example/")
_FORM = asks.Form(link="l", purpose="train-ai@1", language="en", shown="s", seen=3, nonce="n")
_LINK = tokens.seal("train-ai\nu1", KEYS, origin=ORIGIN, use=links.USE)
_KEY_FILE = {"name": "crm", "sha256": "0" * 64, "scopes": ["read"], "created": "2026-01-01T00:00:00.000000Z"}
_PEMS = [LOG.to_pem(), LOG.to_pem(b"secret")]

_PROOF = (VerificationError,)
_ROWS = (UsageError, rows.BrokenFile)


def _pem(data: bytes) -> None:
    PrivateKey.from_pem(data, b"secret" if PrivateKey.is_protected(data) else None)


TARGETS: Mapping[str, Target] = {
    **others.TARGETS,
    "canonical": Target(_canonical, _PROOF, lambda: [canonical.encode(EVENT), *_act_documents()]),
    "base64": Target(of_text(_base64), _PROOF, lambda: [b"AAECAw==", b"AAEC"]),
    "note": Target(of_text(lambda text: note.open_note(text, TRUST.log)), _PROOF, _notes),
    "checkpoint": Target(of_text(lambda text: checkpoint.open_checkpoint(text, TRUST.log)), _PROOF, _notes),
    "signed-checkpoint": Target(
        of_text(_signed_checkpoint), (*_PROOF, ValueError), lambda: [n.split(b"\n\n")[0] + b"\n" for n in _notes()]
    ),
    "tlog-proof": Target(of_text(_tlog_proof), _PROOF, _proofs),
    "merkle-proof": Target(_consistency, _PROOF, lambda: [bytes([0, 1, 0, 2]) + bytes(96)]),
    "trust": Target(of_text(trust.parse), _PROOF, _trusted),
    "vkey": Target(of_text(Verifier.from_vkey), _PROOF, lambda: [TRUST.log[0].vkey.encode()]),
    "witness-vkey": Target(of_text(Witness.from_vkey), _PROOF, lambda: [SEEN_BY.vkey.encode()]),
    "cosignatures": Target(
        of_text(lambda text: cosignature.cosigners(text, (SEEN_BY,))),
        _PROOF,
        lambda: [n + cosignature.cosign(n.decode().split("\n\n")[0] + "\n", SEEN_BY.name, WITNESS, 1).encode() for n in _notes()],
    ),
    "tile-path": Target(
        of_text(tiles.parse_tile_path), _PROOF, lambda: [tiles.tile_path(0, 1234067, 8).encode(), tiles.entries_path(3).encode()]
    ),
    "envelope": Target(lambda data: dsse.open_envelope(data, [RUN.public]), _PROOF, lambda: [dsse.seal(b"{}", RUN)]),
    "event-receipt": Target(lambda data: receipt.open_event_receipt(data, TRUST), _PROOF, lambda: _log_receipts()[:2]),
    "act-receipt": Target(lambda data: receipt.open_act_receipt(data, TRUST), _PROOF, lambda: _log_receipts()[2:]),
    "logged-event": Target(_logged_event, _PROOF, lambda: [canonical.encode(EVENT)]),
    "logged-act": Target(_logged_act, _PROOF, _act_documents),
    "statement": Target(lambda data: verify.open_statement(data, TRUST), _PROOF, _whole_statements),
    "signed-statement": Target(_signed_statement, _PROOF, _statements),
    "run": Target(_run, _PROOF, lambda: _statements()[:1]),
    "audit": Target(_audit, _PROOF, lambda: _statements()[1:2]),
    "selection": Target(_selection, _PROOF, lambda: _statements()[2:]),
    "positions": Target(_positions, _PROOF, _bitmaps),
    "snapshot-header": Target(snapshot.Header.parse, (SnapshotError, IntegrityError), _headers),
    "snapshot-file": Target(snapshot.parse, (SnapshotError, IntegrityError), _snapshots),
    "pem": Target(_pem, (ConsentLedgerError,), lambda: _PEMS),
    "footer": Target(_footer, (ShardError,), _footers),
    "thrift": Target(_thrift, (thrift.Malformed,), _footers),
    "csv": Target(_imported("csv"), _ROWS, lambda: [_CSV, _CRM]),
    "ndjson": Target(_imported("ndjson"), _ROWS, lambda: [_EVENTS.encode() + b"\n", b'{"who": "u1", "optin": "yes"}\n']),
    "parquet": Target(_imported("parquet"), _ROWS, _parquet_rows),
    "consent-toml": Target(_consent_toml, (UsageError,), lambda: [_TOML]),
    "token": Target(
        of_text(_token), _PROOF, lambda: [_ASK.seal(KEYS, ORIGIN).encode(), _FORM.seal(KEYS, ORIGIN).encode(), _LINK.encode()]
    ),
    "api-body": Target(_asked, (UsageError, Refused), lambda: [_EVENTS.encode()]),
    "api-path": Target(_path, (UsageError, Refused), lambda: [b"u1%2F%C3%A9"]),
    "api-query": Target(_query, (UsageError, Refused), lambda: [b"after=3&limit=10"]),
    "api-keys": Target(_api_keys, (ConsentLedgerError,), lambda: [json.dumps(_KEY_FILE).encode() + b"\n"]),
}

CORPUS = Path(__file__).parent / "corpus"
MAX_FILES, MAX_BYTES = 30, 2048


def inputs(name: str) -> Iterator[tuple[str, bytes]]:
    """(where from, data) of every seed and every file that was kept."""
    for number, seed in enumerate(TARGETS[name].seeds()):
        yield f"seed {number}", seed
    folder = CORPUS / name
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        yield path.name, path.read_bytes()
