"""Statements that are nearly right: of a log in memory, so that what is wrong can be signed and logged all the same."""

from __future__ import annotations

import base64
import copy
import json
import random
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from ledger import times
from ledger.errors import VerificationError
from ledger.log import canonical
from ledger.log.keys import PrivateKey
from ledger.statements.audit_statement import AUDIT, audit_statement
from ledger.statements.one_log import Histories
from ledger.statements.statement import RUN, run_statement
from ledger.statements.verify import open_statement
from tests.statements.paper_log import NOON, PaperLog, audit_record, run_record, sha256

WRONG: tuple[Any, ...] = (
    None, True, False, 1.5, -1, 0, 1, 2**53 - 1, 2**53, 1e300, "", "x", "a\0b", "\ud800", "é", "é" * 2048, "é" * 2049, [], {},
    ["x"], {"x": "y"}, "2026-01-31T12:00:00.000000Z", "2026-02-30T12:00:00.000000Z", "0000-01-01T00:00:00.000000Z",
    "2026-01-31T24:00:00.000000Z", "0001-01-01T00:00:00.000000Z", "a" * 64, "A" * 64, "train-ai@0", "train-ai@3", "@1", "*",
    "../x", "a//b", "a\\b", "s", "session",
)  # fmt: skip


class Maker:
    """Statements of one log, which is trusted, and of a stranger's."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.log = PaperLog()
        self.log.fill(self.random.randrange(40))

    def payload(self, snapshot: bytes | None = None, **fields: Any) -> dict[str, Any]:
        receipt = self.log.log_snapshot() if snapshot is None else snapshot
        if self.random.random() < 0.3:
            made = audit_statement(audit_record(receipt, **fields))
        else:
            made = run_statement(run_record(receipt, warnings=("w",), dropped_metadata=("geo", "é"), **fields))
        found: dict[str, Any] = json.loads(made)
        return found

    def sealed(self, payload: dict[str, Any], **act: Any) -> bytes:
        """Signed and logged, whatever it says."""
        line = self.log.seal(encoded(payload))
        kind = payload.get("predicateType")
        return line + b"\n" + self.log.log_statement(line, **{"predicate_type": kind if kind == AUDIT else RUN, **act}) + b"\n"

    def good(self) -> bytes:
        return self.sealed(self.payload())

    def mutants(self, count: int) -> Iterator[bytes]:
        kinds = [self.bytes_, self.fields, self.fields, self.fields, self.receipts, self.proofs, self.envelopes, self.snapshots]
        for number in range(count):
            yield kinds[number % len(kinds)]()

    def bytes_(self) -> bytes:
        data = bytearray(self.good())
        at = self.random.randrange(len(data))
        how = self.random.randrange(5)
        if how == 0:
            data[at] ^= 1 << self.random.randrange(8)
        elif how == 1:
            del data[at]
        elif how == 2:
            data.insert(at, self.random.choice(b" \n\0{A0"))
        elif how == 3:
            del data[at:]
        else:
            data += self.random.choice([b"\n", b"x", b"{}\n", b""])
        return bytes(data)

    def fields(self) -> bytes:
        """One value of what is signed, at any depth, is another, missing, or more than it was."""
        payload = self.payload()
        spots = list(_spots(payload))
        where, key = self.random.choice(spots)
        how = self.random.randrange(6)
        if how == 0:
            where[key] = copy.deepcopy(self.random.choice(WRONG))
        elif how == 1 and isinstance(where, dict):
            del where[key]
        elif how == 2 and isinstance(where, dict):
            where[self.random.choice(["surplus", "é", "__proto__", "constructor", "", "recipient", "content"])] = "x"
        elif how == 3 and isinstance(where[key], int):
            where[key] += self.random.choice([-1, 1, 10])
        elif how == 4 and isinstance(where, list):
            where.append(copy.deepcopy(where[key]))
        elif how == 5:
            other, name = self.random.choice(spots)
            where[key], other[name] = copy.deepcopy(other[name]), copy.deepcopy(where[key])
        return self.sealed(payload)

    def receipts(self) -> bytes:
        """The act that logs it says something else."""
        choice = self.random.choice(
            [
                {"statement_sha256": sha256(b"x")},
                {"predicate_type": AUDIT},
                {"predicate_type": "é"},
                {"snapshot_sha256": sha256(b"snapshot")},
                {"snapshot_sha256": sha256(b"other")},
                {"recorded_by": ""},
                {"recorded_at": "2026-02-30T12:00:00.000000Z"},
                {"surplus": "x"},
                {"act": "key_added"},
                {},
            ]
        )
        try:
            return self.sealed(self.payload(), **choice)
        except TypeError:  # `act` is no field to log_act
            line = self.good().split(b"\n")
            return line[0] + b"\n" + self.log.log_act("key_added", role="run", vkey="v") + b"\n"

    def proofs(self) -> bytes:
        first, second, _ = self.good().split(b"\n")
        receipt = json.loads(second)
        head, _, note = receipt["proof"].partition("\n\n")
        lines = head.split("\n")
        body, _, signature = note.rpartition("\n\n")
        how = self.random.randrange(10)
        if how == 0:
            lines.insert(1, "extra AAAA")
        elif how == 1:
            lines[1] = f"index {int(lines[1][6:]) + self.random.choice([-1, 1, 2**40])}"
        elif how == 2:
            lines[2:] = lines[3:]
        elif how == 3:
            lines[2:] = lines[2:][::-1]
        elif how == 4:
            lines.append(base64.b64encode(bytes(self.random.choice([31, 32]))).decode())
        elif how == 5:
            note = body.replace("\n", "\n0", 1) + "\n\n" + signature
        elif how == 6:
            note += note.split("\n\n")[1]
        elif how == 7:
            stranger = PaperLog(leaves=list(self.log.leaves))
            note = stranger.proof(0).checkpoint
        elif how == 8:
            note = note.replace("— ", self.random.choice(["- ", "—", "—  "]))
        receipt["proof"] = "\n".join(lines) + "\n\n" + note
        if how == 9:
            receipt["salt"] = base64.b64encode(bytes(self.random.choice([31, 32, 33]))).decode()
        return first + b"\n" + encoded(receipt) + b"\n"

    def envelopes(self) -> bytes:
        payload = self.payload()
        envelope = json.loads(self.log.seal(encoded(payload)))
        signature = envelope["signatures"][0]
        stranger = {"keyid": PrivateKey.generate().public.dsse_keyid, "sig": signature["sig"]}
        how = self.random.randrange(9)
        if how == 0:
            envelope["signatures"].append(stranger)
        elif how == 1:
            envelope["signatures"] = [stranger] * self.random.choice([1, 16, 17]) + [signature] * self.random.choice([0, 1])
        elif how == 2:
            envelope["payloadType"] += "x"
        elif how == 3:
            signature["sig"] = signature["sig"][:-2] + self.random.choice(["==", "=", "A="])
        elif how == 4:
            envelope["payload"] += self.random.choice(["=", "\n", " ", "AAAA"])
        elif how == 5:
            signature[self.random.choice(["extra", "sig", "keyid"])] = self.random.choice(["", "AAAA", 1])
        elif how == 6:
            envelope["signatures"] = self.random.choice([[], {}, "x", [signature, signature]])
        elif how == 7:
            raw = json.dumps(envelope, indent=self.random.choice([None, 1])).encode()
            return raw + b"\n" + self.log.log_statement(raw) + b"\n"
        line = encoded(envelope)
        return line + b"\n" + self.log.log_statement(line, predicate_type=payload["predicateType"]) + b"\n"

    def snapshots(self) -> bytes:
        """The answers' own receipt is of something else, from elsewhere, or of another history of the log."""
        how = self.random.randrange(8)
        if how == 0:
            return self.sealed(self.payload(self.log.log_snapshot(as_of=times.text(NOON + timedelta(seconds=91)))))
        if how == 1:
            return self.sealed(self.payload(self.log.log_snapshot(as_of=times.text(NOON - timedelta(microseconds=1)))))
        if how == 2:
            return self.sealed(self.payload(self.log.log_snapshot(purpose="train-ai@3")))
        if how == 3:
            return self.sealed(self.payload(PaperLog().log_snapshot()))
        if how == 4:
            other = PaperLog("other.example", self.log.log_key)
            return self.sealed(self.payload(other.log_snapshot()))
        if how == 5:
            later = self.payload()
            line = self.log.seal(encoded(later))
            logged = self.log.log_statement(line, predicate_type=later["predicateType"])
            later["predicate"]["snapshot_receipt"] = self.log.log_snapshot().decode()
            return line + b"\n" + logged + b"\n" if self.random.random() < 0.5 else self.sealed(later)
        fork = PaperLog(
            self.log.origin, self.log.log_key, self.log.run_key, leaves=self.log.leaves[:-1] if self.log.leaves else []
        )
        fork.fill(self.random.choice([0, 1, 2]))
        return self.sealed(self.payload(fork.log_snapshot()))


def encoded(document: dict[str, Any]) -> bytes:
    """Canonical where it can be; else as near to it as JSON goes."""
    try:
        return canonical.encode(document)
    except ValueError:
        return json.dumps(document, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode()


def _spots(node: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of every value."""
    for key in node if isinstance(node, dict) else range(len(node)):
        yield node, key
        if isinstance(node[key], dict | list):
            yield from _spots(node[key])


def by_library(data: bytes, trust: Any) -> str:
    """Why the library refuses a statement's file; empty: it takes it."""
    try:
        verified = open_statement(data, trust)
        histories = Histories()
        for act in (verified.snapshot, verified.logged):
            assert act is not None
            histories.meet(act.checkpoint, act.roots)
    except VerificationError as error:
        return str(error)
    return ""
