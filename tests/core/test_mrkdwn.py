"""Text from and to Slack: nothing in outside text may work as a mention, mislead, leak or break a message."""

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core.mrkdwn import (
    MAX_URL,
    clean,
    escape,
    honest_label,
    link,
    literal,
    redact,
    shorten,
    unescape_request,
    web_host,
)

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))
SECRET_PARTS = st.lists(
    st.sampled_from(
        [
            *(
                "ghp_",
                "github_pat_",
                "glpat-",
                "xoxb-",
                "xapp-",
                "AKIA",
                "AIza",
                "sk-",
                "eyJ",
                "hf_",
                "hooks.slack.com/",
            ),
            *(
                "password=",
                "token: ",
                "key=",
                '"secret": "',
                "Authorization: ",
                "Bearer ",
                "https://",
                "user:",
                "@host",
            ),
            *(
                "-----BEGIN PRIVATE KEY-----",
                "-----END PRIVATE KEY-----",
                "[redacted]",
                "abc",
                "ABCDEFGH",
                "A1B2C3D4" * 4,
            ),
            *('"', "'", " ", "\n", ".", ":", "/", "@", "(", "[", "]", "-", "_", "="),
        ]
    ),
    max_size=14,
).map("".join)


# --- escape -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain *text*", "plain *text*"),
        ("<!channel> & <@U1>", "&lt;!channel&gt; &amp; &lt;@U1&gt;"),
        ("&lt;", "&amp;lt;"),
        ("", ""),
    ],
)
def test_escape_makes_text_literal(text: str, escaped: str) -> None:
    """`&` first, so that what is escaped already stays what it was."""
    assert escape(text) == escaped


@given(ANY_TEXT)
def test_escaped_text_has_no_markup_and_reads_back_the_same(text: str) -> None:
    """No angle bracket is left, and Slack's decoding gives the text again."""
    escaped = escape(text)

    assert "<" not in escaped
    assert ">" not in escaped
    assert unescape_request(f"<@U0BOT> x{escaped}x <@U0BOT>", "U0BOT") == f"x{text}x"


# --- unescape_request -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wire", "plain"),
    [
        ("<@U0BOT> fix README in org/repo", "fix README in org/repo"),
        ("<@U0BOT|openhands> fix it", "fix it"),
        ("<@U0BOT>: fix it", "fix it"),
        ("<@U0BOT>, fix it", "fix it"),
        ("  <@U0BOT>\n<@U0BOT>  fix it ", "fix it"),
        ("please <@U0BOT> fix it", "please fix it"),
        ("fix it <@U0BOT>", "fix it"),
        ("fix it\n<@U0BOT> now", "fix it\nnow"),
        ("fix it\n<@U0BOT> <@U0BOT> now <@U0BOT> and \t<@U0BOT>\nthen", "fix it\nnow and\nthen"),
        ("<@U0BOT>", ""),
        ("", ""),
        ("ask <@U1> and <@W2|bob>", "ask <@U1> and <@W2>"),
        ("see <#C1|general>, <#C2> and <#C3|>", "see #general, #C2 and #C3"),
        ("<!here> <!channel|channel> <!subteam^S1|@web> <!subteam^S2>", "@here @channel @web @S2"),
        ("at <!date^1700000000^{date}|14 Nov 2023>", "at 14 Nov 2023"),
        ("fix <https://github.com/org/repo/issues/12>", "fix https://github.com/org/repo/issues/12"),
        ("fix <https://git.example/o/r/issues/12|the bug>", "fix the bug (https://git.example/o/r/issues/12)"),
        ("fix <https://github.com/org/repo|org/repo>", "fix https://github.com/org/repo"),
        ("<https://a.example/?x=1&amp;y=2|here>", "here (https://a.example/?x=1&y=2)"),
        ("<https://github.com/org/repo>のREADMEを直して", "https://github.com/org/repo のREADMEを直して"),
        (
            "<https://github.com/org/repo>, <https://github.com/org/b>.",
            "https://github.com/org/repo, https://github.com/org/b.",
        ),
        ("fix README in <@U0BOT>/OpenHands", "fix README in @OpenHands/OpenHands"),
        ("why does <@U0BOT>/typescript-client fail?", "why does @OpenHands/typescript-client fail?"),
        ("<@U0BOT>/OpenHands: fix it", "@OpenHands/OpenHands: fix it"),
        ("why is <@U0BOT>'s build slow?", "why is @OpenHands's build slow?"),
        ("<@U0BOT>直して", "直して"),
        ("look at org/<@U0BOT> and x-<@U0BOT>", "look at org/@OpenHands and x-@OpenHands"),
        ("(<@U0BOT>) fix it", "() fix it"),
        ("fix <http://README.md|README.md> in org/repo", "fix README.md in org/repo"),
        ("mail <mailto:a@b.example|a@b.example>", "mail a@b.example"),
        ("a &lt; b &amp;&amp; c &gt; d", "a < b && c > d"),
        ("show &amp;lt; and &lt;@U0BOT&gt;", "show &lt; and <@U0BOT>"),
        ("&gt; quoted", "> quoted"),
        ("<@U0BOTX> is somebody else", "<@U0BOTX> is somebody else"),
    ],
)
def test_a_request_reads_as_it_was_typed(wire: str, plain: str) -> None:
    """Only our own mention goes; links are bare addresses, `&amp;` is unescaped last of all."""
    assert unescape_request(wire, "U0BOT") == plain


# --- clean ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("a\tb\nc", "a\tb\nc"),
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x9b31mred", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;https://x.example\x1b\\link", "link"),
        ("\x1bMup \x1b", "up "),
        ("nul\x00 bell\x07 del\x7f", "nul bell del"),
        ("safe\u202etxt.exe\u2066", "safetxt.exe"),
        ("gh\u200bp_", "ghp_"),
        ("half \ud83d pair", "half \ufffd pair"),
        ("👩\u200d💻 é ע", "👩\u200d💻 é ע"),
    ],
)
def test_clean_keeps_only_text(text: str, cleaned: str) -> None:
    """Terminal colours, control, bidi and hidden characters go; newline, tab and joined emoji stay."""
    assert clean(text) == cleaned


@given(ANY_TEXT)
def test_clean_text_can_be_sent(text: str) -> None:
    """Cleaning twice changes nothing, and the result is UTF-8 without control characters."""
    cleaned = clean(text)

    assert clean(cleaned) == cleaned
    assert cleaned.encode().decode() == cleaned
    assert not [c for c in cleaned if unicodedata.category(c) == "Cc" and c not in "\n\t"]


# --- redact -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("use ghp_" + "a1B2" * 9 + ".", "use [redacted]."),
        ("gho_" + "a1B2" * 9, "[redacted]"),
        ("github_pat_" + "a1B2_" * 12, "[redacted]"),
        ("glpat-" + "a1B2" * 5, "[redacted]"),
        ("xoxb-123456789012-abcdefABCDEF", "[redacted]"),
        ("xapp-1-A012345-678-abcdef", "[redacted]"),
        ("https://hooks.slack.com/services/T0/B0/abc", "https://[redacted]"),
        ("AKIAIOSFODNN7EXAMPLE", "[redacted]"),
        ("sk-proj-abc123def456ghi789jkl", "[redacted]"),
        ("sk-ant-api03-abc123def456ghi789", "[redacted]"),
        ("AIza" + "Sy1_" * 9, "[redacted]"),
        ("rk_live_" + "a1B2" * 5, "[redacted]"),
        ("npm_" + "a1B2" * 9, "[redacted]"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_1", "[redacted]"),
        ("a\n-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----\nb", "a\n[redacted]\nb"),
        ("cut off: -----BEGIN PRIVATE KEY-----\nMII", "cut off: [redacted]"),
        ("git clone https://me:pass@git.example/x", "git clone https://[redacted]@git.example/x"),
        ("postgres://bot:s3cret@db:5432/x", "postgres://[redacted]@db:5432/x"),
        ("https://0123456789abcdef0123456789abcdef01234567@git.example", "https://[redacted]@git.example"),
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer [redacted]"),
        ("-H 'authorization: Basic dXNlcjpwYXNz'", "-H 'authorization: Basic [redacted]'"),
        ("bearer 0123456789abcdef", "bearer [redacted]"),
        ("API_KEY=0123456789abcdef0123", "API_KEY=[redacted]"),
        ('{"token": "0123456789abcdef"}', '{"token": "[redacted]"}'),
        ("client-secret: 0123456789abcdef", "client-secret: [redacted]"),
        ('password = "a b c"', 'password = "[redacted]"'),
        ("PASSWORD=correcthorse", "PASSWORD=[redacted]"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, redacted: str) -> None:
    """The secret goes, what it was called stays."""
    assert redact(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "see https://github.com/org/repo/pull/12 and https://medium.example/@someone",
        "mail a@b.example, ssh git@github.com:org/repo.git",
        "sk-learn, task-force-with-a-very-long-name-2, risk-0123456789abcdef0123",
        'password = os.environ["PASSWORD"]; pwd=getpass()',
        "token = settings.github_token; key=value; monkey=0123456789abcdef0123",
        "commit 0123456789abcdef0123456789abcdef01234567",
        "the bearer of good-news-and-other-things",
        "ghp_short, AKIA, xoxb-1, eyJhbGciOiJIUzI1NiJ9",
        "-----BEGIN CERTIFICATE-----",
        "3f0e8c1a-7f3b-4c7e-9d55-0a1b2c3d4e5f",
        "[redacted]",
        "",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    """Links, commit ids, code that only names a secret: people need to read these."""
    assert redact(text) == text


@given(ANY_TEXT | SECRET_PARTS)
def test_redacting_again_changes_nothing(text: str) -> None:
    """No redaction uncovers another: text may pass here several times on its way."""
    once = redact(clean(text))

    assert redact(once) == once
    assert redact(clean(once)) == once


@pytest.mark.parametrize(
    "piece",
    [
        "key=",
        "password=",
        'password="',
        "://",
        "://a:",
        "eyJ",
        "sk-",
        "ghp_",
        "a.",
        "bearer ",
        "-----BEGIN ",
        "\x1b]",
        " \t",
    ],
)
def test_hostile_text_is_cleaned_and_redacted_fast(piece: str) -> None:
    """Work grows with the length of the text, not with its square."""
    text = piece * (100_000 // len(piece))
    began = time.process_time()

    redact(clean(text))

    assert time.process_time() - began < 2


# --- shorten ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "limit", "shortened"),
    [
        ("hello", 5, "hello"),
        ("hello!", 5, "hell…"),
        ("one two", 5, "one…"),
        ("hello", 1, "…"),
        ("hello", 0, ""),
        ("hello", -1, ""),
        ("", 0, ""),
        ("cafe\u0301s", 5, "caf…"),
        ("ok👍🏽!", 4, "ok…"),
        ("x👩\u200d💻!", 4, "x…"),
        ("x👩\u200d💻!", 3, "x…"),
        ("x👩\u200d💻!!", 5, "x👩\u200d💻…"),
        ("❤\ufe0f!!", 2, "❤…"),
        ("🇩🇪🇫🇷!", 4, "🇩🇪…"),
        ("🇩🇪🇫🇷!", 3, "🇩🇪…"),
        ("a" + "\u0301" * 100, 60, "a" + "\u0301" * 58 + "…"),
    ],
)
def test_shortened_text_fits_and_keeps_characters_whole(text: str, limit: int, shortened: str) -> None:
    """An accent, a skin tone, a joined emoji or a flag is not parted; a pile of accents without end is."""
    assert shorten(text, limit) == shortened


@given(ANY_TEXT, st.integers(-1, 40))
def test_shortened_text_is_a_beginning_within_the_limit(text: str, limit: int) -> None:
    """What fits is untouched; else a beginning and an ellipsis."""
    shortened = shorten(text, limit)

    assert len(shortened) <= max(limit, 0)
    assert shortened == text or not shortened or text.startswith(shortened.removesuffix("…"))


# --- links ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://GitHub.com/org/repo", "github.com"),
        ("HTTP://localhost:3000", "localhost"),
        ("https://[::1]:8080/x?y#z", "[::1]"),
        ("https://a.example?x=1", "a.example"),
        ("https://a.example/ü", "a.example"),
        ("https://github.com@evil.example/", None),
        ("https://user:pass@evil.example/", None),
        (r"https://github.com\.evil.example/", None),
        ("https://gіthub.com/", None),
        ("https://a.example/ b", None),
        ("https://a.example/<!channel>", None),
        ("javascript:alert(1)", None),
        ("//a.example", None),
        ("https://", None),
        ("https://-a.example", None),
        ("ftp://a.example", None),
        ("", None),
        ("https://a.example/" + "x" * (MAX_URL - 18), "a.example"),
        ("https://a.example/" + "x" * (MAX_URL - 17), None),
    ],
)
def test_only_plain_web_addresses_are_linked(url: str, host: str | None) -> None:
    """No other scheme, no user part, no look-alike letters, nothing that could end the link."""
    assert web_host(url) == host


@pytest.mark.parametrize(
    ("label", "url", "honest"),
    [
        ("pull request 12", "https://github.com/o/r/pull/12", "pull request 12"),
        ("github.com/o/r", "https://www.github.com/o/r", "github.com/o/r"),
        ("https://github.com/o/r.", "https://github.com/o/r", "https://github.com/o/r."),
        ("https://github.com", "https://evil.example", "https://github.com (evil.example)"),
        ("see github.com!", "https://evil.example/github.com", "see github.com! (evil.example)"),
        ("gіthub.com", "https://github.com", "gіthub.com (github.com)"),
        ("github。com", "https://evil.example", "github。com (evil.example)"),
        ("http://10.0.0.1/", "https://evil.example", "http://10.0.0.1/ (evil.example)"),
        ("src/utils.py", "https://github.com/o/r/blob/main/src/utils.py#L3", "src/utils.py"),
        ("README.md", "https://evil.example/", "README.md (evil.example)"),
        ("version 1.2.3", "https://a.example", "version 1.2.3"),
    ],
)
def test_a_label_shows_no_other_host(label: str, url: str, honest: str) -> None:
    """Where the words name a host that the address does not lead to, the real one is added."""
    assert honest_label(label, url) == honest


@pytest.mark.parametrize(
    ("url", "label", "written"),
    [
        ("https://a.example/x?a=1&b=2", "Tom & Co", "<https://a.example/x?a=1&amp;b=2|Tom &amp; Co>"),
        ("https://a.example/x|y", "a|b\n>c", "<https://a.example/x%7Cy|a¦b &gt;c>"),
        ("https://a.example", "", "<https://a.example|https://a.example>"),
        ("https://evil.example", "github.com", "<https://evil.example|github.com (evil.example)>"),
        ("javascript:alert(1)", "<click>", "&lt;click&gt;"),
        ("https://a.example/>", "x", "x"),
    ],
)
def test_a_link_leads_where_it_says(url: str, label: str, written: str) -> None:
    """Address and label cannot break out of the link; an unsafe address leaves the label alone."""
    assert link(url, label) == written


@given(ANY_TEXT, ANY_TEXT)
def test_a_link_is_one_link_or_plain_text(url: str, label: str) -> None:
    """Whatever is given, at most one pair of brackets and one bar come out."""
    for address in (url, f"https://a.example/{url}"):
        written = link(address, label)
        inner = written[1:-1] if written.startswith("<") else written

        assert "<" not in inner
        assert ">" not in inner
        assert not written.startswith("<") or inner.count("|") == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ls -l\n~ \\u2028", "ls -l\n~ \\u2028"),
        ("\x1b\t\r\u2028\u202e\xad\u3164\u115f\u0301", r"\u001b\u0009\u000d\u2028\u202e\u00ad\u3164\u115f\u0301"),
        ("é 設定 설정 か", "é 設定 설정 か"),
        ("gіthub；ª×\U0001f600\ud800א", r"g\u0456thub\uff1b\u00aa\u00d7\U0001f600\ud800\u05d0"),
    ],
)
def test_what_is_approved_is_written_letter_by_letter(text: str, shown: str) -> None:
    """Nothing is left out, and nothing looks like something else."""
    assert literal(text) == shown
