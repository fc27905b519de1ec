"""An import with a file for the rejects: good lines are recorded, bad ones can be mended, and no yes gets ahead of a no."""

from __future__ import annotations

import io
import json
import stat
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_ledger import no

import ledger
from ledger import ImportRejected, Ledger, UsageError
from ledger.errors import ConsentLedgerError
from ledger.store import append, imports, rejects

HEADER = "state,subject_id,purposes,occurred_at\n"
GOOD = "given,ann,train-ai,2026-01-01T00:00:00Z\n"
LATER = "2026-02-01T00:00:00Z"


def _write(book: Ledger, data: str | bytes, name: str = "acts.csv") -> Path:
    path = book.folder.path.parent / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def _run(book: Ledger, data: str | bytes, name: str = "acts.csv", **options: Any) -> imports.ImportReport:
    return book.import_file(_write(book, data, name), rejects=_bad(book), **options)


def _bad(book: Ledger) -> Path:
    return book.folder.path.parent / "bad"


def _why(book: Ledger) -> list[str]:
    return _bad(book).with_name("bad.why").read_text().splitlines()


def _states(book: Ledger, who: str) -> list[str]:
    return [event["state"] for event in book.show(who)["events"]]


def _left(book: Ledger) -> list[str]:
    """Names beside the ledger that hide."""
    return [path.name for path in book.folder.path.parent.iterdir() if path.name.startswith(".")]


def test_good_lines_are_recorded_and_bad_ones_kept_as_they_stood(book: Ledger) -> None:
    bad = ['withdrawn,"b,""o""\nb",train-aii,' + LATER, "refused,,*,", "refused,cem,*,,more", 'refused,dee,*,"31.1."']
    report = _run(book, HEADER + GOOD + "\n".join(bad) + "\n")
    assert (report.new, report.rejected) == (1, 4)
    assert _bad(book).read_text() == HEADER + bad[0] + "\n" + bad[1] + "\n" + bad[2] + "\nrefused,dee,*,31.1.\n"
    why = _why(book)
    assert [line.split(": ")[:2] for line in why] == [["1", "line 3"], ["2", "line 5"], ["3", "line 6"], ["4", "line 7"]]
    assert "train-aii" in why[0] and "declared: train-ai@1" in why[0]
    assert "subject_id" in why[1] and "5 values for 4 columns" in why[2] and "occurred_at" in why[3]
    for path in (_bad(book), _bad(book).with_name("bad.why")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert _left(book) == []
    act = next(act for _, act in book.read(lambda history: history.acts("import_finished")))
    assert (act["new"], act["rejected"]) == (1, 4)
    ledger.fsck(book.folder.path)


def test_the_mended_file_is_imported(book: Ledger) -> None:
    _run(book, HEADER + GOOD + f"withdrawn,ann,train-aii,{LATER}\nrefused,bob,*,,x\n")
    mended = _bad(book).read_text().replace("train-aii", "train-ai").replace(",,x", ",")
    assert book.import_file(_write(book, mended, "mended.csv")).new == 3, "with the yes that waited"
    assert (_states(book, "ann"), _states(book, "bob")) == (["given", "withdrawn"], ["refused"])


def test_without_bad_lines_there_is_no_file(book: Ledger) -> None:
    assert _run(book, HEADER + GOOD).rejected == 0
    assert not _bad(book).exists()
    assert _left(book) == []


def test_bad_lines_of_json_keep_their_bytes(book: Ledger) -> None:
    lines = [
        '{"state":"refused","state":"given","subject_id":"u","purposes":["*"]}',
        '{"state": "refused",  "subject_id": "ü", "purposes": ["*"], "mood": 1.50}',
        "[]",
        '{"state":"refused","subject_id":"\\ud800","purposes":["*"]}',
    ]
    good = '{"state":"refused","subject_id":"u1","purposes":["*"]}'
    report = _run(book, "\n".join([lines[0], good, *lines[1:], ""]), "acts.ndjson")
    assert (report.new, report.rejected) == (1, 4)
    assert _bad(book).read_text() == "\n".join([*lines, ""])


def test_bad_rows_of_parquet_keep_types_and_values(book: Ledger) -> None:
    table = pa.table(
        {
            "state": pa.array(["refused", "agreed", "refused", "given"]).dictionary_encode(),
            "subject_id": pa.array(["u1", "u2", "", "u4"], pa.string_view()),
            "purposes": pa.array([["*"], ["train-ai"], ["*"], ["train-ai"]], pa.large_list(pa.string())),
            "occurred_at": pa.array([0, 1, 2, None], pa.timestamp("ms", "+02:00")),
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    report = _run(book, sink.getvalue(), "acts.parquet")
    assert (report.new, report.rejected) == (1, 3)
    kept = pq.read_table(_bad(book))
    assert kept.schema.remove_metadata() == pq.read_table(io.BytesIO(sink.getvalue())).schema.remove_metadata()
    assert kept.to_pylist() == table.to_pylist()[1:]
    assert [line.split(": ")[1] for line in _why(book)] == ["row 2", "row 3", "row 4"]


def test_a_yes_waits_for_a_no_that_was_rejected(book: Ledger) -> None:
    """A mistyped no must not leave its person's yes standing, whichever comes first in the file."""
    for bad in (
        f"withdrawn,ann,train-aii,{LATER}",  # no such purpose
        "withdrawn,ann,train-ai,1.2.2026",  # no time
        f"withdrawm,ann,train-ai,{LATER}",  # no state
        f"ann,withdrawn,train-ai,{LATER}",  # columns in another order
        f"withdrawn,ann,train-ai,{LATER},oops",  # a value too many
        f"ann,{LATER}",  # values too few
    ):
        for lines in ([GOOD.strip(), bad], [bad, GOOD.strip()]):
            for path in (_bad(book), _bad(book).with_name("bad.why")):
                path.unlink(missing_ok=True)
            report = _run(book, HEADER + "\n".join([*lines, "given,bob,train-ai,2026-01-01T00:00:00Z", ""]))
            assert _states(book, "ann") == [], (bad, lines)
            assert report.rejected == 2
            assert any("held back" in why for why in _why(book))
    assert _states(book, "bob") == ["given"]


def test_a_no_does_not_wait_nor_a_yes_for_a_bad_yes(book: Ledger) -> None:
    report = _run(book, HEADER + GOOD + f"refused,ann,train-ai,{LATER}\ngiven,ann,train-ai,\n")
    assert (report.new, report.rejected) == (2, 1)
    assert _states(book, "ann") == ["given", "refused"]


def test_a_yes_waits_for_a_no_in_a_broken_line_of_json(book: Ledger) -> None:
    good = json.dumps({"state": "given", "subject_id": 'a"nn', "purposes": ["train-ai"], "occurred_at": "2026-01-01T00:00:00Z"})
    report = _run(book, good + '\n{"state":"withdrawn","subject_id":"a\\"nn","purposes":["*"],}\n', "acts.ndjson")
    assert (report.new, report.rejected) == (0, 2)


def test_a_yes_waits_for_a_no_whose_id_is_in_pieces(book: Ledger) -> None:
    """A comma that nobody quoted, a quote that nobody closed, quotes that are none."""
    yes = 'given,"smith, ann",train-ai,2026-01-01T00:00:00Z\n'
    assert _run(book, HEADER + yes + f"withdrawn,smith, ann,train-ai,{LATER}\n").new == 0
    good = json.dumps({"state": "given", "subject_id": "ann b", "purposes": ["train-ai"], "occurred_at": "2026-01-01T00:00:00Z"})
    for number, line in enumerate(
        ('{"state":"withdrawn","purposes":["*"],"subject_id":"ann b', "{'subject_id':'ann', state:'no'}")
    ):
        yes = good if number == 0 else good.replace("ann b", "ann")
        path = book.folder.path.parent / f"bad{number}"
        assert book.import_file(_write(book, f"{yes}\n{line}\n", "acts.ndjson"), rejects=path).new == 0


@pytest.mark.parametrize(
    ("who", "broken"),
    [
        ("ann", f"withdrawn;ann;train-ai;{LATER}"),  # other separators
        ("ann", f"withdrawn,ann |train-ai,{LATER}"),
        ("smith, ann", f"withdrawn,smith, ann,train-ai,{LATER},moved, away"),  # commas in two values
        ("smith, ann", f"withdrawn,smith, ann,train-ai,{LATER}{',' * 40}"),
        ("ann", f'refused,bob,"train-ai\nwithdrawn,ann,train-ai",{LATER}'),  # a quote that swallowed a line
        ("ann", f'given,bob,"train-ai\nwithdrawn,ann,train-ai",{LATER}'),
    ],
)
def test_a_yes_waits_for_a_no_within_a_broken_line_of_csv(book: Ledger, who: str, broken: str) -> None:
    report = _run(book, HEADER + f'given,"{who}",train-ai,2026-01-01T00:00:00Z\n{broken}\n')
    assert (report.new, report.rejected) == (0, 2)


@pytest.mark.parametrize(
    "broken",
    [
        '{"state":"withdrawn,"subject_id":"ann b","purposes":["*"]}',  # quotes in odd number
        "{'state':'withdrawn','subject_id':'ann b','purposes':['*']}",
    ],
)
def test_a_yes_waits_for_a_no_with_broken_quotes(book: Ledger, broken: str) -> None:
    good = {"state": "given", "subject_id": "ann b", "purposes": ["train-ai"], "occurred_at": "2026-01-01T00:00:00Z"}
    report = _run(book, f"{json.dumps(good)}\n{broken}\n", "acts.ndjson")
    assert (report.new, report.rejected) == (0, 2)


def test_an_id_that_is_used_again_for_a_no(book: Ledger) -> None:
    """In one file the no wins; where the yes is recorded already, the line is rejected and the source stays stale."""
    both = f"1,given,ann,train-ai,2026-01-01T00:00:00Z\n1,withdrawn,ann,train-ai,{LATER}\n"
    _run(book, "event_id," + HEADER + both)
    assert _states(book, "ann") == ["withdrawn"]
    book.import_file(_write(book, "event_id," + HEADER + "2,given,bob,train-ai,2026-01-01T00:00:00Z\n"), source="crm")
    fresh = book.look("train-ai").header.sources["crm"]
    later = "2,withdrawn,bob,train-ai,\n3,given,bob,train-ai,2026-03-01T00:00:00Z\n"
    report = book.import_file(_write(book, "event_id," + HEADER + later), source="crm", rejects=book.folder.path.parent / "bad2")
    assert (report.new, report.rejected) == (0, 2)
    assert book.look("train-ai").header.sources["crm"] == fresh


def test_a_yes_waits_for_a_no_far_away(book: Ledger) -> None:
    filler = "".join(f"refused,x{i},*,\n" for i in range(append.CHUNK + 3))
    report = _run(book, HEADER + GOOD + filler + "withdrawn,ann,train-ai,?\n")
    assert (report.new, report.rejected) == (append.CHUNK + 3, 2)
    assert _states(book, "ann") == []


@pytest.mark.parametrize(
    ("data", "name", "why"),
    [
        (HEADER + GOOD + 'refused,"bob,*,\n' + GOOD, "acts.csv", "not CSV"),
        (HEADER + GOOD + 'refused,"bob,*,\ngiven,"cem,train-ai,\n', "acts.csv", "not CSV"),
        # The quote ends in a later line: that one, a no, would be part of an id.
        (HEADER + GOOD + 'given,"bob,x\nrefused,ann,*,\ngiven",cem\n', "acts.csv", "several lines"),
        (HEADER.encode() + GOOD.encode() + b"refused,\xff,*,\n", "acts.csv", "not UTF-8"),
        (b'{"state":"refused","subject_id":"u","purposes":["*"]}\n{"state":"\xff"}\n', "acts.ndjson", "not UTF-8"),
        (b'{"state":"refused","subject_id":"u","purposes":["*"]}\n{"' + b" " * (2 << 20), "acts.ndjson", "longer"),
        ('{"state":"refused","subject_id":"u","purposes":["*"]}\n{"state":"refu', "acts.ndjson", "cut short"),
    ],
)
def test_where_nothing_more_is_known_nothing_is_recorded(book: Ledger, data: str | bytes, name: str, why: str) -> None:
    before = book.checkpoint()
    with pytest.raises(ImportRejected, match=why):
        _run(book, data, name)
    assert book.checkpoint() == before
    assert not _bad(book).exists()
    assert _left(book) == []


def test_a_csv_whose_last_line_is_not_ended_records_nothing(book: Ledger) -> None:
    for last in ("refused,bo", GOOD.strip()):
        with pytest.raises(UsageError, match="cut short"):
            _run(book, HEADER + GOOD + last)
    assert _states(book, "ann") == []
    assert not _bad(book).exists()


def test_a_truncated_parquet_file_records_nothing(book: Ledger) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"state": ["refused"], "subject_id": ["u"], "purposes": ["*"]}), sink)
    with pytest.raises(UsageError):
        _run(book, sink.getvalue()[:-20], "acts.parquet")
    assert not _bad(book).exists()


def test_a_file_that_is_there_is_never_replaced(book: Ledger) -> None:
    data = HEADER + GOOD + "refused,,*,\n"
    _bad(book).write_text("lines that nobody has mended\n")
    before = book.checkpoint()
    with pytest.raises(ConsentLedgerError, match="there already"):
        _run(book, data)
    assert book.checkpoint() == before
    assert _bad(book).read_text() == "lines that nobody has mended\n"
    source = _write(book, data)
    for name in (source, source.with_name("link.csv")):
        if name != source:
            name.symlink_to(source)
        with pytest.raises(ConsentLedgerError, match="there already"):
            book.import_file(source, rejects=name)
    (reasons := source.with_name("acts")).write_text("")
    why = source.rename(source.with_name("acts.why"))
    with pytest.raises(ConsentLedgerError, match="there already"):
        book.import_file(why, form="csv", rejects=reasons)
    assert why.read_text() == data
    assert book.checkpoint() == before


def test_a_crash_before_the_commit_leaves_the_rejects_and_the_same_import_ends_it(
    book: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = HEADER + GOOD + "refused,,*,\n"
    before = book.checkpoint()

    def crash(*_: Any, **__: Any) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(append.Transaction, "act", crash)
        with pytest.raises(KeyboardInterrupt):
            _run(book, data)
    assert book.checkpoint() == before
    assert _bad(book).read_text() == HEADER + "refused,,*,\n"
    report = _run(book, data)
    assert (report.new, report.rejected) == (1, 1)
    again = _run(book, data)
    assert (again.repeated, again.rejected) == (1, 1)


def test_a_folder_that_is_not_there(book: Ledger, tmp_path: Path) -> None:
    before = book.checkpoint()
    with pytest.raises(ConsentLedgerError, match="cannot create"):
        book.import_file(_write(book, HEADER + GOOD), rejects=tmp_path / "none" / "bad.csv")
    assert book.checkpoint() == before


def test_a_dry_run_checks_everything_and_records_nothing(book: Ledger) -> None:
    book.import_file(_write(book, HEADER + GOOD))
    book.record(no("bob", occurred_at=None))
    head, anchor = book.checkpoint(), (book.folder.path / "head").read_bytes()
    data = HEADER + GOOD + "given,cem,train-ai,2026-01-01T00:00:00Z\nrefused,,*,\n"
    with pytest.raises(ImportRejected, match="subject_id"):
        book.import_file(_write(book, data), dry_run=True)
    with pytest.raises(ImportRejected, match="not declared"):
        book.import_file(_write(book, HEADER + "refused,u,other,\n"), dry_run=True)
    report = _run(book, data, dry_run=True)
    assert (report.new, report.repeated, report.rejected, report.dry_run) == (1, 1, 1, True)
    assert report.size == int(head.split("\n")[1])
    assert (book.checkpoint(), (book.folder.path / "head").read_bytes()) == (head, anchor)
    assert _states(book, "cem") == []
    real = _run(book, data)
    assert (real.new, real.repeated, real.rejected, real.dry_run) == (1, 1, 1, False)
    ledger.fsck(book.folder.path)


def test_an_import_with_rejects_does_not_make_its_source_fresh(book: Ledger) -> None:
    def completed() -> dict[str, Any]:
        return dict(book.look("train-ai").header.sources)

    _run(book, HEADER + GOOD + "refused,,*,\n", source="crm")
    assert completed()["crm"].year == 1970
    whole = book.import_file(_write(book, HEADER + GOOD), source="crm")
    first = completed()["crm"]
    assert first.year > 1970 and whole.rejected == 0
    _run(book, HEADER + GOOD + "refused,,*,\n", source="crm")
    assert completed()["crm"] == first


def test_held_ids_may_be_anything() -> None:
    held = rejects.Held()
    assert "a" not in held
    assert held.add(["", "a", "\ud800", "x" * 513, "nul\0", "a"])
    assert not held.add(["a", "nul\0"])
    assert "a" in held and "nul\0" in held and "x" * 513 not in held
    held.close()


def test_a_source_is_bounded(book: Ledger) -> None:
    for source in ("x" * 513, "a\0b", "\ud800"):
        with pytest.raises(UsageError, match="source"):
            book.import_file(_write(book, HEADER + GOOD), source=source)
    book.import_file(_write(book, HEADER + GOOD), source="x" * 512)
    ledger.fsck(book.folder.path)
