"""Which repository a request means: what its text names, judged by the repositories there are."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches

from bot.core.commands import branch_of
from bot.core.model import Choice, Origin, Reason, Run, RunState, Start

NEAR = 4
"""At most so many names are offered in place of one that is not there."""
COMPARED = 2_000
"""At most so many are compared with it, since that takes time."""


@dataclass(frozen=True, slots=True)
class Known:
    """The repositories that are known to exist, by their names in lower case."""

    names: Mapping[str, str]
    """Each as it is spelled."""
    whole: bool = False
    """They are all that the account has, so that others are asked about."""

    @classmethod
    def of(cls, names: Iterable[str], *, whole: bool = False) -> "Known":
        spelled: dict[str, str] = {}
        for name in names:
            spelled.setdefault(name.lower(), name)
        return cls(spelled, whole=whole and bool(spelled))

    def also(self, names: Iterable[str]) -> "Known":
        """Return these and others, which are known from elsewhere; where both have a name, as it is spelled here."""
        return Known({name.lower(): name for name in names} | {**self.names}, self.whole)

    def spelled(self, name: str) -> str | None:
        """Return a repository as it is spelled; None if it is not known."""
        return self.names.get(name.lower())

    def near(self, name: str) -> tuple[str, ...]:
        """Return the names that may be meant by one that is not known, the most similar first."""
        name = name.lower()
        owner, last = _parts(name)
        some = {one: _parts(one) for one in list(self.names)[:COMPARED]}
        # Of one owner only what differs is compared: the rest would make all alike, and each comparison slow.
        beside = {its_last: one for one, (its_owner, its_last) in some.items() if its_owner == owner}
        alike = [beside[one] for one in get_close_matches(last, beside, n=NEAR, cutoff=0.75)]
        others = [one for one, (its_owner, _) in some.items() if its_owner != owner]
        alike += get_close_matches(name, others, n=NEAR, cutoff=0.8)
        alike += [one for one in others if some[one][1] == last]
        return tuple(self.names[one] for one in dict.fromkeys(alike) if one != name)[:NEAR]


def _parts(name: str) -> tuple[str, str]:
    owner, _, last = name.rpartition("/")
    return owner, last


def named(command: Start) -> tuple[str, ...]:
    """Return everything that a request may name as its repository."""
    stated = () if command.repository is None else (command.repository,)
    return (*stated, *command.candidates, *command.faint)


def asked_about(command: Start) -> tuple[str, ...]:
    """Return what a request names that would be asked about if it were not known."""
    return command.candidates if command.repository is None else (command.repository,)


def names_one(command: Start, known: Known) -> bool:
    """Return whether a request names a repository, for all that is known."""
    there = any(known.spelled(name) for name in (*command.candidates, *command.faint))
    return command.repository is not None or there or (bool(command.candidates) and not known.whole)


def choose(
    command: Start, known: Known, *, thread: str | None, default: str | None, others: tuple[str, ...] = ()
) -> Choice:
    """Return the repository and where it came from, or what has to be asked.

    thread: the repository of the thread it was asked in. default: where nothing names any. Neither is taken where the
    text may name another place. others: what only guests, outsiders or apps named there, which is asked about.
    """
    if command.repository is not None:
        spelled = known.spelled(command.repository)
        if spelled is None and known.whole:
            return _unlisted(command.repository, known, default)
        return Choice(spelled or command.repository, Origin.LINKED if command.linked else Origin.TYPED)
    spelled_ones = (known.spelled(name) for name in (*command.candidates, *command.faint))
    there = tuple(dict.fromkeys(name for name in spelled_ones if name is not None))
    if len(there) == 1:
        return Choice(there[0], Origin.WORDS, branch=branch_of(command.task, there[0]))
    if there:
        return Choice(candidates=there)
    if len(command.candidates) == 1 and known.whole:
        return _unlisted(command.candidates[0], known, default)
    if command.candidates:
        return Choice(candidates=command.candidates)
    if thread is not None:
        return Choice(thread, Origin.THREAD)
    if others:
        return Choice(candidates=tuple(dict.fromkeys(known.spelled(name) or name for name in others)))
    return Choice() if default is None else Choice(default, Origin.DEFAULT)


def suggest(run: Run, known: Known) -> Run:
    """Return a run whose repository could not be opened with the names that may be meant instead."""
    if run.state is not RunState.NEEDS_REPOSITORY or run.reason is not Reason.REPOSITORY or run.candidates:
        return run
    return replace(run, candidates=known.near(run.repository or ""))


def _unlisted(name: str, known: Known, default: str | None) -> Choice:
    """Ask about a name that the account does not have; it may also be a folder of the default repository."""
    near = known.near(name) or (() if default is None else (default,))
    return Choice(candidates=near, unlisted=name)
