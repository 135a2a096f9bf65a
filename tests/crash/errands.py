"""People who give an agent a task, see it through to its end, and remember what they did."""

from collections.abc import Callable
from dataclasses import dataclass, field

from bot.simulator.openhands import Conversation
from bot.simulator.slack.records import Command, Delivery, Message
from tests.conftest import read_card
from tests.crash.town import TEAM, Kind, Town, conversations_of, done, said, the_rest
from tests.watch import is_card

CLICK_AGAIN_S = 1.0
"""After Slack says that a click did not arrive, people first check whether it did anyway."""
CARRIED = "An earlier attempt came to nothing. Since then people added:"
"""How a new attempt introduces what was said to the one before."""
NOT_TAKEN = "OpenHands did not take your decision"
STARTED_PERHAPS = "I can't find out whether the task started"


def heard(conversation: Conversation) -> list[str]:
    """Return each message an agent was told, including those its first message carried over."""
    texts = map(said, conversation.messages)
    parts = (part for text in texts for part in (text.split("\n\n") if CARRIED in text else [text]))
    return [part for part in parts if part != CARRIED]


@dataclass(frozen=True)
class Reply:
    text: str
    ts: str


@dataclass
class Errand:
    """One task that a person gives, and everything they say and click until it is done."""

    town: Town
    number: int
    kind: Kind
    place: str
    typed: bool
    """The task is a slash command; else a mention or a direct message."""
    command: Command | None = None
    ts: str = ""
    replies: list[Reply] = field(default_factory=list)
    clicks: list[tuple[str, Delivery]] = field(default_factory=list)
    attempts: int = 1
    """How many conversations it may have; each Retry adds one."""
    over: bool = False
    _card: tuple[str, str] | None = None
    _decided: set[str] = field(default_factory=set)

    @property
    def task(self) -> str:
        return f"errand {self.number:03} {self.kind}"

    @property
    def channel(self) -> str:
        return self.town.place(self.place)

    # --- what they see ------------------------------------------------------------------------------------------

    @property
    def card(self) -> Message | None:
        """The current version of the card; None before it is there."""
        if self._card is None:
            found = self.cards()
            if not found:
                return None
            self._card = found[0].channel, found[0].ts
        return self.town.world.slack.message(*self._card)

    def cards(self) -> list[Message]:
        """Return every card of this task."""
        return [one for one in self.town.world.posts(self.channel) if is_card(one) and read_card(one).task == self.task]

    @property
    def state(self) -> str:
        card = self.card
        if card is None:
            return ""
        return "Perhaps started" if STARTED_PERHAPS in card.text else read_card(card).state

    @property
    def root(self) -> str | None:
        """The root of its thread: the person's message, or the card if the task was a command."""
        if self.ts:
            return self.ts
        return self.card.ts if self.card else None

    def news(self) -> list[Message]:
        """Return what the bot wrote in the thread, except the card."""
        return [one for one in self.town.world.posts(self.channel, thread=self.root) if not is_card(one)]

    def team_lines(self) -> list[str]:
        """Return the team's lines that link to the card; for private places they never have the task."""
        if (card := self.card) is None:
            return []
        page = f"/archives/{card.channel}/p{card.ts.replace('.', '')}"
        return [one.text for one in self.town.world.posts(TEAM) if page in one.text]

    def offers(self, action: str) -> bool:
        card = self.card
        elements = [one for block in card.blocks for one in block.get("elements", ())] if card else []
        return any(one.get("action_id") == action for one in elements)

    @property
    def conversations(self) -> list[Conversation]:
        return conversations_of(self.town.world.openhands, self.task)

    @property
    def promised(self) -> bool:
        """Whether it must come to an end.

        Slack says at once if a command was not accepted. If the bot stored it anyway, it counts once something shows.
        """
        return self.command is None or bool(self.command.acked) or bool(self.card or self.conversations)

    # --- what they do -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Do everything the person does, until the end is told."""
        await self._ask()
        match self.kind:
            case Kind.PLAIN:
                pass
            case Kind.CHAT:
                await self._reply()
                await self._reply()
            case Kind.ASKS:
                await self._sees("Has a question")
                await self._reply()
            case Kind.APPROVED:
                await self._clicks("approve", "Needs approval")
            case Kind.REJECTED:
                await self._clicks("reject", "Needs approval")
                await self._sees("Paused")
                await self._reply()
            case Kind.STOPPED:
                await self._clicks("stop", "Working")
            case Kind.RESUMED:
                await self._clicks("stop", "Working")
                await self._clicks("resume", "Stopped")
            case Kind.RETRIED:
                await self._clicks("stop", "Working")
                await self._clicks("retry", "Stopped")
            case Kind.FAILS_RESUMED:
                await self._clicks("resume", "Failed")
            case Kind.FAILS_RETRIED:
                await self._clicks("retry", "Failed")
            case Kind.FAILS_REPLIED:
                await self._sees("Failed")
                await self._reply()
            case Kind.WHOLE:
                await self._sees("Working")
                await self._reply()
                await self._sees("Has a question")
                await self._reply()
            case Kind.GATED:
                await self._clicks("approve", "Needs approval")
                await self._clicks("stop", "Working")
        await self._sees(self.last_state)
        await self._until(self.told)
        self.over = True

    @property
    def last_state(self) -> str:
        return "Stopped" if self.kind in {Kind.STOPPED, Kind.GATED} else "Done"

    @property
    def last_words(self) -> str:
        """What the end must say: the agent's words about the last message, or that it was stopped."""
        if self.last_state == "Stopped":
            return "Stopped"
        if carrying := [text for c in self.conversations for text in c.messages[-1:] if CARRIED in text]:
            return done(said(carrying[-1]))
        if self.replies:
            return done(self.replies[-1].text)
        goes_on = self.kind in {Kind.APPROVED, Kind.RESUMED, Kind.FAILS_RESUMED}
        return done(the_rest(self.task) if goes_on else self.task)

    def told(self) -> bool:
        """Return whether the end is on the card and in the thread, and, unless it was stopped, told to the team."""
        if (card := self.card) is None or self.state != self.last_state or self.last_words not in card.text:
            return False
        if self.last_state != "Stopped" and not any(self.last_state in line for line in self.team_lines()):
            return False
        return any(self.last_words in one.text for one in self.news())

    async def _ask(self) -> None:
        slack, words = self.town.world.slack, f"{self.task} in org/repo"
        if self.typed:
            self.command = await slack.command(self.town.alice.id, self.channel, words)
        else:
            said = words if self.place == "dm" else f"@OpenHands {words}"
            self.ts = await slack.say(self.town.alice.id, self.channel, slack.wire(said))

    async def _reply(self) -> None:
        """Write in the thread. Below a mention, this works before the card is there."""
        await self._until(lambda: self.root is not None)
        text = f"reply {len(self.replies) + 1} to {self.task}"
        ts = await self.town.world.slack.say(self.town.alice.id, self.channel, text, thread_ts=self.root)
        self.replies.append(Reply(text, ts))

    async def _sees(self, state: str) -> None:
        await self._until(lambda: self.state == state)

    async def _clicks(self, action: str, state: str) -> None:
        """Press a button as soon as it is there; press it again if Slack says the click did not arrive."""
        await self._until(lambda: self.state == state and self.offers(action))
        if action == "retry":
            self.attempts += 1
        await self._presses(action)

    async def _presses(self, action: str) -> None:
        while self.offers(action) and self.card is not None:
            click = await self.town.world.slack.click(self.town.alice.id, self.channel, self.card.ts, action)
            self.clicks.append((action, click))
            while click.acked_at is None and not click.failed:
                await self.town.look()
            if click.acked_at is not None:
                return
            await self.town.rest(CLICK_AGAIN_S)

    def _not_taken(self) -> str | None:
        """Return the newest message that says that a decision came to nothing."""
        return next((one.ts for one in reversed(self.news()) if NOT_TAKEN in one.text), None)

    async def _until(self, true: Callable[[], bool]) -> None:
        """Wait without limit, and meanwhile decide what the bot leaves to a person."""
        while not true():
            await self._decide()
            await self.town.look()

    async def _decide(self) -> None:
        """Do what the bot asks of people: look in OpenHands what became of a message or a start, or decide again."""
        asked = [(one.ts, reply.text) for one in self.news() for reply in self.replies if f"“{reply.text}”" in one.text]
        if asked and asked[-1][0] not in self._decided and self.offers("again"):
            question, text = asked[-1]
            await self._presses("leave" if any(text in heard(c) for c in self.conversations) else "again")
            self._decided.add(question)
        elif (lost := self._not_taken()) and lost not in self._decided and self.offers(self.clicks[-1][0]):
            await self._presses(self.clicks[-1][0])
            self._decided.add(lost)
        elif self.state == "Perhaps started" and self.offers("retry") and len(self.conversations) < self.attempts:
            await self._presses("retry")
            await self.town.rest(CLICK_AGAIN_S)
