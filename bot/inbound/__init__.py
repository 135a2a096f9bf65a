"""What comes from Slack and OpenHands, and what it changes."""
