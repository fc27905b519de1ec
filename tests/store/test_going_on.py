"""A snapshot that goes on from an earlier one is the one that all entries make, whatever was said before, between and since."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from small_ledger import Clock, Sql, no, yes

import ledger
from ledger import Ledger, Snapshot, carried, committing, compiling, folding, locks, snapshot, splicing, times
from ledger.consent import Event
from ledger.errors import ConsentLedgerError, IntegrityError, InvalidEvent, UsageError
from ledger.log.entry import SALT_BYTES
from ledger.store.documents import event_document
from tests.conftest import Outcome

T0 = datetime(2026, 1, 1, tzinfo=UTC)
SUBJECTS = ["a", "ab", "a!", "b", "é", '"', "\x01", "\U00010000", "z", "ｚ"]
MICROS = st.integers(0, 6).map(lambda n: T0 + timedelta(microseconds=n))


@st.composite
def acts(draw: st.DrawFn) -> Event:
    """Few people, items and moments, so that much is said of the same and at the same time."""
    scope: dict[str, Any] = draw(st.sampled_from([{}, {}, {"category": "c"}, {"content_id": "c"}, {"content_id": "d"}]))
    state = draw(st.sampled_from(["given", "given", "refused", "withdrawn", "objected"]))
    is_yes = state == "given"
    occurred = draw(MICROS if is_yes else st.none() | MICROS)
    fields: dict[str, Any] = {}
    if is_yes:
        fields["expires_at"] = draw(st.none() | st.integers(1, 3).map(lambda n: occurred + timedelta(microseconds=n)))
        fields["content_since"] = draw(st.none() | MICROS)
        fields["evidence_sha256"] = draw(st.none() | st.just("0" * 64))
    return Event(
        state=state, subject_id=draw(st.sampled_from(SUBJECTS)), occurred_at=occurred,
        purposes=draw(st.sampled_from([["ai@1"], ["ai@2"], ["ai@1", "search@1"], ["search@1"], ["ai@3"]])),
        event_id="e", recorded_at=draw(MICROS), recorded_by=draw(st.sampled_from(["user:x", "session:x", "import:x"])),
        **scope, **fields,
    )  # fmt: skip


@settings(deadline=None, max_examples=15)
@given(st.lists(acts(), max_size=20), st.lists(acts(), max_size=8), MICROS)
def test_rows_and_salts_are_those_of_all_acts(before: list[Event], since: list[Event], as_of: datetime) -> None:
    compare(before, since, as_of)


@settings(deadline=None, max_examples=15, phases=[Phase.generate])
@given(st.lists(acts(), min_size=8, max_size=12), st.randoms(use_true_random=False), MICROS)
def test_so_it_is_among_many(forms: list[Event], chance: random.Random, as_of: datetime) -> None:
    """A hundred people, of whom many say several things, before and since."""
    names = [subject + other for subject in SUBJECTS for other in SUBJECTS]

    def event() -> Event:
        return replace(chance.choice(forms), subject_id=chance.choice(names))

    compare([event() for _ in range(chance.randrange(400))], [event() for _ in range(chance.randrange(100))], as_of)


def compare(before: list[Event], since: list[Event], as_of: datetime) -> None:
    documents = [(position, event_document(event)) for position, event in enumerate([*before, *since])]
    first, salts = len(before), [position.to_bytes(SALT_BYTES) for position, _ in documents]

    def made(some: list[Any]) -> tuple[Any, bytes]:
        found = folding.acts_of(some, "ai", (1, 3), as_of)
        return folding.latest_per_scope(found), b"".join(salts[at] for at in folding.first_positions(found))

    # An earlier snapshot lacks nothing that counts by now: whoever went on from one that does would lose a no.
    new = folding.acts_of(documents[first:], "ai", (1, 3), as_of)
    whole, expected = made(documents)
    for few in (0, splicing._FEW):
        with mock.patch.object(splicing, "_FEW", few):
            rows, found = splicing.spliced(*made(documents[:first]), new, first, b"".join(salts[first:]))
        assert rows.equals(whole) and rows.schema == whole.schema
        assert found == expected


def test_many_who_acted_since_are_moved_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice of the table for each took 11 KiB a person: a gigabyte for every hundred thousand."""
    names = [f"u{number:04}" for number in range(1_000)]
    said = [(at, event_document(no(name, event_id="e", recorded_at=T0, recorded_by="user:x"))) for at, name in enumerate(names)]
    found, parts, concat = folding.acts_of(said, "train-ai", (1,), T0), list[int](), pa.concat_tables
    rows, salts = folding.latest_per_scope(found), bytes(SALT_BYTES * len(names))
    monkeypatch.setattr(splicing, "_FEW", len(names) - 1)
    monkeypatch.setattr(pa, "concat_tables", lambda some: (parts.append(len(some)), concat(some))[1])
    whole, kept = splicing.spliced(rows, salts, found, 0, salts)
    assert whole.equals(rows) and kept == salts
    assert parts and max(parts) < 4


@contextmanager
def all_entries() -> Iterator[None]:
    with mock.patch.object(compiling, "_earlier", lambda *_: None):
        yield


def same(book: Ledger, purpose: str = "train-ai", as_of: datetime | None = None) -> int | None:
    """That both ways have one answer. From how many entries the quick way went on."""
    now = times.now()
    with mock.patch.object(times, "now", lambda: now):
        found = book.look(purpose, as_of=as_of)
        with all_entries():
            whole = book.look(purpose, as_of=as_of)
    assert whole.earlier is None
    assert (found.sha256, found.salts, found.grounds) == (whole.sha256, whole.salts, whole.grounds)
    assert found.rows().equals(whole.rows())
    assert found.header.document() == whole.header.document()
    return found.earlier


class Story:
    """A random history of a ledger, told in steps."""

    def __init__(self, book: Ledger, clock: Clock, data: st.DataObject, folder: Path) -> None:
        self.book, self.clock, self.data, self.folder = book, clock, data, folder
        self.taken: dict[str, int] = {}

    def step(self) -> None:
        told = self.data.draw(
            st.sampled_from(["record"] * 5 + ["freeze"] * 3 + ["wait", "wait", "declare", "erase", "import", "lose"]),
            label="step",
        )
        self.clock.move(milliseconds=1)  # the log's clock goes on by itself, with each signature
        getattr(self, told)()
        self.clock.move(milliseconds=1)

    def _moment(self) -> datetime:
        """Of before, just now, or long ago."""
        return self.clock.now - self.data.draw(
            st.sampled_from([timedelta(0), timedelta(microseconds=1), timedelta(hours=1), timedelta(days=90)])
        )

    def record(self) -> None:
        def event() -> Event:
            draw = self.data.draw
            scope: dict[str, Any] = draw(st.sampled_from([{}, {}, {"category": "post"}, {"content_id": "c"}]))
            subject = draw(st.sampled_from(SUBJECTS))
            if draw(st.booleans()):
                purposes = draw(st.sampled_from([["train-ai"], ["*"], ["search"]]))
                ahead = timedelta(days=draw(st.sampled_from([0, 0, 3])))  # a no may be dated ahead: it counts at once
                return no(subject, purposes=purposes, occurred_at=draw(st.sampled_from([None, self._moment() + ahead])), **scope)
            at = self._moment()
            terms: dict[str, Any] = draw(st.sampled_from([{}, {"expires_at": at + timedelta(hours=2)}, {"content_since": at}]))
            return yes(subject, purposes=draw(st.sampled_from([["train-ai"], ["search"]])), occurred_at=at, **scope, **terms)

        for _ in range(self.data.draw(st.integers(1, 3))):
            with suppress(InvalidEvent):  # a yes of before an erasure
                self.book.record(event())
                self.clock.move(milliseconds=1)

    def freeze(self) -> None:
        purpose = self.data.draw(st.sampled_from(["train-ai", "train-ai", "search"]))
        size = self.book.read(lambda history: history.head()[1].size)
        which: dict[str, Any] = self.data.draw(st.sampled_from([{}, {}, {"as_of": self._moment()}, {"tree_size": size}]))
        name = self.data.draw(st.sampled_from([None, self.folder / "one.parquet", self.folder / "other.parquet"]))
        self.book.snapshot(purpose, output=name, **which)

    def wait(self) -> None:
        self.clock.move(**self.data.draw(st.sampled_from([{"microseconds": 1}, {"hours": 1}, {"days": 30}])))

    def declare(self) -> None:
        token = self.data.draw(st.sampled_from(["train-ai", "search"]))
        categories = self.data.draw(st.sampled_from([["post"], ["post", "photo"]]))
        number = self.data.draw(st.integers(0, 1 << 40))
        compatible = self.data.draw(st.booleans())
        with suppress(UsageError):  # wider than what it would accept
            self.book.declare_purpose(token, title="T", description=str(number), categories=categories, compatible=compatible)

    def erase(self) -> None:
        try:
            self.book.erase(self.data.draw(st.sampled_from(SUBJECTS)))
        except UsageError:  # nobody knows them
            return
        assert not list(self.book.snapshots.glob(".*.carried"))

    def lose(self) -> None:
        path = self.data.draw(st.sampled_from([self.folder / "one.parquet", carried.path_of(self.book.snapshots, "train-ai")]))
        path.unlink(missing_ok=True)

    def import_(self) -> None:
        lines = ["state,subject_id,purposes,occurred_at"]
        for subject in self.data.draw(st.lists(st.sampled_from(["a", "b", "new"]), min_size=1, max_size=3, unique=True)):
            state = self.data.draw(st.sampled_from(["given", "refused"]))
            lines.append(f"{state},{subject},train-ai,{times.text(self._moment())}")
        self.book.import_file(
            io.BytesIO("\n".join(lines).encode() + b"\n"), form="csv", source=self.data.draw(st.sampled_from(["x", "y"]))
        )


setattr(Story, "import", Story.import_)
TAKEN: list[int] = []


# Not made smaller where they fail: each history takes a second or two.
UNSHRUNK = settings(deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])


@settings(UNSHRUNK, max_examples=8)
@given(st.data())
def test_both_ways_have_one_answer(data: st.DataObject) -> None:
    tell(data)


@pytest.mark.soak
@settings(UNSHRUNK, max_examples=25)
@given(st.data())
def test_both_ways_have_one_answer_in_many_histories(data: st.DataObject) -> None:
    tell(data)


def tell(data: st.DataObject) -> None:
    patch = pytest.MonkeyPatch()
    folder = Path(tempfile.mkdtemp())
    try:
        clock = Clock(patch)
        clock.set(T0 + timedelta(days=200))
        with ledger.create(folder / "ledger") as book:
            for token in ("train-ai", "search"):
                book.declare_purpose(token, title="T", description="D", categories=["post"])
            story = Story(book, clock, data, folder)
            clock.move(milliseconds=1)
            story.record()
            clock.move(milliseconds=1)
            story.freeze()
            clock.move(milliseconds=1)
            for _ in range(data.draw(st.integers(1, 8), label="steps")):
                story.step()
                purpose = data.draw(st.sampled_from(["train-ai", "train-ai", "search"]))
                TAKEN.append(same(book, purpose, data.draw(st.none() | st.builds(story._moment))) or 0)
    finally:
        patch.undo()
        shutil.rmtree(folder)


# Each by itself: which way it is, and that the answer is one.

Change = Callable[[Ledger, Path], object]
SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def begun(book: Ledger, output: Path) -> int:
    """A snapshot, and 3 acts since. How many entries it read."""
    book.record_all([yes("a"), no("b"), yes("c", content_id="x")])
    frozen = book.snapshot("train-ai", output=output)
    assert frozen.earlier is None
    size = int(frozen.header.checkpoint.split("\n")[1])
    book.record_all([no("a"), yes("b", occurred_at=T0 + timedelta(days=1)), yes("e")])
    return size


def test_it_goes_on_from_the_one_before_and_then_from_that(book: Ledger, tmp_path: Path) -> None:
    output = tmp_path / "one.parquet"
    size = begun(book, output)
    state = carried.path_of(book.snapshots, "train-ai")
    assert state.stat().st_mode & 0o777 == 0o600
    assert same(book) == size
    second = book.snapshot("train-ai", output=output)
    assert second.earlier == size
    assert second.receipt is not None and ledger.load_snapshot(output, trust=book.trust) == second
    book.record(no("e"))
    assert same(book) == int(second.header.checkpoint.split("\n")[1])
    rows = {row["subject_id"]: row for row in book.look("train-ai").rows().to_pylist()}
    assert rows["a"]["no_position"] > rows["a"]["yes_position"] >= 0 and rows["e"]["no_state"] == 0


@SQLITE
def test_the_set_of_subjects_can_be_built_again_from_the_log(book: Ledger, tmp_path: Path) -> None:
    begun(book, tmp_path / "one.parquet")
    second = book.snapshot("train-ai", output=tmp_path / "two.parquet")
    assert second.earlier is not None
    ((_, act),) = book.read(lambda history: history.acts("snapshot_compiled"))[1:]
    with all_entries():
        whole = book.look("train-ai", tree_size=act["tree_size"], as_of=second.header.as_of)
    tree = committing.subjects_tree(whole, book.folder.tag_key(), bytes.fromhex(act["subjects_seed"]))
    assert tree.root().hex() == act["subjects_root"]


@SQLITE
def test_an_act_that_counted_later_is_not_lost(book: Ledger, tmp_path: Path, clock: Clock) -> None:
    """A no of before the snapshot's end that counts only after its moment is in none of its rows."""
    early = clock.move(days=1)
    book.record(yes("a"))
    clock.move(days=1)
    book.record(no("a"))
    clock.move(days=1)
    frozen = book.snapshot("train-ai", output=tmp_path / "one.parquet", as_of=early + timedelta(hours=1))
    assert frozen.rows().to_pylist()[0]["no_position"] == -1 and frozen.grounds is None
    assert same(book) is None
    assert book.look("train-ai").rows().to_pylist()[0]["no_position"] >= 0
    # Nor where one that lacks nothing was there before: that is not replaced, and is still right.
    book.snapshot("train-ai", output=tmp_path / "two.parquet")
    clock.move(days=1)
    book.record(no("b"))
    clock.move(days=1)
    book.snapshot("train-ai", output=tmp_path / "one.parquet", as_of=early + timedelta(hours=1))
    assert same(book) is not None
    assert same(book, as_of=early + timedelta(hours=1)) is None


@SQLITE
def test_a_named_size_is_read_whole(book: Ledger, tmp_path: Path) -> None:
    begun(book, tmp_path / "one.parquet")
    size = book.read(lambda history: history.head()[1].size)
    assert book.look("train-ai").earlier is not None
    assert book.look("train-ai", tree_size=size).earlier is None


def _erase(book: Ledger, output: Path) -> None:
    state = carried.path_of(book.snapshots, "train-ai")
    kept = state.read_bytes()
    book.erase("c")
    assert not state.exists()
    state.write_bytes(kept)  # as if the erasure had been killed before it removed it
    state.chmod(0o600)


def _other_ledger(book: Ledger, output: Path) -> None:
    with ledger.create(output.parent / "other") as other:
        other.declare_purpose("train-ai", title="Training", description="Training of models")
        begun(other, output)
        shutil.copy(carried.path_of(other.snapshots, "train-ai"), carried.path_of(book.snapshots, "train-ai"))


def _other_file(book: Ledger, output: Path) -> None:
    """A file of the same rows, but for one no."""
    frozen = book.look("train-ai")
    frozen, data = snapshot.freeze(frozen.header, frozen.rows().slice(1))
    output.write_bytes(data)


def _forged(book: Ledger, output: Path) -> None:
    """By somebody who has tag.key, but not the log's: the log never spoke of this file."""
    frozen = book.look("train-ai", tree_size=int(ledger.load_snapshot(output, trust=book.trust).header.checkpoint.split("\n")[1]))
    forged, data = snapshot.freeze(frozen.header, frozen.rows().slice(1))
    output.write_bytes(data)
    forged = replace(forged, path=output, salts=(frozen.salts or b"")[SALT_BYTES:], grounds=frozen.grounds)
    carried.keep(book.snapshots, book.folder.tag_key(), forged, lambda: None)
    assert carried.find(book.snapshots, book.folder.tag_key(), "train-ai", frozen.grounds) is not None  # type: ignore[arg-type]


def _change(where: Callable[[Ledger, Path], Path], data: Callable[[bytes], bytes]) -> Change:
    def change(book: Ledger, output: Path) -> None:
        path = where(book, output)
        path.write_bytes(data(path.read_bytes()))

    return change


def _state(book: Ledger, output: Path) -> Path:
    return carried.path_of(book.snapshots, "train-ai")


def _file(book: Ledger, output: Path) -> Path:
    return output


def _flip(data: bytes) -> bytes:
    at = random.SystemRandom().randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]


def _moved(where: Callable[[Ledger, Path], Path]) -> Change:
    def change(book: Ledger, output: Path) -> None:
        path = where(book, output)
        path.rename(path.with_name("moved"))
        path.symlink_to("moved")

    return change


def _piped(where: Callable[[Ledger, Path], Path]) -> Change:
    def change(book: Ledger, output: Path) -> None:
        where(book, output).unlink()
        os.mkfifo(where(book, output), 0o600)

    return change


CHANGES: dict[str, Change] = {
    **{
        f"{name} {what}": change
        for name, where in (("file", _file), ("state", _state))
        for what, change in (
            ("missing", lambda book, output, where=where: where(book, output).unlink()),
            ("empty", _change(where, lambda data: b"")),
            ("half written", _change(where, lambda data: data[: len(data) // 2])),
            ("one byte short", _change(where, lambda data: data[:-1])),
            ("one byte more", _change(where, lambda data: data + b"0")),
            ("one bit other", _change(where, _flip)),
            ("a link", _moved(where)),
            ("a pipe", _piped(where)),
            ("a folder", lambda book, output, where=where: (where(book, output).unlink(), where(book, output).mkdir())),
        )
    },
    "state open to others": lambda book, output: _state(book, output).chmod(0o644),
    "another ledger's": _other_ledger,
    "another file": _other_file,
    "forged": _forged,
    "erased since": _erase,
    "declared since": lambda book, output: book.declare_purpose("train-ai", title="T", description="D2"),
    "compatible since": lambda book, output: book.declare_purpose("train-ai", title="T", description="D2", compatible=True),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_all_entries_are_read_where_it_cannot_be_trusted(tmp_path: Path, change: Change) -> None:
    with ledger.create(tmp_path / "ledger") as book:
        book.declare_purpose("train-ai", title="Training", description="Training of models")
        output = tmp_path / "one.parquet"
        size = begun(book, output)
        assert book.look("train-ai").earlier == size
        change(book, output)
        assert same(book) is None


@SQLITE
def test_it_needs_no_receipt_and_no_key_but_the_tag_key(book: Ledger, tmp_path: Path) -> None:
    output = tmp_path / "one.parquet"
    size = begun(book, output)
    snapshot.receipt_path(output).unlink()  # the log itself, which is read, has the act
    (book.folder.path / "log.key").unlink()
    assert same(book) == size
    (book.folder.path / "tag.key").unlink()
    assert same(book) is None


@SQLITE
def test_a_key_that_was_taken_out_of_the_trust_file_ends_it(book: Ledger, tmp_path: Path) -> None:
    size = begun(book, tmp_path / "one.parquet")
    book.keys.rotate()
    book.record(no("a"))
    assert same(book) == size
    path = book.folder.path / "trust"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if " until " not in line))
    assert same(book) is None


@SQLITE
def test_a_file_whose_name_is_no_text_is_there_all_the_same(book: Ledger, tmp_path: Path) -> None:
    output = tmp_path / os.fsdecode(b"\xff.parquet")
    try:
        output.touch()
    except OSError:
        pytest.skip("names are text here")
    book.record(no("a"))
    frozen = book.snapshot("train-ai", output=output)
    assert ledger.load_snapshot(output, trust=book.trust) == frozen
    assert same(book) is None


@SQLITE
def test_what_another_version_made_is_not_carried_on(book: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(book, tmp_path / "one.parquet")
    monkeypatch.setattr(carried, "_version", lambda: "0.0.9")
    assert same(book) is None


@SQLITE
def test_what_came_since_is_checked_against_the_signed_root(book: Ledger, tmp_path: Path, sql: Sql) -> None:
    size = begun(book, tmp_path / "one.parquet")
    position = size + 2
    sql(f"UPDATE entries SET entry = (SELECT entry FROM entries WHERE position = {position - 1}) WHERE position = {position}")
    with pytest.raises(IntegrityError):
        book.look("train-ai")


def test_a_no_that_a_database_hides_is_missed(book: Ledger, tmp_path: Path, sql: Sql) -> None:
    size = begun(book, tmp_path / "one.parquet")
    sql(f"DELETE FROM openings WHERE position = {size + 1}")
    with pytest.raises(IntegrityError):
        book.look("train-ai")


@pytest.mark.parametrize("kind", ["subject_erased", "purpose_declared"])
def test_an_act_that_a_column_hides_is_met_all_the_same(book: Ledger, tmp_path: Path, sql: Sql, kind: str) -> None:
    begun(book, tmp_path / "one.parquet")
    kept = carried.path_of(book.snapshots, "train-ai").read_bytes()
    if kind == "subject_erased":
        book.erase("c")
    else:
        book.declare_purpose("train-ai", title="T", description="D2", compatible=False)
    path = carried.path_of(book.snapshots, "train-ai")
    path.write_bytes(kept)
    path.chmod(0o600)
    ((position,),) = sql(f"SELECT max(position) FROM openings WHERE act = '{kind}'")
    sql(f"UPDATE openings SET act = 'log_key_ended' WHERE position = {position}")
    with pytest.raises(IntegrityError):
        book.look("train-ai")


@SQLITE
def test_a_killed_writer_leaves_the_state_of_before(book: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = begun(book, tmp_path / "one.parquet")

    def fail(*_: object) -> bytes:
        raise ConsentLedgerError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(carried, "_mac", fail)
        frozen = book.snapshot("train-ai", output=tmp_path / "two.parquet")  # read from all entries, and there all the same
    assert ledger.load_snapshot(tmp_path / "two.parquet", trust=book.trust) == frozen
    assert same(book) == size
    assert [path.name for path in book.snapshots.iterdir()] == [".train-ai.carried"]


@SQLITE
def test_nobody_who_was_erased_meanwhile_stays_in_the_state(book: Ledger, tmp_path: Path) -> None:
    book.record_all([yes("a"), no("b")])
    frozen: Snapshot = book.snapshot("train-ai", output=tmp_path / "one.parquet")
    book.erase("a")
    size = int(frozen.header.checkpoint.split("\n")[1])
    carried.keep(
        book.snapshots, book.folder.tag_key(), frozen, lambda: book.read(compiling.require_erasures, size, frozen.header.erasures)
    )
    assert not list(book.snapshots.iterdir())


@SQLITE
def test_so_it_is_where_there_are_no_locks(book: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book.record_all([yes("a"), no("b")])
    frozen = replace(book.snapshot("train-ai", output=tmp_path / "one.parquet"), salts=bytes(2 * SALT_BYTES))
    monkeypatch.setattr(locks, "_flock", lambda *_: False)

    def check() -> None:
        book.read(compiling.require_erasures, frozen.size, frozen.header.erasures)
        with suppress(UsageError):  # it was done the first time
            book.erase("a")

    carried.keep(book.snapshots, book.folder.tag_key(), frozen, check)
    assert not list(book.snapshots.iterdir())


def test_the_command_says_which_way_it_took(consent: Callable[..., Outcome], tmp_path: Path) -> None:
    with ledger.create(tmp_path / "consent-ledger") as book:
        book.declare_purpose("train-ai", title="Training", description="Training of models")
        size = begun(book, tmp_path / "one.parquet")
    ways = ("snapshot", "--purpose", "train-ai", "-o", "two.parquet")
    assert f"from the snapshot of {size} entries and 4 since" in consent(*ways).err.splitlines()
    told = json.loads(consent(*ways, "--format", "json").out)
    assert told["earlier_size"] == size + 4
    Draft202012Validator(import_module("schemas").load("snapshot")).validate(told)
    (tmp_path / "two.parquet").unlink()
    assert "earlier_size" not in json.loads(consent(*ways, "--format", "json").out)
    outcome = consent(*ways, "--tree-size", str(size + 7))
    assert outcome.code == 0 and "since" not in outcome.err
