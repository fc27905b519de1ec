"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


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
        sa.Column("act", sa.String, index=True),
        sa.Column("event_id", sa.String, unique=True),
        sa.Column("subject_id", sa.String, index=True),
        sa.Column("lookalike", sa.String, index=True),
        sa.Column("state", sa.String),
        sa.Column("category", sa.String),
        sa.Column("content_id", sa.String),
    )
    op.create_table(
        "tiles",
        sa.Column("level", sa.Integer, primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True),
        sa.Column("hashes", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "checkpoints",
        sa.Column("size", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
        sa.Column("note", sa.String, nullable=False),
        sa.Column("recorded_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "head", sa.Column("id", sa.Integer, primary_key=True, autoincrement=False), sa.Column("note", sa.String, nullable=False)
    )
    op.create_table(
        "notices", sa.Column("sha256", sa.String, primary_key=True), sa.Column("text", sa.LargeBinary, nullable=False)
    )
