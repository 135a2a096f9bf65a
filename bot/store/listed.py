"""`IN` a list: one SQL text however long the list is.

An expanded list is another text at each length. Drivers keep every text they were given with all that was prepared for
it, so lists that grow with a backlog take more and more memory.
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
    """Select the texts in a parameter that is given as `as_list` has it: `column.in_(listed("ids"))`."""
    return select(Items(bindparam(parameter, type_=String)).table_valued("value").c.value)


def as_list(values: Iterable[str]) -> str:
    """Write a list down as the value of a parameter."""
    return json.dumps([*values])
