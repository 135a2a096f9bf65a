"""What is owed to Slack and OpenHands, done."""
