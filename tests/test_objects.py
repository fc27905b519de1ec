"""Objects of a store: addresses; published whole or not at all; pinned while they are read; its failures."""

from __future__ import annotations

import gc
import hashlib
import io
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ledger import files, objects
from ledger.errors import ShardError, UsageError
from ledger.objects import Address, place
from ledger.shards.publish import HashingSink
from ledger.shards.rewrite import ShardFile, rewrite
from tests.conftest import Bucket
from tests.proxy import Proxy, Request, before


@pytest.fixture
def proxy(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """In front of the bucket's server; addresses lead to it."""
    with before(bucket.endpoint) as (made, endpoint):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        yield made


def address(bucket: Bucket, key: str) -> Address:
    made = place(bucket.address(key))
    assert isinstance(made, Address)
    return made


def posts(size: int = 2) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"user_id": ["ann", "bob", "cem"] * size}), sink, row_group_size=2, compression="none")
    return sink.getvalue()


# Addresses


def test_an_address_is_a_bucket_and_a_key_that_is_taken_as_it_is() -> None:
    for key in ("a/b.parquet", "a%2Fb", "ü", "u\u0308", "day=1/x", "sp ace+#"):
        made = place(f"s3://bucket/{key}")
        assert isinstance(made, Address) and (made.bucket, made.key, str(made)) == ("bucket", key, f"s3://bucket/{key}")
    made = place("s3://bucket/train/?region=eu-west-1&endpoint_override=127.0.0.1:9000&scheme=http")
    assert str(made) == "s3://bucket/train" == str(place("s3://bucket/train"))
    assert made == place("s3://bucket/train") and made != place("s3://bucket/Train")
    assert place("train") == Path("train") == place(Path("train"))
    assert str(place("s3://bucket")) == "s3://bucket/"


@pytest.mark.parametrize(
    "text",
    [
        "s3://KEY:hidden@bucket/x",
        "s3://hidden@bucket/x",
        "s3://bucket/x?secret_key=hidden",
        "s3://bucket/x?endpoint_override=user:hidden@host",
        "s3://bucket/x?access_key=hidden&region=x",
    ],
)
def test_credentials_in_an_address_are_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        place(text)
    assert "hidden" not in f"{refused.value} {refused.value.hint}"


@pytest.mark.parametrize("text", ["s3://", "s3:///x", "s3://B/x", "s3://bucket//x", "s3://bucket/a/../b", "s3://bucket/a/./b"])
def test_an_address_that_leads_elsewhere_or_nowhere_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        place(text)


def test_nothing_stands_beside_a_whole_bucket() -> None:
    with pytest.raises(UsageError, match="whole bucket"):
        place("s3://bucket").with_name("x")


# Published whole or not at all


def test_publishing_replaces_and_leaves_no_temporary_key(bucket: Bucket) -> None:
    for content in (b"first", b"", b"x" * 12_000_000):  # the last goes in several parts
        files.publish_bytes(address(bucket, "out/a"), content)
        assert bucket.get("out/a") == content and bucket.names() == ["out/a"]


class Failing(io.BytesIO):
    """Fails when it is read for the second time."""

    error: BaseException = OSError("the disk failed")
    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > 1:
            raise self.error
        return super().read(size)


@pytest.mark.parametrize("error", [OSError("the disk failed"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("size", [100, 30_000_000])
def test_an_exception_in_the_middle_leaves_what_was_there(bucket: Bucket, error: BaseException, size: int) -> None:
    bucket.put("out/a", b"old")
    file = Failing(b"x" * size)
    file.error = error
    target = address(bucket, "out/a")
    with pytest.raises(ShardError if isinstance(error, OSError) else type(error)):
        objects.publish(target, files.temporary_beside(target), file, size, hashlib.sha256(b"x" * size).hexdigest())
    gc.collect()
    assert bucket.names() == ["out/a"] and bucket.get("out/a") == b"old"


def test_an_abandoned_sink_and_writer_leave_nothing(bucket: Bucket) -> None:
    table = pa.table({"x": range(100_000)})
    writer = pq.ParquetWriter(HashingSink(bucket.address("out/a.parquet")), table.schema)  # type: ignore[arg-type]
    writer.write_table(table)
    del writer
    gc.collect()
    sink = HashingSink(address(bucket, "out/b.parquet"))
    with pytest.raises(ZeroDivisionError), sink, pq.ParquetWriter(sink, table.schema) as writer:
        writer.write_table(table)
        _ = 1 / 0
    assert bucket.names() == []


def test_what_arrives_as_something_else_of_the_same_size_is_not_published(bucket: Bucket, proxy: Proxy) -> None:
    bucket.put("out/a", b"old content")
    proxy.trouble = lambda r: "spoil" if r.method == "PUT" and r.body and not r.is_copy else None
    with pytest.raises(ShardError):
        files.publish_bytes(address(bucket, "out/a"), b"new content")
    assert bucket.names() == ["out/a"] and bucket.get("out/a") == b"old content"


FAILED_COPY = b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>We failed</Message></Error>"
NO_COPY = b"<?xml version='1.0'?><CopyObjectResult><ETag>&quot;x&quot;</ETag></CopyObjectResult>"


@pytest.mark.parametrize("answer", [FAILED_COPY, NO_COPY])
@pytest.mark.parametrize("old", [b"old content", b"old", None])
def test_a_copy_that_was_not_made_is_noticed(bucket: Bucket, proxy: Proxy, answer: bytes, old: bytes | None) -> None:
    if old is not None:
        bucket.put("out/a", old)
        time.sleep(1.1)  # a store tells times in seconds
    proxy.trouble = lambda r: answer if r.is_copy else None
    with pytest.raises(ShardError):
        files.publish_bytes(address(bucket, "out/a"), b"new content")
    assert bucket.names() == ([] if old is None else ["out/a"])


def test_an_object_too_large_to_be_copied_is_refused_before_anything_is_sent(bucket: Bucket) -> None:
    target = address(bucket, "out/a")
    with pytest.raises(ShardError, match="5,368,709,120"):
        objects.publish(target, files.temporary_beside(target), io.BytesIO(), objects.MAX_BYTES + 1, "")
    assert bucket.names() == []


def test_sweeping_takes_temporary_keys_alone(bucket: Bucket) -> None:
    out, statement = address(bucket, "out"), address(bucket, "out.intoto.jsonl")
    left = [files.temporary_beside(a) for a in (out / "a.parquet", out / "day=1" / "b.parquet", statement)]
    others = ["out/a.parquet", "out/.a.parquet.tmp", "out2/.a.parquet.0123456789abcdef.tmp", ".other.0123456789abcdef.tmp"]
    for key in [*(a.key for a in left), *others]:
        bucket.put(key, b"x")
    files.sweep_below(out)
    files.sweep(statement)
    assert bucket.names() == sorted(others)


# Read as one


def test_an_object_that_is_replaced_while_it_is_read_in_ranges_is_refused(bucket: Bucket) -> None:
    one, other = posts(), posts().replace(b"bob", b"ann")
    assert len(one) == len(other) and one != other
    bucket.put("a.parquet", one)
    with ShardFile(bucket.address("a.parquet")) as shard:
        shard.read_keys(0, ["user_id"])
        shard.check_unchanged()
        bucket.put("a.parquet", other)
        shard.read_keys(1, ["user_id"])
        with pytest.raises(ShardError, match="was replaced while it was read"):
            shard.check_unchanged()


def test_an_object_that_is_replaced_by_the_same_bytes_later_is_another(bucket: Bucket) -> None:
    bucket.put("a.parquet", posts())
    with ShardFile(bucket.address("a.parquet")) as shard:
        time.sleep(1.1)
        bucket.put("a.parquet", posts())
        with pytest.raises(ShardError, match="was replaced"):
            shard.check_unchanged()


@pytest.mark.parametrize("read", [objects.fetch, objects.sha256_of, lambda a: ShardFile(a, whole=True)])
def test_an_object_that_is_replaced_between_two_requests_is_refused(
    bucket: Bucket, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, read: Callable[[Address], Any]
) -> None:
    monkeypatch.setattr(objects, "_PIECE", 4096)
    monkeypatch.setattr(objects, "_READ_AHEAD", 4096)
    one = posts(40)
    bucket.put("a.parquet", one)

    def replace(request: Request) -> None:
        if request.method == "GET" and len([r for r in proxy.requests if r.method == "GET"]) == 3:
            bucket.put("a.parquet", one[::-1])

    proxy.trouble = replace
    with pytest.raises(ShardError, match="was replaced while it was read"):
        read(address(bucket, "a.parquet"))


def test_what_was_fetched_is_what_is_hashed_decided_and_written_and_a_later_object_stops_it(bucket: Bucket) -> None:
    one, other = posts(), posts().replace(b"bob", b"ann")
    bucket.put("a.parquet", one)
    with ShardFile(bucket.address("a.parquet"), whole=True) as shard, HashingSink(bucket.address("out/a.parquet")) as sink:
        bucket.put("a.parquet", other)
        assert shard.sha256 == hashlib.sha256(one).hexdigest()
        with pytest.raises(ShardError, match="was replaced"):
            rewrite(shard, sink, lambda group: [True] * shard.footer.rows[group])
    assert bucket.names() == ["a.parquet"]


def test_a_copy_is_published_by_the_digest_of_the_original_which_the_store_is_held_to(bucket: Bucket) -> None:
    bucket.put("a.parquet", posts())
    with ShardFile(bucket.address("a.parquet"), whole=True) as shard:
        with HashingSink(bucket.address("out/a.parquet")) as sink:
            shard.copy_to(sink)
            sink.publish()
        assert sink.sha256 == shard.sha256 == hashlib.sha256(bucket.get("out/a.parquet")).hexdigest()
        told = shard._hashed._replace(sha256=hashlib.sha256(b"other").hexdigest())
    assert bucket.get("out/a.parquet") == posts()
    with HashingSink(bucket.address("out/b.parquet")) as sink:
        sink.copy(io.BytesIO(posts()), told)
        with pytest.raises(ShardError, match="does not have what was sent"):
            sink.publish()
    assert bucket.names() == ["a.parquet", "out/a.parquet"]


def test_an_object_without_an_etag_cannot_be_pinned(bucket: Bucket, proxy: Proxy) -> None:
    bucket.put("a.parquet", posts())
    proxy.trouble = lambda r: "bare" if r.method == "HEAD" else None
    with pytest.raises(ShardError, match="no ETag"):
        ShardFile(bucket.address("a.parquet"))


def test_keys_that_look_odd_are_read_as_they_are(bucket: Bucket) -> None:
    for key in ("a%2Fb.parquet", "h#.parquet", "sp ace+.parquet", "ü.parquet", "u\u0308.parquet", "A.parquet", "a.parquet"):
        bucket.put(f"in/{key}", key.encode())
        assert address(bucket, f"in/{key}").read_bytes() == key.encode()
        files.publish_bytes(address(bucket, f"out/{key}"), key.encode())
        assert bucket.get(f"out/{key}") == key.encode()


# When the store fails


@pytest.mark.parametrize("trouble", [500, 503, "reset", "cut"])
def test_a_request_that_fails_once_or_twice_is_tried_again(bucket: Bucket, proxy: Proxy, trouble: str | int) -> None:
    data = posts(50)
    seen: dict[tuple[str, str, bool], int] = {}

    def fail(request: Request) -> str | int | None:
        kind = (request.method, request.path.split("partNumber")[0], request.is_copy)
        seen[kind] = seen.get(kind, 0) + 1
        if trouble == "cut" and request.method != "GET":
            return None
        return trouble if seen[kind] == 1 else None

    proxy.trouble = fail
    files.publish_bytes(address(bucket, "a.parquet"), data)
    assert objects.sha256_of(address(bucket, "a.parquet")) == hashlib.sha256(data).hexdigest()
    assert bucket.names() == ["a.parquet"] and len(seen) >= 5


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_request_that_always_fails_ends_with_an_error_and_a_hint(bucket: Bucket, proxy: Proxy, status: int) -> None:
    bucket.put("a.parquet", posts())
    proxy.trouble = lambda r: status
    with pytest.raises(ShardError) as failed:
        ShardFile(bucket.address("a.parquet"))
    assert failed.value.hint and len(proxy.requests) <= 4
    with pytest.raises(ShardError) as failed:
        files.publish_bytes(address(bucket, "b.parquet"), b"x")
    assert failed.value.hint
    assert "a-secret" not in str(failed.value)


def test_a_store_that_is_not_there(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(ShardError) as failed:
        ShardFile(bucket.address("a.parquet"))
    assert "cannot be reached" in str(failed.value.hint)


def test_a_bucket_that_is_not_there(bucket: Bucket) -> None:
    with pytest.raises(ShardError, match="there is no bucket"):
        files.make_folder("s3://no-such-bucket-at-all/x")
    with pytest.raises(ShardError) as failed:
        files.publish_bytes("s3://no-such-bucket-at-all/x", b"x")
    assert "no such bucket" in str(failed.value.hint)


def test_a_request_that_is_answered_late_is_waited_for(bucket: Bucket, proxy: Proxy) -> None:
    bucket.put("a.parquet", posts())
    proxy.trouble = lambda r: time.sleep(2) if r.number == 0 else None
    with ShardFile(bucket.address("a.parquet")) as shard:
        assert shard.num_rows == 6


def test_a_listing_of_several_pages_is_read_to_its_end(bucket: Bucket, proxy: Proxy) -> None:
    names = [f"x{n:04}.parquet" for n in range(1001)]
    for name in names:
        bucket.put(f"in/{name}", b"x")
    assert [name for name, is_object in address(bucket, "in").below() if is_object] == names
    proxy.trouble = lambda r: 403 if "continuation" in r.path else None
    with pytest.raises(ShardError):
        list(address(bucket, "in").below())


def test_a_folder_without_room_for_what_is_fetched(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put("a.parquet", posts())
    monkeypatch.setattr("tempfile.tempdir", "/dev/full/x")
    with pytest.raises((ShardError, OSError)) as failed:
        ShardFile(bucket.address("a.parquet"), whole=True)
    assert isinstance(failed.value, ShardError)
    # In the middle: the file may not grow.
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(ShardError, match="cannot keep"):
            objects.fetch(address(bucket, "a.parquet"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
