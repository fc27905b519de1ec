"""An import whose acts a second process prepares records what one process records, whatever becomes of that process."""

from __future__ import annotations

import gc
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from small_ledger import no, yes
from test_short import _write

import ledger
from ledger import ImportColumns, Ledger, cores, times
from ledger.errors import ConsentLedgerError, IntegrityError
from ledger.store import ahead, beside, database, imports, rows
from ledger.store.prepared import Prepared
from ledger.store.tables import Opening

CHUNK = 16
FORMS = ["csv", "ndjson", "parquet"]
T0 = datetime(2020, 1, 1, tzinfo=UTC)
_COLUMNS = "position, canonical, act, event_id, subject_id, lookalike, state, category, content_id"
Told = list[Prepared | None]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """In both processes."""
    monkeypatch.setattr(rows, "CHUNK", CHUNK)
    run = beside._RUN.replace("from {} import", f"import ledger.store.rows; ledger.store.rows.CHUNK = {CHUNK}; from {{}} import")
    monkeypatch.setattr(beside, "_RUN", run)
    monkeypatch.setattr(cores, "count", lambda: 2)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """What second processes have told, however short the file is."""
    monkeypatch.setattr(ahead, "WORTHWHILE", 1)
    monkeypatch.setattr(imports, "_OF_NO_USE", 1000)
    found, chunks = Told(), ahead.Ahead.chunks

    def listened(self: ahead.Ahead) -> Iterator[tuple[int, Prepared | None]]:
        for count, acts in chunks(self):
            found.append(acts)
            yield count, acts

    monkeypatch.setattr(ahead.Ahead, "chunks", listened)
    return found


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes that were started."""
    processes: list[subprocess.Popen[bytes]] = []

    class Noted(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            processes.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    return processes


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with two versions of a purpose and a notice, with acts, and with somebody who was erased."""
    path = tmp_path_factory.mktemp("ahead") / "ledger"
    with ledger.create(path) as book:
        for title in ("Training", "More training"):
            book.declare_purpose("train-ai", title=title, description="Of models")
        book.add_notice(b"You agree to much.", notice_id="terms", language="en")
        book.record_all([no("u3", event_id="e3"), yes("gone", occurred_at=T0), no("u5", event_id="undated")])
        book.erase("gone")
    return path


def _row(number: int, **other: Any) -> dict[str, Any]:
    at = (T0 + timedelta(hours=number, microseconds=number)).isoformat().replace("+00:00", "Z")
    return {"state": "given", "subject_id": f"u{number}", "purposes": ["train-ai"], "occurred_at": at, **other}


def _some(count: int = 5 * CHUNK + 3) -> list[dict[str, Any]]:
    """Plain ones, of several forms."""
    kinds: tuple[dict[str, str], ...] = (
        {},
        {"state": "withdrawn"},
        {"content_id": 'é "x"'},
        {"event_id": "own-{}"},
        {"notice": "terms"},
        {"channel": "web"},
    )
    return [
        _row(number, **{name: value.format(number) for name, value in kinds[number // 3 % len(kinds)].items()})
        for number in range(count)
    ]


def _file(folder: Path, form: str, some: list[dict[str, Any]]) -> Path:
    path = folder / f"acts.{form}"
    _write(path, [{name: value for name, value in row.items() if value is not None} for row in some])
    return path


def _imported(base: Path, path: Path, *, alone: bool, monkeypatch: pytest.MonkeyPatch, **options: Any) -> list[Any]:
    """All that an import leaves in a copy of a ledger, but for salts."""
    shutil.copytree(base, path)
    with monkeypatch.context() as patch, ledger.open(path) as book:
        if alone:
            patch.setattr(cores, "count", lambda: 1)
        seen: list[int] = []
        if "rejects" in options:
            options["rejects"] = path / "bad"
        try:
            found: Any = book.import_file(on_progress=seen.append, **options).document()
        except (ConsentLedgerError, KeyboardInterrupt) as error:
            found = type(error), str(error), getattr(error, "hint", None), getattr(error, "bad_lines", None)
        book.fsck()
        with closing(sqlite3.connect(path / "ledger.db")) as connection:
            opened = connection.execute(f"SELECT {_COLUMNS} FROM openings ORDER BY position").fetchall()
            tags = connection.execute("SELECT position, tag FROM entries ORDER BY position").fetchall()
            kept = connection.execute("SELECT recorded_at FROM checkpoints").fetchall()
    bad = [file.read_bytes() for file in sorted(path.glob("bad*"))]
    return [found, seen, opened, tags, kept, bad]


def _by_both(base: Path, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch, **options: Any) -> list[Any]:
    """What an import comes to, after a look that it is the same by one process and by two."""
    now = times.now()
    monkeypatch.setattr(times, "now", lambda: now)
    number = len(list(tmp_path.iterdir()))
    one = _imported(base, tmp_path / f"one{number}", alone=True, monkeypatch=monkeypatch, **options)
    assert not told
    two = _imported(base, tmp_path / f"two{number}", alone=False, monkeypatch=monkeypatch, **options)
    assert one == two
    return two


@pytest.mark.parametrize("form", FORMS)
def test_plain_acts_are_all_prepared(
    base: Path, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch, form: str, started: list[subprocess.Popen[bytes]]
) -> None:
    file = _file(tmp_path, form, _some())
    found, seen, opened, *_ = _by_both(base, tmp_path, told, monkeypatch, file=file)
    assert (found["new"], found["rejected"]) == (5 * CHUNK + 3, 0)
    assert seen == [*range(CHUNK, 6 * CHUNK, CHUNK), 5 * CHUNK + 3]
    # Of a form that one act alone has, as some have at a chunk's edge, nothing is learnt.
    assert len(told) == 6 and sum(acts is not None for acts in told) >= 5
    assert {json.loads(row[1]).get("notice") for row in opened} >= {"terms@1/en", None}
    (process,) = started
    assert process.returncode == 0


@pytest.mark.parametrize("form", FORMS)
def test_whatever_is_not_plain_is_settled_by_the_writer(
    base: Path, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    some = _some(12 * CHUNK)
    edges = [0, CHUNK - 1, CHUNK, 3 * CHUNK - 1]
    for place, other in zip(
        [*edges, *range(4 * CHUNK + 1, 8 * CHUNK, 7)],
        [
            {"subject_id": "gone", "occurred_at": "2026-01-01T00:00:00Z"},  # of before the erasure
            {"event_id": "e3", "state": "refused", "subject_id": "u3", "occurred_at": None},  # recorded
            {"occurred_at": None, "state": "objected"},
            {"event_id": "own-9", "state": "given", "occurred_at": some[9]["occurred_at"], "subject_id": "u9"},  # said above
            {"expires_at": "2028-01-01T00:00:00Z"},
            {"subject_id": "ü" * 200},
            {"purposes": ["train-ai@1"]},
            {"purposes": ["*"], "state": "refused"},
        ],
        strict=False,
    ):
        some[place] = _row(place, **other)
    some += some[5 * CHUNK : 7 * CHUNK]  # said again, in chunks of their own
    found, *_ = _by_both(base, tmp_path, told, monkeypatch, file=_file(tmp_path, form, some))
    assert found["suppressed"] == 1 and found["repeated"] >= 2 * CHUNK
    assert len(told) == 14 and None in told and any(told)


BAD: list[dict[str, Any]] = [
    {"state": "agreed"},
    {"subject_id": "u" * 513},
    {"occurred_at": None},
    {"occurred_at": "2126-01-01T00:00:00Z"},
    {"purposes": ["other"]},
    {"purposes": ["*"]},
    {"event_id": "e3"},
    {"event_id": "own-9"},
    {"expires_at": "2019-01-01T00:00:00Z"},
    {"notice": "none"},
]
PLACES = [0, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 3 * CHUNK, 5 * CHUNK - 1, 5 * CHUNK, 5 * CHUNK + 2, 5 * CHUNK + 2]


@pytest.mark.parametrize("place", range(len(BAD)))
def test_a_bad_row_anywhere_is_told_as_by_one(
    base: Path, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    some = _some()
    at = PLACES[place]
    some[at] = {**some[at], "state": "given", **BAD[place]}
    file = _file(tmp_path, FORMS[place % len(FORMS)], some)
    found, _, opened, *_ = _by_both(base, tmp_path, told, monkeypatch, file=file)
    assert found[0] is ledger.ImportRejected and len(found[3]) == 1
    assert f"{at + (2 if file.suffix == '.csv' else 1)}: " in found[3][0]
    assert all(row[3] != "own-10" for row in opened), "nothing is recorded"


@pytest.mark.parametrize("form", FORMS)
def test_rejects_are_those_of_one(base: Path, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    some = _some()
    for at, bad in zip(PLACES[:8], BAD, strict=False):
        some[at] = {**some[at], "state": "given", **bad}
    some[4 * CHUNK] = {**some[4 * CHUNK], "state": "maybe", "subject_id": "u36", "content_id": "may be a no of u36"}
    file = _file(tmp_path, form, some)
    found, *_, bad_files = _by_both(base, tmp_path, told, monkeypatch, file=file, rejects=True)
    assert found["rejected"] > 8 and len(bad_files) == 2
    assert b"held back" in bad_files[1], "a yes of before, in a chunk that was prepared"


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_is_gone_through_anew_is_still_open(base: Path, tmp_path: Path, told: Told, form: str) -> None:
    """What was read of it the first time was not read to its end, and is garbage by then."""
    some = _some()
    some[0] = {**some[0], "state": "maybe", "subject_id": "u9"}
    shutil.copytree(base, tmp_path / "ledger")
    with ledger.open(tmp_path / "ledger") as book:
        file, rejects = _file(tmp_path, form, some), tmp_path / "bad"
        report = book.import_file(file, rejects=rejects, on_progress=lambda rows: gc.collect() and None)
    assert (report.rejected, report.new) == (2, len(some) - 2)


BROKEN: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("csv", lambda data: data + b'given,"u,'),
    ("csv", lambda data: data[:-1]),
    ("csv", lambda data: data.replace(b"u60", b"u\xff0")),
    ("ndjson", lambda data: data + b"{"),
    ("ndjson", lambda data: data.replace(b"u60", b"u\xff0")),
    ("ndjson", lambda data: data.replace(b'"subject_id": "u60"', b'"subject_id": "u60", "recorded_by": "x"')),
    ("parquet", lambda data: data[: len(data) // 2] + bytes(40) + data[len(data) // 2 + 40 :]),
]


@pytest.mark.parametrize("number", range(len(BROKEN)))
def test_a_broken_file_is_told_as_by_one(
    base: Path, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    form, damage = BROKEN[number]
    file = _file(tmp_path, form, _some())
    file.write_bytes(damage(file.read_bytes()))
    found, _, opened, *_ = _by_both(base, tmp_path, told, monkeypatch, file=file)
    assert isinstance(found, tuple) and issubclass(found[0], ConsentLedgerError)
    assert len(opened) < CHUNK


@pytest.mark.parametrize("options", [{"dry_run": True}, {"max_reversals": 0}])
def test_nothing_is_recorded_that_one_would_not_record(
    base: Path, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    some = [*_some(), _row(3000, subject_id="ann"), _row(1, subject_id="ann", state="refused")]
    found, _, opened, *_ = _by_both(base, tmp_path, told, monkeypatch, file=_file(tmp_path, "parquet", some), **options)
    assert len(opened) < CHUNK and any(told)
    assert found["new"] == len(some) if "dry_run" in options else "ann" in found[1]


def test_a_table_of_ones_own(base: Path, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    table: dict[str, Any] = {
        "subject_id": "customer",
        "state": {"column": "optin", "values": {"yes": "given", "no": "withdrawn", "": "refused"}},
        "purposes": "=train-ai",
        "occurred_at": {"column": "changed", "zone": "Europe/Berlin"},
        "ignore": ["by"],
    }
    columns = ImportColumns.of("crm", table)
    assert ImportColumns.of("crm", json.loads(json.dumps(columns.table()))) == columns
    file = tmp_path / "own.csv"
    lines = [f"ann{n},{'no' if n % 5 == 0 else 'yes'},2026-0{1 + n % 9}-15 12:00:00,me" for n in range(5 * CHUNK)]
    file.write_text("\n".join(["customer,optin,changed,by", *lines, "bob,,,", ""]))
    found, _, opened, *_ = _by_both(base, tmp_path, told, monkeypatch, file=file, source="crm", columns=columns)
    assert found["new"] == 5 * CHUNK + 1 and [acts is not None for acts in told] == [True] * 5 + [False]
    moments = {json.loads(row[1]).get("occurred_at") for row in opened if (row[4] or "").startswith("ann")}
    assert {"2026-01-15T11:00:00.000000Z", "2026-07-15T10:00:00.000000Z"} <= moments


FAILING = {
    "cannot start": "",
    "killed": "if number == 3: os.kill(os.getpid(), 9)",
    "ends early": "if number == 3: os._exit(0)",
    "cut": "if number == 3: out.write(head + data[:-1]); out.flush(); os._exit(0)",
    "cut in its head": "if number == 3: out.write(head[:20]); out.flush(); os._exit(0)",
    "altered": "if number == 3: data = data.replace(b'given', b'taken', 1)",
    "a bit of a digest": "if number == 3: head = head[:-1] + bytes([head[-1] ^ 1])",
    "longer than it says": "if number == 3: data += b'x'",
    "endless": "if number == 3: head = b'\\xff' * 8 + head[8:]",
    "said twice": "if number == 3: out.write(head + data)",
    "left out": "if number == 3: return digest",
    "said in another order": "if number == 3: kept.append(head + data); return digest\n    if number == 4: data += kept[0]",
    "garbage": "if number == 3: out.write(os.urandom(99))",
    "printed": "print('a line', flush=True)",
    "fails at its end": "if what[0] == 0: out.write(head + data); out.flush(); os._exit(1)",
}


@pytest.mark.parametrize("how", FAILING)
def test_whatever_becomes_of_the_second_process(
    base: Path,
    tmp_path: Path,
    told: Told,
    monkeypatch: pytest.MonkeyPatch,
    started: list[subprocess.Popen[bytes]],
    how: str,
) -> None:
    source, marker = (
        Path(ahead.__file__).read_text(encoding="utf-8"),
        "    out.write(len(data).to_bytes(_LENGTH) + digest)\n    out.write(data)\n",
    )
    assert marker in source
    prepare = "    head, number = len(data).to_bytes(_LENGTH) + digest, len(kept_numbers)\n    kept_numbers.append(1)\n"
    instead = f"{prepare}    {FAILING[how] or 'pass'}\n    out.write(head)\n    out.write(data)\n"
    source = source.replace(marker, instead) + "\n\nkept_numbers, kept = [], []\n"
    (tmp_path / "other_ahead.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(beside, "_RUN", beside._RUN.replace("from {} import", "'{}'; from other_ahead import"))
    if how == "cannot start":
        monkeypatch.setattr(cores, "python", lambda: "/nowhere/python")
    file = _file(tmp_path, "parquet", _some())
    found, *_ = _by_both(base, tmp_path, told, monkeypatch, file=file)
    assert found["new"] == 5 * CHUNK + 3
    expected = {"cannot start": 0, "printed": 6, "fails at its end": 6, "said twice": 4, "longer than it says": 4}.get(how, 3)
    assert len(told) == expected
    assert [process.returncode is None for process in started] == ([] if how == "cannot start" else [False])


def test_a_file_that_grows_while_it_is_read(base: Path, tmp_path: Path, told: Told) -> None:
    file = _file(tmp_path, "csv", _some())
    path = shutil.copytree(base, tmp_path / "ledger")

    def grow(_: int) -> None:
        with file.open("a") as more:
            more.write("\n")

    with ledger.open(path) as book:
        before = book.checkpoint()
        with pytest.raises(ConsentLedgerError, match="changed while"):
            book.import_file(file, on_progress=grow)
        assert any(told) and book.checkpoint() == before


def test_another_file_of_that_name_is_not_prepared(
    base: Path, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is imported is the file that was opened, whose digest the log keeps."""
    file = _file(tmp_path, "ndjson", _some())
    (tmp_path / "others").mkdir()
    other = _file(tmp_path / "others", "ndjson", [{**row, "state": "given", "subject_id": "mallory"} for row in _some()])
    begin = beside.beside

    def late(*arguments: Any) -> Any:
        other.replace(file)
        return begin(*arguments)

    monkeypatch.setattr(ahead, "beside", late)
    with ledger.open(shutil.copytree(base, tmp_path / "ledger")) as book:
        assert book.import_file(file).new == 5 * CHUNK + 3
        assert not told and book.show("mallory")["events"] == []


def test_interrupted_it_leaves_no_process_behind(
    base: Path, tmp_path: Path, told: Told, started: list[subprocess.Popen[bytes]]
) -> None:
    def stop(rows: int) -> None:
        if rows > CHUNK:
            raise KeyboardInterrupt

    with ledger.open(shutil.copytree(base, tmp_path / "ledger")) as book:
        before = book.checkpoint()
        with pytest.raises(KeyboardInterrupt):
            book.import_file(_file(tmp_path, "csv", _some(400 * CHUNK)), on_progress=stop)
        (process,) = started
        assert process.returncode is not None
        assert book.checkpoint() == before and any(told)


KILLED = """
import sys, time, ledger
from ledger.store import ahead
ahead.WORTHWHILE = 1
begin = ahead.Ahead.__init__
def begun(self, process, answer):
    begin(self, process, answer)
    print(process.pid, flush=True)
ahead.Ahead.__init__ = begun
with ledger.open(sys.argv[1]) as book:
    book.import_file(sys.argv[2], on_progress=lambda rows: (print(rows, flush=True), time.sleep(60)))
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one processor")
def test_killed_it_leaves_no_process_behind_and_nothing_recorded(base: Path, tmp_path: Path) -> None:
    path, file = shutil.copytree(base, tmp_path / "ledger"), _file(tmp_path, "csv", _some(3 * 8192))
    with subprocess.Popen([sys.executable, "-c", KILLED, path, file], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        other = Path("/proc", process.stdout.readline().strip(), "cmdline")
        assert process.stdout.readline() == "8192\n"
        assert b"ledger.store.ahead" in other.read_bytes()
        process.kill()
    ends = time.monotonic() + 20
    while _runs(other) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not _runs(other)
    with ledger.open(path) as book:
        assert all(event.subject_id not in ("u0", "u7") for _, event in book.events())
        assert book.import_file(file).new == 3 * 8192


def _runs(cmdline: Path) -> bool:
    try:
        return b"ledger.store.ahead" in cmdline.read_bytes()
    except OSError:
        return False


def test_where_it_is_not_worth_it_there_is_none(
    base: Path, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch, started: list[subprocess.Popen[bytes]]
) -> None:
    file = _file(tmp_path, "csv", _some())
    with ledger.open(shutil.copytree(base, tmp_path / "ledger")) as book:
        assert book.import_file(io.BytesIO(file.read_bytes()), form="csv", dry_run=True).new == 5 * CHUNK + 3
        monkeypatch.setattr(ahead, "WORTHWHILE", 10_000)
        assert book.import_file(file, dry_run=True).new == 5 * CHUNK + 3
        monkeypatch.setattr(ahead, "WORTHWHILE", 1)
        monkeypatch.setattr(cores, "count", lambda: 1)
        assert book.import_file(file).new == 5 * CHUNK + 3
    assert not started and not told


def test_where_it_is_of_no_use_it_is_done_without(
    base: Path, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch, started: list[subprocess.Popen[bytes]]
) -> None:
    monkeypatch.setattr(imports, "_OF_NO_USE", 2)
    file = _file(tmp_path, "csv", [*_some(8 * CHUNK)])
    with ledger.open(shutil.copytree(base, tmp_path / "ledger")) as book:
        assert book.import_file(file).new == 8 * CHUNK
        told.clear()
        assert book.import_file(file).repeated == 8 * CHUNK
    assert len(told) == 3
    assert [process.returncode is None for process in started] == [False, False]


def test_no_key_that_signs_is_handed_over(base: Path, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    begin = beside.beside

    def noted(module: str, question: dict[str, Any]) -> Any:
        asked.append(json.dumps(question))
        return begin(module, question)

    monkeypatch.setattr(ahead, "beside", noted)
    path = shutil.copytree(base, tmp_path / "ledger")
    with ledger.open(path) as book:
        assert book.import_file(_file(tmp_path, "csv", _some())).new == 5 * CHUNK + 3
    (question,) = asked
    for name in ("log.key", "run.key", "tag.key"):
        secret = (path / name).read_text().replace("-----END", "").split("\n")[-3 if name != "tag.key" else 0]
        assert len(secret) > 20 and secret not in question


def test_a_row_behind_the_log_is_not_inserted_over(base: Path, tmp_path: Path, told: Told) -> None:
    path = shutil.copytree(base, tmp_path / "ledger")
    with ledger.open(path) as book:
        size = book.fsck().size
        with closing(sqlite3.connect(path / "ledger.db")) as connection, connection:
            connection.execute("INSERT INTO openings (position, salt, canonical) VALUES (?, x'00', x'00')", (size + 3,))
        with pytest.raises(IntegrityError):
            book.import_file(_file(tmp_path, "csv", _some()))
    with closing(sqlite3.connect(path / "ledger.db")) as connection:
        found = connection.execute("SELECT position FROM openings WHERE position >= ?", (size,)).fetchall()
    assert found == [(size + 3,)]


def test_many_rows_are_inserted_or_none(book: Ledger) -> None:
    """On both databases."""
    table = Opening.__table__  # type: ignore[attr-defined]

    def opening(position: int, event_id: str) -> tuple[Any, ...]:
        return position, b"s", b"c", None, event_id, *("x" * 3), None, None

    with database.writing(book._engine) as (connection, work):
        column = table.c.event_id
        count = 2 * 64 + 20  # SQLite's go 64 a statement, and then by one
        assert database.insert_new(connection, column, [opening(1000 + n, f"a{n}") for n in range(count)])
        for places in ([0], [70], [130], [count - 1], [3, 140], range(128), range(128, count), range(count)):
            some = [opening(2000 + n, f"a{n}" if n in places else f"b{n}") for n in range(count)]
            assert not database.insert_new(connection, column, some)
            assert connection.execute(table.select().where(table.c.position >= 2000)).all() == []
        assert database.insert_new(connection, column, [opening(2000 + n, f"b{n}") for n in range(count)])
        assert len(connection.execute(table.select().where(table.c.position >= 1000)).all()) == 2 * count
        database.insert(connection, table, more := [opening(3000 + n, f"c{n}") for n in range(count)])
        found = connection.execute(table.select().where(table.c.position >= 3000).order_by(table.c.position)).all()
        assert list(map(tuple, found)) == more
        work.rollback()


def test_on_both_databases(book: Ledger, tmp_path: Path, told: Told) -> None:
    some = [row for row in _some() if "notice" not in row]
    file = _file(tmp_path, "parquet", [*some, *some[:CHUNK]])
    report = book.import_file(file)
    assert (report.new, report.repeated) == (len(some), CHUNK) and any(told)
    assert book.fsck().events == len(some)
    assert book.import_file(file).repeated == len(some) + CHUNK
