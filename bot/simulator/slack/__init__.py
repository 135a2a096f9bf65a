"""A strict local Slack: Web API, Socket Mode and response URLs over HTTP on loopback, with all state in memory.

It follows Slack's documented behaviour and shares no code with the bot, or it would share its mistakes.
"""

from bot.simulator.slack.local import LocalSlack
from bot.simulator.slack.records import Call, Command, Delivery, Ephemeral, Message

__all__ = ["Call", "Command", "Delivery", "Ephemeral", "LocalSlack", "Message"]
