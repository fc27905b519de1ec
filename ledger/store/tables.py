"""The tables. `entries` and `tiles` are the log; `openings` is what its entries commit to; the rest is derived or signed.

Columns beside `canonical` are an index over it: fsck checks them, and nothing trusts them to decide.
"""

from __future__ import annotations

from sqlmodel import BigInteger, Field, SQLModel


class Entry(SQLModel, table=True):
    """One leaf of the log. tag and body are those of an event, NULL for another act."""

    __tablename__ = "entries"
    position: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    entry: bytes
    tag: bytes | None = None
    body: bytes | None = None


class Opening(SQLModel, table=True):
    """What an entry commits to: its salt and canonical bytes. Erasing a person deletes these rows."""

    __tablename__ = "openings"
    position: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    salt: bytes
    canonical: bytes
    act: str | None = Field(default=None, index=True)
    event_id: str | None = Field(default=None, unique=True)
    subject_id: str | None = Field(default=None, index=True)
    lookalike: str | None = Field(default=None, index=True)
    state: str | None = None
    category: str | None = None
    content_id: str | None = None


class Tile(SQLModel, table=True):
    """C2SP tlog-tiles: up to 256 hashes of 32 bytes."""

    __tablename__ = "tiles"
    level: int = Field(primary_key=True)
    number: int = Field(primary_key=True, sa_type=BigInteger)
    hashes: bytes


class CheckpointRow(SQLModel, table=True):
    """Every checkpoint that was signed, one a transaction. recorded_at: microseconds, of all of its entries."""

    __tablename__ = "checkpoints"
    size: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    note: str
    recorded_at: int = Field(sa_type=BigInteger)


class Head(SQLModel, table=True):
    """The one row that an append swaps."""

    __tablename__ = "head"
    id: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    note: str


class Notice(SQLModel, table=True):
    """The texts that people were shown."""

    __tablename__ = "notices"
    sha256: str = Field(primary_key=True)
    text: bytes


class Erasure(SQLModel, table=True):
    """Where the acts `subject_erased` stand, by the tag that they name."""

    __tablename__ = "erasures"
    position: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    tag: bytes = Field(index=True)


class Tombstone(SQLModel, table=True):
    """What stays of an erased event, besides its entry: the keyed tag of its event id, and which act erased it."""

    __tablename__ = "tombstones"
    position: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    event_tag: bytes = Field(index=True)
    act: int = Field(sa_type=BigInteger)


class Leaf(SQLModel, table=True):
    """What stays of an erased person in the set of a snapshot's subjects: two hashes, without which nobody else's place in it
    could be proven any more. snapshot: the position of its act."""

    __tablename__ = "leaves"
    snapshot: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    leaf_index: bytes = Field(primary_key=True)
    value: bytes
