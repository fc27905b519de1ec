"""What once turned a no into a yes, lost a no, or made a proof say something that was not so. Each stays refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from enum import Enum
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from ledger import (
    Columns,
    ConsentFilter,
    Event,
    InvalidEvent,
    Ledger,
    SnapshotError,
    UsageError,
    VerificationError,
    times,
    verify,
)

from .conftest import Outcome, yes


class Use(str, Enum):  # noqa: UP042 - a StrEnum formats as its text
    TRAIN = "train-ai"


def decision(book: Ledger, subject: str) -> str:
    """The reason for content that no finer act speaks of."""
    return str(book.show(subject)["decisions"][0]["reason"])


def test_a_no_to_a_purpose_that_an_enum_names_is_a_no_to_that_purpose(book: Ledger) -> None:
    book.record(yes("ann"))
    recorded = book.record(Event(state="withdrawn", subject_id="ann", purposes=[Use.TRAIN]))
    assert recorded.event.purposes == ("train-ai@1",)
    assert type(recorded.event.purposes[0]) is str
    assert decision(book, "ann") == "withdrawn"
    assert book.withdraw("bob", purposes=[Use.TRAIN]).event.purposes == ("train-ai@1",)


def test_an_hour_that_the_clock_shows_twice_is_two_hours(book: Ledger) -> None:
    """In one time zone Python compares what the clock shows: 2:45 before the change looks later than 2:30 after it."""
    berlin = ZoneInfo("Europe/Berlin")
    after, before = (datetime(2025, 10, 26, 2, minute, tzinfo=berlin, fold=fold) for minute, fold in ((30, 1), (45, 0)))
    with pytest.raises(InvalidEvent, match="expires_at is not after occurred_at"):
        yes("ann", occurred_at=after, expires_at=before)
    event = yes("ann", occurred_at=before, expires_at=after)
    assert event.occurred_at == datetime(2025, 10, 26, 0, 45, tzinfo=UTC)
    book.record(event)
    assert decision(book, "ann") == "expired"
    book.fsck()


class NoOffset(tzinfo):
    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        return None


def test_a_moment_without_an_offset_or_beyond_the_calendar_is_none() -> None:
    with pytest.raises(InvalidEvent, match="occurred_at must be a datetime with a time zone"):
        yes("ann", occurred_at=datetime(2026, 1, 1, tzinfo=NoOffset()))
    with pytest.raises(InvalidEvent, match="expires_at lies beyond the calendar"):
        yes("ann", expires_at=datetime.max.replace(tzinfo=ZoneInfo("America/New_York")))


class Finer(datetime):
    """As pandas' Timestamp: it compares more than microseconds, which are all that is recorded."""

    def __gt__(self, other: object) -> bool:
        return True

    def __le__(self, other: object) -> bool:
        return False


def test_a_moment_is_compared_as_it_is_recorded() -> None:
    with pytest.raises(InvalidEvent, match="expires_at is not after occurred_at"):
        yes("ann", expires_at=Finer(2026, 1, 1, tzinfo=UTC))


def test_a_withdrawal_said_again_outlives_a_yes_that_came_between_and_arrives_late(book: Ledger) -> None:
    book.withdraw("ann")
    between = times.now()
    book.withdraw("ann")
    book.record(yes("ann", occurred_at=between))
    assert decision(book, "ann") == "withdrawn"


@pytest.mark.parametrize("cut", [0, 1, 2, len("post-12")])
def test_a_csv_that_is_cut_short_gives_no_yes_to_another_item_or_to_everything(book: Ledger, tmp_path: Path, cut: int) -> None:
    whole = "state,subject_id,purposes,occurred_at,content_id\ngiven,ann,train-ai,2026-01-08T15:10:13Z,post-12"
    acts = tmp_path / "acts.csv"
    acts.write_text(whole[: len(whole) - cut])
    with pytest.raises(UsageError, match="does not end with a newline: it may be cut short"):
        book.import_file(acts)
    assert not book.show("ann")["events"]
    for ending in ("\n", "\r\n", "\r"):
        acts.write_bytes((whole + ending).encode())
        book.import_file(acts)
    assert len(book.show("ann")["events"]) == 1


@pytest.mark.parametrize("categories", [["photo", "post"], ["photo"], []], ids=str)
def test_a_yes_to_a_version_that_uses_posts_allows_no_photos_of_a_compatible_one(book: Ledger, categories: list[str]) -> None:
    told = {"title": "Ads", "description": "Show ads"}
    book.declare_purpose("ads", categories=["caption", "post"], **told)
    book.record(yes("ann", purposes=["ads"]))
    with pytest.raises(UsageError, match=r"ads@2 uses ('photo'|any category), which a yes to ads@1 does not speak of"):
        book.declare_purpose("ads", categories=categories, compatible=True, **told)
    assert book.declare_purpose("ads", categories=["post"], compatible=True, **told).accepts == (1, 2)
    # What was left out stays out: version 1 spoke of it, and version 2, which counts as well, did not.
    with pytest.raises(UsageError, match="ads@3 uses 'caption', which a yes to ads@2 does not speak of"):
        book.declare_purpose("ads", categories=["caption", "post"], compatible=True, **told)
    book.declare_purpose("ads", categories=["photo", "post"], **told)
    assert {d["reason"] for d in book.show("ann")["decisions"] if d["purpose"] == "ads@3"} == {"notice_changed"}


@pytest.mark.parametrize("name", ["_more.parquet", ".more.parquet", "_x/more.parquet", ".x/y/MORE.PARQUET"])
def test_a_shard_that_some_readers_skip_and_others_take_is_found(
    book: Ledger, shard: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    """DuckDB reads all of these but the one in capitals."""
    book.record(yes("ann"))
    shard("raw/a.parquet", user_id=["ann", "bob"])
    frozen = ConsentFilter(book.snapshot("train-ai"), Columns("user_id"))
    frozen.filter_shards([tmp_path / "raw"], tmp_path / "train", key=book.run_key(), admit=book.admit)
    (tmp_path / "train/_SUCCESS").touch()
    assert verify(tmp_path / "train", trust=book.trust).checked
    assert frozen.audit_shards([tmp_path / "train"]).compliant

    shard(f"train/{name}", user_id=["bob"])
    with pytest.raises(VerificationError, match="which the statement does not name"):
        verify(tmp_path / "train", trust=book.trust)
    if name.endswith(".parquet"):
        for path in (tmp_path / "train", tmp_path / "trai*", tmp_path / "train/**"):
            assert frozen.audit_shards([path]).rows_without_consent == 1


def test_a_yes_is_not_dated_ahead_of_the_machine_although_the_log_once_was(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    today = times.now()
    with monkeypatch.context() as wrong:
        wrong.setattr(times, "now", lambda: today + timedelta(days=900))
        book.record(yes("bob"))
    tomorrow = today + timedelta(days=1)
    with pytest.raises(InvalidEvent, match="a yes may not be dated ahead of the ledger's clock"):
        book.record(yes("ann", occurred_at=tomorrow))
    book.record(Event(state="withdrawn", subject_id="ann", purposes=["train-ai"], occurred_at=today))
    assert decision(book, "ann") == "withdrawn"


@pytest.mark.parametrize("name", ["categories", "recipients"])
def test_one_text_is_no_list_of_its_letters(book: Ledger, name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} is a list of texts, not one text"):
        book.declare_purpose("ads", title="Ads", description="Show ads", **{name: "post"})


def test_no_moment_leaves_out_a_no_that_was_recorded_while_the_clock_was_ahead(
    book: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book.record(yes("ann"))
    before = book.look("train-ai").header.checkpoint
    size, today = int(before.split("\n")[1]), times.now()
    with monkeypatch.context() as wrong:
        wrong.setattr(times, "now", lambda: today + timedelta(days=900))
        book.withdraw("ann")
    monkeypatch.setattr(times, "now", lambda: today + timedelta(days=30))
    with pytest.raises(UsageError, match="ahead of this machine's clock: no moment before that holds all that was said"):
        book.snapshot("train-ai", as_of=times.now())
    # Nor is a snapshot of the log before it fresh: all that is known is when its last entry was recorded.
    old = book.snapshot("train-ai", as_of=times.now(), tree_size=size, output=tmp_path / "old.parquet")
    assert old.header.known_until <= today
    with pytest.raises(SnapshotError, match=r"the snapshot is 30\.0 days old"):
        old.check_age(times.now())


def test_an_undated_no_sent_again_in_the_same_bytes_answers_a_yes_said_meanwhile(book: Ledger, tmp_path: Path) -> None:
    """A list of who is out, sent daily: today's may be last week's to the byte."""
    out = tmp_path / "out.csv"
    out.write_text("state,subject_id,purposes,occurred_at\nwithdrawn,ann,train-ai,\nwithdrawn,bob,train-ai,\n")
    assert book.import_file(out).new == 2
    assert book.import_file(out).repeated == 2
    book.record(yes("ann", occurred_at=times.now()))
    assert decision(book, "ann") == "allowed"
    again = book.import_file(out)
    assert (again.new, again.repeated) == (1, 1)
    assert decision(book, "ann") == "withdrawn"

    both = tmp_path / "both.csv"
    both.write_text(out.read_text() + "given,bob,train-ai,2026-01-01T00:00:00Z\n")
    book.import_file(both)
    assert book.import_file(both).repeated == 3, "a yes of the same file was no answer"


@pytest.mark.parametrize("notice", ["terms", "terms/en", "terms@1", "terms@1/en"])
def test_an_act_is_a_repeat_however_it_names_its_notice(book: Ledger, notice: str) -> None:
    book.add_notice(b"We train on posts.", notice_id="terms", language="en")
    act = yes("ann", event_id="e1", notice=notice)
    assert [book.record(act).repeated for _ in range(2)] == [False, True]
    book.add_notice(b"We train on posts and photos.", notice_id="terms", language="en")
    for other in ("terms@2", "terms@2/en", "terms/de", "terms@1/de", "other"):
        with pytest.raises(InvalidEvent, match="recorded with another notice"):
            book.record(yes("ann", event_id="e1", notice=other))


def test_an_audit_takes_no_columns_from_the_statement_of_another_folder(
    book: Ledger, shard: Callable[..., Path], tmp_path: Path, consent: Callable[..., Outcome]
) -> None:
    book.record(yes("ann"))
    shard("raw/a.parquet", user_id=["ann", "ann"], uploader=["ann", "bob"])
    for folder, column in (("train", "user_id"), ("other", "uploader")):
        assert consent("filter", "raw", "-o", folder, "--purpose", "train-ai", "--subject", column).code == 0
    assert consent("audit", "other", "--purpose", "train-ai").code == 0
    assert consent("audit", "train", "--purpose", "train-ai", "--subject", "uploader").code == 3

    (tmp_path / "other.intoto.jsonl").replace(tmp_path / "train.intoto.jsonl")
    swapped = consent("audit", "train", "--purpose", "train-ai")
    assert swapped.code == 4
    assert "its digest is another" in swapped.err
    assert "hint: name the columns yourself: --subject COLUMN" in swapped.err
