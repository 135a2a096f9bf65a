"""The picture in the README: a thread as Slack shows it, drawn from the blocks that the bot makes.

`make picture` writes it. The story is made up, but every word of OpenHands comes from the bot's own core.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from html import escape, unescape
from pathlib import Path
from typing import Any, NamedTuple

from bot import effects
from bot.core import cards, commands, lifecycle
from bot.core.model import (
    Api,
    ChannelId,
    ConversationId,
    Finish,
    MessageTs,
    Observation,
    Origin,
    Phase,
    Run,
    RunId,
    RunState,
    Start,
    Started,
    TeamId,
    UserId,
    Watch,
)
from bot.core.mrkdwn import unescape_request

PICTURE = Path(__file__).parents[1] / "docs" / "thread.svg"

# --- the story --------------------------------------------------------------------------------------------------

ALICE, BOB, BOT = UserId("UALICE"), UserId("UBOB"), UserId("UBOT")
NAMES = {ALICE: "alice", BOB: "bob", BOT: "OpenHands"}
BEGAN = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
WORKED, REPLIED, ENDED = (BEGAN + timedelta(seconds=s) for s in (70, 100, 252))
REQUEST = f"<@{BOT}> fix the broken links in org/repo"
REPLY = "also check the links in CONTRIBUTING.md"
ANSWER = "I fixed two links in `README.md` and one in `CONTRIBUTING.md`. The link checker passes."
PULL_REQUEST = "https://github.com/org/repo/pull/12"
PAGE = "https://app.all-hands.dev/conversations/c"
THREAD = "https://example.slack.com/archives/C1/p1"


@dataclass(frozen=True)
class Post:
    """A message in Slack. People's text is a block, too."""

    who: str
    at: datetime
    blocks: list[cards.Block]
    reactions: tuple[str, ...] = ()


def typed(who: UserId, at: datetime, text: str, *reactions: str) -> Post:
    return Post(NAMES[who], at, [cards.section(text)], reactions)


def posted(at: datetime, message: cards.Message) -> Post:
    return Post(NAMES[BOT], at, message.blocks)


def asked() -> Run:
    """Return the run that the request makes."""
    command = commands.parse(unescape_request(REQUEST, BOT))
    assert isinstance(command, Start)
    return Run(
        id=RunId("run"),
        team=TeamId("T1"),
        channel=ChannelId("C1"),
        thread_ts=MessageTs("1.0"),
        request_ts=MessageTs("1.0"),
        private=False,
        requester=ALICE,
        task=command.task,
        repository=command.repository,
        origin=Origin.TYPED,
        watch=Watch(observed_at=BEGAN, news_at=BEGAN),
        state=RunState.QUEUED,
        turn_at=BEGAN,
        created_at=BEGAN,
    )


def story() -> tuple[Run, Run]:
    """Return the run while its agent works, and at its end."""
    run, _ = lifecycle.admit(asked(), BEGAN)
    run, _ = lifecycle.started(run, Api.V1, Started(conversation_id=ConversationId("c")), BEGAN)
    at_work = Observation(asked_at=WORKED, phase=Phase.WORKING, progress="Running the link checker", cost=0.04)
    at_end = Observation(
        asked_at=ENDED, phase=Phase.ENDED, last=Finish(ANSWER), cost=0.11, pull_requests=(PULL_REQUEST,)
    )
    working, _ = lifecycle.advance(run, at_work)
    done, _ = lifecycle.advance(working, at_end)
    assert (working.state, done.state) == (RunState.WORKING, RunState.DONE)
    return working, done


# --- text -------------------------------------------------------------------------------------------------------

INK, GREY, BLUE, RULE = "#1d1c1d", "#616061", "#1264a3", "#dddddd"
SANS = "Arial,Helvetica,'Liberation Sans',sans-serif"
MONO = "Menlo,Consolas,'Liberation Mono',monospace"
REGULAR_WIDTHS = {
    222: "ijl’", 278: " !,./:;I[\\]ft·", 333: "()-`r“”", 191: "'", 355: '"', 350: "•", 500: "Jckszvxy", 611: "FTZ",
    667: "&ABEKPSVXY", 722: "CDHNRUw", 778: "GOQ", 833: "Mm", 889: "%", 944: "W", 1000: "…—", 1015: "@", 584: "+<=>~",
}  # fmt: skip
BOLD_WIDTHS = {
    278: " ,./I[\\]ijl’", 333: "!()-:;`ft", 238: "'", 474: '"', 350: "•", 389: "r", 500: "z“”", 611: "FLTZbdghnopqu?",
    667: "EPSVXY", 722: "&ABCDHKNRU", 778: "GOQw", 833: "M", 889: "%m", 944: "W", 1000: "…—", 975: "@", 584: "+<=>~",
}  # fmt: skip
"""Widths in thousandths of the font size, for Arial and fonts of its metrics; other letters and digits take 556."""
OTHER_WIDTH, MONO_WIDTH, EMOJI_WIDTH = 556, 602, 1300
EMOJI = re.compile("([\U0001f300-\U0001faff\u2300-\u27bf]\ufe0f?)")
REACTIONS = {"eyes": "👀", "white_check_mark": "✅", "x": "❌"}
MRKDWN = re.compile(r"<(?P<tag>[^<>]+)>|`(?P<code>[^`\n]+)`|\*(?P<bold>[^*\n]+)\*|(?<!\w)_(?P<italic>[^_\n]+)_(?!\w)")


class Look(NamedTuple):
    colour: str = INK
    size: int = 15
    bold: bool = False
    italic: bool = False
    mono: bool = False
    ground: str = ""
    """The background colour; text with one is not broken into lines."""


@dataclass(frozen=True)
class Span:
    """Some text of one look."""

    text: str
    look: Look

    @property
    def width(self) -> float:
        return sum(self._widths()) * self.look.size / 1000 + (8 if self.look.ground else 0)

    def _widths(self) -> Iterator[int]:
        table = BOLD_WIDTHS if self.look.bold else REGULAR_WIDTHS
        widths = {letter: width for width, letters in table.items() for letter in letters}
        for piece in EMOJI.split(self.text):
            if EMOJI.fullmatch(piece):
                yield EMOJI_WIDTH
            else:
                yield from (MONO_WIDTH if self.look.mono else widths.get(letter, OTHER_WIDTH) for letter in piece)


def mrkdwn(text: str, look: Look) -> list[Span]:
    """Return the spans of Slack's `mrkdwn`, as far as the bot uses it."""
    spans, end = [], 0
    for found in MRKDWN.finditer(text):
        spans.append(Span(unescape(text[end : found.start()]), look))
        end = found.end()
        match found.lastgroup:
            case "tag":
                spans.append(tag(found["tag"], look))
            case "code":
                spans.append(code(unescape(found["code"]), look))
            case "bold":
                spans.append(Span(unescape(found["bold"]), look._replace(bold=True)))
            case _:
                spans.append(Span(unescape(found["italic"]), look._replace(italic=True)))
    return [*spans, Span(unescape(text[end:]), look)]


def tag(inside: str, look: Look) -> Span:
    """Return the span of a mention, a time or a link."""
    target, _, label = inside.partition("|")
    if target.startswith("@"):
        return mention(NAMES[UserId(target[1:])], look)
    if target.startswith("!date^"):
        return Span(f"{datetime.fromtimestamp(int(target.split('^')[1]), UTC):%H:%M}", look)
    return Span(unescape(label), look._replace(colour=BLUE))


def mention(name: str, look: Look) -> Span:
    return Span(f"@{name}", look._replace(colour=BLUE, ground="#e8f5fa"))


def code(text: str, look: Look) -> Span:
    return Span(text, look._replace(colour="#c01343", mono=True, size=look.size - 3, ground="#f6f6f6"))


def rich(paragraph: dict[str, Any], look: Look) -> list[Span]:
    """Return the spans of a paragraph of `rich_text`."""
    if paragraph["type"] != "rich_text_section":
        raise ValueError(paragraph["type"])
    return [
        code(piece["text"], look) if piece.get("style", {}).get("code") else Span(piece["text"], look)
        for piece in paragraph["elements"]
    ]


def wrapped(spans: Iterable[Span], room: float) -> list[list[Span]]:
    """Return the spans broken into lines at spaces and line ends."""
    lines: list[list[Span]] = [[]]
    left = room
    for span in spans:
        for word in [span.text] if span.look.ground else re.findall(r"\n|[^ \n]+ *| +", span.text):
            piece = Span(word, span.look)
            if word == "\n" or (lines[-1] and Span(word.rstrip(), span.look).width > left):
                lines.append([])
                left = room
            if word != "\n":
                lines[-1].append(piece)
                left -= piece.width
    return [joined(line) for line in lines]


def joined(line: Iterable[Span]) -> list[Span]:
    """Return a line's spans with adjacent ones of the same look joined."""
    spans: list[Span] = []
    for span in line:
        if spans and spans[-1].look == span.look and not span.look.ground:
            spans[-1] = replace(spans[-1], text=spans[-1].text + span.text)
        else:
            spans.append(span)
    return spans


# --- drawing ----------------------------------------------------------------------------------------------------

WIDTH, MARGIN, GUTTER = 760, 20, 48
AVATARS = {"alice": ("#4a154b", "A"), "bob": ("#0b6e4f", "B"), "OpenHands": ("#1a1a1a", "🙌")}
FILLS = {"": ("#ffffff", INK, "#bbbabb"), "primary": ("#007a5a", "#ffffff", "#007a5a"), "danger": ("#e01e5a",) * 3}


@dataclass
class Canvas:
    """What has been drawn so far, down to `y`."""

    y: float = 0.5
    shapes: list[str] = field(default_factory=list)

    def box(
        self, x: float, y: float, width: float, height: float, fill: str, *, line: str = "", radius: int = 4
    ) -> None:
        stroke = f' stroke="{line}"' if line else ""
        self.shapes.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius}" fill="{fill}"{stroke}/>'
        )

    def rule(self, x: float, end: float, y: float) -> None:
        self.shapes.append(f'<path d="M{x:g} {y:g}H{end:g}" stroke="{RULE}"/>')

    def text(self, x: float, y: float, *spans: Span) -> float:
        """Write on one line; return where it ends. Each piece gets its measured width, whatever font a reader has."""
        for span in spans:
            look, width = span.look, span.width
            if look.ground:
                self.box(x, y - look.size, width, look.size + 5, look.ground, line=RULE if look.mono else "", radius=3)
            at = x + 4 if look.ground else x
            for piece in filter(None, EMOJI.split(span.text)):
                at += self._piece(at, y, Span(piece, look._replace(ground="")))
            x += width
        return x

    def _piece(self, x: float, y: float, piece: Span) -> float:
        """Write letters of one look; return their width. Spaces at the ends are left blank."""
        look, width = piece.look, piece.width
        shown = Span(piece.text.strip(" "), look)
        x += Span(piece.text, look).width - Span(piece.text.lstrip(" "), look).width
        styles = [
            f'font-family="{MONO}"' if look.mono else "",
            'font-weight="bold"' if look.bold else "",
            'font-style="italic"' if look.italic else "",
            "" if EMOJI.fullmatch(shown.text) else f'textLength="{shown.width:.1f}" lengthAdjust="spacingAndGlyphs"',
        ]
        given = " ".join([f'x="{x:.1f}" y="{y:g}" font-size="{look.size}" fill="{look.colour}"', *filter(None, styles)])
        if shown.text:
            self.shapes.append(f"<text {given}>{escape(shown.text, quote=False)}</text>")
        return width

    def lines(self, x: float, spans: Iterable[Span], *, height: int = 22, end: float = WIDTH - MARGIN) -> None:
        for line in wrapped(spans, end - x):
            self.text(x, self.y + height - 6, *line)
            self.y += height

    def post(self, post: Post) -> None:
        """Draw a message: its author, time and blocks."""
        x, top = MARGIN + GUTTER, self.y
        ground, sign = AVATARS[post.who]
        self.box(MARGIN, top + 2, 36, 36, ground, radius=8)
        letter = Span(sign, Look("#ffffff", 17, bold=True))
        self.text(MARGIN + 18 - letter.width / 2, top + 26, letter)
        end = self.text(x, top + 14, Span(post.who, Look(bold=True))) + 6
        if post.who == "OpenHands":
            self.box(end, top + 2, 30, 15, "#e8e8e8", radius=3)
            end = self.text(end + 4, top + 13, Span("APP", Look(GREY, 10, bold=True))) + 10
        self.text(end + 2, top + 14, Span(f"{post.at:%H:%M}", Look(GREY, 12)))
        self.y += 20
        for block in post.blocks:
            self.block(x, block)
        if post.reactions:
            self.reactions(x, post.reactions)
        self.y = max(self.y, top + 40) + 14

    def block(self, x: float, block: cards.Block) -> None:
        match block["type"]:
            case "section":
                self.lines(x, mrkdwn(block["text"]["text"], Look()))
                self.y += 4
            case "context":
                for element in block["elements"]:
                    self.lines(x, mrkdwn(element["text"], Look(GREY, 13)), height=20)
                self.y += 2
            case "actions":
                self.buttons(x, block["elements"])
            case "rich_text":
                for element in block["elements"]:
                    self.lines(x, rich(element, Look()))
                self.y += 4
            case unknown:
                raise ValueError(unknown)

    def buttons(self, x: float, elements: Iterable[dict[str, Any]]) -> None:
        for element in elements:
            label = Span(element["text"]["text"], Look(bold=True, size=14))
            ground, ink, line = FILLS[element.get("style", "")]
            self.box(x, self.y + 4, label.width + 24, 32, ground, line=line, radius=8)
            self.text(x + 12, self.y + 25, Span(label.text, label.look._replace(colour=ink)))
            x += label.width + 24 + 8
        self.y += 42

    def reactions(self, x: float, names: Iterable[str]) -> None:
        for name in names:
            self.box(x, self.y + 4, 42, 24, "#f4f4f4", line=RULE, radius=12)
            self.text(x + 8, self.y + 20, Span(REACTIONS[name], Look(size=13)))
            self.text(x + 29, self.y + 20, Span("1", Look(GREY, 12)))
            x += 48
        self.y += 30

    def later(self, text: str) -> None:
        """Draw a line with words on it, as Slack does between days."""
        label = Span(text, Look(GREY, 13, bold=True))
        x = (WIDTH - label.width) / 2
        self.rule(MARGIN, x - 14, self.y + 14)
        self.rule(x + label.width + 14, WIDTH - MARGIN, self.y + 14)
        self.text(x, self.y + 18, label)
        self.y += 42

    def window(self, *title: Span) -> None:
        """Begin a part that `close` frames."""
        self.text(MARGIN, self.y + 30, *title)
        self.rule(1, WIDTH - 1, self.y + 46)
        self.y += 62


def close(canvas: Canvas, top: float) -> list[str]:
    """Return the shapes drawn since `top`, with a frame behind them."""
    frame = Canvas()
    frame.box(0.5, top, WIDTH - 1, canvas.y - top, "#ffffff", line="#c9c9cb", radius=10)
    return frame.shapes + canvas.shapes


def picture() -> str:
    """Return the picture as SVG, the same each time."""
    working, done = story()
    head, beside = Look(size=17, bold=True), Look(GREY, 13)

    thread = Canvas()
    thread.window(Span("Thread  ", head), Span("# dev", beside))
    thread.post(typed(ALICE, BEGAN, REQUEST, effects.HAS_IT))
    thread.post(posted(BEGAN, cards.card(working, PAGE)))
    thread.post(typed(BOB, REPLIED, REPLY, effects.HAS_IT))
    thread.later("At the end: the same card, edited, and one new message")
    thread.post(posted(BEGAN, cards.card(done, PAGE)))
    thread.post(posted(ENDED, cards.news(done, PAGE)))

    team = Canvas(y=thread.y + 16)
    top = team.y
    team.window(Span("# agents", head), Span("   the team's channel, one line for each run", beside))
    team.post(posted(ENDED, cards.notification(done, THREAD, ENDED)))

    height = f"{team.y + 1:g}"
    given = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-family="{SANS}" role="img"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {given}>',
            "<title>A run of OpenHands in a Slack thread</title>",
            "<!-- Written by `make picture` from the bot's own messages. -->",
            *close(thread, 0.5),
            *close(team, top),
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
