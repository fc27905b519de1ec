"""An act that an import takes in short is the act that it would be whole; and what would be none is not taken in short."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st
from small_ledger import Clock

import ledger
from ledger import Event, Ledger, times
from ledger.consent import STATES
from ledger.errors import InvalidEvent
from ledger.store import acts
from ledger.store.append import Transaction
from ledger.store.documents import event_bytes
from ledger.store.rows import open_table
from ledger.store.short import moment

FILE = "f" * 64
NOW = datetime(2030, 6, 1, tzinfo=UTC)
MOMENTS = st.sampled_from(
    [
        "2029-01-01T00:00:00Z",
        "2030-01-01T01:00:00+01:00",
        "2030-03-01T00:00:00Z",
        "2030-05-01T00:00:00.000001Z",
        "2030-06-01T00:00:00Z",
        "2030-06-01T00:00:00.000001Z",
        "2031-01-01T00:00:00Z",
        "2030-03-01T00:00:00",
        "2030-02-30T00:00:00Z",
        "",
        datetime(2030, 3, 1, tzinfo=UTC),
        datetime(2030, 3, 1),
        20300301,
        None,
    ]
)
IDS = st.sampled_from(["u1", "u2", 'a"b\\', "ü" * 128, "x" * 513, "ü" * 300, "\0", "\ud800", "", None, 7]) | st.text(max_size=4)
ROWS = st.fixed_dictionaries(
    {
        "state": st.sampled_from([*STATES, "given", "given", "Given", None]),
        "subject_id": IDS,
        "purposes": st.sampled_from(
            [
                ["train-ai"],
                ["train-ai"],
                ["train-ai@1"],
                ["posts"],
                ["posts", "train-ai"],
                ["*"],
                [],
                ["none"],
                ["train-ai", 7],
                None,
            ]
        ),
        "occurred_at": MOMENTS,
    },
    optional={
        "event_id": IDS,
        "content_id": IDS,
        "category": st.sampled_from(["post", "photo", None]),
        "expires_at": MOMENTS,
        "content_since": MOMENTS,
        "channel": st.sampled_from(["web", "one-click", None, ["web"], {}]),
        "actor": st.sampled_from(["subject", "guardian", "controller", None]),
        "notice": st.sampled_from(["terms", "terms@1/en", "other", None]),
        "evidence_sha256": st.sampled_from(["a" * 64, "A" * 64, None]),
    },
)

ORDINARY = st.fixed_dictionaries(
    {
        "state": st.sampled_from(["given", "refused"]),
        "subject_id": IDS,
        "purposes": st.sampled_from([["train-ai"], ["posts"]]),
        "occurred_at": MOMENTS,
    },
    optional={
        "event_id": IDS,
        "content_id": IDS,
        "notice": st.just("terms"),
        "expires_at": st.just("2030-05-01T00:00:00.000001Z"),
    },
)


def _declare(book: Ledger, clock: Clock) -> None:
    """Two versions of a purpose and of a notice, half a year apart; and a purpose for posts."""
    clock.set(datetime(2029, 12, 1, tzinfo=UTC))
    book.declare_purpose("posts", title="Posts", description="Posts", categories=["post"])
    book.add_notice(b"You agree to much.", notice_id="terms", language="en")
    clock.set(datetime(2030, 4, 1, tzinfo=UTC))
    book.declare_purpose("train-ai", title="Train", description="More of it")
    book.add_notice(b"You agree to more.", notice_id="terms", language="en")
    clock.set(NOW)


def _whole(tx: Transaction, values: dict[str, Any]) -> tuple[Event, Event] | None:
    try:
        act = acts.act_of(values, FILE)
        return act, tx.admit(act, "import:x")
    except InvalidEvent:
        return None


def test_in_short_as_in_whole(book: Ledger, clock: Clock) -> None:
    _declare(book, clock)
    taken = 0
    meant: set[tuple[str, ...]] = set()

    def plan(tx: Transaction) -> None:
        forms = tx.admission().forms("import:x", FILE)  # what they have learnt from one example counts for the next

        @settings(deadline=None, max_examples=300, database=None)
        @given(st.lists(ORDINARY | ROWS, min_size=1, max_size=12))
        def check(rows: list[dict[str, Any]]) -> None:
            nonlocal taken
            columns = {name: [row.get(name) for row in rows] for name in acts.COLUMNS}
            columns["occurred_at"] = list(map(moment, columns["occurred_at"]))
            for row, short in zip(rows, forms.shorts(columns, len(rows)), strict=True):
                whole = _whole(tx, row)
                if short is None:
                    continue
                assert whole is not None, "it is no act"
                act, admitted = whole
                taken += 1
                assert (short.event(), short.recorded()) == (act, admitted.filled_in(event_id=act.event_id))
                assert short.canonical == event_bytes(admitted)
                assert (short.is_yes, short.state, short.category) == (act.is_yes, act.state, act.category)

        check()
        meant.update(tuple(form.admitted.purposes) for form in forms._forms.values() if form is not None)

    book.append(plan)
    assert taken > 50
    assert {("train-ai@1",), ("train-ai@2",)} <= meant


def test_moments_of_a_column_are_written_as_each_is() -> None:
    moments = [datetime.min, datetime(999, 12, 31), datetime(1969, 12, 31, 23, 59, 59, 999999), datetime.max]
    some = [*(moment.replace(tzinfo=UTC) for moment in moments), None]
    sink = io.BytesIO()
    pq.write_table(pa.table({"occurred_at": pa.array(some, pa.timestamp("us", "UTC"))}), sink)
    (chunk,) = open_table(sink, "parquet").chunks(acts.COLUMNS)
    assert chunk.columns is not None and "occurred_at" in chunk.moments
    assert chunk.columns["occurred_at"] == [at and times.text(at) for at in some]
    assert [chunk.row(i).values for i in range(len(chunk))] == [{"occurred_at": at} for at in some]


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    if path.suffix == ".ndjson":
        path.write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
        return
    if path.suffix == ".csv":
        lines = [",".join(acts.COLUMNS)]
        lines += [
            ",".join(";".join(v) if isinstance(v := row.get(name, ""), list) else v for name in acts.COLUMNS) for row in rows
        ]
        path.write_text("\n".join([*lines, ""]))
        return
    kinds = {"purposes": pa.list_(pa.string()), **dict.fromkeys(acts.TIMES, pa.timestamp("us", "UTC"))}
    if path.name.startswith("texts"):
        kinds = {"purposes": pa.list_(pa.string())}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in acts.COLUMNS])
    typed = [
        {name: datetime.fromisoformat(v) if pa.types.is_timestamp(schema.field(name).type) else v for name, v in row.items()}
        for row in rows
    ]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(typed, schema), sink, row_group_size=7)
    path.write_bytes(sink.getvalue())


def test_a_file_in_any_form_comes_to_what_recording_its_acts_does(tmp_path: Path) -> None:
    began = datetime(2026, 1, 1, tzinfo=UTC)
    rows: list[dict[str, Any]] = []
    for i in range(60):
        at = (began + timedelta(hours=i, microseconds=i)).isoformat().replace("+00:00", "Z" if i % 2 else "+00:00")
        row = {"state": "given", "subject_id": f"u{i % 11}", "purposes": ["train-ai"], "occurred_at": at, "channel": "crm"}
        row |= {"content_id": f"é{i}"} if i % 3 == 0 else {"expires_at": "2028-01-01T00:00:00Z"} if i % 5 == 0 else {}
        row |= {"event_id": f"e{i}"} if i % 4 == 0 else {}
        if i % 7 == 0:
            row |= {"state": "withdrawn", "purposes": ["*"], "reason": "so"}
            row.pop("expires_at", None)
        if i % 14 == 0:
            row.pop("occurred_at")
        rows.append(row)
    rows += [rows[3], rows[4]]  # said twice: by an id that was derived, and by one that was given
    tables = {}
    for name in ("recorded", "acts.csv", "acts.ndjson", "acts.parquet", "texts.parquet"):
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        book = ledger.create(folder / "ledger")
        book.declare_purpose("train-ai", title="T", description="D")
        if name == "recorded":
            book.record_all([acts.act_of(row, FILE) for row in rows])
        else:
            _write(folder / name, rows)
            report = book.import_file(folder / name)
            assert (report.new, report.repeated) == (60, 2)
        assert book.fsck().events == 60
        kept = [(at, event) for at, event in book.events()]
        tables[name] = [
            (at, *(getattr(event, field) for field in Event.__slots__ if field not in ("recorded_at", "recorded_by", "event_id")))
            for at, event in kept
        ]
        dated = [event.event_id for _, event in kept if event.occurred_at is not None]
        tables[name].append(tuple(dated))
    for name, table in tables.items():
        assert table == tables["recorded"], name
