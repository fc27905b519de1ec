"""What stays of those who were erased: the acts by their tags, the tags of their event ids, their leaves in sets of subjects."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def position(name: str = "position") -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False)


def upgrade() -> None:
    op.create_table("erasures", position(), sa.Column("tag", sa.LargeBinary, nullable=False, index=True))
    op.create_table(
        "tombstones",
        position(),
        sa.Column("event_tag", sa.LargeBinary, nullable=False, index=True),
        sa.Column("act", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "leaves",
        position("snapshot"),
        sa.Column("leaf_index", sa.LargeBinary, primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
    )
