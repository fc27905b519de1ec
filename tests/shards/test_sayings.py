"""What a snapshot says of many is what it says of each: the root of its subjects, by the tree that is built person by person."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ledger import committing, sayings, times
from ledger.consent import NO
from ledger.log import canonical
from ledger.log.entry import SALT_BYTES
from ledger.snapshot import NONE, SCHEMA, Header, Snapshot
from ledger.statements.decided import BASES

TIMES = st.integers(
    *(times.micros(times.parse(f"{end}Z")) for end in ("0001-01-01T00:00:00.000000", "9999-12-31T23:59:59.999999"))
)
NAMES = st.text(st.characters(exclude_categories=("Cs",)), max_size=6) | st.sampled_from(['"', "\\", "\x00\x1f\x7f\u2028", "ü😀"])


@st.composite
def rows_of_one(draw: st.DrawFn) -> dict[str, Any]:
    scope = draw(st.integers(0, 2))
    no, yes = draw(st.sampled_from([(True, False), (False, True), (True, True)]))
    maybe = st.none() | TIMES
    return {
        "scope": scope,
        "scope_id": draw(NAMES) if scope else "",
        "no_at": draw(TIMES) if no else NONE,
        "no_state": draw(st.integers(0, len(NO) - 1)) if no else 255,
        "no_position": draw(st.integers(0, 2**40)) if no else -1,
        "yes_at": draw(TIMES) if yes else NONE,
        "yes_position": draw(st.integers(0, 2**40)) if yes else -1,
        "yes_accepted": draw(st.booleans()) if yes else False,
        "yes_expires_at": (draw(maybe) if yes else None) or NONE,
        "yes_content_since": (draw(maybe) if yes else None) or NONE,
        "yes_basis": draw(st.integers(0, len(BASES) - 1)) if yes else 255,
    }


PEOPLE = st.dictionaries(NAMES.filter(bool), st.lists(rows_of_one(), min_size=1, max_size=3), max_size=6)


def table(people: dict[str, list[dict[str, Any]]]) -> Any:
    """As a snapshot orders them."""
    rows = [
        {"subject_id": subject_id, **row}
        for subject_id, several in sorted(people.items(), key=lambda item: item[0].encode())
        for row in sorted(
            {(row["scope"], row["scope_id"]): row for row in several}.values(), key=lambda r: (r["scope"], r["scope_id"])
        )
    ]
    return pa.Table.from_pylist(rows, SCHEMA)


@settings(deadline=None)
@given(PEOPLE, st.binary(min_size=32, max_size=32), st.integers(1, 3))
@example({}, bytes(32), 1)
def test_the_root_is_that_of_the_tree(people: dict[str, list[dict[str, Any]]], seed: bytes, together: int) -> None:
    rows = table(people)
    salts = b"".join(number.to_bytes(SALT_BYTES, "big") for number in range(len(people)))
    frozen = Snapshot(Header("o", "p@1", (), "", times.EPOCH, times.EPOCH, {}), "", _rows=rows)
    frozen = replace(frozen, salts=salts)
    held, sayings.BATCH = sayings.BATCH, together
    try:
        root = committing._root(rows, salts, b"k" * 32, seed)
    finally:
        sayings.BATCH = held
    assert root == committing.subjects_tree(frozen, b"k" * 32, seed).root()


@settings(deadline=None)
@given(PEOPLE)
def test_the_bytes_are_canonical(people: dict[str, list[dict[str, Any]]]) -> None:
    said = [text for _, texts in sayings.of_each(table(people)) for text in texts.cast(pa.binary()).to_pylist()]
    assert said == [canonical.encode(one) for _, _, one in committing._people(table(people), bytes(SALT_BYTES * len(people)))]
