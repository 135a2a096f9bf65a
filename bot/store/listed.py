"""`IN` with a list as one parameter: the same SQL text however long the list is.

An expanded list makes a different text for each length. Drivers cache every text with its prepared statement, so lists
that grow with a backlog would take more and more memory.
"""

import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Select, String, bindparam, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class Items(FunctionElement[str]):
    """The items of a JSON list, as a table with one column."""

    name = "items"
    inherit_cache = True


@compiles(Items)
def _of_sqlite(items: Items, compiler: Any, **about: Any) -> str:
    return f"json_each({compiler.process(items.clauses, **about)})"


@compiles(Items, "postgresql")
def _of_postgres(items: Items, compiler: Any, **about: Any) -> str:
    return f"json_array_elements_text(CAST({compiler.process(items.clauses, **about)} AS json))"


def listed(parameter: str) -> Select[Any]:
    """Return a select of the texts in a parameter encoded by `as_list`: `column.in_(listed("ids"))`."""
    return select(Items(bindparam(parameter, type_=String)).table_valued("value").c.value)


def as_list(values: Iterable[str]) -> str:
    """Encode a list as the value of such a parameter."""
    return json.dumps([*values])
