"""What the bot remembers: requests, runs, follow-ups, and what is owed to Slack and OpenHands."""
