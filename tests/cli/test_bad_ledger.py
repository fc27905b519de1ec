"""Ledger folders and keys that cannot be used: missing, another's, newer, busy, wrong, open to others."""

from __future__ import annotations

import os
import pty
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

import ledger
from ledger.log.keys import PrivateKey
from ledger.store import database
from tests.cli.conftest import Refused
from tests.conftest import Outcome

NOBODY = 65534
WRITES = (
    ("record", "given", "bob", "--purpose", "train-ai"),
    ("withdraw", "ann"),
    ("snapshot", "--purpose", "train-ai", "-o", "s.parquet"),
    ("purpose", "add", "other", "--title", "T", "--description", "D"),
)
READS = (("show", "ann"), ("fsck",), ("audit", "raw", "--purpose", "train-ai", "--subject", "user_id"), ("key", "show"))
FILTER = ("filter", "raw", "-o", "out", "--purpose", "train-ai", "--subject", "user_id")


@pytest.mark.parametrize("command", [*WRITES, *READS, FILTER], ids=lambda command: command[0])
def test_no_ledger_there(refused: Refused, command: tuple[str, ...]) -> None:
    refused("--ledger", "nowhere", *command, code=2, says=["there is no ledger in nowhere"], hint="consent init nowhere")
    refused("--ledger", "raw", *command, code=2, says=["there is no ledger in raw"], hint="consent init raw")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_another_users_folder(refused: Refused, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "consent-ledger", tmp_path / "theirs")
    os.chown(tmp_path / "theirs", NOBODY, NOBODY)
    for command in (*WRITES, *READS, FILTER):
        refused("--ledger", "theirs", *command, code=1, says=["theirs belongs to another user"], hint="the user who owns")


def test_a_folder_that_others_may_write_to(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "consent-ledger").chmod(0o777)
    for command in (*WRITES, *READS, FILTER):
        refused(*command, code=1, says=["consent-ledger can be written to by others"], hint="chmod go-w", whole=False)


def test_a_ledger_of_a_newer_version(refused: Refused, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "consent-ledger" / "ledger.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0099'")
    for command in (*WRITES, *READS, FILTER):
        refused(*command, code=1, says=["newer version", "0099", database.REVISION], hint="install the newer", whole=False)


@pytest.fixture
def holder(told: Callable[..., Outcome], tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A real process that holds the writer's lock."""
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN IMMEDIATE'); "
        "print('held', flush=True); sys.stdin.read()"
    )
    path = tmp_path / "consent-ledger" / "ledger.db"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_ledger_that_another_process_has_locked(
    holder: subprocess.Popen[str], refused: Refused, told: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert database.BUSY_SECONDS == 30
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.2)
    who = [f"process {holder.pid} ('python", "ledger's lock"] if Path("/proc/locks").exists() else ["another process"]
    for command in WRITES:
        refused(*command, code=1, says=who, hint="wait for it to finish")
    assert told("show", "ann").code == 0, "readers wait for nobody"
    holder.kill()
    holder.wait()
    assert told("withdraw", "ann").code == 0, "the lock of a killed process is gone at once"


def key_of(tmp_path: Path, name: str = "log.key") -> Path:
    return tmp_path / "consent-ledger" / name


@pytest.mark.parametrize("name", ["log.key", "tag.key"])
def test_a_key_that_is_missing(refused: Refused, tmp_path: Path, name: str) -> None:
    key_of(tmp_path, name).unlink()
    for command in (*WRITES, FILTER):
        refused(*command, code=1, says=[f"consent-ledger/{name} is missing"], hint="from your backup")
    for command in READS[:2]:
        assert_reads(tmp_path, command)


def assert_reads(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, "-m", "ledger.cli", *command], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_run_key_that_is_missing(refused: Refused, tmp_path: Path) -> None:
    key_of(tmp_path, "run.key").unlink()
    refused(*FILTER, code=1, says=["run.key is missing"], hint="from your backup")
    refused(*FILTER, "--run-key", "nokey", code=1, says=["cannot read nokey"], hint="nothing is there")


def test_a_trust_file_that_is_missing(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "consent-ledger" / "trust").unlink()
    for command in (*WRITES, *READS, FILTER):
        refused(*command, code=1, says=["consent-ledger/trust is missing"], hint="from your backup", whole=False)


def test_a_key_that_is_wrong(refused: Refused, tmp_path: Path) -> None:
    right = key_of(tmp_path).read_bytes()
    openssl("genpkey", "-algorithm", "ed25519", "-out", key_of(tmp_path))
    for command in (*WRITES, FILTER):
        refused(*command, code=4, says=["log.key is not the key that signs this ledger's log"], hint="put the right one back")
    openssl("genpkey", "-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key_of(tmp_path))
    refused(*WRITES[0], code=1, says=["log.key", "not an Ed25519 key"], hint="openssl genpkey -algorithm ed25519")
    for junk in (b"", b"junk", right[:-40], b"\xff" * 200):
        key_of(tmp_path).write_bytes(junk)
        refused(*WRITES[0], code=1, says=["log.key", "cannot be read"], hint="BEGIN PRIVATE KEY")
        key_of(tmp_path, "run.key").write_bytes(junk)
        refused(*FILTER, code=1, says=["run.key", "cannot be read"], hint="BEGIN PRIVATE KEY")
    key_of(tmp_path).write_bytes(right)
    key_of(tmp_path, "tag.key").write_bytes(b"junk")
    refused(*WRITES[0], code=4, says=["tag.key holds no key"], hint="from your backup", whole=False)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660])
def test_a_key_that_others_may_read(refused: Refused, tmp_path: Path, mode: int) -> None:
    for name, command in (("log.key", WRITES[1]), ("run.key", FILTER), ("tag.key", WRITES[1])):
        key_of(tmp_path, name).chmod(mode)
        refused(*command, code=1, says=[f"{name} is open to other users"], hint="chmod 600", whole=name != "tag.key")
        key_of(tmp_path, name).chmod(0o600)
    given = tmp_path / "given.key"
    shutil.copy(key_of(tmp_path, "run.key"), given)
    given.chmod(mode)
    refused(*FILTER, "--run-key", "given.key", code=1, says=["given.key is open to other users"], hint="chmod 600")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a key to another user")
def test_a_key_of_another_user(refused: Refused, tmp_path: Path) -> None:
    os.chown(key_of(tmp_path), NOBODY, NOBODY)
    refused(*WRITES[1], code=1, says=["log.key belongs to another user"], hint="chown")


# Passphrases

SECRET = "a passphrase, näive"


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def protect(path: Path) -> None:
    """As docs/cli.md says."""
    told = path.with_suffix(".told")
    told.write_text(SECRET + "\n", encoding="utf-8")
    openssl("pkcs8", "-topk8", "-in", path, "-out", path.with_suffix(".new"), "-passout", f"file:{told}")
    told.unlink()
    path.with_suffix(".new").rename(path)
    path.chmod(0o600)


@pytest.fixture
def protected(told: Callable[..., Outcome], tmp_path: Path) -> Path:
    """The file that the passphrase is read from; both keys are protected by it."""
    for name in ("log.key", "run.key"):
        protect(key_of(tmp_path, name))
        assert b"ENCRYPTED" in key_of(tmp_path, name).read_bytes()
    path = tmp_path / "passphrase"
    path.write_text(SECRET + "\n", encoding="utf-8")
    path.chmod(0o600)
    return path


def test_a_protected_key_without_its_passphrase(refused: Refused, protected: Path) -> None:
    for command in (*WRITES, FILTER):
        refused(*command, code=1, says=[".key is protected by a passphrase"], hint="CONSENT_LEDGER_PASSPHRASE_FILE")
    for command in READS[:2]:
        assert_reads(protected.parent, command)


def test_a_wrong_passphrase(refused: Refused, protected: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSENT_LEDGER_PASSPHRASE_FILE", str(protected))
    protected.write_text("wrong horse\n", encoding="utf-8")
    for command in (*WRITES, FILTER):
        outcome = refused(*command, code=1, says=[".key: the passphrase is wrong"], hint="give the passphrase")
        assert "horse" not in outcome.err
    for text, says, hint in (
        (b"", "is empty", "nothing else"),
        (b"\n", "is empty", "nothing else"),
        (b"\xff\n", "not UTF-8", "it"),
    ):
        protected.write_bytes(text)
        refused(*WRITES[0], code=1, says=["passphrase", says], hint=hint)
    protected.chmod(0o644)
    refused(*WRITES[0], code=1, says=["passphrase is open to other users"], hint="chmod 600")
    monkeypatch.setenv("CONSENT_LEDGER_PASSPHRASE_FILE", "nothing")
    refused(*WRITES[0], code=1, says=["cannot read nothing"], hint="nothing is there")


def test_the_right_passphrase(told: Callable[..., Outcome], protected: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSENT_LEDGER_PASSPHRASE_FILE", str(protected))
    for command in (*WRITES, FILTER, (*FILTER, "--run-key", "consent-ledger/run.key")):
        outcome = told(*command)
        assert outcome.code == 0, outcome.err
        assert SECRET not in outcome.out + outcome.err
    assert told("verify", "out", "--allow-unlogged").code == 0
    protected.unlink()
    assert not [path for path in protected.parent.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


def test_the_passphrase_from_python(protected: Path) -> None:
    folder, asked = protected.parent / "consent-ledger", list[Path]()

    def ask(key: Path) -> str:
        asked.append(key)
        return SECRET

    for passphrase in (SECRET, ask):
        with ledger.open(folder, passphrase=passphrase) as book:
            assert SECRET not in repr(book.folder)
            book.withdraw("ann")
            book.run_key()
    assert asked == [folder / "log.key", folder / "run.key"]
    assert (
        ledger.load_key(folder / "run.key", passphrase=SECRET).public
        == ledger.load_key(folder / "run.key", passphrase=ask).public
    )
    for wrong in (None, "", "other"):
        with pytest.raises(ledger.ConsentLedgerError, match="passphrase"):
            ledger.load_key(folder / "run.key", passphrase=wrong)


@pytest.mark.parametrize("given", [SECRET, "wrong horse"])
def test_the_passphrase_is_asked_for_at_a_terminal_and_not_shown(protected: Path, given: str) -> None:
    process, terminal = pty.fork()
    if not process:
        os.chdir(protected.parent)
        os.execv(sys.executable, [sys.executable, "-m", "ledger.cli", "withdraw", "ann"])
    shown = b""
    while not shown.endswith(b"log.key: "):
        shown += os.read(terminal, 1024)
    os.write(terminal, given.encode() + b"\n")
    try:
        while more := os.read(terminal, 1024):
            shown += more
    except OSError:  # how Linux says that the other end was closed
        pass
    _, status = os.waitpid(process, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == (0 if given == SECRET else 1)
    assert given.encode() not in shown
    assert (b"recorded: withdrawn" if given == SECRET else b"the passphrase is wrong") in shown


def typed(folder: Path, *command: str, answers: Sequence[tuple[bytes, str]]) -> tuple[int, bytes]:
    """A command at a terminal: at each prompt its answer is typed. Its exit code, and all that was shown."""
    process, terminal = pty.fork()
    if not process:
        os.chdir(folder)
        os.execv(sys.executable, [sys.executable, "-m", "ledger.cli", *command])
    shown = b""
    for prompt, answer in answers:
        while not shown.endswith(prompt):
            shown += os.read(terminal, 1024)
        os.write(terminal, answer.encode() + b"\n")
    try:
        while more := os.read(terminal, 1024):
            shown += more
    except OSError:
        pass
    _, status = os.waitpid(process, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), shown


def test_keys_are_protected_and_replaced_with_a_passphrase_that_is_typed_once(
    told: Callable[..., Outcome], refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused("key", "protect", code=1, says=["log.key is to be protected"], hint="CONSENT_LEDGER_PASSPHRASE_FILE")
    again, new = b"The same again: ", b"New passphrase of consent-ledger/log.key: "
    code, shown = typed(tmp_path, "key", "protect", answers=[(new, SECRET), (again, "other")])
    assert (code, b"nothing was changed" in shown) == (2, True)
    assert not PrivateKey.is_protected(key_of(tmp_path).read_bytes())
    code, shown = typed(tmp_path, "key", "protect", answers=[(new, SECRET), (again, SECRET)])
    assert code == 0, shown
    assert SECRET.encode() not in shown
    for name in ("log.key", "run.key"):
        assert PrivateKey.is_protected(key_of(tmp_path, name).read_bytes())
        assert key_of(tmp_path, name).stat().st_mode & 0o777 == 0o600
        ledger.load_key(key_of(tmp_path, name), passphrase=SECRET)
    refused(*WRITES[0], code=1, says=["log.key is protected by a passphrase"], hint="CONSENT_LEDGER_PASSPHRASE_FILE")
    code, shown = typed(tmp_path, "key", "rotate", answers=[(b"Passphrase of consent-ledger/log.key: ", SECRET)])
    assert code == 0, shown
    monkeypatch.setenv("CONSENT_LEDGER_PASSPHRASE", SECRET)
    for command in (("key", "protect"), WRITES[0]):
        outcome = told(*command)
        assert outcome.code == 0, outcome.err
        assert SECRET not in outcome.out + outcome.err
    assert "already" in told("key", "protect").err
    monkeypatch.setenv("CONSENT_LEDGER_PASSPHRASE", "wrong horse")
    assert "horse" not in refused(*WRITES[0], code=1, says=["passphrase is wrong"], hint="give the passphrase", whole=False).err
