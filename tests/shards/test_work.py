"""Workers of a run: while one waits for the disk another shard is begun, and never do more work at once than were asked for."""

from __future__ import annotations

from threading import Event, Lock

import pytest

import ledger.run
from ledger import verify
from ledger.errors import ShardError, UsageError
from ledger.shards.publish import HashingSink
from ledger.shards.subjects import KeptSubjects
from ledger.shards.work import AfterAll
from tests.shards.world import World

SHARDS = 6


class Watched:
    """How many decide at once, and whether a second shard was decided before the first one was published."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, disk: bool = True) -> None:
        self.at_once = self.most = self.decided = 0
        self._lock, self._second = Lock(), Event()
        decide, publish = ledger.run.decide, HashingSink.publish
        self.overlapped = False

        def watched(*arguments: object) -> object:
            with self._lock:
                self.at_once += 1
                self.decided += 1
                self.most = max(self.most, self.at_once)
                if self.decided == 2:
                    self._second.set()
            try:
                return decide(*arguments)  # type: ignore[arg-type]
            finally:
                with self._lock:
                    self.at_once -= 1

        def slow(sink: HashingSink) -> None:
            if not disk:
                raise ShardError("the disk is gone")
            self.overlapped |= self._second.wait(20)
            publish(sink)

        monkeypatch.setattr(ledger.run, "decide", watched)
        monkeypatch.setattr(HashingSink, "publish", slow)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_another_shard_is_begun_while_the_disk_takes_one(world: World, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    shards = [world.shard(f"in/{number}.parquet", "yes", "no", "later") for number in range(SHARDS)]
    watched = Watched(monkeypatch)
    run = world.run(*shards, workers=workers)
    assert watched.overlapped and 1 <= watched.most <= workers
    assert [shard.output for shard in run.record.shards] == [f"{number}.parquet" for number in range(SHARDS)]
    assert all(world.read(f"out/{number}.parquet") == ["yes", "later"] for number in range(SHARDS))
    verify(world.root / "out", trust=world.book.trust)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_disk_that_fails_ends_the_run(world: World, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    shards = [world.shard(f"in/{number}.parquet", "yes") for number in range(SHARDS)]
    Watched(monkeypatch, disk=False)
    with pytest.raises(ShardError, match="the disk is gone"):
        world.run(*shards, workers=workers)
    assert not list((world.root / "out").glob("*")) and not (world.root / "out.intoto.jsonl").exists()


@pytest.mark.parametrize("workers", [0, -1])
def test_nobody_does_no_work(world: World, workers: int) -> None:
    with pytest.raises(UsageError, match="at least one worker"):
        world.run(world.shard("in/a.parquet", "yes"), workers=workers)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_set_of_subjects_does_not_wait_for_the_last_shard_to_be_written(
    world: World, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Nor does it begin before the last row is decided: what it is over is what the shards hold."""
    shards = [world.shard(f"in/{number}.parquet", "yes", "no", "later") for number in range(SHARDS)]
    committed, commit, publish = Event(), KeptSubjects.commit, HashingSink.publish
    waited = []

    def told(people: KeptSubjects, *arguments: object, **options: object) -> object:
        found = commit(people, *arguments, **options)  # type: ignore[arg-type]
        committed.set()
        return found

    def last(sink: HashingSink) -> None:
        if sink.path.name == f"{SHARDS - 1}.parquet":
            waited.append(committed.wait(20))
        publish(sink)

    monkeypatch.setattr(KeptSubjects, "commit", told)
    monkeypatch.setattr(HashingSink, "publish", last)
    run = world.run(*shards, workers=workers)
    assert waited == [True]
    assert run.record.subjects is not None and run.record.subjects["count"] == 2
    verify(world.root / "out", trust=world.book.trust)


def test_what_comes_after_all_comes_once() -> None:
    done: list[int] = []
    with AfterAll(2, lambda: done.append(1)) as after:
        after.one()
        assert not done
        after.one()
        after.result()
        assert done == [1]
    with AfterAll(0, lambda: done.append(2)) as after:
        pass
    after.result()
    assert done == [1, 2], "of no shards it comes when it is asked for"
    with AfterAll(2, lambda: done.append(3)) as after:
        after.one()
    assert done == [1, 2], "one has failed"


def test_what_fails_after_all_is_told_to_whoever_asks() -> None:
    with AfterAll(1, lambda: 1 // 0) as after:
        after.one()
    with pytest.raises(ZeroDivisionError):
        after.result()
