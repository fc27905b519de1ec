"""What a snapshot says of each of its subjects, in canonical bytes and of many at once (docs/formats.md, "Sets of subjects").

`committing` says the same of one person as a document; a test holds the two equal.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ledger import times
from ledger.consent import NO
from ledger.snapshot import NONE
from ledger.statements.decided import BASES
from ledger.statements.membership import SCOPES

BATCH = 65_536
"""Subjects that are held at once."""
_ESCAPED = r'["\\\x00-\x1f]'
_DAY = 86_400_000_000
_DATE, _TIME = len("2026-01-31T"), len("2026-01-31T00:00:00.000000Z")
_SECOND = 1_000_000
_DIGITS = (
    *((_DATE + at, True, worth, 10) for at, worth in ((0, 36_000), (1, 3600), (4, 60), (7, 1))),
    *((_DATE + at, True, worth, 6) for at, worth in ((3, 600), (6, 10))),
    *((_DATE + 9 + at, False, 10 ** (5 - at), 10) for at in range(6)),
)
"""Where each digit of a time of day stands, whether it is of the seconds or of the microseconds, what it is worth of these, and
how many there are of it."""


def of_each(rows: Any) -> Iterator[tuple[Any, Any]]:
    """rows: of snapshot.SCHEMA, in order. Yields batches of subject ids and of canonical `{"rows": [...]}`, as Arrow has text."""
    starts = starts_of(rows["subject_id"])
    ends = np.append(starts[1:], len(rows))
    for first in range(0, len(starts), BATCH):
        some, until = starts[first : first + BATCH], ends[first : first + BATCH]
        part = rows.slice(some[0], until[-1] - some[0]).combine_chunks()
        texts = _texts({name: part[name].combine_chunks() for name in part.column_names})
        begins = pa.array(np.append(some, until[-1]) - some[0], pa.int32())
        said = _joined('{"rows":[', pc.binary_join(pa.ListArray.from_arrays(begins, texts), ","), "]}")
        yield part["subject_id"].combine_chunks().take(pa.array(some - some[0])), said


def starts_of(subjects: Any) -> npt.NDArray[np.int64]:
    """The first row of each subject."""
    if not len(subjects):
        return np.zeros(0, np.int64)
    ids = subjects.combine_chunks()
    differ = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
    return np.concatenate([[0], np.flatnonzero(differ) + 1])


def _texts(column: dict[str, Any]) -> Any:
    """Of each row, its names in the order of RFC 8785."""
    said_no, said_yes = (pc.not_equal(column[name], NONE) for name in ("no_at", "yes_at"))
    no = _joined(
        '"no_at":"', _times(column["no_at"], said_no), '","no_position":', column["no_position"].cast(pa.string()),
        ',"no_state":"', _named(column["no_state"], NO), '",',
    )  # fmt: skip
    scope = _joined('"scope":"', _named(column["scope"], tuple(SCOPES)), '"')
    item = _joined(',"scope_id":', _quoted(column["scope_id"]))
    since, expires = (
        pc.if_else(there, _joined(f',"{name}":"', _times(column[name], there), '"'), "") if there.true_count else ""
        for name in ("yes_content_since", "yes_expires_at")
        for there in (pc.and_(said_yes, pc.not_equal(column[name], NONE)),)
    )
    accepted = pc.if_else(column["yes_accepted"], "1", "0")
    yes = _joined(
        ',"yes_accepted":', accepted, ',"yes_at":"', _times(column["yes_at"], said_yes),
        '","yes_basis":"', _named(column["yes_basis"], BASES), '"', since, expires,
        ',"yes_position":', column["yes_position"].cast(pa.string()),
    )  # fmt: skip
    finer = pc.not_equal(column["scope"], 0)
    return _joined(
        "{", pc.if_else(said_no, no, ""), scope, pc.if_else(finer, item, ""), pc.if_else(said_yes, yes, ""), "}",
    )  # fmt: skip


def _joined(*parts: Any) -> Any:
    return pc.binary_join_element_wise(*parts, "")


def _named(codes: Any, names: tuple[str, ...]) -> Any:
    """Empty where there is no such name: that row says nothing of it."""
    return pa.array([*names, *[""] * (256 - len(names))]).take(codes)


def _times(micros: Any, there: Any) -> Any:
    """Any moment where there is none. Days are few, and written once; the digits of what is left are counted out."""
    values = pc.if_else(there, micros, 0).to_numpy(zero_copy_only=False)
    day = values // _DAY
    days = pa.array(day).dictionary_encode()
    dates = "".join(times.text(times.from_micros(day * _DAY))[:_DATE] for day in days.dictionary.to_pylist()).encode()
    written = np.empty((len(values), _TIME), np.uint8)
    written[:, :_DATE] = np.take(np.frombuffer(dates, np.uint8).reshape(-1, _DATE), days.indices.to_numpy(), axis=0)
    written[:, _DATE:] = np.frombuffer(b"00:00:00.000000Z", np.uint8)
    left = values - day * _DAY
    second = left // _SECOND
    parts = (left - second * _SECOND).astype(np.uint32), second.astype(np.uint32)  # narrow: they are divided often
    for at, of_seconds, worth, digit in _DIGITS:
        higher = parts[of_seconds] // np.uint32(worth)
        written[:, at] += (higher - higher // np.uint32(digit) * np.uint32(digit)).astype(np.uint8)
    ends = np.arange(0, _TIME * len(values) + 1, _TIME, dtype=np.int32)
    return pa.StringArray.from_buffers(len(values), pa.py_buffer(ends), pa.py_buffer(written))


def _quoted(text: Any) -> Any:
    """As JSON."""
    plain = _joined('"', text, '"')
    strange = pc.match_substring_regex(text, _ESCAPED)
    if strange.true_count:
        at = pa.array(np.flatnonzero(strange.to_numpy(zero_copy_only=False)))
        written = [json.dumps(value, ensure_ascii=False) for value in text.take(at).to_pylist()]
        plain = pc.replace_with_mask(plain, strange, pa.array(written, plain.type))
    return plain
