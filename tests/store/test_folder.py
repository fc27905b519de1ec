"""The folder: whose it is, who may write to it, and its keys."""

from __future__ import annotations

import base64
import json
import os
import secrets
import stat
from pathlib import Path

import pytest
from small_ledger import no, yes

import ledger
from ledger import IntegrityError, Ledger, UsageError, cli
from ledger.errors import ConsentLedgerError
from ledger.store.folder import Folder, find


def test_what_a_new_folder_holds(book: Ledger) -> None:
    path = book.folder.path
    assert {p.name for p in path.iterdir()} >= {"ledger.toml", "log.key", "run.key", "tag.key", "trust", "head"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for key in (*path.glob("*.key"), *path.glob("ledger.db")):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert (path / "head").read_text() == book.checkpoint()


@pytest.mark.parametrize("name", ["what?", "what?mode=memory&uri=true", "a%41", "%3F", "a#b@c:d", "ü +&"])
def test_a_folder_of_any_name_holds_its_own_database(tmp_path: Path, name: str) -> None:
    for path in (tmp_path / name, tmp_path / f"{name}2"):
        with ledger.create(path) as made:
            made.declare_purpose("train-ai", title="T", description="D")
        assert stat.S_IMODE((path / "ledger.db").stat().st_mode) == 0o600
    ledger.copy(tmp_path / name, tmp_path / f"{name}3")
    assert (tmp_path / f"{name}3" / "ledger.db").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {name, f"{name}2", f"{name}3"}


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///file:{path}?nolock=1&uri=true",  # two writers at once
        "sqlite:///file:{path}?vfs=unix-none&uri=true",
        "sqlite:///file:{path}?mode=memory&cache=shared&uri=true",  # nothing is kept
        "sqlite:///{path}?uri=true",
        "sqlite:///{path}?timeout=0",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///relative.db",
        "sqlite://host/x.db",
        "sqlite://ann:s3cret@/x.db",
        "sqlite+aiosqlite:///{path}",
        "sqlite+pysqlcipher:///{path}",
    ],
)
def test_a_sqlite_url_is_a_path_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.chdir(tmp_path)
    url = url.format(path=tmp_path / "x.db")
    with pytest.raises(UsageError, match="absolute path of its file") as refused:
        ledger.create(tmp_path / "new", database=url)
    assert "s3cret" not in f"{refused.value} {refused.value.hint}" and not list(tmp_path.iterdir())
    ledger.create(tmp_path / "new", database=f"sqlite:///{tmp_path / 'x.db'}").close()
    config = tmp_path / "new" / "ledger.toml"
    config.write_text(f"origin = {json.dumps(Folder.open(tmp_path / 'new').origin)}\ndatabase = {json.dumps(url)}\n")
    with pytest.raises(UsageError, match="absolute path of its file"):
        ledger.open(tmp_path / "new")


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o775])
def test_a_folder_that_others_may_write_to_is_refused(book: Ledger, mode: int) -> None:
    book.folder.path.chmod(mode)
    for use in (lambda: ledger.open(book.folder.path), lambda: ledger.fsck(book.folder.path)):
        with pytest.raises(ConsentLedgerError, match="written to by others") as refused:
            use()
        assert "chmod" in (refused.value.hint or "")


def test_a_folder_that_others_may_read_is_taken(book: Ledger) -> None:
    book.folder.path.chmod(0o755)
    ledger.open(book.folder.path).close()


def test_a_folder_of_another_user_is_refused(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(ConsentLedgerError, match="another user"):
        Folder.open(book.folder.path)


@pytest.mark.parametrize("name", ["log.key", "tag.key"])
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o606])
def test_a_key_that_others_may_read_is_refused(book: Ledger, name: str, mode: int) -> None:
    (book.folder.path / name).chmod(mode)
    before = book.checkpoint()
    with pytest.raises(ConsentLedgerError, match="open to other users"):
        book.record(no())
    assert book.checkpoint() == before
    if name == "tag.key":
        with pytest.raises(ConsentLedgerError, match="open to other users"):
            ledger.fsck(book.folder.path)


def test_a_second_init_is_refused(book: Ledger, tmp_path: Path) -> None:
    keys = {p.name: p.read_bytes() for p in book.folder.path.glob("*.key")}
    with pytest.raises(UsageError, match="not empty"):
        ledger.create(book.folder.path)
    assert cli.run(["init", str(book.folder.path)]) == 2
    assert {p.name: p.read_bytes() for p in book.folder.path.glob("*.key")} == keys
    (tmp_path / "file").write_text("x")
    for taken in (tmp_path, tmp_path / "file"):
        with pytest.raises(UsageError):
            ledger.create(taken)
    assert book.purposes()


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir(mode=0o777)
    with ledger.create(tmp_path / "new", origin="example.org/log") as made:
        assert made.origin == "example.org/log"
        assert stat.S_IMODE(made.folder.path.stat().st_mode) == 0o700


@pytest.mark.parametrize("origin", ["a b", "a+b", "a\nb", ""])
def test_an_origin_that_is_no_name(tmp_path: Path, origin: str) -> None:
    if origin:
        with pytest.raises(UsageError, match="origin"):
            ledger.create(tmp_path / "new", origin=origin)
        assert not (tmp_path / "new").exists()
    with pytest.raises(UsageError, match="not supported"):
        ledger.create(tmp_path / "new", database="mysql://user:secret@host/db")


def test_another_tag_key_is_caught(book: Ledger) -> None:
    book.record(yes())
    path = book.folder.path / "tag.key"
    right = path.read_bytes()
    path.write_text(secrets.token_hex(32) + "\n")
    with pytest.raises(IntegrityError, match=r"tag\.key") as refused:
        ledger.fsck(book.folder.path)
    assert refused.value.exit_code == 4
    for wrong in (b"", b"xyz", right[:-3], b"\xff" * 65):
        path.write_bytes(wrong)
        with pytest.raises(IntegrityError, match=r"tag\.key"):
            ledger.fsck(book.folder.path)
    path.unlink()
    assert ledger.fsck(book.folder.path).events == 1, "an auditor need not hold it"
    with pytest.raises(ConsentLedgerError):
        book.record(no())


def test_another_log_key_signs_nothing(book: Ledger, tmp_path: Path) -> None:
    with ledger.create(tmp_path / "other", origin=book.origin) as other:
        key = other.folder.path / "log.key"
        before = book.checkpoint()
        (book.folder.path / "log.key").write_bytes(key.read_bytes())
    with pytest.raises(IntegrityError):
        book.record(yes())
    assert book.checkpoint() == before


def test_a_trust_file_of_another_log(book: Ledger, tmp_path: Path) -> None:
    with ledger.create(tmp_path / "other", origin=book.origin) as other:
        (book.folder.path / "trust").write_text(other.trust_text())
    with pytest.raises(IntegrityError):
        ledger.open(book.folder.path)


@pytest.mark.parametrize("text", ["", "origin = 5", "origin = 'a b'", "origin", "\ud800", "origin = 'o'\ndatabase = 5"])
def test_a_configuration_that_cannot_be_read(book: Ledger, text: str) -> None:
    (book.folder.path / "ledger.toml").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(IntegrityError):
        ledger.open(book.folder.path)


def test_no_ledger_is_made_by_looking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONSENT_LEDGER", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no ledger") as refused:
        ledger.open()
    assert "consent init" in (refused.value.hint or "")
    assert not list(tmp_path.iterdir())
    assert find() == Path("consent-ledger")
    monkeypatch.setenv("CONSENT_LEDGER", "elsewhere")
    assert find() == Path("elsewhere")
    assert find("here") == Path("here")


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_file_that_is_gone_is_not_made_anew(book: Ledger) -> None:
    for file in book.folder.path.glob("ledger.db*"):
        file.unlink()
    with pytest.raises(IntegrityError):
        ledger.open(book.folder.path)
    with pytest.raises(IntegrityError):
        book.record(no())
    assert not (book.folder.path / "ledger.db").exists()


def test_no_private_key_leaves_its_file(book: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    told = book.record(yes("u1", event_id="e1"))
    book.snapshot("train-ai")
    ledger.fsck(book.folder.path)
    for arguments in (["key", "show"], ["show", "u1", "--format", "json"], ["purpose", "list"]):
        cli.run(["--ledger", str(book.folder.path), *arguments])
    shown = capsys.readouterr()
    written = b"".join(p.read_bytes() for p in book.folder.path.rglob("*") if p.is_file() and p.suffix != ".key")
    written += (
        told.receipt
        + json.dumps(told.document()).encode()
        + (shown.out + shown.err + repr(book.folder) + repr(vars(book))).encode()
    )
    keys = [book.folder.log_key(), book.folder.run_key()]
    assert all(repr(key).encode() not in written or len(repr(key)) < 60 for key in keys)
    for name in ("log.key", "run.key"):
        seed = base64.b64decode("".join((book.folder.path / name).read_text().splitlines()[1:-1]))[-32:]
        for form in (seed, base64.b64encode(seed)[:-2], seed.hex().encode()):
            assert form not in written
            assert form.decode("latin-1") not in "".join(map(repr, keys))
    assert book.folder.tag_key() not in written
    assert book.folder.tag_key().hex().encode() not in written
