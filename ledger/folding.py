"""Events → the rows of a snapshot: of each subject and scope the latest no and the latest yes, with its terms.

Apart from `snapshot`, whose readers need no DuckDB: to import and start it takes a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ledger import times
from ledger.consent import NO, YES, Scope, split_purpose
from ledger.snapshot import NONE, SCHEMA
from ledger.statements.decided import BASES
from ledger.store.alike import Form, Said


class _Terms(NamedTuple):
    """What an event says besides whose it is, which item it speaks of, and when: as ACTS has it."""

    scope: int
    yes: bool
    state: int
    accepted: bool
    expires: int
    since: int
    basis: int


ACTS = pa.schema(
    [
        ("subject_id", pa.string()),
        ("scope_id", pa.string()),
        ("t", pa.int64()),
        ("position", pa.int64()),
        ("scope", pa.uint8()),
        ("yes", pa.bool_()),
        ("state", pa.uint8()),
        ("accepted", pa.bool_()),
        ("expires", pa.int64()),
        ("since", pa.int64()),
        ("basis", pa.uint8()),
    ]
)
"""An event that counts, in each row."""


class Acts:
    """The events that count at as_of, as they come in log order.

    accepts: the versions of the purpose whose yes counts. left_out: how many events of the purpose count later only.
    """

    def __init__(self, token: str, accepts: Sequence[int], as_of: datetime) -> None:
        self.left_out = 0
        self._versions, self._limit, self._micros = _Versions(token, frozenset(accepts)), times.micros(as_of), _Micros()
        self._columns: list[list[Any]] = [[] for _ in ACTS]
        self._batches: list[pa.RecordBatch] = []

    def add(self, position: int, event: Mapping[str, Any]) -> None:
        """One, by its document."""
        terms = self._terms(event)
        if terms is None:
            return
        recorded = self._micros[event["recorded_at"]]
        t = min(self._micros[event["occurred_at"]], recorded) if "occurred_at" in event else recorded
        if t <= self._limit:
            values = (event["subject_id"], event.get("content_id", event.get("category", "")), t, position, *terms)
            for column, value in zip(self._columns, values, strict=True):
                column.append(value)
        else:
            self.left_out += 1

    def add_alike(self, positions: Sequence[int], said: Sequence[Said]) -> None:
        """Many by their forms: what `add` makes of each, a column at a time."""
        forms, subjects, _, contents, occurred, recorded = zip(*said, strict=True)
        numbers: dict[Form, int] = {}
        number = np.array([numbers.setdefault(form, len(numbers)) for form in forms])
        of_forms = [self._terms(form.document) for form in numbers]
        speaks = np.array([terms is not None for terms in of_forms])
        t = _micros(recorded)
        if None in occurred:
            dated = np.array([text is not None for text in occurred])
            t[dated] = np.minimum(t[dated], _micros([text for text in occurred if text is not None]))
        else:
            t = np.minimum(t, _micros(occurred))
        counts = speaks[number] & (t <= self._limit)
        self.left_out += int((speaks[number] & ~counts).sum())
        categories = pa.array([form.document.get("category", "") for form in numbers], pa.string())
        items = pc.coalesce(pa.array(contents, pa.string()), categories.take(pa.array(number)))
        columns = [pa.array(subjects, pa.string()), items, pa.array(t), pa.array(positions, pa.int64())]
        terms = zip(*(one or _SILENT for one in of_forms), strict=True)
        for values, field in zip(terms, list(ACTS)[len(columns) :], strict=True):
            columns.append(pa.array(np.array(values)[number], field.type))
        batch = pa.record_batch(columns, schema=ACTS)
        self._batches.append(batch if counts.all() else batch.filter(pa.array(counts)))

    def table(self) -> pa.Table:
        """In no order that means anything."""
        ones = pa.record_batch(
            [pa.array(values, field.type) for values, field in zip(self._columns, ACTS, strict=True)], schema=ACTS
        )
        return pa.Table.from_batches([ones, *self._batches])

    def _terms(self, event: Mapping[str, Any]) -> _Terms | None:
        """None: it speaks of another purpose."""
        speaks, accepted = self._versions[tuple(event["purposes"])]
        if not speaks:
            return None
        state = event["state"]
        yes = state in YES
        return _Terms(
            Scope.CONTENT if "content_id" in event else Scope.CATEGORY if "category" in event else Scope.EVERYTHING,
            yes,
            255 if yes else NO.index(state),
            accepted,
            self._micros[event["expires_at"]] if "expires_at" in event else NONE,
            self._micros[event["content_since"]] if "content_since" in event else NONE,
            basis(event) if yes else 255,
        )


_SILENT = _Terms(0, False, 255, False, NONE, NONE, 255)


def _micros(texts: Sequence[str]) -> npt.NDArray[np.int64]:
    """Canonical times -> microseconds."""
    whole = np.frombuffer("".join(texts).encode(), "S27")
    return whole.astype("S26").astype("M8[us]").view(np.int64).copy()


def compile_rows(events: Iterable[tuple[int, Mapping[str, Any]]], token: str, accepts: Sequence[int], as_of: datetime) -> Any:
    """Rows of SCHEMA from (log position, canonical event) in log order, over the events that count at as_of.

    accepts: the versions of the purpose whose yes counts.
    """
    return latest_per_scope(acts_of(events, token, accepts, as_of))


def acts_of(events: Iterable[tuple[int, Mapping[str, Any]]], token: str, accepts: Sequence[int], as_of: datetime) -> Any:
    """The events that count, as a table: what `latest_per_scope` and `first_positions` go by."""
    acts = Acts(token, accepts, as_of)
    for position, event in events:
        acts.add(position, event)
    return acts.table()


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


def first_positions(acts: Any) -> npt.NDArray[np.int64]:
    """Of each subject the position of its first event, in the order of the rows."""
    with duckdb.connect(":memory:", config={"enable_external_access": False}) as con:
        con.register("acts", acts)
        found = con.sql("SELECT min(position) AS first FROM acts GROUP BY subject_id ORDER BY subject_id").to_arrow_table()
    first: npt.NDArray[np.int64] = found["first"].to_numpy()
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
