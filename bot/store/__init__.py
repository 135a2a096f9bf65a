"""What the bot stores: requests, runs, follow-ups, and what is owed to Slack and OpenHands."""
