"""Key files stay private; published files are whole or absent."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ledger import files, locks
from ledger.errors import ConsentLedgerError, LedgerBusy


def test_a_key_is_created_for_its_owner_alone_and_read_back(tmp_path: Path) -> None:
    key = tmp_path / "log.key"
    files.create_private(key, b"secret")
    assert key.stat().st_mode & 0o777 == 0o600
    assert files.read_private(key) == b"secret"


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    key = tmp_path / "log.key"
    files.create_private(key, b"first")
    with pytest.raises(ConsentLedgerError, match="exists"):
        files.create_private(key, b"second")
    assert files.read_private(key) == b"first"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610])
def test_a_key_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    key = tmp_path / "log.key"
    files.create_private(key, b"secret")
    key.chmod(mode)
    with pytest.raises(ConsentLedgerError, match="open to other users") as refused:
        files.read_private(key)
    assert refused.value.hint == f"chmod 600 {key}"


def test_a_key_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "log.key"
    files.create_private(key, b"secret")
    monkeypatch.setattr(os, "geteuid", lambda: key.stat().st_uid + 1)
    with pytest.raises(ConsentLedgerError, match="another user"):
        files.read_private(key)


def test_a_key_that_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "absent"):
        with pytest.raises(ConsentLedgerError):
            files.read_private(path)


def test_a_key_is_bounded(tmp_path: Path) -> None:
    files.create_private(tmp_path / "large", b"x" * (1 << 20))
    with pytest.raises(ConsentLedgerError, match="too large"):
        files.read_private(tmp_path / "large")


def test_publishing_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    target = tmp_path / "head"
    files.publish_bytes(target, b"old")
    files.publish_bytes(target, b"new")
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


def test_publishing_that_fails_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "head"
    files.publish_bytes(target, b"old")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ConsentLedgerError, match="No space left"):
        files.publish_bytes(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_key_that_could_not_be_written_whole_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ConsentLedgerError, match="Input/output error"):
        files.create_private(tmp_path / "log.key", b"secret")
    assert list(tmp_path.iterdir()) == []


def test_publishing_syncs_the_file_and_then_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(
        os, "fsync", lambda fd: (synced.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"), fsync(fd))
    )
    monkeypatch.setattr(Path, "replace", lambda self, to: (synced.append("rename"), replace(self, to)))
    files.publish_bytes(tmp_path / "head", b"note")
    assert synced == ["file", "rename", "folder"]


def test_a_temporary_name_is_hidden_fresh_and_no_shard(tmp_path: Path) -> None:
    target = tmp_path / ("ü" * 120 + ".parquet")
    names = {files.temporary_beside(target) for _ in range(50)}
    assert len(names) == 50
    for name in names:
        assert name.parent == tmp_path
        assert name.name.startswith(".")
        assert name.suffix != ".parquet"
        name.write_bytes(b"")  # not too long for a file system


def test_withdrawing_removes_and_may_be_repeated(tmp_path: Path) -> None:
    target = tmp_path / "statement"
    files.publish_bytes(target, b"x")
    files.withdraw(target)
    files.withdraw(target)
    assert not target.exists()


def test_folders_are_made_with_their_parents(tmp_path: Path) -> None:
    files.make_folder(tmp_path / "a" / "b" / "c")
    files.make_folder(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConsentLedgerError, match="cannot create"):
        files.make_folder(tmp_path / "file" / "below")


def test_digests(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert files.sha256_of(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(ConsentLedgerError, match="absent"):
        files.sha256_of(tmp_path / "absent")


def test_the_lock_of_a_folder_that_was_replaced_meanwhile_is_none(tmp_path: Path) -> None:
    """BUG (two runs in one folder): a run that failed removed its empty folder while the next one waited for the lock."""
    folder, began = tmp_path / "out", threading.Event()
    folder.mkdir()

    def wait() -> None:
        began.set()
        with locks.exclusive(folder):
            raise AssertionError("held a folder that is gone")

    with ThreadPoolExecutor(1) as pool, locks.exclusive(folder):
        waiting = pool.submit(wait)
        began.wait()
        while [fd.resolve() for fd in Path("/proc/self/fd").iterdir()].count(folder.resolve()) < 2:
            assert not waiting.done()
        folder.rename(tmp_path / "gone")
        folder.mkdir()
    with pytest.raises(LedgerBusy, match="replaced"):
        waiting.result()
