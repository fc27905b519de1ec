"""Acts of the ledger other than events: each kind's closed set of fields, and what each field may hold.

Besides its own fields an act has `act`, its kind, and `recorded_at` and `recorded_by`. Absent is absent: nothing is null or empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ledger.consent import Purpose
from ledger.errors import IntegrityError, UsageError

_Shape = type | list[type]
"""str, int, or a list of either."""

_KINDS: Mapping[str, tuple[Mapping[str, _Shape], Mapping[str, _Shape]]] = {
    "key_added": ({"role": str, "vkey": str}, {}),
    "purpose_declared": (
        {"token": str, "version": int, "title": str, "description": str, "basis": str},
        {"controller": str, "contact": str, "recipients": [str], "categories": [str], "retention": str, "withdraw_url": str,
         "accepts": [int]},
    ),
    "notice_declared": ({"notice_id": str, "version": int, "language": str, "sha256": str}, {}),
    "import_finished": (
        {"file_sha256": str, "new": int, "repeated": int, "suppressed": int, "reversals": int, "rejected": int},
        {"source": str},
    ),
    "snapshot_compiled": (
        {"purpose": str, "snapshot_sha256": str, "file_sha256": str, "tree_size": int, "as_of": str}, {}),
    "statement_made": ({"statement_sha256": str, "predicate_type": str}, {}),
}  # fmt: skip
"""Of each kind the fields that it must have, and those that it may have."""

_COMMON: Mapping[str, _Shape] = {"act": str, "recorded_at": str, "recorded_by": str}


def check(act: Mapping[str, Any]) -> None:
    """Raises UsageError, which names the field, unless the act has the fields of its kind."""
    kind = act.get("act")
    if kind not in _KINDS:
        raise UsageError(f"the act {kind!r:.60} is unknown", hint="acts: " + ", ".join(_KINDS))
    required, optional = _KINDS[kind]
    shapes = {**_COMMON, **required, **optional}
    if missing := sorted({**_COMMON, **required}.keys() - act.keys()):
        raise UsageError(f"the act {kind} lacks {', '.join(missing)}")
    if unknown := sorted(act.keys() - shapes.keys()):
        raise UsageError(f"the act {kind} has no field {', '.join(unknown)}")
    for name, value in act.items():
        if not _fits(value, shapes[name]):
            raise UsageError(f"{name} of the act {kind} is {value!r:.60}")


def _fits(value: object, shape: _Shape) -> bool:
    if isinstance(shape, list):
        return isinstance(value, list) and bool(value) and all(_fits(item, shape[0]) for item in value)
    if shape is int:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return isinstance(value, str) and value != ""


def declaration(purpose: Purpose) -> dict[str, Any]:
    """The act that declares a purpose; who and when is for the ledger to add."""
    fields = {name: list(value) if isinstance(value := getattr(purpose, name), tuple) else value for name in Purpose.__slots__}
    return {"act": "purpose_declared"} | {name: value for name, value in fields.items() if value not in (None, [])}


def declared_purpose(act: Mapping[str, Any]) -> Purpose:
    """The purpose that an act declares. Raises IntegrityError for an act that is not whole."""
    try:
        check(act)
    except UsageError as error:
        raise IntegrityError(f"a declared purpose is not whole: {error}") from error
    return Purpose(**{name: act[name] for name in Purpose.__slots__ if name in act})
