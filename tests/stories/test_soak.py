"""Weeks of requests: nothing that the bot keeps in memory grows with them.

Equal loads follow each other, hours apart. What is bounded by time or number is as large after the third as after the
second; what is not has grown by as much again. `SOAK_REQUESTS` makes each load larger.
"""

import gc
import os
import sys
from asyncio import AbstractEventLoop
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from types import BuiltinFunctionType, CellType, CoroutineType, FrameType, FunctionType, ModuleType
from typing import Any

from bot.simulator.openhands import Conversation, LocalOpenHands
from bot.simulator.slack import LocalSlack
from bot.simulator.world import Said
from tests.conftest import HURRY, HandClock, Make, Story

REQUESTS = int(os.environ.get("SOAK_REQUESTS") or 8)
PATIENCE = replace(HURRY, poll_s=10.0, look_around_s=1200.0, heard_mark_s=1200.0, keep_keys_s=3600.0)
REST_S = 2.5 * 3600
"""Longer than anything is remembered for its age alone."""
ELSEWHERE = (AbstractEventLoop, ModuleType, type, BuiltinFunctionType, LocalSlack, LocalOpenHands, HandClock, Story)
"""What the bot does not own, though it can reach it."""
SIZED = (dict, list, set, deque)


def sizes(bot: object) -> Counter[str]:
    """Return how much is in all containers of the bot and its modules, by who holds them under which name.

    Those that only the C code of libraries holds are left out: buffers, which come and go.
    """
    found, seen, to_do = Counter[str](), set[int](), deque([("", bot), *module_variables()])
    while to_do:
        name, one = to_do.popleft()
        if id(one) in seen or issubclass(type(one), ELSEWHERE) or is_module(one):
            continue
        seen.add(id(one))
        if isinstance(one, SIZED):
            found[name] += len(one)
        to_do.extend(parts(name, one))
    del found[""]
    return found


def module_variables() -> Iterator[tuple[str, Any]]:
    for name, module in sys.modules.items():
        if name.startswith("bot.") and not name.startswith("bot.simulator"):
            yield from ((f"{name}.{variable}", held) for variable, held in vars(module).items())


def is_module(held: object) -> bool:
    """Return whether it is the dictionary of a module."""
    return isinstance(held, dict) and "__loader__" in held


def parts(name: str, one: Any) -> Iterator[tuple[str, Any]]:
    """Yield what an object holds, each with a name; "" if it has none."""
    if isinstance(one, (*SIZED, tuple, frozenset)):
        yield from ((name, held) for held in gc.get_referents(one))
        return
    kind = type(one).__name__
    if isinstance(one, FunctionType):  # not its module, with all that was ever imported there
        yield from ((kind, held) for held in (one.__closure__, one.__defaults__, one.__kwdefaults__))
        return
    ours = type(one).__module__.startswith("bot.")
    slots = [slot for base in type(one).__mro__ for slot in getattr(base, "__slots__", ())] if ours else []
    named = getattr(one, "__dict__", {}) | {slot: getattr(one, slot) for slot in slots if hasattr(one, slot)}
    yield from ((f"{kind}.{attribute}", held) for attribute, held in named.items())
    of_code = isinstance(one, CoroutineType | FrameType | CellType)
    yield from ((kind if of_code else "", held) for held in gc.get_referents(one))


def grown(*sizes: Mapping[str, int]) -> dict[str, int]:
    """Return what became larger by a good part of a load each time."""
    first, *_, last = sizes
    return {
        name: last[name] - first[name]
        for name in last
        if all(after[name] - before[name] > REQUESTS * 0.7 for before, after in pairwise(sizes))
    }


async def load(world: Story, number: int) -> Counter[str]:
    """Have as many people as there are requests each ask in a place of their own, every other twice; return sizes."""
    asked = list[Said]()
    for one in range(REQUESTS):
        person = world.person(f"person{number}.{one}")
        place = f"#place{number}-{one}"
        world.channel(place, person)
        asked.append(await person.says(f"@OpenHands fix {number}.{one} in org/repo{number}-{one}", in_=place))
        await world.passes(3)
        if one % 2:
            await person.says("and the docs", thread=asked[-1])
    await world.passes(REST_S)
    gc.collect()
    return sizes(world.bot)


async def test_nothing_in_memory_grows_with_what_was_done(make_world: Make) -> None:
    """People, places, repositories, conversations, runs, requests, replies: each load is forgotten as the one before."""

    async def finish(c: Conversation, _text: str) -> None:
        world.openhands.finish(c, "Did that.")

    world = await make_world(
        patience=PATIENCE, notify_channel="#news", openhands={"agent": finish, "rate_limit": False}
    )
    found = [await load(world, number) for number in range(3)]
    assert len(world.openhands.conversations) == 3 * REQUESTS
    assert found[0]["Gateway._people"] >= REQUESTS  # it is found by name, and not empty
    assert grown(*found) == {}
    world.looked_at_everything()


def test_what_grows_is_named() -> None:
    """A map that is never emptied is named by who holds it, wherever in the bot that is."""

    class Holder:
        def __init__(self) -> None:
            self.known = dict[int, list[int]]()

    class Owner:
        def __init__(self) -> None:
            self._holders = (Holder(),)

    owner = Owner()
    before = sizes(owner)
    owner._holders[0].known.update((number, []) for number in range(REQUESTS))
    assert grown(before, sizes(owner)) == {"Holder.known": REQUESTS}
    assert grown(before, sizes(owner), sizes(owner)) == {}  # it holds no more than after the first
