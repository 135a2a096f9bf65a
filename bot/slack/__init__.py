"""The Slack adapter: what Slack sends us, and what we ask it to do."""
