"""The benchmark itself: what it measures is real, so nothing may be lost in it."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "ack.py"


def test_nothing_is_lost_in_a_quick_run(tmp_path: Path) -> None:
    """Every acknowledgement comes, every run is started once and told its end. How fast is not judged here."""
    ran = subprocess.run(
        [sys.executable, str(SCRIPT), "--quick"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    said = ran.stdout.splitlines()
    assert (ran.returncode, ran.stderr, [line for line in said if line.startswith("lost")]) == (0, "", []), ran.stdout
    assert [line.split("|")[1].strip() for line in said if line.startswith("|")] == [
        "acknowledgement, ms, 10 each",
        "---",
        "bare Bolt app, acks only",
        "this bot, committed",
        "append and fsync",
        "this bot / bare",
        "10 requests a second for 3 s, 10 channels",
        "---",
        "slowest acknowledgement",
        "p99 of the acknowledgements",
        "every run started and told its end after",
        "calls to OpenHands",
        "calls a second",
        "at least, for these calls to OpenHands",
        "at least, with one request for each conversation",
        "at least, for 60 posts, of which Slack takes 300 a minute",
    ]
    assert list(tmp_path.iterdir()) == []
