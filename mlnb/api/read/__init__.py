"""Reads runs: states, metrics and logs, and the messages that update views."""
