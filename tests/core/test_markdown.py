"""The agent's Markdown in Slack: every shape, nothing that Slack refuses, nothing that fires or misleads."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slack_sdk.models.blocks import RichTextBlock

from bot.core.markdown import MAX_INDENT, MAX_PIECES, MAX_SOURCE, plain, rich_text

Json = dict[str, Any]

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))
MARKDOWN = st.lists(
    st.sampled_from(
        [
            *(
                "a",
                "word ",
                "**",
                "*",
                "_",
                "~~",
                "`",
                "```\n",
                "\n",
                "\n\n",
                "# ",
                "- ",
                "1. ",
                "7) ",
                "> ",
                "    ",
                "  ",
                "\t",
            ),
            *(
                "| a | b |\n|---|--:|\n| c | d |\n",
                "|",
                "---\n",
                "===\n",
                "<b>",
                "<!channel>",
                "&lt;",
                "\\",
                "\x00",
                "\x1b[1m",
            ),
            *(
                "[a](https://gitea.com)",
                "![i](https://gitea.com/i.png)",
                "[",
                "](",
                ")",
                "https://gitea.com/x ",
                "[x](docs/a.md)",
            ),
            *(
                "ghp_" + "a1B2" * 9,
                "👩\u200d💻",
                "é",
                "日本",
                "@here ",
                "<@U1>",
                "\u202e",
                "\u200b",
                "[r]: https://gitea.com\n",
            ),
            *(
                "<br>",
                "<details>\n",
                "</details>",
                "<a href='https://gitea.com'>",
                "</a>",
                "<!-- ",
                " -->",
                "- [x] ",
                "[^1]",
                "[^1]: ",
                ":tada:",
                "「」",
            ),
        ]
    ),
    max_size=40,
).map("".join)


def text(words: str, *styles: str) -> Json:
    return {"type": "text", "text": words} | styled(styles)


def link(words: str, url: str, *styles: str) -> Json:
    return {"type": "link", "url": url, "text": words} | styled(styles)


def styled(styles: tuple[str, ...]) -> Json:
    return {"style": dict.fromkeys(styles, True)} if styles else {}


def section(*parts: Json) -> Json:
    return {"type": "rich_text_section", "elements": list(parts)}


def quote(*parts: Json) -> Json:
    return {"type": "rich_text_quote", "elements": list(parts)}


def code(words: str) -> Json:
    return {"type": "rich_text_preformatted", "elements": [text(words)]}


def bullets(*items: Json, indent: int = 0) -> Json:
    return {"type": "rich_text_list", "style": "bullet", "indent": indent, "elements": list(items)}


def numbers(*items: Json, indent: int = 0, offset: int = 0) -> Json:
    opened = {"type": "rich_text_list", "style": "ordered", "indent": indent, "elements": list(items)}
    return opened | {"offset": offset} if offset else opened


def block(*elements: Json) -> list[Json]:
    return [{"type": "rich_text", "elements": list(elements)}]


def leaves(blocks: list[Json]) -> Iterator[Json]:
    """Every text and link, and a check that no list of elements on the way is empty."""
    for found in blocks:
        if found["type"] in {"text", "link"}:
            yield found
        else:
            assert found["elements"]
            yield from leaves(found["elements"])


def size(blocks: list[Json]) -> int:
    return sum(len(leaf["text"]) + len(leaf.get("url", "")) for leaf in leaves(blocks))


# --- shapes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "elements"),
    [
        ("Hello.", [section(text("Hello."))]),
        ("one\ntwo  \nthree\n\nfour", [section(text("one\ntwo\nthree\n\nfour"))]),
        ("# Title\ntext\n\nOther\n===", [section(text("Title", "bold"), text("\n\ntext\n\n"), text("Other", "bold"))]),
        (
            "**b _bi_** ~~s~~ `c` _i_",
            [
                section(
                    *(text("b ", "bold"), text("bi", "bold", "italic"), text(" "), text("s", "strike"), text(" ")),
                    *(text("c", "code"), text(" "), text("i", "italic")),
                )
            ],
        ),
        ("****a** b** c", [section(text("a b", "bold"), text(" c"))]),
        ("`<!here>` &amp; \\*x\\*", [section(text("<!here>", "code"), text(" & *x*"))]),
        ("- one\n- two\n\nafter", [bullets(section(text("one")), section(text("two"))), section(text("after"))]),
        ("3. three\n4. four", [numbers(section(text("three")), section(text("four")), offset=2)]),
        ("0. zero", [numbers(section(text("zero")))]),
        (
            "1. one\n   - sub\n\n     more\n2. two",
            [
                numbers(section(text("one"))),
                bullets(section(text("sub\nmore")), indent=1),
                numbers(section(text("two")), offset=1),
            ],
        ),
        (
            "- a\n  - b\n\n  after b",
            [bullets(section(text("a"))), bullets(section(text("b")), indent=1), section(text("after b"))],
        ),
        ("- a\n\n* b", [bullets(section(text("a"))), bullets(section(text("b")))]),
        ("- - a\n- - b", [bullets(section(text("a")), indent=1), bullets(section(text("b")), indent=1)]),
        ("- # a\n-\n- c", [bullets(section(text("a", "bold"))), bullets(section(text("c")))]),
        (
            "1. run\n   ```sh\n   make\n   ```\n   then\n2. look",
            [numbers(section(text("run"))), code("make"), section(text("then")), numbers(section(text("look")), offset=1)],
        ),
        ("```py\n\nx = '<'\n  y\n```", [code("x = '<'\n  y")]),
        ("    indented\n\n    code", [code("indented\n\ncode")]),
        ("```\na\n```\n```\nb\n```", [code("a"), code("b")]),
        ("> a **b**\n>\n> c", [quote(text("a "), text("b", "bold"), text("\nc"))]),
        ("> - a\n>   1. b\n>\n> ```\n> c\n> ```\n\nd", [quote(text("• a\n  1. b\n"), text("c", "code")), section(text("d"))]),
        ("- > q", [quote(text("• q"))]),
        (
            "| name | n |\n|:--|--:|\n| a **b** | 10 |\n| 日本 | |\n| x\\|y |",
            [code("name   n\n----  --\na b   10\n日本\nx|y")],
        ),
        ("a\n\n---\n\nb", [section(text("a\n\n———\n\nb"))]),
        ("<div>\n<!channel>\n</div>\n\na <b>c</b>", [section(text("<!channel>\n\na "), text("c", "bold"))]),
        ("<@U1> @here #general <!everyone>", [section(text("<@U1> @here #general <!everyone>"))]),
        ("- ", [section(text("-"))]),
        ("```\n```", [section(text("```\n```"))]),
    ],
)  # fmt: skip
def test_markdown_takes_slacks_shapes(source: str, elements: list[Json]) -> None:
    """Each kind of Markdown has one shape; text is literal, so that nobody is mentioned."""
    assert rich_text(source, limit=1000) == block(*elements)


DIFF = "\n".join(["diff --git a/x b/x", *(f"+{number}" for number in range(50))])


@pytest.mark.parametrize(
    ("source", "elements", "words"),
    [
        (
            ":tada: Done :white_check_mark: a.py:100:5 :no_such: `:tada:`",
            [section(text("🎉 Done ✅ a.py:100:5 :no_such: "), text(":tada:", "code"))],
            "🎉 Done ✅ a.py:100:5 :no_such: :tada:",
        ),
        (
            "<details>\n<summary>Log</summary>\n\n- one\n\n</details>\n\nend",
            [section(text("Log", "bold")), bullets(section(text("one"))), section(text("end"))],
            "Log\n• one\nend",
        ),
        ("<details><summary>Log</summary>all `green`</details>", [section(text("Log", "bold"), text("all "), text("green", "code"))], "Logall green"),
        ("<p>a</p><hr/>\n\n<!-- hidden\n\ntoo -->\n\nb", [section(text("a\n\nb"))], "a\n\nb"),
        ("a<br>b<br/>c <!-- no -->&nbsp;&copy; x &lt;T&gt;", [section(text("a\nb\nc \xa0© x <T>"))], "a\nb\nc \xa0© x <T>"),
        ("<kbd>Ctrl</kbd></b> <i>a</i> <T> <source>", [section(text("Ctrl", "code"), text(" "), text("a", "italic"), text(" <T> <source>"))], "Ctrl a <T> <source>"),
        ("<tr><td>a<td>b", [section(text("a b"))], "a b"),
        ("<!-- all of it -->", [section(text("<!-- all of it -->"))], "<!-- all of it -->"),
        (
            '<a href="https://gitea.com">a</a> <a name="b">b</a> <a href="https://c.example">[c](https://d.example)',
            [section(link("a", "https://gitea.com"), text(" b "), link("https://c.example", "https://c.example"), link("c (d.example)", "https://d.example"))],
            "a (https://gitea.com) b https://c.examplec (d.example) (https://d.example)",
        ),
        ('see <a href="https://gitea.com">a', [section(text("see "), link("a", "https://gitea.com"))], "see a (https://gitea.com)"),
        ('<img src="https://gitea.com/x.png" alt="chart"> <img>', [section(link("chart", "https://gitea.com/x.png"), text(" image"))], "chart (https://gitea.com/x.png) image"),
        ("- [ ] open\n- [x] done", [bullets(section(text("☐ open")), section(text("☑ done")))], "• ☐ open\n• ☑ done"),
        (
            "| a | PR |\n|---|---|\n| x | [#7](https://github.com/o/r/pull/7) |\n| y | **z** |",
            [
                {
                    "type": "rich_text_preformatted",
                    "elements": [text("a  PR\n-  --\nx  "), link("#7", "https://github.com/o/r/pull/7"), text("\ny  z")],
                }
            ],
            "a  PR\n-  --\nx  #7 (https://github.com/o/r/pull/7)\ny  z",
        ),
        (
            "> | a |\n> |---|\n> | [b](https://gitea.com) |",
            [quote(text("a\n-\n", "code"), link("b", "https://gitea.com", "code"))],
            "a\n-\nb (https://gitea.com)",
        ),
        ("- one\n\n  | a |\n  |---|\n  | b |", [bullets(section(text("one"))), code("a\n-\nb")], "• one\na\n-\nb"),
        (
            "Fast[^1], see[^n].\n\n[^1]: By *half*.\n[^n]: [here](https://gitea.com)",
            [section(text("Fast[1], see[n].\n\n[1] By "), text("half", "italic"), text(".\n\n[n] "), link("here", "https://gitea.com"))],
            "Fast[1], see[n].\n\n[1] By half.\n\n[n] here (https://gitea.com)",
        ),
        (
            f"```diff\n{DIFF}\n```",
            [code("\n".join([*DIFF.splitlines()[:20], "… 31 more lines: the whole is in OpenHands"]))],
            "\n".join([*DIFF.splitlines()[:20], "… 31 more lines: the whole is in OpenHands"]),
        ),
        (f"```\n{DIFF}\n```", [code("\n".join([*DIFF.splitlines()[:20], "… 31 more lines: the whole is in OpenHands"]))], None),
        ("```mermaid\ngraph TD\nA-->B\n```", [code("graph TD\nA-->B")], "graph TD\nA-->B"),
        ("**「設定」**を", [section(text("「設定」", "bold"), text("を"))], "「設定」を"),
        ("これは**「設定」**です", [section(text("これは"), text("「設定」", "bold"), text("です"))], "これは「設定」です"),
        ("*设置（默认）*的", [section(text("设置（默认）", "italic"), text("的"))], "设置（默认）的"),
        ("**설정(기본)**을 ~~「削除」~~する", [section(text("설정(기본)", "bold"), text("을 "), text("「削除」", "strike"), text("する"))], "설정(기본)을 「削除」する"),
        ("a**(b)**c 変数_名前_を **終わり。**次", [section(text("a**(b)**c 変数_名前_を "), text("終わり。", "bold"), text("次"))], None),
    ],
)  # fmt: skip
def test_githubs_dialect_is_legible(source: str, elements: list[Json], words: str | None) -> None:
    """As a block and as text, which is what the card shows: no markup is left, and no word or address is lost."""
    assert rich_text(source, limit=2000) == block(*elements)
    assert plain(source, limit=2000) == words or words is None


@pytest.mark.parametrize("source", ["", " \n\t", "\x00\x1b[0m", "\u200b"])
def test_nothing_to_show_makes_no_block(source: str) -> None:
    """Slack refuses empty ones."""
    assert rich_text(source, limit=1000) == []


def test_a_list_goes_no_deeper_than_slacks_editor() -> None:
    """Deeper levels are shown at the deepest."""
    source = "\n".join("  " * level + "- x" for level in range(MAX_INDENT + 3))

    [shown] = rich_text(source, limit=1000)

    assert [opened["indent"] for opened in shown["elements"]] == [*range(MAX_INDENT + 1), MAX_INDENT, MAX_INDENT]


def test_a_wide_cell_does_not_widen_its_whole_column() -> None:
    """It sticks out by itself, else a table could be many times as long as its source."""
    source = f"| a | b |\n|---|---|\n| {'x' * 100} | y |\n| c | d |"

    assert rich_text(source, limit=1000) == block(
        code(f"{'a':40}  b\n{'-' * 40}  -\n{'x' * 100}  y\n{'c':40}  d")
    )  # fmt: skip


# --- links ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("[the PR](https://github.com/o/r/pull/1)", [link("the PR", "https://github.com/o/r/pull/1")]),
        ("**[a](https://gitea.com)**", [link("a", "https://gitea.com", "bold")]),
        ("[`a`](https://gitea.com)", [link("a", "https://gitea.com", "code")]),
        ("[**a** `b`](https://gitea.com)", [link("a b", "https://gitea.com")]),
        ("[a\nb](https://gitea.com)", [link("a b", "https://gitea.com")]),
        ("[the docs](https://docs.example/a)", [link("the docs (docs.example)", "https://docs.example/a")]),
        ("[docs.example](https://docs.example/a)", [link("docs.example", "https://docs.example/a")]),
        ("[docs.example/a/](https://docs.example/a)", [link("docs.example/a/", "https://docs.example/a")]),
        ("[https://docs.rs/tokio](https://evil.example/docs.rs)", [link("https://docs.rs/tokio (evil.example)", "https://evil.example/docs.rs")]),
        ("[https://docs.rs/tokio](https://github.com/docs.rs)", [link("https://docs.rs/tokio (github.com)", "https://github.com/docs.rs")]),
        ("[git\xadlab.com](https://github.com/x)", [link("gitlab.com (github.com)", "https://github.com/x")]),
        ("[gitlab\u2024com](https://github.com/x)", [link("gitlab\u2024com (github.com)", "https://github.com/x")]),
        ("[](https://gitea.com)", [link("https://gitea.com", "https://gitea.com")]),
        ("see https://gitea.com/x.", [text("see "), link("https://gitea.com/x", "https://gitea.com/x"), text(".")]),
        ("<https://gitea.com/x>", [link("https://gitea.com/x", "https://gitea.com/x")]),
        ("README.md a@b.example www.gitea.com", [text("README.md a@b.example www.gitea.com")]),
        ("[github.com](https://evil.example)", [link("github.com (evil.example)", "https://evil.example")]),
        ("[x](docs/api.md)", [text("x (docs/api.md)")]),
        ("[`x`](#y)", [text("x", "code"), text(" (#y)")]),
        ("<me@gitea.com>", [text("me@gitea.com")]),
        ("[me](mailto:me@gitea.com)", [text("me (mailto:me@gitea.com)")]),
        ("[x](javascript:alert(1))", [text("[x](javascript:alert(1))")]),
        ("[x](https://github.com@evil.example/)", [text("x (https://github.com@evil.example/)")]),
        ("![chart](https://gitea.com/c.png)", [link("chart", "https://gitea.com/c.png")]),
        ("![](https://gitea.com/c.png)", [link("image", "https://gitea.com/c.png")]),
        ("![chart](c.png)", [text("chart (c.png)")]),
        ("[![ci](https://gitea.com/b.svg)](https://gitea.com)", [link("ci", "https://gitea.com")]),
    ],
)  # fmt: skip
def test_links_lead_where_they_say(source: str, parts: list[Json]) -> None:
    """Only http(s) is linked; any other address is written out, and a label shows no other host."""
    assert rich_text(source, limit=1000) == block(section(*parts))


# --- what must not be shown -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("use ghp_" + "a1B2" * 9, "use [redacted]"),
        ("use ghp\\_" + "a1B2" * 9, "use [redacted]"),
        ("use ghp&#95;" + "a1B2" * 9, "use [redacted]"),
        ("use ghp_<!-- -->" + "a1B2" * 9, "use [redacted]"),
        ("use ghp_**" + "a1B2" * 9 + "**", "use [redacted]"),
        ("use ghp\u200c_\xad" + "a1\u200dB\u034f2" * 9, "use [redacted]"),
        ("-----BEGIN PRIVATE KEY-----\n\nMII\n\n-----END PRIVATE KEY-----", "[redacted]"),
        ("[x](https://gitea.com/?t=ghp\\_" + "a1B2" * 9 + ")", "x (https://gitea.com/?t=[redacted])"),
        ("a\x00b\x1b[1mc&#8238;d", "abcd"),
    ],
)
def test_secrets_and_controls_are_gone(source: str, words: str) -> None:
    """Also those that Markdown's escapes would have put together."""
    assert rich_text(source, limit=1000) == block(section(text(words)))


# --- size -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "limit", "elements"),
    [
        ("12345", 5, [section(text("12345"))]),
        ("123456", 5, [section(text("1234…"))]),
        ("123456", 1, [section(text("…"))]),
        ("ab **cd** ef", 6, [section(text("ab "), text("cd", "bold"), text("…"))]),
        ("a\n\n- b\n- c", 3, [section(text("a")), bullets(section(text("b")), section(text("c")))]),
        ("a\n\n- b\n- cd", 3, [section(text("a")), bullets(section(text("b")), section(text("…")))]),
        ("```\n123456\n```", 5, [code("1234…")]),
        ("a [b](https://gitea.com)", 20, [section(text("a "), link("b", "https://gitea.com"))]),
        ("a [b](https://gitea.com)", 19, [section(text("a "), text("…"))]),
        ("a [b](https://gitea.com) c", 20, [section(text("a "), text("…"))]),
    ],
)
def test_what_is_too_long_is_cut_with_an_ellipsis(source: str, limit: int, elements: list[Json]) -> None:
    """Text is cut between characters, a link is left out as a whole; addresses count."""
    assert rich_text(source, limit=limit) == block(*elements)


@pytest.mark.parametrize("limit", [0, -1])
def test_no_room_makes_no_block(limit: int) -> None:
    """There is no place even for an ellipsis."""
    assert rich_text("text", limit=limit) == []


def test_a_block_has_so_many_pieces_and_no_more() -> None:
    """Each has its own JSON, which counts for Slack too."""
    fits = "`a` " * (MAX_PIECES // 2)
    too_many = fits + "`a`"

    assert len(list(leaves(rich_text(fits, limit=9000)))) == MAX_PIECES - 1
    assert len(list(leaves(rich_text(too_many, limit=9000)))) == MAX_PIECES - 1 + 1
    assert list(leaves(rich_text(too_many + " b", limit=9000)))[-1] == text(" …")


@pytest.mark.parametrize("limit", [9000, 40_000])
def test_a_long_source_is_cut_before_it_is_parsed(limit: int) -> None:
    """Its end is marked as any cut is."""
    [shown] = rich_text("word " * 8000, limit=limit)

    assert size([shown]) == min(limit, MAX_SOURCE)
    assert list(leaves([shown]))[-1]["text"].endswith("d…")


@given(ANY_TEXT | MARKDOWN, st.integers(0, 60))
def test_any_source_gives_a_block_slack_takes(source: str, limit: int) -> None:
    """Within the limit, no empty list or text, and exactly what Slack's own classes would write."""
    shown = rich_text(source, limit=limit)

    assert size(shown) <= limit
    assert all(
        leaf["text"] and leaf.get("url", "https://").startswith(("https://", "http://")) for leaf in leaves(shown)
    )
    assert [RichTextBlock(elements=found["elements"]).to_dict() for found in shown] == shown
    assert json.dumps(shown, ensure_ascii=False).encode()


# --- plain ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("# Done\n\nFixed **two** `links`.", "Done\n\nFixed two links."),
        ("1. a\n   - b\n2. c\n\n> q\n\n```\nx\n```", "1. a\n  • b\n2. c\nq\nx"),
        ("[PR](https://gitea.com/1), https://gitea.com/ <https://gitea.com>", "PR (https://gitea.com/1), https://gitea.com/ https://gitea.com"),
        ("<!channel> ghp_" + "a1B2" * 9, "<!channel> [redacted]"),
        ("", ""),
    ],
)  # fmt: skip
def test_plain_text_says_the_same(source: str, words: str) -> None:
    """Markup goes, addresses stay: this is what a screen reader reads."""
    assert plain(source, limit=1000) == words


@pytest.mark.parametrize("source", ["[^0]:- [^0]:", "[^0]:> [^0]:"])
def test_a_footnote_that_is_defined_within_itself_harms_nothing(source: str) -> None:
    """The parser gives the end of its list or quote without the beginning; what follows is as it would be."""
    assert rich_text(f"{source}\n\nText", limit=100) == rich_text("Text", limit=100)


def test_plain_text_is_cut_too() -> None:
    """At exactly the limit it is whole."""
    assert (plain("1\n\n2345", limit=7), plain("1\n\n2345", limit=6)) == ("1\n\n2345", "1\n\n23…")


@given(ANY_TEXT | MARKDOWN, st.integers(0, 60))
def test_any_source_gives_plain_text(source: str, limit: int) -> None:
    """Within the limit; where there is a block, there are words too."""
    words = plain(source, limit=limit)

    assert len(words) <= limit
    assert bool(words) == bool(rich_text(source, limit=limit))
