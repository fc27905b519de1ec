"""The tables. `entries` and `tiles` are the log; `openings` is what its entries commit to; the rest is derived or signed.

Columns beside `canonical` are an index over it: fsck checks them, and nothing trusts them to decide. It is the migrations that
make the tables: of indexes, and of what may be NULL, they alone tell.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, Integer, LargeBinary, String

_all = sa.MetaData()


def _table(name: str, key: Collection[str], **columns: Any) -> sa.Table:
    return sa.Table(name, _all, *(Column(n, kind, primary_key=n in key, autoincrement=False) for n, kind in columns.items()))


entries = _table("entries", ["position"], position=BigInteger, entry=LargeBinary, tag=LargeBinary, body=LargeBinary)
"""One leaf of the log each. tag and body are those of an event, NULL for another act."""

openings = _table(
    "openings",
    ["position"],
    position=BigInteger,
    salt=LargeBinary,
    canonical=LargeBinary,
    act=String,
    event_id=String,
    subject_id=String,
    lookalike=String,
    state=String,
    category=String,
    content_id=String,
)
"""What an entry commits to: its salt and canonical bytes. Erasing a person deletes these rows."""

tiles = _table("tiles", ["level", "number"], level=Integer, number=BigInteger, hashes=LargeBinary)
"""C2SP tlog-tiles: up to 256 hashes of 32 bytes."""

checkpoints = _table("checkpoints", ["size"], size=BigInteger, note=String, recorded_at=BigInteger)
"""Every checkpoint that was signed, one a transaction. recorded_at: microseconds, of all of its entries."""

head = _table("head", ["id"], id=Integer, note=String)
"""The one row that an append swaps."""

notices = _table("notices", ["sha256"], sha256=String, text=LargeBinary)
"""The texts that people were shown."""

erasures = _table("erasures", ["position"], position=BigInteger, tag=LargeBinary)
"""Where the acts `subject_erased` stand, by the tag that they name."""

tombstones = _table("tombstones", ["position"], position=BigInteger, event_tag=LargeBinary, act=BigInteger)
"""What stays of an erased event, besides its entry: the keyed tag of its event id, and which act erased it."""

leaves = _table("leaves", ["snapshot", "leaf_index"], snapshot=BigInteger, leaf_index=LargeBinary, value=LargeBinary)
"""What stays of an erased person in the set of a snapshot's subjects: two hashes, without which nobody else's place in it
could be proven any more. snapshot: the position of its act."""
