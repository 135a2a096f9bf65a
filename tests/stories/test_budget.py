"""Slack's budget: who goes first when there is not enough for all, and whom a limit does not concern."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime

from bot.simulator.openhands import Conversation
from bot.simulator.slack.records import Message
from tests.conftest import PACE, Make, Story
from tests.stories.shared import working

PLACES = ("#one", "#two", "#three", "#four", "#five", "#six")
RUNS = 30
STEP_S = 2.0
"""Every two seconds another run asks or ends, so each one does in every minute."""
PROMPT_S = 2.0


def too_fast(world: Story) -> list[str]:
    """Return the calls for which Slack had to name a limit."""
    return [call.method for call in world.slack.calls if call.error == "ratelimited"]


# --- many runs, and all of them move ----------------------------------------------------------------------------


class Crowd:
    """Thirty runs at work in six channels, and when what each said became known."""

    def __init__(self, world: Story) -> None:
        self.world = world
        self.known: dict[tuple[str, str], datetime] = {}
        """(task, the agent's words) → when they were committed."""

    async def gathers(self) -> None:
        for place in PLACES:
            self.world.channel(place, self.world.alice)
        for number in range(RUNS):
            place = self.world.place(PLACES[number % len(PLACES)])
            await self.world.slack.command(self.world.alice.id, place, f"fix part {number} in org/repo")
        await self.world.passes(20)

    @property
    def cards(self) -> dict[str, Message]:
        """Return the cards by their tasks."""
        return {card.text.split("\n")[1]: card for place in PLACES for card in self.world.cards(place)}

    @property
    def conversations(self) -> dict[str, Conversation]:
        return {one.messages[0]: one for one in self.world.openhands.conversations.values()}

    async def asks(self) -> None:
        """Have each run ask, one after the other, go on half a minute later, and show what it does meanwhile."""
        tasks, openhands = list(self.cards), self.world.openhands
        for number, task in enumerate(tasks):
            openhands.ask(self.conversations[task], "Which one?")
            if number >= RUNS // 2:
                await self._answered(tasks[number - RUNS // 2])
            else:
                openhands.progress(self.conversations[tasks[number + RUNS // 2]], f"Reading file {number}")
            await self._goes_by()

    async def ends(self) -> None:
        """Have each run end, one after the other; those that still wait for an answer get it before."""
        tasks = list(self.cards)
        for number, task in enumerate(tasks):
            self.world.openhands.finish(self.conversations[task], "Fixed.")
            if number < RUNS // 2:
                await self._answered(tasks[number + RUNS // 2])
            await self._goes_by()
        await self.world.passes(5)

    async def _answered(self, task: str) -> None:
        card = self.cards[task]
        await self.world.slack.say(self.world.alice.id, card.channel, "the first", thread_ts=card.ts)

    async def _goes_by(self) -> None:
        await self.world.passes(STEP_S)
        with closing(sqlite3.connect(self.world.database)) as file:
            rows = file.execute("SELECT task, answer, news_at FROM runs WHERE state IN ('waiting', 'done')").fetchall()
        for task, answer, at in rows:
            self.known.setdefault((task, answer), datetime.fromisoformat(at).replace(tzinfo=UTC))

    def told_s(self) -> list[float]:
        """Return the seconds from each commit to the message in the thread."""
        cards, messages = self.cards, self.world.slack.messages
        return [
            min(
                (one.posted_at - at).total_seconds()
                for one in messages(cards[task].channel, thread_ts=cards[task].ts)[1:]
                if answer in one.text
            )
            for (task, answer), at in self.known.items()
        ]

    def shown_s(self) -> list[float]:
        """Return the seconds from each commit to the edit of the card."""
        cards = self.cards
        edits = [call for call in self.world.slack.calls if call.method == "chat.update" and call.ok]
        return [
            min(
                (edit.at - at).total_seconds()
                for edit in edits
                if (edit.args["channel"], edit.args["ts"]) == (cards[task].channel, cards[task].ts)
                and answer in edit.args["text"]
            )
            for (task, answer), at in self.known.items()
        ]


async def test_with_thirty_runs_at_work_news_is_told_at_once(make_world: Make) -> None:
    """Each asks in one minute and ends in the next: message and card follow within two seconds, and no limit is met."""
    world = await make_world(patience=PACE, max_concurrent_runs=RUNS)
    crowd = Crowd(world)
    await crowd.gathers()
    await crowd.asks()
    await crowd.ends()

    assert len(crowd.known) == 2 * RUNS
    late = [seconds for seconds in (*crowd.told_s(), *crowd.shown_s()) if seconds > PROMPT_S]
    assert late == []
    assert too_fast(world) == []
    told = [f"{place}: {state}" for place in PLACES for state in ("💬 Has a question", "✅ Done")]
    world.leaves(*told * (RUNS // len(PLACES)))


# --- who waits for whom -----------------------------------------------------------------------------------------


async def test_a_limit_in_one_channel_holds_up_no_other(world: Story) -> None:
    """Slack refuses posts in one channel for half a minute: elsewhere the end is told at once."""
    world.channel("#ops", world.bob)
    await working(world)
    await world.bob.commands("fix LICENSE in org/repo", in_="#ops")
    await world.passes(4)
    world.slack.fail("chat.postMessage", status=429, retry_after=30, channel=world.place("#ops"))
    world.openhands.finish(world.openhands.find("fix LICENSE"), "Fixed it.")
    world.openhands.finish(world.openhands.find("fix README"), "Fixed two links.")
    await world.passes(5)
    assert (world.news("#ops"), len(world.news()), len(world.news("#news"))) == ([], 1, 2)

    await world.passes(30)
    assert world.news("#ops") == [f"<@{world.bob.id}> ✅ Done\nFixed it."]
    assert too_fast(world) == []  # what the fault answered is no limit that was met
    world.leaves("#dev: card ✅ Done", "#ops: card ✅ Done")


async def test_reactions_that_are_too_old_take_no_place_from_new_ones(world: Story) -> None:
    """More reactions than Slack takes in a minute have become too old: who asks now is answered at once all the same."""
    for place in PLACES:
        world.channel(place, world.alice)
    world.slack.fail("reactions.add", status=429, retry_after=400)
    old = [await world.alice.says("@OpenHands fix README", in_=PLACES[number % len(PLACES)]) for number in range(60)]
    await world.passes(402)

    new = await world.alice.says("@OpenHands fix LICENSE", in_="#dev")
    await world.passes(2)
    assert world.reactions(new) == ["eyes"]
    assert {tuple(world.reactions(one)) for one in old} == {()}
    with closing(sqlite3.connect(world.database)) as file:
        owed = "SELECT count(*) FROM outbox WHERE kind = 'react' AND done_at IS NULL"
        assert file.execute(owed).fetchall() == [(0,)]
    asks = [card for place in {"#dev", *PLACES} for card in world.cards(place)]
    assert len(asks) == 61


def live_edits_used_up(world: Story) -> None:
    """Take every place that live cards have in this minute."""
    assert world.bot.sender is not None
    budget = world.bot.sender._ctx.gateway.budget
    while budget.admit_live_edit(0, world.clock.now()) is None:
        pass


async def test_the_end_shows_on_a_card_whose_last_progress_still_waits(world: Story) -> None:
    """Edits of live cards are used up: the card that waits for its turn is edited at once when its run ends."""
    await working(world)
    live_edits_used_up(world)
    world.openhands.progress(world.conversation, "Reading the README")
    await world.passes(20)
    assert "Reading the README" not in world.card()

    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(4)
    assert world.card().state == "Done"
    world.leaves("#dev: ✅ Done")


async def test_a_final_state_follows_an_edit_within_a_second(world: Story) -> None:
    """Three seconds lie between two edits of a card, but its end does not wait for them."""
    await working(world)
    world.openhands.progress(world.conversation, "Reading the README")
    await world.passes(4)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(2)
    assert world.card().state == "Done"
    world.leaves("#dev: ✅ Done")
