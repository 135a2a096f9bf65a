"""Slack: what it sends, and what it is asked to do."""
