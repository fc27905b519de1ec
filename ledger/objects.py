"""Objects of a store that speaks S3, by addresses `s3://bucket/key`, through pyarrow, which is imported when one is first used.

An Address offers what the code asks of a Path. A key is taken as it is written, and never decoded: `%2F` stays three letters.
What follows a `?` says how the store is reached: region, scheme and endpoint_override, as pyarrow has them; the endpoint is
else that of $AWS_ENDPOINT_URL. Credentials come as pyarrow finds them, and none may stand in an address.

- An object that is read is pinned: all that its store says of it (size, ETag, time) is compared before and after.
- An object is published by a copy inside the store, which is whole or not at all, of one that was uploaded under a temporary key,
  read back and found to be what was sent. No stream is ever opened on the final key: pyarrow would complete it, as short as
  it then is, when it is abandoned.
- Each request is tried again by the AWS SDK, with back-off, a few times. Nothing above a request is.
- What the store refuses comes out as ShardError.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, TypeAlias, TypeVar
from urllib.parse import parse_qsl

from ledger.errors import ShardError, UsageError

SCHEME = "s3://"
MAX_BYTES = 5 << 30
"""The largest object that one copy inside the store may make."""

_OPTIONS = ("region", "scheme", "endpoint_override")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")
_TRIES = 4
_PIECE = 8 << 20
_READ_AHEAD = 2 << 20

Identity: TypeAlias = dict[str, bytes]


@dataclass(frozen=True)
class Address:
    """Of an object, or of the folder of all whose keys begin with `key/`. key: "" for the whole bucket.

    Two are equal when bucket and key are, by whatever way the store is reached.
    """

    bucket: str
    key: str
    options: tuple[tuple[str, str], ...] = field(default=(), compare=False, repr=False)

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}"

    def __truediv__(self, name: str) -> Address:
        return replace(self, key=f"{self.key}/{name}" if self.key else name)

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> Address:
        return replace(self, key=self.key.rpartition("/")[0])

    @property
    def parents(self) -> tuple[Address, ...]:
        """From the nearest up to the bucket."""
        return (self.parent, *self.parent.parents) if self.key else ()

    def with_name(self, name: str) -> Address:
        if not self.key:
            raise UsageError(f"{self} is a whole bucket, which nothing can stand beside", hint="name a folder in it")
        return self.parent / name

    def resolve(self) -> Address:
        return self

    def absolute(self) -> Address:
        return self

    def is_symlink(self) -> bool:
        return False

    def exists(self) -> bool:
        return bool(self._info().type.name != "NotFound")

    def is_file(self) -> bool:
        return bool(self._info().type.name == "File")

    def is_dir(self) -> bool:
        kind = self._info().type.name
        return kind == "Directory" or (kind == "File" and next(self.below(), None) is not None)

    def below(self, *, recursive: bool = True) -> Iterator[tuple[str, bool]]:
        """(name from here, whether it is an object), each name once: one that is object and folder is an object.

        Raises ShardError for two objects of one name: pyarrow takes the slash from a key `x/` that holds something.
        """
        from pyarrow.fs import FileSelector, FileType

        with self._failing("cannot list"):
            found = self._store.get_file_info(FileSelector(self._path, recursive=recursive, allow_not_found=True))
        start, names = self._path.rstrip("/") + "/", dict[str, bool]()
        for info in found:
            if info.path.startswith(start):  # it tells of the folders above as well
                name, is_object = info.path[len(start) :], info.type == FileType.File
                if is_object and names.get(name):
                    raise ShardError(
                        f"{self / name} is there twice, once with a slash at its end: only one of them can be read",
                        hint="remove the one whose key ends with a slash",
                    )
                names[name] = is_object or names.get(name, False)
        yield from names.items()

    def open(self, mode: str = "rb") -> io.BufferedReader:
        """To read, piece by piece."""
        return open_object(self)[0]

    def read_bytes(self) -> bytes:
        with self.open() as file:
            return file.read()

    def remove(self) -> None:
        """Where there is one. pyarrow then leaves an empty object in its place for the folder above, `folder/`."""
        with self._failing("cannot remove"), contextlib.suppress(FileNotFoundError):
            self._store.delete_file(self._path)

    @property
    def _path(self) -> str:
        return f"{self.bucket}/{self.key}" if self.key else self.bucket

    @property
    def _store(self) -> Any:
        return _store(self.bucket, self.options)

    def _info(self) -> Any:
        with self._failing("cannot look at"):
            return self._store.get_file_info(self._path)

    @contextlib.contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: pyarrow takes no key with an empty part
            raise ShardError(f"{what} {self}: {str(error)[:500]}", hint=_advice(str(error))) from error


Place: TypeAlias = Path | Address
P = TypeVar("P", Path, Address, Place)


def place(path: str | Path | Address) -> Place:
    """A Path, or the Address that a text which begins with `s3://` is. Raises UsageError, which does not repeat a secret."""
    if not isinstance(path, str) or not path.startswith(SCHEME):
        return path if isinstance(path, Address) else Path(path)
    where, _, query = path.removeprefix(SCHEME).partition("?")
    bucket, _, key = where.partition("/")
    if "@" in bucket or ":" in bucket:
        raise UsageError(
            "an address does not hold credentials, nor a port",
            hint="pyarrow finds credentials in the environment, a profile or the machine's role; "
            "another store is named as s3://bucket/key?endpoint_override=host:port",
        )
    if not _BUCKET.fullmatch(bucket):
        raise UsageError(f"{SCHEME}{bucket:.80} names no bucket", hint="an address is s3://bucket/key")
    options = parse_qsl(query, keep_blank_values=True)
    if strange := sorted({name for name, _ in options} - set(_OPTIONS)):
        raise UsageError(f"an address has no option {strange[0]!r:.40}", hint=f"it has {', '.join(_OPTIONS)}")
    if any("@" in value for _, value in options):
        raise UsageError("an address does not hold credentials", hint="pyarrow finds them in the environment or a profile")
    key = key.removesuffix("/")
    if key and unsafe(key):
        raise UsageError(f"{SCHEME}{bucket}/{key} has a part that is empty, `.` or `..`", hint="name it without")
    return Address(bucket, key, tuple(sorted(options)))


def named(folder: P) -> P:
    """A folder that has a name, beside which a statement can stand."""
    return folder if isinstance(folder, Address) or folder.name not in ("", "..") else folder.resolve()


def local(path: str | Path) -> Path:
    """A Path. Raises UsageError for an address, which would become a folder called `s3:`."""
    if str(path).startswith("s3:/"):
        raise UsageError(f"{path} is in a store, and must be a file of this machine", hint="name a file here, and copy it there")
    return Path(path)


def unsafe(name: str) -> bool:
    """Whether a relative name would lead elsewhere, or nowhere, as a path."""
    return "\0" in name or any(part in ("", ".", "..") for part in name.split("/"))


def _store(bucket: str, options: tuple[tuple[str, str], ...]) -> Any:
    told = dict(options)
    endpoint = told.get("endpoint_override") or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = told.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    try:
        return _connected(region or (None if endpoint else _region(bucket)), endpoint, told.get("scheme"))
    except (OSError, ValueError) as error:
        raise ShardError(f"cannot reach {SCHEME}{bucket}: {str(error)[:500]}", hint=_advice(str(error))) from error


@functools.cache
def _region(bucket: str) -> str:
    from pyarrow.fs import resolve_s3_region

    return str(resolve_s3_region(bucket))


@functools.cache
def _connected(region: str | None, endpoint: str | None, scheme: str | None) -> Any:
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    return S3FileSystem(
        region=region,
        endpoint_override=endpoint,
        scheme=scheme,
        allow_delayed_open=True,  # a small object then takes one request
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=_TRIES),
    )


def identity(address: Address) -> Identity:
    """All that the store says of an object now. Raises ShardError for a store that gives no ETag: nothing would be pinned."""
    return _Object(address).identity


def open_object(address: Address) -> tuple[io.BufferedReader, Identity]:
    """To read in ranges, and what the object was when it was opened: whoever has read compares."""
    raw = _Object(address)
    return io.BufferedReader(raw, _READ_AHEAD), raw.identity


def fetch(address: Address) -> tuple[io.BufferedRandom, Identity]:
    """All of an object, in a file of this machine that has no name and is gone when it is closed, or the process is killed.

    The folder for it is that of $TMPDIR. Raises ShardError where the object was replaced meanwhile.
    """
    raw = _Object(address)
    try:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - handed out
        try:
            while piece := raw.read(_PIECE):
                file.write(piece)
            if file.tell() != raw.size:
                raise ShardError(f"{address} ends after {file.tell()} of {raw.size} bytes")
            file.seek(0)
            require_same(address, raw.identity)
        except BaseException:
            with contextlib.suppress(OSError):  # what could not be written, it would write again
                file.close()
            raise
    except OSError as error:
        raise ShardError(
            f"cannot keep {address} on this machine: {error.strerror or error}", hint="name a folder with room in TMPDIR"
        ) from error
    return file, raw.identity


def require_same(address: Address, was: Identity) -> None:
    """Raises ShardError where the object is not what it was."""
    if identity(address) != was:
        raise ShardError(f"{address} was replaced while it was read", hint="name objects that nothing writes to any more")


@contextlib.contextmanager
def reading(address: Address) -> Iterator[io.BufferedReader]:
    """An object to read as one that nothing replaces meanwhile. Raises ShardError where something did."""
    file, was = open_object(address)
    with file:
        yield file
    require_same(address, was)


def sha256_of(address: Address) -> str:
    with reading(address) as file:
        state = hashlib.sha256()
        while piece := file.read(_PIECE):
            state.update(piece)
    return state.hexdigest()


def publish(address: Address, staged: Address, file: IO[bytes], size: int, sha256: str) -> None:
    """Give an object the content of a file from where it stands, of this size and digest, and not before it is found to have it.

    staged: a temporary key, which is removed again. A bucket that keeps versions keeps what was replaced.
    """
    if size > MAX_BYTES:
        raise ShardError(
            f"{address} would have {size:,} bytes; an object of more than {MAX_BYTES:,} cannot be copied inside the store",
            hint="write shards of fewer rows, or to a folder of this machine",
        )
    try:
        with staged._failing("cannot write"), staged._store.open_output_stream(staged._path) as sink:
            while piece := file.read(_PIECE):
                sink.write(piece)
        before = staged._info()
        if before.size != size or sha256_of(staged) != sha256:
            raise ShardError(f"the store does not have what was sent to it as {staged}", hint="run the command again")
        with address._failing("cannot write"):
            address._store.copy_file(staged._path, address._path)
        now = address._info()
        if now.size != size or now.mtime < before.mtime:
            raise ShardError(f"the store did not copy {staged} to {address}", hint="run the command again")
    except BaseException:
        with contextlib.suppress(ShardError):
            staged.remove()
        raise
    staged.remove()


class _Object(io.RawIOBase):
    """Read by ranges of its bytes, each one request."""

    def __init__(self, address: Address) -> None:
        self._address, self._at = address, 0
        with address._failing("cannot read"):
            self._file = address._store.open_input_file(address._path)
            self.size: int = self._file.size()
            self.identity: Identity = dict(self._file.metadata())
        if not self.identity.get("ETag"):
            raise ShardError(f"the store gives {address} no ETag: whether it is replaced while it is read could not be told")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._at = max(0, offset + (0, self._at, self.size)[whence])
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        with memoryview(buffer).cast("B") as view, self._address._failing("cannot read"):
            wanted = min(len(view), self.size - self._at)
            data = self._file.read_at(wanted, self._at) if wanted > 0 else b""
            if len(data) != max(0, wanted):
                raise OSError(f"{len(data)} bytes came where {wanted} were asked for")
            view[: len(data)] = data
        self._at += len(data)
        return len(data)


_ADVICE = {
    "NO_SUCH_BUCKET": "there is no such bucket: look at its name, and at the store that the address leads to",
    "PERMANENT_REDIRECT|PermanentRedirect|HTTP status 301|AuthorizationHeaderMalformed|IllegalLocationConstraint": (
        "the bucket is in another region: name it, as in s3://bucket/key?region=eu-west-1"
    ),
    "ACCESS_DENIED|INVALID_ACCESS_KEY_ID|INVALID_CLIENT_TOKEN|SIGNATURE_DOES_NOT_MATCH|EXPIRED|HTTP status 40[13]|credentials": (
        "the store refuses this: look at the credentials in the environment or profile, and at the rights of their owner"
    ),
    "NETWORK_CONNECTION|REQUEST_TIMEOUT|curlCode": (
        "the store cannot be reached: look at the endpoint and the network, then run the command again"
    ),
    "SLOW_DOWN|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|THROTTLING|HTTP status 5": (
        f"the store failed {_TRIES} times in a row: run the command again later"
    ),
    "does not exist|NO_SUCH_KEY|HTTP status 404": "look at the name: nothing is there",
    "Empty path component": "no reader takes a key with an empty part: copy the object to another key",
}


def _advice(message: str) -> str | None:
    return next((hint for words, hint in _ADVICE.items() if re.search(words, message)), None)
