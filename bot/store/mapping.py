"""Our frozen dataclasses as rows, and back: columns are named as the fields are, `COLUMNS` aside."""

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from bot.core.model import Card, Run, Watch

Data = TypeVar("Data")

COLUMNS: Mapping[type, Mapping[str, str]] = {
    Run: {
        "last_action": "moved",
        "last_action_by": "moved_by",
        "doubtful_follow_up": "undecided",
        "doubtful_text": "undecided_text",
        "queue_position": "queue_place",
    },
    Card: {
        "ts": "card_ts",
        "version": "card_version",
        "edited_at": "card_at",
        "posts": "cards",
        "gone": "card_gone",
    },
    Watch: {
        "observed_at": "seen_at",
        "ambiguous_since": "unsettled_since",
        "silence_told_at": "stale_at",
    },
}
"""Fields whose columns have kept an earlier name, since a column is not renamed for its looks."""


def to_row(data: Any) -> dict[str, Any]:
    """Return the column values of a dataclass; what it is made of lies flat beside its own."""
    row: dict[str, Any] = {}
    for name, column in columns(type(data)):  # type: ignore[arg-type]  # mypy does not see that a class is hashable
        value = getattr(data, name)
        if column is None:
            row |= to_row(value)
        else:
            row[column] = column_value(value)
    return row


@cache
def columns(kind: type[Any]) -> tuple[tuple[str, str | None], ...]:
    """Return each field with its column; None for a field that is a dataclass of its own."""
    hints, renamed = get_type_hints(kind), COLUMNS.get(kind, {})
    return tuple(
        (field.name, None if is_dataclass(hints[field.name]) else renamed.get(field.name, field.name))
        for field in fields(kind)
    )


def column_value(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return list(value)
    return value


def from_row(kind: type[Data], row: Mapping[Any, Any]) -> Data:
    """Build a dataclass from its columns; a field whose column the row lacks keeps its default."""
    # To ask a database's row for one column after the other takes several times as long as to go through it.
    return built(kind, dict(zip(row.keys(), row.values(), strict=True)))


def built(kind: type[Data], row: Mapping[str, Any]) -> Data:
    given: dict[str, Any] = {}
    for name, column, read in readers(kind):  # type: ignore[arg-type]  # as above
        if column is None:
            given[name] = built(read, row)
        elif column in row:
            value = row[column]
            given[name] = value if read is None or value is None else read(value)
    return kind(**given)


@cache
def readers(kind: type[Any]) -> tuple[tuple[str, str | None, Any], ...]:
    """Return each field with its column and what reads it: None where the column is the field itself."""
    hints = get_type_hints(kind)
    return tuple((name, column, reader(hints[name])) for name, column in columns(kind))  # type: ignore[arg-type]  # as above


def reader(hint: Any) -> Any:
    """Choose how a column becomes a field: enums, tuples and parts need a hand, everything else is itself."""
    if get_origin(hint) in (Union, types.UnionType):
        [hint] = [one for one in get_args(hint) if one is not type(None)]
    if get_origin(hint) is tuple:
        return tuple
    return hint if isinstance(hint, type) and (issubclass(hint, Enum) or is_dataclass(hint)) else None
