"""Many acts from a file: all of them, or none."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_ledger import no, yes

import ledger
from ledger import Event, ImportRejected, Ledger, UsageError
from ledger.errors import ConsentLedgerError
from ledger.store import acts, imports
from ledger.store.rows import CHUNK

HEADER = "event_id,state,subject_id,category,content_id,purposes,occurred_at,expires_at,content_since,channel,actor,reason"
ROWS: list[dict[str, Any]] = [
    {
        "event_id": "e1",
        "state": "given",
        "subject_id": "u1",
        "purposes": ["search", "train-ai"],
        "occurred_at": "2026-01-02T03:04:05.678901Z",
    },
    {
        "state": "given",
        "subject_id": "u2",
        "content_id": "c,1",
        "purposes": ["train-ai"],
        "occurred_at": "2026-01-02T04:04:05+01:00",
        "expires_at": "2027-01-02T03:04:05Z",
        "content_since": "2025-01-02T03:04:05Z",
        "channel": "web",
        "actor": "subject",
    },
    {"state": "refused", "subject_id": ' "ü"\n', "purposes": ["*"], "reason": "so; and so"},
    {
        "state": "withdrawn",
        "subject_id": "u2",
        "category": "post",
        "purposes": ["train-ai@1"],
        "occurred_at": "2026-02-02T00:00:00Z",
    },
]


@pytest.fixture
def book(book: Ledger) -> Ledger:
    book.declare_purpose("search", title="Search", description="Search")
    return book


def _csv(rows: list[dict[str, Any]]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, HEADER.split(","))
    writer.writeheader()
    for row in rows:
        writer.writerow({**row, "purposes": ";".join(row["purposes"])})
    return out.getvalue().encode()


def _ndjson(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    fields = [
        (
            name,
            pa.list_(pa.string()) if name == "purposes" else pa.timestamp("us", "UTC") if name in acts.TIMES else pa.string(),
        )
        for name in HEADER.split(",")
    ]
    moments = [{k: datetime.fromisoformat(v) if k in acts.TIMES else v for k, v in row.items()} for row in rows]
    pq.write_table(pa.Table.from_pylist(moments, pa.schema(fields)), sink)
    return sink.getvalue()


FORMS = {"csv": _csv, "ndjson": _ndjson, "parquet": _parquet}


def _import(book: Ledger, data: bytes | str, form: str = "csv", **options: Any) -> imports.ImportReport:
    file = book.folder.path.parent / f"acts.{form}"
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    return book.import_file(file, **options)


def _events(book: Ledger) -> list[Event]:
    return [event for _, event in book.events()]


def _content(event: Event) -> tuple[Any, ...]:
    return tuple(getattr(event, name) for name in Event.__dataclass_fields__ if name not in ("recorded_at", "recorded_by"))


def _rejected(book: Ledger, data: bytes | str, form: str = "csv") -> list[str]:
    before = book.checkpoint()
    with pytest.raises(ImportRejected) as rejected:
        _import(book, data, form)
    assert book.checkpoint() == before
    assert rejected.value.bad_lines
    assert all(line in str(rejected.value) for line in rejected.value.bad_lines)
    return rejected.value.bad_lines


def test_every_form_gives_the_same_events(tmp_path: Path) -> None:
    found = []
    for form, write in FORMS.items():
        with ledger.create(tmp_path / form) as book:
            for token in ("train-ai", "search"):
                book.declare_purpose(token, title="T", description="D")
            report = _import(book, write(ROWS), form, source="crm")
            assert (report.new, report.repeated) == (4, 0)
            # The id of an undated act holds the file's digest too.
            found.append([_content(e) if e.occurred_at else _content(e)[:15] for e in _events(book)])
            assert {e.recorded_by for e in _events(book)} == {"import:crm"}
            ledger.fsck(book.folder.path)
    assert found[0] == found[1] == found[2]
    assert found[0][2][1] == ' "ü"\n'


@pytest.mark.parametrize("form", FORMS)
def test_again_is_all_repeats(book: Ledger, form: str) -> None:
    assert _import(book, FORMS[form](ROWS), form).new == 4
    events = _events(book)
    again = _import(book, FORMS[form](ROWS), form)
    assert (again.new, again.repeated, again.reversals) == (0, 4, 0)
    assert _events(book) == events


def test_ids_are_derived_from_content(book: Ledger) -> None:
    _import(book, _csv(ROWS))
    ids = [e.event_id for e in _events(book)]
    assert len(set(ids)) == 4
    assert all(i and i.startswith("import:") for i in ids[1:])
    # In another order and another file: a dated act is the same act, an undated no is a new one.
    report = _import(book, _csv([ROWS[3], ROWS[2], ROWS[1]]))
    assert (report.new, report.repeated) == (1, 2)


def test_one_no_tells_its_ids_from_those_of_a_yes(book: Ledger) -> None:
    rows = [{**ROWS[0], "event_id": None, "state": s} for s in ("given", "renewed", "refused", "objected")]
    assert _import(book, _ndjson(rows), "ndjson").new == 4


def test_an_undated_yes_is_refused_and_an_undated_no_taken(book: Ledger) -> None:
    lines = _rejected(book, "state,subject_id,purposes\nrefused,u1,train-ai\ngiven,u2,train-ai\n")
    assert lines == ["line 3: a yes needs occurred_at: an undated yes is no yes (say when the person said it)"]
    assert _import(book, "state,subject_id,purposes\nrefused,u1,train-ai\n").new == 1
    (event,) = _events(book)
    assert event.occurred_at is None
    assert event.counts_from == event.recorded_at


BAD: list[tuple[str, str]] = [
    ("given,,train-ai,2026-01-01T00:00:00Z", "subject_id"),
    (",u,train-ai,2026-01-01T00:00:00Z", "state"),
    ("given,u,,2026-01-01T00:00:00Z", "purposes"),
    ("agreed,u,train-ai,2026-01-01T00:00:00Z", "state"),
    ("given,u,train-ai,2026-01-01", "occurred_at"),
    ("given,u,train-ai,yesterday", "occurred_at"),
    ("given,u,train-ai,0001-01-01T00:00:00+14:00", "occurred_at"),
    ("given,u,train-ai,2126-01-01T00:00:00Z", "dated ahead"),
    ("given,u,other,2026-01-01T00:00:00Z", "'other'"),
    ("given,u,*,2026-01-01T00:00:00Z", "all purposes"),
    ("given,u,train-ai;;search,2026-01-01T00:00:00Z", "purpose"),
    ("given,u,train-ai,2026-01-01T00:00:00Z,x", "5 values for 4 columns"),
    ("given,u,train-ai", "3 values for 4 columns"),
    (f"given,{'u' * 513},train-ai,2026-01-01T00:00:00Z", "subject_id"),
    ("given,u\0,train-ai,2026-01-01T00:00:00Z", "subject_id"),
    ('given,"u,train-ai,2026-01-01T00:00:00Z', "not CSV"),
    ('given,"u"x,train-ai,2026-01-01T00:00:00Z', "not CSV"),
    ("given,u,train-ai@2,2026-01-01T00:00:00Z", "train-ai@2"),
]


@pytest.mark.parametrize(("line", "why"), BAD)
def test_a_bad_line_is_named_and_nothing_is_recorded(book: Ledger, line: str, why: str) -> None:
    (bad,) = _rejected(book, f"state,subject_id,purposes,occurred_at\nrefused,u1,train-ai,\n\n{line}\n")
    assert bad.startswith(("line 4: ", "line 5: ")), bad
    assert why in bad


NDJSON_BAD: list[tuple[str, str]] = [
    ('{"state":"refused","state":"given","subject_id":"u","purposes":["train-ai"]}', "twice"),
    ("[]", "object"),
    ("{", "JSON"),
    ("NaN", "object"),
    ('{"state":"refused","subject_id":"u"}', "purposes"),
    ('{"state":"refused","subject_id":null,"purposes":["train-ai"]}', "subject_id"),
    ('{"state":"refused","subject_id":5,"purposes":["train-ai"]}', "subject_id"),
    ('{"state":"refused","subject_id":"u","purposes":"train-ai"}', "purposes"),
    ('{"state":"refused","subject_id":"u","purposes":5}', "purposes"),
    ('{"state":"refused","subject_id":"u","purposes":{"train-ai":1}}', "purposes"),
    ('{"state":"refused","subject_id":"u","purposes":[null]}', "purpose"),
    ('{"state":"refused","subject_id":"u","purposes":[]}', "purposes"),
    ('{"state":"refused","subject_id":"\\ud800","purposes":["train-ai"]}', "subject_id"),
    ('{"state":["refused"],"subject_id":"u","purposes":["*"]}', "state"),
    ('{"state":"refused","subject_id":"u","purposes":["*"],"occurred_at":5}', "occurred_at"),
    ('{"state":"refused","subject_id":"u","purposes":["*"],"x":5}', "'x'"),
    ('{"state":"refused","subject_id":"u","purposes":["*"],"recorded_at":"2026-01-01T00:00:00Z"}', "recorded_at"),
    ('{"state":"refused","subject_id":"u","purposes":["*"],"channel":NaN}', "channel"),
    ('{"state":"refused","subject_id":"","purposes":["*"]}', "subject_id"),
    ("[" * 100_000, "JSON"),
    ('{"state":"refused","subject_id":"u","purposes":["*"],"actor":7}', "actor"),
    ("1" * 5000, "JSON"),
]


@pytest.mark.parametrize(("line", "why"), NDJSON_BAD, ids=range(len(NDJSON_BAD)))
def test_a_bad_line_of_json(book: Ledger, line: str, why: str) -> None:
    (bad,) = _rejected(book, '{"state":"refused","subject_id":"u1","purposes":["train-ai"]}\n\n' + line + "\n", "ndjson")
    assert bad.startswith("line 3: "), bad
    assert why in bad


@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_the_line_that_is_not_utf_8(book: Ledger, form: str) -> None:
    rows = [{"state": "refused", "subject_id": f"user-{i}", "purposes": ["train-ai"]} for i in range(2000)]
    data = FORMS[form](rows).replace(b"user-1500", b"user-\xff")
    (bad,) = _rejected(book, data, form)
    assert bad.startswith(f"line {1502 if form == 'csv' else 1501}: ")
    assert "UTF-8" in bad or "utf-8" in bad


def test_a_line_that_never_ends(book: Ledger) -> None:
    assert "longer than" in _rejected(book, b"{" + b" " * (2 << 20), "ndjson")[0]
    assert "line 2" in _rejected(book, b"state,subject_id,purposes\nrefused," + b"u" * (2 << 20) + b",*\n")[0]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\xef\xbb\xbfstate,subject_id,purposes\n", "byte order mark"),
        (b"", "empty"),
        (b"state,subject_id,purposes,mood\n", "'mood'"),
        (b"state,subject_id\n", "'purposes'"),
        (b"state,subject_id,purposes,state\n", "twice"),
        (b"State,subject_id,purposes\n", "'State'"),
        (b"recorded_at,state,subject_id,purposes\n", "'recorded_at'"),
    ],
)
def test_a_file_that_is_no_table_of_acts(book: Ledger, data: bytes, why: str) -> None:
    before = book.checkpoint()
    with pytest.raises(UsageError, match=why):
        _import(book, data)
    assert book.checkpoint() == before


def test_the_first_twenty_bad_lines_in_order(book: Ledger) -> None:
    lines = ["refused,u,other" if i % 2 else "agreed,u,*" for i in range(60)]
    bad = _rejected(book, "\n".join(["state,subject_id,purposes", *lines, ""]))
    assert len(bad) == 20
    numbers = [int(b.split(":")[0].removeprefix("line ")) for b in bad]
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 2
    many = _rejected(book, "\n".join(["state,subject_id,purposes", *["refused,u,other"] * 30_000, ""]))
    assert [m.split(":")[0] for m in many] == [f"line {i}" for i in range(2, 22)]


def test_reversals_are_people_who_go_from_no_to_yes(book: Ledger) -> None:
    before = datetime(2026, 1, 2, tzinfo=UTC)
    book.record_all([no(who, occurred_at=before, content_id="c" if who == "b" else None) for who in "abcd"])
    book.record(yes("d", occurred_at=before + timedelta(days=1)))
    book.record(no("g"))
    rows = [
        {
            "state": state,
            "subject_id": who,
            "purposes": ["train-ai"],
            "content_id": content,
            "occurred_at": f"2026-03-0{day}T00:00:00Z",
        }
        for state, who, content, day in (
            ("given", "a", None, 1),
            ("renewed", "a", None, 2),
            ("given", "b", "c", 1),
            ("given", "c", "other", 1),
            ("given", "d", None, 1),
            ("refused", "e", None, 1),
            ("given", "e", None, 2),
            ("given", "f", None, 1),
            ("refused", "f", None, 2),
            ("given", "g", None, 1),  # the no came later
        )
    ]
    report = _import(book, _ndjson(rows), "ndjson")
    assert (report.new, report.reversals) == (10, 4)  # a, b, c for one item, e
    assert report.document()["reversals"] == 4
    assert _import(book, _ndjson(rows), "ndjson").reversals == 0, "repeats change nobody's mind"


def test_reversals_across_chunks(book: Ledger) -> None:
    filler = [{"state": "refused", "subject_id": f"x{i}", "purposes": ["*"]} for i in range(CHUNK + 5)]
    rows = [
        {"state": "refused", "subject_id": "u", "purposes": ["*"], "occurred_at": "2025-01-01T00:00:00Z"},
        *filler,
        {"state": "given", "subject_id": "u", "purposes": ["train-ai"], "occurred_at": "2026-01-01T00:00:00Z"},
    ]
    seen: list[int] = []
    report = _import(book, _ndjson(rows), "ndjson", on_progress=seen.append)
    assert (report.new, report.reversals, seen) == (len(rows), 1, [CHUNK, len(rows)])
    again = _import(book, _ndjson(rows), "ndjson")
    assert (again.new, again.repeated) == (0, len(rows))


def test_an_id_of_another_act_is_a_bad_line(book: Ledger) -> None:
    book.record(no("u1", event_id="e1"))
    (bad,) = _rejected(book, "event_id,state,subject_id,purposes\ne2,refused,u,*\ne1,refused,u2,train-ai\n")
    assert bad.startswith("line 3: ")
    assert "'e1'" in bad
    (bad,) = _rejected(book, "event_id,state,subject_id,purposes\ne2,refused,u,*\ne2,refused,u,train-ai\n")
    assert bad.startswith("line 3: ")


@pytest.mark.parametrize("form", FORMS)
def test_a_stream(book: Ledger, form: str) -> None:
    report = book.import_file(io.BytesIO(FORMS[form](ROWS)), form=form)
    assert (report.source, report.new) == ("stdin", 4)
    with pytest.raises(UsageError, match="stream"):
        book.import_file(io.BytesIO(b""))
    with pytest.raises(UsageError, match="unknown"):
        book.import_file(io.BytesIO(b""), form="xlsx")


def test_a_file_that_cannot_be_read(book: Ledger, tmp_path: Path) -> None:
    for path, error in ((tmp_path / "none.csv", ConsentLedgerError), (tmp_path / "acts.xlsx", UsageError)):
        with pytest.raises(error):
            book.import_file(path)


def test_a_file_that_grows_while_it_is_read(book: Ledger, tmp_path: Path) -> None:
    before = book.checkpoint()
    file = tmp_path / "acts.csv"
    file.write_text("state,subject_id,purposes\n" + "refused,u,*\n" * (CHUNK + 5))

    def grow(_: int) -> None:
        with file.open("a") as more:
            more.write("refused,later,*\n")

    with pytest.raises(ConsentLedgerError, match="changed while"):
        book.import_file(file, on_progress=grow)
    assert book.checkpoint() == before


def _table(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"state": ["refused"], "subject_id": ["u"], "purposes": ["*"], **columns}), sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"PAR1 no", UsageError),
        (b"", UsageError),
        (_table()[:-20], UsageError),
        (_table(mood=["x"]), UsageError),
        (_table(occurred_at=pa.array([0], pa.timestamp("us"))), ImportRejected),
        (_table(occurred_at=pa.array([1], pa.timestamp("ns", "UTC"))), UsageError),
        (_table(occurred_at=pa.array([2**62], pa.timestamp("us", "UTC"))), UsageError),
        (_table(occurred_at=pa.array([2**40], pa.timestamp("s", "UTC"))), UsageError),
        (_table(occurred_at=pa.array([1], pa.date32())), ImportRejected),
        (_table(subject_id=[5]), ImportRejected),
        (_table(subject_id=[b"u"]), ImportRejected),
        (_table(subject_id=[None]), ImportRejected),
        (_table(subject_id=[""]), ImportRejected),
        (_table(purposes=[["*", None]]), ImportRejected),
        (_table(purposes=[[]]), ImportRejected),
        (_table(subject_id=pa.array([b"\xff"], pa.binary()).view(pa.string())), UsageError),
    ],
)
def test_a_parquet_file_that_is_no_table_of_acts(book: Ledger, data: bytes, error: type[ConsentLedgerError]) -> None:
    before = book.checkpoint()
    with pytest.raises(error):
        _import(book, data, "parquet")
    assert book.checkpoint() == before


def test_parquet_of_other_types_for_the_same_text(book: Ledger) -> None:
    data = _table(
        subject_id=pa.array(["u"]).dictionary_encode(),
        purposes=pa.array([["train-ai"]], pa.large_list(pa.string_view())),
        occurred_at=pa.array([1_767_225_600_000], pa.timestamp("ms", "+02:00")),
    )
    assert _import(book, data, "parquet").new == 1
    (event,) = _events(book)
    assert event.occurred_at == datetime(2026, 1, 1, tzinfo=UTC)


def test_real_acts(shared: Path, tmp_path: Path) -> None:
    with ledger.create(tmp_path / "real") as real:
        real.declare_purpose("train-ai", title="T", description="D", categories=["address", "inaugural", "scene"])
        real.declare_purpose("search", title="T", description="D")
        report = real.import_file(shared / "data" / "consents.csv")
        assert (report.new, report.repeated) == (384, 0)
        assert real.import_file(shared / "data" / "consents.csv").repeated == 384
        assert ledger.fsck(real.folder.path).events == 384


_ID = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "state": st.sampled_from(["given", "renewed", "refused", "withdrawn", "objected", "revoked"]),
                "subject_id": _ID,
                "purposes": st.sampled_from([["train-ai"], ["search"], ["search", "train-ai"], ["train-ai@1"]]),
                "occurred_at": st.datetimes(datetime(1970, 1, 1), datetime(2025, 1, 1), timezones=st.just(UTC)).map(
                    datetime.isoformat
                ),
            },
            optional={"content_id": _ID, "reason": _ID},
        ),
        max_size=20,
    )
)
def test_any_rows_are_the_same_acts_in_any_form(book: Ledger, rows: list[dict[str, Any]]) -> None:
    before = len(_events(book))
    reports = [_import(book, write(rows), form) for form, write in FORMS.items()]
    assert all(r.new + r.repeated == len(rows) for r in reports)
    assert reports[1].new == reports[2].new == 0, "the second and third form hold the same acts"
    assert len(_events(book)) - before == reports[0].new
