"""What is declared about words and buttons is what the bot does with them."""

from typing import get_args

import pytest

from bot.core import commands, lifecycle, words
from bot.core.model import Act, Action, Command, Do, RunState, Start, Unclear, Waiting, Why
from bot.core.vocabulary import (
    ALONE,
    ASIDE,
    BUTTONS,
    NEW,
    NO_REPOSITORY,
    ONLY,
    OPEN,
    REPOSITORY,
    TYPED,
    WHY,
    WORDS,
    Word,
)
from tests.core.runs import a_run

FORMS = (ONLY, NEW, ASIDE, REPOSITORY, NO_REPOSITORY, WHY)
"""What is no command by itself, and read by a function of its own."""
SPELLINGS = [spelling for word in WORDS for spelling in word.spellings]


@pytest.mark.parametrize(("spelling", "command"), ALONE.items(), ids=ALONE)
def test_a_word_is_the_command_it_is_declared_as(spelling: str, command: object) -> None:
    """Alone, in any case, with punctuation; among other words it is a task."""
    assert commands.parse(spelling) == commands.parse(f" {spelling.upper()}! ") == command
    assert commands.parse(f"{spelling} the flaky test") == Start(f"{spelling} the flaky test")


@pytest.mark.parametrize("word", WORDS, ids=lambda word: word.spellings[0])
def test_a_word_is_a_command_or_has_a_reader(word: Word) -> None:
    """Another one would be told about, and go to the agent."""
    assert (word.command is None) == (word in FORMS)


def test_every_command_can_be_typed() -> None:
    """A task, and what can't be understood, are what everything else is."""
    assert {type(word.command) for word in WORDS} - {type(None)} == {*get_args(Command)} - {Start, Unclear, Why}


def test_each_form_is_read_by_its_function() -> None:
    """By its example, and by each spelling that needs none."""
    assert commands.anew(NEW.example) == "fix the tests in org/repo"
    assert commands.is_aside(ASIDE.example)
    assert commands.repository_answer(REPOSITORY.example) == commands.Answer("org/repo", "dev")
    assert commands.repository_answer(REPOSITORY.spellings[0]) == commands.Answer("org/repo")
    assert commands.parse(WHY.example) == Why("@bob", "#dev", "org/repo", Act.APPROVE)
    assert {commands.repository_answer(spelling) for spelling in NO_REPOSITORY.spellings} == {commands.Answer(None)}


def test_a_spelling_means_one_thing() -> None:
    """Each stands in the table once."""
    assert len(SPELLINGS) == len(set(SPELLINGS))


def test_every_action_can_be_clicked_and_typed() -> None:
    """Each has one button, with a label of its own, and one word; the two that answer a question have their own."""
    answers = {Action.USE, Action.NO_REPOSITORY}
    labels = [OPEN.label, *(button.label for button in BUTTONS.values())]
    typed = [word.command.action for word in WORDS if isinstance(word.command, Do)]
    assert set(BUTTONS) == set(TYPED) | answers == set(Action)
    assert len(labels) == len(set(labels))
    assert len(typed) == len(Action) - len(answers)


def test_every_action_is_offered_in_some_state() -> None:
    """A button that no card ever shows was forgotten in `lifecycle.offers`."""
    all_kinds = [
        a_run(state, waiting=waiting, action="e1", doubtful_follow_up=doubtful, candidates=("org/repo",))
        for state in RunState
        for waiting in (None, Waiting.APPROVAL)
        for doubtful in (None, "f1")
    ]
    assert {action for run in all_kinds for action in lifecycle.offers(run)} == set(Action)


def test_help_tells_each_word_that_no_question_names() -> None:
    """By its first spelling, with what it does."""
    told = words.help_text().splitlines()
    for word in WORDS:
        assert (f"• `{word.spellings[0]}` {word.help}" in told) is not word.answers
