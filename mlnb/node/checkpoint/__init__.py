"""Checkpoints: when they are made, what is in them, and how a run goes on from one."""
