"""A table of one's own: which columns and values mean what, and that whatever nobody gave a meaning to never becomes a yes."""

from __future__ import annotations

import io
import json
import tomllib
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import ledger
from ledger import Event, ImportColumns, ImportRejected, Ledger, UsageError
from ledger.store import imports

CRM = """
subject_id = "customer"
state = { column = "optin", values = { yes = "given", no = "withdrawn", "" = "refused" } }
purposes = "=train-ai"
occurred_at = { column = "changed", zone = "Europe/Berlin" }
"""


def columns(toml: str) -> ImportColumns:
    return ImportColumns.of("crm", tomllib.loads(toml))


def run(book: Ledger, toml: str, data: bytes | str, form: str = "csv", **options: Any) -> imports.ImportReport:
    stream = io.BytesIO(data if isinstance(data, bytes) else data.encode())
    return book.import_file(stream, source="crm", form=form, columns=columns(toml), **options)


def events(book: Ledger) -> list[Event]:
    return [event for _, event in book.events()]


def bad(book: Ledger, toml: str, data: bytes | str, form: str = "csv") -> list[str]:
    before = book.checkpoint()
    with pytest.raises(ImportRejected) as error:
        run(book, toml, data, form)
    assert book.checkpoint() == before
    return error.value.bad_lines


def test_a_table_of_ones_own(book: Ledger) -> None:
    rows = ("1,ann,yes,2026-01-15 12:00:00", "2,bob,no,2026-07-15T12:00", "3,cem,,", "4,dee,no,2026-01-01T00:00:00Z")
    data = "\n".join(["id,customer,optin,changed", *rows, ""])
    assert run(book, CRM, data).new == 4
    assert [(e.subject_id, e.state, e.purposes, e.occurred_at) for e in events(book)] == [
        ("ann", "given", ("train-ai@1",), datetime(2026, 1, 15, 11, tzinfo=UTC)),
        ("bob", "withdrawn", ("train-ai@1",), datetime(2026, 7, 15, 10, tzinfo=UTC)),
        ("cem", "refused", ("train-ai@1",), None),
        ("dee", "withdrawn", ("train-ai@1",), datetime(2026, 1, 1, tzinfo=UTC)),
    ]
    assert run(book, CRM, data).repeated == 4
    ledger.fsck(book.folder.path)


@pytest.mark.parametrize("value", ["Yes", "YES", " yes", "yes ", "ja", "1", "given", "true"])
def test_a_value_that_is_not_listed_is_never_a_yes(book: Ledger, value: str) -> None:
    (line,) = bad(book, CRM, f"customer,optin,changed\nann,{value},2026-01-01 00:00\n")
    assert line.startswith("line 2: column 'optin' holds ")


def test_values_that_differ_in_case_are_two(book: Ledger) -> None:
    toml = CRM.replace("yes =", "Y = 'given', y = 'withdrawn', yes =")
    run(book, toml, "customer,optin,changed\nann,Y,2026-01-01 00:00\nbob,y,2026-01-01 00:00\n")
    assert [e.state for e in events(book)] == ["given", "withdrawn"]


@pytest.mark.parametrize("word", ["", " ", "NULL", "null", "None", "N/A", "nan", r"\\N", "unknown", "-"])
def test_silence_is_mapped_to_a_no_only(word: str) -> None:
    line = 'state = {{ column = "optin", values = {{ "{}" = "{}" }} }}'
    rest = 'subject_id = "c"\npurposes = "=p"\noccurred_at = "t"\n'
    assert columns(rest + line.format(word, "refused"))
    for state in ("given", "renewed"):
        with pytest.raises(UsageError, match="silence is no"):
            columns(rest + line.format(word, state))
    with pytest.raises(UsageError, match="silence is no"):
        columns(rest.replace('"=p"', f'{{ column = "p", values = {{ "{word}" = "train-ai" }} }}') + 'state = "s"')


@pytest.mark.parametrize(
    ("toml", "why"),
    [
        (CRM + "mood = 'x'\n", "'mood'"),
        (CRM + "recorded_at = 'x'\n", "'recorded_at'"),
        (CRM.replace("subject_id", "content_id"), "subject_id"),
        (CRM.replace('"customer"', '"=ann"'), "same for every row"),
        (CRM.replace('"customer"', "5"), "names no column"),
        (CRM.replace('"customer"', "{ values = { a = 'b' } }"), "names no column"),
        (CRM.replace('"customer"', "{ column = 'c', values = { a = 'b' } }"), "'values'"),
        (CRM.replace('column = "changed", ', ""), "names no column"),
        (CRM.replace("Europe/Berlin", "Europe/Berlyn"), "time zone"),
        (CRM.replace("Europe/Berlin", "../../etc/passwd"), "time zone"),
        (CRM.replace('"Europe/Berlin"', "1"), "time zone"),
        (CRM.replace('"given"', '"agreed"'), "'agreed'"),
        (CRM.replace('"given"', "true"), "texts"),
        (CRM.replace('column = "optin"', 'column = "optin", zone = "UTC"'), "'zone'"),
        (CRM.replace('{ column = "changed", zone = "Europe/Berlin" }', '"=2026-01-01T00:00:00Z"'), "same for every row"),
        (CRM + "expires_at = '=2027-01-01T00:00:00Z'\n", "same for every row"),
        (CRM + "ignore = 'x'\n", "list"),
        (CRM + "ignore = ['optin']\n", "both reads and ignores"),
        ("subject_id = 'c'\nstate = '=given'\npurposes = '=p'\n", "a yes needs occurred_at"),
        ("subject_id = 'c'\nstate = '=agreed'\npurposes = '=p'\n", "'agreed'"),
    ],
)
def test_a_table_that_says_anything_else_is_refused(toml: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        columns(toml)


def test_a_column_that_is_not_there(book: Ledger) -> None:
    with pytest.raises(UsageError, match="'changed'") as error:
        run(book, CRM, "customer,optin,Changed\n")
    assert "'Changed'" in str(error.value.hint)
    with pytest.raises(UsageError, match="twice"):
        run(book, CRM, "customer,optin,changed,optin\n")
    (line,) = bad(book, CRM, '{"customer":"ann","optin":"yes"}\n', "ndjson")
    assert "'changed'" in line, "in NDJSON too: a column that is spelled otherwise must not read as empty"


def test_a_field_of_acts_that_nobody_reads_is_refused(book: Ledger) -> None:
    """A yes for one item must not become a yes for everything, nor one that ends a yes for ever."""
    for name in ("content_id", "category", "expires_at", "content_since", "actor", "channel", "Content_ID", " category"):
        with pytest.raises(UsageError, match=f"'{name}' bears"):
            run(book, CRM, f"customer,optin,changed,{name}\nann,yes,2026-01-01 00:00,x\n")
    assert run(book, CRM + "ignore = ['channel']\n", "customer,optin,changed,channel\nann,yes,2026-01-01 00:00,x\n").new == 1
    row = {"customer": "bob", "optin": "yes", "changed": "2026-01-01 00:00", "content_id": "p"}
    assert "'content_id'" in bad(book, CRM, json.dumps(row), "ndjson")[0]


def test_where_items_are_mapped_a_yes_needs_one(book: Ledger) -> None:
    toml = CRM + "content_id = 'post'\n"
    (line,) = bad(book, toml, "customer,optin,changed,post\nann,yes,2026-01-01 00:00,\n")
    assert "'post' is empty" in line
    run(book, toml, "customer,optin,changed,post\nann,no,2026-01-01 00:00,\nann,yes,2026-01-02 00:00,p1\n")
    assert [(e.state, e.content_id) for e in events(book)] == [("withdrawn", None), ("given", "p1")]
    both = toml + "category = 'kind'\n"
    run(book, both, "customer,optin,changed,post,kind\nbob,yes,2026-01-01 00:00,,photo\n")
    assert "'kind' is empty" in bad(book, both, "customer,optin,changed,post,kind\nbob,yes,2026-01-01 00:00,,\n")[0]


ALL_YES = """
subject_id = "mail"
state = "=given"
purposes = "=train-ai"
occurred_at = "agreed"
"""


def test_a_table_of_people_who_agreed(book: Ledger) -> None:
    run(book, ALL_YES, "mail,agreed\nann,2026-01-01T00:00:00Z\n")
    assert "a yes needs occurred_at" in bad(book, ALL_YES, "mail,agreed\nbob,\n")[0]
    # A column that nobody reads could be the one that says no.
    with pytest.raises(UsageError, match="'unsubscribed' is not read"):
        run(book, ALL_YES, "mail,agreed,unsubscribed\nbob,2026-01-01T00:00:00Z,yes\n")
    assert run(book, ALL_YES + "ignore = ['n']\n", "mail,agreed,n\nbob,2026-01-01T00:00:00Z,1\n").new == 1
    sure = '{"mail":"cem","agreed":"2026-01-01T00:00:00Z","gone":true}'
    assert "'gone'" in bad(book, ALL_YES, sure, "ndjson")[0]


def test_of_an_hour_that_came_twice_a_yes_is_early_and_a_no_late(book: Ledger) -> None:
    run(book, CRM, "customer,optin,changed\nann,yes,2026-10-25 02:30:00\nbob,no,2026-10-25 02:30:00\n")
    early, late = (e.occurred_at for e in events(book))
    assert (early, late) == (datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 25, 1, 30, tzinfo=UTC))
    toml = CRM + "expires_at = { column = 'until', zone = 'Europe/Berlin' }\n"
    toml += "content_since = { column = 'since', zone = 'Europe/Berlin' }\n"
    run(book, toml, "customer,optin,changed,until,since\ncem,yes,2026-01-01 00:00,2026-10-25 02:30,2025-10-26 02:30\n")
    event = events(book)[-1]
    assert event.expires_at == datetime(2026, 10, 25, 0, 30, tzinfo=UTC), "a yes ends at the earlier reading"
    assert event.content_since == datetime(2025, 10, 26, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-29 02:30:00",
        "2026-02-30 00:00",
        "2026-01-01",
        "01.02.2026 00:00",
        "2026-01-01 24:30",
        "0001-01-01 00:00",
        "1767225600",
    ],
)
def test_a_time_that_no_clock_showed_is_a_bad_line(book: Ledger, text: str) -> None:
    for state in ("yes", "no"):
        assert bad(book, CRM, f"customer,optin,changed\nann,{state},{text}\n")[0].startswith("line 2: ")


def test_a_time_without_a_zone_where_none_is_named(book: Ledger) -> None:
    toml = CRM.replace('{ column = "changed", zone = "Europe/Berlin" }', '"changed"')
    assert "no time zone" in bad(book, toml, "customer,optin,changed\nann,yes,2026-01-01 00:00\n")[0]
    assert "no time zone" in bad(book, toml, _parquet(changed=pa.array([0], pa.timestamp("us"))), "parquet")[0]


def _parquet(**table: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"customer": ["ann"], "optin": ["yes"], "changed": ["2026-01-01 00:00"], **table}), sink)
    return sink.getvalue()


def test_a_no_has_no_end_whatever_its_row_says(book: Ledger) -> None:
    toml = CRM + "expires_at = 'until'\ncontent_since = 'since'\n"
    run(book, toml, "customer,optin,changed,until,since\nann,no,2026-01-01 00:00,2027-01-01T00:00:00Z,nonsense\n")
    (event,) = events(book)
    assert (event.state, event.expires_at, event.content_since) == ("withdrawn", None, None)


def test_whole_numbers_are_ids_and_nothing_else_is(book: Ledger) -> None:
    toml = CRM.replace("yes =", "1 =")
    run(book, toml, _parquet(customer=pa.array([7], pa.int64()), optin=pa.array([1], pa.uint8())), "parquet")
    run(book, toml, '{"customer": 123456789012345678901234567890, "optin": 1, "changed": "2026-01-01 00:00"}', "ndjson")
    assert [e.subject_id for e in events(book)] == ["7", "123456789012345678901234567890"]
    for value in ("7.0", "true", "1e3", "[7]", '{"id":7}'):
        assert "which is no text" in bad(book, toml, f'{{"customer": {value}, "optin": 1, "changed": null}}', "ndjson")[0]
    for array in (pa.array([7.0]), pa.array([True]), pa.array([b"ann"]), pa.array([7]).cast(pa.decimal128(20, 0))):
        assert "which is no text" in bad(book, toml, _parquet(customer=array, optin=["1"]), "parquet")[0]
    for value in ("1.0", "true", "[1]"):
        assert "column 'optin'" in bad(book, toml, f'{{"customer": 7, "optin": {value}, "changed": null}}', "ndjson")[0]


def test_typed_booleans_go_by_their_words(book: Ledger) -> None:
    toml = CRM.replace("yes =", "true =").replace("no =", "false =")
    run(book, toml, _parquet(customer=["ann", "bob"], optin=[True, False], changed=["2026-01-01 00:00"] * 2), "parquet")
    run(
        book,
        toml,
        '{"customer": "cem", "optin": false, "changed": null}\n{"customer": "dee", "optin": null, "changed": null}\n',
        "ndjson",
    )
    assert [e.state for e in events(book)] == ["given", "withdrawn", "withdrawn", "refused"]
    assert bad(book, CRM, '{"customer": "cem", "optin": true, "changed": "2026-01-01 00:00"}', "ndjson")


def test_parquet_times_and_columns_that_nobody_reads(book: Ledger) -> None:
    data = _parquet(
        changed=pa.array([datetime(2026, 7, 1, 12)], pa.timestamp("ms")),
        other=pa.array([2**62 + 1], pa.timestamp("ns")),
        blob=pa.array([b"\xff"]),
    )
    run(book, CRM, data, "parquet")
    assert events(book)[0].occurred_at == datetime(2026, 7, 1, 10, tzinfo=UTC)


def test_purposes_and_categories_by_value(book: Ledger) -> None:
    toml = CRM.replace('"=train-ai"', '{ column = "use", values = { ml = "train-ai", all = "train-ai;search" } }')
    book.declare_purpose("search", title="S", description="D")
    run(book, toml, "customer,optin,changed,use\nann,yes,2026-01-01 00:00,ml\nbob,no,2026-01-01 00:00,all\n")
    assert [e.purposes for e in events(book)] == [("train-ai@1",), ("search@1", "train-ai@1")]
    for use in ("ML", ""):
        assert "'use'" in bad(book, toml, f"customer,optin,changed,use\nann,yes,2026-01-01 00:00,{use}\n")[0]


def test_another_meaning_makes_another_act(book: Ledger) -> None:
    data = "customer,optin,changed\nann,yes,2026-01-01 00:00\n"
    run(book, CRM, data)
    assert run(book, CRM.replace('"given"', '"withdrawn"'), data).new == 1
    toml = CRM + "event_id = 'n'\n"
    run(book, toml, "customer,optin,changed,n\nbob,yes,2026-01-01 00:00,1\n")
    assert (
        "another state"
        in bad(book, toml.replace('"given"', '"refused"'), "customer,optin,changed,n\nbob,yes,2026-01-01 00:00,1\n")[0]
    )


def test_rejects_are_rows_of_the_table_itself(book: Ledger, tmp_path: Any) -> None:
    data = "n,customer,optin,changed\n1,ann,yes,2026-01-01 00:00\n2,ann,nope,2026-02-01 00:00\n3,bob,no,\n"
    report = run(book, CRM, data, rejects=tmp_path / "bad.csv")
    assert (report.new, report.rejected) == (1, 2)
    kept = (tmp_path / "bad.csv").read_text()
    assert kept == "n,customer,optin,changed\n1,ann,yes,2026-01-01 00:00\n2,ann,nope,2026-02-01 00:00\n"
    assert run(book, CRM, kept.replace("nope", "no")).new == 2
