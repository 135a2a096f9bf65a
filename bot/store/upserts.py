"""`INSERT … ON CONFLICT`, which SQLAlchemy spells once for each database."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import Dialect, Table
from sqlalchemy.dialects import postgresql, sqlite


class HasDialect(Protocol):
    """A connection, or a `Database`."""

    @property
    def dialect(self) -> Dialect: ...


def insert_into(on: HasDialect, table: Table) -> sqlite.Insert | postgresql.Insert:
    return postgresql.insert(table) if on.dialect.name == "postgresql" else sqlite.insert(table)


def add_once(
    on: HasDialect, table: Table, key: Sequence[str], values: Mapping[str, Any]
) -> sqlite.Insert | postgresql.Insert:
    """Add a row, unless one with the same key is there."""
    return insert_into(on, table).values(**values).on_conflict_do_nothing(index_elements=key)


def put(
    on: HasDialect, table: Table, key: Mapping[str, Any], values: Mapping[str, Any]
) -> sqlite.Insert | postgresql.Insert:
    """Add a row, or give these values to the one with the same key."""
    return (
        insert_into(on, table)
        .values(**key, **values)
        .on_conflict_do_update(index_elements=list(key), set_=dict(values))
    )
