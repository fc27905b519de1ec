"""Shards in an object store, through the command line: mixed ways, what is refused, a kill, two runs, a run begun again."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import ledger
from ledger import files
from ledger.errors import ConsentLedgerError, VerificationError
from ledger.objects import Address
from tests.conftest import Bucket
from tests.proxy import Request, before

KEYS = ("--subject", "user_id", "--content", "post_id")
ANSWERS = ("--purpose", "train-ai", *KEYS)
WAY = ("--trust", "consent-ledger/trust")

Command = Callable[..., Any]


@pytest.fixture
def story(consent: Command, shard: Callable[..., Path], bucket: Bucket) -> Command:
    """Shards in raw/, here and in the bucket; ann said yes."""
    for name, people in (("a.parquet", ["ann", "bob", "ann"]), ("day=1/a.parquet", ["ann", "cem"]), ("day=2/b.parquet", ["dee"])):
        path = shard(f"raw/{name}", user_id=people, post_id=[f"{name}{n}" for n in range(len(people))], text=["x"] * len(people))
        bucket.put(f"raw/{name}", path)
    assert consent("init").code == 0
    assert consent("purpose", "add", "train-ai", "--title", "T", "--description", "D").code == 0
    assert consent("record", "given", "ann", "--purpose", "train-ai").code == 0
    return consent


SHARDS = ["a.parquet", "day=1/a.parquet", "day=2/b.parquet"]


def test_every_way_between_a_store_and_this_machine_gives_the_same_bytes(story: Command, bucket: Bucket, tmp_path: Path) -> None:
    assert story("filter", "raw", "-o", "here", *ANSWERS).code == 0
    plain = {name: (tmp_path / "here" / name).read_bytes() for name in SHARDS}
    ways = [("raw", bucket.address("up")), (bucket.address("raw"), "down"), (bucket.address("raw/"), bucket.address("over/"))]
    for source, output in ways:
        run = story("filter", source, "-o", output, *ANSWERS, "--format", "json")
        assert run.code == 0, run.err
        document = json.loads(run.out)
        assert (document["rows_in"], document["rows_kept"], document["rows_dropped"]) == (6, 3, {"no_record": 3})
        assert [s["output"] for s in document["shards"]] == SHARDS
        assert document["statement"] == f"{output.rstrip('/')}.intoto.jsonl"
        verified = story("verify", output, *WAY)
        assert verified.code == 0, verified.err
        assert story("audit", output, *ANSWERS).code == 0
        assert story("audit", output, "--purpose", "train-ai").code == 0  # by the columns of its own statement
        assert story("audit", source, *ANSWERS).code == 3
    for name in SHARDS:
        assert bucket.get(f"up/{name}") == bucket.get(f"over/{name}") == plain[name]
        assert (tmp_path / "down" / name).read_bytes() == plain[name]
    assert [k for k in bucket.names() if k.endswith(".tmp")] == []
    assert bucket.name not in bucket.get("up.intoto.jsonl").decode()
    explained = story("explain", bucket.address("raw/a.parquet"), "--row", "1", *ANSWERS)
    assert explained.code == 0 and "bob" in explained.out


def test_a_selection_of_shards_in_a_store_is_in_the_store(story: Command, bucket: Bucket, tmp_path: Path) -> None:
    for _ in range(2):  # the second by what the first has signed
        made = story("select", bucket.address("raw"), "-o", bucket.address("sel"), *ANSWERS)
        assert made.code == 0, made.err
    verified = story("verify", bucket.address("sel"), "--shards", bucket.address("raw"), *WAY)
    assert verified.code == 0, verified.err

    def people() -> list[str]:
        rows = ledger.open_shards(
            bucket.address("raw"), selection=bucket.address("sel"), trust=tmp_path / "consent-ledger/trust", purpose="train-ai"
        )
        return [who for batch in rows for who in batch["user_id"].to_pylist()]

    assert people() == ["ann"] * 3
    bucket.put("raw/a.parquet", tmp_path / "raw/day=1/a.parquet")
    with pytest.raises(ConsentLedgerError, match="not the shard that the selection is of"):
        people()


def test_what_is_changed_added_or_taken_away_in_the_store_does_not_verify(story: Command, bucket: Bucket) -> None:
    assert story("filter", "raw", "-o", bucket.address("train"), *ANSWERS).code == 0
    good, other = bucket.get("train/a.parquet"), bucket.get("raw/a.parquet")
    statement = bucket.get("train.intoto.jsonl")

    def verified() -> int:
        return int(story("verify", bucket.address("train"), *WAY).code)

    for name in ("b.parquet", "/a.parquet", "day=1//a.parquet", "x", "_x=1/part", "../a.parquet"):
        bucket.put(f"train/{name}", other)
        assert verified() == 4, name
        bucket.delete(f"train/{name}")
    assert verified() == 0
    bucket.put("train/_SUCCESS", b"")
    bucket.put("train/day=3/", b"")
    bucket.put("train", b"an object beside the folder")
    assert verified() == 0
    for changed in (other, good[:-1], bytes([good[0] ^ 1]) + good[1:], b""):
        bucket.put("train/a.parquet", changed)
        assert verified() == 4
    bucket.delete("train/a.parquet")
    bucket.put("train/A.parquet", good)
    assert verified() == 4
    bucket.delete("train/A.parquet")
    bucket.put("train/a.parquet", good)
    bucket.put("train.intoto.jsonl", statement[:-10])
    assert verified() == 4
    bucket.delete("train.intoto.jsonl")
    assert verified() == 4


def test_an_object_that_is_a_folder_as_well_is_still_an_object(story: Command, bucket: Bucket) -> None:
    assert story("filter", "raw", "-o", bucket.address("train"), *ANSWERS).code == 0
    good, other = bucket.get("train/a.parquet"), bucket.get("raw/a.parquet")
    bucket.put("train/a.parquet/", other)  # DuckDB takes it for `train/*.parquet`
    assert story("verify", bucket.address("train"), *WAY).code == 4
    assert story("audit", bucket.address("train"), *ANSWERS).code == 1
    bucket.put("train/a.parquet/", b"")
    assert story("verify", bucket.address("train"), *WAY).code == 0
    bucket.put("train/a.parquet", other)
    assert story("audit", bucket.address("train"), *ANSWERS).code == 3
    assert story("verify", bucket.address("train"), *WAY).code == 4
    bucket.delete("train/a.parquet/")
    bucket.put("train/a.parquet/note", b"x")
    assert story("audit", bucket.address("train"), *ANSWERS).code == 3
    bucket.put("train/a.parquet", good)
    assert story("verify", bucket.address("train"), *WAY).code == 4


def test_which_objects_are_meant(story: Command, bucket: Bucket) -> None:
    good = bucket.get("raw/day=1/a.parquet")

    def rows(*addresses: str) -> tuple[int, int]:
        run = story("audit", *map(bucket.address, addresses), *ANSWERS, "--format", "json")
        return run.code, json.loads(run.out)["rows"] if run.code in (0, 3) else -1

    assert rows("raw") == (3, 6)
    assert rows("raw/a.parquet", "raw/day=2") == (3, 4)
    for key in ("raw/_tmp/x.parquet", "raw/.x.parquet", "raw/X.PARQUET"):
        bucket.put(key, good)
    assert rows("raw") == (3, 12)  # an audit looks at what some reader would take
    run = story("filter", bucket.address("raw"), "-o", "out", *ANSWERS, "--format", "json")
    assert [s["input"] for s in json.loads(run.out)["shards"]] == SHARDS
    for nothing in ("nothing", "ra", "raw/*.parquet", "raw/day=1/a.parque"):
        assert rows(nothing) == (2, -1)
    assert rows("raw", "raw") == (2, -1)
    for key in ("raw//x.parquet", "raw/a/../x.parquet", "raw/./x.parquet", "raw/b\\x.parquet"):
        bucket.put(key, good)
        assert rows("raw") == (1, -1), key
        bucket.delete(key)
    bucket.put("raw", good)  # an object that only holds consented rows must not stand for the folder
    assert rows("raw") == (2, -1)
    assert rows("raw/a.parquet")[0] == 3


@pytest.mark.parametrize("mark", ["_delta_log/0.json", ".hoodie/x", "metadata/v1.metadata.json", "metadata/v1.metadata.json.gz"])
def test_tables_are_refused_from_wherever_they_are_named(story: Command, bucket: Bucket, mark: str) -> None:
    bucket.put(f"lake/t/{mark}", b"{}")
    for key in ("lake/t/x.parquet", "lake/t/day=1/x.parquet"):
        bucket.put(key, bucket.get("raw/a.parquet"))
    for named in ("lake", "lake/t", "lake/t/day=1", "lake/t/x.parquet", "lake/t/day=1/x.parquet", ""):
        run = story("audit", bucket.address(named), *ANSWERS)
        assert run.code == 1 and "is a table of" in run.err, (named, run.err)
    bucket.delete(f"lake/t/{mark}")
    assert story("audit", bucket.address("lake"), *ANSWERS).code == 3


def test_a_table_is_refused_in_each_store_that_has_the_bucket(story: Command, bucket: Bucket) -> None:
    for key in ("t/_delta_log/0.json", "t/x/a.parquet", "t/y/b.parquet"):
        bucket.put(key, bucket.get("raw/a.parquet"))
    with before(bucket.endpoint) as (proxy, other):  # a store that has the same, but for the table's log

        def without_log(request: Request) -> int | bytes | None:
            if "_delta_log" not in request.path:
                return None
            return 404 if request.method == "HEAD" else b"<ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>"

        proxy.trouble = without_log
        there, here = f"t/x/a.parquet?endpoint_override={other}", f"t/y/b.parquet?endpoint_override={bucket.endpoint}"
        assert story("audit", bucket.address(there), *ANSWERS).code == 3
        run = story("audit", bucket.address(there), bucket.address(here), *ANSWERS)
        assert run.code == 1 and "is a table of Delta Lake" in run.err, run.err


def test_what_a_run_must_not_write_over_or_into_is_refused(story: Command, bucket: Bucket, tmp_path: Path) -> None:
    def run(source: str, output: str, *more: str) -> Any:
        return story("filter", source, "-o", output, *ANSWERS, *more)

    assert run(bucket.address("raw"), bucket.address("raw")).code == 2
    assert run(bucket.address("raw/a.parquet"), bucket.address("raw")).code == 2
    assert run("raw", bucket.address()).code == 2
    assert run("raw", "s3://no-such-bucket-at-all/train").code == 1
    assert run("raw", "s3://key:hidden@bucket/train").code == 2
    assert "hidden" not in run("raw", "s3://key:hidden@bucket/train").err
    assert run("raw", bucket.address("train"), "--exclusions", bucket.address("out.parquet")).code == 2
    assert not (tmp_path / "s3:").exists()
    bucket.put("train/other.parquet", b"x")
    assert run("raw", bucket.address("train")).code == 2
    bucket.delete("train/other.parquet")
    bucket.put("train.intoto.jsonl", b"another tool's")
    assert run("raw", bucket.address("train")).code == 2
    assert [k for k in bucket.names() if not k.startswith("raw/")] == ["train.intoto.jsonl"]


@pytest.mark.parametrize("at_copy", [True, False])
def test_a_killed_run_leaves_no_short_object_and_the_next_one_finishes(
    story: Command, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, at_copy: bool
) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def stop(request: Request) -> str | None:
        if request.method != "PUT" or request.is_copy != at_copy or "/train/day" not in request.path:
            return None
        # It is written anew while the first one is uploaded.
        ends = time.monotonic() + 20
        while not any(k.startswith("train.journal/") and not k.endswith(".tmp") for k in bucket.names()):
            assert time.monotonic() < ends
            time.sleep(0.02)
        reached.set()
        go_on.wait(30)
        return "reset"

    with before(bucket.endpoint) as (proxy, endpoint):
        proxy.trouble = stop
        command = [sys.executable, "-m", "ledger.cli", "filter", "raw", "-o", bucket.address("train"), *ANSWERS, "--workers", "1"]
        process = subprocess.Popen(command, env={**os.environ, "AWS_ENDPOINT_URL": endpoint})
        assert reached.wait(30)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        proxy.trouble = lambda request: "reset"
        go_on.set()
        left = [k for k in bucket.names() if k.startswith("train/")]
        assert "train/a.parquet" in left and any(k.endswith(".tmp") for k in left) == at_copy
        assert not any("day=1/a.parquet" in k for k in left if not k.endswith(".tmp"))
        assert not any(k.startswith("train.intoto") for k in bucket.names())
    first = bucket.client.head_object(Bucket=bucket.name, Key="train/a.parquet")["LastModified"]
    assert story("verify", bucket.address("train"), *WAY).code == 4

    with before(bucket.endpoint) as (proxy, endpoint):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        run = story("filter", "raw", "-o", bucket.address("train"), *ANSWERS)
        assert run.code == 0, run.err
        copied = [r.path for r in proxy.requests if r.is_copy and r.path.endswith(".parquet")]
    assert not any(path.endswith("train/a.parquet") for path in copied) and len(copied) == 2
    assert bucket.client.head_object(Bucket=bucket.name, Key="train/a.parquet")["LastModified"] == first
    assert [k for k in bucket.names() if k.endswith(".tmp")] == []
    assert sorted(k for k in bucket.names() if k.startswith("train/")) == [f"train/{name}" for name in SHARDS]
    assert story("verify", bucket.address("train"), *WAY).code == 0


def test_a_journal_counts_for_its_own_shard_and_the_output_that_stands_there(story: Command, bucket: Bucket) -> None:
    bucket.put("raw/copy.parquet", bucket.get("raw/a.parquet"))
    source, train = bucket.address("raw"), bucket.address("train")
    assert story("filter", source, "-o", train, *ANSWERS).code == 0
    whole, journal = bucket.get("train/a.parquet"), [k for k in bucket.names() if k.startswith("train.journal/")]
    assert len(journal) == 4
    lines = {key: bucket.get(key) for key in journal}
    for key in journal:  # each shard's line under every other's name
        for other in journal:
            bucket.put(other, lines[key])
        bucket.put("train/a.parquet", bucket.get("raw/a.parquet"))
        run = story("filter", source, "-o", train, *ANSWERS, "--format", "json")
        assert run.code == 0 and bucket.get("train/a.parquet") == whole
        assert [s["input"] for s in json.loads(run.out)["shards"]] == [SHARDS[0], "copy.parquet", *SHARDS[1:]]
    for key in journal:
        bucket.put(key, b"torn")
    assert story("filter", source, "-o", train, *ANSWERS).code == 0
    assert story("verify", train, *WAY).code == 0


def test_a_run_whose_upload_was_swept_away_by_another_fails_and_signs_nothing(
    story: Command, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sweep(request: Request) -> None:
        if request.is_copy and request.path.endswith("/train/a.parquet"):
            monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.endpoint)
            files.sweep_below(Address(bucket.name, "train"))

    with before(bucket.endpoint) as (proxy, endpoint):
        proxy.trouble = sweep
        run = story("filter", "raw", "-o", f"{bucket.address('train')}?endpoint_override={endpoint}&scheme=http", *ANSWERS)
    assert run.code == 1, run.err
    assert "train/a.parquet" not in bucket.names() and "train.intoto.jsonl" not in bucket.names()


@pytest.mark.parametrize("status", [403, 404])
def test_a_store_that_refuses_is_no_verdict(story: Command, bucket: Bucket, status: int) -> None:
    assert story("filter", "raw", "-o", bucket.address("train"), *ANSWERS).code == 0
    with before(bucket.endpoint) as (proxy, endpoint):
        way = f"?endpoint_override={endpoint}&scheme=http"
        for fails in ("HEAD", "GET"):
            proxy.trouble = lambda request, fails=fails: status if request.method == fails else None  # type: ignore[misc]
            for command in (
                ("audit", bucket.address("train") + way, *ANSWERS),
                ("filter", bucket.address("raw") + way, "-o", "out", *ANSWERS),
                ("verify", bucket.address("train") + way, *WAY),
            ):
                run = story(*command)
                # 2 where the store says that there is nothing by that name
                assert run.code in ((4,) if command[0] == "verify" else (1, 2)), (command, run.err)
                assert "hint: " in run.err and "a-secret" not in run.err


def test_attest_and_the_gate_take_a_store_too(story: Command, bucket: Bucket, tmp_path: Path) -> None:
    for name in SHARDS:
        bucket.put(f"mine/{name}", bucket.get(f"raw/{name}"))
    dirty = story("attest", bucket.address("mine"), *ANSWERS)
    assert dirty.code == 3 and "mine.intoto.jsonl" not in bucket.names()
    assert story("filter", bucket.address("raw"), "-o", bucket.address("train"), *ANSWERS).code == 0
    for name in SHARDS:
        bucket.put(f"mine/{name}", bucket.get(f"train/{name}"))
    clean = story("attest", bucket.address("mine"), *ANSWERS, "--format", "json")
    assert clean.code == 0, clean.err
    assert json.loads(clean.out)["statement"] == bucket.address("mine.intoto.jsonl")
    assert story("verify", bucket.address("mine"), *WAY).code == 0
    assert story("attest", bucket.address("train"), *ANSWERS).code == 2  # a run's statement is not replaced
    for folder in ("mine", "train"):
        fresh: dict[str, Any] = {"trust": "consent-ledger/trust", "purpose": "train-ai", "max_age": timedelta(days=1)}
        gate = ledger.open_shards(bucket.address(folder), **fresh)
        assert sum(batch.num_rows for batch in pickle.loads(pickle.dumps(gate))) == 3
        bucket.put(f"{folder}/a.parquet", bucket.get("raw/a.parquet"))
        with pytest.raises(ConsentLedgerError):
            list(gate)
        with pytest.raises(VerificationError):
            ledger.open_shards(bucket.address(folder), **fresh)


def test_parts_of_one_run_and_a_seal(story: Command, bucket: Bucket) -> None:
    assert story("snapshot", "--purpose", "train-ai", "-o", "answers.parquet").code == 0
    made = ("--snapshot", "answers.parquet", "--run-key", "consent-ledger/run.key", *KEYS)
    source, output = bucket.address("raw"), bucket.address("train")
    assert story("filter", source, "-o", output, *made, "--part", "1/2").code == 0
    half = story("attest", output, *made)
    assert half.code == 1 and "not finished" in half.err
    other = story("filter", source, "-o", output, *made, "--part", "1/3")
    assert other.code == 2 and "in 2 parts" in other.err
    assert story("filter", source, "-o", output, *made, "--part", "2/2").code == 0
    before = {key: bucket.get(key) for key in bucket.names() if key.startswith("train")}
    assert story("filter", source, "-o", output, *made, "--part", "2/2").code == 0  # nothing of it is done again
    assert {key: bucket.get(key) for key in before} == before

    lost = bucket.get("train/day=2/b.parquet")
    bucket.delete("train/day=2/b.parquet")
    assert story("attest", output, *made).code == 1
    bucket.put("train/day=2/b.parquet", lost)
    stray = ".train.1234567890abcdef.tmp"
    bucket.put(f"train/{stray}", b"of a part that was killed")
    sealed = story("attest", output, *made)
    assert sealed.code == 0, sealed.err
    assert not any(stray in key for key in bucket.names())
    assert story("verify", output, *WAY).code == 0
    assert story("filter", source, "-o", output, *made, "--part", "2/2").code == 0  # a part that begins again breaks the seal
    assert story("verify", output, *WAY).code == 4


def test_a_part_in_a_store_counts_only_by_its_own_last_line(story: Command, bucket: Bucket) -> None:
    assert story("snapshot", "--purpose", "train-ai", "-o", "answers.parquet").code == 0
    made = ("--snapshot", "answers.parquet", "--run-key", "consent-ledger/run.key", *KEYS)
    output = bucket.address("train")
    for part in ("1/2", "2/2"):
        assert story("filter", "raw", "-o", output, *made, "--part", part).code == 0
    note = "train.part-{}-of-2.journal.jsonl/note.json"
    whole = bucket.get(note.format(2))
    for bad in (bucket.get(note.format(1)), b"", whole[:-9], whole.replace(b"day=1", b"day=2")):
        assert bad != whole
        bucket.put(note.format(2), bad)
        half = story("attest", output, *made)
        assert half.code == 1 and "these are not finished" in half.err
        assert "train.intoto.jsonl" not in bucket.names()
    bucket.put(note.format(2), whole)
    assert story("attest", output, *made).code == 0
