"""Text from and to Slack: read its wire form, escape, redact, clean, shorten, link.

Outside text (the agent's words, names, errors) passes these steps in order: `clean`, `redact`, `shorten`, `escape`.
Escaping comes last, so that a cut never falls inside `&amp;`.
"""

import re
import unicodedata

REDACTED = "[redacted]"
ELLIPSIS = "…"
MAX_URL = 3_000  # characters; Slack's limit for the address of a button

# --- Slack's wire form ------------------------------------------------------------------------------------------

_ENTITY = re.compile(r"<([^<>]*)>")
_LINK_SCHEME = re.compile(r"(?:https?://|mailto:|tel:)")
_LINK_IN_WORD = re.compile(r"(<https?://[^<>|]*>)(?=\w)")  # Slack knows where it ends; without a blank nobody else does
_IN_WORD_BEFORE = re.compile(r"[\w/@-]", re.ASCII)
_IN_WORD_AFTER = re.compile(r"[/'’-]\w", re.ASCII)
NAME = "OpenHands"
"""Our display name, as people read it where they mention us."""


def escape(text: str) -> str:
    """Escape outside text for `mrkdwn` and a message's `text`, so that no mention, link or date in it can work."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def unescape_request(text: str, bot_user: str) -> str:
    """Return the text a person typed, from the wire form of a request, without the mention of `bot_user`.

    Our mention stays, as our name, where it is part of a word: `@OpenHands/OpenHands`. Mentions of others stay as
    `<@U…>`, since names are not known here. Links become their bare address, after a label that says more than it.
    """
    text = _LINK_IN_WORD.sub(r"\1 ", _without_mention(text, bot_user))
    text = _ENTITY.sub(_readable, text)
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&").strip()


def _without_mention(text: str, bot_user: str) -> str:
    """Cut out the mention of `bot_user` with the blanks around it, and after the first one also a comma or colon."""
    first, *others = re.split(rf"<@{re.escape(bot_user)}(?:\|[^<>]*)?>", text)
    said, begun = [first], bool(first.strip())
    for after in others:
        before = said[-1][-1:]
        if _IN_WORD_BEFORE.match(before) or _IN_WORD_AFTER.match(after):
            said += (f"@{NAME}", after)
        elif not begun:
            said = [after.removeprefix(",").removeprefix(":").lstrip()]
        elif before == "\n":
            said += filter(None, [after.lstrip(" \t")])
        else:
            said[-1] = said[-1].rstrip(" \t")
            said.append(after)
        begun = begun or bool(said[-1].strip())
    return "".join(said)


def _readable(found: re.Match[str]) -> str:
    target, _, label = found[1].partition("|")
    match target[:1]:
        case "@":
            return f"<{target}>"
        case "#":
            return f"#{label or target[1:]}"
        case "!" if target.startswith("!date^"):
            return label or target
        case "!":
            # <!here>, <!channel>, <!subteam^S1|@team>
            return f"@{(label or target[1:].rpartition('^')[2]).removeprefix('@')}"
        case _:
            # Slack turns what only looks like a link into one: README.md arrives as <http://README.md|README.md>.
            typed = _LINK_SCHEME.sub("", target, count=1)
            if label == typed:
                return label
            return f"{label} ({target})" if label and label not in target else target


# --- what must not be shown -------------------------------------------------------------------------------------

_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x9b[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|\x1b[@-Z\\^_]")
_LINE_ENDS = re.compile("\r\n?|[\x85\u2028\u2029]")
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, except tab and newline
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidi controls: they show text in another order than it has
    "\xad\u034f\u200b\u2060-\u2064\u206a-\u206f\ufeff]"  # seen as nothing: they would hide a token from `redact`
)
_JOINERS = "[\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200c\u200d\u3164\uffa0\ufe00-\ufe0f\U000e0000-\U000e0fff]"
_SPLITTERS = re.compile(f"(?<=[!-~]){_JOINERS}+(?=[!-~])")  # writing needs them, but never between ASCII letters
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    """Remove what is not text: terminal colours, control, bidi and invisible characters; newline and tab stay."""
    text = _SPLITTERS.sub("", _INVISIBLE.sub("", _LINE_ENDS.sub("\n", _ANSI.sub("", text))))
    # JSON can carry half of a surrogate pair, UTF-8 cannot.
    return _LONE_SURROGATE.sub("\ufffd", text)


# Each pattern matches the whole run of token characters, so that no redaction uncovers the start of another token:
# redaction is idempotent. Look-aheads are bounded, so that no text makes the search slow.
_SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?:.*?-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----|.*)", re.DOTALL
        ),
        REDACTED,
    ),
    (
        re.compile(
            r"(authorization[\"']?[ \t]{0,4}[:=][ \t]{0,4}[\"']?"
            r"(?:(?:bearer|basic|token)[ \t]{1,4}(?=[\w.~+/=-]{8})|(?=[\w.~+/=-]{12})))[\w.~+/=-]+",
            re.ASCII | re.IGNORECASE,
        ),
        rf"\g<1>{REDACTED}",
    ),
    (
        re.compile(
            r"(\bbearer[ \t]{1,4})(?=[\w.~+/=-]{0,200}\d)[\w.~+/=-]{16,}+",
            re.ASCII | re.IGNORECASE,
        ),
        rf"\g<1>{REDACTED}",
    ),
    # A password is anything in quotes, or a long word that is not an expression such as os.environ["X"].
    (
        re.compile(
            r"((?:password|passwd|passphrase|pwd)[\"']?[ \t]{0,4}[:=][ \t]{0,4}([\"']))[^\"'\n]+(?=\2)", re.IGNORECASE
        ),
        rf"\g<1>{REDACTED}",
    ),
    (
        re.compile(
            r"((?:password|passwd|passphrase|pwd)[\"']?[ \t]{0,4}[:=][ \t]{0,4}[\"']?)"
            r"(?![^\s\"'`,;()\[\]{}<>]{0,200}+[(\[])[^\s\"'`,;()\[\]{}<>]{8,}+",
            re.IGNORECASE,
        ),
        rf"\g<1>{REDACTED}",
    ),
    # Keys and tokens of services unknown here: long, with a digit, so that `key=value` in code stays readable.
    (
        re.compile(
            r"((?:(?<![a-z])key|token|secret)[\"']?[ \t]{0,4}[:=][ \t]{0,4}[\"']?)"
            r"(?=[\w.~+/=-]{0,200}\d)[\w.~+/=-]{16,}+",
            re.ASCII | re.IGNORECASE,
        ),
        rf"\g<1>{REDACTED}",
    ),
    (
        re.compile(
            r"(?:"
            r"(?:gh[opsur]_|github_pat_)\w{16,}"  # GitHub
            r"|gl(?:pat|ptt|dt|rt|cbt|soat|ft)-[\w-]{16,}"  # GitLab
            r"|xox[a-z]-[\w-]{10,}|xapp-[\w-]{10,}|hooks\.slack\.com/[\w/-]{10,}"  # Slack
            r"|(?:AKIA|ASIA)[A-Z0-9]{16,}"  # AWS
            r"|AIza[\w-]{30,}"  # Google
            r"|[rs]k_(?:live|test)_\w{16,}"  # Stripe
            r"|npm_\w{30,}|pypi-[\w-]{30,}|hf_\w{30,}"
            r")[\w-]*",
            re.ASCII,
        ),
        REDACTED,
    ),
    (
        re.compile(r"(?<![A-Za-z0-9])sk-(?=[\w-]{0,200}\d)[\w-]{20,}", re.ASCII),
        REDACTED,
    ),  # OpenAI, Anthropic, OpenHands
    (re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?", re.ASCII), REDACTED),  # JWT
    (re.compile(r"(?<=://)(?:[^\s/@:]*:[^\s/@]+|[^\s/@:]{20,})(?=@)"), REDACTED),  # https://user:password@host
)


def redact(text: str) -> str:
    """Replace what looks like a secret: tokens of known services, keys, passwords, credentials in addresses.

    Idempotent. It errs towards hiding; names such as `password=` stay readable.
    """
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


# --- letter by letter -------------------------------------------------------------------------------------------

_PLAIN_ASCII = re.compile(r"[^\n -~]")


def literal(text: str) -> str:
    r"""Write everything that is not surely what it looks like as `\u…`: controls, invisible and look-alike characters.

    ASCII and line feeds stay, and letters that pass for no other: those of Western Europe, China, Japan and Korea.
    """
    return _PLAIN_ASCII.sub(lambda found: _named(found[0]), text)


def _named(character: str) -> str:
    number = ord(character)
    letter = unicodedata.category(character) in {"Lu", "Ll", "Lo"} and unicodedata.is_normalized("NFKC", character)
    syllable = (
        unicodedata.east_asian_width(character) == "W" and not 0x1100 <= number <= 0x11FF
    )  # of those, one is blank
    if letter and (number <= 0xFF or syllable):
        return character
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"


# --- length -----------------------------------------------------------------------------------------------------

_LONGEST_CLUSTER = 32  # characters; a longer pile of accents is not writing and may be cut anywhere
_JOINER = "\u200d"


def shorten(text: str, limit: int) -> str:
    """Cut to at most `limit` characters, the last of them `…`; an emoji or accented letter is kept or dropped whole."""
    if len(text) <= limit:
        return text
    if limit < 1:
        return ""
    cut = limit - len(ELLIPSIS)
    places = range(cut, max(0, cut - _LONGEST_CLUSTER), -1)
    whole = next((place for place in places if not _inside_cluster(text, place)), cut)
    return text[:whole].rstrip() + ELLIPSIS


def outside(text: str, limit: int) -> str:
    """Clean, redact and shorten outside text to at most `limit` characters. It is not escaped yet."""
    return shorten(redact(clean(text)), limit)


def _inside_cluster(text: str, place: int) -> bool:
    """Return whether a cut before the character at `place` would split what is seen as one character."""
    before, after = text[place - 1], text[place]
    if _JOINER in (before, after):
        return True
    if unicodedata.category(after).startswith("M") or "\U0001f3fb" <= after <= "\U0001f3ff":
        return True  # an accent, a variation selector, a skin tone
    if _is_flag_letter(before) and _is_flag_letter(after):
        start = place
        while start > 0 and _is_flag_letter(text[start - 1]):
            start -= 1
        return (place - start) % 2 == 1  # flags are pairs of letters
    return False


def _is_flag_letter(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


# --- links ------------------------------------------------------------------------------------------------------

# Strict on purpose: no user part (https://github.com@evil.example), no backslash, no host beyond ASCII.
_WEB = re.compile(
    r"https?://([a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?(?:[/?#][^\s\\<>\"]*)?",
    re.IGNORECASE | re.ASCII,
)
_DOT = "[.\u2024\u3002\ua4f8\ufe52\uff0e\uff61]"  # browsers treat some of these as a dot, people all of them
_UNSEEN = frozenset({"Cf", "Mn", "Me"})
_SHOWN_HOST = re.compile(
    rf"(?<=://)(?:[\w\[\]-]|{_DOT})+"
    rf"|(?<![\w.-])\w[\w-]{{0,62}}(?:{_DOT}[\w-]{{1,63}}){{0,126}}{_DOT}[^\W\d_][\w-]{{1,62}}(?![\w-])"
)
_FILE_ENDINGS = frozenset(
    {"c", "cpp", "css", "go", "h", "html", "java", "js", "json", "lock", "md", "php", "pl", "py", "rb", "rs", "rst"}
    | {"sh", "sql", "toml", "ts", "tsx", "txt", "xml", "yaml", "yml"}
)  # those that agents link to most; some are also country domains (.md, .py, .rs)


def web_host(url: str) -> str | None:
    """Return the host of an http(s) address, in lower case; None if the address is not safe to link."""
    found = _WEB.fullmatch(url) if len(url) <= MAX_URL else None
    return found[1].lower() if found else None


GIT_HOSTS = frozenset({"github.com", "gitlab.com", "bitbucket.org", "codeberg.org", "gitea.com", "dev.azure.com"})
_GIT_DOMAINS = (".ghe.com", ".visualstudio.com")


def is_git_host(host: str | None) -> bool:
    """Return whether a host is a git provider's, open to all the world."""
    name = (host or "").removeprefix("www.")
    return name in GIT_HOSTS or name.endswith(_GIT_DOMAINS)


def outside_label(label: str, url: str) -> str:
    """Return the label of a link from outside: beside any other name than the address itself stands its host.

    A git provider's host is left out, as long as the label shows no other.
    """
    host = web_host(url)
    bare = [text.removeprefix("https://").removeprefix("http://").rstrip("/") for text in (label, url)]
    if not label or bare[0] == bare[1] or bare[0].lower() == host:
        return label
    return honest_label(label, url) if is_git_host(host) else f"{label} ({host})"


def honest_label(label: str, url: str) -> str:
    """Add the real host to a label that shows a host other than that of `url`, which `web_host` must accept.

    Compared is what a reader sees: without invisible characters, look-alikes as the ASCII they look like.
    """
    host = web_host(url)
    seen = unicodedata.normalize("NFKC", "".join(one for one in label if unicodedata.category(one) not in _UNSEEN))
    files = re.split(r"[/?#]", url.lower())
    for shown in _SHOWN_HOST.findall(seen):
        name = re.sub(_DOT, ".", shown).strip(".").lower()
        is_file = "://" not in seen and name.rpartition(".")[2] in _FILE_ENDINGS and name in files[3:]
        if not is_file and name.removeprefix("www.") != (host or "").removeprefix("www."):
            return f"{label} ({host})"
    return label


def link(url: str, label: str) -> str:
    """Return a link in `mrkdwn`; if the address is not safe to link, only the label, escaped."""
    label = " ".join(label.split())
    if web_host(url) is None:
        return escape(label)
    shown = honest_label(label, url) or url
    address = url.replace("|", "%7C").replace("&", "&amp;")
    return f"<{address}|{escape(shown).replace('|', '¦')}>"  # `|` separates address and label
