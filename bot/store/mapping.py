"""Maps our frozen dataclasses to rows and back. Columns are named like their fields, except those in `COLUMNS`."""

import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache, partial
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
"""Fields whose columns keep an earlier name: a nicer name is no reason to migrate a column."""


def to_row(data: Any) -> dict[str, Any]:
    """Return the column values of a dataclass; those of nested dataclasses lie flat beside its own."""
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
        return [to_row(one) if is_dataclass(one) else one for one in value]
    return value


def from_row(kind: type[Data], row: Mapping[Any, Any]) -> Data:
    """Build a dataclass from its columns; a field whose column the row lacks keeps its default."""
    # Asking a database's row for one column after the other takes several times as long as iterating over it.
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


def misfits(kind: type[Any], row: Mapping[Any, Any]) -> list[str]:
    """Return the columns whose values are unknown words: of a later version, since this one wrote none of them."""
    found: list[str] = []
    for _, column, read in readers(kind):  # type: ignore[arg-type]  # as above
        if column is None:
            found += misfits(read, row)
        elif (
            isinstance(read, type)
            and issubclass(read, Enum)
            and row[column] not in {None, *(one.value for one in read)}
        ):
            found.append(column)
    return found


@cache
def readers(kind: type[Any]) -> tuple[tuple[str, str | None, Any], ...]:
    """Return each field with its column and its reader; no reader if the column's value is the field's."""
    hints = get_type_hints(kind)
    return tuple((name, column, reader(hints[name])) for name, column in columns(kind))  # type: ignore[arg-type]  # as above


def reader(hint: Any) -> Any:
    """Return what makes a field of a column: of enums, tuples and nested dataclasses; None for all else."""
    if get_origin(hint) in (Union, types.UnionType):
        [hint] = [one for one in get_args(hint) if one is not type(None)]
    if get_origin(hint) is tuple:
        [one, *_] = get_args(hint)
        return partial(several, one) if isinstance(one, type) and is_dataclass(one) else tuple
    return hint if isinstance(hint, type) and (issubclass(hint, Enum) or is_dataclass(hint)) else None


def several(kind: type[Data], rows: Sequence[Mapping[str, Any]]) -> tuple[Data, ...]:
    """Build dataclasses from a list of their columns."""
    return tuple(from_row(kind, row) for row in rows)
