"""Submits runs: makes a run directory and a job from options and a task."""
