"""JSON Schema (2020-12) of every document that leaves the program."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

NAMES = (
    "event", "act", "receipt", "act-receipt", "run-statement", "audit-statement", "selection-statement", "envelope",
    "membership", "export",
    "record", "purpose-list", "import", "show", "events", "status", "snapshot", "filter", "select", "audit", "stale", "attest",
    "explain",
    "verify", "monitor", "fsck", "report", "erase",
    "event-request", "decisions-request", "decisions", "snapshot-request", "published-snapshot", "snapshots",
    "link-request", "link", "ask-request", "ask", "error")  # fmt: skip
"""Documents that are logged, signed or handed out with proofs, then the JSON output of commands, then what the HTTP API takes and
gives beside these."""


def load(name: str) -> dict[str, Any]:
    """One schema of NAMES, complete in itself: those that it refers to are embedded (JSON Schema Core, §9.3). Raises KeyError."""
    if name not in NAMES:
        raise KeyError(f"there is no schema {name!r}; there are {', '.join(NAMES)}")
    schema = _read(f"{name}.json")
    for reference in sorted(_files_named(schema)):
        schema.setdefault("$defs", {})[reference] = {"$id": reference, **_read(reference)}
    return schema


def _read(file: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(resources.files(__name__).joinpath(file).read_text("utf-8"))
    return schema


def _files_named(node: Any) -> set[str]:
    if isinstance(node, list):
        return {file for item in node for file in _files_named(item)}
    if not isinstance(node, dict):
        return set()
    file = str(node.get("$ref", "")).partition("#")[0]
    return ({file} if file else set()).union(*(_files_named(item) for item in node.values()))
