"""The benchmarks: they measure real runs, so nothing may get lost. Speed is not judged here."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "benchmarks"
LINES = {
    "ack.py": [
        "acknowledgement, ms, 3 each",
        "---",
        "bare Bolt app, acks only",
        "this bot, committed",
        "append and fsync",
        "this bot / bare",
        "back to back, ms, 3 each",
        "---",
        "bare Bolt app, acks only",
        "this bot, committed",
        "this bot / bare",
        "5 requests a second for 1 s, 5 channels",
        "---",
        "p50 of the acknowledgements",
        "p99 of the acknowledgements",
        "slowest acknowledgement",
        "every run started and told its end after",
        "calls to OpenHands",
        "calls a second",
        "at least, for these calls to OpenHands",
        "at least, with one request for each conversation",
        "at least, for 10 posts, of which Slack takes 300 a minute",
    ],
    "batches.py": ["4 live runs of 2 model calls each, asked about at once", "---", "1", "3"],
    "polling.py": ["live runs, requests a round", "---", "2"],
    "latency.py": [
        "3 live runs, one ends every 0.2 s: until it is seen",
        "---",
        "one request each, news in the thread",
        "one request each, card",
        "this bot, news in the thread",
        "this bot, card",
        "target for news in the thread",
    ],
    "memory.py": [
        "memory of the process",
        "---",
        "bare Bolt app",
        "this bot, no runs",
        "this bot, 20 live runs",
        "target with 20 runs",
        "seconds for one round over all of them",
        "memory of the process, 10 requests a second",
        "---",
        "this bot, after 2 requests",
        "this bot, after 4 requests",
        "grown by",
        "target",
    ],
    "cpu.py": [
        "work of the process for a request",
        "---",
        "bare Bolt app, acks only",
        "this bot, a whole run",
        "target",
        "share of a core, without requests",
        "---",
        "bare Bolt app",
        "this bot, 3 live runs that began just now",
        "this bot, 3 live runs without news for half an hour",
        "target",
    ],
    "cold_start.py": [
        "start to open socket, 1 each",
        "---",
        "bare Bolt app",
        "this bot, the first start",
        "this bot, every later start",
    ],
}


@pytest.mark.parametrize("script", LINES)
def test_nothing_is_lost_in_a_quick_run(script: str, tmp_path: Path) -> None:
    """Every row of the tables is there, everything that must happen did, and no file is left behind."""
    ran = subprocess.run(
        [sys.executable, str(SCRIPTS / script), "--quick"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    said = ran.stdout.splitlines()
    assert (ran.returncode, ran.stderr, [line for line in said if line.startswith("lost")]) == (0, "", []), ran.stdout
    assert [line.split("|")[1].strip() for line in said if line.startswith("|")] == LINES[script]
    assert list(tmp_path.iterdir()) == []
