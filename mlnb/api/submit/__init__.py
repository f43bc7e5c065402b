"""Submitting: from options and a task to a run directory and one job in a target."""
