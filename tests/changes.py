"""Runs with the fields of their card and watch named beside their own."""

from dataclasses import fields, replace
from typing import Any

from bot.core.model import Card, Run, Watch

OF_CARD = {"card_version": "version"} | {field.name: field.name for field in fields(Card) if field.name != "version"}
OF_WATCH = {field.name: field.name for field in fields(Watch)}


def changed(run: Run, **given: Any) -> Run:
    """Return a changed run. Takes fields of its card and watch beside its own, the card's version as `card_version`."""
    card = {OF_CARD[name]: value for name, value in given.items() if name in OF_CARD}
    watch = {OF_WATCH[name]: value for name, value in given.items() if name in OF_WATCH}
    own = {name: value for name, value in given.items() if name not in OF_CARD.keys() | OF_WATCH.keys()}
    return replace(run, card=replace(run.card, **card), watch=replace(run.watch, **watch), **own)


def flat(run: Run) -> dict[str, Any]:
    """Return all values of a run, its card and its watch, under the names that `changed` takes."""
    own = {field.name: getattr(run, field.name) for field in fields(Run) if field.name not in ("card", "watch")}
    card = {name: getattr(run.card, field) for name, field in OF_CARD.items()}
    return own | card | {name: getattr(run.watch, name) for name in OF_WATCH}
