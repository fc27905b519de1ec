"""Real failures of a real server: what was acknowledged is there, what was refused is not, what is unknown is said to be so."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from small_ledger import Clock, no, yes

import ledger
from ledger import IntegrityError, Ledger
from ledger.errors import ConsentLedgerError, SnapshotError
from ledger.store import database
from ledger.store.folder import Folder
from tests import postgres as servers

COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"
"""What the driver sends: a message of the protocol."""


@pytest.fixture(scope="module")
def server() -> Iterator[servers.Own]:
    """One that may be stopped."""
    with servers.own() as started:
        yield started
        started.drop()


@pytest.fixture
def book(tmp_path: Path, server: servers.Own) -> Iterator[Ledger]:
    with ledger.create(tmp_path / "ledger", database=server.new()) as made:
        made.declare_purpose("train-ai", title="Training", description="Training of models")
        yield made
    server.drop()


class Line:
    """Carries bytes between the ledger and the server, and cuts the line at a COMMIT: before the server has it, or after."""

    def __init__(self, server: Path, folder: Path) -> None:
        self._server, self.folder = str(server / ".s.PGSQL.5432"), folder
        self.cut: str | None = None
        self.cuts = 0
        self.answered = threading.Event()
        self._deaf: set[socket.socket] = set()
        self.then: Callable[[], None] = lambda: None
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / ".s.PGSQL.5432"))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                upstream = socket.socket(socket.AF_UNIX)
                try:
                    upstream.connect(self._server)
                except OSError:  # it is down; the next who asks may find it up
                    client.close()
                    upstream.close()
                    continue
                threading.Thread(target=self._answers, args=(upstream, client), daemon=True).start()
                threading.Thread(target=self._questions, args=(client, upstream), daemon=True).start()

    def _questions(self, client: socket.socket, upstream: socket.socket) -> None:
        with contextlib.suppress(OSError), client, upstream:
            while data := client.recv(1 << 16):
                if self.cut is not None and COMMIT in data:
                    mode, self.cut = self.cut, None
                    self.cuts += 1
                    self._deaf.add(client)
                    if mode == "after":
                        upstream.sendall(data)
                        self.answered.wait(60)
                    self.then()
                    for end in (client, upstream):
                        with contextlib.suppress(OSError):
                            end.shutdown(socket.SHUT_RDWR)
                    return
                upstream.sendall(data)

    def _answers(self, upstream: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := upstream.recv(1 << 16):
                if client in self._deaf:
                    self.answered.set()
                else:
                    client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def line(server: servers.Own, tmp_path: Path, book: Ledger) -> Iterator[Line]:
    """`book`'s folder leads through this line from now on."""
    made = Line(server.socket, tmp_path)
    config = book.folder.path / "ledger.toml"
    through = sa.make_url(book.folder.database).set(query={"host": str(tmp_path)}).render_as_string()
    config.write_text(config.read_text().replace(book.folder.database, through))
    yield made
    made.close()


def _events(book: Ledger) -> list[str | None]:
    return [event.event_id for _, event in book.events()]


def _whole(book: Ledger, *event_ids: str) -> None:
    assert _events(book) == list(event_ids)
    assert ledger.fsck(book.folder.path).events == len(event_ids)
    assert (book.folder.path / "head").read_text() == book.checkpoint()


def test_a_line_that_is_cut_before_the_commit_arrives(book: Ledger, line: Line) -> None:
    with ledger.open(book.folder.path) as through:
        line.cut = "before"
        with pytest.raises(ConsentLedgerError, match="nothing was recorded") as lost:
            through.record(no("u1", event_id="e1"))
        assert lost.value.exit_code == 1 and line.cuts == 1
        assert _events(book) == []
        assert not through.record(no("u1", event_id="e1")).repeated
    _whole(book, "e1")


def test_a_line_that_is_cut_after_the_commit_arrived(book: Ledger, line: Line) -> None:
    """The driver reports a failure, and the no is stored: it is acknowledged, with its receipt."""
    with ledger.open(book.folder.path) as through:
        line.cut = "after"
        recorded = through.record(no("u1", event_id="e1"))
        assert line.cuts == 1 and not recorded.repeated
        assert through.record(no("u1", event_id="e1")).repeated
    _whole(book, "e1")


@pytest.mark.parametrize("mode", ["before", "after"])
def test_a_commit_reported_failed_two_entries_before_a_tiles_edge(book: Ledger, line: Line, mode: str) -> None:
    """Not stored, or stored; then the log goes on over the edge."""
    book.record_all(yes(f"p{n}", event_id=f"p{n}") for n in range(251))
    receipts = []
    with ledger.open(book.folder.path) as through:
        line.cut = mode
        if mode == "before":
            with pytest.raises(ConsentLedgerError, match="nothing was recorded"):
                through.record(no("u1", event_id="e1"))
        receipts.append(through.record(no("u1", event_id="e1")).receipt)
        receipts += [through.record(no("u2", event_id=f"later{n}")).receipt for n in range(3)]
    assert line.cuts == 1
    assert ledger.fsck(book.folder.path).size == 258
    for receipt in [*receipts, book.receipt("p0"), book.receipt("p250")]:
        file = book.folder.path / "one.json"
        file.write_bytes(receipt)
        ledger.verify(file, trust=book.folder.path / "trust")
    _whole(book, *(f"p{n}" for n in range(251)), "e1", "later0", "later1", "later2")


def test_another_has_appended_before_the_outcome_is_known(book: Ledger, line: Line) -> None:
    with ledger.open(book.folder.path) as through:
        line.cut, line.then = "after", lambda: book.record(no("u2", event_id="e2")) and None
        through.record(no("u1", event_id="e1"))
    _whole(book, "e1", "e2")


def test_a_server_that_does_not_come_back(book: Ledger, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nothing is said to be recorded, nor not to be."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 1)
    with ledger.open(book.folder.path) as through:
        line.cut, line.then = "after", line.close
        with pytest.raises(ConsentLedgerError, match="is not known") as lost:
            through.record(no("u1", event_id="e1"))
    assert "nothing was recorded" not in str(lost.value)
    assert _events(book) == ["e1"]
    assert book.record(no("u1", event_id="e1")).repeated


@pytest.mark.parametrize("mode", ["before", "after"])
def test_a_server_that_restarts_at_the_commit(
    book: Ledger, line: Line, server: servers.Own, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a crash: what it acknowledged to nobody is there, or not, and the ledger waits for it to tell."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 120)  # on a busy disk a server is not back in 30 seconds
    restarted = threading.Event()

    def restart() -> None:
        server.stop(mode="immediate")
        server.start()
        restarted.set()

    with ledger.open(book.folder.path) as through:
        line.cut, line.then = mode, restart
        if mode == "after":
            through.record(no("u1", event_id="e1"))
        else:
            with pytest.raises(ConsentLedgerError, match="nothing was recorded"):
                through.record(no("u1", event_id="e1"))
        assert restarted.wait(120)
    _whole(book, *(["e1"] if mode == "after" else []))


def test_a_session_that_is_ended_in_the_middle(book: Ledger, server: servers.Own) -> None:
    def acts() -> Iterator[ledger.Event]:
        yield yes("u1")
        name = sa.make_url(book.folder.database).database
        server.admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", name)
        yield yes("u2")

    before = book.checkpoint()
    with pytest.raises(ConsentLedgerError, match="connection to the database failed"):
        book.record_all(acts())
    assert book.checkpoint() == before
    book.record(no("u1", event_id="e1"))
    _whole(book, "e1")


def test_a_server_that_is_down(book: Ledger, server: servers.Own) -> None:
    server.stop()
    try:
        for use in (lambda: book.withdraw("u1"), lambda: book.look("train-ai"), lambda: ledger.fsck(book.folder.path)):
            with pytest.raises(ConsentLedgerError, match="connection to the database failed") as down:
                use()
            assert down.value.exit_code == 1
    finally:
        server.start()
    book.record(no("u1", event_id="e1"))
    _whole(book, "e1")


def test_a_deadlock(book: Ledger, server: servers.Own) -> None:
    """With someone who locks the tables the other way round; the server ends our transaction."""
    url = book.folder.database
    with servers.connect(url) as other:
        other.execute("SET deadlock_timeout = '60s'")
        other.execute("BEGIN")
        other.execute("LOCK TABLE entries IN SHARE MODE")
        waits = threading.Thread(target=lambda: other.execute("SELECT note FROM head FOR UPDATE"))

        def acts() -> Iterator[ledger.Event]:
            waits.start()
            while not server.admin("SELECT 1 FROM pg_locks WHERE NOT granted"):
                pass
            yield no("u1")

        with pytest.raises(ConsentLedgerError, match="nothing was recorded") as ended:
            book.record_all(acts())
        assert ended.value.exit_code == 1
        waits.join()
        other.execute("ROLLBACK")
    book.record(no("u1", event_id="e1"))
    _whole(book, "e1")


def test_a_serialization_failure(book: Ledger) -> None:
    """READ COMMITTED has none of its own; a trigger's is as real."""
    url = book.folder.database
    body = "BEGIN RAISE EXCEPTION 'could not serialize access' USING ERRCODE = 'serialization_failure'; END"
    servers.run(url, f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $${body}$$")
    servers.run(url, "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON entries DEFERRABLE INITIALLY DEFERRED "
                     "FOR EACH ROW EXECUTE FUNCTION refuse()")  # fmt: skip
    with pytest.raises(ConsentLedgerError, match="nothing was recorded"):  # at COMMIT
        book.record(no("u1", event_id="e1"))
    assert _events(book) == []
    servers.run(url, "ALTER TABLE entries DISABLE TRIGGER refuse")
    book.record(no("u1", event_id="e1"))
    _whole(book, "e1")


@pytest.fixture
def replica(server: servers.Own, book: Ledger) -> Iterator[Callable[[str], Path]]:
    """Copies of the whole server as it is now; `-R` makes one that follows it, and can only be read."""
    made: list[Path] = []

    def copy(*options: str) -> Path:
        data = server.folder / f"replica{len(list(server.folder.iterdir()))}"
        server.tool("pg_basebackup", "-h", server.socket, "-U", "postgres", "-c", "fast", "-D", data, *options)
        (data / ".s.PGSQL.5432.lock").unlink()  # of the one that it was copied from
        server.start(data)
        made.append(data)
        return data

    yield copy
    for data in made:
        server.stop(data, mode="immediate")


def _lead_to(book: Ledger, server: servers.Own, data: Path) -> None:
    config = book.folder.path / "ledger.toml"
    name = sa.make_url(book.folder.database).database or ""
    config.write_text(config.read_text().replace(book.folder.database, server.at(data, name)))


def test_a_failover_to_a_replica_that_lacks_a_no(book: Ledger, server: servers.Own, replica: Callable[..., Path]) -> None:
    book.record(yes("u1"))
    stale = replica()
    book.withdraw("u1")  # acknowledged, and not there
    _lead_to(book, server, stale)
    with pytest.raises(IntegrityError, match="rolled back") as refused:
        ledger.open(book.folder.path)
    assert refused.value.exit_code == 4
    with Ledger(Folder.open(book.folder.path)) as there:
        for use in (lambda: there.record(yes("u2")), lambda: there.look("train-ai"), lambda: there.status()):
            with pytest.raises(IntegrityError, match="rolled back"):
                use()


def test_answers_of_a_standby_that_was_cut_off_grow_old(
    book: Ledger, server: servers.Own, replica: Callable[..., Path], tmp_path: Path, clock: Clock
) -> None:
    """From a folder of another machine, whose anchor nobody moves: the no that the standby lacks would never be missed."""
    book.record(yes("u1"))
    data = replica("-R")
    server.stop(data)
    with (data / "postgresql.auto.conf").open("a") as settings:
        settings.write("primary_conninfo = ''\n")
    server.start(data)
    shutil.copytree(book.folder.path, tmp_path / "elsewhere")
    book.withdraw("u1")
    with ledger.open(tmp_path / "elsewhere") as there:
        _lead_to(there, server, data)
    clock.move(hours=25)
    with ledger.open(tmp_path / "elsewhere") as there, pytest.raises(SnapshotError, match="is 25"):
        there.look("train-ai").check_age(clock.now)
    with Ledger(Folder.open(book.folder.path)) as there:
        assert there.look("train-ai").age(clock.now) == timedelta(0)


def test_a_standby_can_be_read_and_says_why_it_cannot_be_written_to(
    book: Ledger, server: servers.Own, replica: Callable[..., Path]
) -> None:
    book.record(yes("u1"))
    _lead_to(book, server, replica("-R"))
    with ledger.open(book.folder.path) as there:
        assert there.show("u1")["decisions"][0]["allowed"]
        with pytest.raises(ConsentLedgerError, match="can only be read from") as refused:
            there.withdraw("u1")
        assert refused.value.exit_code == 1 and "primary" in (refused.value.hint or "")
    assert ledger.fsck(book.folder.path).events == 1
