"""A local OpenHands: the V1 and V0 APIs over HTTP, strict and in memory, with faults on demand."""

from bot.simulator.openhands.server import LocalOpenHands
from bot.simulator.openhands.state import Call, Conversation, StartTask
from bot.simulator.openhands.wire import NoAnswer

__all__ = ["Call", "Conversation", "LocalOpenHands", "NoAnswer", "StartTask"]
