"""The first schema.

On PostgreSQL texts are collated by their bytes, so that no update of a system's library makes an index miss what it holds; and
the index over `lookalike` is of hashes, as folding case can make an id longer than a B-tree takes.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


TEXT = sa.String().with_variant(sa.Text(collation="C"), "postgresql")


def position() -> sa.Column[int]:
    return sa.Column("position", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False)


def upgrade() -> None:
    op.create_table(
        "entries",
        position(),
        sa.Column("entry", sa.LargeBinary, nullable=False),
        sa.Column("tag", sa.LargeBinary),
        sa.Column("body", sa.LargeBinary),
    )
    op.create_table(
        "openings",
        position(),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.Column("canonical", sa.LargeBinary, nullable=False),
        sa.Column("act", TEXT, index=True),
        sa.Column("event_id", TEXT, unique=True),
        sa.Column("subject_id", TEXT, index=True),
        sa.Column("lookalike", TEXT),
        sa.Column("state", TEXT),
        sa.Column("category", TEXT),
        sa.Column("content_id", TEXT),
    )
    op.create_index("ix_openings_lookalike", "openings", ["lookalike"], postgresql_using="hash")
    op.create_table(
        "tiles",
        sa.Column("level", sa.Integer, primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True),
        sa.Column("hashes", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "checkpoints",
        sa.Column("size", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
        sa.Column("note", TEXT, nullable=False),
        sa.Column("recorded_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "head", sa.Column("id", sa.Integer, primary_key=True, autoincrement=False), sa.Column("note", TEXT, nullable=False)
    )
    op.create_table("notices", sa.Column("sha256", TEXT, primary_key=True), sa.Column("text", sa.LargeBinary, nullable=False))
