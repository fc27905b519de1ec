"""One server holds the ledger; everyone else holds a URL, a trust file and a run key of their own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from talking import GIVEN, JSON, NO, Api, valid

import ledger
from ledger import fetching, times
from ledger.errors import ConsentLedgerError, IntegrityError, SnapshotError, UsageError, VerificationError
from ledger.log.entry import subject_tag
from ledger.snapshot import receipt_path
from ledger.store import journal
from tests.conftest import yes

PATH = "/v1/snapshots/train-ai"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")


def test_a_team_shares_one_ledger(own_api: Api, consent: Callable[..., Any], shard: Callable[..., Path], tmp_path: Path) -> None:
    api, mine = own_api, tmp_path / "mine"
    mine.mkdir()
    api.book.record_all([yes("ann"), yes("bob")])
    raw = shard("raw/a.parquet", user_id=["ann", "bob", "eve"], text=["a", "b", "e"])
    key = consent("--ledger", api.book.folder.path, "key", "add-run", "spark", "-o", mine / "spark.key")
    assert key.code == 0
    (mine / "trust").write_text(api.book.trust_text())

    assert (
        api.post("/v1/events", {"state": "withdrawn", "subject_id": "bob", "purposes": ["*"]}, scope="record").status_code == 201
    )
    frozen = api.post("/v1/snapshots", {"purpose": "train-ai"}, scope="admin")
    assert frozen.status_code == 201
    url = f"{api.url}{PATH}"
    refused = consent("fetch", url, "-o", mine / "train-ai.parquet", "--trust", mine / "trust")
    assert refused.code == 1 and "API key" in refused.err and not (mine / "train-ai.parquet").exists()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CONSENT_API_KEY", api.keys["read"])
        fetched = consent("fetch", url, "-o", mine / "train-ai.parquet", "--trust", mine / "trust")
    assert fetched.code == 0 and valid("published-snapshot", frozen)["snapshot_sha256"] in fetched.err
    assert api.keys["read"] not in fetched.err + fetched.out

    run = consent(
        "--ledger",
        mine / "none",
        "filter",
        raw,
        "-o",
        mine / "train",
        "--snapshot",
        mine / "train-ai.parquet",
        "--trust",
        mine / "trust",
        "--run-key",
        mine / "spark.key",
        "--subject",
        "user_id",
    )
    assert run.code == 0, run.err
    assert pq.read_table(mine / "train" / "a.parquet").column("user_id").to_pylist() == ["ann"]
    statement = mine / "train.intoto.jsonl"
    assert consent("verify", mine / "train", "--trust", mine / "trust").code == 4, "it is not logged yet"

    envelope = statement.read_bytes()
    logged = api.ask("POST", "/v1/statements", content=envelope, headers=JSON, scope="record")
    assert logged.status_code == 200 and valid("act-receipt", logged)["act"]["recorded_by"] == "api:record"
    again = api.ask("POST", "/v1/statements", content=envelope, headers=JSON, scope="record")
    assert again.json()["act"] == logged.json()["act"]
    statement.write_bytes(envelope + logged.content)
    verified = consent("verify", mine / "train", "--trust", mine / "trust")
    assert verified.code == 0, verified.err
    assert api.ask("POST", "/v1/statements", content=statement.read_bytes(), headers=JSON).status_code == 422
    for wrong in (b"{}", b"", envelope.replace(b'"sig":"', b'"sig":"A'), envelope[:-20], b"\xff", envelope.strip() + b" "):
        answer = api.ask("POST", "/v1/statements", content=wrong, headers=JSON)
        assert answer.status_code == 422 and valid("error", answer)
    ended = consent("--ledger", api.book.folder.path, "key", "end", "spark")
    assert ended.code == 0
    api.served.stop()
    api.book.fsck()


# What a server may hand out


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Files of two purposes, at two points of one log, and of another log."""
    home = tmp_path_factory.mktemp("world")
    found: dict[str, Any] = {}
    for name in ("ours", "theirs"):
        with ledger.create(home / name) as book:
            for purpose in ("train-ai", "search"):
                book.declare_purpose(purpose, title="T", description="D")
            book.record_all([yes("ann"), yes("bob", purposes=["search"])])
            for which in ("early", "late"):
                for purpose in ("train-ai", "search"):
                    snapshot = book.snapshot(purpose, output=home / f"{name}-{which}-{purpose}.parquet")
                    assert snapshot.path is not None
                    found[f"{name}-{which}-{purpose}"] = snapshot
                book.withdraw("ann")
            found[name] = book.trust
    return found


class Handler(BaseHTTPRequestHandler):
    answers: dict[str, Any]
    asked: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("authorization")))
        answer = self.answers.get(self.path, 404)
        if callable(answer):
            answer(self)
        elif isinstance(answer, int):
            self.send_error(answer)
        elif isinstance(answer, str):
            self.send_response(307)
            self.send_header("location", answer)
            self.end_headers()
        else:
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def serving(answers: dict[str, Any]) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    asked: list[tuple[str, str | None]] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("_", (Handler,), {"answers": answers, "asked": asked}))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def files_of(snapshot: ledger.Snapshot) -> dict[str, Any]:
    assert snapshot.path is not None
    at = f"/v1/snapshots/{snapshot.sha256}.parquet"
    return {at: snapshot.path.read_bytes(), f"{at}.receipt": receipt_path(snapshot.path).read_bytes()}


def fetch(answers: dict[str, Any], world: dict[str, Any], output: Path, path: str = PATH, **more: Any) -> ledger.Snapshot:
    with serving(answers) as (url, _):
        return ledger.fetch_snapshot(url + path, output, **{"trust": world["ours"], **more})


def leads(snapshot: ledger.Snapshot) -> dict[str, Any]:
    return {PATH: f"{snapshot.sha256}.parquet", **files_of(snapshot)}


def test_what_is_fetched_is_what_was_frozen(world: dict[str, Any], tmp_path: Path) -> None:
    output, late = tmp_path / "deep" / "er.parquet", world["ours-late-train-ai"]
    fetched = fetch(leads(late), world, output)
    assert fetched == late and output.read_bytes() == late.path.read_bytes()
    assert ledger.load_snapshot(output, trust=world["ours"], purpose="train-ai") == late
    assert sorted(path.name for path in output.parent.iterdir()) == ["er.parquet", "er.parquet.receipt"]
    by_digest = fetch(files_of(late), world, tmp_path / "b.parquet", f"/v1/snapshots/{late.sha256}.parquet")
    assert by_digest == late


def test_another_answer_than_the_one_that_was_asked_for_is_refused(world: dict[str, Any], tmp_path: Path) -> None:
    output = tmp_path / "answers.parquet"
    late, other, theirs = world["ours-late-train-ai"], world["ours-late-search"], world["theirs-late-train-ai"]
    with pytest.raises(SnapshotError, match="not what"):
        fetch(leads(other), world, output)  # a yes to `search` is no yes to `train-ai`
    with pytest.raises(SnapshotError, match="not what"):
        early = files_of(world["ours-early-train-ai"])
        wrong = dict(zip(files_of(late), early.values(), strict=True))
        fetch(wrong, world, output, f"/v1/snapshots/{late.sha256}.parquet")
    with pytest.raises(VerificationError):
        fetch(leads(theirs), world, output)
    with pytest.raises(UsageError, match="does not say"):
        fetch({"/train.parquet": b""}, world, output, "/train.parquet")
    mirror = dict(zip(("/m.parquet", "/m.parquet.receipt"), files_of(other).values(), strict=True))
    with pytest.raises(UsageError, match="not of 'train-ai'"):
        fetch(mirror, world, output, "/m.parquet", purpose="train-ai")
    assert fetch(mirror, world, output, "/m.parquet", purpose="search") == other


def test_what_is_damaged_changes_nothing_that_was_here(world: dict[str, Any], tmp_path: Path) -> None:
    output, late = tmp_path / "answers.parquet", world["ours-late-train-ai"]
    fetch(leads(late), world, output)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    at, beside = files_of(late)
    data, receipt = files_of(late).values()
    swapped = files_of(world["ours-early-train-ai"])
    for change in (
        {at: data[:-1]},
        {at: data + b"x"},
        {at: b""},
        {at: data[:100] + bytes([data[100] ^ 1]) + data[101:]},
        {beside: b""},
        {beside: receipt[:-1]},
        {beside: receipt * 2},
        {beside: list(swapped.values())[1]},
        {at: next(iter(swapped.values()))},
        {beside: b"x" * (2 << 20)},
    ):
        with pytest.raises(IntegrityError):
            fetch({**leads(late), **change}, world, output)
    for change in ({at: 404}, {beside: 404}, {at: 500}, {at: 401}, {beside: 403}, {at: 503}, {PATH: 404}):
        with pytest.raises(ConsentLedgerError):
            fetch({**leads(late), **change}, world, output)
    with pytest.raises(SnapshotError, match="old; it may be"):
        fetch(leads(late), world, output, max_age=timedelta(microseconds=1))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_newer_answers_are_never_replaced_by_older_ones(world: dict[str, Any], tmp_path: Path) -> None:
    output, early, late = tmp_path / "answers.parquet", world["ours-early-train-ai"], world["ours-late-train-ai"]
    assert fetch(leads(early), world, output) == early
    assert fetch(leads(late), world, output) == late
    assert fetch(leads(late), world, output) == late
    with pytest.raises(SnapshotError, match="older than"):
        fetch(leads(early), world, output)  # ann's no is in the later one alone
    assert ledger.load_snapshot(output, trust=world["ours"]) == late
    output.with_name("answers.parquet.receipt").write_bytes(b"")
    assert fetch(leads(early), world, output) == early, "what is no snapshot may be replaced"


def test_the_key_goes_to_the_origin_alone(world: dict[str, Any], tmp_path: Path) -> None:
    late = world["ours-late-train-ai"]
    with serving(leads(late)) as (elsewhere, told):
        for target in (
            f"{elsewhere}{PATH}",
            elsewhere.replace("http:", "https:") + "/x",
            "ftp://127.0.0.1/x",
            "file:///etc/passwd",
            "//localhost:1/x",
            "http://user@127.0.0.1/x",
        ):
            with serving({PATH: target}) as (url, asked), pytest.raises(ConsentLedgerError):
                ledger.fetch_snapshot(f"{url}{PATH}", tmp_path / "a.parquet", trust=world["ours"], key="cl_secret")
            assert asked == [(PATH, "Bearer cl_secret")]
        assert told == []
    with serving({PATH: "train-ai"}) as (url, asked), pytest.raises(ConsentLedgerError):
        ledger.fetch_snapshot(f"{url}{PATH}", tmp_path / "a.parquet", trust=world["ours"])
    assert len(asked) <= 6


def test_what_is_no_url_or_no_key(world: dict[str, Any], tmp_path: Path) -> None:
    good = "http://127.0.0.1:9/v1/snapshots/train-ai"
    for url in (
        "",
        "train-ai",
        "/etc/passwd",
        "file:///etc/passwd",
        "ftp://h/v1/snapshots/t",
        "http://",
        "http://[",
        "http://h:x/v1/snapshots/t",
        "http://user:secret@h/v1/snapshots/t",
        "http://h/v1/snapshots/a b",
        "http://h/v1/snapshots/a\r\nX: y",
        "http://h/v1/snapshots/ä",
    ):
        with pytest.raises(UsageError) as raised:
            ledger.fetch_snapshot(url, tmp_path / "a.parquet", trust=world["ours"])
        assert "secret" not in str(raised.value)
    for key in ("", "a b", "a\r\nX: y", "ä", "x" * 513):
        with pytest.raises(UsageError):
            ledger.fetch_snapshot(good, tmp_path / "a.parquet", trust=world["ours"], key=key)
    with pytest.raises(UsageError):
        ledger.fetch_snapshot(good, tmp_path, trust=world["ours"])
    with pytest.raises(ConsentLedgerError, match="could not be fetched"):
        ledger.fetch_snapshot(good, tmp_path / "a.parquet", trust=world["ours"])


def test_without_a_trust_file_it_says_which_one_to_name(consent: Callable[..., Any], tmp_path: Path) -> None:
    outcome = consent("fetch", "http://127.0.0.1:9/v1/snapshots/train-ai", "-o", tmp_path / "a.parquet")
    assert outcome.code == 2
    assert "--trust FILE" in outcome.err


def test_a_server_that_stalls_or_never_ends_is_left(
    world: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(bytes(1 << 16))
        except OSError:
            pass

    def stalled(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("content-length", "100")
        handler.end_headers()
        handler.connection.settimeout(5)
        handler.rfile.read(1)

    def cut(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("content-length", "100000")
        handler.end_headers()
        handler.wfile.write(b"PAR1")

    def garbage(handler: Handler) -> None:
        handler.wfile.write(b"\x00\xff" * 50_000 + b"\r\n\r\n")

    def trickle(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while len(sent) < 100:
                handler.wfile.write(b"P")
                sent.append(b"P")
                time.sleep(0.1)
        except OSError:
            pass

    sent: list[bytes] = []
    with monkeypatch.context() as bounds:
        bounds.setattr(fetching, "MAX_SECONDS", 0.5)
        with pytest.raises(ConsentLedgerError, match="took more than"):
            fetch({PATH: trickle}, world, tmp_path / "a.parquet")
        assert len(sent) < 100, "it was left before it had ended"
    monkeypatch.setattr(fetching, "MAX_BYTES", 1 << 20)
    monkeypatch.setattr(fetching, "STALLED_SECONDS", 0.5)
    for answer in (endless, stalled, cut, garbage):
        with pytest.raises(ConsentLedgerError):
            fetch({PATH: answer}, world, tmp_path / "a.parquet")
    assert list(tmp_path.iterdir()) == []


# What the server lists


def test_only_what_the_log_vouches_for_is_handed_out(own_api: Api, tmp_path: Path, world: dict[str, Any]) -> None:
    api = own_api
    folder = api.book.snapshots
    assert valid("snapshots", api.ask("GET", "/v1/snapshots")) == {"snapshots": []}
    assert api.ask("GET", PATH).status_code == 404
    first = valid("published-snapshot", api.post("/v1/snapshots", {"purpose": "train-ai"}))
    api.book.withdraw("ann")
    second = valid("published-snapshot", api.post("/v1/snapshots", {"purpose": "train-ai"}))
    (folder / "secret.parquet").write_bytes(b"PAR1")
    (folder / "secret.parquet.receipt").write_bytes(b"{}\n")
    (folder / "trust.parquet").symlink_to(api.book.folder.path / "log.key")
    theirs = world["theirs-late-train-ai"]
    (folder / f"train-ai@1-{theirs.sha256[:16]}.parquet").write_bytes(theirs.path.read_bytes())
    (folder / f"train-ai@1-{theirs.sha256[:16]}.parquet.receipt").write_bytes(receipt_path(theirs.path).read_bytes())
    listed = valid("snapshots", api.ask("GET", "/v1/snapshots"))["snapshots"]
    assert listed == [second, first], "the newest first"
    for purpose in ("train-ai", "train-ai@1"):
        answer = api.ask("GET", f"/v1/snapshots/{purpose}")
        assert answer.status_code == 307 and second["url"].endswith(answer.headers["location"])
    for name in (
        "train-ai@2",
        "train",
        "secret",
        "secret.parquet",
        "..%2flog.key",
        "../log.key",
        "%2e%2e%2flog.key",
        "..%2f..%2fhead",
        "*",
        "trust.parquet",
        "%00",
        f"{theirs.sha256}.parquet",
        f"{theirs.sha256}.parquet.receipt",
        first["snapshot_sha256"].upper() + ".parquet",
        "%2e%2e%2flog.key.parquet",
        "*.parquet",
        f"{first['snapshot_sha256'][:16]}.parquet",
    ):
        status, told = api.raw(b"/v1/snapshots/" + name.encode())
        assert status == 404 and set(told) == {"error", "hint"}, name
    assert api.ask("GET", first["url"]).content == next(folder.glob(f"*{first['snapshot_sha256'][:16]}.parquet")).read_bytes()
    receipt = api.ask("GET", first["receipt_url"])
    assert valid("act-receipt", receipt)["act"]["recorded_by"] == "api:all"
    for body in ({}, {"purpose": "nope"}, {"purpose": ["train-ai"]}, {"purpose": "train-ai", "tree_size": 1}, {"purpose": ""}):
        assert api.post("/v1/snapshots", body).status_code == 422, body
    assert datetime.fromisoformat(second["as_of"]) <= datetime.now(UTC)
    api.book.declare_purpose("train-ai", title="Train", description="Train another model")
    assert api.ask("GET", PATH).status_code == 404, "the answers to an earlier version are not those to this one"
    assert api.ask("GET", f"{PATH}@1").status_code == 307
    third = valid("published-snapshot", api.post("/v1/snapshots", {"purpose": "train-ai"}))
    assert third["url"].endswith(api.ask("GET", PATH).headers["location"])


def test_a_snapshot_of_before_an_erasure_is_not_handed_out_though_its_file_is_there(own_api: Api) -> None:
    """`consent erase` was killed once it had given the order, and nobody has opened the ledger since."""
    api, folder = own_api, own_api.book.folder
    api.post("/v1/events", GIVEN)
    before = api.post("/v1/snapshots", {"purpose": "train-ai"}).json()
    tag = subject_tag(folder.tag_key(), "ann")
    journal.ordered(folder.path / "erasures", journal.Order("0" * 32, tag, "why", "user:bob", times.now()))
    assert api.post("/v1/events", {**NO, "subject_id": "carl"}).status_code == 201
    assert b"ann" in next(api.book.snapshots.glob("*.parquet")).read_bytes()
    assert api.ask("GET", "/v1/subjects/ann").json()["events"] == []
    assert api.ask("GET", "/v1/snapshots").json() == {"snapshots": []}
    for path in (before["url"], before["receipt_url"], PATH):
        assert api.ask("GET", path).status_code == 404
    after = api.post("/v1/snapshots", {"purpose": "train-ai"}).json()
    assert api.ask("GET", "/v1/snapshots").json() == {"snapshots": [after]}
