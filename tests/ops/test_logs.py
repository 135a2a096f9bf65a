"""The log: what looks like a token never reaches standard error, whoever wrote it there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SECRET = "A1b2C3d4E5f6G7h8I9j0"
TALKS = f"""
import logging
import structlog
from bot.ops import logs
from bot import settings

token = "xoxb-" + "{SECRET}"
logs.configure(settings.load(_env_file=None, log_format=FORMAT, slack_bot_token=token, slack_app_token="xapp-1"))
log = structlog.get_logger("test")
log.warning("a.value", value=token, many=[token, {{"inner": token}}], error=ValueError(token), count=3)
try:
    raise ValueError(token)
except ValueError:
    log.exception("a.traceback")
    logging.getLogger("aiohttp").exception("a library says %s", token)
raise RuntimeError(token)
"""
"""Everything that writes to the log, at its most careless."""


@pytest.fixture(params=["console", "json"])
def said(request: pytest.FixtureRequest) -> str:
    """Return what a process wrote in one of the formats."""
    script = TALKS.replace("FORMAT", repr(request.param))
    root = Path(__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stdout == ""
    return ended.stderr


def test_no_token_reaches_standard_error(said: str) -> None:
    """Not from an event's values, not from a traceback of ours or a library's, not from what ends the process."""
    assert SECRET not in said
    assert said.count("ValueError: [redacted]") == 2
    assert "a library says [redacted]" in said
    assert said.splitlines()[-1] == "RuntimeError: [redacted]"


def test_an_event_keeps_its_shape() -> None:
    """Only strings are changed, however deep they are; other objects are written as Python shows them."""
    from bot.ops import logs

    event = {"event": "a.value", "many": ["xoxb-" + SECRET, {"inner": 1.5}], "error": ValueError("x"), "no": None}
    assert json.loads(json.dumps(logs.redacted(None, "warning", event))) == {
        "event": "a.value",
        "many": ["[redacted]", {"inner": 1.5}],
        "error": "ValueError('x')",
        "no": None,
    }
