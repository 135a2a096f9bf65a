"""Errors carry what their caller needs, and no secret."""

from pathlib import Path

import pytest

from bot.core import errors


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (errors.SettingsWrong(["A is missing", "B is wrong"]), "A is missing; B is wrong"),
        (errors.StoreUnavailable(perhaps_saved=True), "the commit got no clear answer"),
        (errors.StoreUnavailable(perhaps_saved=False), "nothing was saved"),
        (
            errors.StoreNewer("0003", "0002"),
            "the database was made by a newer version of this bot (0003; this one knows 0002)",
        ),
        (errors.StoreReplaced("/data/openhands.db"), "/data/openhands.db"),
        (errors.StoreUnreadable("runs", "r1"), "runs r1"),
        (errors.SlackRefused("is_archived"), "is_archived"),
        (errors.SlackNoScope("users:read"), "missing_scope"),
        (errors.SlackBusy("ratelimited", retry_after_s=3), "ratelimited"),
        (errors.TooFast(1.5), "again in 1.5 s"),
        (errors.LoginPage(), "redirected to a login page"),
        (errors.Rejected("your model key sk-123 is wrong"), "rejected"),
    ],
)
def test_the_text_of_an_error(error: errors.BotError, text: str) -> None:
    """It is for logs: words of servers stay in an attribute."""
    assert str(error) == text


def test_the_drawing_is_the_tree() -> None:
    """Every error is drawn in the module's docstring, below its parent."""
    drawn: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        if "──" in line or line.strip() == "BotError":
            name = line.lstrip(" │├└─").split()[0]
            drawn.append((len(line) - len(line.lstrip(" │├└─")), name))
    parents = {name: [above for depth, above in drawn[:at] if depth < own][-1:] for at, (own, name) in enumerate(drawn)}
    real = {
        kind.__name__: [kind.__mro__[1].__name__] if kind is not errors.BotError else []
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.BotError)
    }
    assert parents == real
    assert Path(errors.__file__).name == "errors.py"


@pytest.mark.parametrize(
    ("to", "said"), [("https://openhands.example", "redirected to https://openhands.example"), ("", "redirected")]
)
def test_a_redirect_says_where_it_leads(to: str, said: str) -> None:
    """It stands in the log as the cause, so it is a sentence even where the server names no target."""
    assert (str(errors.Moved(to)), errors.Moved(to).to) == (said, to)
