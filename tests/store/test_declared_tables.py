"""The tables as the code knows them are those that the migrations make."""

from __future__ import annotations

import sqlalchemy as sa

from ledger import Ledger
from ledger.store import tables

TABLES = tables.SQLModel.metadata.tables
KINDS = (sa.LargeBinary, sa.Integer, sa.String)  # a BigInteger is an Integer


def test_their_columns_are_those_of_the_database_in_its_order(book: Ledger) -> None:
    """Rows are inserted by the order of the columns, and looked up by the key. On both databases."""
    with book._engine.connect() as connection:
        there = sa.inspect(connection)
        assert {*there.get_table_names()} == {*TABLES, "alembic_version"}
        for name, table in TABLES.items():
            columns = there.get_columns(name)
            assert [column["name"] for column in columns] == [column.name for column in table.columns], name
            assert [*there.get_pk_constraint(name)["constrained_columns"]] == [column.name for column in table.primary_key], name
            for found, known in zip(columns, table.columns, strict=True):
                assert _kind(found["type"]) is _kind(known.type), (name, known.name)


def _kind(of: sa.types.TypeEngine[object]) -> type:
    of = of.impl if isinstance(of, sa.types.TypeDecorator) else of
    return next(kind for kind in KINDS if isinstance(of, kind) or (kind is sa.LargeBinary and isinstance(of, sa.types._Binary)))
