"""What only PostgreSQL can do to a ledger: other encodings, isolation, passwords, a neighbour, a proxy's sessions."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from small_ledger import no, yes

import ledger
from ledger import IntegrityError, Ledger, LedgerBusy, UsageError, cli
from ledger.errors import ConsentLedgerError
from ledger.store import database
from tests import postgres as servers

New = Callable[..., str]
ODD = ["Ä", "A\u0308", "ä", "a", "B", "ß", "ss", " x", "x ", "x\t", "I", "ı", "%", "_", "\\", "\\x41", "'", "{}", "\x01"]


@pytest.fixture
def url(new_database: New) -> str:
    return new_database()


@pytest.fixture
def book(tmp_path: Path, url: str) -> Iterator[Ledger]:
    with ledger.create(tmp_path / "ledger", database=url) as made:
        made.declare_purpose("train-ai", title="Training", description="Training of models")
        yield made


def _sessions(url: str, postgres: servers.Server) -> list[int]:
    """Of the ledger's own processes."""
    name = sa.make_url(url).database
    rows = postgres.admin("SELECT pid FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()", name)
    return [pid for (pid,) in rows]


@pytest.mark.parametrize("password", ["postgresql+psycopg://ann:s3cret@db/x", "postgresql://db/x?password=s3cret"])
def test_a_password_in_the_url_is_refused_and_not_repeated(
    tmp_path: Path, password: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["init", str(tmp_path / "new"), "--database", password]) == 2
    said = capsys.readouterr()
    assert "must not hold a password" in said.err and "pgpass" in said.err
    assert "s3cret" not in said.err + said.out
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("url", ["postgresql+psycopg://ann:s3cret@db:port/x", "s3cret", "://s3cret"])
def test_a_url_that_cannot_be_read_is_not_repeated(tmp_path: Path, url: str) -> None:
    with pytest.raises(UsageError) as refused:
        ledger.create(tmp_path / "new", database=url)
    assert "s3cret" not in f"{refused.value} {refused.value.hint}"


@pytest.mark.parametrize(
    "parameter", ["client_encoding=sql_ascii", "autocommit=0", "prepare_threshold=1", "row_factory=x", "cursor_factory=x", "a=b"]
)
def test_the_drivers_own_settings_are_not_taken_from_the_url(tmp_path: Path, parameter: str) -> None:
    with pytest.raises(UsageError, match="has no parameter"):
        ledger.create(tmp_path / "new", database=f"postgresql://ann@db/x?{parameter}")
    assert not (tmp_path / "new").exists()


def test_a_password_written_into_ledger_toml_by_hand_is_refused(book: Ledger) -> None:
    config = book.folder.path / "ledger.toml"
    config.write_text(config.read_text().replace("postgres@", "postgres:s3cret@"))
    with pytest.raises(UsageError, match="password"):
        ledger.open(book.folder.path)


def test_password_files_services_and_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As libpq has them: each of the three lets in, and without any of them the server does not."""
    with servers.own() as server:
        server.admin("CREATE ROLE ann LOGIN PASSWORD 's3cret'")
        server.admin("CREATE DATABASE anns OWNER ann TEMPLATE template0 ENCODING 'UTF8'")
        rules = server.data / "pg_hba.conf"
        rules.write_text("local all ann scram-sha-256\n" + rules.read_text())
        server.admin("SELECT pg_reload_conf()")
        url = f"postgresql+psycopg://ann@/anns?host={server.socket}"
        monkeypatch.setenv("PGPASSFILE", "/dev/null")
        with pytest.raises(ConsentLedgerError) as refused:
            ledger.create(tmp_path / "l", database=url)
        assert refused.value.exit_code == 1 and not (tmp_path / "l").exists()
        monkeypatch.setenv("PGPASSWORD", "wrong-s3cret")
        with pytest.raises(ConsentLedgerError, match="password authentication failed") as refused:
            ledger.create(tmp_path / "l", database=url)
        assert "s3cret" not in f"{refused.value} {refused.value.hint}"
        monkeypatch.setenv("PGPASSWORD", "s3cret")
        ledger.create(tmp_path / "l", database=url).close()
        monkeypatch.delenv("PGPASSWORD")
        passwords = tmp_path / "pgpass"
        passwords.write_text("*:*:anns:ann:s3cret\n")
        passwords.chmod(0o600)
        monkeypatch.setenv("PGPASSFILE", str(passwords))
        assert ledger.fsck(tmp_path / "l").acts == 2
        service = tmp_path / "service.conf"
        service.write_text(f"[consent]\nhost={server.socket}\nuser=ann\ndbname=anns\npassword=s3cret\n")
        monkeypatch.setenv("PGPASSFILE", "/dev/null")
        monkeypatch.setenv("PGSERVICEFILE", str(service))
        config = tmp_path / "l" / "ledger.toml"
        config.write_text(config.read_text().replace(url, "postgresql+psycopg:///?service=consent"))
        assert ledger.fsck(tmp_path / "l").acts == 2
        assert "s3cret" not in config.read_text()


def test_every_id_comes_back_byte_for_byte_and_is_found_alone(book: Ledger) -> None:
    for subject in ODD:
        book.record(yes(subject, event_id=f"e{subject}", content_id=subject))
    for subject in ODD:
        (event,) = [event for _, event in book.events_of([subject])]
        assert (event.subject_id, event.content_id, event.event_id) == (subject, subject, f"e{subject}")
    assert ledger.fsck(book.folder.path).events == len(ODD)


@pytest.mark.parametrize("locale", ["LOCALE_PROVIDER builtin BUILTIN_LOCALE 'PG_UNICODE_FAST'", "LOCALE 'C'"])
def test_whatever_the_database_takes_for_order(tmp_path: Path, new_database: New, locale: str) -> None:
    """No index is by a language, whose order an update of the system can change: then it misses rows that are there."""
    url = new_database(f"ENCODING 'UTF8' {locale}")
    with ledger.create(tmp_path / "l", database=url) as book:
        book.declare_purpose("train-ai", title="T", description="D")
        book.record_all(yes(subject, event_id=subject) for subject in ODD)
        book.withdraw("a")
        assert {s for s in ODD if book.show(s)["decisions"][0]["allowed"]} == set(ODD) - {"a"}
        collations = servers.run(
            url,
            "SELECT DISTINCT c.collname FROM pg_attribute a JOIN pg_collation c ON c.oid = a.attcollation "
            "WHERE a.attrelid IN ('openings'::regclass, 'notices'::regclass, 'checkpoints'::regclass, 'head'::regclass)",
        )
        assert collations == [("C",)]
    assert ledger.fsck(tmp_path / "l").events == len(ODD) + 1


def test_a_no_by_the_longest_id_that_folding_can_make(book: Ledger) -> None:
    """NFKC makes 33 bytes of these 3: no B-tree would take them, and the no would be lost."""
    import random

    letters = "ﷺﷻ㌀㍿㌖ﬃ"
    subject = "".join(random.Random(7).choice(letters[:2]) + random.Random(n).choice(letters) for n in range(85))
    assert len(subject.encode()) <= 512
    book.withdraw(subject)
    assert [e.state for _, e in book.events_of([subject])] == ["withdrawn"]


def test_an_id_that_none_can_be_is_looked_up_as_unknown(book: Ledger) -> None:
    assert book.events_of(["a\0b"]) == []
    assert not any(d["allowed"] for d in book.show("a\0b")["decisions"])
    with pytest.raises(UsageError, match="no event"):
        book.receipt("\0")


def test_another_encoding_is_refused(tmp_path: Path, new_database: New) -> None:
    for encoding in ("SQL_ASCII", "LATIN1"):
        with pytest.raises(UsageError, match=encoding):
            ledger.create(tmp_path / encoding, database=new_database(f"ENCODING '{encoding}' LOCALE 'C'"))
        assert not (tmp_path / encoding).exists()


def test_a_second_ledger_in_a_database_is_refused(book: Ledger, tmp_path: Path, url: str) -> None:
    before = book.checkpoint()
    with pytest.raises(UsageError, match="there is a ledger"):
        ledger.create(tmp_path / "second", database=url)
    assert not (tmp_path / "second").exists()
    assert book.checkpoint() == before


def test_two_ledgers_in_two_schemas_do_not_meet(book: Ledger, tmp_path: Path, url: str) -> None:
    servers.run(url, "CREATE SCHEMA second")
    there = sa.make_url(url).update_query_dict({"options": "-csearch_path=second"}).render_as_string()
    with ledger.create(tmp_path / "second", database=there) as second:
        second.declare_purpose("train-ai", title="T", description="D")
        second.record(no("u1"))
        book.record(yes("u1"))
        assert [e.state for _, e in second.events()] == ["refused"]
        assert [e.state for _, e in book.events()] == ["given"]
    config = book.folder.path / "ledger.toml"
    config.write_text(config.read_text().replace(url, there))
    with pytest.raises(IntegrityError):
        ledger.open(book.folder.path)


def test_a_search_path_that_leads_elsewhere_meanwhile(book: Ledger, url: str) -> None:
    """Tables of the same names in front of ours: what they lack or add does not fit what was signed."""
    book.record(no("u1"))
    name = sa.make_url(url).database
    servers.run(url, "CREATE SCHEMA front")
    servers.run(url, "CREATE TABLE front.openings (LIKE public.openings INCLUDING ALL)")
    servers.run(url, "INSERT INTO front.openings SELECT * FROM public.openings WHERE state IS NULL")
    servers.run(url, f"ALTER DATABASE {name} SET search_path = front, public")
    for use in (lambda: book.look("train-ai"), lambda: book.status(), lambda: ledger.fsck(book.folder.path)):
        with pytest.raises(IntegrityError):
            use()


@pytest.mark.parametrize(
    "setting",
    [
        "default_transaction_isolation = 'serializable'",
        "default_transaction_isolation = 'repeatable read'",
        "default_transaction_read_only = on",
        "synchronous_commit = off",
        "lock_timeout = 1",
        "bytea_output = 'escape'",
        "client_encoding = 'LATIN1'",
        "standard_conforming_strings = off",
        "row_security = off",
        "DateStyle = 'German'",
    ],
)
def test_whatever_the_server_has_as_default(book: Ledger, url: str, setting: str) -> None:
    servers.run(url, f"ALTER DATABASE {sa.make_url(url).database} SET {setting}")
    book.withdraw("ü1")
    book.record_all(yes(f"u{i}") for i in range(3))
    assert ledger.fsck(book.folder.path).events == 4
    with database.writing(book._engine) as (connection, _):
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
        assert connection.exec_driver_sql("SHOW transaction_isolation").scalar() == "read committed"
    with database.reading(book._engine) as connection:
        assert connection.exec_driver_sql("SHOW transaction_isolation").scalar() == "repeatable read"
        assert connection.exec_driver_sql("SHOW transaction_read_only").scalar() == "on"


def test_nothing_is_left_in_the_session(book: Ledger) -> None:
    """What a proxy hands to its next client: no setting, no prepared statement, no lock, no cursor."""
    with book._engine.connect() as connection, connection.begin():
        list(connection.execute(sa.text("SELECT 1")))
    raw = book._engine.raw_connection()
    before = raw.cursor().execute("SELECT name, setting FROM pg_settings ORDER BY name").fetchall()
    with book._engine.connect().execution_options(writer=True) as connection:
        for _ in range(8):
            with connection.begin():
                connection.execute(sa.text("SELECT note FROM head WHERE id = :id"), {"id": 1}).all()
        held = connection.connection.cursor()
        assert held.execute("SELECT name, setting FROM pg_settings ORDER BY name").fetchall() == before
        for view in ("pg_prepared_statements", "pg_cursors"):
            assert held.execute(f"SELECT count(*) FROM {view}").fetchone() == (0,)
        assert held.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (0,)
    raw.close()


def test_a_server_that_may_lose_what_it_acknowledged(tmp_path: Path) -> None:
    with servers.own() as server:
        book = ledger.create(tmp_path / "l", database=server.new())
        server.admin("ALTER SYSTEM SET fsync = off")
        server.admin("SELECT pg_reload_conf()")
        while server.admin("SHOW fsync") != [("off",)]:
            pass
        with pytest.raises(ConsentLedgerError, match="fsync = off"):
            book.withdraw("u1")
        assert list(book.events()) == []
        book.close()


def test_a_lock_that_another_session_holds(book: Ledger, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with servers.connect(url) as other, other.transaction():
        other.execute("SELECT note FROM head FOR UPDATE")
        monkeypatch.setattr(database, "BUSY_SECONDS", 0.2)
        with ledger.open(book.folder.path) as second:
            assert second.show("u1")["events"] == [], "readers wait for nobody"
            with pytest.raises(LedgerBusy, match=r"another session .* 0\.2 seconds"):
                second.withdraw("u1")
    book.withdraw("u1")


def test_a_head_without_its_row(book: Ledger, url: str) -> None:
    """There is no row to lock then: nobody may go on."""
    for statement in ("INSERT INTO head SELECT 2, note FROM head", "DELETE FROM head"):
        servers.run(url, statement)
        for use in (lambda: book.withdraw("u1"), lambda: ledger.open(book.folder.path)):
            with pytest.raises(IntegrityError, match="table head"):
                use()


def test_a_commit_that_the_server_answers_by_rollback(book: Ledger, url: str) -> None:
    """PostgreSQL does so for a transaction that failed, and psycopg calls it a success."""
    with database.writing(book._engine) as (connection, transaction):
        with pytest.raises(sa.exc.DBAPIError):
            connection.exec_driver_sql("SELECT 1/0")
        with pytest.raises(psycopg.Error, match="ROLLBACK"):
            transaction.commit()


@pytest.mark.parametrize("table", ["entries", "openings", "tiles", "checkpoints", "head"])
def test_rows_that_a_trigger_drops_or_changes(book: Ledger, url: str, table: str) -> None:
    """The database is not believed that it holds what it was given."""
    before = book.checkpoint()
    servers.run(url, "CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    servers.run(url, f"CREATE TRIGGER skip BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION skip()")
    with pytest.raises(IntegrityError):
        book.withdraw("u1")
    servers.run(url, f"DROP TRIGGER skip ON {table}")
    assert book.checkpoint() == before
    book.withdraw("u1")
    ledger.fsck(book.folder.path)


def test_without_the_extra_the_error_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "import ledger\n"
        "ledger.create(sys.argv[1]).close()\n"
        "try: ledger.create(sys.argv[2], database='postgresql://db/x')\n"
        "except ledger.ConsentLedgerError as error: print(error.hint)\n"
    )
    line = [sys.executable, "-c", code, str(tmp_path / "a"), str(tmp_path / "b")]
    said = subprocess.run(line, check=True, capture_output=True, text=True).stdout
    assert "consent-ledger[postgres]" in said


def test_a_ledger_in_sqlite_loads_no_extra(tmp_path: Path) -> None:
    code = (
        "import sys; import ledger\n"
        "with ledger.create(sys.argv[1]) as book:\n"
        "    book.declare_purpose('train-ai', title='T', description='D')\n"
        "    book.look('train-ai')\n"
        "print(sorted({'psycopg', 'pyspark', 'ray', 'datatrove', 'datasets'} & sys.modules.keys()))\n"
    )
    line = [sys.executable, "-c", code, str(tmp_path / "a")]
    assert subprocess.run(line, check=True, capture_output=True, text=True).stdout == "[]\n"


def test_the_widths_of_numbers(url: str, book: Ledger) -> None:
    rows: list[Any] = servers.run(
        url,
        "SELECT table_name, column_name, data_type FROM information_schema.columns "
        "WHERE table_schema = 'public' AND data_type IN ('bigint', 'integer') ORDER BY 1, 2",
    )
    assert [row for row in rows if row[2] == "integer"] == [("head", "id", "integer"), ("tiles", "level", "integer")]
