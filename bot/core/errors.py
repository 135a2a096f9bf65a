"""Every error the bot raises on purpose, named by what the caller does next.

BotError
├── SettingsWrong            name every problem, exit with code 2
├── StoreError
│   ├── StoreUnavailable     not saved, or not known to be: no ack, or a sentence to the person
│   ├── StoreOvertaken       the row changed since it was read: nothing was saved, read it again
│   ├── StoreUnreadable      a row that this version can't read: close it, and go on with the others
│   ├── StoreInUse           another process has the database: exit with code 2
│   ├── StoreNewer           a newer version of the bot made the tables: exit with code 2
│   └── StoreReplaced        the file was put beside another file's log: exit with code 2
├── SlackError               a Web API call did not succeed
│   ├── SlackRefused         never succeeds for this place or message: close the row, tell a person
│   │   └── SlackNoScope     fails everywhere until the app is installed again with the missing scope
│   ├── SlackLocked          the token is refused: nothing works until an operator acts
│   ├── SlackBusy            not done: retry after `retry_after_s`
│   ├── SlackUnsure          perhaps done: look before repeating
│   └── SlackUnavailable     not done: nothing reached Slack; retry later
└── OpenHandsError           a call to OpenHands did not succeed
    ├── Unauthorised         the key is refused: an operator acts
    ├── NoAccess             the repository cannot be opened with this key
    ├── NotFound             no such conversation, or not yet
    ├── AtCapacity           every slot of the account is busy
    │   └── Stored           the message is at the agent, which does not run: have it go on, never send again
    ├── OverQuota            no more conversations today: retry after `reset_at`
    ├── OutOfBudget          the account's budget is used up: a person acts
    ├── TooFast              too many calls: retry after `retry_after_s`
    ├── Archived             the conversation's sandbox is gone for good
    ├── Asleep               the sandbox does not run: wake it first
    ├── Rejected             never succeeds as it was asked
    ├── NoSuchCall           this version of the server lacks what others of its kind have
    ├── CannotTell           nobody can find out whether it happened: a person decides
    ├── Unsure               perhaps done: look before repeating
    ├── Unreadable           an answer that is not OpenHands' own: HTML, broken JSON, an unknown shape
    │   └── TooLong          more than is read: ask for less of it
    └── Unavailable          not done: nothing reached OpenHands; retry later
        └── Moved            the address leads elsewhere: an operator sets `OPENHANDS_BASE_URL`
            └── LoginPage    a proxy before the server lets nobody through
"""

from collections.abc import Sequence
from datetime import datetime


class BotError(Exception):
    """Base of every error below; catch a narrower one."""


class SettingsWrong(BotError):
    """One or more settings are missing or wrong; `problems` has a line for each, with how to get the value."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class StoreError(BotError):
    """The database can't be used, or a transaction failed."""


class StoreUnavailable(StoreError):
    """A transaction failed, or its commit got no clear answer."""

    def __init__(self, *, perhaps_saved: bool) -> None:
        """perhaps_saved: the commit itself failed, so the rows may be there."""
        super().__init__("the commit got no clear answer" if perhaps_saved else "nothing was saved")
        self.perhaps_saved = perhaps_saved


class StoreOvertaken(StoreError):
    """A compare-and-swap lost: the row changed after it was read, so it was read outside of this transaction."""


class StoreUnreadable(StoreError):
    """A row holds what this version does not know, as after a rollback to an earlier one."""

    def __init__(self, table: str, key: str | int) -> None:
        super().__init__(f"{table} {key}")
        self.table = table
        self.key = key


class StoreInUse(StoreError):
    """Another process works on the same database; the message names it."""


class StoreNewer(StoreError):
    """The tables have a version that this program does not know."""

    def __init__(self, found: str, known: str) -> None:
        """found: the version of the tables. known: the newest one of this program."""
        super().__init__(f"the database was made by a newer version of this bot ({found}; this one knows {known})")


class StoreReplaced(StoreError):
    """The SQLite file is younger than the write-ahead log beside it, which therefore belongs to another file."""

    def __init__(self, file: str) -> None:
        super().__init__(file)
        self.file = file


class SlackError(BotError):
    """A Web API call that did not succeed; `code` is Slack's own word, `cause` what is known beyond it, for logs."""

    def __init__(self, code: str, cause: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.cause = cause or code


class SlackRefused(SlackError):
    """Slack will never do this for this place or this message."""


class SlackNoScope(SlackRefused):
    """The token lacks a scope that this call needs; everything else works."""

    def __init__(self, needed: str) -> None:
        """needed: the scope, as Slack names it; it may name several, of which one is enough."""
        super().__init__("missing_scope")
        self.needed = needed


class SlackLocked(SlackError):
    """Slack refuses the token: no call of this kind works until an operator acts."""


class SlackBusy(SlackError):
    """A rate limit; nothing was done."""

    def __init__(self, code: str, *, retry_after_s: float) -> None:
        super().__init__(code)
        self.retry_after_s = retry_after_s


class SlackUnsure(SlackError):
    """The answer was lost, or reported a fault inside Slack: the call may have had its effect."""


class SlackUnavailable(SlackError):
    """No connection to Slack: nothing was done."""


class OpenHandsError(BotError):
    """A call to OpenHands that did not succeed."""


class Unauthorised(OpenHandsError):
    """The key is wrong, expired or missing."""


class NoAccess(OpenHandsError):
    """The repository does not exist or cannot be opened with this key."""


class NotFound(OpenHandsError):
    """No such conversation: not ready yet, deleted, or another key's."""


class AtCapacity(OpenHandsError):
    """Every slot of the account is busy (429 with the limit named)."""


class Stored(AtCapacity):
    """The agent server keeps the message, but runs no more agents for now."""


class OverQuota(OpenHandsError):
    """The account starts no more conversations today (429 with its numbers); `numbers` may be empty."""

    def __init__(self, reset_at: datetime | None, numbers: str) -> None:
        super().__init__("no more conversations today")
        self.reset_at = reset_at
        self.numbers = numbers


class OutOfBudget(OpenHandsError):
    """The account's budget, as of a month, is used up."""


class TooFast(OpenHandsError):
    """Too many calls in a short time (any other 429)."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"again in {retry_after_s:g} s")
        self.retry_after_s = retry_after_s


class Archived(OpenHandsError):
    """The sandbox is gone for good (410)."""


class Asleep(OpenHandsError):
    """The sandbox does not run (409): wake it first."""


class Rejected(OpenHandsError):
    """OpenHands will never do this as it was asked (400, 422); `words` are the server's, shortened and redacted."""

    def __init__(self, words: str) -> None:
        super().__init__("rejected")
        self.words = words


class NoSuchCall(OpenHandsError):
    """The server answers that it has no such route: its version lacks what others of its kind have."""


class CannotTell(OpenHandsError):
    """This server can't show whether an earlier call had its effect."""


class Unsure(OpenHandsError):
    """The call may have had its effect: 502, a time-out or a lost connection after sending."""


class Unreadable(OpenHandsError):
    """The answer is not OpenHands' own: HTML, broken JSON, an unknown shape, an unexpected status."""


class TooLong(Unreadable):
    """The answer is longer than any that is read; a shorter page of the same may do."""


class Unavailable(OpenHandsError):
    """Nothing was done: no connection, 503, or a server that says it failed before doing anything."""

    def __init__(self, cause: str = "", *, faltered: bool = False) -> None:
        """faltered: the server failed at this one question, or gave no answer in time; others it may answer."""
        super().__init__(cause)
        self.faltered = faltered


class Moved(Unavailable):
    """A redirect, which is not followed: the key is for the address that was set. `to` is where it leads."""

    def __init__(self, to: str) -> None:
        super().__init__(f"redirected to {to}" if to else "redirected")
        self.to = to


class LoginPage(Moved):
    """A page that asks people to log in, as of a proxy before the server: the server itself was not reached."""

    def __init__(self) -> None:
        super().__init__("a login page")
