"""What a run, an audit that is attested and a selection do alike on the way to their statement."""

from __future__ import annotations

import platform
from collections.abc import Callable, Collection
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pyarrow as pa

from ledger import files
from ledger.errors import ShardError, UsageError, VerificationError
from ledger.log import dsse
from ledger.log.keys import PrivateKey
from ledger.objects import Place
from ledger.shards.columns import Columns
from ledger.snapshot import RULE_VERSION, Snapshot
from ledger.statements.counted import Counted
from ledger.statements.verify import exact_shards, statement_path


def _version() -> str:
    try:
        return version("consent-ledger")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0+uninstalled"


VERSIONS = {
    "consent-ledger": _version(),
    "pyarrow": pa.__version__,
    "duckdb": version("duckdb"),
    "python": platform.python_version(),
    "machine": platform.machine(),
}


def require_provable(snapshot: Snapshot, publish: Callable[[Snapshot], Snapshot] | None) -> None:
    """Raises UsageError."""
    if snapshot.receipt is None and publish is None:
        raise UsageError(
            "a snapshot without a receipt proves nothing", hint="compile one with `consent snapshot`, or Ledger.snapshot"
        )


def require_share(min_kept: float) -> None:
    """Raises UsageError."""
    if not 0 <= min_kept <= 1:  # NaN is no limit at all
        raise UsageError(f"min_kept is {min_kept}", hint="a share from 0 to 1")


def require_no_ledger(output: Place) -> None:
    """Raises UsageError where a ledger lives in a folder that is to be written to."""
    target = output.resolve()
    for ours in (target, target.parent) if target.name == "snapshots" else (target,):
        if (ours / "ledger.toml").is_file():
            raise UsageError(f"{output} is a ledger's own folder", hint="choose an empty folder with -o")


def require_no_others(folder: Place, names: Collection[str], what: str) -> None:
    """Raises ShardError for what some reader would take, and `verify` refuse: no statement would hold. what: may stay there."""
    try:
        exact_shards(folder, names)
    except (VerificationError, OSError) as error:
        raise ShardError(f"no statement would hold for {folder}: {error}", hint=f"remove what is no {what}") from error


def published(publish: Callable[[Snapshot], Snapshot] | None, snapshot: Snapshot) -> Snapshot:
    """The snapshot with its receipt. Raises UsageError where it is another: a statement would speak of other answers."""
    if snapshot.receipt is not None or publish is None:
        return snapshot
    logged = publish(snapshot)
    if logged.sha256 != snapshot.sha256:
        raise UsageError("publish logged another snapshot than the one it was given", hint="publish=ledger.publish")
    return logged


def decided(
    snapshot: Snapshot, columns: Columns, answers_sha256: str, decided_at: datetime, recipient: str | None
) -> dict[str, Any]:
    """The fields of `statements.decided.Decided` that say how rows were decided, and by what."""
    return {
        "purpose": snapshot.purpose,
        "rule_version": RULE_VERSION,
        "origin": snapshot.header.origin,
        "snapshot_sha256": snapshot.sha256,
        "answers_sha256": answers_sha256,
        "snapshot_receipt": (snapshot.receipt or b"").decode(),
        "columns": columns.document(),
        "decided_at": decided_at,
        "age_seconds": int(snapshot.age(decided_at).total_seconds()),
        "max_age_seconds": int(snapshot.max_age.total_seconds()),
        "recipient": recipient,
        "versions": VERSIONS,
    }


def told(record: Counted, checkpoint: str) -> dict[str, Any]:
    """What the JSON of `consent filter` and of `consent select` say alike."""
    return {
        "purpose": record.purpose,
        "snapshot_sha256": record.snapshot_sha256,
        "answers_sha256": record.answers_sha256,
        "checkpoint": checkpoint,
        "rows_in": record.rows_in,
        "rows_kept": record.rows_kept,
        "rows_dropped": dict(record.rows_dropped),
        "unmapped": record.unmapped,
        "warnings": list(record.warnings),
    }


def put(folder: Place, payload: bytes, key: PrivateKey, admit: Callable[[bytes], bytes] | None) -> Place:
    """Sign a statement, have it logged, and write it beside its folder: its path."""
    line, path = dsse.seal(payload, key), statement_path(folder)
    files.publish_bytes(path, line + b"\n" + (admit(line) if admit is not None else b""))
    return path
