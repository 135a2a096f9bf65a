"""`openhands-slack policy`: what a policy file says, and what it means for somebody."""

from pathlib import Path

from bot.clock import Clock
from bot.core import words
from bot.core.errors import SettingsWrong
from bot.core.model import Why
from bot.core.pacing import Patience
from bot.door import Door
from bot.ops import policy_file
from bot.settings import Settings
from bot.slack.gateway import Gateway, session_of

WITHIN_S = 10.0


def checked(file: Path | None) -> str:
    """Return that a file is right, and what it holds. Raises `SettingsWrong` with a line for each mistake."""
    if file is None:
        raise SettingsWrong(["POLICY_FILE is not set: the bot is open to the whole workspace."])
    rules, fingerprint = policy_file.read(file)
    count = len(rules.rules)
    return f"{file} is right: {count} {'rule' if count == 1 else 'rules'} beside the general part (SHA-256 {fingerprint[:12]}…)."


async def explained(settings: Settings, clock: Clock, asked: Why) -> str:
    """Return whether somebody may do something somewhere. Raises `SettingsWrong` and `SlackError`."""
    rules, _ = policy_file.read(settings.policy_file)
    async with session_of(WITHIN_S) as session:
        token = settings.slack_bot_token.get_secret_value()
        gateway = Gateway(token, settings.slack_api_url, session, clock, Patience())
        us, _ = await gateway.identity()
        return words.explained(asked, await Door(gateway, us, rules).explain(asked))
