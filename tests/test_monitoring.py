"""The monitor follows logs that are none of ours, and sees what is wrong with them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jsonschema import Draft202012Validator

import ledger
from ledger import download, published, schemas
from ledger.errors import ConsentLedgerError, IntegrityError, UsageError, VerificationError
from tests.conftest import Outcome
from tests.other_log import OtherLog, served

ENTRIES = [hashlib.sha512(b"%d" % number).digest() * (number % 5) for number in range(70_000)]
"""Of 0, 64, 128, 192 and 256 bytes."""


@pytest.fixture
def log(tmp_path: Path) -> OtherLog:
    """Of 300 entries, published in `log`; `trust` names its key."""
    made = OtherLog()
    made.entries = ENTRIES[:300]
    made.publish(tmp_path / "log")
    (tmp_path / "trust").write_text(f"log {made.vkey}\n")
    return made


def look(folder: Path, where: str | Path | None = None, **options: Any) -> ledger.Monitored:
    return ledger.monitor_log(where or folder / "log", trust=folder / "trust", state=folder / "state", **options)


def refused(folder: Path, match: str, where: str | Path | None = None) -> IntegrityError:
    before = (folder / "state").read_bytes() if (folder / "state").exists() else None
    with pytest.raises(IntegrityError, match=match) as caught:
        look(folder, where)
    assert caught.value.exit_code == 4
    assert ((folder / "state").read_bytes() if (folder / "state").exists() else None) == before, "the state never goes back"
    return caught.value


def test_a_log_is_followed_from_visit_to_visit(tmp_path: Path, log: OtherLog) -> None:
    first = look(tmp_path)
    assert (first.before, first.checkpoint.size, first.checkpoint.root) == (None, 300, log.root())
    seen: list[tuple[int, int]] = []
    for size in (300, 301, 511, 512, 513, 1000):
        log.entries = ENTRIES[:size]
        log.publish(tmp_path / "log")
        found = look(tmp_path, on_progress=lambda *told: seen.append(told))
        assert found.before is not None and found.before.root == log.root(found.before.size)
        assert found.checkpoint.root == log.root() and seen[-1] == (size, size)
    assert (tmp_path / "state").read_text() == (tmp_path / "log" / "checkpoint").read_text()


def test_a_log_with_three_levels_of_tiles(tmp_path: Path, log: OtherLog) -> None:
    log.entries = ENTRIES
    log.publish(tmp_path / "log")
    assert look(tmp_path).checkpoint.root == log.root()
    top = tmp_path / "log/tile/2/000.p/1"
    top.write_bytes(bytes(32))
    refused(tmp_path, "tile 2/0 of the published log")


def test_the_paths_are_those_of_the_published_vectors(tmp_path: Path, shared: Path) -> None:
    """Every path that the vectors name is where a reader of ours asks for that tile."""
    vectors = json.loads((shared / "vectors/tlog-tiles/paths.json").read_text())
    for case in vectors["tile_path"]:
        folder = tmp_path / hashlib.sha256(repr(case).encode()).hexdigest()[:16]
        width = case["partial"] or 256
        path = folder / case["path"]
        path.parent.mkdir(parents=True)
        path.write_bytes(os.urandom(32 * width))
        size = (case["index"] * 256 + width) << (8 * case["level"])
        assert published.PublishedLog(folder).tile(case["level"], case["index"], size) == path.read_bytes()
        for wrong in (path.read_bytes() + b"x", path.read_bytes()[:-1], b""):
            path.write_bytes(wrong)
            with pytest.raises(VerificationError, match=r"which is no such tile|is longer than"):
                published.PublishedLog(folder).tile(case["level"], case["index"], size)


def test_partial_files_that_the_full_ones_replaced_are_cut_out_of_them(tmp_path: Path, log: OtherLog) -> None:
    note = log.checkpoint(300)
    log.entries = ENTRIES[:600]
    log.publish(tmp_path / "log")
    for name in ("tile/0/001.p", "tile/entries/001.p", "tile/1/000.p"):
        if name != "tile/1/000.p":
            shutil.rmtree(tmp_path / "log" / name)
    (tmp_path / "log/checkpoint").write_text(note)
    assert look(tmp_path).checkpoint.size == 300


def test_what_other_logs_write_into_checkpoints(tmp_path: Path, log: OtherLog) -> None:
    """Extension lines, signatures of others, two keys of one origin, a key that was replaced."""
    other = Ed25519PrivateKey.generate()
    text = log.checkpoint(extra="an extension\nand another\n").partition("\n\n")[0] + "\n"
    lines = [
        f"— someone.else/x {base64.b64encode(b'abcd' + b'?' * 700).decode()}\n",
        f"— {log.origin} {base64.b64encode(b'zzzz' + b'!' * 64).decode()}\n",
        log.signature(text, other),
        log.signature(text),
    ]
    (tmp_path / "log/checkpoint").write_text(text + "\n" + "".join(lines))
    assert look(tmp_path).checkpoint.extensions == ("an extension", "and another")
    for trust in (
        f"log {log.vkey}\nlog {log._vkey(log.origin, other)}\n",
        f"log {log._vkey(log.origin, other)} https://log.example\n",
        f"log {log.vkey} until 299\nlog {log._vkey(log.origin, other)}\n",
    ):
        (tmp_path / "trust").write_text(trust)
        assert look(tmp_path).checkpoint.size == 300
    (tmp_path / "trust").write_text(f"log {log.vkey} until 299\n")
    (tmp_path / "state").unlink()
    refused(tmp_path, "signed by a key that was replaced")


def test_an_empty_log(tmp_path: Path, log: OtherLog) -> None:
    (tmp_path / "log/checkpoint").write_text(log.checkpoint(0))
    assert look(tmp_path).checkpoint.size == 0
    assert look(tmp_path).checkpoint.size == 0
    (tmp_path / "log/checkpoint").write_text(log.checkpoint())
    assert look(tmp_path).before is not None
    refused_note = log.checkpoint(0)
    (tmp_path / "log/checkpoint").write_text(refused_note)
    refused(tmp_path, "rolled back: it shows 0 entries, and has signed 300")


def test_a_key_of_another_origin_says_nothing(tmp_path: Path, log: OtherLog) -> None:
    other = OtherLog("another.example/log")
    other.key = log.key
    other.entries = log.entries
    other.publish(tmp_path / "log")
    refused(tmp_path, "not signed by a key that is trusted")
    (tmp_path / "trust").write_text(f"log {log.vkey}\nlog {other.vkey}\n")
    look(tmp_path)
    (tmp_path / "log/checkpoint").write_text(log.checkpoint())
    refused(tmp_path, "is of log 'another.example/log'")


# Forks, rollbacks, changed entries


@pytest.mark.parametrize("at", [0, 100, 255, 256, 299])
@pytest.mark.parametrize("size", [300, 301, 900])
def test_a_fork_is_seen_wherever_it_begins(tmp_path: Path, log: OtherLog, at: int, size: int) -> None:
    look(tmp_path)
    log.entries = [*ENTRIES[:at], b"another", *ENTRIES[at + 1 : size]]
    shutil.rmtree(tmp_path / "log")
    log.publish(tmp_path / "log")
    error = refused(tmp_path, "was forked")
    (kept,) = tmp_path.glob("state.contradicted-*")
    assert kept.read_text() == log.checkpoint() and str(kept) in str(error.hint)


def test_a_fork_that_begins_later_is_no_fork_yet(tmp_path: Path, log: OtherLog) -> None:
    look(tmp_path)
    log.entries = [*ENTRIES[:300], b"another"]
    log.publish(tmp_path / "log")
    assert look(tmp_path).checkpoint.size == 301


def test_a_rollback(tmp_path: Path, log: OtherLog) -> None:
    look(tmp_path)
    log.publish(tmp_path / "log", 299)
    error = refused(tmp_path, "was rolled back: it shows 299 entries, and has signed 300 before")
    assert "An old copy of an honest log looks the same" in str(error.hint)
    assert [path.read_text() for path in tmp_path.glob("state.contradicted-*")] == [log.checkpoint(299)]


def test_two_trees_of_one_size_are_a_fork_whatever_is_published_below(tmp_path: Path, log: OtherLog) -> None:
    look(tmp_path)
    (tmp_path / "log/checkpoint").write_text(log.checkpoint(root=b"r" * 32))
    refused(tmp_path, "two different trees of 300 entries")


def test_an_old_entry_that_was_changed(tmp_path: Path, log: OtherLog) -> None:
    look(tmp_path)
    log.entries = [*ENTRIES[:7], b"another", *ENTRIES[8:300]]
    note = (tmp_path / "log/checkpoint").read_text()
    bundle = tmp_path / "log/tile/entries/000"
    honest = bundle.read_bytes()
    bundle.write_bytes(log.files()["tile/entries/000"])
    refused(tmp_path, "entry 7 of the published log is not the one that its hash tile names")
    log.publish(tmp_path / "log", note=note)  # with the tiles that fit it
    refused(tmp_path, "the 300 entries that are published are not those that the checkpoint has signed")
    bundle.write_bytes(honest)
    refused(tmp_path, "entry 7 of")


def test_every_byte_of_every_file_counts(tmp_path: Path, log: OtherLog) -> None:
    """A changed byte in any file is exit code 4. Every 13th of the bundles' and tiles' bytes, and each of the rest."""
    tried = 0
    for path in sorted(path for path in (tmp_path / "log").rglob("*") if path.is_file()):
        honest = path.read_bytes()
        step = 1 if len(honest) < 600 else 997
        for at in range(0, len(honest), step):
            path.write_bytes(honest[:at] + bytes([honest[at] ^ (1 << at % 8)]) + honest[at + 1 :])
            refused(tmp_path, ".")
            tried += 1
        for cut in (honest[:-1], honest + b"\0", b"", honest[: len(honest) // 2]):
            path.write_bytes(cut)
            refused(tmp_path, ".")
        path.unlink()
        if path.name == "checkpoint":
            with pytest.raises(ConsentLedgerError, match="no log is published") as caught:
                look(tmp_path)
            assert caught.value.exit_code == 1
        else:
            refused(tmp_path, "lacks|which is no such tile|malformed")
        path.write_bytes(honest)
    assert tried > 200
    look(tmp_path)


# The state


@pytest.mark.parametrize("damage", ["", "nonsense", "cut", "other"])
def test_a_damaged_state_is_never_a_first_visit(tmp_path: Path, log: OtherLog, damage: str) -> None:
    look(tmp_path)
    state = tmp_path / "state"
    stranger = OtherLog()
    stranger.entries = log.entries
    text = {"cut": state.read_text()[:-9], "other": stranger.checkpoint()}.get(damage, damage)
    state.write_text(text)
    refused(tmp_path, "is no checkpoint of a trusted log")
    state.write_bytes(b"\xff")
    refused(tmp_path, "is no checkpoint of a trusted log")


def test_a_state_that_cannot_be_one(tmp_path: Path, log: OtherLog) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        ledger.monitor_log(tmp_path / "log", trust=tmp_path / "trust", state=tmp_path / "no" / "state")
    (tmp_path / "state").mkdir()
    with pytest.raises(IntegrityError, match="is no checkpoint of a trusted log"):
        look(tmp_path)
    (tmp_path / "state").rmdir()
    (tmp_path / "state").symlink_to(tmp_path / "nowhere")
    with pytest.raises(IntegrityError, match="is no checkpoint of a trusted log"):
        look(tmp_path)


def test_two_monitors_of_one_state_do_not_take_it_back(tmp_path: Path, log: OtherLog) -> None:
    look(tmp_path)
    log.entries = ENTRIES[:400]
    log.publish(tmp_path / "log")
    later = log.checkpoint()

    def meanwhile(done: int, total: int) -> None:
        (tmp_path / "state").write_text(later)

    (tmp_path / "log/checkpoint").write_text(log.checkpoint(300))
    with pytest.raises(ConsentLedgerError, match="was changed meanwhile"):
        look(tmp_path, on_progress=meanwhile)
    assert (tmp_path / "state").read_text() == later


# Hostile places


def test_a_huge_size_with_nothing_below_ends_at_once(tmp_path: Path, log: OtherLog) -> None:
    (tmp_path / "log/checkpoint").write_text(log.checkpoint(2**62, root=b"r" * 32))
    refused(tmp_path, "is not a|lacks|names|has")
    (tmp_path / "empty").mkdir()
    shutil.copy(tmp_path / "log/checkpoint", tmp_path / "empty")
    refused(tmp_path, "lacks tile/entries/000, which its checkpoint has signed", tmp_path / "empty")
    (tmp_path / "log/checkpoint").write_text(log.checkpoint(2**63, root=b"r" * 32))
    refused(tmp_path, "not the size of a tree")


def test_pipes_devices_and_folders_under_the_names_of_files(tmp_path: Path, log: OtherLog) -> None:
    for name in ("checkpoint", "tile/entries/000", "tile/0/001.p/44"):
        path = tmp_path / "log" / name
        honest = path.read_bytes()
        for make in (os.mkfifo, os.mkdir, lambda path: Path(path).symlink_to("/dev/zero")):
            path.unlink()
            make(path)
            refused(tmp_path, "is not a file")
            path.rmdir() if path.is_dir() else path.unlink()
            path.write_bytes(honest)
    (tmp_path / "log/checkpoint").write_bytes(b"x" * (2 << 20))
    refused(tmp_path, "longer than the")
    with pytest.raises(ConsentLedgerError, match="there is no folder"):
        look(tmp_path, tmp_path / "nowhere")
    with pytest.raises(UsageError, match="a folder, or behind http or https"):
        look(tmp_path, "ftp://example.org/log")
    with pytest.raises(UsageError, match="whatever password"):
        look(tmp_path, "https://me:secret@example.org/log")


def test_over_http(tmp_path: Path, log: OtherLog) -> None:
    with served(tmp_path / "log") as url:
        assert look(tmp_path, url + "/").checkpoint.root == log.root()
        (tmp_path / "log/tile/entries/000").unlink()
        refused(tmp_path, "lacks tile/entries/000", url)
        (tmp_path / "log/checkpoint").unlink()
        with pytest.raises(ConsentLedgerError, match="no log is published") as caught:
            look(tmp_path, url)
        assert caught.value.exit_code == 1
    with pytest.raises(ConsentLedgerError, match="could not be reached") as caught:
        look(tmp_path, url)
    assert caught.value.exit_code == 1


Serve = Callable[[http.server.BaseHTTPRequestHandler], None]


def bad_server(serve: Serve) -> Any:
    class Bad(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(OSError):
                serve(self)

        def log_message(self, *_: Any) -> None:
            pass

    return Bad


def test_hostile_servers(tmp_path: Path, log: OtherLog, monkeypatch: pytest.MonkeyPatch) -> None:
    def leads(where: str) -> Serve:
        def serve(handler: http.server.BaseHTTPRequestHandler) -> None:
            handler.send_response(302)
            handler.send_header("Location", where)
            handler.end_headers()

        return serve

    def endless(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b"x" * 65536)

    def drip(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b"x")
            time.sleep(0.02)

    def drip_headers(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\nX: ")
        while True:
            handler.wfile.write(b"x")
            time.sleep(0.02)

    def bomb(handler: http.server.BaseHTTPRequestHandler) -> None:
        import gzip

        handler.send_response(200)
        handler.send_header("Content-Encoding", "gzip")
        handler.end_headers()
        handler.wfile.write(gzip.compress(bytes(64 << 20)))

    for serve, match, code in (
        (leads("file:///etc/passwd"), "answers 302", 1),
        (leads("http://127.0.0.2:9/"), "another host", 1),
        (leads("/checkpoint"), "could not be reached|answers 302", 1),
        (endless, "more than", 4),
        (bomb, "more than", 4),
        (drip, "more than the time", 1),
        (drip_headers, "more than the time", 1),
    ):
        monkeypatch.setattr(published, "FILE_SECONDS", 0.5 if serve in (drip, drip_headers) else 60)
        with served(tmp_path, bad_server(serve)) as url, pytest.raises(ConsentLedgerError, match=match) as caught:
            look(tmp_path, url)
        assert caught.value.exit_code == code, serve
    assert not (tmp_path / "state").exists()


def test_a_server_that_errs_for_a_moment_is_asked_again(tmp_path: Path, log: OtherLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "PAUSE_SECONDS", 0.01)
    asked: dict[str, int] = {}

    def serve(handler: http.server.BaseHTTPRequestHandler) -> None:
        import gzip

        asked[handler.path] = asked.get(handler.path, 0) + 1
        if asked[handler.path] < tries:
            handler.send_response((503, 500, 429, 502)[asked[handler.path] % 4])
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        data = gzip.compress((tmp_path / "log" / handler.path[1:]).read_bytes())
        handler.send_response(200)
        handler.send_header("Content-Encoding", "gzip")
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    tries = 3
    with served(tmp_path, bad_server(serve)) as url:
        assert look(tmp_path, url).checkpoint.size == 300
        assert set(asked.values()) == {3}
        tries, asked = 9, {}
        with pytest.raises(ConsentLedgerError, match="the server answers") as caught:
            look(tmp_path, url)
        assert caught.value.exit_code == 1 and asked == {"/checkpoint": 3}


def test_a_cut_answer_is_no_answer(tmp_path: Path, log: OtherLog) -> None:
    import gzip

    def serve(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Encoding", "gzip")
        handler.end_headers()
        handler.wfile.write(gzip.compress(os.urandom(5000))[:-20])

    with served(tmp_path, bad_server(serve)) as url, pytest.raises(ConsentLedgerError, match="could not be reached"):
        look(tmp_path, url)

    def fewer(handler: http.server.BaseHTTPRequestHandler) -> None:
        """Than it has said: of a checkpoint, a tile or a bundle. Nobody has changed the log."""
        data = (tmp_path / "log" / handler.path[1:]).read_bytes()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[:-7] if cut in handler.path else data)

    for cut in ("checkpoint", "tile/0", "tile/1", "entries"):
        with served(tmp_path, bad_server(fewer)) as url, pytest.raises(ConsentLedgerError, match="reached") as caught:
            look(tmp_path, url)
        assert caught.value.exit_code == 1, cut
    with pytest.raises(ConsentLedgerError, match=r"could not be reached|more than the time"):
        download.ask("http://127.0.0.1:9/", limit=9, ends=time.monotonic() - 1, stalled=1)


# The command


def test_the_command(tmp_path: Path, log: OtherLog, consent: Callable[..., Outcome]) -> None:
    command = ("log", "monitor", "log", "--trust", "trust", "--state", "state")
    first = consent(*command)
    assert first.code == 0 and "other.example/log: first visit, 300 now, root" in first.out
    assert "nothing was seen before" in first.err
    log.entries = ENTRIES[:301]
    log.publish(tmp_path / "log")
    told = consent(*command, "--format", "json")
    document = json.loads(told.out)
    Draft202012Validator(schemas.load("monitor")).validate(document)
    assert told.code == 0 and "nothing was seen" not in told.err
    assert (document["size_before"], document["size"], document["root"]) == (300, 301, log.root().hex())
    log.publish(tmp_path / "log", 299)
    assert consent(*command).code == 4
    (tmp_path / "log/checkpoint").unlink()
    assert consent(*command).code == 1
    assert consent("log", "monitor", "log", "--state", "state").code == 2


def test_it_loads_no_database(tmp_path: Path, log: OtherLog) -> None:
    program = (
        "import sys; from ledger.cli import run\n"
        "code = run(['log', 'monitor', 'log', '--trust', 'trust', '--state', 'state'])\n"
        "loaded = {'sqlmodel', 'sqlalchemy', 'duckdb', 'pyarrow', 'ledger.store'} & set(sys.modules)\n"
        "sys.exit(f'{code} {loaded}' if code or loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
