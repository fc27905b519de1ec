"""The log's tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "entries",
        sa.Column("position", _BIG, primary_key=True, autoincrement=False),
        sa.Column("entry", sa.LargeBinary, nullable=False),
        sa.Column("tag", sa.LargeBinary),
        sa.Column("body", sa.LargeBinary),
    )
    op.create_table(
        "openings",
        sa.Column("position", _BIG, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.Column("canonical", sa.LargeBinary, nullable=False),
        sa.Column("event_id", sa.Text, unique=True),
        sa.Column("subject_id", sa.Text),
        sa.Column("state", sa.Text),
        sa.Column("act", sa.Text),
        sa.Column("lookalike", sa.Text),
        sa.Column("recorded_at", _BIG, nullable=False),
    )
    for column in ("subject_id", "act", "lookalike"):
        op.create_index(f"ix_openings_{column}", "openings", [column])
    op.create_table(
        "tiles",
        sa.Column("level", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("index", _BIG, primary_key=True, autoincrement=False),
        sa.Column("hashes", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "checkpoints",
        sa.Column("size", _BIG, primary_key=True, autoincrement=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("recorded_at", _BIG, nullable=False),
    )
    op.create_table(
        "head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("note", sa.Text, nullable=False),
    )
    op.create_table(
        "notices",
        sa.Column("sha256", sa.Text, primary_key=True),
        sa.Column("text", sa.LargeBinary, nullable=False),
    )
