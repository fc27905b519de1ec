"""The order journal: which erasures were ordered, and how far each has come. It holds tags, no ids.

The file `erasures` of the ledger's folder, for its owner alone. Lines of canonical JSON, each synced before it counts, never
changed. Of each order, in this order:

    at basis by order tag               it was ordered
    canonical note order position salt  its acts are in the log, the first at that position, under that checkpoint: so that they
                                        can be put back as they were
    done order                          nothing of it is left to do

An order that is ordered again begins anew. A last line without an end was never acknowledged: it does not count, and makes room
for the next one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from ledger import files, locks, times
from ledger.consent import check_text
from ledger.errors import ConsentLedgerError, IntegrityError, InvalidEvent, UsageError, VerificationError
from ledger.log import canonical

NAME = "erasures"
_MAX_LINE = 64 << 20
_ORDER, _ACTS, _DONE = (
    ("at", "basis", "by", "order", "tag"),
    ("canonical", "note", "order", "position", "salt"),
    ("done", "order"),
)


@dataclass(frozen=True)
class Acts:
    """What an order came to in the log. opened: (salt, canonical act) from `position` on. note: of the checkpoint over them."""

    position: int
    opened: tuple[tuple[bytes, bytes], ...]
    note: str

    @property
    def end(self) -> int:
        return self.position + len(self.opened)

    @property
    def recorded_at(self) -> datetime:
        return times.parse(canonical.decode(self.opened[0][1])["recorded_at"])


@dataclass(frozen=True)
class Order:
    """at: by the log's clock; it is not about what was recorded after it. by: who ordered it. acts: None before they are in
    the log."""

    order: str
    tag: bytes
    basis: str
    by: str
    at: datetime
    acts: Acts | None = None
    done: bool = False


def path_of(folder: Path) -> Path:
    return folder / NAME


def read(path: Path) -> dict[str, Order]:
    """By their names, in the order in which they were given. No file is no order. Raises IntegrityError for a bad line."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConsentLedgerError(f"cannot read {path}: {error.strerror}", hint=files.advice(error)) from error
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{path} is not a regular file")
    return _read(path, (status.st_ino, status.st_size, status.st_mtime_ns))


def unfinished(path: Path) -> list[Order]:
    return [order for order in read(path).values() if not order.done]


@lru_cache(maxsize=4)
def _read(path: Path, state: object) -> dict[str, Order]:
    # It only grows: what was read of it holds until it has another size.
    orders: dict[str, Order] = {}
    number = 0
    try:
        with path.open("rb") as file:
            while (line := file.readline(_MAX_LINE)).endswith(b"\n"):
                number += 1
                _take(orders, canonical.decode(line[:-1], limit=_MAX_LINE))
            if len(line) == _MAX_LINE:
                raise IntegrityError(f"{path}: line {number + 1} is too long")
    except OSError as error:
        raise ConsentLedgerError(f"cannot read {path}: {error.strerror}", hint=files.advice(error)) from error
    except (VerificationError, InvalidEvent, ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(
            f"{path}: line {number} is no line of an order journal: {error}", hint="bring back a copy of it that is whole"
        ) from error
    return orders


def _take(orders: dict[str, Order], line: Mapping[str, Any]) -> None:
    fields, name = tuple(sorted(line)), line["order"]
    if fields == _ORDER:
        tag = bytes.fromhex(line["tag"])
        if len(tag) != 32:
            raise ValueError("it has no tag")
        for field in ("order", "basis", "by"):
            check_text(field, line[field])
        orders.pop(name, None)
        orders[name] = Order(name, tag, line["basis"], line["by"], times.parse(line["at"]))
    elif fields == _ACTS:
        salts, acts = map(canonical.decode_base64, line["salt"]), [text.encode() for text in line["canonical"]]
        opened = tuple(zip(salts, acts, strict=True))
        if not opened or type(line["position"]) is not int or line["position"] < 0 or not isinstance(line["note"], str):
            raise ValueError("it names no acts")
        found = Acts(line["position"], opened, line["note"])
        _ = found.recorded_at  # where it has none, that shows here, not where it is needed
        orders[name] = replace(orders[name], acts=found)
    elif fields == _DONE:
        times.parse(line["done"])
        orders[name] = replace(orders[name], done=True)
    else:
        raise ValueError(f"it has the fields {', '.join(fields)!r:.80}")


def ordered(path: Path, order: Order) -> None:
    line = {"order": order.order, "tag": order.tag.hex(), "basis": order.basis, "by": order.by, "at": times.text(order.at)}
    _append(path, line)


def acted(path: Path, order: Order, acts: Acts) -> None:
    salts = [canonical.encode_base64(salt) for salt, _ in acts.opened]
    said = [data.decode() for _, data in acts.opened]
    _append(path, {"order": order.order, "position": acts.position, "salt": salts, "canonical": said, "note": acts.note})


def finished(path: Path, order: Order) -> None:
    _append(path, {"order": order.order, "done": times.text(times.now())})


def _append(path: Path, line: dict[str, Any]) -> None:
    """Durable when it returns."""
    data = canonical.encode(line) + b"\n"
    _on_file(path, lambda: os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)))
    files.sync_folder(path.parent)
    with locks.exclusive(path):
        _on_file(path, lambda: _write(path, data))


def _write(path: Path, data: bytes) -> None:
    with path.open("r+b", buffering=0) as file:
        end = _end_of_last_line(file)
        file.truncate(end)
        file.seek(end)
        rest = memoryview(data)
        while rest:  # what is written in part is followed by an error that says why
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())


def _end_of_last_line(file: Any) -> int:
    end: int = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - (1 << 16))
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + int(found) + 1
        end = start
    return 0


def _on_file(path: Path, work: Callable[[], object]) -> None:
    try:
        work()
    except OSError as error:
        raise ConsentLedgerError(f"cannot write {path}: {error.strerror}", hint=files.advice(error)) from error
