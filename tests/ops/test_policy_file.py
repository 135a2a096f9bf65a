"""`policy.toml`: read as a whole, every mistake with its line."""

from pathlib import Path

import pytest

from bot.core.errors import SettingsWrong
from bot.core.policy import OPEN, Approval, Rule, Rules
from bot.ops import policy_file

WHOLE = """\
admins = ["U0ADMIN", "S0OPS"]
channels = ["C0DEV", "direct"]
denied_channels = ["C0RANDOM"]
repositories = ["org/*", "none"]
starters = ["S0DEVS"]
stop = ["requester", "S0DEVS"]
approval = "not the requester"

[[rules]]
name = "payments"
repositories = ["org/payments-*"]
channels = ["C0PAY"]
approvers = ["S0LEADS"]
approval = "two people"

[[rules]]
name = "docs"
repositories = [
  "org/docs",
]
starters = ["everybody"]
"""


def mistakes(text: str) -> list[str]:
    with pytest.raises(SettingsWrong) as wrong:
        policy_file.parse(text)
    return [one.removeprefix("policy.toml, ") for one in wrong.value.problems]


def test_a_whole_file() -> None:
    """Everything that it can say."""
    assert policy_file.parse(WHOLE) == Rules(
        admins=("U0ADMIN", "S0OPS"),
        channels=("C0DEV", "direct"),
        denied_channels=("C0RANDOM",),
        repositories=("org/*", "none"),
        general=Rule(people={"starters": ("S0DEVS",), "stop": ("requester", "S0DEVS")}, approval=Approval.OTHERS),
        rules=(
            Rule(
                name="payments",
                channels=("C0PAY",),
                repositories=("org/payments-*",),
                people={"approvers": ("S0LEADS",)},
                approval=Approval.TWO,
            ),
            Rule(name="docs", repositories=("org/docs",), people={"starters": ("everybody",)}),
        ),
    )


def test_an_empty_file_is_open() -> None:
    """As no file is."""
    assert policy_file.parse("") == OPEN == policy_file.read(None)[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("admins = [", ["line 1: Invalid value"]),
        ('admins = ["U0ADMIN"]\nstarters = ["S0DEVS"\n\nstop = []', ["line 4: Unclosed array"]),
        ('starter = ["U0ALICE"]', ["line 1: starter is no key of this file"]),
        ("\n[starters]\nU0ALICE = true", ["line 2: starters must be a list, as in […]"]),
        ('starters = "U0ALICE"', ["line 1: starters must be a list, as in […]"]),
        (
            'starters = ["U0ALICE"]\nstop = [\n  "U0ALICE",\n  "@bob",\n]',
            ['line 4: stop: "@bob" is no id: write U… of a person, S… of a user group, "everybody" or "requester"'],
        ),
        (
            'admins = ["everybody"]',
            ['line 1: admins: "everybody" is no id: write U… of a person or S… of a user group'],
        ),
        (
            '# who\nchannels = ["#dev"]',
            ['line 2: channels: "#dev" is no id: write C… of a channel, or "direct" for direct messages'],
        ),
        (
            'repositories = ["repo"]',
            [
                'line 1: repositories: "repo" is no repository: write "org/repo", "org/*", or "none" for tasks without any'
            ],
        ),
        (
            '[[rules]]\nname = "a"\n\n[[rules]]\nstop = []\n\n[[rules]]\nname = "c"\nadmins = []',
            ["line 4: name is missing", "line 9: admins is no key of this file"],
        ),
        (
            'approval = "nobody"',
            ["line 1: approval: it must be 'one person', 'not the requester' or 'two people'"],
        ),
        ("rules = 3", ["line 1: rules must be a list, as in […]"]),
        ("[[other]]", ["line 1: other is no key of this file"]),
        ('rules = [{name = "a", nobody = []}]', ["line 1: nobody is no key of this file"]),
    ],
)
def test_every_mistake_has_its_line(text: str, said: list[str]) -> None:
    """All are named at once, in the order of the file."""
    assert mistakes(text) == said


def test_a_file_that_can_not_be_read_is_said(tmp_path: Path) -> None:
    """It is missing, or written in another encoding."""
    file = tmp_path / "policy.toml"
    with pytest.raises(SettingsWrong, match="it can't be read"):
        policy_file.read(file)
    file.write_bytes(b'admins = ["\xff"]')
    with pytest.raises(SettingsWrong, match="it is not UTF-8"):
        policy_file.read(file)


def test_a_file_is_known_by_its_fingerprint(tmp_path: Path) -> None:
    """So that a change of it can be told."""
    file = tmp_path / "policy.toml"
    file.write_text(WHOLE)
    first = policy_file.read(file)
    file.write_text(WHOLE + "# more")
    assert first[0] == policy_file.read(file)[0]
    assert first[1] != policy_file.read(file)[1]
