"""Events → the rows of a snapshot: of each subject and scope the latest no and the latest yes, with its terms.

Apart from `snapshot`, whose readers need no DuckDB: to import and start it takes a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa

from ledger import times
from ledger.consent import NO, YES, Scope, split_purpose
from ledger.snapshot import NONE, SCHEMA
from ledger.statements.decided import BASES


def compile_rows(events: Iterable[tuple[int, Mapping[str, Any]]], token: str, accepts: Sequence[int], as_of: datetime) -> Any:
    """Rows of SCHEMA from (log position, canonical event) in log order, over the events that count at as_of.

    accepts: the versions of the purpose whose yes counts.
    """
    return latest_per_scope(acts_of(events, token, accepts, as_of))


def acts_of(events: Iterable[tuple[int, Mapping[str, Any]]], token: str, accepts: Sequence[int], as_of: datetime) -> Any:
    """The events that count, as a table: what `latest_per_scope` and `first_positions` go by."""
    names = ("subject_id", "scope", "scope_id", "yes", "t", "position", "state", "accepted", "expires", "since", "basis")
    columns: dict[str, list[Any]] = {name: [] for name in names}
    appenders = [columns[name].append for name in names]
    limit = times.micros(as_of)
    micros = _Micros()
    versions = _Versions(token, frozenset(accepts))
    for position, event in events:
        speaks, accepted = versions[tuple(event["purposes"])]
        if not speaks:
            continue
        recorded = micros[event["recorded_at"]]
        t = min(micros[event["occurred_at"]], recorded) if "occurred_at" in event else recorded
        if t > limit:
            continue
        state = event["state"]
        yes = state in YES
        scope, item = (
            (Scope.CONTENT, event["content_id"])
            if "content_id" in event
            else (Scope.CATEGORY, event["category"])
            if "category" in event
            else (Scope.EVERYTHING, "")
        )
        values = (
            event["subject_id"],
            int(scope),
            item,
            yes,
            t,
            position,
            255 if yes else NO.index(state),
            accepted,
            micros[event["expires_at"]] if "expires_at" in event else NONE,
            micros[event["content_since"]] if "content_since" in event else NONE,
            basis(event) if yes else 255,
        )
        for append, value in zip(appenders, values, strict=True):
            append(value)
    kinds = (
        pa.string(),
        pa.uint8(),
        pa.string(),
        pa.bool_(),
        pa.int64(),
        pa.int64(),
        pa.uint8(),
        pa.bool_(),
        pa.int64(),
        pa.int64(),
        pa.uint8(),
    )
    return pa.table({name: pa.array(columns[name], kind) for name, kind in zip(names, kinds, strict=True)})


def latest_per_scope(acts: Any) -> Any:
    with duckdb.connect(":memory:", config={"enable_external_access": False}) as con:
        con.register("acts", acts)
        rows = con.sql(f"""
            WITH ranked AS (SELECT *, row_number() OVER
                            (PARTITION BY subject_id, scope, scope_id, yes ORDER BY t DESC, position DESC) AS rank FROM acts),
            latest AS (SELECT * FROM ranked WHERE rank = 1)
            SELECT subject_id, scope, scope_id,
                coalesce(max(t) FILTER (NOT yes), {NONE}) AS no_at, coalesce(max(state) FILTER (NOT yes), 255) AS no_state,
                coalesce(max(position) FILTER (NOT yes), -1) AS no_position,
                coalesce(max(t) FILTER (yes), {NONE}) AS yes_at, coalesce(max(position) FILTER (yes), -1) AS yes_position,
                coalesce(bool_or(accepted) FILTER (yes), false) AS yes_accepted,
                coalesce(max(expires) FILTER (yes), {NONE}) AS yes_expires_at,
                coalesce(max(since) FILTER (yes), {NONE}) AS yes_content_since,
                coalesce(max(basis) FILTER (yes), 255) AS yes_basis
            FROM latest GROUP BY subject_id, scope, scope_id ORDER BY subject_id, scope, scope_id""").to_arrow_table()  # noqa: S608 - a constant
    return rows.cast(SCHEMA).combine_chunks()


def first_positions(acts: Any) -> list[int]:
    """Of each subject the position of its first event, in the order of the rows."""
    with duckdb.connect(":memory:", config={"enable_external_access": False}) as con:
        con.register("acts", acts)
        found = con.sql("SELECT min(position) AS first FROM acts GROUP BY subject_id ORDER BY subject_id").to_arrow_table()
    first: list[int] = found["first"].to_pylist()
    return first


class _Micros(dict[str, int]):
    """Canonical time -> microseconds; the same few moments come again and again."""

    def __missing__(self, text: str) -> int:
        value = times.micros(times.parse(text))
        if len(self) < 100_000:
            self[text] = value
        return value


class _Versions(dict[tuple[str, ...], tuple[bool, bool]]):
    """Purposes of an event -> (speaks of the token, in an accepted version)."""

    def __init__(self, token: str, accepts: frozenset[int]) -> None:
        self._token, self._accepts = token, accepts

    def __missing__(self, purposes: tuple[str, ...]) -> tuple[bool, bool]:
        split = [split_purpose(p) for p in purposes]
        speaks = "*" in purposes or any(token == self._token for token, _ in split)
        value = speaks, any(token == self._token and version in self._accepts for token, version in split)
        if len(self) < 100_000:
            self[purposes] = value
        return value


def basis(event: Mapping[str, Any]) -> int:
    """What a yes rests on, as an index into BASES."""
    if event.get("recorded_by", "").startswith("session:"):
        return BASES.index("session")
    if "evidence_sha256" in event:
        return BASES.index("evidence")
    return BASES.index("import" if event.get("recorded_by", "").startswith("import:") else "assertion")
