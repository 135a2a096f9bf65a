"""Handles what comes from Slack and OpenHands: requests and observations."""
