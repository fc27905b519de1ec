"""Verification of what leaves a ledger: run statements with their shards, event receipts, snapshots. No database; no network,
but for what is named by an address `s3://bucket/...`.

- Everything that an input speaks of is checked, or the answer says what was not. An absent shard is a failure.
- Trust is what the relying party hands in; nothing that a document carries adds to it.
- Every byte is taken as hostile: only VerificationError escapes.
- A folder holds exactly the shards that its statement names. Files of which a part of the name begins with `_` or `.` are passed
  over unless the statement names them, or some reader would take them: for their name, or because they are Parquet.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import lru_cache
from hashlib import file_digest, sha256
from io import BufferedReader
from pathlib import Path
from typing import Any

from ledger import blocks, objects, times
from ledger.errors import ShardError, UsageError, VerificationError
from ledger.log import canonical, dsse
from ledger.log import trust as trust_file
from ledger.log.trust import Trust
from ledger.objects import Address, P, Place
from ledger.statements.audit_statement import AUDIT, AuditRecord, audit_of
from ledger.statements.decided import set_root
from ledger.statements.limits import LIMITS
from ledger.statements.membership import MEMBERSHIP, open_membership
from ledger.statements.one_log import Histories
from ledger.statements.published_log import ShownLog
from ledger.statements.receipt import (
    ACT_RECEIPT,
    EVENT_RECEIPT,
    VerifiedAct,
    VerifiedEvent,
    open_act_receipt,
    open_event_receipt,
)
from ledger.statements.selection_statement import SELECTION, SelectionRecord, selection_of
from ledger.statements.statement import RUN, RunRecord, run_of

STATEMENT_SUFFIX = ".intoto.jsonl"
RECEIPT_SUFFIX = ".receipt"

Progress = Callable[[int, int], None]
"""progress(shards hashed, shards in all)."""

_KINDS = (
    "name a folder of shards, its statement, the receipt of an event, a membership, or a snapshot that has its receipt beside it"
)
_NO_PROOF = "it proves nothing as it is: ask its maker for it anew, and compare what you were given"


Record = RunRecord | AuditRecord | SelectionRecord
_RECORDS: Mapping[str, Callable[[Mapping[str, Any]], Record]] = {RUN: run_of, AUDIT: audit_of, SELECTION: selection_of}


@dataclass(frozen=True)
class VerifiedStatement:
    """A statement whose signatures and proofs hold. logged: None for one that is not in the log. Of shards nothing is known."""

    record: Record
    snapshot: VerifiedAct
    logged: VerifiedAct | None


@dataclass(frozen=True)
class Verified:
    """checked: what was, and what was not, in sentences for an auditor. statements: by the paths of their files."""

    checked: list[str] = field(default_factory=list)
    statements: dict[Place, VerifiedStatement] = field(default_factory=dict)


def verify(
    *paths: str | Place,
    trust: str | Path | Trust,
    signature_only: bool = False,
    allow_unlogged: bool = False,
    shards: str | Place | None = None,
    log: str | Path | None = None,
    on_progress: Progress | None = None,
) -> Verified:
    """Check folders of shards, `*.intoto.jsonl` statements, event receipts, memberships, and snapshots
    (FILE with FILE.receipt).

    signature_only: do not look at shards and snapshot files. allow_unlogged: take a statement that is not in the log.
    shards: the folder of a statement's shards, where it does not stand beside it.
    log: the folder or URL that the log is published at: every checkpoint met must be part of what is published there.
    Where the trust file demands witnesses, every checkpoint must be cosigned by them, or be shown to be part of one that is.
    Raises VerificationError for the first thing that does not hold.
    """
    if not paths:
        raise UsageError("there is nothing to verify", hint=_KINDS)
    trust = trust if isinstance(trust, Trust) else load_trust(trust)
    shown = None if log is None else _shown_log(log, trust)
    call = _Call(trust, signature_only, allow_unlogged, shown, on_progress)
    call.shards = None if shards is None else objects.place(shards)
    for path in paths:
        call.check(objects.place(path))
    call.histories.require_witnessed()
    return Verified(call.checked + call.histories.sentences(), call.statements)


def _shown_log(where: str | Path, trust: Trust) -> ShownLog:
    from ledger.published import PublishedLog  # not for those who need no network

    published = PublishedLog(where)
    return ShownLog(published.checkpoint(), published.tile, trust)


def load_trust(path: str | Path) -> Trust:
    """The trust file of the relying party. Raises VerificationError."""
    try:
        return trust_file.parse(read_file(Path(path), LIMITS.trust).decode())
    except UnicodeDecodeError as error:
        raise VerificationError(f"the trust file {path} is not UTF-8") from error


def statement_path(folder: P) -> P:
    """Where the statement of a folder of shards is: beside it."""
    folder = objects.named(folder)
    return folder.with_name(folder.name + STATEMENT_SUFFIX)


def read_statement(path: Place) -> bytes:
    """A statement's file as it is. Raises VerificationError where it cannot be read, or is too long."""
    return read_file(path, LIMITS.statement)


def open_statement(data: bytes, trust: Trust, *, allow_unlogged: bool = False) -> VerifiedStatement:
    """A statement's file: line 1 the signed envelope, line 2 the receipt of the act that logged it. Raises VerificationError."""
    if len(data) > LIMITS.statement:
        raise VerificationError(f"a statement of {len(data)} bytes is longer than the {LIMITS.statement} that are allowed")
    envelope, *rest = data.split(b"\n")
    if not rest or rest.pop() or len(rest) > 1:
        raise VerificationError("a statement's file has two lines, the envelope and the receipt of its entry in the log")
    kind, record = record_of(envelope, trust)
    snapshot = snapshot_of(record, trust)
    if not rest and not allow_unlogged:
        raise VerificationError(
            "the statement is not in the log: the receipt of its entry is missing",
            hint="have it logged where the ledger is (`consent admit`), or take it as it is with --allow-unlogged",
        )
    logged = open_act_receipt(rest[0], trust) if rest else None
    if logged is not None:
        _require_logged(envelope, kind, record, snapshot, logged)
    return VerifiedStatement(record, snapshot, logged)


def record_of(envelope: bytes, trust: Trust) -> tuple[str, Record]:
    """The type of a statement that a trusted run key has signed, and what it says; its proofs are yet to be checked."""
    payload = dsse.open_envelope(envelope, [verifier.public for verifier in trust.run], limit=LIMITS.statement)
    statement = canonical.decode(payload, limit=LIMITS.statement)
    kind = statement.get("predicateType")
    if not isinstance(kind, str) or kind not in _RECORDS:
        raise VerificationError(
            f"a statement of type {kind!r:.100} is unknown to this version", hint=f"it knows {', '.join(_RECORDS)}"
        )
    return kind, _RECORDS[kind](statement)


def snapshot_of(record: Record, trust: Trust) -> VerifiedAct:
    """The act of the snapshot that decided a statement's rows, by the receipt that it carries. Raises VerificationError."""
    snapshot = open_act_receipt(record.snapshot_receipt.encode(), trust)
    if record.snapshot_receipt.endswith("\n"):
        raise VerificationError("the statement's snapshot_receipt is not a receipt's line")
    act = snapshot.act
    _require_act(act["act"], "snapshot_compiled")
    if (act["snapshot_sha256"], act["purpose"]) != (record.snapshot_sha256, record.purpose):
        raise VerificationError("the statement's snapshot receipt is of another snapshot, or for another purpose")
    if snapshot.checkpoint.origin != record.origin:
        said, shown = record.origin, snapshot.checkpoint.origin
        raise VerificationError(f"the snapshot is of log {shown!r:.80}, the statement of {said!r:.80}")
    as_of = times.parse(act["as_of"])
    if as_of > record.decided_at:
        raise VerificationError("the statement's rows were decided before the moment that its snapshot speaks of")
    if (record.decided_at - as_of) // timedelta(seconds=1) > record.age_seconds:
        raise VerificationError("the statement says that its snapshot was younger than its receipt shows")
    return snapshot


def _require_logged(envelope: bytes, kind: str, record: Record, snapshot: VerifiedAct, logged: VerifiedAct) -> None:
    _require_act(logged.act["act"], "statement_made")
    if logged.act["statement_sha256"] != sha256(envelope).hexdigest() or logged.act["predicate_type"] != kind:
        raise VerificationError("the receipt in the statement's second line is of another statement")
    if logged.act.get("snapshot_sha256", record.snapshot_sha256) != record.snapshot_sha256:
        raise VerificationError("the log says that another snapshot decided the statement's rows")
    committed = record.subjects and {f"subjects_{name}": record.subjects[name] for name in ("root", "seed")}
    if {name: value for name, value in logged.act.items() if name.startswith("subjects_")} != (committed or {}):
        raise VerificationError("the log commits to another set of subjects than the statement")
    if logged.checkpoint.origin != record.origin:
        said, shown = record.origin, logged.checkpoint.origin
        raise VerificationError(f"the statement is in log {shown!r:.100}, its snapshot of {said!r:.100}")
    if logged.position <= snapshot.position:
        raise VerificationError("the statement stands in the log before the snapshot that it speaks of")


def _require_act(act: str, expected: str) -> None:
    if act != expected:
        raise VerificationError(f"a receipt of an act {act!r} stands where one of {expected!r} belongs")


class _Call:
    """One call of `verify`: what it trusts, what it was told, what it has met."""

    def __init__(
        self, trust: Trust, signature_only: bool, allow_unlogged: bool, log: ShownLog | None, on_progress: Progress | None
    ) -> None:
        self.checked: list[str] = []
        self.histories = Histories()
        self.statements: dict[Place, VerifiedStatement] = {}
        self.shards: Place | None = None
        self._policy = trust.policy
        # Whether enough have cosigned is asked at the end: another checkpoint that is met, or the published log, may show it.
        self._trust = replace(trust, policy=trust.policy and replace(trust.policy, quorum=None))
        self._log = log
        self._signature_only = signature_only
        self._allow_unlogged = allow_unlogged
        self._on_progress = on_progress or (lambda done, total: None)

    def check(self, path: Place) -> None:
        try:
            if path.is_dir() or (not path.exists() and statement_path(path).exists()):
                self._check_statement(statement_path(path), path)
            elif path.name.endswith(STATEMENT_SUFFIX):
                self._check_statement(path, path.with_name(path.name.removesuffix(STATEMENT_SUFFIX)))
            elif path.with_name(path.name + RECEIPT_SUFFIX).exists():
                self._check_snapshot(path, read_file(path.with_name(path.name + RECEIPT_SUFFIX), LIMITS.receipt))
            else:
                self._check_receipt(path)
        except VerificationError as error:
            raise VerificationError(f"{path}: {error}", hint=error.hint or _NO_PROOF) from error
        except ShardError as error:  # of an object's store
            raise VerificationError(f"{path}: {error}", hint=error.hint) from error
        except (OSError, ValueError) as error:  # ValueError: a path that can be none
            raise VerificationError(f"{path}: cannot be read: {error}", hint=_KINDS) from error

    def _check_statement(self, path: Place, folder: Place) -> None:
        if not path.exists():
            raise VerificationError(f"there is no {path.name}", hint="the statement of a folder of shards stands beside it")
        verified = open_statement(read_statement(path), self._trust, allow_unlogged=self._allow_unlogged)
        record, snapshot, logged = verified.record, verified.snapshot, verified.logged
        self._say(path, f"the statement is signed by a trusted run key; {_summed_up(record)}")
        self._meet(snapshot)
        self._say(path, f"rows were decided for purpose {record.purpose!r} at {times.text(record.decided_at)} by snapshot "
                        f"{record.snapshot_sha256}, {_in_log(snapshot)}; its age was {record.age_seconds} s, "
                        f"the limit {record.max_age_seconds} s")  # fmt: skip
        if logged is None:
            self._say(path, "NOT logged: the statement has no entry in the log, so that its maker could deny or replace it")
        else:
            self._meet(logged)
            self._say(path, f"the statement is {_in_log(logged)}, after its snapshot")
        self.statements[path] = verified
        if record.subjects is not None and self.shards is None:
            self._say(path, f"the set of the {record.subjects['count']} subjects of these rows is committed by the operator, "
                            "shards not checked for it (--shards does)")  # fmt: skip
        if isinstance(record, SelectionRecord):
            self._check_selection(path, folder, record)
            return
        folder = self.shards or folder
        if self._signature_only:
            self._say(path, f"NOT looked at: the {len(record.shards)} shards")
        else:
            self._check_shards(folder, record.digests)
            self._say(folder, f"the folder holds exactly the {len(record.shards)} shards that the statement names, each with its "
                              f"digest; set root {set_root(record.digests)}")  # fmt: skip

    def _check_selection(self, path: Place, folder: Place, record: SelectionRecord) -> None:
        if self._signature_only:
            self._say(path, "NOT looked at: the files of the selection")
        else:
            self._check_shards(folder, record.digests)
            self._say(folder, "the folder holds exactly the positions and blocks that the statement names, of "
                              f"{len(record.shards)} shards, each with its digest; set root {set_root(record.digests)}"
            )  # fmt: skip
        if self.shards is None:
            self._say(path, f"NOT looked at: the {len(record.shards)} shards that it selects from (--shards does)")
        else:
            self._check_in_place(self.shards, record)
            self._say(self.shards, f"the folder holds exactly the {len(record.shards)} shards that the selection is of, "
                                   "each with its digest and those of its blocks")  # fmt: skip

    def _check_in_place(self, folder: Place, record: SelectionRecord) -> None:
        found = exact_shards(folder, record.shard_digests)
        for done, shard in enumerate(record.shards):
            self._on_progress(done, len(found))
            with open_shard(found[shard.name]) as file:
                whole, digests, size = blocks.digests(file)
            if (whole, size) != (shard.sha256, shard.size):
                raise another_digest(shard.name)
            if sha256(digests).hexdigest() != shard.blocks_sha256:
                raise VerificationError(f"the blocks by which {shard.name!r:.200} is read are those of another shard")
        self._on_progress(len(found), len(found))

    def _check_shards(self, folder: Place, digests: Mapping[str, str]) -> None:
        found = exact_shards(folder, digests)
        for done, (name, path) in enumerate(sorted(found.items())):
            self._on_progress(done, len(found))
            if _digest(path) != digests[name]:
                raise another_digest(name)
        self._on_progress(len(found), len(found))

    def _check_snapshot(self, path: Place, receipt: bytes) -> None:
        verified = open_act_receipt(whole(receipt), self._trust)
        act = verified.act
        _require_act(act["act"], "snapshot_compiled")
        self._meet(verified)
        self._say(path, f"snapshot {act['snapshot_sha256']} for purpose {act['purpose']!r}, of the log's first "
                        f"{act['tree_size']} entries as of {act['as_of']}, is {_in_log(verified)}")  # fmt: skip
        if self._signature_only:
            self._say(path, "NOT looked at: the snapshot's file")
        elif _digest(path, follow=True) != act["file_sha256"]:
            raise VerificationError(
                "the file is not the one that its receipt speaks of", hint="compile it anew with `consent snapshot`"
            )
        else:
            self._say(path, "the file is the one that the log names, byte for byte")

    def _check_receipt(self, path: Place) -> None:
        data = read_file(path, LIMITS.membership, hint=_KINDS)
        kind = canonical.decode(whole(data).removesuffix(b"\n"), limit=LIMITS.membership).get("format")
        if kind == MEMBERSHIP:
            membership = open_membership(data, self._trust)
            self._meet(membership.act)
            self._say(path, f"{membership.sentence()}; the act that commits to it is {_in_log(membership.act)}")
            return
        if kind == ACT_RECEIPT and path.name.endswith(RECEIPT_SUFFIX):
            self._check_snapshot(path.with_name(path.name.removesuffix(RECEIPT_SUFFIX)), data)
            return
        if kind != EVENT_RECEIPT:
            raise VerificationError("this is nothing that can be verified alone", hint=_KINDS)
        verified = open_event_receipt(data, self._trust)
        event = verified.event
        self._meet(verified)
        item = event.get("content_id", event.get("category"))
        about = "" if item is None else f" about {item!r:.200}"
        purposes = ", ".join(map(repr, event["purposes"]))
        self._say(path, f"event {event['event_id']!r:.200}, {event['state']}{about} by {event['subject_id']!r:.200} "
                        f"for {purposes}, recorded at {event['recorded_at']}, is {_in_log(verified)}")  # fmt: skip

    def _meet(self, verified: VerifiedAct | VerifiedEvent) -> None:
        witnessed = self._policy is None or self._policy.is_met(verified.note)
        self.histories.meet(verified.checkpoint, verified.roots, witnessed=witnessed)
        if self._log is not None:
            self._log.check(verified.checkpoint)
            self.histories.meet(self._log.checkpoint, self._log.roots, witnessed=True)

    def _say(self, path: Place, sentence: str) -> None:
        self.checked.append(f"{path}: {sentence}")


def _in_log(verified: VerifiedAct | VerifiedEvent) -> str:
    checkpoint = verified.checkpoint
    return f"entry {verified.position} of log {checkpoint.origin!r:.100}, under its signed checkpoint of size {checkpoint.size}"


def _summed_up(record: Record) -> str:
    if isinstance(record, RunRecord):
        return (f"it is of a run and adds up per shard and in all: {record.rows_in} rows in, {record.rows_kept} kept, "
                f"{_by_word(record.rows_dropped)} dropped")  # fmt: skip
    if isinstance(record, SelectionRecord):
        return (f"it is of a selection and adds up per shard and in all: {record.rows_in} rows in place, {record.rows_kept} of "
                f"them allowed, {_by_word(record.rows_dropped)} not")  # fmt: skip
    columns = ", ".join(f"{name} {value!r:.200}" for name, value in sorted(record.columns.items()))
    return (f"it is of an audit, which does not say where the shards come from: all {record.rows} rows were allowed, "
            f"by {columns}")  # fmt: skip


def _by_word(counts: dict[str, int]) -> str:
    listed = ", ".join(f"{word} {number}" for word, number in sorted(counts.items()))
    return f"{sum(counts.values())}" + (f" ({listed})" if listed else "")


def _names(names: list[str]) -> str:
    return ", ".join(f"{name!r:.200}" for name in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def whole(data: bytes) -> bytes:
    """A receipt's file as it is. Raises VerificationError where its end is not there."""
    if not data.endswith(b"\n"):
        raise VerificationError("a receipt's file ends with a newline; it may be cut short")
    return data


def exact_shards(folder: Place, expected: Collection[str]) -> dict[str, Place]:
    """Name -> path of the files under a folder, which are those that are expected and no others.

    Raises VerificationError for the first that is not expected, for one that is missing, and for a link.
    """
    if not folder.is_dir():
        raise VerificationError(f"there is no folder {folder.name}", hint="--signature-only checks the statement alone")
    above = {name[:end] for name in expected for end, letter in enumerate(name) if letter == "/"}
    found: dict[str, Place] = {}
    for name, path in _files(folder, {*expected, *above}):
        if name not in expected:
            raise VerificationError(f"the folder holds {name!r:.200}, which the statement does not name")
        found[name] = path
    if missing := sorted({*expected} - found.keys()):
        raise VerificationError(f"the folder lacks {_names(missing)}", hint="--signature-only checks the statement alone")
    return found


def open_shard(path: Place) -> BufferedReader:
    """A shard of a verified folder, to be read. Raises VerificationError for a link and for what is no file."""
    if isinstance(path, Address):
        return path.open()
    return _open(path, follow=False)


def another_digest(name: str) -> VerificationError:
    return VerificationError(f"the shard {name!r:.200} is not the one that the statement names: its digest is another")


def stated_kind(path: Place) -> str | None:
    """The type that the statement in a file says it has, whoever signed it; empty where it is none. None: there is no file."""
    if not (path.exists() if isinstance(path, Address) else os.path.lexists(path)):
        return None
    try:
        with path.open() if isinstance(path, Address) else _open(path, follow=True) as file:
            return _kind_in(file.readline(LIMITS.statement + 1).removesuffix(b"\n"))
    except (VerificationError, KeyError, AttributeError, TypeError):
        return ""


@lru_cache(maxsize=1)
def _kind_in(line: bytes) -> str:
    payload = canonical.decode_base64(canonical.decode(line, limit=LIMITS.statement)["payload"])
    return str(canonical.decode(payload, limit=LIMITS.statement)["predicateType"])


def _files(root: Place, named: Collection[str]) -> Iterator[tuple[str, Place]]:
    if isinstance(root, Address):
        for name, is_object in root.below():
            if is_object and (name in named or not _is_aside(name) or _is_parquet(root / name)):
                yield name, root / name
        return
    folders = [("", root)]
    while folders:
        above, folder = folders.pop()
        for path in folder.iterdir():
            name = above + path.name
            if name not in named and _is_aside(name) and not path.is_dir() and not _is_parquet(path):
                continue
            if path.is_symlink():
                raise VerificationError(f"{name!r:.200} is a symbolic link: what it leads to can change")
            if path.is_dir():
                folders.append((f"{name}/", path))
            else:
                yield name, path


def _is_aside(name: str) -> bool:
    """What stands beside shards, `_SUCCESS` or `.part.crc`. Not a shard: some readers take those, whatever they are called."""
    return any(part.startswith(("_", ".")) for part in name.split("/")) and not name.lower().endswith(".parquet")


def _is_parquet(path: Place) -> bool:
    """By its end, as readers tell: Spark takes `_x=1/part` and others follow `_metadata`. A link counts as what it leads to."""
    if not path.is_file():
        return False
    with path.open() if isinstance(path, Address) else _open(path, follow=True) as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 4))
        return file.read(4) in (b"PAR1", b"PARE")


def _digest(path: Place, *, follow: bool = False) -> str:
    if isinstance(path, Address):
        return objects.sha256_of(path)
    with _open(path, follow=follow) as file:
        return file_digest(file, "sha256").hexdigest()


def read_file(path: Place, limit: int, *, hint: str | None = None) -> bytes:
    """All of a file. Raises VerificationError where it cannot be read, or is longer than so many bytes."""
    with objects.reading(path) if isinstance(path, Address) else _open(path, follow=True) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise VerificationError(f"{path.name} is longer than the {limit} bytes that are allowed", hint=hint)
    return data


def _open(path: Path, *, follow: bool) -> BufferedReader:
    try:
        # Not blocking: a pipe under a shard's name must not hang the verifier.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW))
    except (OSError, ValueError) as error:
        raise VerificationError(f"cannot read {path.name!r:.200}: {getattr(error, 'strerror', None) or error}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise VerificationError(f"{path.name!r:.200} is not a file")
    return os.fdopen(descriptor, "rb")
