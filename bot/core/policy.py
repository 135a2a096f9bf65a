"""Who may do what, where: the first rules, decided on the server, from ids."""

from enum import StrEnum

from bot.core.model import Incoming, Person, Place


class Verdict(StrEnum):
    """What becomes of a request. The person, and nobody else, is told of all but `ALLOWED` and `DROPPED`."""

    ALLOWED = "allowed"
    DROPPED = "dropped"
    """Another bot: answering it would loop."""
    GUEST = "guest"
    OUTSIDE = "outside"
    """The person belongs to another company."""
    SHARED = "shared"
    """The channel is shared with another company: repositories and answers would leave ours."""
    DELETED = "deleted"


def judge(incoming: Incoming, person: Person, place: Place) -> Verdict:
    """Return the verdict on who acts where. Slack marks strangers; where it names no team, it is ours."""
    if person.bot:
        return Verdict.DROPPED
    if person.deleted:
        return Verdict.DELETED
    if person.stranger or {person.team, incoming.actor_team} - {None, incoming.team}:
        return Verdict.OUTSIDE
    if person.guest:
        return Verdict.GUEST
    if incoming.external or place.external:
        return Verdict.SHARED
    return Verdict.ALLOWED
