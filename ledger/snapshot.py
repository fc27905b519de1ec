"""The log at a checkpoint -> frozen answers for one purpose: a Parquet file that opens without a database.

Its rows are a function of the log's prefix (see `folding`): for each subject and scope the latest no and the latest yes with its
terms. `snapshot_sha256` covers the header and the rows, column by column, so it is the same on any machine.
A file is trusted only through its receipt: the log's signed proof that an act named the file's own SHA-256.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ledger import times
from ledger.consent import split_purpose
from ledger.errors import IntegrityError, SnapshotError, UsageError, VerificationError
from ledger.log import canonical, checkpoint
from ledger.log.trust import Trust
from ledger.statements.receipt import open_act_receipt
from ledger.statements.verify import load_trust, whole

FORMAT = "consent-ledger/snapshot/v1"
RULE_VERSION = "1"
NONE = -(2**63)
"""No such time, in a column of microseconds."""
MAX_AGE = timedelta(hours=24)

SCHEMA = pa.schema(
    [
        pa.field(name, kind, nullable=False)
        for name, kind in (
            ("subject_id", pa.string()),
            ("scope", pa.uint8()),
            ("scope_id", pa.string()),
            ("no_at", pa.int64()),
            ("no_state", pa.uint8()),
            ("no_position", pa.int64()),
            ("yes_at", pa.int64()),
            ("yes_position", pa.int64()),
            ("yes_accepted", pa.bool_()),
            ("yes_expires_at", pa.int64()),
            ("yes_content_since", pa.int64()),
            ("yes_basis", pa.uint8()),
        )
    ]
)
"""One row per subject and scope, sorted by subject_id, scope, scope_id ('' for everything) in the order of UTF-8 bytes.
Times are microseconds, NONE where there is none; positions -1, no_state and yes_basis 255 where there is no such act."""

MAX_LISTS = 1_000_000
"""Arrow sets aside up to 2 KB for each item that a footer says is in a list; no list has more items than its file has bytes."""

_ANEW = "compile it anew with `consent snapshot`"
_METADATA_KEY = b"consent-ledger"


@dataclass(frozen=True)
class Header:
    """What the rows are the answers to. checkpoint: the signed note of the log's prefix. erasures: the positions of acts after
    that prefix that have erased some of its events, which the rows lack."""

    origin: str
    purpose: str
    categories: Sequence[str]
    checkpoint: str
    as_of: datetime
    known_until: datetime
    sources: Mapping[str, datetime]
    erasures: Sequence[int] = ()

    def document(self) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "format": FORMAT,
            "rule_version": RULE_VERSION,
            "origin": self.origin,
            "purpose": self.purpose,
            "checkpoint": self.checkpoint,
            "as_of": times.text(self.as_of),
            "known_until": times.text(self.known_until),
        }
        if self.categories:
            fields["categories"] = sorted(self.categories)
        if self.sources:
            fields["sources"] = {name: times.text(at) for name, at in self.sources.items()}
        if self.erasures:
            fields["erasures"] = list(self.erasures)
        return fields

    @classmethod
    def parse(cls, data: bytes) -> Header:
        """Raises SnapshotError for another format, IntegrityError for a header that is not one."""
        try:
            fields = canonical.decode(data)
            if fields.get("format") != FORMAT or fields.get("rule_version") != RULE_VERSION:
                raise SnapshotError(
                    f"the snapshot has format {fields.get('format')!r:.60}, this version reads {FORMAT}",
                    hint="compile it anew with `consent snapshot`",
                )
            return cls(
                fields["origin"],
                fields["purpose"],
                tuple(fields.get("categories", ())),
                fields["checkpoint"],
                times.parse(fields["as_of"]),
                times.parse(fields["known_until"]),
                {name: times.parse(at) for name, at in fields.get("sources", {}).items()},
                tuple(fields.get("erasures", ())),
            )
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise IntegrityError("the snapshot's header is not whole") from error


@dataclass(frozen=True)
class Grounds:
    """Of a snapshot that left out no event for its time: what must be found again by whoever goes on from it.

    accepts: the versions of the purpose whose yes counts. erasures: the positions of all acts that had erased somebody.
    """

    accepts: tuple[int, ...]
    erasures: tuple[int, ...]


@dataclass(frozen=True)
class Snapshot:
    """Frozen answers. Equal when their digests are equal; pickles as path and digest, or with its rows when in memory.

    receipt: the act receipt that authenticates it, None for one that was compiled only to look.
    salts: of one that was compiled in this process, 32 bytes for each subject, in the order of the rows: the salt of the first of
    its events there. They are for the ledger alone, as `grounds` are.
    earlier: how many entries those of an earlier snapshot were from which this one was gone on; None: all entries were read.
    """

    header: Header = field(compare=False, repr=False)
    sha256: str
    path: Path | None = field(default=None, compare=False)
    file_sha256: str | None = field(default=None, compare=False, repr=False)
    receipt: bytes | None = field(default=None, compare=False, repr=False)
    max_age: timedelta = field(default=MAX_AGE, compare=False, repr=False)
    salts: bytes | None = field(default=None, compare=False, repr=False)
    grounds: Grounds | None = field(default=None, compare=False, repr=False)
    earlier: int | None = field(default=None, compare=False, repr=False)
    _rows: Any = field(default=None, compare=False, repr=False)

    @property
    def purpose(self) -> str:
        return self.header.purpose

    @property
    def size(self) -> int:
        """How many entries the answers are from, as the header's checkpoint says, which is not verified here."""
        return checkpoint.parse(self.header.checkpoint.partition("\n\n")[0] + "\n").size

    def rows(self) -> Any:
        """The rows, from memory or from the file, whose bytes are checked first. Raises SnapshotError, IntegrityError.

        Those of a file are in memory from when it was opened until they are first asked for: an index is made of them then.
        """
        if (rows := self._rows) is not None:
            if self.path is not None:
                object.__setattr__(self, "_rows", None)
            return rows
        assert self.path is not None
        data = _read(self.path)
        if hashlib.sha256(data).hexdigest() != self.file_sha256:
            raise IntegrityError(f"the snapshot {self.path} was changed after it was opened")
        return parse(data)[1]

    def file(self) -> object:
        """What its file is known to be unchanged by without reading it; where that is gone, nothing that was ever told."""
        if self.path is None:
            return None
        try:
            found = self.path.stat()
        except OSError:
            return object()
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def age(self, now: datetime) -> timedelta:
        return now - min(self.header.as_of, self.header.known_until)

    def check_age(self, now: datetime) -> None:
        """Raises SnapshotError for one that is stale, or of the future."""
        if self.header.as_of > now:
            raise SnapshotError(f"the snapshot is of {times.text(self.header.as_of)}, which has not come yet")
        if self.age(now) > self.max_age:
            raise SnapshotError(
                f"the snapshot is {_span(self.age(now))} old; it may be {_span(self.max_age)}",
                hint="compile a fresh one with `consent snapshot`, or allow more with --max-age",
            )

    def check_sources(self, max_age: timedelta) -> None:
        """Raises SnapshotError where an import source last completed longer ago, or none ever did: silence is no."""
        if not self.header.sources:
            raise SnapshotError("no import source has ever completed", hint="run the import, then take a fresh snapshot")
        for source, completed in self.header.sources.items():
            if (age := times.now() - completed) > max_age:
                when = f"last completed {_span(age)} ago" if completed > times.EPOCH else "never completed without rejects"
                raise SnapshotError(
                    f"import source {source!r:.80} {when}; it may be {_span(max_age)}",
                    hint="run the import again, then take a fresh snapshot",
                )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "salts": None, "_rows": self._rows if self.path is None else None}


def digest(header: Header, rows: Any) -> str:
    """snapshot_sha256: domain, header (u64 length, canonical bytes), u64 row count, then each column of SCHEMA in order.

    Integers are little-endian; a bool is one byte; text is u32 lengths, then bytes.
    """
    head = canonical.encode(header.document())
    state = hashlib.sha256(FORMAT.encode() + b"\n" + len(head).to_bytes(8, "little") + head + rows.num_rows.to_bytes(8, "little"))
    for column in SCHEMA:
        values = rows[column.name].combine_chunks()
        if pa.types.is_string(column.type):
            for part in text_parts(values):
                state.update(part)
        else:
            numbers = values.to_numpy(zero_copy_only=False)
            state.update(np.ascontiguousarray(numbers, "<i8" if pa.types.is_int64(column.type) else "u1").data)
    return state.hexdigest()


def text_parts(values: Any) -> tuple[bytes, memoryview]:
    """A column of text, or of bytes, for hashing: u32 little-endian lengths, then the bytes."""
    data, ends = text_bytes(values)
    return np.diff(ends, prepend=0).astype("<u4").tobytes(), data


def text_bytes(values: Any) -> tuple[memoryview, npt.NDArray[np.int64]]:
    """Those of a column of text, or of bytes, and where each ends."""
    text = values.cast(pa.large_binary())
    _, offsets, data = text.buffers()
    ends = np.frombuffer(offsets, np.int64)[text.offset : text.offset + len(text) + 1] if len(text) else np.zeros(1, np.int64)
    return memoryview(data or b"")[ends[0] : ends[-1]], ends[1:] - ends[0]


def freeze(header: Header, rows: Any) -> tuple[Snapshot, bytes]:
    """A snapshot in memory, and the Parquet file's bytes."""
    data = file_of(header, rows)
    return Snapshot(header, digest(header, rows), file_sha256=hashlib.sha256(data).hexdigest(), _rows=rows), data


def file_of(header: Header, rows: Any) -> bytes:
    """The Parquet file."""
    sink = io.BytesIO()
    table = rows.replace_schema_metadata({_METADATA_KEY: canonical.encode(header.document())})
    pq.write_table(table, sink, compression="zstd", use_dictionary=["scope", "no_state", "yes_basis"])
    return sink.getvalue()


def receipt_path(path: Path) -> Path:
    return path.with_name(path.name + ".receipt")


def load_snapshot(
    path: str | Path,
    *,
    trust: str | Path | Trust,
    purpose: str | None = None,
    max_age: timedelta = MAX_AGE,
    now: datetime | None = None,
) -> Snapshot:
    """Open a snapshot file by its receipt, which stands beside it as FILE.receipt.

    trust: whose log key counts. purpose: `token` or `token@version` that it must be of.
    Raises SnapshotError when it is missing, stale or unreadable; IntegrityError when it is edited or of a ledger that is
    not trusted; UsageError when it is of another purpose.
    """
    path = Path(path)
    return open_snapshot(
        path, _read(receipt_path(path)), _read(path), trust=trust, purpose=purpose, max_age=max_age, now=now or times.now()
    )


def open_snapshot(
    path: Path,
    receipt: bytes,
    data: bytes,
    *,
    trust: str | Path | Trust,
    purpose: str | None,
    max_age: timedelta,
    now: datetime,
) -> Snapshot:
    """`load_snapshot` of what a file, and the receipt beside it, hold or are to hold. path: that file's."""
    try:
        act = open_act_receipt(whole(receipt), trust if isinstance(trust, Trust) else load_trust(trust))
    except VerificationError as error:
        raise VerificationError(f"{receipt_path(path)}: {error}", hint=error.hint or _ANEW) from error
    if act.act["act"] != "snapshot_compiled" or act.act["file_sha256"] != hashlib.sha256(data).hexdigest():
        raise VerificationError(
            f"the snapshot {path} is not the file that its receipt speaks of",
            hint=f"it was edited or replaced; {_ANEW}",
        )
    header, rows = parse(data)
    sha256 = digest(header, rows)
    if act.act["snapshot_sha256"] != sha256 or act.act["purpose"] != header.purpose or act.checkpoint.origin != header.origin:
        raise VerificationError(f"the snapshot {path} does not hold what its receipt says", hint=_ANEW)
    if purpose not in (None, header.purpose, split_purpose(header.purpose)[0]):
        raise UsageError(
            f"the snapshot {path} is of {header.purpose}, not of {purpose!r:.80}",
            hint=f"take another, or compile it with `consent snapshot --purpose {split_purpose(str(purpose))[0]}`",
        )
    snapshot = Snapshot(header, sha256, path, act.act["file_sha256"], receipt, max_age, _rows=rows)
    snapshot.check_age(now)
    return snapshot


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SnapshotError(f"cannot read {path}: {error.strerror}", hint="compile a snapshot with `consent snapshot`") from error


def parse(data: bytes) -> tuple[Header, Any]:
    """Header and rows of a file's bytes, which were authenticated. Raises SnapshotError, IntegrityError."""
    # A copy that Arrow owns: a thread of its pool that still holds an object of Python as the process ends aborts it.
    buffer = pa.allocate_buffer(len(data))
    np.frombuffer(buffer, np.uint8)[:] = np.frombuffer(data, np.uint8)
    try:
        # `pq.read_table` would import pyarrow.dataset, and that pandas where it is installed: 0.3 s.
        table = pq.ParquetFile(pa.BufferReader(buffer), thrift_container_size_limit=min(len(data), MAX_LISTS)).read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise IntegrityError("the snapshot is no Parquet file that can be read") from error
    if table.schema.remove_metadata() != SCHEMA:
        raise IntegrityError("the snapshot does not have the columns of one")
    header = (table.schema.metadata or {}).get(_METADATA_KEY)
    if header is None:
        raise IntegrityError("the snapshot has no header")
    return Header.parse(header), table.replace_schema_metadata(None).combine_chunks()


def _span(span: timedelta) -> str:
    """In the unit that reads best."""
    hours = span.total_seconds() / 3600
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.0f} minutes"
