"""consent-ledger: record who said yes, filter Parquet shards by it, and prove it. Silence is no.

The public names, each imported when it is first used, so that verifying pays for no database.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ledger.attest import Attestation
    from ledger.audit import Audit
    from ledger.book import Ledger, create, fsck, reapply
    from ledger.book import open_ledger as open
    from ledger.consent import Event, Purpose
    from ledger.cursor import EventPage
    from ledger.digesting import Digesting
    from ledger.errors import (
        ConsentLedgerError,
        EventConflict,
        IntegrityError,
        InvalidEvent,
        LedgerBusy,
        ShardError,
        SnapshotError,
        UsageError,
        VerificationError,
    )
    from ledger.explanation import RowExplanation, explain
    from ledger.exporting.making import export_subject
    from ledger.fetching import fetch_snapshot
    from ledger.filter import ConsentFilter
    from ledger.gate import Gate, open_shards
    from ledger.monitoring import Monitored, monitor_log
    from ledger.person import Recorded
    from ledger.publishing import Published, publish_log
    from ledger.report.making import Report, report_on
    from ledger.run import Run
    from ledger.select import Selection
    from ledger.shards.columns import Columns
    from ledger.shards.decide import Decisions
    from ledger.snapshot import Snapshot, load_snapshot
    from ledger.stale import Stale
    from ledger.statements.verify import Verified, verify
    from ledger.status import Status
    from ledger.store.backup import backup
    from ledger.store.copying import copy
    from ledger.store.erasure import Erased
    from ledger.store.folder import find as ledger_path
    from ledger.store.folder import load_key
    from ledger.store.imports import ImportRejected, ImportReport
    from ledger.store.mapping import ImportColumns
    from ledger.witnessing import Cosigned, cosign_log

_WHERE = {
    "book": ("Ledger", "create", "fsck", "reapply"),
    "consent": ("Event", "Purpose"),
    "errors": (
        "ConsentLedgerError",
        "EventConflict",
        "IntegrityError",
        "InvalidEvent",
        "LedgerBusy",
        "ShardError",
        "SnapshotError",
        "UsageError",
        "VerificationError",
    ),
    "attest": ("Attestation",),
    "audit": ("Audit",),
    "cursor": ("EventPage",),
    "digesting": ("Digesting",),
    "explanation": ("RowExplanation", "explain"),
    "exporting.making": ("export_subject",),
    "fetching": ("fetch_snapshot",),
    "filter": ("ConsentFilter",),
    "gate": ("Gate", "open_shards"),
    "monitoring": ("Monitored", "monitor_log"),
    "person": ("Recorded",),
    "publishing": ("Published", "publish_log"),
    "report.making": ("Report", "report_on"),
    "run": ("Run",),
    "select": ("Selection",),
    "shards.columns": ("Columns",),
    "shards.decide": ("Decisions",),
    "snapshot": ("Snapshot", "load_snapshot"),
    "status": ("Status",),
    "stale": ("Stale",),
    "statements.verify": ("Verified", "verify"),
    "store.backup": ("backup",),
    "store.copying": ("copy",),
    "store.erasure": ("Erased",),
    "store.folder": ("load_key",),
    "store.imports": ("ImportRejected", "ImportReport"),
    "store.mapping": ("ImportColumns",),
    "witnessing": ("Cosigned", "cosign_log"),
}
_NAMES = {name: (module, name) for module, names in _WHERE.items() for name in names}
_NAMES |= {"open": ("book", "open_ledger"), "ledger_path": ("store.folder", "find")}

__all__ = [
    "Attestation",
    "Audit",
    "Columns",
    "ConsentFilter",
    "ConsentLedgerError",
    "Cosigned",
    "Decisions",
    "Digesting",
    "Erased",
    "Event",
    "EventConflict",
    "EventPage",
    "Gate",
    "ImportColumns",
    "ImportRejected",
    "ImportReport",
    "IntegrityError",
    "InvalidEvent",
    "Ledger",
    "LedgerBusy",
    "Monitored",
    "Published",
    "Purpose",
    "Recorded",
    "Report",
    "RowExplanation",
    "Run",
    "Selection",
    "ShardError",
    "Snapshot",
    "SnapshotError",
    "Stale",
    "Status",
    "UsageError",
    "VerificationError",
    "Verified",
    "backup",
    "copy",
    "cosign_log",
    "create",
    "explain",
    "export_subject",
    "fetch_snapshot",
    "fsck",
    "ledger_path",
    "load_key",
    "load_snapshot",
    "monitor_log",
    "open",
    "open_shards",
    "publish_log",
    "reapply",
    "report_on",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'ledger' has no attribute {name!r}")
    module, attribute = _NAMES[name]
    value = globals()[name] = getattr(import_module(f"ledger.{module}"), attribute)
    return value
