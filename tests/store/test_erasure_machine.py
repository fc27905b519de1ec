"""Imports, acts, erasures, backups put back and late yeses in any order, against a small model and the reference rule."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

import ledger
from ledger import times
from ledger.consent import ALLOWED, Event, Purpose, Row, decide
from ledger.errors import IntegrityError, Suppressed

PURPOSE = Purpose(token="train-ai", version=1, title="T", description="D")
SUBJECTS = st.sampled_from(["u1", "u2"])
ITEMS = st.sampled_from([None, "c1"])
AGES = st.sampled_from([0, 1, 5, 30])
"""Minutes between the act and its recording."""


@dataclass
class Said:
    event: Event
    source: str | None = None


@dataclass
class Model:
    """What was said and is not forgotten, and until when each person's yes is held back."""

    said: list[Said] = field(default_factory=list)
    until: dict[str, datetime] = field(default_factory=dict)
    orders: list[tuple[str, datetime]] = field(default_factory=list)

    def copy(self) -> Model:
        return Model(list(self.said), dict(self.until), list(self.orders))

    def add(self, event: Event, recorded_at: datetime, source: str | None = None) -> bool:
        """False: it is suppressed."""
        event = event.filled_in(recorded_at=recorded_at, recorded_by="x", purposes=("train-ai@1",))
        if event.is_yes and event.subject_id in self.until and event.counts_from <= self.until[event.subject_id]:
            return False
        self.said.append(Said(event, source))
        return True

    def needs(self, subject: str, ordered_at: datetime) -> bool:
        """Whether an order of a log that was lost must be carried out: a yes of before it stands, or could come back."""
        mine = [s.event for s in self.of(subject)]
        if not mine:
            return subject not in self.until or self.until[subject] < ordered_at
        return any((e.recorded_at or ordered_at) <= ordered_at or (e.is_yes and e.counts_from <= ordered_at) for e in mine)

    def of(self, subject: str) -> list[Said]:
        return [s for s in self.said if s.event.subject_id == subject]

    def erase(self, subject: str, ordered_at: datetime, erased_at: datetime) -> None:
        """A no that was recorded after the order is said anew."""
        mine = self.of(subject)
        kept = [s for s in mine if not s.event.is_yes and (s.event.recorded_at or erased_at) > ordered_at]
        self.said = [s for s in self.said if s not in mine]
        self.said += [Said(s.event.filled_in(recorded_at=erased_at), s.source) for s in kept]
        self.until[subject] = erased_at
        self.orders.append((subject, ordered_at))


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.patch = pytest.MonkeyPatch()
        self.now = datetime(2026, 6, 1, tzinfo=UTC)
        self.patch.setattr(times, "now", lambda: self.now)
        self.model = Model()
        self.files: dict[str, list[Event]] = {}
        self.backup: tuple[Path, Model, int] | None = None
        self.only_erased_since = True

    @initialize(backed_up_first=st.booleans())
    def create(self, backed_up_first: bool) -> None:
        """Somebody is erased already, and a backup holds them or not: few steps get there by chance."""
        self.book = ledger.create(self.root / "ledger")
        self.book.declare_purpose("train-ai", title="T", description="D")
        if backed_up_first:
            self.back_up()
        self.import_acts([("u1", None, 5, True, True), ("u2", None, 5, True, True)])
        if not backed_up_first:
            self.back_up()
        self.erase_one("u1")

    def teardown(self) -> None:
        self.book.close()
        self.patch.undo()
        shutil.rmtree(self.root)

    @property
    def folder(self) -> Path:
        return self.root / "ledger"

    def recorded(self) -> datetime:
        moment: datetime = self.book.read(lambda history: history.recorded_at(history.head()[1].size))
        return moment

    @rule(minutes=st.sampled_from([1, 10, 60]))
    def tick(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule(subject=SUBJECTS, item=ITEMS, age=AGES, yes=st.booleans(), dated=st.booleans())
    def say(self, subject: str, item: str | None, age: int, yes: bool, dated: bool) -> None:
        self.now += timedelta(seconds=1)
        event = Event(
            state="given" if yes else "refused",
            subject_id=subject,
            purposes=["train-ai"],
            content_id=item,
            occurred_at=self.now - timedelta(minutes=age) if yes or dated else None,
        )
        try:
            self.book.record(event)
        except Suppressed:
            assert event.is_yes
            assert not self.model.add(event, self.now)
        else:
            assert self.model.add(event, self.recorded())
            self.only_erased_since = False

    @rule(
        rows=st.lists(st.tuples(SUBJECTS, ITEMS, AGES, st.booleans(), st.booleans()), min_size=1, max_size=3, unique=True),
    )
    def import_new(self, rows: list[Any]) -> None:
        self.import_acts(rows)

    def import_acts(self, rows: list[Any]) -> None:
        self.now += timedelta(seconds=1)
        name = f"f{len(self.files)}"
        self.files[name] = [
            Event(
                state="given" if yes else "refused",
                subject_id=subject,
                purposes=["train-ai"],
                content_id=item,
                occurred_at=self.now - timedelta(minutes=age) if yes or dated else None,
                event_id=f"{name}-{number}",
            )
            for number, (subject, item, age, yes, dated) in enumerate(rows)
        ]
        self.import_file(name)

    @rule(data=st.data())
    def import_again(self, data: st.DataObject) -> None:
        self.now += timedelta(seconds=1)
        self.import_file(data.draw(st.sampled_from(sorted(self.files))))

    def import_file(self, name: str) -> None:
        path = self.root / f"{name}.csv"
        lines = ["state,subject_id,purposes,content_id,occurred_at"]
        for event in self.files[name]:
            at = "" if event.occurred_at is None else times.text(event.occurred_at)
            lines.append(f"{event.state},{event.subject_id},train-ai,{event.content_id or ''},{at}")
        path.write_text("\n".join(lines) + "\n")
        before = list(self.model.said)
        report = self.book.import_file(path, source=name)
        recorded, suppressed = self.recorded(), 0
        for event in self.files[name]:
            same = [s.event for s in before if s.source == name and s.event.event_id == event.event_id]
            answered = same and any(
                s.event.is_yes
                and s.event.subject_id == event.subject_id
                and (s.event.recorded_at or recorded) > (same[-1].recorded_at or recorded)
                for s in before
            )
            if not same or (event.occurred_at is None and answered):
                suppressed += not self.model.add(event, recorded, name)
        assert report.suppressed >= suppressed
        self.only_erased_since = False

    @precondition(lambda self: self.model.said)
    @rule(data=st.data())
    def erase(self, data: st.DataObject) -> None:
        self.now += timedelta(seconds=1)
        self.erase_one(data.draw(st.sampled_from(sorted({s.event.subject_id for s in self.model.said}))))

    def erase_one(self, subject: str) -> None:
        self.book.erase(subject)
        self.model.erase(subject, self.now, self.recorded())
        shutil.copy(self.folder / "erasures", self.root / "kept")

    @rule()
    def back_up(self) -> None:
        self.now += timedelta(seconds=1)
        if self.backup is not None:
            shutil.rmtree(self.backup[0])
        copy = self.root / "backup"
        shutil.copytree(self.folder, copy)
        self.backup = copy, self.model.copy(), len(self.model.orders)
        self.only_erased_since = True

    def put_back(self, source: Path, *names: str) -> None:
        for name in ("ledger.db-wal", "ledger.db-shm", *names):
            (self.folder / name).unlink(missing_ok=True)
            if (source / name).exists():
                shutil.copy(source / name, self.folder / name)

    @precondition(lambda self: self.backup is not None and (self.root / "kept").exists())
    @rule()
    def restore_the_database(self) -> None:
        assert self.backup is not None
        newest = self.root / "newest"
        shutil.copytree(self.folder, newest)
        note = self.book.checkpoint()
        self.put_back(self.backup[0], "ledger.db")
        try:
            ledger.reapply(self.root / "kept", self.folder)
        except IntegrityError:
            assert not self.only_erased_since
            self.put_back(newest, "ledger.db", "head", "erasures")
        else:
            assert self.only_erased_since
        shutil.rmtree(newest)
        assert self.book.checkpoint() == note

    @precondition(lambda self: self.backup is not None and (self.root / "kept").exists())
    @rule(no=st.sampled_from([None, "u1", "u2"]))
    def restore_the_folder(self, no: str | None) -> None:
        assert self.backup is not None
        self.now += timedelta(seconds=1)
        copy, model, orders = self.backup
        since = self.model.orders[orders:]
        self.put_back(copy, "ledger.db", "head", "erasures")
        self.model = model.copy()
        if no is not None:
            event = Event(state="refused", subject_id=no, purposes=["train-ai"], content_id="c1")
            self.book.record(event)
            self.model.add(event, self.recorded())
        ledger.reapply(self.root / "kept", self.folder)
        for subject, ordered_at in since:
            if self.model.needs(subject, ordered_at):
                acts = self.book.read(lambda history: history.erasures())
                tag = {a["tag"]: times.parse(a["recorded_at"]) for _, a in acts}
                self.model.erase(subject, ordered_at, self.recorded_for(subject, tag))
        self.model.orders = [*model.orders, *since]
        self.only_erased_since = False
        self.backup = None
        shutil.rmtree(copy)

    def recorded_for(self, subject: str, tags: dict[str, datetime]) -> datetime:
        from ledger.log.entry import subject_tag

        return tags[subject_tag(self.book.folder.tag_key(), subject).hex()]

    @rule()
    def snapshot(self) -> None:
        self.now += timedelta(seconds=1)
        self.book.snapshot("train-ai")
        self.only_erased_since = False

    @invariant()
    def the_rule_holds_for_what_is_not_forgotten(self) -> None:
        self.now += timedelta(seconds=1)
        now = self.now
        events = [s.event for s in self.model.said]
        rows = [("u1", "c1"), ("u1", "c2"), ("u2", "c1"), ("u2", "c2")]
        expected = [decide(Row([s], None, c), events, PURPOSE, now) for s, c in rows]
        consent = ledger.ConsentFilter(self.book.look("train-ai"), ledger.Columns(subject="s", content="c"), now)
        found = consent.decide(pa.table({"s": [s for s, _ in rows], "c": [c for _, c in rows]}))
        assert found.reason.to_pylist() == expected
        for (subject, item), reason in zip(rows, expected, strict=True):
            shown = self.book.show(subject, content_id=item)["decisions"]
            assert reason in [d["reason"] for d in shown if d["content_id"] == item]
            whole = [e for e in events if e.subject_id == subject and e.content_id is None]
            if whole and not max(whole, key=lambda e: (e.counts_from, not e.is_yes)).is_yes:
                later = [e for e in events if e.is_yes and e.content_id == item and e.subject_id == subject]
                last = max(e.counts_from for e in whole)
                assert reason != ALLOWED or any(e.counts_from > last for e in later)
            if reason == ALLOWED and subject in self.model.until:
                assert any(e.is_yes and e.counts_from > self.model.until[subject] for e in events if e.subject_id == subject)
        self.book.fsck()


def play(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_no_order_of_things_turns_a_no_into_a_yes() -> None:
    play(6, 12)


@pytest.mark.soak
def test_no_order_of_things_turns_a_no_into_a_yes_for_long() -> None:
    play(int(os.environ.get("CONSENT_LEDGER_ERASURES", "20")), 30)
