"""The table of what can be owed, held to what it must say for every kind."""

from bot.core.owed import OUTBOX, POST, OutboxKind, Refusal, Service


def test_every_kind_has_its_row() -> None:
    """A kind without one could neither be ranked nor refused."""
    assert OUTBOX.keys() == {*OutboxKind}


def test_only_handlers_give_back_what_openhands_refuses() -> None:
    """And they all do: nothing that OpenHands refuses is dropped without a word."""
    openhands = {kind for kind, spec in OUTBOX.items() if spec.service is Service.OPENHANDS}
    assert {kind for kind, spec in OUTBOX.items() if spec.refusal is Refusal.HANDLER} == openhands


def test_what_can_be_posted_again_is_a_post_on_which_nothing_hangs() -> None:
    """A card opens a thread and lets a run start; an answer may have been said."""
    again = {kind for kind, spec in OUTBOX.items() if spec.repostable}
    assert {OUTBOX[kind].method for kind in again} == {POST}
    assert again == {OutboxKind.MESSAGE, OutboxKind.REPLY, OutboxKind.NOTIFY, OutboxKind.DIRECT}


def test_a_person_must_look_goes_before_a_new_card_and_that_before_the_rest() -> None:
    """Slack's budget is spent in this order."""
    rank = {kind: spec.rank for kind, spec in OUTBOX.items()}
    assert rank[OutboxKind.MESSAGE] < rank[OutboxKind.CARD] < rank[OutboxKind.NOTIFY] < rank[OutboxKind.REACT]
