"""Compares what people asked for with what both servers saw.

Each complaint is a sentence; none means that the promises were kept. Answers that only one person sees are exempt:
Slack stores none of them, so nobody, not even the bot, can check whether one arrived, and each is sent at most once.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise

from bot.simulator.openhands import Conversation
from tests.crash import tables
from tests.crash.errands import CARRIED, STARTED_PERHAPS, Errand, Reply, heard
from tests.crash.town import PLACES, TEAM, Kind, Town

FAILURE = "ConversationErrorEvent"
"""The kind of event with which a turn ends that failed."""
STOPPED = {Kind.STOPPED, Kind.RESUMED, Kind.RETRIED, Kind.GATED}
TO_THE_TEAM = ("✅ Done", "❌ Failed", "💬 Has a question", "✋ Needs approval")
DECISIONS = {Kind.APPROVED: True, Kind.GATED: True, Kind.REJECTED: False}


def complaints(town: Town, errands: Sequence[Errand]) -> list[str]:
    """Return everything that both servers saw go wrong, once all has settled."""
    found = [f"{errand.task}: {what}" for errand in errands for what in about(town, errand)]
    found += [f"posted twice: {text}" for text in posted_twice(town)]
    found += [f"Slack: {what}" for what in town.world.slack.violations]
    found += [f"OpenHands: {what}" for what in town.world.openhands.violations]
    return found


async def kept(town: Town, errands: Sequence[Errand], seconds: float) -> list[str]:
    """Return what the tables still hold once everybody was told, and after this real time still do."""
    found = await tables.owed(town.database_url, seconds)
    return found + unheard(errands, acknowledged(town), await tables.replies(town.database_url))


def unheard(errands: Sequence[Errand], taken: Mapping[str, datetime], replies: Mapping[str, str]) -> list[str]:
    """Return each acknowledged reply that the bot neither handed on nor gave to a new attempt with its first message.

    replies: their fates by `ts`.
    """
    said = [(errand, one) for errand in errands if errand.over for one in errand.replies if one.ts in taken]
    fates = [(errand, one, replies.get(one.ts, "forgotten")) for errand, one in said]
    return [
        f"{errand.task}: {one.text!r} is {fate}"
        for errand, one, fate in fates
        if fate not in {"delivered", "withdrawn"} and not (fate == "failed" and is_carried(errand, one))
    ]


def is_carried(errand: Errand, reply: Reply) -> bool:
    """Return whether a new attempt began with a reply to the one before."""
    return any(CARRIED in text and reply.text in text for one in errand.conversations for text in one.messages)


def about(town: Town, errand: Errand) -> Iterator[str]:
    """Yield what is wrong with one errand."""
    conversations, cards = errand.conversations, errand.cards()
    if not errand.promised:
        return
    if not errand.over:
        yield f"not seen through: {where(town, errand)}"
        return
    if not errand.told():
        yield f"its end was told, and is not any more: {where(town, errand)}"
    if len(conversations) != errand.attempts:
        yield f"{len(conversations)} conversations for {errand.attempts} attempts"
    if len(cards) != 1:
        yield f"{len(cards)} cards"
    for conversation in conversations:
        yield from of(conversation)
    yield from misheard(errand)
    yield from out_of_order(town, errand)
    yield from not_told_once(errand)
    yield from misdecided(errand)


def where(town: Town, errand: Errand) -> str:
    """Return how far the errand came, for whoever has to find out why."""
    card = errand.card
    clicks = [(action, click.acked_at is not None) for action, click in errand.clicks]
    taken = acknowledged(town)
    said = [(reply.text, reply.ts, reply.ts in taken) for reply in errand.replies]
    agents = [(c.id, c.sandbox_status, c.state, c.messages) for c in errand.conversations]
    return f"card {card.text if card else None!r}; clicks, acknowledged or not: {clicks}; replies, acknowledged or not: {said}; conversations {agents}"


def of(conversation: Conversation) -> Iterator[str]:
    """Yield a complaint if a conversation was started twice, which destroys it."""
    if conversation.api == "v1" and (conversation.destroyed or len(conversation.start_tasks) != 1):
        yield f"conversation {conversation.id} has {len(conversation.start_tasks)} starts"


def misheard(errand: Errand) -> Iterator[str]:
    """Yield a complaint unless the agents got every message once. A new attempt may get earlier ones again."""
    told = Counter(text for conversation in errand.conversations for text in heard(conversation))
    said = Counter([errand.task] * errand.attempts + [reply.text for reply in errand.replies])
    carried = any(CARRIED in text for conversation in errand.conversations for text in conversation.messages)
    twice = any(max(Counter(heard(conversation)).values()) > 1 for conversation in errand.conversations)
    if twice or told.keys() != said.keys() or (told != said and not carried):
        yield f"said {sorted(said.elements())}, and agents heard {sorted(told.elements())}"


def out_of_order(town: Town, errand: Errand) -> Iterator[str]:
    """Yield replies that were acknowledged in order, but reached the agents out of order."""
    told = [text for conversation in errand.conversations for text in heard(conversation)]
    taken = acknowledged(town)
    for one, following in zip(errand.replies, errand.replies[1:], strict=False):
        at, then = taken.get(one.ts), taken.get(following.ts)
        in_order = at is not None and then is not None and at <= then
        both = one.text in told and following.text in told
        if in_order and both and told.index(one.text) > told.index(following.text):
            yield f"{following.text!r} overtook {one.text!r}"


def acknowledged(town: Town) -> dict[str, datetime]:
    """Return when each message was first acknowledged, by its ts."""
    taken: dict[str, datetime] = {}
    for delivery in town.world.slack.deliveries:
        ts = delivery.payload.get("event", {}).get("ts")
        if ts is not None and delivery.acked_at is not None:
            taken[ts] = min(taken.get(ts, delivery.acked_at), delivery.acked_at)
    return taken


def not_told_once(errand: Errand) -> Iterator[str]:
    """Yield each end of a turn that the thread was not told of exactly once."""
    news = [one.text for one in errand.news() if STARTED_PERHAPS not in one.text]
    due = {words: 1 for conversation in errand.conversations for words in answers(conversation)}
    failures = sum(event["kind"] == FAILURE for c in errand.conversations for event in c.events)
    for words, times in sorted((due | {errand.last_words: 1, "❌ Failed": failures} | pauses(errand)).items()):
        if (told := sum(words in one for one in news)) != times:
            yield f"{words!r} was told {told} times, and not {times}: {news}"
    said, lines = [one.text for one in errand.news()], errand.team_lines()
    for label in TO_THE_TEAM:
        told, known = (sum(label in one for one in texts) for texts in (said, lines))
        if not min(told, 1) <= known <= told:
            yield f"{label!r} was told {told} times in the thread and {known} times to the team: {lines}"
    outcomes = [([label for label in TO_THE_TEAM if label in one], one.count("/pull/")) for one in lines]
    if any(one == following for one, following in pairwise(outcomes)):
        yield f"the team heard of the same outcome twice: {lines}"


def pauses(errand: Errand) -> dict[str, int]:
    """Return how often the thread must hear that the agent waits for a decision, was rejected, or was stopped."""
    return {
        "✋ Needs approval": int(errand.kind in DECISIONS),
        "⏸️ Paused": int(errand.kind is Kind.REJECTED),
        "⏹️ Stopped": int(errand.kind in STOPPED),
    }


def answers(conversation: Conversation) -> list[str]:
    """Return what the agent said at the end of each of its turns."""
    finished = [one["action"] for one in conversation.events if one["kind"] == "ActionEvent"]
    said = [one for one in conversation.events if one["kind"] == "MessageEvent" and one["source"] == "agent"]
    return [one["message"] for one in finished if one["kind"] == "FinishAction"] + [
        "".join(part["text"] for part in one["llm_message"]["content"]) for one in said
    ]


def misdecided(errand: Errand) -> Iterator[str]:
    """Yield a complaint unless what the agent wanted was carried out once, or rejected once, as the person decided."""
    if errand.kind not in DECISIONS or not errand.conversations:
        return
    events = errand.conversations[0].events
    rejections = sum(event["kind"] == "UserRejectObservation" for event in events)
    observed = [event["observation"] for event in events if event["kind"] == "ObservationEvent"]
    done_ = sum(one.get("command") == f"deploy {errand.task}" for one in observed)
    if (done_, rejections) != ((1, 0) if DECISIONS[errand.kind] else (0, 1)):
        yield f"what it wanted to do was carried out {done_} times and rejected {rejections} times"


def posted_twice(town: Town) -> list[str]:
    """Return the posts that were made twice, identified by the row id each carries in its metadata."""
    posts = [
        (one.metadata["event_payload"]["id"], one.text)
        for place in (*map(town.place, PLACES), TEAM)
        for one in town.world.posts(place)
        if one.metadata is not None
    ]
    times = Counter(row for row, _ in posts)
    return [text for row, text in posts if times[row] > 1]
