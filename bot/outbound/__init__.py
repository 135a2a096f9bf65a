"""Does what the outbox owes to Slack and OpenHands."""
