"""The scopes the bot's token needs, and what does not work without each."""

from collections.abc import Collection, Mapping
from types import MappingProxyType

REINSTALL = "paste manifest.yml (`openhands-slack manifest` prints it) under App Manifest at https://api.slack.com/apps, then reinstall the app"
"""What an operator does to add a scope to the token."""

REQUIRED = frozenset({"chat:write", "commands"})
"""Nothing works without these: the bot does not start."""

WITHOUT: Mapping[str, str] = MappingProxyType(
    {
        "app_mentions:read": "mentions may not arrive",
        "channels:history": "replies and mentions in public channels do not arrive, and threads there are not read",
        "channels:read": "requests in public channels are refused, since nobody can see whom a channel is shared with",
        "files:read": "agents get no files that people attach to a message, and whoever attaches one is told",
        "groups:history": "replies and mentions in private channels do not arrive, and threads there are not read",
        "groups:read": "requests in private channels are refused, since nobody can see whom a channel is shared with",
        "im:history": "direct messages do not arrive",
        "im:read": "direct messages are refused",
        "im:write": "nobody is told directly where a channel can't be written to any more",
        "mpim:history": "messages in group direct messages do not arrive",
        "mpim:read": "requests in group direct messages are refused",
        "reactions:write": "requests and replies get no reactions",
        "usergroups:read": "nobody is known by a user group that POLICY_FILE names",
        "users:read": "every request is refused, since members can't be told from guests and outsiders",
    }
)
"""Every other scope, with what does not work without it. The bot starts anyway, and says so."""

SCOPES = REQUIRED | WITHOUT.keys()
"""What `manifest.yml` asks for."""


def lacking(granted: Collection[str]) -> Mapping[str, str]:
    """Return the missing optional scopes, each with what does not work without it."""
    return {scope: what for scope, what in WITHOUT.items() if scope not in granted}
