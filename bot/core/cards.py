"""Slack messages about a run: the card, the news in its thread, the line for the team.

Every `Message` has text and blocks. `text` is complete, for notifications and screen readers; every `mrkdwn` object is
verbatim, so that nothing in it turns into a mention by itself. Sizes stay below Slack's limits.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bot.core import markdown, words
from bot.core.lifecycle import ENDED, offers, thing, took, usable
from bot.core.model import Action, Reason, Run, RunId, RunState, Waiting
from bot.core.mrkdwn import escape, link, outside, outside_label, shorten
from bot.core.vocabulary import BUTTONS, OPEN

Block = dict[str, Any]

SECTION_MAX = 3000  # characters of a section's text
TEXT_MAX = 4000  # characters of `text`; chat.update accepts no more
ANSWER_MAX = 9000  # characters of the agent's words in one message; all blocks together may have about 13,000
ANSWER_ON_CARD = 600
FIRST_ON_CARD = 300
ANSWER_IN_TEXT = 3000
LABEL_MAX = 75  # characters on a button
LINKS_SHOWN = 10
LINKS_IN_LINE = 3
LONG_WORD = 500  # characters; a longer word, more than one link's address, is split
HALF = re.compile(r"(?:<[^<>]*|&\w{0,3})\Z")  # an unfinished link or escape at the end of a cut


@dataclass(frozen=True, slots=True)
class Message:
    """Text and blocks of one Slack message."""

    text: str
    blocks: list[Block] = field(default_factory=list)


def section(text: str) -> Block:
    return {"type": "section", "text": {"type": "mrkdwn", "text": cut(text, SECTION_MAX), "verbatim": True}}


def context(text: str) -> Block:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": cut(text, SECTION_MAX), "verbatim": True}]}


def literal_block(text: str, **style: bool) -> list[Block]:
    """Return outside text as a block in which nothing is markup: it can't draw a line of ours. None if it is empty."""
    if not text.strip():
        return []
    piece = {"type": "text", "text": text} | ({"style": style} if style else {})
    return [{"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": [piece]}]}]


def open_button(address: str) -> Block:
    """Build a link button. Slack sends a click for it too, which is only acknowledged."""
    return {
        "type": "button",
        "action_id": OPEN.action_id,
        "text": {"type": "plain_text", "text": OPEN.label},
        "url": address,
    }


def button(run: Run, action: Action) -> Block:
    """Build the button of an action. Its value tells an outdated click from a current one."""
    declared = BUTTONS[action]
    made = {
        "type": "button",
        "action_id": action.value,
        "text": {"type": "plain_text", "text": declared.label},
        "value": f"{run.id}:{run.turn}:{thing(run, action) or ''}",
    }
    return made | ({"style": declared.style} if declared.style else {})


def use_buttons(run: Run) -> list[Block]:
    """Build a button for each repository that may be meant."""
    return [
        {
            "type": "button",
            "action_id": f"{Action.USE.value}:{number}",
            "text": {"type": "plain_text", "text": shorten(name, LABEL_MAX)},
            "value": f"{run.id}:{run.turn}:{name}",
        }
        for number, name in enumerate(usable(run), start=1)
    ]


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a button was drawn for."""

    run: RunId
    turn: int
    thing: str
    """The action or the message the button is about."""


def drawn(value: str) -> Drawn | None:
    """Parse a button's value; return None for anything else."""
    run, _, rest = value.partition(":")
    turn, found, thing = rest.partition(":")
    return Drawn(RunId(run), int(turn), thing) if found and turn.isdecimal() else None


def buttons(run: Run, address: str | None, *, stop: bool = True) -> list[Block]:
    """Return the row of buttons that fit the state, or no block if there are none. stop: Stop among them."""
    row = [open_button(address)] if address else []
    for action in offers(run):
        if action is Action.STOP and not stop:
            continue
        row += use_buttons(run) if action is Action.USE else [button(run, action)]
    return [{"type": "actions", "elements": row}] if row else []


def cut(text: str, limit: int) -> str:
    """Shorten finished `mrkdwn` between words. Links and escapes stay whole; only an endless word is split."""
    if len(text) <= limit:
        return text
    end = limit - len(" …")
    space = max(text.rfind("\n", 0, end), text.rfind(" ", 0, end))
    kept = text[: space if space >= max(1, end - LONG_WORD) else end]
    return f"{HALF.sub('', kept).rstrip()} …"


def card(run: Run, address: str | None) -> Message:
    """Render the card of a run. address: its page in OpenHands, None before it has one."""
    task = outside(run.task, words.TASK_SHOWN)
    head = f"*{words.state(run)}*"
    blocks = [section(head), *literal_block(task)]
    lines: list[str] = []
    explanation = words.explanation(run)
    answered = bool(run.answer) and run.waiting in (Waiting.QUESTION, Waiting.ANSWER)
    if explanation and not answered:
        lines.append(explanation)
    if run.detail and run.state is RunState.FAILED and run.reason is not Reason.BRANCH:
        lines.append(f"> {escape(shorten(words.one_line(run.detail), words.DETAIL_SHOWN))}")
    blocks += [section(line) for line in lines]
    if wanted := wish(run):
        blocks += wanted
        lines.append(escape(words.wish(run.detail)))
    if run.answer and run.state in (RunState.DONE, RunState.WAITING):
        answer = markdown.plain(run.answer, limit=ANSWER_ON_CARD)
        blocks += literal_block(answer)
        lines.append(escape(answer))
    if run.progress:
        progress = shorten(run.progress, words.DETAIL_SHOWN)
        blocks += literal_block(progress, italic=True)
        lines.append(f"_{escape(progress)}_")
    if first := first_result(run):
        blocks += [section(words.FIRST_RESULT), *literal_block(first)]
        lines.append(f"{words.FIRST_RESULT} {escape(first)}")
    ours: list[str] = list(filter(None, [explanation if answered else "", words.went_along(run)]))
    if run.doubtful_follow_up:
        ours.append(words.undecided(run.doubtful_text))
    if run.watch.silence_told_at:
        ours.append(words.quiet_since(run.watch.heard_at or run.watch.news_at))
    if held_up := words.held_up(run):
        ours.append(held_up)
    blocks += [section(line) for line in ours]
    if run.pull_requests:
        blocks.append(section(pull_requests(run)))
    tail = [" · ".join(describe(run))]
    if hint := words.who_hears(run):
        tail.insert(0, hint)
    blocks.extend(map(context, tail))
    blocks.extend(buttons(run, address))
    head = f"{head}\n{escape(words.one_line(task))}"
    text = "\n".join([head, *lines, *ours, *([pull_requests(run)] if run.pull_requests else []), *tail])
    return Message(cut(text, TEXT_MAX), blocks)


def first_result(run: Run) -> str:
    """Return what the agent said at the end of its first turn, once that is no more what the card shows as its answer."""
    shown = run.answer if run.state in (RunState.DONE, RunState.WAITING) else ""
    return "" if run.first_answer == shown else markdown.plain(run.first_answer, limit=FIRST_ON_CARD)


def wish(run: Run) -> list[Block]:
    """Render what an agent wants approval for as literal text: no character may look like another."""
    if run.waiting is not Waiting.APPROVAL or not run.detail:
        return []
    text = {"type": "text", "text": words.wish(run.detail)}
    return [{"type": "rich_text", "elements": [{"type": "rich_text_preformatted", "elements": [text]}]}]


def describe(run: Run) -> list[str]:
    """Return the facts of a run: requester, repository and its origin, branch, model, time and cost."""
    facts = [f"Asked by {words.mention(run.requester)}"]
    if run.repository and run.state is not RunState.NEEDS_REPOSITORY:
        why = words.origin(run)
        facts.append(f"`{escape(run.repository)}`" + (f" ({why})" if why else ""))
    elif run.origin:
        facts.append("no repository")
    if run.branch:
        facts.append(f"branch `{words.code(run.branch)}`")
    if run.model:
        facts.append(f"model `{words.code(run.model)}`")
    if run.state in ENDED and run.ended_at:
        facts.append(f"took {words.duration(took(run, run.ended_at))}")
    else:
        facts.append(f"since {words.clock_time(run.created_at)}")
    if run.cost >= 0.005:
        facts.append(f"${run.cost:.2f}")
    if run.blind and run.state is not RunState.DONE:
        facts.append(words.only_there())
    return facts


def pull_requests(run: Run) -> str:
    """Return the line of pull requests."""
    return f"Pull requests: {', '.join(results(run))}"


def results(run: Run) -> list[str]:
    """Return the pull requests: links, and as text those whose address is not known."""
    links = {name_of(url): url for url in run.pull_requests if "://" in url}
    shown = dict.fromkeys(links.get(one, one) for one in run.pull_requests)
    return [
        link(one, outside_label(name_of(one), one)) if "://" in one else escape(one) for one in [*shown][:LINKS_SHOWN]
    ]


def name_of(url: str) -> str:
    """Return the short name of a pull request from its address: `org/repo #12`."""
    url = re.split(r"[?#]", url, maxsplit=1)[0]
    path = url.split("://", 1)[-1].split("/", 1)[-1]
    for middle in ("/pull/", "/-/merge_requests/", "/merge_requests/", "/pull-requests/", "/pulls/"):
        repository, found, number = path.partition(middle)
        if found:
            return f"{repository} #{number.split('/')[0]}"
    return path


def news(run: Run, address: str | None) -> Message:
    """Render the thread's news: who is called, what became of the run, the agent's own words if any, and what to do."""
    spoke = bool(run.answer) and run.state in (RunState.DONE, RunState.WAITING) and not run.detail
    explanation = words.what_next(run)
    last = explanation if spoke and run.state is RunState.WAITING else ""
    head = [part for part in (words.news(run), "" if last else explanation) if part]
    if run.detail and run.state is RunState.FAILED and run.reason is not Reason.BRANCH:
        head.append(f"> {escape(shorten(words.one_line(run.detail), words.DETAIL_SHOWN))}")
    wanted = wish(run)
    blocks = [section("\n".join(head)), *wanted]
    if wanted:
        head.append(escape(words.wish(run.detail)))
    if spoke:
        blocks.extend(markdown.rich_text(run.answer, limit=ANSWER_MAX))
    if last:
        blocks.append(section(last))
    tail = []
    if run.pull_requests:
        tail.append(pull_requests(run))
    if spoke and len(run.answer) > ANSWER_MAX and address:
        tail.append(link(address, "The whole answer is in OpenHands"))
    elif address:
        tail.append(link(address, "Open in OpenHands"))
    if tail:
        blocks.append(context(" · ".join(tail)))
    blocks.extend(buttons(run, None, stop=False))
    said = [escape(markdown.plain(run.answer, limit=ANSWER_IN_TEXT)), *([last] if last else [])] if spoke else []
    return Message(cut("\n".join([*head, *said, *tail[: 1 if run.pull_requests else 0]]), TEXT_MAX), blocks)


def stale(run: Run, address: str | None) -> Message:
    """Render the message that nothing has been heard of a run for long, with a button to stop it."""
    text = words.stale(run)
    return Message(cut(text, TEXT_MAX), [section(text), *buttons(run, address)])


def sentence(text: str, run: Run | None = None) -> Message:
    """Render one of our own sentences. run: with the buttons of what can be done with it now, if it tells to press one."""
    return Message(cut(text, TEXT_MAX), [section(text), *(buttons(run, None, stop=False) if run else [])])


def notification(run: Run, thread: str | None, now: datetime) -> Message:
    """Render the one line for the team's channel."""
    return sentence(words.notification(run, thread, ", ".join(results(run)[:LINKS_IN_LINE]), now))
