"""`INSERT … ON CONFLICT`, which SQLAlchemy spells once for each database."""

from functools import cache
from typing import Protocol

from sqlalchemy import Dialect, Table
from sqlalchemy.dialects import postgresql, sqlite


class HasDialect(Protocol):
    """A connection, or a `Database`."""

    @property
    def dialect(self) -> Dialect: ...


def add_once(on: HasDialect, table: Table, *key: str) -> sqlite.Insert | postgresql.Insert:
    """Return an insert, with the parameters as values, that does nothing if a row with the same key exists."""
    return _add_once(on.dialect.name, table, key)


def put(on: HasDialect, table: Table, *key: str) -> sqlite.Insert | postgresql.Insert:
    """Return an insert, with the parameters as values, that overwrites the row with the same key if one exists."""
    return _put(on.dialect.name, table, key)


# Built once for each table: building a statement takes longer than the database needs for it.
@cache
def _add_once(dialect: str, table: Table, key: tuple[str, ...]) -> sqlite.Insert | postgresql.Insert:
    return _insert_into(dialect, table).on_conflict_do_nothing(index_elements=key)


@cache
def _put(dialect: str, table: Table, key: tuple[str, ...]) -> sqlite.Insert | postgresql.Insert:
    insert = _insert_into(dialect, table)
    values = {column.name: insert.excluded[column.name] for column in table.columns if column.name not in key}
    return insert.on_conflict_do_update(index_elements=key, set_=values)


def _insert_into(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
