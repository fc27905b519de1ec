"""`[import.NAME]` of consent.toml: which columns of the user's own table, and which of their values, mean what.

    [import.crm]
    subject_id = "customer"                                      a column of the file
    state = { column = "optin", values = { yes = "given", no = "withdrawn" } }
    purposes = "=train-ai"                                       a constant
    occurred_at = { column = "changed", zone = "Europe/Berlin" } times that name no zone
    ignore = ["content_id"]                                      columns of which it is known that they do not matter

What nobody has said a meaning for never becomes a yes:

- A value of a column with `values` that is not among them is a bad line. Values are compared exactly.
- What is empty, or says that nothing is known (`NULL`, `n/a`, ...), can be mapped to a no only.
- Who, which item and when are never constants. A constant yes (the table holds only people who agreed) needs every other
  column of the file named, in a field or under `ignore`: one that nobody reads could say no.
- So does each column that bears the name of a field of acts: a yes for one item must not become a yes for everything.
- Where fields for a category or content item are mapped, a yes needs one of them filled.
- Of a time that a clock showed twice a yes takes the earlier reading and a no the later one; one that none showed is a bad line.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from ledger.consent import STATES, YES
from ledger.errors import InvalidEvent, UsageError
from ledger.store.acts import COLUMNS, REQUIRED, TIMES

_IDS = ("event_id", "subject_id", "content_id")
_SCOPES = ("category", "content_id")
_WITH_VALUES = ("state", "purposes", "category", "channel", "actor")
_SILENCE = ("", "null", "none", "nil", "nan", "n/a", "na", "nat", "undefined", "unknown", "\\n", "-", "?")
_LOCAL = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Field:
    """Where a field of an act comes from. values: their meaning by what stands in the column, "" for nothing."""

    constant: str | None = None
    column: str | None = None
    values: Mapping[str, Any] | None = None
    zone: ZoneInfo | None = None

    def written(self) -> Any:
        """As TOML has it."""
        if self.constant is not None:
            return f"={self.constant}"
        more = {"values": self.values, "zone": None if self.zone is None else self.zone.key}
        return {"column": self.column, **{name: value for name, value in more.items() if value is not None}}


@dataclass(frozen=True)
class ImportColumns:
    """One table [import.NAME], checked."""

    name: str
    fields: Mapping[str, _Field]
    ignored: Collection[str]

    @classmethod
    def of(cls, name: str, table: Mapping[str, Any]) -> ImportColumns:
        """From the table as TOML has it. Raises UsageError for whatever it does not understand."""
        what = f"[import.{name:.80}]"
        if unknown := [key for key in table if key not in (*COLUMNS, "ignore")]:
            raise UsageError(
                f"{what} has the key {unknown[0]!r:.80}, which is unknown", hint="keys: " + ", ".join((*COLUMNS, "ignore"))
            )
        if missing := [key for key in REQUIRED if key not in table]:
            raise UsageError(f"{what} does not say where {missing[0]} is", hint=f'as in {missing[0]} = "a column of the file"')
        ignored = table.get("ignore", [])
        if not isinstance(ignored, list) or not all(isinstance(column, str) for column in ignored):
            raise UsageError(f"{what}: ignore is no list of columns", hint='as in ignore = ["updated_by"]')
        fields = {key: _field(f"{what}: {key}", key, value) for key, value in table.items() if key != "ignore"}
        mapping = cls(name, fields, frozenset(ignored))
        if both := mapping._mapped & set(ignored):
            raise UsageError(f"{what} both reads and ignores the column {min(both)!r:.80}")
        if mapping._always_yes and "occurred_at" not in fields:
            raise UsageError(f"{what}: a yes needs occurred_at", hint="name the column that says when each person agreed")
        return mapping

    def table(self) -> dict[str, Any]:
        """What `of` makes it of."""
        return {**{name: field.written() for name, field in self.fields.items()}, "ignore": list(self.ignored)}

    @property
    def _mapped(self) -> set[str]:
        return {field.column for field in self.fields.values() if field.column is not None}

    @property
    def _always_yes(self) -> bool:
        return self.fields["state"].constant in YES

    @property
    def columns(self) -> Collection[str]:
        """Those of the file that are read."""
        return self._mapped

    def check_columns(self, names: Iterable[str]) -> None:
        """Raises UsageError for a file that these columns do not fit."""
        names = list(names)
        for column in self._mapped:
            if column not in names:
                raise UsageError(
                    f"column {column!r:.80} of [import.{self.name:.80}] is not in the file",
                    hint="there are: " + ", ".join(map(repr, names))[:500],
                )
            if names.count(column) > 1:
                raise UsageError(f"column {column!r:.80} stands in the file twice")
        unread = [n for n in names if n not in self._mapped and n not in self.ignored]
        for column in unread:
            if self._always_yes:
                raise UsageError(
                    f"column {column!r:.80} is not read, and could say no, where [import.{self.name:.80}] makes each row a yes",
                    hint="name it in a field, or under ignore if it does not matter",
                )
            if column.strip().lower() in COLUMNS:
                raise UsageError(
                    f"column {column!r:.80} bears the name of a field, and [import.{self.name:.80}] does not say what it means",
                    hint=f'write {column.strip().lower()} = "{column}" there, or name it under ignore if it does not matter',
                )

    def values(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row's values by the names of fields. Raises InvalidEvent."""
        values: dict[str, Any] = {}
        for name, field in self.fields.items():
            if field.column is None:
                values[name] = field.constant
            elif field.values is not None:
                values[name] = _meant(name, field, row[field.column])
            elif name not in TIMES:
                values[name] = _text(field.column, row[field.column])
        is_yes = values["state"] in YES
        for name, field in self.fields.items():
            if name in TIMES and (name == "occurred_at" or is_yes):  # a no has no end, whatever its row says
                assert field.column is not None
                # A yes counts from the earlier reading and ends at the earlier one; whatever shields from it reaches later.
                later = not is_yes if name == "occurred_at" else name == "content_since"
                values[name] = _moment(field.column, row[field.column], field.zone, later)
        if is_yes and (scopes := [n for n in _SCOPES if n in self.fields]) and all(values[n] is None for n in scopes):
            raise InvalidEvent(f"column {self.fields[scopes[0]].column!r:.80} is empty: a yes for what?")
        if isinstance(values["purposes"], str):
            values["purposes"] = values["purposes"].split(";")
        return values


def _field(what: str, name: str, value: Any) -> _Field:
    if isinstance(value, str) and value.startswith("="):
        if name in (*_IDS, *TIMES):
            raise UsageError(f"{what} cannot be the same for every row", hint="name a column of the file")
        if name == "state":
            _check_state(what, value[1:])
        return _Field(constant=value[1:])
    if isinstance(value, str):
        return _Field(column=value)
    if not isinstance(value, dict) or not isinstance(value.get("column"), str):
        raise UsageError(f"{what} names no column", hint=f'as in {name} = "a column of the file"')
    allowed = ("column", *(["values"] if name in _WITH_VALUES else []), *(["zone"] if name in TIMES else []))
    if unknown := [key for key in value if key not in allowed]:
        raise UsageError(f"{what} has the key {unknown[0]!r:.80}, which is unknown here", hint="keys: " + ", ".join(allowed))
    values, zone = value.get("values"), value.get("zone")
    if values is not None:
        _check_values(what, name, values)
    return _Field(column=value["column"], values=values, zone=None if zone is None else _zone(what, zone))


def _check_values(what: str, name: str, values: Any) -> None:
    if not isinstance(values, dict) or not values or not all(isinstance(meaning, str) for meaning in values.values()):
        raise UsageError(f"{what}: values is no table of texts", hint='as in values = { yes = "given", no = "withdrawn" }')
    for value, meaning in values.items():
        if name == "state":
            _check_state(what, meaning)
        if value.strip().lower() in _SILENCE and (name != "state" or meaning in YES):
            raise UsageError(
                f"{what}: {value!r:.40} says nothing, and silence is no", hint="it can be mapped to a no only, as a state"
            )


def _check_state(what: str, state: str) -> None:
    if state not in STATES:
        raise UsageError(f"{what}: state {state!r:.60} is unknown", hint="states: " + ", ".join(STATES))


def _zone(what: str, zone: Any) -> ZoneInfo:
    try:
        return ZoneInfo(zone)
    except (ValueError, TypeError, OSError, LookupError) as error:
        raise UsageError(
            f"{what}: no time zone {zone!r:.60} is known here",
            hint="as in Europe/Berlin; the package tzdata brings those that are missing",
        ) from error


def _text(column: str, value: Any) -> str | None:
    """Text as it is, whole numbers in plain decimals."""
    if value is None or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise InvalidEvent(f"column {column!r:.80} holds {type(value).__name__}, which is no text")
    return value


def _meant(name: str, field: _Field, value: Any) -> Any:
    assert field.column is not None and field.values is not None
    # Of typed booleans: by the words that TOML and JSON have for them.
    text = str(value).lower() if isinstance(value, bool) else _text(field.column, value) or ""
    if text not in field.values:
        known = ", ".join(repr(v) for v in field.values)
        raise InvalidEvent(
            f"column {field.column!r:.80} holds {text!r:.60}, and no value of {name} is that", hint=f"values: {known:.300}"
        )
    return field.values[text]


def _moment(column: str, value: Any, zone: ZoneInfo | None, later: bool) -> Any:
    """A moment as act_of takes it; a local time becomes one in its zone."""
    if isinstance(value, str):
        if zone is None or not _LOCAL.fullmatch(value):
            return value or None
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise InvalidEvent(f"column {column!r:.80}: {error}") from None
    if not isinstance(value, datetime) or value.tzinfo is not None:
        return value
    if zone is None:
        raise InvalidEvent(
            f"column {column!r:.80} has no time zone, and none is named", hint='as in { column = "...", zone = "Europe/Berlin" }'
        )
    try:
        readings = [value.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
        if any(reading.astimezone(zone).replace(tzinfo=None, fold=0) != value.replace(fold=0) for reading in readings):
            raise InvalidEvent(f"column {column!r:.80}: no clock in {zone.key} showed {value.isoformat(' ')}")
    except OverflowError as error:
        raise InvalidEvent(f"column {column!r:.80}: {error}") from None
    return max(readings) if later else min(readings)
