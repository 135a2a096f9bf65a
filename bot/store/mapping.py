"""Our frozen dataclasses as rows, and back: fields and columns have the same names."""

import types
from collections.abc import Mapping
from dataclasses import fields
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

Data = TypeVar("Data")


def to_row(data: Any) -> dict[str, Any]:
    """Give the column values of a dataclass."""
    return {field.name: column_value(getattr(data, field.name)) for field in fields(data)}


def column_value(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return list(value)
    return value


def from_row(kind: type[Data], row: Mapping[Any, Any]) -> Data:
    """Build a dataclass from the columns of its name; a field the row lacks keeps its default."""
    readers = field_readers(kind)  # type: ignore[arg-type]  # mypy does not see that a class is hashable
    return kind(**{name: read(row[name]) for name, read in readers.items() if name in row})


@cache
def field_readers(kind: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: reader(hints[field.name]) for field in fields(kind)}


def reader(hint: Any) -> Any:
    """Choose how a column becomes a field: enums and tuples need a hand, everything else is itself."""
    if get_origin(hint) in (Union, types.UnionType):
        [inner] = [one for one in get_args(hint) if one is not type(None)]
        read = reader(inner)
        return lambda value: None if value is None else read(value)
    if get_origin(hint) is tuple:
        return tuple
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint
    return lambda value: value
